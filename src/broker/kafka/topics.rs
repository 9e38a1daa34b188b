//! All names that Makegood uses on Kafka, and what it wants of its topics. Plain data, in one
//! place, so that whoever creates, publishes or consumes means the same thing.
//!
//! What comes in may lie for a while: topics forget by age, and an order that was paid while
//! Makegood was down must not be forgotten. So two weeks are kept, and dead letters for ever.

use crate::broker::{Channel, Topology};

/// How long a topic keeps a message: the longest outage that loses no paid order.
pub const DEFAULT_RETENTION_DAYS: u32 = 14;
/// Most workers or participants that can share a channel. Kafka never takes partitions away.
pub const DEFAULT_PARTITIONS: u16 = 12;
/// The largest message that a topic takes, in bytes. What is larger than the worker's own bound
/// must still arrive, to be a dead letter with a reason; its bound goes up to 16 MiB.
pub const MAX_MESSAGE_BYTES: usize = 17 * 1024 * 1024;
/// What a dead letter may have more than the message it was, in bytes: headers that say why.
const DEAD_LETTER_BYTES: usize = 64 * 1024;

/// The names of one deployment on a cluster that it may share with others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Put before the names of all topics and groups; empty, or it ends with a dot.
    pub prefix: String,
}

/// How a topic is made; one that exists must be like this where it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicLayout {
    pub name: String,
    pub partitions: u16,
    /// Copies of each message. `None`: as many as the cluster makes by default.
    pub replication: Option<u16>,
    /// `None`: for ever.
    pub retention_days: Option<u32>,
    pub max_message_bytes: usize,
}

/// What is the same for all topics of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub partitions: u16,
    pub replication: Option<u16>,
    pub retention_days: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            partitions: DEFAULT_PARTITIONS,
            replication: None,
            retention_days: DEFAULT_RETENTION_DAYS,
        }
    }
}

impl Names {
    fn named(&self, name: &str) -> String {
        format!("{}makegood.{name}", self.prefix)
    }

    /// The topic of a channel. The dead letters are in many: see [`Names::dead_letters`].
    #[must_use]
    pub fn topic(&self, channel: &Channel) -> Option<String> {
        Some(match channel {
            Channel::Orders => self.named("orders.v1"),
            Channel::Facts => self.named("facts.v1"),
            // Who asks aside reads among the answers to all.
            Channel::Replies | Channel::ReplyTo(_) => self.named("replies.v1"),
            Channel::Commands(participant) => self.named(&format!("{participant}.commands.v1")),
            Channel::Events => self.named("events.v1"),
            Channel::Dead => return None,
        })
    }

    /// Whether receivers of a channel share it as a group, whose offsets are kept. Each subscriber
    /// of events is by itself, as is who asks aside.
    #[must_use]
    pub fn has_group(channel: &Channel) -> bool {
        !matches!(channel, Channel::Events | Channel::ReplyTo(_))
    }

    /// Where a topic's messages go that were delivered too often.
    #[must_use]
    pub fn dead(&self, topic: &str) -> String {
        format!("{topic}.dead")
    }

    /// All topics with dead letters, as a pattern for a subscription: also those of participants
    /// that another worker knows.
    #[must_use]
    pub fn dead_letters(&self) -> String {
        format!("^{}.*\\.dead$", self.named("").replace('.', "\\."))
    }

    /// The group whose members share a channel. Groups and topics may have the same name.
    #[must_use]
    pub fn group(&self, channel: &Channel) -> String {
        self.topic(channel).unwrap_or_else(|| self.named("dead"))
    }

    /// Everything that must exist for these definitions. Nobody here consumes events in a group,
    /// so no event is ever delivered too often.
    #[must_use]
    pub fn layout(&self, topology: &Topology, settings: &Settings) -> Vec<TopicLayout> {
        let commands = topology.participants.iter().cloned().map(Channel::Commands);
        let shared = [Channel::Orders, Channel::Facts, Channel::Replies].into_iter();
        let mut topics = Vec::new();
        for channel in shared.chain(commands).chain([Channel::Events]) {
            let name = self.topic(&channel).expect("only the dead letters have many topics");
            let topic = TopicLayout {
                partitions: settings.partitions,
                replication: settings.replication,
                retention_days: Some(settings.retention_days),
                max_message_bytes: MAX_MESSAGE_BYTES,
                name,
            };
            if channel != Channel::Events {
                topics.push(TopicLayout {
                    name: self.dead(&topic.name),
                    partitions: 1,
                    retention_days: None,
                    max_message_bytes: MAX_MESSAGE_BYTES + DEAD_LETTER_BYTES,
                    ..topic
                });
            }
            topics.push(topic);
        }
        topics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names { prefix: "eu.".to_owned() }
    }

    #[test]
    fn names_are_those_of_the_contract() {
        let plain = Names::default();
        let topic = |channel| plain.topic(&channel).unwrap();
        assert_eq!(topic(Channel::Orders), "makegood.orders.v1");
        assert_eq!(topic(Channel::Commands("wms".to_owned())), "makegood.wms.commands.v1");
        assert_eq!(plain.dead(&topic(Channel::Facts)), "makegood.facts.v1.dead");
        assert_eq!(plain.group(&Channel::Dead), "makegood.dead");
        assert_eq!(names().topic(&Channel::Events).unwrap(), "eu.makegood.events.v1");
        assert_eq!(names().dead_letters(), "^eu\\.makegood\\..*\\.dead$");
    }

    #[test]
    fn orders_are_kept_for_two_weeks_and_dead_letters_for_ever() {
        let topology = Topology { participants: vec!["wms".to_owned()], ..Topology::default() };
        let layout = names().layout(&topology, &Settings::default());
        assert_eq!(layout.len(), 9, "five topics, and the dead letters of four");
        for topic in &layout {
            let is_dead = topic.name.ends_with(".dead");
            assert_eq!(topic.retention_days, (!is_dead).then_some(14), "{}", topic.name);
            assert!(topic.name.starts_with("eu.makegood."), "{}", topic.name);
        }
        // What fits into a topic fits among its dead letters.
        let largest = |dead| {
            let topics = layout.iter().filter(|topic| topic.name.ends_with(".dead") == dead);
            topics.map(|topic| topic.max_message_bytes).max()
        };
        assert!(largest(true) > largest(false));
    }
}
