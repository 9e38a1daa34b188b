//! Orders on their way while workers and participants come, go, are killed or sleep.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection, Executor};

use crate::instance::shared;
#[cfg(feature = "kafka")]
use crate::lag::members;
use crate::orders::{mixed, scripted};
use crate::process::{get, until};
use crate::stage::Stage;

const ORDERS: usize = 300;
/// A worker that was told to stop may take that long, and a little more on a busy machine.
const DRAIN: Duration = Duration::from_secs(30);
/// A worker that was told twice.
const AT_ONCE: Duration = Duration::from_secs(3);
/// A worker that was given two seconds: these, five more for what hangs, and a busy machine.
const ABANDONED: Duration = Duration::from_secs(12);
/// What an operating system's supervisor reads as "ended by SIGTERM".
const ENDED_BY_TERM: i32 = 128 + 15;
/// For something to be seen in a log, a metric or a table.
const SOON: Duration = Duration::from_secs(60);
/// Kills in a row. A message may be delivered twenty times before the broker gives it up.
const KILLS: i64 = 8;
/// Transitions between two kills: each worker gets something done, and leaves more undone.
const BETWEEN_KILLS: i64 = 120;

/// Seconds by which the broker has taken a frozen worker's messages back, after two heartbeats of
/// ten seconds, or a session of six, and given them to another one.
const RELEASED: i64 = 50;
/// Seconds by which participants, asked again after thirty or so, have repeated the answers to
/// a dispatch that died with them.
const REPEATED: i64 = 50;

async fn stage(case: &str, broker: &'static str) -> Stage {
    Stage::new(case, shared("postgres"), shared(broker)).await
}

pub async fn all_orders_come_to_their_end(broker: &'static str) {
    let mut stage = stage("happy", broker).await;
    let mut orders = mixed("happy", ORDERS, 6);
    orders.truncate(ORDERS - 3);
    orders.push(scripted("lost", 1, json!({ "deliver": "failed" }), "running"));
    orders.push(scripted(
        "slow",
        1,
        json!({ "reserve": "retry", "replies": "repeated" }),
        "completed",
    ));
    orders.push(scripted("odd", 1, json!({ "scans": "repeated" }), "completed"));
    let count = |expected: &str| orders.iter().filter(|o| o.expected == expected).count() as f64;
    let (completed, compensated) = (count("completed"), count("compensated"));
    stage.cast(orders);
    let _participants = stage.participants();
    let worker = stage.ready_worker("worker").await;
    stage.submit(4).await;
    stage.ends_well(0).await;

    assert_eq!(get(worker.port, "/healthz").await.expect("an answer").0, 200);
    assert_eq!(worker.is_ready().await, Some(true));
    let metric = async |name: &str, label: &str| worker.metric(name, label).await;
    assert_eq!(metric("makegood_sagas_started_total", "order-fulfilment").await, ORDERS as f64);
    let finished = "makegood_sagas_finished_total";
    assert_eq!(metric(finished, "\"completed\"").await, completed);
    assert_eq!(metric(finished, "\"compensated\"").await, compensated);
    assert_eq!(metric("makegood_attention_changes_total", "raised").await, 1.0);
    assert!(metric("makegood_messages_published_total", "commands").await >= 4.0 * completed);
    assert_eq!(metric("makegood_connected", "orders").await, 1.0);
    // The gauges of what is stored follow within a count.
    until("gauges that have followed", SOON, async || {
        metric("makegood_sagas_active", "\"running\"").await == 1.0
            && metric("makegood_attention", "deliver").await == 1.0
    })
    .await;
    what_happens_to_sagas_is_logged(&worker.process.log());
}

/// Each transition and each call for attention names its trace, saga and order.
fn what_happens_to_sagas_is_logged(log: &str) {
    let (mut transitions, mut raised) = (0, 0);
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        match line["message"].as_str() {
            Some("transition") => transitions += 1,
            Some("attention raised") => raised += 1,
            _ => continue,
        }
        let text = |key: &str| line[key].as_str().unwrap_or_default();
        assert!(text("trace").starts_with("00-") && text("trace").len() == 55, "{line}");
        assert_eq!(text("saga").len(), 36, "{line}");
        assert!(!text("order").is_empty(), "{line}");
    }
    assert!(transitions > 9 * ORDERS / 2, "{transitions} transitions are logged");
    assert_eq!(raised, 1);
}

pub async fn two_workers_share_and_one_may_go(broker: &'static str) {
    let mut stage = stage("two_workers", broker).await;
    stage.cast(mixed("two", ORDERS, 8));
    let _participants = stage.participants();
    let mut stays = stage.ready_worker("stays").await;
    let mut goes = stage.ready_worker("goes").await;
    let leave = async {
        until("both at work", SOON, async || {
            let received = async |w: &crate::stage::Worker| {
                w.metric("makegood_messages_received_total", "").await
            };
            received(&stays).await > 20.0 && received(&goes).await > 20.0
        })
        .await;
        goes.process.signal("TERM");
        let status = goes.process.end("a drained worker", DRAIN).await;
        assert_eq!(status.code(), Some(0), "{}", goes.process.log());
    };
    tokio::join!(stage.submit(8), leave);
    stage.ends_well(0).await;
    assert!(goes.process.log().contains("worker stopped"));

    // A worker that cannot finish: somebody holds the table.
    let mut blocker = stage.connection().await;
    blocker.execute("BEGIN; LOCK TABLE saga IN ACCESS EXCLUSIVE MODE").await.expect("locked");
    let received = stays.metric("makegood_messages_received_total", "orders").await;
    stage.cast_more((0..10).map(|n| scripted("more", n, json!({}), "completed")).collect());
    stage.submit(1).await;
    until("an order in its hands", SOON, async || {
        stays.metric("makegood_messages_received_total", "orders").await > received
    })
    .await;
    stays.process.signal("TERM");
    until("the word that it stops", SOON, async || stays.process.log().contains("stopping: "))
        .await;
    assert!(stays.process.has_ended().is_none(), "it still has something to finish");
    stays.process.signal("TERM");
    let status = stays.process.end("a worker that was told twice", AT_ONCE).await;
    assert_eq!(status.code(), Some(ENDED_BY_TERM));

    // The next one gets the same orders, cannot finish either, and is told once.
    let bound = [("MAKEGOOD_DRAIN_SECONDS", "2")];
    let mut patient = stage.worker_with("patient", &bound);
    until("the same orders in its hands", SOON, async || {
        patient.metric("makegood_messages_received_total", "orders").await >= 1.0
    })
    .await;
    patient.process.signal("TERM");
    let status = patient.process.end("a worker that cannot finish", ABANDONED).await;
    assert_eq!(status.code(), Some(0), "{}", patient.process.log());
    assert!(patient.process.log().contains("not finished within the bound"));
    blocker.close().await.expect("unlocked");
    let _again = stage.ready_worker("again").await;
    stage.ends_well(0).await;
}

pub async fn a_worker_killed_again_and_again_loses_nothing(broker: &'static str) {
    let mut stage = stage("worker_kills", broker).await;
    // At Kafka each waits until the session of the one before is over.
    let (kills, until_over) = if broker == "kafka" { (KILLS / 2, 75) } else { (KILLS, 25) };
    stage.cast(mixed("kill", ORDERS, until_over));
    let _participants = stage.participants();
    let kills = async {
        let mut seen = 0;
        for _ in 0..kills {
            let mut worker = stage.worker("worker");
            seen = stage.transitions(seen + BETWEEN_KILLS).await;
            worker.process.kill();
        }
        let orders = i64::try_from(ORDERS).expect("few");
        assert!(stage.settled().await < orders, "the kills came too late to matter");
    };
    tokio::join!(stage.submit(15), kills);
    let _worker = stage.ready_worker("worker").await;
    stage.ends_well(0).await;
}

pub async fn killed_participants_remember() {
    let mut stage = stage("participants", "rabbitmq").await;
    stage.cast(mixed("part", ORDERS, REPEATED));
    let _worker = stage.ready_worker("worker").await;
    let kills = async {
        let mut seen = 0;
        for _ in 0..4 {
            let mut participants = stage.participants();
            seen = stage.transitions(seen + 3 * BETWEEN_KILLS).await;
            participants.kill();
        }
        let orders = i64::try_from(ORDERS).expect("few");
        assert!(stage.settled().await < orders, "the kills came too late to matter");
    };
    tokio::join!(stage.submit(15), kills);
    let _participants = stage.participants();
    stage.ends_well(0).await;
}

pub async fn a_frozen_worker_wakes_up_too_late(broker: &'static str) {
    let mut stage = stage("frozen_worker", broker).await;
    stage.cast(mixed("frozen", ORDERS, RELEASED));
    let _participants = stage.participants();
    let awake = stage.ready_worker("awake").await;
    let mut frozen = stage.ready_worker("frozen").await;
    let freeze = async {
        // Short ones first: it wakes up with batches in hand that may be stale by then.
        let mut seen = 0;
        for _ in 0..5 {
            seen = stage.transitions(seen + BETWEEN_KILLS).await;
            frozen.process.signal("STOP");
            seen = stage.transitions(seen + BETWEEN_KILLS).await;
            frozen.process.signal("CONT");
        }
        stage.transitions(seen + BETWEEN_KILLS).await;
        frozen.process.signal("STOP");
    };
    tokio::join!(stage.submit(15), freeze);
    // The broker gives up the frozen one, and the other one gets it all.
    let orders = i64::try_from(ORDERS).expect("few");
    let what = "all settled by the other one";
    until(what, Duration::from_secs(120), async || stage.settled().await == orders).await;
    #[cfg(feature = "kafka")]
    if broker == "kafka" {
        assert_eq!(members(&stage.broker).await, Some(1), "it was put out of its group");
    }
    frozen.process.signal("CONT");
    frozen.becomes_ready().await;
    #[cfg(feature = "kafka")]
    if broker == "kafka" {
        until("two members", SOON, async || members(&stage.broker).await == Some(2)).await;
    }
    // That includes its commits: one of a time that is over, if it was taken, would show as
    // messages that are dealt with and still wait.
    stage.ends_well(0).await;
    assert!(frozen.process.has_ended().is_none(), "it goes on working");
    assert_eq!(awake.is_ready().await, Some(true));
}
