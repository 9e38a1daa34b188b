//! A worker behind its doors, on a fresh store and the broker in memory, with the test in place
//! of the shop, the courier and whoever else comes to the door.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use makegood::broker::envelope::decode;
use makegood::broker::memory::MemoryBroker;
use makegood::broker::{Broker, Channel, Event, Outgoing};
use makegood::catalog::load;
use makegood::clock::{Busy, Clock, SystemClock};
use makegood::http::{Accounts, Bounds, Certificate, Doors, bind, serve_doors};
use makegood::saga::{Millis, Phase, SagaId, Time};
use makegood::store::sqlite::{Durability, SqliteStore};
use makegood::store::{Counts, DefinitionRow, Store, StoreError, Stored};
use makegood::telemetry::Telemetry;
use makegood::worker::{Options, Stopper, Worker, entrance, shutdown};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::client::{Answer, PATIENCE, Request};
use crate::forgetful::{Forgetful, Trouble};

pub const ACME: &str = "whsec_YWNtZWFjbWVhY21lYWNtZWFjbWVhY21l";
pub const ACME_NEXT: &str = "whsec_bmV4dG5leHRuZXh0bmV4dG5leHRuZXh0";
pub const OTHER: &str = "whsec_b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhl";
/// The shop of made-up orders.
pub const DEMO: &str = "whsec_ZGVtb2RlbW9kZW1vZGVtb2RlbW9kZW1v";
pub const JADLOG: &str = "whsec_amFkbG9namFkbG9namFkbG9namFkbG9n";
pub const CORREIOS: &str = "whsec_Y29ycmVpb3Njb3JyZWlvc2NvcnJlaW9z";
pub const OTHERS_JADLOG: &str = "whsec_amFkbG9nb3RoZXJqYWRsb2dvdGhlcjEy";
/// The largest body that these doors take in.
pub const MAX_BYTES: usize = 64 * 1024;
/// What a request may take where a test does not wait for that to pass.
const IN_TIME: Duration = Duration::from_secs(20);

const ACCOUNTS: &str = "accounts.toml";

fn accounts() -> String {
    format!(
        "[[shop]]\ntenant = 'acme'\nsecrets = ['{ACME}', '{ACME_NEXT}']\n\
         [[shop]]\ntenant = 'demo'\nsecrets = ['{DEMO}']\n\
         [[shop]]\ntenant = 'other'\nsecrets = ['{OTHER}']\n\
         [[courier]]\nname = 'jadlog'\ntenant = 'acme'\nsecrets = ['{JADLOG}']\n\
         [[courier]]\nname = 'jadlog'\ntenant = 'other'\nsecrets = ['{OTHERS_JADLOG}']\n\
         [[courier]]\nname = 'correios'\ntenant = 'acme'\nsecrets = ['{CORREIOS}']\n"
    )
}

pub struct World {
    pub address: SocketAddr,
    pub store: Arc<Forgetful>,
    pub broker: Arc<MemoryBroker>,
    pub telemetry: Arc<Telemetry>,
    pub clock: Arc<TestClock>,
    /// While it is set, the database is away.
    pub is_away: Arc<AtomicBool>,
    pub stopper: Stopper,
    worker: JoinHandle<()>,
    doors: JoinHandle<()>,
    folder: tempfile::TempDir,
}

/// A clock that the doors look at, and a test sets. The store and the worker have the machine's.
pub struct TestClock(AtomicI64);

impl TestClock {
    pub fn seconds(&self) -> i64 {
        self.0.load(Ordering::Relaxed) / 1_000
    }

    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1_000, Ordering::Relaxed);
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Time {
        Time(self.0.load(Ordering::Relaxed))
    }
    async fn sleep_until(&self, _: Time, _: Busy) -> Busy {
        unreachable!("the doors wait for nothing")
    }
    async fn pause(&self, _: Millis) -> Busy {
        unreachable!("the doors wait for nothing")
    }
    fn busy(&self) -> Busy {
        Busy::default()
    }
}

impl World {
    pub async fn new() -> World {
        World::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Bounds)) -> World {
        World::behind(None, change).await
    }

    /// With HTTP over TLS.
    pub async fn secured(certificate: Certificate) -> World {
        World::behind(Some(Arc::new(certificate)), |_| {}).await
    }

    async fn behind(
        certificate: Option<Arc<Certificate>>,
        change: impl FnOnce(&mut Bounds),
    ) -> World {
        let folder = tempfile::tempdir().unwrap();
        let machine = Arc::new(SystemClock::default());
        let file = folder.path().join("makegood.db");
        let opened = SqliteStore::open(&file, machine.clone(), Durability::ProcessCrash).await;
        let is_away = Arc::new(AtomicBool::new(false));
        let away = is_away.clone();
        let before_commit = move |_: &[_]| match away.load(Ordering::Relaxed) {
            true => Err(StoreError::Unavailable { during: "a test", source: "away".into() }),
            false => Ok(()),
        };
        let trouble = Trouble { before_commit: Box::new(before_commit), ..Trouble::default() };
        let store = Arc::new(Forgetful::troubled(Arc::new(opened.unwrap()), trouble));
        store.migrate().await.unwrap();
        publish(&*store, include_str!("../../sagas/order-fulfilment.toml")).await;
        let broker = Arc::new(MemoryBroker::new(machine.clone()));
        let telemetry = Arc::new(Telemetry::new());
        let (stopper, stop) = shutdown();
        let (entrance, reception) = entrance();
        let path = folder.path().join(ACCOUNTS);
        std::fs::write(&path, accounts()).unwrap();
        let mut bounds = Bounds { max_body_bytes: MAX_BYTES, timeout: IN_TIME, in_flight: 300 };
        change(&mut bounds);
        let clock = Arc::new(TestClock(AtomicI64::new(machine.now().0)));
        let accounts = Arc::new(Accounts::open(&path).unwrap());
        let doors = Doors::new(
            entrance,
            (store.clone(), clock.clone(), telemetry.clone()),
            accounts.clone(),
            stop.clone(),
            bounds,
        );
        let voice = telemetry.clone();
        tokio::spawn(async move { accounts.keep_up(&voice).await }); // ends with the test
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let doors = tokio::spawn(serve_doors(listener, Arc::new(doors), certificate));
        let worker = Worker {
            store: store.clone(),
            broker: broker.clone(),
            clock: machine,
            telemetry: telemetry.clone(),
            options: Options::default(),
            system_clock: None,
        };
        let worker = tokio::spawn(async {
            worker.run_behind(Some(reception), stop, Busy::default()).await.unwrap();
        });
        let world = World {
            address,
            store,
            broker,
            telemetry,
            clock,
            is_away,
            stopper,
            worker,
            doors,
            folder,
        };
        until(async || world.telemetry.health.report().0).await;
        world
    }

    /// The file of its accounts.
    pub fn accounts(&self) -> PathBuf {
        self.folder.path().join(ACCOUNTS)
    }

    pub async fn send(&self, request: &Request) -> Answer {
        request.send(self.address).await
    }

    /// Acme's shop pushes this, under that message id.
    pub fn push_of(&self, id: &str, body: impl Into<Vec<u8>>) -> Request {
        let request = Request::new("POST", "/v1/orders", body);
        request.signed(ACME, id, self.clock.seconds())
    }

    pub async fn push(&self, body: impl Into<Vec<u8>>) -> Answer {
        self.send(&self.push_of("m-1", body)).await
    }

    pub async fn cancel(&self, key: &str, order_id: &str) -> Answer {
        let body = json!({ "order_id": order_id }).to_string();
        let request = Request::new("POST", &format!("/v1/orders/{order_id}/cancel"), body);
        self.send(&request.signed(key, "m-cancel", self.clock.seconds())).await
    }

    pub async fn status(&self, key: &str, order_id: &str) -> Answer {
        let request = Request::new("GET", &format!("/v1/orders/{order_id}"), "");
        self.send(&request.signed(key, "m-status", self.clock.seconds())).await
    }

    /// The participants do their work on an order up to its dispatch, by this shipment.
    pub async fn dispatched(&self, order_id: &str, shipment_id: &str) {
        for (participant, data) in [
            ("inventory", json!({})),
            ("wms", json!({})),
            ("tms", json!({ "shipment_id": shipment_id, "courier": "jadlog" })),
        ] {
            self.answered(participant, order_id, data).await;
        }
        let is_dispatched = |stored: &Stored| stored.saga.steps[3].phase == Phase::Done;
        let id = SagaId::of("acme", order_id, "order-fulfilment");
        until(async || is_dispatched(&self.store.load(&[id]).await.unwrap()[0])).await;
    }

    /// A participant gets its command for the order, and does it.
    pub async fn answered(&self, participant: &str, order_id: &str, result: Value) {
        self.says(participant, order_id, json!({ "outcome": "success", "data": result })).await;
    }

    /// A participant gets its command for the order, and answers so.
    pub async fn says(&self, participant: &str, order_id: &str, mut data: Value) {
        let channel = Channel::Commands(participant.to_owned());
        let mut consumer = self.broker.consume(&channel, 100).await.unwrap();
        loop {
            for incoming in consumer.receive(1).await.unwrap() {
                let command = decode(&incoming.body, &incoming.headers, usize::MAX).unwrap();
                incoming.ticket.done();
                if command.subject.as_deref() != Some(order_id) {
                    continue;
                }
                data["command_id"] = json!(command.id);
                let source = format!("/participants/{participant}");
                let kind = format!("{}.replied.v1", command.name());
                let mut reply = Event::new(format!("r-{}", command.id), source, kind, &data);
                reply.sagaid = command.sagaid;
                return self.publish(Channel::Replies, reply).await;
            }
        }
    }

    pub async fn counts(&self) -> Counts {
        self.store.counts().await.unwrap()
    }

    /// How many sagas, and dead letters, there are.
    pub async fn written(&self) -> (u64, u64) {
        let counts = self.counts().await;
        (counts.sagas.iter().map(|(_, count)| count).sum(), counts.dead_letters)
    }

    pub async fn saga(&self, order_id: &str) -> Stored {
        let id = SagaId::of("acme", order_id, "order-fulfilment");
        self.store.load(&[id]).await.unwrap().pop().expect("it is there")
    }

    pub async fn publish(&self, channel: Channel, event: Event) {
        let sent = self.broker.publish(&[Outgoing { channel, event }]).await;
        assert!(sent.iter().all(Result::is_ok), "{sent:?}");
    }

    pub async fn stop(self) {
        self.stopper.drain();
        let ended = async { (self.worker.await, self.doors.await) };
        let (worker, doors) = tokio::time::timeout(PATIENCE, ended).await.expect("it ends");
        worker.expect("no panic");
        doors.expect("no panic");
    }
}

async fn publish(store: &dyn Store, text: &str) {
    let loaded = load("a definition", text).unwrap();
    let row = DefinitionRow {
        name: loaded.definition.name().to_owned(),
        version: loaded.definition.version(),
        content: loaded.text,
        published_at: Time(0),
    };
    store.publish_definition(&row).await.unwrap();
}

/// Waits until it is so.
pub async fn until(is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it never came to that");
}

pub fn order(order_id: &str) -> Value {
    json!({
        "order_id": order_id, "currency": "EUR",
        "loan": { "loan_id": "L-1", "amount_minor": 5_000 },
        "lines": [{ "line_id": "1", "sku": "A-1", "quantity": 1, "unit_price_minor": 5_000 }],
        "ship_to": { "postal_code": "10115", "city": "Berlin", "country": "DE" },
    })
}

pub fn order_with(order_id: &str, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut order = order(order_id);
    change(&mut order);
    order.to_string().into_bytes()
}
