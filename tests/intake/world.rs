//! One worker on a fresh store and broker, with a test in place of the shop, the participants
//! and the courier.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use makegood::broker::{Broker, Channel, Consumer, Event};
use makegood::catalog::load;
use makegood::clock::{Busy, SystemClock};
use makegood::order::masked;
use makegood::saga::{Phase, SagaId, Time};
use makegood::store::sqlite::{Durability, SqliteStore};
use makegood::store::{DeadLetter, DefinitionRow, Store, Stored};
use makegood::telemetry::Telemetry;
use makegood::worker::{Options, Stopper, Worker, shutdown};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use uuid::Uuid;

use crate::forgetful::{Forgetful, Trouble};
use crate::inlet::Inlet;

/// The largest message that this worker takes in.
pub const MAX_BYTES: usize = 32 * 1024;
const DEFINITIONS: [&str; 2] = [
    include_str!("../../sagas/order-fulfilment.toml"),
    include_str!("../../sagas/holiday-package.toml"),
];
/// How long anything may take that is expected to happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct World {
    pub store: Arc<Forgetful>,
    pub broker: Arc<Inlet>,
    commands: Mutex<Box<dyn Consumer>>,
    stopper: Stopper,
    pub worker: JoinHandle<()>,
    _folder: TempDir,
}

/// A message with any bytes and any headers.
#[derive(Debug, Clone)]
pub struct Raw {
    pub channel: Channel,
    pub body: Vec<u8>,
    pub headers: BTreeMap<String, String>,
    pub redelivered: bool,
}

impl Raw {
    pub fn bytes(channel: Channel, body: &[u8]) -> Raw {
        let (body, headers) = (body.to_vec(), BTreeMap::new());
        Raw { channel, body, headers, redelivered: false }.header("app-id", "a-test")
    }

    pub fn event(channel: Channel, kind: &str, source: &str, data: &Value) -> Raw {
        let event = Event::new(Uuid::new_v4().to_string(), source, kind, data);
        Raw::bytes(channel, &event.to_json())
            .header("content-type", "application/cloudevents+json")
            .header("message-id", &event.id)
    }

    pub fn header(mut self, name: &str, value: &str) -> Raw {
        self.headers.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// A participant's reply.
pub fn reply(participant: &str, saga: Uuid, data: &Value) -> Raw {
    let source = format!("/participants/{participant}");
    Raw::event(Channel::Replies, "inventory.reserve.replied.v1", &source, data)
        .header("correlation-id", &saga.to_string())
}

pub fn order(order_id: &str) -> Value {
    json!({
        "order_id": order_id, "tenant_id": "acme", "currency": "EUR",
        "loan": { "loan_id": "L-1", "amount_minor": 5_000 },
        "lines": [{ "line_id": "1", "sku": "A-1", "quantity": 1, "unit_price_minor": 5_000 }],
        "ship_to": { "postal_code": "10115", "city": "Berlin", "country": "DE" },
    })
}

/// A command that the worker sent.
#[derive(Debug, Clone)]
pub struct Command {
    pub id: Uuid,
    pub saga: Uuid,
}

impl World {
    pub async fn new() -> World {
        World::with(Trouble::default(), Options::default(), Inlet::new()).await
    }

    /// A worker whose store is in trouble.
    pub async fn troubled(trouble: Trouble) -> World {
        World::with(trouble, Options::default(), Inlet::new()).await
    }

    pub async fn with(trouble: Trouble, options: Options, broker: Inlet) -> World {
        World::found(trouble, options, broker, async |_| ()).await
    }

    /// A worker that finds what `before` has left in the store.
    pub async fn after(before: impl AsyncFnOnce(&dyn Store)) -> World {
        World::found(Trouble::default(), Options::default(), Inlet::new(), before).await
    }

    async fn found(
        trouble: Trouble,
        options: Options,
        broker: Inlet,
        before: impl AsyncFnOnce(&dyn Store),
    ) -> World {
        let folder = TempDir::new().expect("a folder");
        let clock = Arc::new(SystemClock::default());
        let file = folder.path().join("makegood.db");
        let opened = SqliteStore::open(&file, clock.clone(), Durability::ProcessCrash).await;
        let opened = Arc::new(opened.expect("opened"));
        let store = Arc::new(Forgetful::troubled(opened, trouble));
        store.migrate().await.expect("migrated");
        publish_definitions(&*store).await;
        before(&*store).await;
        let broker = Arc::new(broker);
        let (stopper, stop) = shutdown();
        let worker = Worker {
            store: store.clone(),
            broker: broker.clone(),
            clock,
            telemetry: Arc::new(Telemetry::new()),
            options: Options { max_message_bytes: MAX_BYTES, ..options },
            system_clock: None,
        };
        let worker = tokio::spawn(async move {
            worker.run(stop, Busy::default()).await.expect("it ran");
        });
        let inventory = Channel::Commands("inventory".to_owned());
        let subscribed = until("the worker has declared its queues", async || {
            broker.consume(&inventory, 1_000).await.ok()
        });
        let commands = Mutex::new(subscribed.await);
        World { store, broker, commands, stopper, worker, _folder: folder }
    }

    /// Delivers a message and waits until the worker has acknowledged it.
    pub async fn accepts(&self, raw: Raw) {
        let body = &raw.body[..raw.body.len().min(300)];
        let what = format!("{} {}", raw.channel, String::from_utf8_lossy(body));
        let acknowledged = self.push(raw);
        let heard = timeout(PATIENCE, acknowledged).await;
        heard.unwrap_or_else(|_| panic!("not acknowledged: {what}")).expect("acknowledged");
    }

    /// Delivers a message. The receiver hears of its acknowledgement, or, with an error, that it
    /// was let go without one.
    pub fn push(&self, raw: Raw) -> oneshot::Receiver<()> {
        let Raw { channel, body, headers, redelivered } = raw;
        self.broker.push(channel, body, headers, redelivered)
    }

    /// Delivers a message that must become a dead letter with that reason, and nothing else.
    pub async fn buries(&self, reason: &str, raw: Raw) {
        self.accepts(raw.clone()).await;
        let letters = self.letters().await;
        // With its raw bytes, but for card data.
        let letter = letters.iter().find(|letter| letter.body == *masked(&raw.body));
        let letter = letter.unwrap_or_else(|| panic!("no letter with {reason}: {raw:?}"));
        assert_eq!(letter.reason, reason, "{letter:?}");
        assert_eq!((letter.source.clone(), letter.attempts), (raw.channel.to_string(), 1));
        let headers: BTreeMap<String, String> = serde_json::from_str(&letter.headers).unwrap();
        assert_eq!(headers, raw.headers);
        assert!(!letter.error.is_empty());
    }

    pub async fn letters(&self) -> Vec<DeadLetter> {
        self.store.dead_letters(1_000).await.expect("read")
    }

    pub async fn saga(&self, order_id: &str) -> Stored {
        let id = SagaId::of("acme", order_id, "order-fulfilment");
        let mut loaded = self.store.load(&[id]).await.expect("read");
        loaded.pop().unwrap_or_else(|| panic!("there is no saga of {order_id}"))
    }

    /// Waits for a command of an order to the inventory.
    pub async fn command(&self, order_id: &str, name: &str) -> Command {
        let mut consumer = self.commands.lock().await;
        let receive = async {
            loop {
                for incoming in consumer.receive(1).await.expect("a connection") {
                    let event: Event = serde_json::from_slice(&incoming.body).expect("an event");
                    let data: Value = serde_json::from_str(event.data()).expect("JSON");
                    incoming.ticket.done();
                    if event.name() == name && data["order_id"] == order_id {
                        let id = |key: &str| data[key].as_str().unwrap().parse().unwrap();
                        return Command { id: id("command_id"), saga: id("saga_id") };
                    }
                }
            }
        };
        let received = timeout(PATIENCE, receive).await;
        received.unwrap_or_else(|_| panic!("{name} was never sent for {order_id}"))
    }

    /// A new order is taken in, and its first step done.
    pub async fn a_good_order_passes(&self, order_id: &str) {
        let data = order(order_id);
        self.accepts(Raw::event(Channel::Orders, "order.created.v1", "/shop", &data)).await;
        let command = self.command(order_id, "inventory.reserve").await;
        let data = json!({ "command_id": command.id, "outcome": "success" });
        self.accepts(reply("inventory", command.saga, &data)).await;
        assert_eq!(self.saga(order_id).await.saga.steps[1].phase, Phase::Done);
    }

    pub async fn stop(self) {
        self.stopper.drain();
        timeout(PATIENCE, self.worker).await.expect("it drains").expect("without a panic");
        self.store.close().await;
    }
}

pub async fn publish_definitions(store: &dyn Store) {
    for text in DEFINITIONS {
        let loaded = load("a definition", text).expect("a good definition");
        let row = DefinitionRow {
            name: loaded.definition.name().to_owned(),
            version: loaded.definition.version(),
            content: loaded.text,
            published_at: Time(0),
        };
        store.publish_definition(&row).await.expect("published");
    }
}

/// Waits until `look` finds something.
pub async fn until<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let found = timeout(PATIENCE, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    found.await.unwrap_or_else(|_| panic!("never: {what}"))
}
