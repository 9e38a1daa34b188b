//! What Makegood says is what the schemas say: every field of every message, both ways.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use makegood::broker::memory::MemoryBroker;
use makegood::broker::{
    Broker, BrokerError, Channel, Consumer, Event, Outgoing, PublishError, Topology,
};
use makegood::catalog::load;
use makegood::clock::{Clock, SimulatedClock};
use makegood::fixture::{
    Options, ScriptedOrder, Scripts, Shop, Simulation, Timeline, Unheard, generate,
};
use makegood::saga::{
    Announcement, AttentionCode, Effect, Input, Millis, OrderState, Saga, SagaId, Time, WhyRefused,
    decide,
};
use makegood::store::sqlite::{Durability, SqliteStore};
use makegood::store::{DefinitionRow, OrderRow, Store};
use makegood::telemetry::Telemetry;
use makegood::worker::message::{Setting, postings};
use makegood::worker::{self, Worker, shutdown};
use serde_json::Value;
use tokio::sync::watch;

use crate::schemas::{assert_valid, published, schema, strict};

/// So many made-up orders have every mishap among them.
const ORDERS: u64 = 800;
const SEED: u64 = 4;
/// Longer than any order takes, its deadlines included.
const LONG: Millis = Millis(120 * Millis::DAY.0);
/// The messages that only Makegood sends, by schema.
const OWN: [&str; 6] = [
    "command",
    "probe",
    "order-reached",
    "order-cancel-refused",
    "saga-attention",
    "saga-abandoned",
];

/// The schema of a message's data.
fn schema_of(channel: &Channel, event: &Event) -> &'static str {
    match (channel, event.name()) {
        (Channel::Orders, name) if name.ends_with(".cancel-requested") => "order-cancel-requested",
        (Channel::Orders, _) => "order-created",
        (Channel::Facts, _) => "fact",
        (Channel::Commands(_), name) if name.ends_with(".status") => "probe",
        (Channel::Commands(_), _) => "command",
        (Channel::Replies, name) if name.ends_with(".status.replied") => "probe-reply",
        (Channel::Replies, _) => "reply",
        (Channel::Events, name) if name.ends_with(".cancel-refused") => "order-cancel-refused",
        (Channel::Events, name) if name.starts_with("saga.attention-") => "saga-attention",
        (Channel::Events, "saga.abandoned") => "saga-abandoned",
        (Channel::Events, _) => "order-reached",
        (channel, name) => panic!("nothing is sent to {channel}: {name}"),
    }
}

/// Passes everything on, and keeps what was said.
struct Overheard {
    broker: Arc<MemoryBroker>,
    said: Mutex<Vec<Outgoing>>,
}

#[async_trait]
impl Broker for Overheard {
    async fn declare(&self, topology: &Topology) -> Result<(), BrokerError> {
        self.broker.declare(topology).await
    }
    async fn consume(
        &self,
        channel: &Channel,
        prefetch: u16,
    ) -> Result<Box<dyn Consumer>, BrokerError> {
        self.broker.consume(channel, prefetch).await
    }
    async fn publish(&self, messages: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        self.said.lock().unwrap().extend_from_slice(messages);
        self.broker.publish(messages).await
    }
    async fn close(&self) {
        self.broker.close().await;
    }
}

fn overheard(broker: &Arc<MemoryBroker>) -> Arc<Overheard> {
    Arc::new(Overheard { broker: broker.clone(), said: Mutex::default() })
}

/// The shipped definition, with a participant that can be asked.
fn definition() -> String {
    let shipped = include_str!("../../sagas/order-fulfilment.toml");
    let asking = shipped.replace("give_up = \"8h\"", "give_up = \"8h\"\nprobe = true");
    assert_ne!(asking, shipped, "the pick has another give-up time now");
    asking
}

/// Plays made-up orders to their end; returns what the worker said, and what all others did.
async fn play() -> (Vec<Outgoing>, Vec<Outgoing>) {
    let folder = tempfile::tempdir().unwrap();
    let orders: Vec<ScriptedOrder> = generate(ORDERS, SEED).collect();
    let first = orders.iter().map(|order| order.paid_at).min().expect("orders");
    let last = orders.iter().map(|order| order.paid_at).max().expect("orders");
    let simulated = SimulatedClock::starting_at(first);
    let held = simulated.busy();
    let clock: Arc<dyn Clock> = Arc::new(simulated.clone());
    let file = folder.path().join("makegood.db");
    let store = SqliteStore::open(&file, clock.clone(), Durability::ProcessCrash).await.unwrap();
    store.migrate().await.unwrap();
    let loaded = load("asking.toml", &definition()).unwrap();
    let row = DefinitionRow {
        name: loaded.definition.name().to_owned(),
        version: loaded.definition.version(),
        content: loaded.text,
        published_at: first,
    };
    store.publish_definition(&row).await.unwrap();
    let broker = Arc::new(MemoryBroker::new(clock.clone()));
    let (ours, theirs) = (overheard(&broker), overheard(&broker));
    let catalog = makegood::operate::definitions(&store).await.unwrap();
    let topology = worker::topology(&catalog);
    broker.declare(&topology).await.unwrap();
    let (stop, stopping) = watch::channel(false);
    let (stopper, stopped) = shutdown();
    let outside = Simulation {
        broker: theirs.clone(),
        clock: clock.clone(),
        ledgers: folder.path().join("ledgers"),
        participants: topology.participants,
        scripts: Arc::new(orders.iter().collect::<Scripts>()),
        unheard: Arc::new(Unheard::new()),
        options: Options { grain: Millis::SECOND, ..Options::default() },
    };
    let shop = Shop {
        broker: theirs.clone(),
        clock: clock.clone(),
        ledgers: folder.path().join("ledgers"),
        orders,
        unheard: Arc::new(Unheard::new()),
        timeline: Timeline::default(),
        fsync: false,
    };
    let outside = tokio::spawn(outside.open().unwrap().run(stopping.clone()));
    let shop = tokio::spawn(shop.open().unwrap().run(stopping));
    let worker = Worker {
        store: Arc::new(store),
        broker: ours.clone(),
        clock,
        telemetry: Arc::new(Telemetry::new()),
        options: worker::Options {
            lanes: 1,
            relays: 1,
            timer_poll: Millis::DAY,
            ..worker::Options::default()
        },
        system_clock: None,
    };
    let worker = tokio::spawn(worker.run(stopped, held));
    simulated.run_until(last + LONG, |_| {}).await;
    stopper.drain();
    stop.send(true).unwrap();
    worker.await.unwrap().unwrap();
    shop.await.unwrap().unwrap();
    outside.await.unwrap().unwrap();
    let said = |by: &Overheard| std::mem::take(&mut *by.said.lock().unwrap());
    (said(&ours), said(&theirs))
}

/// Every announcement there is, also those that no made-up order leads to.
fn announcements() -> Vec<Outgoing> {
    let loaded = load("order-fulfilment.toml", &definition()).unwrap();
    let id = SagaId::of("acme", "o-1", loaded.definition.name());
    let order = OrderRow {
        saga: id,
        tenant: "acme".to_owned(),
        order_id: "o-1".to_owned(),
        definition: loaded.definition.name().to_owned(),
        definition_version: loaded.definition.version(),
        received_at: Time(0),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        payload: b"{}".to_vec(),
    };
    let created = Saga::created(&loaded.definition, id);
    let saga = decide(&loaded.definition, &created, &Input::Start, Time(0)).saga;
    let setting = Setting {
        source: "/makegood/eu-1",
        definition: &loaded.definition,
        order: &order,
        saga: &saga,
        version: 1,
        now: Time(0),
        claimed_until: Time(0),
        cause: None,
    };
    let mut all = vec![
        Announcement::CancelRefused { why: WhyRefused::PastPivot },
        Announcement::CancelRefused { why: WhyRefused::TooLate },
        Announcement::Abandoned,
    ];
    let reached = [
        OrderState::Confirmed,
        OrderState::Fulfilling,
        OrderState::Completed,
        OrderState::Cancelled,
    ];
    all.extend(reached.map(Announcement::Reached));
    for code in AttentionCode::ALL {
        for step in [None, Some(1)] {
            all.push(Announcement::AttentionRaised { step, code });
            all.push(Announcement::AttentionCleared { step, code });
        }
    }
    let effects: Vec<Effect> = all.into_iter().map(Effect::Announce).collect();
    postings(&setting, &effects).into_iter().map(|posting| posting.message).collect()
}

/// What was seen of the messages of one schema.
#[derive(Default)]
struct Seen {
    count: usize,
    fields: BTreeSet<String>,
}

pub async fn every_message_is_as_its_schema_says() {
    let (ours, theirs) = play().await;
    let said = [ours, announcements()].concat();
    let envelope = strict("cloudevent");
    let mut validators = BTreeMap::new();
    let mut seen: BTreeMap<&str, Seen> = BTreeMap::new();
    for Outgoing { channel, event } in &said {
        let whole = serde_json::from_slice(&event.to_json()).expect("JSON");
        let name = schema_of(channel, event);
        let what = format!("{} ({name})", event.kind);
        assert_valid(&envelope, &whole, &what);
        let data = &whole["data"];
        assert_valid(validators.entry(name).or_insert_with(|| strict(name)), data, &what);
        note(seen.entry("cloudevent").or_default(), &whole);
        note(seen.entry(name).or_default(), data);
    }
    // What is documented and never sent is as wrong as the other way round.
    for name in OWN.into_iter().chain(["cloudevent"]) {
        let seen = seen.get(name).unwrap_or_else(|| panic!("no {name} was sent"));
        assert_eq!(seen.fields, documented(name), "{name}, seen {} times", seen.count);
    }
    let incoming = published("envelope");
    let mut heard = BTreeSet::new();
    for Outgoing { channel, event } in &theirs {
        let whole: Value = serde_json::from_slice(&event.to_json()).expect("JSON");
        let name = schema_of(channel, event);
        assert_valid(&incoming, &whole, &event.kind);
        let validator = validators.entry(name).or_insert_with(|| published(name));
        assert_valid(validator, &whole["data"], &event.kind);
        heard.insert(name);
    }
    let all = ["fact", "order-cancel-requested", "order-created", "probe-reply", "reply"];
    assert_eq!(heard, BTreeSet::from(all));
}

fn note(seen: &mut Seen, object: &Value) {
    seen.count += 1;
    seen.fields.extend(object.as_object().expect("an object").keys().cloned());
}

fn documented(name: &str) -> BTreeSet<String> {
    schema(name)["properties"].as_object().expect("properties").keys().cloned().collect()
}

/// Lists of values that code branches on are the code's.
pub fn every_code_is_documented() {
    let texts = |list: &Value| -> BTreeSet<String> {
        let list = list.as_array().expect("a list").iter();
        list.map(|text| text.as_str().expect("text").to_owned()).collect()
    };
    let codes = AttentionCode::ALL.map(|code| code.as_str().to_owned());
    let documented = &schema("saga-attention")["properties"]["code"]["examples"];
    assert_eq!(texts(documented), BTreeSet::from(codes));
    let states = OrderState::ALL.map(|state| state.as_str().to_owned());
    assert_eq!(texts(&schema("values")["$defs"]["orderState"]["enum"]), BTreeSet::from(states));
}
