//! All names that Makegood uses on RabbitMQ: exchanges, queues, bindings, routing keys. Plain
//! data, in one place, so that whoever declares, publishes or consumes means the same thing.
//!
//! Commands reach exactly the queue of their participant because the first word of the routing
//! key *is* the participant: a queue is bound to `<participant>.#` and to nothing else. The key
//! is the event type where that begins with the participant (`inventory.reserve.v1`), and has
//! the participant put before it where it does not (`ledger.loan.reverse.v1`). A definition that
//! adds a command or a probe needs no new binding, and an old binding can misdirect nothing,
//! which would not be so had each queue a binding for each command.

use super::{Channel, Event, Topology};

/// Deliveries of one message before the broker gives up and hands it to the dead-letter queue.
/// Twenty crashes in a row on one message are no accident, and RabbitMQ 4 has the same default.
pub const DELIVERY_LIMIT: u32 = 20;
/// The dead-letter queue keeps its messages for ever: beyond its limit they would be lost. This
/// is the largest number that all versions of RabbitMQ take.
const NEVER: u32 = i32::MAX as u32;

/// How an exchange picks queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routing {
    Topic,
    Direct,
    Fanout,
}

/// What must exist on the broker; everything is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub exchanges: Vec<(String, Routing)>,
    pub queues: Vec<QueueLayout>,
    pub bindings: Vec<Binding>,
}

/// A quorum queue. It refuses what it cannot hold (`reject-publish`): dead-lettering at least
/// once needs that, and a publisher that is refused knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueLayout {
    pub name: String,
    pub delivery_limit: u32,
    /// Takes what was delivered too often. The dead-letter queue itself has none.
    pub dead_letter_exchange: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    pub exchange: String,
    pub key: String,
    pub queue: String,
}

/// Where a message is published to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub exchange: String,
    pub key: String,
}

/// The names of one deployment on a broker that it may share with others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Put before every name; empty in production, where a virtual host separates deployments.
    pub prefix: String,
}

impl Names {
    fn named(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn inbound(&self) -> String {
        self.named("makegood.inbound")
    }

    fn commands(&self) -> String {
        self.named("makegood.commands")
    }

    /// The exchange of the replies, and their queue, and the key between them: participants
    /// find it in `reply-to`.
    #[must_use]
    pub fn replies(&self) -> String {
        self.named("makegood.replies")
    }

    /// The exchange of events; each subscriber binds a queue of its own.
    #[must_use]
    pub fn events(&self) -> String {
        self.named("makegood.events")
    }

    fn dead_letters(&self) -> String {
        self.named("makegood.dlx")
    }

    /// The queue that is consumed for a channel. Events have none: each subscriber has its own.
    #[must_use]
    pub fn queue(&self, channel: &Channel) -> Option<String> {
        Some(match channel {
            Channel::Orders => self.named("makegood.orders"),
            Channel::Facts => self.named("makegood.facts"),
            Channel::Replies => self.replies(),
            // Its name is the address: an answer by way of the default exchange finds it, too.
            Channel::ReplyTo(address) => address.clone(),
            Channel::Commands(participant) => self.named(&format!("{participant}.commands")),
            Channel::Dead => self.named("makegood.dead"),
            Channel::Events => return None,
        })
    }

    /// Where an event goes that is published to a channel.
    #[must_use]
    pub fn route(&self, channel: &Channel, event: &Event) -> Route {
        let kind = event.kind.as_str();
        let (exchange, key) = match channel {
            Channel::Orders | Channel::Facts => (self.inbound(), kind.to_owned()),
            Channel::Commands(participant) => (self.commands(), command_key(participant, kind)),
            Channel::Replies => (self.replies(), self.replies()),
            Channel::ReplyTo(address) => (self.replies(), address.clone()),
            Channel::Events => (self.events(), kind.to_owned()),
            Channel::Dead => (self.dead_letters(), kind.to_owned()),
        };
        Route { exchange, key }
    }

    /// Everything that must exist for these definitions.
    #[must_use]
    pub fn layout(&self, topology: &Topology) -> Layout {
        let exchanges = vec![
            (self.inbound(), Routing::Topic),
            (self.commands(), Routing::Topic),
            (self.replies(), Routing::Direct),
            (self.events(), Routing::Topic),
            // A dead letter keeps the routing key it had, whatever that is.
            (self.dead_letters(), Routing::Fanout),
        ];
        let mut layout = Layout { exchanges, queues: Vec::new(), bindings: Vec::new() };
        let orders = ["order.created", "order.cancel-requested"].map(str::to_owned);
        let facts = ["shipment.*", "wms.*"].map(str::to_owned);
        self.add(&mut layout, &Channel::Orders, self.inbound(), keys(&orders, &topology.orders));
        self.add(&mut layout, &Channel::Facts, self.inbound(), keys(&facts, &topology.facts));
        self.add(&mut layout, &Channel::Replies, self.replies(), vec![self.replies()]);
        for participant in &topology.participants {
            let channel = Channel::Commands(participant.clone());
            self.add(&mut layout, &channel, self.commands(), vec![format!("{participant}.#")]);
        }
        self.add(&mut layout, &Channel::Dead, self.dead_letters(), vec![String::new()]);
        layout
    }

    fn add(&self, layout: &mut Layout, channel: &Channel, exchange: String, keys: Vec<String>) {
        let name = self.queue(channel).expect("only events have no queue, and are not added");
        let (delivery_limit, dead_letter_exchange) = match channel {
            Channel::Dead => (NEVER, None),
            _ => (DELIVERY_LIMIT, Some(self.dead_letters())),
        };
        let binding = |key| Binding { exchange: exchange.clone(), key, queue: name.clone() };
        layout.bindings.extend(keys.into_iter().map(binding));
        layout.queues.push(QueueLayout { name, delivery_limit, dead_letter_exchange });
    }
}

fn command_key(participant: &str, kind: &str) -> String {
    match kind.split_once('.') {
        Some((entity, _)) if entity == participant => kind.to_owned(),
        _ => format!("{participant}.{kind}"),
    }
}

/// Routing keys for names without a major version: what always comes in, and what the
/// definitions need besides.
fn keys(always: &[String], needed: &[String]) -> Vec<String> {
    let mut keys: Vec<String> =
        always.iter().chain(needed).map(|name| format!("{name}.v1")).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        let topology = Topology {
            participants: vec!["inventory".to_owned(), "ledger".to_owned()],
            orders: vec!["order.created".to_owned()],
            facts: vec!["shipment.delivered".to_owned(), "customs.cleared".to_owned()],
        };
        Names::default().layout(&topology)
    }

    fn event(kind: &str) -> Event {
        Event::new("e1", "/test", kind, &serde_json::json!({}))
    }

    /// The queues that RabbitMQ would pick.
    fn queues(channel: &Channel, kind: &str) -> Vec<String> {
        let (layout, route) = (layout(), Names::default().route(channel, &event(kind)));
        let (_, routing) =
            layout.exchanges.iter().find(|(name, _)| *name == route.exchange).unwrap();
        let takes = |binding: &&Binding| {
            binding.exchange == route.exchange
                && match routing {
                    Routing::Topic => matches(&binding.key, &route.key),
                    Routing::Direct => binding.key == route.key,
                    Routing::Fanout => true,
                }
        };
        let mut found: Vec<String> =
            layout.bindings.iter().filter(takes).map(|binding| binding.queue.clone()).collect();
        found.dedup();
        found
    }

    fn matches(pattern: &str, key: &str) -> bool {
        let (mut words, mut pattern) = (key.split('.'), pattern.split('.').peekable());
        while let Some(expected) = pattern.next() {
            match (expected, words.next()) {
                ("#", _) => {
                    assert!(pattern.peek().is_none(), "'#' is only used at the end");
                    return true;
                }
                ("*", Some(_)) => {}
                (expected, Some(word)) if expected == word => {}
                _ => return false,
            }
        }
        words.next().is_none()
    }

    #[test]
    fn each_channel_leads_to_its_queue_and_no_other() {
        for (channel, kind, queue) in [
            (Channel::Orders, "order.created.v1", "makegood.orders"),
            (Channel::Orders, "order.cancel-requested.v1", "makegood.orders"),
            (Channel::Facts, "shipment.in-transit.v1", "makegood.facts"),
            (Channel::Facts, "shipment.delivered.v1", "makegood.facts"),
            (Channel::Facts, "wms.short.v1", "makegood.facts"),
            (Channel::Facts, "customs.cleared.v1", "makegood.facts"),
            (Channel::Replies, "inventory.reply.v1", "makegood.replies"),
            (Channel::ReplyTo("makegood.replies".into()), "wms.replied.v1", "makegood.replies"),
            (Channel::Dead, "any.thing.v1", "makegood.dead"),
        ] {
            assert_eq!(queues(&channel, kind), [queue], "{kind}");
        }
    }

    #[test]
    fn a_command_reaches_its_participant_whatever_it_is_called() {
        let to = |participant: &str, kind| queues(&Channel::Commands(participant.into()), kind);
        assert_eq!(to("inventory", "inventory.reserve.v1"), ["inventory.commands"]);
        assert_eq!(to("inventory", "inventory.reserve.status.v1"), ["inventory.commands"]);
        assert_eq!(to("ledger", "loan.reverse.v1"), ["ledger.commands"]);
        assert_eq!(to("ledger", "inventory.reserve.v1"), ["ledger.commands"]);
        assert_eq!(to("inventory", "ledger.close.v1"), ["inventory.commands"]);
        assert!(to("tms", "tms.dispatch.v1").is_empty(), "nobody declared it");
    }

    #[test]
    fn unknown_kinds_and_events_without_subscriber_reach_nobody() {
        assert!(queues(&Channel::Orders, "order.painted.v1").is_empty());
        assert!(queues(&Channel::Events, "order.completed.v1").is_empty());
    }

    #[test]
    fn every_queue_but_the_last_resort_has_a_dead_letter_exchange() {
        for queue in layout().queues {
            let is_dead = queue.name == "makegood.dead";
            assert_eq!(queue.dead_letter_exchange.is_none(), is_dead, "{}", queue.name);
            assert_eq!(queue.delivery_limit == DELIVERY_LIMIT, !is_dead, "{}", queue.name);
        }
    }

    #[test]
    fn a_prefix_keeps_deployments_apart() {
        let names = Names { prefix: "t1.".to_owned() };
        let layout = names.layout(&Topology::default());
        assert!(layout.exchanges.iter().all(|(name, _)| name.starts_with("t1.makegood.")));
        assert!(layout.queues.iter().all(|queue| queue.name.starts_with("t1.makegood.")));
    }
}
