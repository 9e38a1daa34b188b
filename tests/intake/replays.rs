//! Dead letters that are replayed: what a rehearsal foretells is what happens, each goes through
//! once, and a campaign stops, waits and goes on as it should.

use std::collections::BTreeMap;

use makegood::broker::Channel;
use makegood::operate::letters::{self, By, Change, LetterError, Rehearsed};
use makegood::saga::{Phase, Status, Time};
use makegood::store::{Claim, Closed, DeadLetter, LetterFilter, Plan, Store};
use serde_json::json;
use uuid::Uuid;

use crate::world::{MAX_BYTES, Raw, World, order, reply, until};

const ANA: By<'static> = By { actor: "ana", reason: "the WMS is back" };

fn plan(filter: LetterFilter) -> Plan {
    Plan { filter, ramp: vec![1, 5], rate: 1_000, stop_percent: 10, stop_from: 5 }
}

/// Buries a message as if it had come when nobody could take it in.
async fn buried(world: &World, number: u128, source: &str, raw: Raw) -> Uuid {
    bury(&*world.store, number, source, raw).await
}

async fn bury(store: &dyn Store, number: u128, source: &str, raw: Raw) -> Uuid {
    let letter = DeadLetter {
        id: Uuid::from_u128(number),
        source: source.to_owned(),
        reason: "store-rejected".to_owned(),
        error: "a trouble of that day".to_owned(),
        body: raw.body,
        headers: serde_json::to_string(&raw.headers).expect("texts"),
        tenant: None,
        order_id: None,
        first_seen: Time(i64::try_from(number).expect("small")),
        last_seen: Time(0),
        attempts: 1,
        kind: None,
        participant: None,
        corrects: None,
        closed: None,
    };
    let id = letter.id;
    store.bury(&[letter]).await.expect("buried");
    id
}

fn created(order_id: &str) -> Raw {
    Raw::event(Channel::Orders, "order.created.v1", "/shop", &order(order_id))
}

fn about(channel: Channel, kind: &str, order_id: &str) -> Raw {
    Raw::event(channel, kind, "/x", &json!({ "tenant_id": "acme", "order_id": order_id }))
}

async fn rehearsed(world: &World, filter: &LetterFilter) -> Rehearsed {
    letters::rehearse(&*world.store, filter, MAX_BYTES, |_| ()).await.expect("rehearsed")
}

/// Replays and waits until the campaign is no longer running; what came of it.
async fn replayed(world: &World, plan: Plan) -> letters::CampaignView {
    let started = letters::start(&*world.store, plan, None, ANA).await.expect("started");
    ended(world, started.campaign).await
}

async fn ended(world: &World, campaign: Uuid) -> letters::CampaignView {
    until("the campaign comes to its end", async || {
        let (view, _) = letters::campaign(&*world.store, campaign).await.expect("read");
        (view.state != "running" && view.under_way == 0).then_some(view)
    })
    .await
}

async fn letter(world: &World, id: Uuid) -> DeadLetter {
    let filter = LetterFilter { also_closed: true, ..LetterFilter::ids(&[id]) };
    world.store.letters().page(&filter, None, 1).await.expect("read").remove(0)
}

fn texts(outcomes: &BTreeMap<&'static str, u64>) -> BTreeMap<String, u64> {
    outcomes.iter().map(|(outcome, count)| ((*outcome).to_owned(), *count)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_rehearsal_foretells_is_what_happens() {
    let world = World::new().await;
    for order_id in ["o-1", "o-2", "o-3", "o-4"] {
        world.accepts(created(order_id)).await;
    }
    let mut commands = Vec::new();
    for order_id in ["o-1", "o-2", "o-3", "o-4"] {
        commands.push(world.command(order_id, "inventory.reserve").await);
    }
    let said = |of: usize, outcome: &str| {
        let data = json!({ "command_id": commands[of].id, "outcome": outcome });
        reply("inventory", commands[of].saga, &data)
    };
    // Two answers to the same command: the second is a repetition of the first.
    buried(&world, 1, "replies", said(0, "success")).await;
    buried(&world, 2, "replies", said(0, "success")).await;
    buried(&world, 3, "replies", said(1, "rejected")).await;
    buried(&world, 4, "orders", about(Channel::Orders, "order.cancel-requested.v1", "o-3")).await;
    buried(&world, 5, "orders", created("o-5")).await;
    buried(&world, 6, "facts", about(Channel::Facts, "shipment.delivered.v1", "o-4")).await;
    buried(&world, 7, "facts", about(Channel::Facts, "shipment.painted.v1", "o-4")).await;
    let waits = about(Channel::Facts, "shipment.in-transit.v1", "o-9");
    let waiting = buried(&world, 8, "facts", waits).await;
    let broken = buried(&world, 9, "facts", Raw::bytes(Channel::Facts, b"{")).await;
    let wrong = json!({ "command_id": commands[3].id, "outcome": "success" });
    buried(&world, 10, "replies", reply("tms", commands[3].saga, &wrong)).await;
    let poison = created("o-6").header("x-first-death-queue", "makegood.orders");
    buried(&world, 11, "dead", poison).await;
    let command = Raw::event(Channel::Orders, "inventory.reserve.v1", "/makegood", &json!({}));
    let command = command.header("x-first-death-queue", "inventory.commands");
    buried(&world, 12, "dead", command).await;
    let lost = buried(&world, 13, "dead", created("o-7")).await;
    // An order that comes before its cancel: each on what the one before would have made.
    buried(&world, 14, "orders", created("o-8")).await;
    buried(&world, 15, "orders", about(Channel::Orders, "order.cancel-requested.v1", "o-8")).await;
    let given_up = about(Channel::Facts, "shipment.in-transit.v1", "o-10");
    let given_up = given_up.header("x-first-death-queue", "makegood.facts");
    buried(&world, 16, "dead", given_up).await;

    let all = LetterFilter::default();
    let sagas = world.store.counts().await.unwrap().sagas;
    let foretold = rehearsed(&world, &all).await;
    let expected = [
        ("advanced", 2),
        ("compensating", 3),
        ("duplicate", 1),
        ("failed", 3),
        ("irrelevant", 1),
        ("parked", 2),
        ("published", 1),
        ("started", 3),
    ];
    assert_eq!(foretold.outcomes, BTreeMap::from(expected), "{foretold:?}");
    assert_eq!(rehearsed(&world, &all).await.outcomes, foretold.outcomes, "nothing was written");
    assert_eq!(world.store.counts().await.unwrap().sagas, sagas);

    let view = replayed(&world, Plan { stop_percent: 100, ..plan(all.clone()) }).await;
    assert_eq!((view.state, view.settled), ("done", 16));
    assert_eq!(view.outcomes, texts(&foretold.outcomes));
    let (_, failures) = letters::campaign(&*world.store, view.campaign).await.unwrap();
    let failed: Vec<(Uuid, &str)> =
        failures.iter().map(|failure| (failure.letter, failure.reason.as_str())).collect();
    for again in &foretold.failures {
        assert!(failed.contains(&(again.such_as, again.reason.as_str())), "{again:?}: {failed:?}");
    }
    assert_eq!(world.saga("o-1").await.saga.steps[1].phase, Phase::Done);
    assert_ne!(world.saga("o-2").await.saga.status, Status::Running);
    assert_eq!(world.saga("o-5").await.saga.status, Status::Running);
    assert_eq!(world.saga("o-6").await.saga.status, Status::Running);
    world.command("o-6", "inventory.reserve").await;
    // What failed is open, with one more attempt; what went through is closed, and kept.
    assert_eq!(letter(&world, broken).await.attempts, 2);
    assert_eq!(letter(&world, broken).await.reason, "unparseable");
    assert_eq!(letter(&world, lost).await.attempts, 1, "it went nowhere");
    assert!(
        letter(&world, Uuid::from_u128(1))
            .await
            .closed
            .is_some_and(|(how, _)| how == Closed::Replayed)
    );
    assert_eq!(world.store.letters().count(&all).await.unwrap(), 5);
    // What waits for its order is taken in with it.
    assert_eq!(letter(&world, waiting).await.reason, DeadLetter::UNKNOWN_ORDER);
    world.accepts(created("o-9")).await;
    assert_eq!(world.saga("o-9").await.saga.facts.len(), 1);
    world.accepts(created("o-10")).await;
    assert_eq!(world.saga("o-10").await.saga.facts.len(), 1, "also what the broker gave up");
    assert_eq!(world.store.letters().count(&all).await.unwrap(), 3);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_goes_to_its_participant_again() {
    let world = World::new().await;
    world.accepts(created("o-1")).await;
    let first = world.command("o-1", "inventory.reserve").await;
    let event = json!({ "order_id": "o-1", "command_id": first.id, "saga_id": first.saga });
    let command = Raw::event(Channel::Orders, "inventory.reserve.v1", "/makegood", &event);
    let command = command.header("x-first-death-queue", "inventory.commands");
    let id = buried(&world, 1, "dead", command).await;
    let view = replayed(&world, plan(LetterFilter::ids(&[id]))).await;
    assert_eq!(view.outcomes, BTreeMap::from([("published".to_owned(), 1)]));
    assert_eq!(world.command("o-1", "inventory.reserve").await.id, first.id);
    // Where nobody has a queue it cannot go, and stays a dead letter.
    let event = json!({ "order_id": "o-1" });
    let command = Raw::event(Channel::Orders, "nobody.reserve.v1", "/makegood", &event);
    let command = command.header("x-first-death-queue", "nobody.commands");
    let id = buried(&world, 2, "dead", command).await;
    let view = replayed(&world, plan(LetterFilter::ids(&[id]))).await;
    assert_eq!(view.outcomes, BTreeMap::from([("failed".to_owned(), 1)]));
    let (_, failures) = letters::campaign(&*world.store, view.campaign).await.unwrap();
    assert_eq!((failures[0].letter, failures[0].reason.as_str()), (id, "not-published"));
    assert!(letter(&world, id).await.closed.is_none());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_campaign_stops_when_too_much_fails_and_goes_on_when_told_to() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for number in 1..=40 {
        ids.push(buried(&world, number, "orders", Raw::bytes(Channel::Orders, b"{")).await);
    }
    let view = replayed(&world, plan(LetterFilter::default())).await;
    assert_eq!((view.state, view.settled, view.waiting), ("stopped", 6, 34));
    assert_eq!(view.why.as_deref(), Some("6 of the latest 6 failed again"));
    assert_eq!(view.outcomes, BTreeMap::from([("failed".to_owned(), 6)]));
    // Its letters are its own until it is over.
    let held =
        letters::start(&*world.store, plan(LetterFilter::ids(&ids[20..21])), None, ANA).await;
    assert!(matches!(held, Err(LetterError::Replaying { .. })), "{held:?}");
    let resumed = letters::resume(&*world.store, view.campaign, false, ANA).await.unwrap();
    assert_eq!((resumed.state, resumed.why), ("running", None));
    let again = ended(&world, view.campaign).await;
    assert_eq!((again.state, again.settled), ("stopped", 12), "from the foot of its ramp");
    let twice = letters::pause(&*world.store, view.campaign, false, ANA).await;
    assert!(matches!(twice, Err(LetterError::CampaignIs { state: "stopped", .. })), "{twice:?}");
    letters::cancel(&*world.store, view.campaign, false, ANA).await.unwrap();
    let history = world.store.letters().deeds(view.campaign).await.unwrap();
    let verbs: Vec<&str> = history.iter().map(|deed| deed.verb.as_str()).collect();
    assert_eq!(verbs, ["replay", "resume", "cancel"]);
    let free = world.store.letters().outstanding(&ids).await.unwrap();
    assert!(free.is_empty(), "{free:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_campaign_lets_nothing_go() {
    let world = World::new().await;
    for number in 1..=30 {
        buried(&world, number, "orders", created(&format!("o-{number}"))).await;
    }
    let slow = Plan { rate: 10, ..plan(LetterFilter::default()) };
    let started = letters::start(&*world.store, slow, None, ANA).await.unwrap();
    until("the first letters are through", async || {
        let (view, _) = letters::campaign(&*world.store, started.campaign).await.unwrap();
        (view.settled >= 6).then_some(())
    })
    .await;
    let dry = letters::pause(&*world.store, started.campaign, true, ANA).await.unwrap();
    let (view, _) = letters::campaign(&*world.store, started.campaign).await.unwrap();
    assert_eq!((dry.state, view.state), ("paused", "running"));
    letters::pause(&*world.store, started.campaign, false, ANA).await.unwrap();
    let paused = ended(&world, started.campaign).await;
    assert!(paused.waiting > 0, "{paused:?}");
    world.a_good_order_passes("o-live").await;
    let (still, _) = letters::campaign(&*world.store, started.campaign).await.unwrap();
    assert_eq!((still.state, still.waiting), ("paused", paused.waiting));
    letters::resume(&*world.store, started.campaign, false, ANA).await.unwrap();
    let done = ended(&world, started.campaign).await;
    assert_eq!(done.outcomes, BTreeMap::from([("started".to_owned(), 30)]));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrected_copy_goes_through_and_both_are_kept() {
    let world = World::new().await;
    let mut bad = order("o-1");
    bad["loan"]["amount_minor"] = json!(-1);
    let raw = Raw::event(Channel::Orders, "order.created.v1", "/shop", &bad);
    world.buries("invalid-order", raw.clone()).await;
    let original = world.letters().await.remove(0);
    let edit = async |change: &Change, dry_run| {
        let how = (dry_run, false, MAX_BYTES);
        letters::correct(&*world.store, original.id, change, how, ANA).await
    };
    let body = |text: String| Change { body: Some(text.into_bytes()), headers: Vec::new() };
    let text = String::from_utf8(raw.body.clone()).unwrap();
    let still = edit(&body(text.replace(":-1", ":-2")), false).await;
    assert!(
        matches!(&still, Err(LetterError::StillDead { reason, .. }) if reason == "invalid-order"),
        "{still:?}"
    );
    let same = edit(&body(text.clone()), false).await;
    assert!(matches!(same, Err(LetterError::Unchanged)), "{same:?}");
    let card = text.replace(":-1", ":5000");
    let card = card.replace("\"loan_id\"", "\"card_number\":\"4111111111111111\",\"loan_id\"");
    let card = edit(&body(card), false).await;
    assert!(matches!(card, Err(LetterError::CardData)), "{card:?}");
    let good = body(text.replace(":-1", ":5000"));
    let dry = edit(&good, true).await.unwrap();
    assert_eq!((dry.copy, dry.outcome), (None, "started"));
    let corrected = edit(&good, false).await.unwrap();
    let copy = corrected.copy.expect("written");
    let view = replayed(&world, plan(LetterFilter::ids(&[copy]))).await;
    assert_eq!(view.outcomes, BTreeMap::from([("started".to_owned(), 1)]));
    assert_eq!(world.saga("o-1").await.saga.status, Status::Running);
    let (before, after) = (letter(&world, original.id).await, letter(&world, copy).await);
    assert_eq!(before.closed.unwrap().0, Closed::Corrected);
    assert_eq!((after.closed.unwrap().0, after.corrects), (Closed::Replayed, Some(original.id)));
    assert_eq!(before.body, raw.body);
    let shown = letters::show(&*world.store, original.id).await.unwrap();
    assert_eq!((shown.history[0].what.as_str(), shown.history[0].copy), ("edit", Some(copy)));
    let shown = letters::show(&*world.store, copy).await.unwrap();
    assert_eq!(shown.history.len(), 1);
    assert_eq!(shown.history[0].outcome.as_deref(), Some("started"));
    let closed = edit(&good, false).await;
    assert!(matches!(closed, Err(LetterError::Closed { how: "corrected", .. })), "{closed:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_that_ends_its_worker_is_not_tried_for_ever() {
    let key = Uuid::from_u128(0xc1);
    let both = plan(LetterFilter::default());
    let before = async |store: &dyn Store| {
        bury(store, 1, "orders", created("o-1")).await;
        letters::start(store, both.clone(), Some(key), ANA).await.unwrap();
        // Workers take it, and are no more: their claims run out at once.
        let gone = |number: u128| Claim { by: Uuid::from_u128(number), until: Time(0) };
        let campaign = store.letters().campaign(key).await.unwrap().unwrap();
        store.letters().release(&campaign, 1, gone(1)).await.unwrap().expect("released");
        for number in 2..=3 {
            assert_eq!(store.letters().reclaim(Time(0), gone(number), 9).await.unwrap().len(), 1);
        }
    };
    let world = World::after(before).await;
    let view = ended(&world, key).await;
    assert_eq!(view.outcomes, BTreeMap::from([("failed".to_owned(), 1)]));
    let (_, failures) = letters::campaign(&*world.store, key).await.unwrap();
    assert_eq!(failures[0].reason, "replay-interrupted");
    assert_eq!(world.store.letters().count(&LetterFilter::default()).await.unwrap(), 1);
    // The same key again is the same campaign.
    let again = letters::start(&*world.store, both, Some(key), ANA).await.unwrap();
    assert_eq!((again.campaign, again.letters), (key, 1));
    world.stop().await;
}
