//! What the sweeper does with rows that were left over.

use std::time::Duration;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::broker::PublishError;
use crate::clock::{SimulatedClock, SystemClock};
use crate::saga::{CancelState, Input, OrderState, Saga, SagaId, Status};
use crate::store::sqlite::{Durability, SqliteStore};
use crate::store::{Change, JournalRow, OrderRow};
use crate::worker::backlog::{Queue, backlog};
use crate::worker::shutdown::shutdown;

/// Longer than anything here takes on a busy machine, and far shorter than a lease.
const PATIENCE: Duration = Duration::from_secs(15);
const NOW: Time = Time(1_767_225_600_000);

struct World {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    telemetry: Arc<Telemetry>,
    relay: RelayHandle,
    queue: Queue,
    _folder: TempDir,
}

impl World {
    async fn new(clock: Arc<dyn Clock>) -> World {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("makegood.db");
        let store =
            SqliteStore::open(&file, clock.clone(), Durability::ProcessCrash).await.unwrap();
        store.migrate().await.unwrap();
        let (relay, mut queues) = backlog(1);
        let telemetry = Arc::new(Telemetry::new());
        let queue = queues.remove(0);
        World { store: Arc::new(store), clock, telemetry, relay, queue, _folder: folder }
    }

    /// Stores an order's start with this message, claimed until then.
    async fn left_over(&self, order_id: &str, message: &[u8], claimed_until: Time) -> OutboxKey {
        let saga = SagaId::of("acme", order_id, "d");
        let order = OrderRow {
            saga,
            tenant: "acme".to_owned(),
            order_id: order_id.to_owned(),
            definition: "d".to_owned(),
            definition_version: 1,
            received_at: NOW,
            traceparent: String::new(),
            payload: b"{}".to_vec(),
        };
        let key = OutboxKey { saga, version: 1, number: 0 };
        let (channel, message) = ("events".to_owned(), message.to_vec());
        let change = Change {
            saga: Saga {
                id: saga,
                status: Status::Running,
                reached: OrderState::Pending,
                cause: None,
                cancel: CancelState::None,
                steps: Vec::new(),
                facts: Vec::new(),
                attention: Vec::new(),
                started_at: NOW,
                ended_at: None,
            },
            from_version: 0,
            order: Some(Arc::new(order)),
            journal: vec![JournalRow {
                version: 1,
                moment: NOW.into(),
                input: Input::Start,
                effects: vec![],
            }],
            due: None,
            outbox: vec![OutboxRow { key, channel, message, claimed_until }],
            revived: Vec::new(),
            shipments: Vec::new(),
            scans: Vec::new(),
            audit: None,
        };
        self.store.commit(&[change]).await.unwrap();
        key
    }

    fn sweeper(&self) -> Sweeper {
        let World { store, clock, telemetry, relay, .. } = self;
        let (store, clock, telemetry) = (store.clone(), clock.clone(), telemetry.clone());
        Sweeper { store, clock, telemetry, relay: relay.clone() }
    }
}

fn good() -> Vec<u8> {
    Event::new("e1", "/test", "a.b.v1", &json!({})).to_json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_look_does_not_wait_and_a_bad_row_becomes_a_dead_letter() {
    let mut world = World::new(Arc::new(SystemClock::default())).await;
    let later = world.clock.now() + Millis(3_600_000);
    let claimed = world.left_over("o-claimed", &good(), later).await;
    world.left_over("o-bad", b"{\"id\": 4111111111111111}", NOW).await;
    let key = world.left_over("o-good", &good(), NOW).await;
    let (_stopper, stop) = shutdown();
    let sweeping = tokio::spawn(world.sweeper().run(stop, Busy::default()));
    let swept = timeout(PATIENCE, world.queue.waiting.recv()).await.expect("at once").unwrap();
    assert_eq!(swept.slip.key, key);
    let is_ready = async {
        while !world.telemetry.health.report().0 {
            crate::clock::wait(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, is_ready).await.expect("the sweeper is well after its first look");
    let letters = world.store.dead_letters(10).await.unwrap();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(
        (letters[0].reason.as_str(), letters[0].source.as_str()),
        ("unreadable-message", "outbox")
    );
    assert_eq!(letters[0].body, b"{\"id\": 4111111111111111}");
    assert!(!letters[0].error.contains("4111"), "{}", letters[0].error);
    let far = Time(i64::MAX / 2);
    let rows = world.store.claim_outbox(far, far, 10).await.unwrap();
    let mut left: Vec<OutboxKey> = rows.iter().map(|row| row.key).collect();
    left.sort();
    let mut expected = [claimed, key];
    expected.sort();
    assert_eq!(left, expected, "the bad row is gone, the others are not");
    sweeping.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simulated_time_passes_until_a_dead_workers_claims_run_out() {
    let clock = SimulatedClock::starting_at(NOW);
    let world = World::new(Arc::new(clock.clone())).await;
    let key = world.left_over("o-1", &good(), NOW + CLAIM_LEASE).await;
    let (_stopper, stop) = shutdown();
    let held = clock.busy();
    let sweeping = tokio::spawn(world.sweeper().run(stop, held));
    let mut queue = world.queue.waiting;
    let swept = async {
        tokio::select! {
            swept = queue.recv() => swept.expect("a sweeper"),
            () = clock.run(|_| ()) => panic!("time stands still, and the row is left"),
        }
    };
    let swept = timeout(PATIENCE, swept).await.expect("in time");
    assert_eq!(swept.slip.key, key);
    assert!(clock.now() <= NOW + CLAIM_LEASE + SWEEP_EVERY, "{:?}", clock.now());
    sweeping.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_claimed_while_the_relay_cannot_get_rid_of_what_it_has() {
    let world = World::new(Arc::new(SystemClock::default())).await;
    world.left_over("o-1", &good(), NOW).await;
    let trouble = PublishError::Unknown("the broker is away".to_owned());
    world.queue.place.report(Some(trouble), |_| ());
    let (_stopper, stop) = shutdown();
    let sweeping = tokio::spawn(world.sweeper().run(stop, Busy::default()));
    let looked = async {
        while !world.telemetry.health.report().0 {
            crate::clock::wait(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, looked).await.expect("it has looked");
    let now = world.clock.now();
    assert_eq!(world.store.claim_outbox(now, now, 10).await.unwrap().len(), 1, "it is free");
    sweeping.abort();
}
