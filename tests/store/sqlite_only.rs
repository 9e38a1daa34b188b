//! One file, one writing process; others may look on.

use std::sync::Arc;

use makegood::clock::SimulatedClock;
use makegood::saga::SagaId;
use makegood::store::sqlite::SqliteStore;
use makegood::store::{Store, StoreError};

use crate::place::{CLOCK, Place};
use crate::samples::*;

async fn look_on(place: &Place) -> SqliteStore {
    let clock = Arc::new(SimulatedClock::starting_at(CLOCK));
    SqliteStore::open_read_only(&place.file(), clock).await.unwrap()
}

pub async fn a_second_writer_is_refused(place: Place) {
    let first = place.store().await;
    let Err(StoreError::Unavailable { source, .. }) = place.try_open().await else {
        panic!("a second writer got in");
    };
    assert!(source.to_string().contains("in use by another makegood process"), "{source}");
    first.close().await;
    place.try_open().await.unwrap();
}

pub async fn a_reader_may_look_on_while_another_writes(place: Place) {
    let store = place.store().await;
    let saga = write_starts(&*store, &["1"]).await[0];
    let reader = look_on(&place).await;
    reader.check().await.unwrap();
    assert_eq!(load_one(&reader, saga).await.version, 1);
    write(&*store, step(&load_one(&*store, saga).await)).await;
    assert_eq!(load_one(&reader, saga).await.version, 2);
}

pub async fn a_reader_may_open_what_was_closed(place: Place) {
    let store = place.store().await;
    let saga = write_starts(&*store, &["1"]).await[0];
    store.close().await;
    drop(store);
    assert_eq!(load_one(&look_on(&place).await, saga).await.version, 1);
}

pub async fn a_reader_cannot_write(place: Place) {
    let store = place.store().await;
    let reader = look_on(&place).await;
    let refused = reader.commit(&[start("1")]).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    assert!(store.load(&[SagaId::of(TENANT, "1", DEFINITION)]).await.unwrap().is_empty());
}

pub async fn time_is_the_given_clocks(place: Place) {
    assert_eq!(place.store().await.now().await.unwrap(), CLOCK);
}
