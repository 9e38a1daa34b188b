//! What becomes of messages that come in: the real worker in this process, with the memory
//! broker and a store in a file. Bad messages become dead letters and hold up nobody.

#[path = "intake/forgetful.rs"]
mod forgetful;
#[path = "intake/inlet.rs"]
mod inlet;
#[path = "intake/many.rs"]
mod many;
#[path = "intake/replays.rs"]
mod replays;
#[path = "intake/trouble.rs"]
mod trouble;
#[path = "intake/world.rs"]
mod world;

use makegood::broker::Channel;
use makegood::operate::{Ask, By, Mode, perform};
use makegood::saga::{CancelState, Phase, Status, Time};
use makegood::store::Store;
use serde_json::{Value, json};
use uuid::Uuid;

use world::{MAX_BYTES, Raw, World, order, reply};

fn order_with(order_id: &str, change: impl FnOnce(&mut Value)) -> Raw {
    let mut data = order(order_id);
    change(&mut data);
    Raw::event(Channel::Orders, "order.created.v1", "/shop", &data)
}

fn padded(order_id: &str, bytes: usize) -> Raw {
    let mut raw = order_with(order_id, |data| data["padding"] = json!(""));
    let padding = "x".repeat(bytes - raw.body.len());
    raw = order_with(order_id, |data| data["padding"] = json!(padding));
    assert_eq!(raw.body.len(), bytes);
    raw
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_order_is_a_dead_letter_and_the_queue_moves_on() {
    let world = World::new().await;
    world.accepts(order_with("o-known", |_| {})).await;
    let raw = |body: &[u8]| Raw::bytes(Channel::Orders, body);
    let deep = format!(r#"{{"data":{}{}}}"#, "[".repeat(100), "]".repeat(100));
    let cases = [
        ("unparseable", raw(b"{\"half\":")),
        ("unparseable", raw(&[0xff, 0xfe, 0x00, 0xc3])),
        ("unparseable", raw(deep.as_bytes())),
        ("oversized", padded("o-large", MAX_BYTES + 1)),
        ("wrong-schema", raw(br#"{"specversion":"1.0","id":"1","source":"/shop","data":{}}"#)),
        ("unknown-saga", Raw::event(Channel::Orders, "order.admired.v1", "/shop", &order("o-1"))),
        ("invalid-order", order_with("o-2", |o| o["loan"]["amount_minor"] = json!(-1))),
        ("invalid-order", order_with("o-3", |o| o["lines"][0]["unit_price_minor"] = json!(-5))),
        ("invalid-order", order_with("o-4", |o| o["lines"] = json!([]))),
        ("card-data", order_with("o-5", |o| o["card_number"] = json!("4111111111111111"))),
        ("order-differs", order_with("o-known", |o| o["currency"] = json!("USD"))),
    ];
    for (number, (reason, bad)) in cases.into_iter().enumerate() {
        world.buries(reason, bad).await;
        assert_eq!(world.letters().await.len(), number + 1);
        world.a_good_order_passes(&format!("good-{number}")).await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_reply_is_a_dead_letter_and_its_saga_waits_on() {
    let world = World::new().await;
    world.accepts(order_with("o-1", |_| {})).await;
    let command = world.command("o-1", "inventory.reserve").await;
    let said = |change: &dyn Fn(&mut Value)| {
        let mut data = json!({ "command_id": command.id, "outcome": "success" });
        change(&mut data);
        reply("inventory", command.saga, &data)
    };
    let large = "x".repeat(4 * 1024);
    let cases = [
        ("wrong-schema", said(&|data| drop(data.as_object_mut().unwrap().remove("command_id")))),
        ("wrong-schema", said(&|data| data["outcome"] = json!("perhaps"))),
        ("wrong-schema", said(&|data| drop(data.as_object_mut().unwrap().remove("outcome")))),
        ("wrong-schema", said(&|data| data["code"] = json!("x".repeat(129)))),
        ("wrong-schema", said(&|data| data["command_id"] = json!("not an id"))),
        ("oversized", said(&|data| data["data"] = json!({ "label": large }))),
        ("unknown-command", said(&|data| data["command_id"] = json!(Uuid::from_u128(7)))),
        ("wrong-participant", {
            reply("tms", command.saga, &json!({ "command_id": command.id, "outcome": "success" }))
        }),
        ("wrong-participant", {
            reply("tms", command.saga, &json!({ "command_id": command.id, "state": "applied" }))
        }),
        ("unknown-saga", {
            let data = json!({ "command_id": command.id, "outcome": "success" });
            reply("inventory", Uuid::from_u128(8), &data)
        }),
    ];
    for (number, (reason, bad)) in cases.into_iter().enumerate() {
        world.buries(reason, bad).await;
        assert_eq!(world.letters().await.len(), number + 1);
        world.a_good_order_passes(&format!("good-{number}")).await;
    }
    let waiting = world.saga("o-1").await;
    assert!(matches!(waiting.saga.steps[1].phase, Phase::Sent(_)), "{waiting:?}");
    // The right answer is still taken.
    world.accepts(said(&|_| {})).await;
    assert_eq!(world.saga("o-1").await.saga.steps[1].phase, Phase::Done);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_message_that_may_come_is_taken_in() {
    let world = World::new().await;
    world.accepts(padded("o-large", MAX_BYTES)).await;
    assert_eq!(world.saga("o-large").await.saga.status, Status::Running);
    assert_eq!(world.letters().await, []);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_order_changes_nothing() {
    let world = World::new().await;
    world.accepts(order_with("o-1", |_| {})).await;
    let before = world.saga("o-1").await;
    world.accepts(order_with("o-1", |_| {})).await;
    // The same content, written otherwise.
    let mut spaced = order_with("o-1", |_| {});
    spaced.body = String::from_utf8(spaced.body).unwrap().replace("\":", "\" : ").into_bytes();
    world.accepts(spaced).await;
    assert_eq!(world.saga("o-1").await, before);
    assert_eq!(world.letters().await, []);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_bad_message_again_counts_an_attempt() {
    let world = World::new().await;
    let bad = || Raw::bytes(Channel::Replies, b"nonsense").header("message-id", "m-1");
    world.accepts(bad()).await;
    world.accepts(bad()).await;
    let letters = world.letters().await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0].attempts, 2);
    // Another message with the same bytes is another letter.
    world.accepts(Raw::bytes(Channel::Replies, b"nonsense").header("message-id", "m-2")).await;
    assert_eq!(world.letters().await.len(), 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fact_that_nobody_waits_for_is_acknowledged_and_forgotten() {
    let world = World::new().await;
    world.accepts(order_with("o-1", |_| {})).await;
    let before = world.saga("o-1").await;
    let about = json!({ "order_id": "o-1", "tenant_id": "acme" });
    world.accepts(Raw::event(Channel::Facts, "shipment.admired.v1", "/courier", &about)).await;
    assert_eq!(world.saga("o-1").await, before);
    assert_eq!(world.letters().await, []);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fact_of_another_tenant_than_its_envelope_says_is_refused() {
    let world = World::new().await;
    let about = json!({ "order_id": "o-1", "tenant_id": "acme" });
    let mut raw = Raw::event(Channel::Facts, "shipment.delivered.v1", "/courier", &about);
    let mut event: Value = serde_json::from_slice(&raw.body).unwrap();
    event["tenantid"] = json!("other");
    raw.body = event.to_string().into_bytes();
    world.buries("wrong-schema", raw).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_cancel_leaves_a_coarse_due_time() {
    let world = World::new().await;
    world.accepts(order_with("o-1", |_| {})).await;
    let (actor, reason) = ("somebody".to_owned(), "a test".to_owned());
    let by = By { actor, reason, key: Uuid::new_v4(), approver: None };
    let order = ("o-1", None);
    let deeds = perform(&*world.store, "/test", order, &Ask::Cancel {}, &by, Mode::Do).await;
    assert_eq!(deeds.expect("cancelled").len(), 1);
    let Time(due) = world.saga("o-1").await.due.expect("a compensation is under way");
    assert_eq!(due % 1_000, 0, "whole seconds");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_whose_message_comes_again_does_not_stay() {
    let world = World::new().await;
    let about = json!({ "order_id": "o-1", "tenant_id": "acme" });
    let mut scan = Raw::event(Channel::Facts, "shipment.in-transit.v1", "/courier", &about);
    world.buries("unknown-order", scan.clone()).await;
    let parked = world.letters().await;
    world.accepts(order_with("o-1", |_| {})).await;
    // As if the worker that parked it had died before it acknowledged it.
    world.store.bury(&parked).await.unwrap();
    scan.redelivered = true;
    world.accepts(scan).await;
    assert_eq!(world.letters().await, []);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_before_its_order_is_parked_and_taken_in_with_it() {
    let world = World::new().await;
    let about = |order_id: &str| json!({ "order_id": order_id, "tenant_id": "acme" });
    let cancel = "order.cancel-requested.v1";
    let early = [
        Raw::event(Channel::Orders, cancel, "/shop", &about("o-regretted")),
        Raw::event(Channel::Facts, "shipment.in-transit.v1", "/courier", &about("o-scanned")),
    ];
    for early in early {
        world.buries("unknown-order", early).await;
    }
    world.a_good_order_passes("o-other").await;
    assert_eq!(world.letters().await.len(), 2, "another order does not touch them");

    world.accepts(order_with("o-regretted", |_| {})).await;
    let regretted = world.saga("o-regretted").await.saga;
    assert_eq!(regretted.cancel, CancelState::Accepted);
    assert_eq!(regretted.status, Status::Compensating);
    world.accepts(order_with("o-scanned", |_| {})).await;
    let scanned = world.saga("o-scanned").await.saga;
    let facts: Vec<&str> = scanned.facts.iter().map(|fact| &*fact.kind).collect();
    assert_eq!(facts, ["shipment.in-transit"]);
    assert_eq!(world.letters().await, [], "they were taken in");
    world.stop().await;
}
