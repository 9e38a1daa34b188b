//! The database or the broker goes away in the middle of the work, and comes back.
//!
//! A worker then says that it is not ready and why, loses nothing, and goes on by itself.

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::instance::{Instance, shared};
use crate::orders::mixed;
use crate::process::until;
use crate::stage::{COMMAND, Stage, Worker};

const ORDERS: usize = 300;
/// Into how many portions the shop divides them.
const PORTIONS: usize = 15;
/// When parcels arrive, by this machine's clock: after the outage.
const DELIVERED_AFTER: i64 = 40;
/// Transitions until the outage: some orders are through their first steps, most are not.
const BEFORE: i64 = 250;
/// Transitions that show that the work goes on.
const AFTER: i64 = 100;

enum Away {
    Database,
    Broker,
}

/// The names under which a worker that has lost its database or broker says so.
fn parts(away: &Away) -> &'static [&'static str] {
    match away {
        Away::Database => {
            &["database", "definitions", "timers", "sweeper", "outbox", "dead-letters", "replays"]
        }
        Away::Broker => &["orders", "replies", "facts", "dead", "relay"],
    }
}

pub async fn a_stopped_database_is_waited_for() {
    let database = Instance::start("postgres", "e2e-stopped", &[]).await;
    let stage = Stage::new("database_stops", &database, shared("rabbitmq")).await;
    goes_away(stage, Away::Database, &database, ["stop", "start"]).await;
}

/// After a change RabbitMQ saves the names of its queues within three seconds.
const NAMES_WRITTEN_WITHIN: Duration = Duration::from_secs(10);

pub async fn a_killed_database_is_waited_for() {
    let database = Instance::start("postgres", "e2e-killed", &[]).await;
    let stage = Stage::new("database_dies", &database, shared("rabbitmq")).await;
    goes_away(stage, Away::Database, &database, ["kill", "start"]).await;
}

pub async fn a_frozen_database_is_waited_for() {
    let database = Instance::start("postgres", "e2e-frozen", &[]).await;
    let stage = Stage::new("database_freezes", &database, shared("rabbitmq")).await;
    goes_away(stage, Away::Database, &database, ["freeze", "thaw"]).await;
}

pub async fn a_stopped_broker_is_waited_for(service: &'static str) {
    let broker = Instance::start(service, "e2e-stopped", &[]).await;
    let stage = Stage::new("broker_stops", shared("postgres"), &broker).await;
    goes_away(stage, Away::Broker, &broker, ["stop", "start"]).await;
}

pub async fn a_frozen_broker_is_waited_for(service: &'static str) {
    let broker = Instance::start(service, "e2e-frozen", &[]).await;
    let stage = Stage::new("broker_freezes", shared("postgres"), &broker).await;
    goes_away(stage, Away::Broker, &broker, ["freeze", "thaw"]).await;
}

pub async fn a_killed_broker_is_waited_for(service: &'static str) {
    let broker = Instance::start(service, "e2e-killed", &[]).await;
    let stage = Stage::new("broker_dies", shared("postgres"), &broker).await;
    let worker = stage.ready_worker("first").await;
    let declared = SystemTime::now();
    // RabbitMQ 3.10 writes the names of quorum queues late: a kill before that loses them. Where
    // the worker took its time to become ready, they may have been written before this.
    until("queues that survive a kill", COMMAND, async || {
        let written = written(&broker.folder().join("data"), "names.dets");
        let is_quiet = declared.elapsed().is_ok_and(|since| since > NAMES_WRITTEN_WITHIN);
        service != "rabbitmq" || is_quiet || written.is_some_and(|at| at > declared)
    })
    .await;
    drop(worker);
    goes_away(stage, Away::Broker, &broker, ["kill", "start"]).await;
}

/// When the file of this name was last written, wherever below the folder it is.
fn written(folder: &Path, name: &str) -> Option<SystemTime> {
    let entries: Vec<_> = std::fs::read_dir(folder).ok()?.filter_map(Result::ok).collect();
    entries.iter().find_map(|entry| match entry.path().is_dir() {
        true => written(&entry.path(), name),
        false if entry.file_name() == name => entry.metadata().ok()?.modified().ok(),
        false => None,
    })
}

async fn goes_away(mut stage: Stage, away: Away, service: &Instance, verbs: [&str; 2]) {
    stage.cast(mixed("away", ORDERS, DELIVERED_AFTER));
    let _participants = stage.participants();
    let mut worker = stage.ready_worker("worker").await;
    let outage = async {
        let seen = stage.transitions(BEFORE).await;
        service.tell(verbs[0], &[]).await;
        let troubled = worker.becomes_unready().await;
        let expected = parts(&away);
        assert!(troubled.keys().all(|part| expected.contains(&part.as_str())), "{troubled:?}");
        is_told(&worker, troubled.keys()).await;
        service.tell(verbs[1], &[]).await;
        worker.becomes_ready().await;
        stage.transitions(seen + AFTER).await;
    };
    tokio::join!(stage.submit(PORTIONS), outage);
    stage.ends_well(0).await;
    assert!(worker.process.has_ended().is_none(), "it went on by itself");
    assert_eq!(worker.is_ready().await, Some(true));
}

/// The log says once that each part has trouble.
async fn is_told(worker: &Worker, parts: impl Iterator<Item = &String>) {
    for part in parts {
        let log = worker.process.log();
        let told = |line: &str| {
            line.contains("not working; trying again")
                && line.contains(&format!("\"part\":\"{part}\""))
        };
        assert!(log.lines().any(told), "{part}: {log}");
    }
}
