//! The shop's door, for shops that mean well.

use std::sync::atomic::Ordering;

use makegood::broker::{Channel, Event};
use makegood::saga::SagaId;
use makegood::store::Store;
use serde_json::json;

use crate::client::Request;
use crate::world::{ACME, ACME_NEXT, OTHER, World, order, order_with, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_is_stored_when_it_is_answered_and_has_one_receipt_for_ever() {
    let world = World::new().await;
    let answer = world.push(order("o-1").to_string()).await;
    let stored = world.saga("o-1").await;
    answer.is(201);
    let receipt = &answer.body;
    assert_eq!(receipt["order_id"], "o-1");
    assert_eq!(receipt["saga_id"], stored.saga.id.to_string());
    assert!(receipt["event_id"].is_string());
    assert_eq!(receipt["received_at"], makegood::clock::rfc3339(stored.order.received_at));
    assert!(answer.head.contains("location: /v1/orders/o-1"), "{answer:?}");

    // The same bytes again: replayed, or signed anew a month later with the other key.
    let again = world.push(order("o-1").to_string()).await;
    assert_eq!((again.status, &again.body), (200, receipt));
    world.clock.advance(30 * 24 * 3_600);
    let later = Request::new("POST", "/v1/orders", order("o-1").to_string());
    let later = world.send(&later.signed(ACME_NEXT, "m-2", world.clock.seconds())).await;
    assert_eq!((later.status, &later.body), (200, receipt));
    // The same order in other words: with its tenant, with other spaces, in another sequence.
    let spaced = serde_json::to_string_pretty(&{
        let mut order = order("o-1");
        order["tenant_id"] = json!("acme");
        order
    });
    let same = world.push(spaced.unwrap()).await;
    assert_eq!((same.status, &same.body), (200, receipt));
    assert_eq!(world.written().await, (1, 0));
    assert_eq!(world.saga("o-1").await.version, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tenant_comes_from_the_key() {
    let world = World::new().await;
    world.push(order("o-1").to_string()).await.is(201);
    let stored = world.saga("o-1").await;
    assert_eq!(stored.order.tenant, "acme");
    let payload = String::from_utf8(stored.order.payload.clone()).unwrap();
    let rest = order("o-1").to_string().replacen('{', "", 1);
    assert_eq!(payload, format!("{{\"tenant_id\":\"acme\",{rest}"));
    // The same id is another order for another shop.
    let others = Request::new("POST", "/v1/orders", order("o-1").to_string());
    world.send(&others.signed(OTHER, "m-1", world.clock.seconds())).await.is(201);
    let body = order_with("o-2", |order| order["tenant_id"] = json!("other"));
    world.push(body).await.is_problem(403, "/problems/wrong-tenant");
    assert_eq!(world.written().await, (2, 0));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_with_other_content_is_a_conflict_and_changes_nothing() {
    let world = World::new().await;
    world.push(order("o-1").to_string()).await.is(201);
    let other = order_with("o-1", |order| order["loan"]["amount_minor"] = json!(4_999));
    world.push(other).await.is_problem(409, "/problems/order-differs");
    assert_eq!(world.written().await, (1, 0), "no dead letter: the shop knows");
    assert_eq!(world.saga("o-1").await.version, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_and_the_door_are_two_ways_to_the_same_saga() {
    let world = World::new().await;
    let data: serde_json::Value =
        serde_json::from_slice(&order_with("o-1", |o| o["tenant_id"] = json!("acme"))).unwrap();
    let event = Event::new("e-1", "/shop", "order.created.v1", &data);
    world.publish(Channel::Orders, event).await;
    until(async || world.written().await.0 == 1).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    world.push(order("o-1").to_string()).await.is(200);
    let traced = world.push_of("m-2", order("o-2").to_string()).with("traceparent", trace);
    world.send(&traced).await.is(201);
    assert_eq!(world.saga("o-2").await.order.traceparent, trace);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_pushes_at_once_share_commits_and_each_is_new_once() {
    let world = World::new().await;
    const ORDERS: usize = 60;
    let before = world.telemetry.batching().commits;
    let pushes = (0..2 * ORDERS).map(|number| {
        let body = order(&format!("o-{}", number % ORDERS)).to_string();
        let request = world.push_of(&format!("m-{number}"), body);
        let address = world.address;
        tokio::spawn(async move { request.send(address).await.status })
    });
    let mut statuses = Vec::new();
    for push in pushes.collect::<Vec<_>>() {
        statuses.push(push.await.unwrap());
    }
    let of = |status| statuses.iter().filter(|known| **known == status).count();
    assert_eq!((of(201), of(200)), (ORDERS, ORDERS), "{statuses:?}");
    assert_eq!(world.written().await, (ORDERS as u64, 0));
    let commits = world.telemetry.batching().commits - before;
    assert!(commits < ORDERS as u64, "{commits} commits");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_is_told_and_nothing_is_taken_twice() {
    let world = World::with(|bounds| bounds.timeout = std::time::Duration::from_millis(500)).await;
    world.is_away.store(true, Ordering::Relaxed);
    // It was taken in before anybody knew.
    let unknown = world.push(order("o-1").to_string()).await;
    unknown.is_problem(503, "/problems/outcome-unknown");
    let away = world.push(order("o-2").to_string()).await;
    away.is_problem(503, "/problems/database-away");
    assert_eq!(world.written().await, (0, 0));
    world.is_away.store(false, Ordering::Relaxed);
    until(async || world.written().await.0 == 1).await;
    until(async || world.telemetry.health.report().0).await;
    world.push(order("o-1").to_string()).await.is(200);
    world.push(order("o-2").to_string()).await.is(201);
    assert_eq!(world.written().await, (2, 0));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_may_be_under_way_is_sent_away() {
    let world = World::with(|bounds| bounds.in_flight = 1).await;
    world.is_away.store(true, Ordering::Relaxed);
    let first = world.push_of("m-1", order("o-1").to_string());
    let address = world.address;
    let first = tokio::spawn(async move { first.send(address).await });
    until(async || world.telemetry.health.has_trouble(|part| part == "database")).await;
    let second = world.push(order("o-2").to_string()).await;
    second.is_problem(503, "/problems/too-busy");
    world.is_away.store(false, Ordering::Relaxed);
    first.await.unwrap().is(201);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stops_finishes_what_it_took_and_takes_no_more() {
    let world = World::new().await;
    world.is_away.store(true, Ordering::Relaxed);
    let first = world.push_of("m-1", order("o-1").to_string());
    let address = world.address;
    let first = tokio::spawn(async move { first.send(address).await });
    until(async || world.telemetry.health.has_trouble(|part| part == "database")).await;
    world.stopper.drain();
    until(async || tokio::net::TcpStream::connect(address).await.is_err()).await;
    world.is_away.store(false, Ordering::Relaxed);
    first.await.unwrap().is(201);
    assert_eq!(world.written().await, (1, 0));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_looked_at_and_cancelled_by_its_own_shop_alone() {
    let world = World::new().await;
    world.push(order("o-1").to_string()).await.is(201);
    let seen = world.status(ACME, "o-1").await;
    assert_eq!((seen.is(200).body["status"].as_str()), Some("pending"));
    for order_id in ["o-1", "o-2"] {
        world.status(OTHER, order_id).await.is_problem(404, "/problems/not-found");
        world.cancel(OTHER, order_id).await.is_problem(404, "/problems/not-found");
    }
    world.cancel(ACME, "o-2").await.is_problem(404, "/problems/not-found");
    assert_eq!(world.written().await, (1, 0), "nothing is parked for a caller");
    assert_eq!(world.saga("o-1").await.version, 1);

    let cancelled = world.cancel(ACME, "o-1").await;
    assert_eq!(cancelled.is(202).body["result"], "accepted");
    let version = world.saga("o-1").await.version;
    let again = world.cancel(ACME, "o-1").await;
    assert_eq!(again.is(202).body["result"], "accepted");
    assert_eq!(world.saga("o-1").await.version, version, "asked twice, decided once");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_the_pivot_a_cancel_is_refused_with_the_reason() {
    let world = World::new().await;
    world.push(order("o-1").to_string()).await.is(201);
    world.dispatched("o-1", "S-1").await;
    let about = json!({ "order_id": "o-1", "tenant_id": "acme" });
    let scan = Event::new("s-1", "/couriers/x", "shipment.in-transit.v1", &about);
    world.publish(Channel::Facts, scan).await;
    let id = SagaId::of("acme", "o-1", "order-fulfilment");
    until(async || world.store.load(&[id]).await.unwrap()[0].saga.facts.len() == 1).await;
    let refused = world.cancel(ACME, "o-1").await;
    refused.is_problem(409, "/problems/cancel-refused");
    assert_eq!(refused.body["reason"], "past-pivot");
    world.cancel(ACME, "o-1").await.is_problem(409, "/problems/cancel-refused");
    assert_eq!(world.status(ACME, "o-1").await.body["status"], "fulfilling");
    world.stop().await;
}
