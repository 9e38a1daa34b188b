//! What operators ask.

use std::sync::Arc;

use makegood::saga::{SagaId, Status};
use makegood::store::{Change, Counts, Filter, OrderRow, Store};

use crate::place::Place;
use crate::samples::*;

pub async fn orders_are_found_by_id_and_tenant(place: Place) {
    let store = place.store().await;
    let returns = Arc::new(OrderRow {
        saga: SagaId::of(TENANT, "1", "returns"),
        definition: "returns".to_owned(),
        ..(*order(TENANT, "1")).clone()
    });
    let orders = [order(TENANT, "1"), returns, order("other", "1"), order(TENANT, "2")];
    for order in &orders {
        write(&*store, start_of(order.clone())).await;
    }
    let found = async |order_id, tenant| -> Vec<SagaId> {
        let stored = store.find(order_id, tenant).await.unwrap();
        stored.iter().map(|stored| stored.saga.id).collect()
    };
    let ids: Vec<SagaId> = orders.iter().map(|order| order.saga).collect();
    assert_eq!(found("1", None).await, ids[..3]);
    assert_eq!(found("1", Some(TENANT)).await, ids[..2]);
    assert_eq!(found("1", Some("nobody")).await, []);
    assert_eq!(found("3", None).await, []);
}

/// Orders 0 to 5: odd ones completed, multiples of 3 with attention, the last of another
/// tenant, each received a second after the one before.
async fn write_six(store: &dyn Store) -> Vec<SagaId> {
    let mut sagas = Vec::new();
    for number in 0..6 {
        let tenant = if number == 5 { "other" } else { TENANT };
        let mut order = (*order(tenant, &number.to_string())).clone();
        order.received_at = later(number);
        let mut change = start_of(Arc::new(order));
        if number % 2 == 1 {
            change.saga.status = Status::Completed;
        }
        if number % 3 == 0 {
            change.saga.attention.push(attention());
        }
        sagas.push(change.saga.id);
        write(store, change).await;
    }
    sagas
}

pub async fn a_list_is_filtered(place: Place) {
    let store = place.store().await;
    let sagas = write_six(&*store).await;
    let check = async |filter: Filter, expected: &[usize]| {
        let listed = store.list(&filter, None, 100).await.unwrap();
        let listed: Vec<SagaId> = listed.iter().map(|stored| stored.saga.id).collect();
        let mut expected: Vec<SagaId> = expected.iter().map(|number| sagas[*number]).collect();
        expected.sort_unstable();
        assert_eq!(listed, expected, "{filter:?}");
    };
    let all = Filter::default();
    check(all.clone(), &[0, 1, 2, 3, 4, 5]).await;
    check(Filter { status: Some(Status::Completed), ..all.clone() }, &[1, 3, 5]).await;
    check(Filter { status: Some(Status::Compensated), ..all.clone() }, &[]).await;
    check(Filter { attention: Some(true), ..all.clone() }, &[0, 3]).await;
    check(Filter { attention: Some(false), ..all.clone() }, &[1, 2, 4, 5]).await;
    check(Filter { tenant: Some("other".to_owned()), ..all.clone() }, &[5]).await;
    check(Filter { definition: Some("returns".to_owned()), ..all.clone() }, &[]).await;
    let definition = Some(DEFINITION.to_owned());
    check(Filter { definition, ..all.clone() }, &[0, 1, 2, 3, 4, 5]).await;
    check(Filter { received_before: Some(later(2)), ..all.clone() }, &[0, 1, 2]).await;
    let several = Filter {
        status: Some(Status::Running),
        attention: Some(true),
        tenant: Some(TENANT.to_owned()),
        received_before: Some(NOW),
        ..all
    };
    check(several, &[0]).await;
}

pub async fn a_list_is_paged(place: Place) {
    let store = place.store().await;
    let mut sagas = write_six(&*store).await;
    sagas.sort_unstable();
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = store.list(&Filter::default(), after, 4).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.saga.id);
        assert!(page.len() <= 4);
        seen.extend(page.iter().map(|stored| stored.saga.id));
    }
    assert_eq!(seen, sagas);
}

pub async fn counts_are_right(place: Place) {
    let store = place.store().await;
    assert_eq!(store.counts().await.unwrap(), Counts::default());
    let sagas = write_six(&*store).await;
    store.bury(&[letter(1, "9")]).await.unwrap();
    store.delete_outbox(&[(message(sagas[0], 1, 0).key, NOW)]).await.unwrap();
    // An attention that is cleared is not counted any more.
    let stored = load_one(&*store, sagas[3]).await;
    let mut cleared: Change = step(&stored);
    cleared.saga.attention.clear();
    write(&*store, cleared).await;
    let counts = store.counts().await.unwrap();
    assert_eq!(counts.of(Status::Running), 3);
    assert_eq!(counts.of(Status::Completed), 3);
    assert_eq!(counts.of(Status::Compensated), 0);
    assert_eq!((counts.attention, counts.outbox, counts.dead_letters), (1, 6, 1));
}

pub async fn the_latest_time_is_of_any_journal(place: Place) {
    let store = place.store().await;
    assert_eq!(store.latest_time().await.unwrap(), None);
    let sagas = write_starts(&*store, &["1", "2"]).await;
    assert_eq!(store.latest_time().await.unwrap(), Some(NOW));
    write(&*store, step(&load_one(&*store, sagas[0]).await)).await;
    assert_eq!(store.latest_time().await.unwrap(), Some(later(2)));
}
