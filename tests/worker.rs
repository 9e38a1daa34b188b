//! The worker itself, on SQLite and the broker in memory: what it promises at its edges.

use std::sync::Arc;
use std::time::Duration;

use makegood::broker::memory::MemoryBroker;
use makegood::broker::{Broker, Channel, Event, Outgoing};
use makegood::clock::{Busy, SystemClock};
use makegood::saga::{Input, Status, Time};
use makegood::store::sqlite::{Durability, SqliteStore};
use makegood::store::{DefinitionRow, Store};
use makegood::telemetry::Telemetry;
use makegood::worker::{Options, Stopper, Worker, shutdown};
use serde_json::{Value, json};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A worker at work.
struct World {
    store: Arc<dyn Store>,
    broker: Arc<dyn Broker>,
    telemetry: Arc<Telemetry>,
    stopper: Stopper,
    worker: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl World {
    /// A worker that is ready.
    async fn open(definitions: &[(&str, &str)]) -> World {
        let world = World::start(definitions).await;
        world.until(async || world.telemetry.health.report().0).await;
        world
    }

    async fn start(definitions: &[(&str, &str)]) -> World {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock::default());
        let file = folder.path().join("makegood.db");
        let store: Arc<dyn Store> = Arc::new(
            SqliteStore::open(&file, clock.clone(), Durability::ProcessCrash).await.unwrap(),
        );
        store.migrate().await.unwrap();
        for (name, content) in definitions {
            publish(&*store, name, content).await;
        }
        let broker: Arc<dyn Broker> = Arc::new(MemoryBroker::new(clock.clone()));
        let telemetry = Arc::new(Telemetry::new());
        let (stopper, shutdown) = shutdown();
        let worker = Worker {
            store: store.clone(),
            broker: broker.clone(),
            clock,
            telemetry: telemetry.clone(),
            options: Options::default(),
            system_clock: None,
        };
        let worker = tokio::spawn(async { worker.run(shutdown, Busy::default()).await.unwrap() });
        World { store, broker, telemetry, stopper, worker, _folder: folder }
    }

    async fn send(&self, channel: Channel, id: &str, kind: &str, data: Value) {
        let event = Event::new(id, "/test", kind, &data);
        let sent = self.broker.publish(&[Outgoing { channel, event }]).await;
        assert!(sent.iter().all(Result::is_ok), "{sent:?}");
    }

    /// Waits until it is so.
    async fn until(&self, mut is_so: impl AsyncFnMut() -> bool) {
        let waiting = async {
            while !is_so().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("it never came to that");
    }

    async fn reasons(&self) -> Vec<String> {
        let letters = self.store.dead_letters(10).await.unwrap();
        letters.into_iter().map(|letter| letter.reason).collect()
    }

    async fn stop(self) {
        self.stopper.drain();
        tokio::time::timeout(PATIENCE, self.worker).await.expect("it ends").expect("no panic");
    }
}

async fn publish(store: &dyn Store, name: &str, content: &str) {
    let (name, content) = (name.to_owned(), content.to_owned());
    let row = DefinitionRow { name, version: 1, content, published_at: Time(0) };
    store.publish_definition(&row).await.unwrap();
}

/// Two definitions for the same orders, which wait for the same fact.
const PARCEL: &str = r#"
name = "parcel"
version = 1
starts_on = "order.created"
cancels_on = "order.cancel-requested"

[[step]]
name = "arrive"
await = ["shipment.delivered"]
deadline = "14d"
"#;

fn letter() -> String {
    PARCEL.replace("parcel", "letter")
}

fn order() -> Value {
    json!({
        "order_id": "o-1", "tenant_id": "acme", "currency": "EUR",
        "loan": { "loan_id": "L-1", "amount_minor": 100 },
        "lines": [{ "line_id": "1", "sku": "a", "quantity": 1 }],
    })
}

fn about() -> Value {
    json!({ "order_id": "o-1", "tenant_id": "acme" })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_not_ready_before_a_definition_is_published() {
    let world = World::start(&[]).await;
    let troubled = || {
        let (_, parts) = world.telemetry.health.report();
        parts.into_iter().filter_map(|(part, trouble)| Some((part, trouble?))).collect::<Vec<_>>()
    };
    let is_only_that = async || match &troubled()[..] {
        [("definitions", trouble)] => trouble.starts_with("no definition is published"),
        _ => false,
    };
    world.until(is_only_that).await;
    publish(&*world.store, "parcel", PARCEL).await;
    world.until(async || world.telemetry.health.report().0).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fact_before_its_order_reaches_every_saga_of_it() {
    let letter = letter();
    let world = World::open(&[("parcel", PARCEL), ("letter", &letter)]).await;
    world.send(Channel::Facts, "f-1", "shipment.delivered.v1", about()).await;
    world.until(async || world.reasons().await == ["unknown-order"]).await;
    world.send(Channel::Orders, "e-1", "order.created.v1", order()).await;
    world
        .until(async || {
            let sagas = world.store.find("o-1", None).await.unwrap();
            sagas.len() == 2 && sagas.iter().all(|s| s.saga.status == Status::Completed)
        })
        .await;
    world.until(async || world.reasons().await.is_empty()).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_message_that_changes_nothing_leaves_the_dead_letters_all_the_same() {
    let world = World::open(&[("parcel", PARCEL)]).await;
    // The second says nothing new once the first has completed the saga.
    world.send(Channel::Facts, "f-1", "shipment.delivered.v1", about()).await;
    world.send(Channel::Facts, "f-2", "shipment.delivered.v1", about()).await;
    world.until(async || world.reasons().await == ["unknown-order"; 2]).await;
    world.send(Channel::Orders, "e-1", "order.created.v1", order()).await;
    world.until(async || world.reasons().await.is_empty()).await;
    let sagas = world.store.find("o-1", None).await.unwrap();
    let journal = world.store.journal(sagas[0].saga.id).await.unwrap();
    let facts = journal.iter().filter(|row| matches!(row.input, Input::Fact(_))).count();
    assert_eq!((facts, sagas[0].version), (1, 2), "{journal:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_and_orders_that_come_at_the_same_time_always_meet() {
    let letter = letter();
    let world = World::open(&[("parcel", PARCEL), ("letter", &letter)]).await;
    const ORDERS: usize = 200;
    for number in 0..ORDERS {
        let id = format!("o-{number}");
        let about = json!({ "order_id": id, "tenant_id": "acme" });
        let mut order = order();
        order["order_id"] = json!(id);
        tokio::join!(
            world.send(Channel::Orders, &id, "order.created.v1", order),
            world.send(Channel::Facts, &id, "shipment.delivered.v1", about),
        );
    }
    let done = async || {
        let counts = world.store.counts().await.unwrap();
        counts.of(Status::Completed) == 2 * ORDERS as u64 && counts.dead_letters == 0
    };
    world.until(done).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_no_table_takes_is_a_dead_letter_like_any_other() {
    let world = World::open(&[("parcel", PARCEL)]).await;
    let odd = json!({ "order_id": "o\u{0}1", "tenant_id": "acme" });
    world.send(Channel::Facts, "f-1", "shipment.delivered.v1", odd).await;
    let long = json!({ "order_id": "o".repeat(5_000), "tenant_id": "acme" });
    world.send(Channel::Facts, "f-2", "shipment.delivered.v1", long).await;
    world.until(async || world.reasons().await == ["wrong-schema"; 2]).await;
    let letters = world.store.dead_letters(10).await.unwrap();
    assert!(letters.iter().all(|letter| letter.order_id.is_none() && !letter.body.is_empty()));
    world.stop().await;
}
