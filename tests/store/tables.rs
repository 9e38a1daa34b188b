//! Tables, definitions, and what stays when everybody has gone home.

use makegood::store::{DefinitionRow, Published, StoreError};

use crate::place::Place;
use crate::samples::*;

pub async fn migrating_twice_changes_nothing(place: Place) {
    let store = place.store().await;
    let saga = write_starts(&*store, &["1"]).await[0];
    store.migrate().await.unwrap();
    store.check().await.unwrap();
    assert_eq!(load_one(&*store, saga).await.version, 1);
}

pub async fn two_may_migrate_at_once(place: Place) {
    let store = place.open().await;
    let (one, other) = tokio::join!(store.migrate(), store.migrate());
    one.unwrap();
    other.unwrap();
    store.check().await.unwrap();
}

pub async fn tables_that_were_not_migrated_are_refused(place: Place) {
    let store = place.open().await;
    assert!(matches!(store.check().await, Err(StoreError::NotMigrated)));
    assert!(matches!(store.commit(&[start("1")]).await, Err(StoreError::NotMigrated)));
    assert!(matches!(store.counts().await, Err(StoreError::NotMigrated)));
}

pub async fn state_survives_reopening(place: Place) {
    let store = place.store().await;
    let saga = write_starts(&*store, &["1"]).await[0];
    let before = load_one(&*store, saga).await;
    store.close().await;
    drop(store);
    let store = place.open().await;
    store.check().await.unwrap();
    assert_eq!(load_one(&*store, saga).await, before);
    assert_eq!(store.counts().await.unwrap().outbox, 1);
}

pub async fn a_definition_never_changes(place: Place) {
    let store = place.store().await;
    let row = |name: &str, version, content: &str| DefinitionRow {
        name: name.to_owned(),
        version,
        content: content.to_owned(),
        published_at: NOW,
    };
    let first = row("b", 1, "steps");
    assert_eq!(store.publish_definition(&first).await.unwrap(), Published::New);
    let again = DefinitionRow { published_at: later(9), ..first.clone() };
    assert_eq!(store.publish_definition(&again).await.unwrap(), Published::AlreadyThere);
    let refused = store.publish_definition(&row("b", 1, "other steps")).await;
    assert!(matches!(refused, Err(StoreError::DefinitionDiffers { version: 1, .. })));
    let newer = row("b", 2, "other steps");
    assert_eq!(store.publish_definition(&newer).await.unwrap(), Published::New);
    let other = row("a", 10, "steps");
    assert_eq!(store.publish_definition(&other).await.unwrap(), Published::New);
    assert_eq!(store.definitions().await.unwrap(), [other, first, newer]);
}
