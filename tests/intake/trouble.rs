//! A worker whose store or catalog is not quite well: one bad row, one locked row, tables of
//! another version, definitions that it does not know yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use makegood::broker::Channel;
use makegood::saga::{SagaId, Time};
use makegood::store::{Change, DefinitionRow, Store, StoreError, Stored};
use makegood::worker::Options;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::forgetful::Trouble;
use crate::inlet::Inlet;
use crate::world::{PATIENCE, Raw, World, order, reply, until};

/// Enough for a batch that has to be split twice.
const MANY: usize = 40;
/// Commits that fail while what was delivered gathers behind them, to become one batch.
const GATHERING: usize = 4;
/// A second saga for the orders that `order-fulfilment` takes on.
const ALSO: &str = r#"
name = "gift-card"
version = 1
starts_on = "order.created"

[[step]]
name = "arrive"
await = ["gift.arrived"]
deadline = "14d"
"#;

fn paid(order_id: &str) -> Raw {
    Raw::event(Channel::Orders, "order.created.v1", "/shop", &order(order_id))
}

fn concerns(batch: &[Change], order_id: &str) -> bool {
    let id = SagaId::of("acme", order_id, "order-fulfilment");
    batch.iter().any(|change| change.saga.id == id)
}

fn rejected() -> StoreError {
    StoreError::Rejected { during: "a test", source: "no column takes it".into() }
}

fn away() -> StoreError {
    StoreError::Unavailable { during: "a test", source: "nobody answers".into() }
}

/// Set, and cleared by the test.
fn flag() -> (Arc<AtomicBool>, impl Fn() -> bool + Send + Sync + 'static) {
    let flag = Arc::new(AtomicBool::new(true));
    let read = flag.clone();
    (flag, move || read.load(Ordering::Relaxed))
}

fn before_commit(
    objection: impl Fn(&[Change]) -> Result<(), StoreError> + Send + Sync + 'static,
) -> Trouble {
    Trouble { before_commit: Box::new(objection), ..Trouble::default() }
}

fn after_load(
    change: impl Fn(Vec<Stored>) -> Result<Vec<Stored>, StoreError> + Send + Sync + 'static,
) -> Trouble {
    Trouble { after_load: Box::new(change), ..Trouble::default() }
}

/// Delivers many orders at once, and one among them under this name.
fn crowd(world: &World, special: &str) -> (Vec<oneshot::Receiver<()>>, oneshot::Receiver<()>) {
    let push = |number: usize| world.push(paid(&format!("o-{number}")));
    let mut others: Vec<_> = (0..MANY / 2).map(push).collect();
    let one = world.push(paid(special));
    others.extend((MANY / 2..MANY).map(push));
    (others, one)
}

async fn heard(acknowledged: oneshot::Receiver<()>) {
    timeout(PATIENCE, acknowledged).await.expect("in time").expect("acknowledged");
}

async fn publish(world: &World, name: &str, content: &str) {
    let (name, content) = (name.to_owned(), content.to_owned());
    let row = DefinitionRow { name, version: 1, content, published_at: Time(0) };
    world.store.publish_definition(&row).await.expect("published");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_one_order_that_no_table_takes_is_found_and_the_others_are_stored() {
    let trouble = before_commit(|batch| match concerns(batch, "o-bad") {
        true => Err(rejected()),
        false => Ok(()),
    });
    let world = World::troubled(trouble).await;
    publish(&world, "gift-card", ALSO).await;
    // Only now does this worker know both definitions.
    world
        .accepts(Raw::event(
            Channel::Facts,
            "gift.arrived.v1",
            "/x",
            &json!({
                "order_id": "o-0", "tenant_id": "acme",
            }),
        ))
        .await;
    let (others, bad) = crowd(&world, "o-bad");
    for acknowledged in others.into_iter().chain([bad]) {
        heard(acknowledged).await;
    }
    let letters = world.letters().await;
    let reasons: Vec<_> = letters.iter().map(|l| (l.reason.as_str(), l.order_id.clone())).collect();
    assert_eq!(reasons, [("store-rejected", Some("o-bad".to_owned()))]);
    assert!(world.store.find("o-bad", None).await.unwrap().is_empty(), "not even half of it");
    for number in 0..MANY {
        let sagas = world.store.find(&format!("o-{number}"), None).await.unwrap();
        assert_eq!(sagas.len(), 2, "o-{number}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_row_holds_up_nobody_and_is_not_given_up() {
    let (locked, is_locked) = flag();
    let tries = AtomicUsize::new(0);
    let trouble = before_commit(move |batch| {
        if tries.fetch_add(1, Ordering::Relaxed) < GATHERING {
            return Err(away());
        }
        match is_locked() && concerns(batch, "o-locked") {
            true => Err(StoreError::Blocked { during: "a test", source: "locked".into() }),
            false => Ok(()),
        }
    });
    let world = World::troubled(trouble).await;
    let (others, one) = crowd(&world, "o-locked");
    for acknowledged in others {
        heard(acknowledged).await;
    }
    world.a_good_order_passes("o-after").await;
    assert!(world.store.find("o-locked", None).await.unwrap().is_empty());
    locked.store(false, Ordering::Relaxed);
    heard(one).await;
    assert_eq!(world.letters().await, []);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_another_version_are_waited_for_and_blame_no_row() {
    let (missing, is_missing) = flag();
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let trouble = before_commit(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        if is_missing() { Err(StoreError::NotMigrated) } else { Ok(()) }
    });
    let world = World::troubled(trouble).await;
    let acknowledged = world.push(paid("o-1"));
    until("a second try", async || (tries.load(Ordering::Relaxed) > 1).then_some(())).await;
    assert_eq!(world.letters().await, []);
    missing.store(false, Ordering::Relaxed);
    heard(acknowledged).await;
    assert_eq!(world.letters().await, []);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_that_could_not_be_stored_is_taken_anew() {
    let times = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = times.clone();
    let trouble = before_commit(move |batch| {
        let mut times = noted.lock().unwrap();
        times.push(batch[0].journal[0].at());
        if times.len() < 3 { Err(away()) } else { Ok(()) }
    });
    let world = World::troubled(trouble).await;
    world.accepts(paid("o-1")).await;
    let times = times.lock().unwrap().clone();
    assert!(times.len() == 3 && times.is_sorted_by(|a, b| a < b), "{times:?}");
    world.stop().await;
}

/// What a load says of the sagas of orders whose id ends so.
fn damaged(stored: Vec<Stored>) -> Result<Vec<Stored>, StoreError> {
    match stored.iter().any(|stored| stored.order.order_id.ends_with("-newer")) {
        true => Err(StoreError::Unreadable { what: "saga state" }),
        false => Ok(stored),
    }
}

/// The same orders were started by a version of the definition that was never published.
fn unpublished(mut stored: Vec<Stored>) -> Result<Vec<Stored>, StoreError> {
    for stored in stored.iter_mut().filter(|s| s.order.order_id.ends_with("-newer")) {
        Arc::make_mut(&mut stored.order).definition_version = 9;
    }
    Ok(stored)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_newer_worker_can_read_is_kept_for_it() {
    let (newer, is_newer) = flag();
    newer.store(false, Ordering::Relaxed);
    let trouble = after_load(move |stored| if is_newer() { damaged(stored) } else { Ok(stored) });
    let world = World::troubled(trouble).await;
    world.accepts(paid("o-newer")).await;
    let command = world.command("o-newer", "inventory.reserve").await;
    newer.store(true, Ordering::Relaxed);
    let data = json!({ "command_id": command.id, "outcome": "success" });
    let mut acknowledged = world.push(reply("inventory", command.saga, &data));
    for number in 0..5 {
        world.accepts(paid(&format!("o-{number}"))).await;
    }
    assert_eq!(acknowledged.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    assert_eq!(world.letters().await, []);
    newer.store(false, Ordering::Relaxed);
    heard(acknowledged).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_worker_came_to_read_is_a_dead_letter_in_the_end() {
    type Change = fn(Vec<Stored>) -> Result<Vec<Stored>, StoreError>;
    let cases: [(&str, Change); 2] =
        [("unreadable-saga", damaged), ("unknown-definition", unpublished)];
    for (reason, change) in cases {
        let options = Options { set_aside: Duration::ZERO, ..Options::default() };
        let (newer, is_newer) = flag();
        newer.store(false, Ordering::Relaxed);
        let trouble =
            after_load(move |stored| if is_newer() { change(stored) } else { Ok(stored) });
        let world = World::with(trouble, options, Inlet::new()).await;
        world.accepts(paid("o-newer")).await;
        let command = world.command("o-newer", "inventory.reserve").await;
        newer.store(true, Ordering::Relaxed);
        let data = json!({ "command_id": command.id, "outcome": "success" });
        world.buries(reason, reply("inventory", command.saga, &data)).await;
        world.a_good_order_passes("o-other").await;
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_that_is_there_in_part_is_not_raced_for_without_end() {
    let (partial, is_partial) = flag();
    let trouble = after_load(move |mut stored| {
        stored.retain(|stored| !is_partial() || stored.order.order_id != "o-partial");
        Ok(stored)
    });
    let world = World::troubled(trouble).await;
    world.accepts(paid("o-partial")).await;
    let again = world.push(paid("o-partial"));
    world.a_good_order_passes("o-other").await;
    heard(again).await;
    let letters = world.letters().await;
    let reasons: Vec<_> = letters.iter().map(|letter| letter.reason.as_str()).collect();
    assert_eq!(reasons, ["unreadable-saga"]);
    partial.store(false, Ordering::Relaxed);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_published_a_moment_ago_is_known() {
    let world = World::new().await;
    publish(&world, "gift-card", &ALSO.replace("order.created", "gift.bought")).await;
    let bought = Raw::event(Channel::Orders, "gift.bought.v1", "/shop", &order("o-1"));
    world.accepts(bought).await;
    assert_eq!(world.letters().await, []);
    assert_eq!(world.store.find("o-1", None).await.unwrap().len(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fact_that_an_unreadable_definition_may_wait_for_is_not_forgotten() {
    let options = Options { set_aside: Duration::ZERO, ..Options::default() };
    let world = World::with(Trouble::default(), options, Inlet::new()).await;
    publish(&world, "newer", "name = \"newer\"\nversion = 1\nwritten_for = \"tomorrow\"").await;
    let about = json!({ "order_id": "o-1", "tenant_id": "acme" });
    let fact = Raw::event(Channel::Facts, "shipment.admired.v1", "/courier", &about);
    world.buries("unknown-definition", fact).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_back_again_and_again_is_decided_by_itself() {
    let largest = Arc::new(AtomicUsize::new(0));
    let seen = largest.clone();
    let trouble = before_commit(move |batch| {
        seen.fetch_max(batch.len(), Ordering::Relaxed);
        Ok(())
    });
    let world = World::troubled(trouble).await;
    let again = |number| paid(&format!("o-{number}")).header("x-delivery-count", "2");
    let pushed: Vec<_> = (0..MANY).map(|number| world.push(again(number))).collect();
    for acknowledged in pushed {
        heard(acknowledged).await;
    }
    assert_eq!(largest.load(Ordering::Relaxed), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_lane_ends_the_worker() {
    let world = World::troubled(before_commit(|_| panic!("this test's"))).await;
    drop(world.push(paid("o-1")));
    let ended = timeout(PATIENCE, world.worker).await.expect("it ends");
    assert!(ended.expect_err("not as if nothing had been").is_panic());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_clock_is_claimed_while_replies_cannot_come_in() {
    let broker = Inlet::new();
    broker.replies_are_away.store(true, Ordering::Relaxed);
    let world = World::with(Trouble::default(), Options::default(), broker).await;
    let tried = async || (world.broker.refused.load(Ordering::Relaxed) > 3).then_some(());
    until("some tries to subscribe", tried).await;
    assert_eq!(world.store.looks_for_due(), 0);
    world.broker.replies_are_away.store(false, Ordering::Relaxed);
    until("a look for clocks", async || (world.store.looks_for_due() > 0).then_some(())).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_handed_back_when_the_database_is_away_for_long() {
    let (lost, is_lost) = flag();
    let trouble = after_load(move |stored| if is_lost() { Err(away()) } else { Ok(stored) });
    // No message goes through the hands of this broker's other half, so that it cannot come
    // again by itself: the test delivers it anew.
    let options = Options { outage: Duration::from_millis(200), ..Options::default() };
    let world = World::with(trouble, options, Inlet::new()).await;
    let _in_hand = world.push(paid("o-1"));
    until("the subscriptions are given up", async || {
        // Orders, replies, facts.
        (world.broker.given_up.load(Ordering::Relaxed) == 3).then_some(())
    })
    .await;
    lost.store(false, Ordering::Relaxed);
    world.accepts(paid("o-1")).await;
    assert_eq!(world.letters().await, []);
    world.stop().await;
}
