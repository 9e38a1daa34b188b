//! The courier's door.

use makegood::saga::{AttentionCode, Phase, SagaId};
use makegood::store::Store;
use serde_json::{Value, json};

use crate::client::{Answer, Request};
use crate::world::{ACME, CORREIOS, JADLOG, OTHERS_JADLOG, World, order};

const AT: &str = "2026-01-31T12:00:00Z";

fn report(status: &str) -> Value {
    json!({ "status": status, "timestamp": AT, "location": { "lat": -23.5, "lng": -46.625 } })
}

impl World {
    async fn scan(&self, key: &str, id: &str, shipment: &str, body: Value) -> Answer {
        let path = format!("/v1/shipments/{shipment}/status");
        let request = Request::new("POST", &path, body.to_string());
        self.send(&request.signed(key, id, self.clock.seconds())).await
    }

    /// How many scans of the order are kept.
    async fn scans(&self, order_id: &str) -> usize {
        let saga = SagaId::of("acme", order_id, "order-fulfilment");
        self.store.scans(saga).await.unwrap().len()
    }

    async fn with_parcel(order_id: &str, shipment_id: &str) -> World {
        let world = World::new().await;
        world.push(order(order_id).to_string()).await.is(201);
        world.dispatched(order_id, shipment_id).await;
        world
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scan_is_kept_and_the_first_of_a_kind_counts() {
    let world = World::with_parcel("o-1", "S-1").await;
    // The delivery overtakes the scan before it, which a courier may also skip.
    world.scan(JADLOG, "m-1", "S-1", report("DELIVERED")).await.is(204);
    let stored = world.saga("o-1").await;
    assert_eq!([4, 5].map(|step| &stored.saga.steps[step].phase), [&Phase::Done; 2]);
    let kept = world.store.scans(stored.saga.id).await.unwrap();
    assert_eq!((kept[0].status.as_str(), kept[0].location), ("DELIVERED", Some((-23.5, -46.625))));
    assert_eq!((kept[0].shipment_id.as_str(), kept[0].id.as_str()), ("S-1", "m-1"));
    assert_eq!(makegood::clock::rfc3339(kept[0].happened_at), AT);

    world.scan(JADLOG, "m-1", "S-1", report("DELIVERED")).await.is(204);
    assert_eq!(world.scans("o-1").await, 1, "the same report again");
    world.scan(JADLOG, "m-2", "S-1", report("DELIVERED")).await.is(204);
    assert_eq!(world.scans("o-1").await, 2, "another one that says the same");
    assert_eq!(world.saga("o-1").await.version, stored.version, "and changes nothing");
    world.scan(JADLOG, "m-3", "S-1", report("IN_TRANSIT")).await.is(204);
    assert_eq!(world.scans("o-1").await, 3);
    assert!(world.saga("o-1").await.saga.attention.is_empty());
    assert_eq!(world.written().await, (1, 0));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_courier_touches_only_its_own_shipments_and_gets_no_hint() {
    let world = World::with_parcel("o-1", "S-1").await;
    let before = world.saga("o-1").await;
    let unknown = world.scan(JADLOG, "m-1", "S-2", report("DELIVERED")).await;
    unknown.is_problem(404, "/problems/not-found");
    for key in [CORREIOS, OTHERS_JADLOG] {
        let hidden = world.scan(key, "m-1", "S-1", report("DELIVERED")).await;
        let without_date = |answer: &Answer| -> Vec<String> {
            let lines = answer.head.lines().filter(|line| !line.starts_with("date"));
            lines.map(str::to_owned).collect()
        };
        assert_eq!((&hidden.body, without_date(&hidden)), (&unknown.body, without_date(&unknown)));
    }
    let shop = world.scan(ACME, "m-1", "S-1", report("DELIVERED")).await;
    shop.is_problem(401, "/problems/bad-signature");
    assert_eq!((world.saga("o-1").await, world.scans("o-1").await), (before, 0));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_before_the_dispatch_is_not_found_and_one_that_failed_calls_an_operator() {
    let world = World::new().await;
    world.push(order("o-1").to_string()).await.is(201);
    // Nobody knows the shipment before the answer to its booking is in: the courier comes again.
    let early = world.scan(JADLOG, "m-1", "S-1", report("IN_TRANSIT")).await;
    early.is_problem(404, "/problems/not-found");
    world.dispatched("o-1", "S-1").await;
    world.scan(JADLOG, "m-1", "S-1", report("IN_TRANSIT")).await.is(204);
    world.scan(JADLOG, "m-2", "S-1", report("FAILED")).await.is(204);
    let stored = world.saga("o-1").await;
    let codes: Vec<_> = stored.saga.attention.iter().map(|attention| attention.code).collect();
    assert_eq!(codes, [AttentionCode::FailedPastPivot]);
    world.scan(JADLOG, "m-3", "S-1", report("DELIVERED")).await.is(204);
    assert_eq!(world.saga("o-1").await.saga.steps[5].phase, Phase::Done, "the second attempt");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_of_a_recalled_parcel_says_nothing_about_the_one_sent_anew() {
    let world = World::with_parcel("o-1", "S-1").await;
    world.cancel(ACME, "o-1").await.is(202);
    world.says("tms", "o-1", json!({ "outcome": "success" })).await;
    // The goods cannot be put back, so the order goes on, in another parcel.
    world.says("wms", "o-1", json!({ "outcome": "refused", "code": "TOO_LATE" })).await;
    world.answered("tms", "o-1", json!({ "shipment_id": "S-2", "courier": "jadlog" })).await;
    let id = SagaId::of("acme", "o-1", "order-fulfilment");
    crate::world::until(async || {
        world.store.load(&[id]).await.unwrap()[0].saga.steps[3].phase == Phase::Done
    })
    .await;
    let before = world.saga("o-1").await;
    world.scan(JADLOG, "m-1", "S-1", report("DELIVERED")).await.is(204);
    assert_eq!(world.saga("o-1").await, before, "its loan is not activated");
    world.scan(JADLOG, "m-2", "S-2", report("DELIVERED")).await.is(204);
    assert_eq!(world.saga("o-1").await.saga.steps[5].phase, Phase::Done);
    assert_eq!(world.scans("o-1").await, 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_booking_that_does_not_name_its_shipment_is_done_and_counted() {
    let world = World::new().await;
    world.push(order("o-1").to_string()).await.is(201);
    for participant in ["inventory", "wms"] {
        world.answered(participant, "o-1", json!({})).await;
    }
    world.answered("tms", "o-1", json!({ "reference": "R-1" })).await;
    let id = SagaId::of("acme", "o-1", "order-fulfilment");
    crate::world::until(async || {
        world.store.load(&[id]).await.unwrap()[0].saga.steps[3].phase == Phase::Done
    })
    .await;
    let metric = "makegood_unnamed_shipments_total{definition=\"order-fulfilment\"} 1";
    crate::world::until(async || world.telemetry.render().contains(metric)).await;
    assert_eq!(world.written().await, (1, 0));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_cannot_be_meant_is_refused_by_its_field() {
    let world = World::with_parcel("o-1", "S-1").await;
    let before = world.saga("o-1").await;
    for (body, field) in [
        (json!({ "status": "LOST", "timestamp": AT }), "status"),
        (json!({ "status": "FAILED", "timestamp": "yesterday" }), "timestamp"),
        (json!({ "status": "FAILED", "timestamp": AT, "location": {} }), "location.lat"),
        (json!({ "status": "FAILED", "timestamp": AT, "shipment_id": "S-2" }), "shipment_id"),
    ] {
        let refused = world.scan(JADLOG, "m-1", "S-1", body).await;
        refused.is_problem(422, "/problems/invalid-scan");
        assert_eq!(refused.body["field"], field);
    }
    assert_eq!((world.saga("o-1").await, world.scans("o-1").await), (before, 0));
    world.stop().await;
}
