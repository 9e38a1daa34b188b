//! One file, one writing process; others may look on.

use std::path::Path;
use std::sync::Arc;

use makegood::clock::SimulatedClock;
use makegood::saga::SagaId;
use makegood::store::sqlite::{Durability, SqliteStore};
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

/// What a kill leaves behind is what the file and its log hold while the writer has them open.
pub async fn what_was_committed_survives_a_kill(place: Place) {
    for durability in [Durability::PowerCut, Durability::ProcessCrash] {
        let clock = Arc::new(SimulatedClock::starting_at(CLOCK));
        let file = place.file().with_file_name(format!("{durability:?}.db"));
        let store = SqliteStore::open(&file, clock.clone(), durability).await.unwrap();
        store.migrate().await.unwrap();
        let saga = write_starts(&store, &["1"]).await[0];
        let left = place.file().with_file_name(format!("{durability:?}-left.db"));
        for end in ["", "-wal"] {
            let named = |file: &Path| format!("{}{end}", file.display());
            std::fs::copy(named(&file), named(&left)).unwrap();
        }
        let after = SqliteStore::open(&left, clock, durability).await.unwrap();
        after.check().await.unwrap();
        assert_eq!(load_one(&after, saga).await, load_one(&store, saga).await);
    }
}
