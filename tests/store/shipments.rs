//! Couriers' shipments and scans: found by whom they belong to, kept once.

use makegood::saga::SagaId;
use makegood::store::{Change, ScanRow, ShipmentRow, Written};

use crate::place::Place;
use crate::samples::*;

fn shipment(saga: SagaId, shipment_id: &str) -> ShipmentRow {
    ShipmentRow {
        tenant: TENANT.to_owned(),
        courier: "jadlog".to_owned(),
        shipment_id: shipment_id.to_owned(),
        saga,
        order_id: "1".to_owned(),
    }
}

fn scan(saga: SagaId, id: &str, seconds: i64) -> ScanRow {
    ScanRow {
        saga,
        courier: "jadlog".to_owned(),
        id: id.to_owned(),
        shipment_id: "S-1".to_owned(),
        status: "IN_TRANSIT".to_owned(),
        happened_at: later(seconds - 60),
        location: Some((-23.5, -46.625)),
        received_at: later(seconds),
    }
}

pub async fn a_shipment_is_found_by_its_tenant_and_courier_alone(place: Place) {
    let store = place.store().await;
    let change = start("1");
    let booked = shipment(change.saga.id, "S-1");
    write(&*store, Change { shipments: vec![booked.clone()], ..change }).await;
    let look = async |tenant, courier, id| store.shipment(tenant, courier, id).await.unwrap();
    assert_eq!(look(TENANT, "jadlog", "S-1").await, Some(booked));
    assert_eq!(look("other", "jadlog", "S-1").await, None);
    assert_eq!(look(TENANT, "correios", "S-1").await, None);
    assert_eq!(look(TENANT, "jadlog", "S-2").await, None);
}

pub async fn the_first_to_name_a_shipment_has_it(place: Place) {
    let store = place.store().await;
    let (first, second) = (start("1"), start("2"));
    let booked = shipment(first.saga.id, "S-1");
    let claimed = shipment(second.saga.id, "S-1");
    write(&*store, Change { shipments: vec![booked.clone()], ..first }).await;
    write(&*store, Change { shipments: vec![claimed], ..second }).await;
    assert_eq!(store.shipment(TENANT, "jadlog", "S-1").await.unwrap(), Some(booked));
}

pub async fn every_scan_is_kept_once(place: Place) {
    let store = place.store().await;
    let change = start("1");
    let saga = change.saga.id;
    let nowhere = ScanRow { location: None, ..scan(saga, "m-2", 2) };
    let both = vec![scan(saga, "m-1", 1), nowhere.clone(), scan(saga, "m-1", 1)];
    write(&*store, Change { scans: both, ..change }).await;
    // One that changes nothing in the saga, and one that is there already.
    let stored = load_one(&*store, saga).await;
    let kept = Change {
        saga: stored.saga.clone(),
        from_version: stored.version,
        order: None,
        journal: Vec::new(),
        due: stored.due,
        outbox: Vec::new(),
        revived: Vec::new(),
        shipments: Vec::new(),
        scans: vec![scan(saga, "m-1", 9), scan(saga, "m-3", 3)],
        audit: None,
    };
    write(&*store, kept).await;
    assert_eq!(load_one(&*store, saga).await, stored);
    let expected = [scan(saga, "m-1", 1), nowhere, scan(saga, "m-3", 3)];
    assert_eq!(store.scans(saga).await.unwrap(), expected);
    assert!(store.scans(SagaId::of(TENANT, "2", DEFINITION)).await.unwrap().is_empty());
}

pub async fn only_the_winner_has_shipments_and_scans(place: Place) {
    let store = place.store().await;
    let saga = write_starts(&*store, &["1"]).await[0];
    let late = start("1");
    let shipments = vec![shipment(saga, "S-1")];
    let late = Change { shipments, scans: vec![scan(saga, "m-1", 1)], ..late };
    assert_eq!(store.commit(&[late]).await.unwrap(), [Written::LostRace]);
    assert_eq!(store.shipment(TENANT, "jadlog", "S-1").await.unwrap(), None);
    assert!(store.scans(saga).await.unwrap().is_empty());
}
