//! What each kind of service comes to.

use std::collections::BTreeMap;
use std::time::Duration;

use makegood::broker::{Channel, Event, Outgoing, Topology};
use makegood::fixture::Broken;
use makegood::fixture::kit::{Act, Heard, RULES, Record, Reply, Subject, judge};
use makegood::fixture::ledger::{self, Entry, Way};
use makegood::saga::Millis;
use serde_json::{Value, json};

use crate::world::{How, SHORT, World, expect, skipped};

const RESTART: &str = "remembers-over-a-restart";
/// Longer than a slow service may take, and shorter than it is waited for.
const LATE: Millis = Millis(1_200);
/// Between two replies of other people.
const BUSY: Duration = Duration::from_millis(2);

/// Breaks the service like this, and expects that just this rule finds it.
async fn finds(world: &World, broken: Broken, rule: &str) {
    let _service = world.service(Some(broken)).await;
    expect(&world.check("wms", How::default()).await, &[rule]);
}

pub async fn the_simulated_participants_pass(world: World) {
    let service = world.service(None).await;
    for participant in ["wms", "inventory", "tms"] {
        let how = How { restart: Some(service.restart()), ..How::default() };
        let report = world.check(participant, how).await;
        expect(&report, &[]);
        assert!(skipped(&report).is_empty(), "{}", report.text(false));
        assert_eq!(report.counts()[0], RULES.iter().map(|group| group.len()).sum::<usize>());
        assert!(report.checked[0].record.left_behind.is_empty());
    }
    // One obligation, and one command that nothing undoes.
    let report = world.check("loan", How::default()).await;
    expect(&report, &[]);
    let names: Vec<&str> = report.checked.iter().map(|checked| checked.subject.name()).collect();
    assert_eq!(names, ["loan.reverse", "loan.activate"]);
    assert!(skipped(&report).contains("undoes-what-was-done"));
    assert!(report.checked.iter().all(|checked| !checked.record.left_behind.is_empty()));
}

pub async fn commands_without_a_definition_are_checked(world: World) {
    let _service = world.service(None).await;
    let subject = Subject::alone("wms", "wms.pick", Some("wms.cancel-pick"));
    let report = world.check_these("wms", vec![subject], How::default()).await;
    expect(&report, &[]);
    let probes = ["probe-finds-what-was-done", "probe-finds-nothing"];
    assert_eq!(skipped(&report), probes.into_iter().chain([RESTART]).collect());
}

pub async fn no_dedupe_is_found(world: World) {
    finds(&world, Broken::NoDedupe, "repeats-its-answer").await;
}

pub async fn forgetting_over_a_restart_is_found(world: World) {
    let service = world.service(Some(Broken::Forgetful)).await;
    let how = How { restart: Some(service.restart()), ..How::default() };
    expect(&world.check("wms", how).await, &[RESTART]);
    // Nobody who does not restart it can see that, and is told so.
    let report = world.check("wms", How::default()).await;
    expect(&report, &[]);
    assert_eq!(skipped(&report), [RESTART].into());
}

pub async fn no_tombstone_is_found(world: World) {
    finds(&world, Broken::NoTombstone, "refuses-the-late-command").await;
}

pub async fn slowness_is_found(world: World) {
    let _service = world.service(Some(Broken::Slow { by: LATE })).await;
    let how = How { timeout: SHORT, ..How::default() };
    expect(&world.check("wms", how).await, &["answers-in-time"]);
}

pub async fn wrong_command_ids_are_found(world: World) {
    finds(&world, Broken::WrongIds, "names-the-command").await;
}

pub async fn another_source_is_found(world: World) {
    finds(&world, Broken::WrongSource, "says-who-answers").await;
}

pub async fn answers_without_saga_and_order_are_found(world: World) {
    finds(&world, Broken::Unaddressed, "names-saga-and-order").await;
}

pub async fn another_type_is_found(world: World) {
    finds(&world, Broken::WrongType, "has-its-type").await;
}

pub async fn an_unknown_outcome_is_found(world: World) {
    finds(&world, Broken::OddOutcome, "known-outcome").await;
}

pub async fn answers_in_the_wrong_place_are_found(world: World) {
    finds(&world, Broken::FixedReplies, "answers-where-asked").await;
}

pub async fn answers_in_the_shared_place_are_taken_when_asked_for(world: World) {
    let _service = world.service(Some(Broken::FixedReplies)).await;
    let how = How { shared_replies: true, ..How::default() };
    let report = world.check("wms", how).await;
    expect(&report, &[]);
    assert_eq!(skipped(&report), ["answers-where-asked", RESTART].into());
}

pub async fn strictness_is_found(world: World) {
    finds(&world, Broken::Strict, "takes-unknown-fields").await;
}

pub async fn a_service_that_stops_is_found(world: World) {
    let _service = world.service(Some(Broken::Poisoned)).await;
    let how = How { timeout: SHORT, ..How::default() };
    expect(&world.check("wms", how).await, &["survives-malformed-commands"]);
}

pub async fn undoing_nothing_is_found(world: World) {
    finds(&world, Broken::EagerUndo, "finds-nothing-to-undo").await;
}

pub async fn forgetting_what_was_undone_is_found(world: World) {
    finds(&world, Broken::ForgetsUndo, "repeats-its-undoing").await;
}

pub async fn deduping_by_step_is_found(world: World) {
    finds(&world, Broken::DedupesByStep, "new-id-is-new-work").await;
}

pub async fn a_lying_probe_is_found(world: World) {
    finds(&world, Broken::LyingProbe, "probe-finds-nothing").await;
}

pub async fn a_service_that_is_not_there_is_found(world: World) {
    let how = How { timeout: SHORT, ..How::default() };
    let report = world.check("wms", how).await;
    expect(&report, &["answers-in-time"]);
    assert_eq!(report.counts()[0], 0, "nothing is kept by who says nothing");
    assert_eq!(report.checked[0].record.left_behind.len(), 1, "it may still be done one day");
}

pub async fn what_was_made_to_happen_is_undone(world: World) {
    let service = world.service(None).await;
    expect(&world.check("inventory", How::default()).await, &[]);
    let mut balance: BTreeMap<String, i64> = BTreeMap::new();
    let mut commands = 0;
    for entry in ledger::read(&service.ledger("inventory")).expect("a ledger") {
        let Entry::Command(entry) = entry.expect("an entry") else { continue };
        assert!(entry.order_id.starts_with("check-"), "{}", entry.order_id);
        commands += i32::from(entry.direction == Way::Forward && entry.applied);
        if entry.applied {
            let way = if entry.direction == Way::Forward { 1 } else { -1 };
            *balance.entry(entry.order_id).or_default() += way;
        }
    }
    assert!(commands >= 6, "{commands} commands were done");
    assert!(balance.values().all(|left| *left == 0), "{balance:?}");
}

/// Other people's replies pass by, for sagas of theirs.
pub async fn a_busy_broker_is_not_confused_with_it(world: World) {
    let _service = world.service(None).await;
    let broker = world.broker();
    let others = tokio::spawn(async move {
        let mut pace = tokio::time::interval(BUSY);
        loop {
            pace.tick().await;
            let id = uuid::Uuid::new_v4().to_string();
            let data = serde_json::json!({ "command_id": id, "outcome": "rejected", "code": "NO" });
            let mut event = Event::new(&*id, "/participants/wms", "wms.pick.replied.v1", &data);
            event.sagaid = Some(id.clone());
            event.subject = Some(id);
            let answers = broker.publish(&[Outgoing { channel: Channel::Replies, event }]).await;
            answers.into_iter().for_each(|answer| answer.expect("a queue takes it"));
        }
    });
    let report = world.check("wms", How::default()).await;
    others.abort();
    expect(&report, &[]);
}

/// The rules that are broken when one thing in a good record is otherwise.
fn broken_when(good: &Record, change: impl FnOnce(&mut Record)) -> Vec<&'static str> {
    let mut record = good.clone();
    change(&mut record);
    let findings = judge(&record).into_iter();
    findings.filter(|finding| finding.is_broken()).map(|finding| finding.rule.name).collect()
}

/// The reply of the first exchange of this kind.
fn reply(record: &mut Record, act: Act) -> &mut Reply {
    let exchange = record.exchanges.iter_mut().find(|exchange| exchange.act == act);
    exchange.expect("it was played").heard[0].reply.as_mut().expect("it can be read")
}

pub async fn rules_that_no_participant_breaks_can_fail(world: World) {
    let _service = world.service(None).await;
    let report = world.check("wms", How::default()).await;
    let good = &report.checked[0].record;
    assert_eq!(broken_when(good, |_| ()), [""; 0]);
    let long = format!("\"{}\"", "x".repeat(5_000));
    let found = broken_when(good, |record| reply(record, Act::Left).data = Some(long));
    assert_eq!(found, ["is-readable"]);
    let found = broken_when(good, |record| reply(record, Act::Left).code = Some("a\nb".into()));
    assert_eq!(found, ["is-readable"]);
    let found = broken_when(good, |record| {
        let left = record.exchanges.iter_mut().find(|exchange| exchange.act == Act::Left);
        left.expect("it was played").heard[0].reply = Err("unparseable".to_owned());
    });
    assert_eq!(found, ["is-readable"]);
    let found = broken_when(good, |record| {
        let stray = record.exchanges[0].heard[0].clone();
        record.strays.push(Heard { reply: Err("unparseable".to_owned()), ..stray });
    });
    assert_eq!(found, ["is-readable"]);
    let found = broken_when(good, |record| {
        let other = reply(record, Act::Right).command_id;
        reply(record, Act::Left).command_id = other;
    });
    assert_eq!(found, ["keeps-orders-apart"]);
    let found = broken_when(good, |record| {
        record.exchanges.truncate(1);
        reply(record, Act::First).outcome = Some("rejected".to_owned());
    });
    assert_eq!(found, ["does-what-it-can"]);
    let found = broken_when(good, |record| {
        reply(record, Act::Undo).outcome = Some("refused".to_owned());
        record
            .exchanges
            .retain(|exchange| !matches!(exchange.act, Act::UndoAgain | Act::Anew | Act::UndoAnew));
    });
    assert_eq!(found, ["undoes-what-was-done"]);
    let found = broken_when(good, |record| {
        reply(record, Act::ProbeDone).state = Some("not_applied".to_owned());
    });
    assert_eq!(found, ["probe-finds-what-was-done"]);
    let found = broken_when(good, |record| {
        let repeat = record.exchanges.iter_mut().find(|exchange| exchange.act == Act::Repeat);
        repeat.expect("it was played").heard.clear();
    });
    assert_eq!(found, ["repeats-its-answer"], "who knows a command may not keep silent");
}

/// A service that has another trouble at each first attempt.
pub async fn a_command_that_is_put_off_is_sent_again(world: World) {
    let broker = world.broker();
    let topology = Topology { participants: vec!["wms".to_owned()], ..Topology::default() };
    broker.declare(&topology).await.expect("declared");
    let service = tokio::spawn(async move {
        let channel = Channel::Commands("wms".to_owned());
        let mut commands = broker.consume(&channel, 10).await.expect("a consumer");
        while let Ok(batch) = commands.receive(10).await {
            for incoming in batch {
                let asked: Event = serde_json::from_slice(&incoming.body).expect("an event");
                let data: Value = serde_json::from_str(asked.data()).expect("JSON");
                let outcome = if data["attempt"] == 1 { "retry" } else { "success" };
                let data = json!({ "command_id": data["command_id"], "outcome": outcome });
                let id = uuid::Uuid::new_v4().to_string();
                let event = Event::new(id, "/participants/wms", "wms.pick.replied.v1", &data);
                let channel = Channel::ReplyTo(incoming.headers["reply-to"].clone());
                broker.publish(&[Outgoing { channel, event }]).await;
                incoming.ticket.done();
            }
        }
    });
    let subject = Subject::alone("wms", "wms.pick", None);
    let report = world.check_these("wms", vec![subject], How::default()).await;
    service.abort();
    let first = report.checked[0].record.of(Act::First).expect("it was played");
    assert_eq!((first.outcome(), first.letter.attempt), (Some("success"), 2));
    assert!(!report.broken().contains(&"does-what-it-can"), "{}", report.text(true));
}
