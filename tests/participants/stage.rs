//! One run of the simulation over the memory broker and a simulated clock, and the messages
//! that go in and come out.

use std::path::Path;
use std::sync::{Arc, Mutex};

use makegood::broker::memory::MemoryBroker;
use makegood::broker::{Broker, Channel, Event, Outgoing, Topology};
use makegood::clock::{Clock, SimulatedClock};
use makegood::fixture::ledger::{self, CommandEntry, Entry};
use makegood::fixture::orders::read;
use makegood::fixture::{Options, ScriptedOrder, Scripts, Shop, Simulation};
use makegood::saga::{Millis, Time};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

pub const START: Time = Time(1_532_872_491_000); // 2018-07-29T13:54:51Z

/// A message of the simulation, and the simulated time at which it came.
#[derive(Debug, Clone)]
pub struct Said {
    pub after: Millis,
    pub kind: String,
    pub id: String,
    pub source: String,
    pub data: Value,
}

impl Said {
    pub fn outcome(&self) -> &str {
        self.data["outcome"].as_str().unwrap()
    }
}

/// One run of the simulation, from messages that come at given times to everything it said.
pub struct Run<'a> {
    pub ledgers: &'a Path,
    pub orders: Vec<ScriptedOrder>,
    /// Emitted by the shop, besides what is published by hand.
    pub shop: bool,
    pub starts_at: Time,
    pub options: Options,
}

impl Run<'_> {
    pub fn new(ledgers: &Path, script: Value, facts: Value) -> Run<'_> {
        let options = Options::default();
        let orders = vec![order("o-1", script, facts)];
        Run { ledgers, orders, shop: false, starts_at: START, options }
    }

    pub fn play(self, messages: Vec<(Millis, Outgoing)>) -> Vec<Said> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build();
        runtime.unwrap().block_on(self.run(messages))
    }

    async fn run(self, messages: Vec<(Millis, Outgoing)>) -> Vec<Said> {
        let clock = SimulatedClock::starting_at(self.starts_at);
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let broker: Arc<dyn Broker> = Arc::new(MemoryBroker::new(shared.clone()));
        let participants = ["inventory", "wms", "tms", "loan"].map(str::to_owned).to_vec();
        let topology = Topology { participants: participants.clone(), ..Topology::default() };
        broker.declare(&topology).await.unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        for channel in [Channel::Replies, Channel::Facts, Channel::Orders] {
            collect(&broker, &shared, channel, &said).await;
        }
        let (tell, stop) = watch::channel(false);
        let simulation = Simulation {
            broker: broker.clone(),
            clock: shared.clone(),
            ledgers: self.ledgers.to_owned(),
            participants,
            scripts: Arc::new(self.orders.iter().collect::<Scripts>()),
            unheard: Arc::default(),
            options: self.options.clone(),
        };
        let simulation = simulation.open().unwrap();
        let mut pending = simulation.pending();
        let playing = tokio::spawn(simulation.run(stop.clone()));
        let shop = self.shop.then(|| {
            let (broker, clock, orders) = (broker.clone(), shared.clone(), self.orders.clone());
            let (ledgers, timeline) = (self.ledgers.to_owned(), self.options.timeline);
            let unheard = Arc::default();
            let shop = Shop { broker, clock, ledgers, orders, unheard, timeline, fsync: false };
            tokio::spawn(shop.open().unwrap().run(stop))
        });
        let sender = send(&broker, &shared, self.starts_at, messages);
        clock.run(|_| ()).await;
        sender.await.unwrap();
        pending.none().await;
        if let Some(shop) = shop {
            shop.await.unwrap().unwrap();
        }
        tell.send(true).unwrap();
        playing.await.unwrap().unwrap();
        said.lock().unwrap().clone()
    }
}

/// Publishes each message at its time after the start.
fn send(
    broker: &Arc<dyn Broker>,
    clock: &Arc<dyn Clock>,
    start: Time,
    messages: Vec<(Millis, Outgoing)>,
) -> JoinHandle<()> {
    let (broker, clock) = (broker.clone(), clock.clone());
    let mut held = clock.busy();
    tokio::spawn(async move {
        for (after, message) in messages {
            held = clock.sleep_until(start + after, held).await;
            for answer in broker.publish(&[message]).await {
                answer.unwrap();
            }
        }
    })
}

async fn collect(
    broker: &Arc<dyn Broker>,
    clock: &Arc<dyn Clock>,
    channel: Channel,
    said: &Arc<Mutex<Vec<Said>>>,
) {
    let mut consumer = broker.consume(&channel, 100).await.unwrap();
    let (clock, said) = (clock.clone(), said.clone());
    tokio::spawn(async move {
        while let Ok(batch) = consumer.receive(100).await {
            for incoming in batch {
                let event: Event = serde_json::from_slice(&incoming.body).unwrap();
                said.lock().unwrap().push(Said {
                    after: clock.now() - START,
                    data: serde_json::from_str(event.data.unwrap().get()).unwrap(),
                    kind: event.kind,
                    id: event.id,
                    source: event.source,
                });
                incoming.ticket.done();
            }
        }
    });
}

pub fn order(order_id: &str, script: Value, facts: Value) -> ScriptedOrder {
    let line = json!({
        "order": {
            "order_id": order_id, "tenant_id": "acme", "placed_at": "2018-07-29T13:54:51Z",
            "currency": "EUR", "loan": { "loan_id": "L-1", "amount_minor": 7_200 },
            "lines": [{ "line_id": "1", "sku": "A-1", "quantity": 1 }],
        },
        "script": script,
        "facts": facts,
    });
    read(line.to_string().as_bytes(), "test").next().unwrap().unwrap()
}

/// A command of order `o-1`; `id` and `undoes` are made up, as the worker's are derived.
pub fn command(name: &str, step: &str, id: u128, undoes: Option<u128>) -> Outgoing {
    of_order("o-1", name, step, id, undoes)
}

pub fn of_order(
    order_id: &str,
    name: &str,
    step: &str,
    id: u128,
    undoes: Option<u128>,
) -> Outgoing {
    let is_undo = undoes.is_some() || name == "loan.reverse";
    let data = json!({
        "command_id": Uuid::from_u128(id),
        "saga_id": Uuid::from_u128(1),
        "order_id": order_id,
        "tenant_id": "acme",
        "step": step,
        "generation": 1,
        "direction": if is_undo { "compensate" } else { "forward" },
        "attempt": 1,
        "compensates": undoes.map(Uuid::from_u128),
        "order": {
            "lines": [{ "sku": "A", "quantity": 2 }, { "sku": "B", "quantity": 1 }],
            "loan": { "loan_id": "L-1", "amount_minor": 4990 },
        },
        "results": {},
    });
    message(name, id, data)
}

pub fn probe(name: &str, step: &str, asked: u128) -> Outgoing {
    let data = json!({
        "command_id": Uuid::from_u128(asked),
        "saga_id": Uuid::from_u128(1),
        "order_id": "o-1",
        "tenant_id": "acme",
        "step": step,
    });
    message(&format!("{name}.status"), 99, data)
}

pub fn message(name: &str, id: u128, data: Value) -> Outgoing {
    let participant = name.split('.').next().unwrap().to_owned();
    let event: Event = serde_json::from_value(json!({
        "specversion": "1.0",
        "id": Uuid::from_u128(id),
        "source": "/makegood/test",
        "type": format!("{name}.v1"),
        "subject": data["order_id"],
    }))
    .unwrap();
    let data = serde_json::value::to_raw_value(&data).unwrap();
    Outgoing { channel: Channel::Commands(participant), event: Event { data: Some(data), ..event } }
}

pub fn room() -> TempDir {
    tempfile::tempdir().unwrap()
}

pub fn outcomes(said: &[Said]) -> Vec<&str> {
    said.iter().filter(|said| said.data["outcome"].is_string()).map(Said::outcome).collect()
}

pub fn kinds(said: &[Said]) -> Vec<&str> {
    let short = |said: &'_ Said| !said.kind.contains("replied");
    said.iter().filter(|said| short(said)).map(|said| said.kind.as_str()).collect()
}

pub fn entries(room: &TempDir, participant: &str) -> Vec<CommandEntry> {
    let path = room.path().join(format!("{participant}.ndjson"));
    let commands = ledger::read(&path).unwrap().filter_map(|entry| match entry.unwrap() {
        Entry::Command(entry) => Some(entry),
        _ => None,
    });
    commands.collect()
}
