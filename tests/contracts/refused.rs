//! What Makegood takes is valid by its schema, and what the schema refuses Makegood refuses:
//! answers, facts and cancel requests from the broker; scans and cancellations at the doors.

use std::collections::BTreeMap;

use makegood::broker::{Channel, Event};
use makegood::store::Store;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::Request;
use crate::schemas::{published, wrong_fields};
use crate::world::{ACME, JADLOG, World, order, until};

/// A good object with each of its fields replaced by each of these, or removed.
fn variants(good: &Value, odd: &[Value], fields: &[&str]) -> Vec<Value> {
    let mut variants = vec![good.clone()];
    for pointer in fields {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        for value in odd {
            let mut variant = good.clone();
            variant.pointer_mut(parent).expect("an object")[name] = value.clone();
            variants.push(variant);
        }
        let mut variant = good.clone();
        let parent = variant.pointer_mut(parent).expect("an object");
        parent.as_object_mut().expect("an object").remove(name);
        variants.push(variant);
    }
    variants
}

fn odd() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(7),
        json!(-1.5),
        json!(""),
        json!("x"),
        json!("success"),
        json!("applied"),
        json!([]),
        json!({}),
        json!({ "a": 1 }),
        json!("é\u{7f}"),
        json!("x".repeat(128)),
        json!("x".repeat(129)),
    ]
}

/// A message of each becomes a dead letter here, for nobody knows its saga or its order: the
/// reason tells whether it was understood.
pub async fn replies_and_facts() {
    let world = World::new().await;
    let command = "0802e876-a5e0-5262-a87b-b47e687bfcdd";
    let reply = json!({
        "command_id": command, "outcome": "rejected", "code": "NO", "message": "no", "data": { "a": 1 },
    });
    let answer = json!({ "command_id": command, "state": "applied", "data": { "a": 1 } });
    let about = json!({ "order_id": "o-1", "tenant_id": "acme" });
    let mut cases = Vec::new();
    let answers = ["/command_id", "/outcome", "/state", "/code", "/data", "/other"];
    for data in [variants(&reply, &odd(), &answers), variants(&answer, &odd(), &answers)].concat() {
        cases.push((Channel::Replies, "wms.pick.replied.v1", &["reply", "probe-reply"][..], data));
    }
    for data in variants(&about, &odd(), &["/order_id", "/tenant_id", "/other"]) {
        cases.push((Channel::Facts, "shipment.delivered.v1", &["fact"][..], data.clone()));
        let cancel = &["order-cancel-requested"][..];
        cases.push((Channel::Orders, "order.cancel-requested.v1", cancel, data));
    }
    for (number, (channel, kind, _, data)) in cases.iter().enumerate() {
        let mut event = Event::new(format!("e-{number}"), "/participants/wms", *kind, data);
        event.correlationid = Some(Uuid::from_u128(number as u128 + 1).to_string());
        event.subject = Some(format!("o-{number}"));
        event.tenantid = data["tenant_id"].as_str().map_or(Some("acme"), Some).map(str::to_owned);
        // What is no attribute is refused for that.
        event.tenantid = event.tenantid.filter(|tenant| !tenant.chars().any(char::is_control));
        world.publish(channel.clone(), event).await;
    }
    until(async || world.written().await.1 == cases.len() as u64).await;
    let letters = world.store.dead_letters(cases.len() + 1).await.expect("letters");
    let reasons: BTreeMap<String, String> = letters
        .into_iter()
        .map(|letter| {
            let event: Value = serde_json::from_slice(&letter.body).expect("JSON");
            (event["id"].as_str().expect("an id").to_owned(), letter.reason)
        })
        .collect();
    let (mut understood, mut refused) = (0, 0);
    for (number, (_, kind, schemas, data)) in cases.iter().enumerate() {
        let reason = &reasons[&format!("e-{number}")];
        let is_understood = match reason.as_str() {
            "unknown-saga" | "unknown-order" => true,
            "wrong-schema" => false,
            other => panic!("{kind}: {other}: {data}"),
        };
        let is_valid = schemas.iter().any(|name| wrong_fields(&published(name), data).is_empty());
        assert_eq!(is_understood, is_valid, "{kind}: {reason}: {data}");
        understood += usize::from(is_understood);
        refused += usize::from(!is_understood);
    }
    assert!(understood > 40 && refused > 40, "{understood} understood, {refused} refused");
    world.stop().await;
}

/// The field of a scan that is refused is the one that the schema names.
pub async fn scans_and_cancellations() {
    let world = World::new().await;
    world.push(order("o-1").to_string()).await.is(201);
    world.dispatched("o-1", "S-1").await;
    let send = async |key: &str, path: &str, body: &Value| {
        let request = Request::new("POST", path, body.to_string());
        world.send(&request.signed(key, "m", world.clock.seconds())).await
    };
    let good = json!({
        "status": "IN_TRANSIT", "timestamp": "2026-01-31T12:00:00Z", "shipment_id": "S-1",
        "location": { "lat": 52.5, "lng": -13 },
    });
    let more = [
        json!("in_transit"),
        json!("FAILED"),
        json!("DELIVERED"),
        json!(90),
        json!(90.1),
        json!(-180),
        json!(1e300),
        json!("2026-01-31T12:00:00+05:30"),
        json!("2026-01-31T12:00:00.123456789-03:00"),
        json!("2026-02-30T12:00:00Z"),
        json!("2026-01-31t12:00:00z"),
        json!("2026-01-31 12:00:00Z"),
        json!("2026-01-31"),
        json!("2016-12-31T23:59:60Z"),
        json!("2026-01-31T12:00:00"),
        json!("2026-01-31T24:00:00Z"),
        json!({ "lat": 1 }),
        json!({ "lng": 1 }),
        json!("S-1"),
    ];
    let odd = [&odd()[..], &more].concat();
    let fields = [
        "/status",
        "/timestamp",
        "/location",
        "/location/lat",
        "/location/lng",
        "/shipment_id",
        "/other",
    ];
    let schema = published("shipment-status");
    let (mut taken, mut refused) = (0, 0);
    for body in variants(&good, &odd, &fields) {
        let wrong = wrong_fields(&schema, &body);
        let answer = send(JADLOG, "/v1/shipments/S-1/status", &body).await;
        match answer.status {
            204 => {
                assert!(wrong.is_empty(), "taken, and {wrong:?} is wrong: {body}");
                taken += 1;
            }
            _ => {
                answer.is_problem(422, "/problems/invalid-scan");
                let field = answer.body["field"].as_str().expect("a field");
                // Which shipment the address is about, no schema knows.
                let is_other = field == "shipment_id" && body["shipment_id"].is_string();
                assert!(is_other || wrong.contains(field), "'{field}' and {wrong:?}: {body}");
                refused += 1;
            }
        }
    }
    assert!(taken > 10 && refused > 40, "{taken} taken, {refused} refused");
    let schema = published("cancel");
    for body in variants(&json!({ "order_id": "o-1" }), &odd, &["/order_id", "/reason"]) {
        let answer = send(ACME, "/v1/orders/o-1/cancel", &body).await;
        let is_ours = body["order_id"] == "o-1";
        let is_valid = wrong_fields(&schema, &body).is_empty();
        let expected = if is_ours && is_valid { 409 } else { 400 };
        assert_eq!(answer.status, expected, "{body}");
    }
    world.stop().await;
}
