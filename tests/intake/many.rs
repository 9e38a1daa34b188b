//! Many orders at once, where commits collide or their answers are lost: nothing doubles, and
//! nothing is forgotten.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use makegood::broker::Broker;
use makegood::broker::memory::MemoryBroker;
use makegood::clock::{Clock, SimulatedClock};
use makegood::fixture::auditor::{self, AuditOptions, AuditReport};
use makegood::fixture::{self, ScriptedOrder, Shop, Simulation, orders};
use makegood::saga::{Millis, Status, Time};
use makegood::store::sqlite::{Durability, SqliteStore};
use makegood::store::{Filter, Store};
use makegood::telemetry::Telemetry;
use makegood::worker::{self, Worker, read_definitions, shutdown, topology};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::forgetful::Forgetful;
use crate::world::{order, publish_definitions};

const ORDERS: usize = 200;
const START: Time = Time(1_767_225_600_000); // 2026-01-01T00:00:00Z
/// Answers come at whole multiples of this: many at the same time, and before any resend.
const GRAIN: Millis = Millis(5_000);
/// What a worker takes at once: little, so that several get some of what there is.
const SHARE: u16 = 16;
/// How long a run may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// All paid at the same moment; three answers to each holiday come at the same time.
fn all_at_once(script: &Value) -> Vec<ScriptedOrder> {
    let line = |number: usize| {
        let mut order = order(&format!("o-{number}"));
        order["placed_at"] = json!("2026-01-01T00:00:00Z");
        let event = if number.is_multiple_of(2) { "order.created" } else { "holiday.booked" };
        json!({ "order": order, "script": script, "event": event })
    };
    let lines: String = (0..ORDERS).map(|number| format!("{}\n", line(number))).collect();
    orders::read(lines.as_bytes(), "orders").map(|order| order.expect("a good order")).collect()
}

/// Runs that many workers on one store and one broker until nobody waits for anything.
/// Returns the simulated time then.
async fn run(
    store: &Arc<dyn Store>,
    ledgers: &Path,
    (orders, workers): (Vec<ScriptedOrder>, usize),
    began: Time,
) -> Time {
    let clock = SimulatedClock::starting_at(began);
    let shared: Arc<dyn Clock> = Arc::new(clock.clone());
    let held = clock.busy();
    let broker: Arc<dyn Broker> = Arc::new(MemoryBroker::new(shared.clone()));
    let (catalog, _) = read_definitions(&store.definitions().await.expect("read"));
    let topology = topology(&catalog);
    broker.declare(&topology).await.expect("declared");
    let simulation = Simulation {
        broker: broker.clone(),
        clock: shared.clone(),
        ledgers: ledgers.to_owned(),
        participants: topology.participants,
        scripts: Arc::new(orders.iter().collect()),
        unheard: Arc::default(),
        options: fixture::Options { grain: GRAIN, ..fixture::Options::default() },
    };
    let shop = Shop {
        broker: broker.clone(),
        clock: shared.clone(),
        ledgers: ledgers.to_owned(),
        orders,
        unheard: Arc::default(),
        timeline: fixture::Timeline::default(),
        fsync: false,
    };
    let (tell, stop) = watch::channel(false);
    let (stopper, stopped) = shutdown();
    let outside = tokio::spawn(simulation.open().expect("ledgers").run(stop.clone()));
    let shop = tokio::spawn(shop.open().expect("a ledger").run(stop));
    let workers: Vec<_> = (0..workers)
        .map(|_| {
            let worker = Worker {
                store: store.clone(),
                broker: broker.clone(),
                clock: shared.clone(),
                telemetry: Arc::new(Telemetry::new()),
                options: worker::Options { prefetch: SHARE, ..worker::Options::default() },
                system_clock: None,
            };
            tokio::spawn(worker.run(stopped.clone(), held.clone()))
        })
        .collect();
    drop(held);
    timeout(PATIENCE, clock.run(|_| {})).await.expect("it comes to an end");
    stopper.drain();
    tell.send(true).expect("somebody listens");
    for worker in workers {
        worker.await.expect("no panic").expect("it ran");
    }
    shop.await.expect("no panic").expect("its ledger");
    outside.await.expect("no panic").expect("their ledgers");
    clock.now()
}

/// Every order is completed, and the participants saw each command take effect once.
async fn all_is_good(store: &dyn Store, ledgers: &Path, now: Time) -> AuditReport {
    let sagas = store.list(&Filter::default(), None, 2 * ORDERS).await.expect("read");
    assert_eq!(sagas.len(), ORDERS);
    for stored in &sagas {
        assert_eq!(stored.saga.status, Status::Completed, "{stored:?}");
        assert_eq!(stored.saga.attention, []);
    }
    let (catalog, _) = read_definitions(&store.definitions().await.expect("read"));
    let definition =
        |name: &str, version: u32| Some(Arc::new(catalog.get(name, version)?.definition.clone()));
    let options = AuditOptions { now, may_wait: false, clocks_fire: true };
    let report = auditor::audit(store, &definition, ledgers, options).await;
    let report = report.expect("the evidence can be read");
    assert!(report.is_clean(), "{report}");
    // Four commands for a parcel and two notices, six commands for a holiday.
    assert_eq!(report.applied, (4 + 2 + 6) * ORDERS as u64 / 2);
    assert_eq!(report.dead_letters, 0);
    report
}

async fn store(folder: &TempDir) -> Arc<dyn Store> {
    let clock = Arc::new(SimulatedClock::starting_at(START));
    let file = folder.path().join("makegood.db");
    let store = SqliteStore::open(&file, clock, Durability::ProcessCrash).await.expect("opened");
    store.migrate().await.expect("migrated");
    publish_definitions(&store).await;
    Arc::new(store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_share_the_work_and_nothing_doubles() {
    let folder = TempDir::new().expect("a folder");
    let watched = Forgetful::new(store(&folder).await, 0);
    let store: Arc<dyn Store> = watched.clone();
    let ended = run(&store, folder.path(), (all_at_once(&json!({})), 2), START).await;
    assert!(watched.lost_races() > 0, "they never met");
    let report = all_is_good(&*store, folder.path(), ended).await;
    // No answer was lost in a race, or its command would have been sent again: each was
    // received once. There are two scans of each parcel, and one order each.
    assert_eq!(report.ledger_entries, report.applied + ORDERS as u64 + ORDERS as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_whose_answer_is_lost_double_nothing_and_lose_nothing() {
    let folder = TempDir::new().expect("a folder");
    let forgetful = Forgetful::new(store(&folder).await, 7);
    let store: Arc<dyn Store> = forgetful.clone();
    // Every answer and every scan comes more than once besides.
    let orders = all_at_once(&json!({ "replies": "repeated", "scans": "repeated" }));
    let mut ended = run(&store, folder.path(), (orders.clone(), 1), START).await;
    // Simulated time does not move for a message that is only in the outbox. The worker that
    // starts next takes what was left there, as the sweeper does in real time.
    for _ in 0..20 {
        let counts = store.counts().await.expect("read");
        if counts.outbox == 0 && counts.of(Status::Completed) == ORDERS as u64 {
            break;
        }
        ended = run(&store, folder.path(), (orders.clone(), 1), ended).await;
    }
    assert!(forgetful.forgotten() > 10, "{}", forgetful.forgotten());
    all_is_good(&*store, folder.path(), ended).await;
}
