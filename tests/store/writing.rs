//! What a commit writes, and what it must not.

use std::sync::Arc;
use std::time::Duration;

use makegood::saga::{Input, Millis, SagaId};
use makegood::store::{AuditedRow, Change, Counts, JournalRow, Store, StoreError, Written};

use crate::place::Place;
use crate::samples::*;

pub async fn a_new_saga_is_loaded_as_it_was_written(place: Place) {
    let store = place.store().await;
    let change = start("1");
    write(&*store, change.clone()).await;
    let unknown = SagaId::of(TENANT, "2", DEFINITION);
    let stored = store.load(&[unknown, change.saga.id]).await.unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].saga, change.saga);
    assert_eq!(stored[0].version, 1);
    assert_eq!(stored[0].due, change.due);
    assert_eq!(Some(&stored[0].order), change.order.as_ref());
    assert!(store.load(&[]).await.unwrap().is_empty());
}

pub async fn a_repeated_start_loses_the_race_and_changes_nothing(place: Place) {
    let store = place.store().await;
    let saga = write_starts(&*store, &["1"]).await[0];
    let before = load_one(&*store, saga).await;
    let mut again = start("1");
    again.saga.steps[0].generation = 9;
    again.due = None;
    again.outbox.push(message(saga, 1, 1));
    again.audit = Some(deed(1));
    assert_eq!(store.commit(&[again]).await.unwrap(), [Written::LostRace]);
    assert_eq!(load_one(&*store, saga).await, before);
    assert_eq!(store.journal(saga).await.unwrap().len(), 1);
    assert_eq!(store.counts().await.unwrap().outbox, 1);
}

pub async fn a_stale_write_changes_nothing_and_the_rest_is_committed(place: Place) {
    let store = place.store().await;
    let sagas = write_starts(&*store, &["1", "2", "3"]).await;
    let stale = load_one(&*store, sagas[1]).await;
    write(&*store, step(&stale)).await;
    let current = load_one(&*store, sagas[1]).await;

    let first = step(&load_one(&*store, sagas[0]).await);
    let third = step(&load_one(&*store, sagas[2]).await);
    let batch = [first, step(&stale), start("4"), start("2"), third];
    let written = store.commit(&batch).await.unwrap();
    use Written::{Committed, LostRace};
    assert_eq!(written, [Committed, LostRace, Committed, LostRace, Committed][..]);
    assert_eq!(load_one(&*store, sagas[0]).await.version, 2);
    assert_eq!(load_one(&*store, sagas[1]).await, current);
    assert_eq!(load_one(&*store, sagas[2]).await.version, 2);
    assert_eq!(store.journal(sagas[1]).await.unwrap().len(), 2);
    assert_eq!(store.counts().await.unwrap().outbox, 7);
}

pub async fn an_update_of_a_saga_that_is_not_there_loses_the_race(place: Place) {
    let store = place.store().await;
    let saga = write_starts(&*store, &["1"]).await[0];
    let mut change = step(&load_one(&*store, saga).await);
    change.saga.id = SagaId::of(TENANT, "2", DEFINITION);
    assert_eq!(store.commit(&[change]).await.unwrap(), [Written::LostRace]);
    assert_eq!(store.counts().await.unwrap().outbox, 1);
}

pub async fn a_batch_of_five_hundred_is_written_whole(place: Place) {
    let store = place.store().await;
    let orders: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    let orders: Vec<&str> = orders.iter().map(String::as_str).collect();
    let sagas = write_starts(&*store, &orders).await;
    let stored = store.load(&sagas).await.unwrap();
    assert_eq!(stored.len(), 500);
    let batch: Vec<Change> = stored.iter().map(step).collect();
    let written = store.commit(&batch).await.unwrap();
    assert_eq!(written, vec![Written::Committed; 500]);
    let counts = store.counts().await.unwrap();
    assert_eq!(counts.outbox, 1_000);
    assert!(store.load(&sagas).await.unwrap().iter().all(|stored| stored.version == 2));
}

pub async fn an_empty_batch_is_fine(place: Place) {
    let store = place.store().await;
    assert!(store.commit(&[]).await.unwrap().is_empty());
}

pub async fn several_transitions_are_one_change(place: Place) {
    let store = place.store().await;
    let mut change = start("1");
    let id = change.saga.id;
    for version in 2..=4 {
        let at = later(i64::from(version));
        change.journal.push(JournalRow {
            version,
            moment: at.into(),
            input: Input::Clock,
            effects: vec![],
        });
        change.outbox.push(message(id, version, 0));
    }
    change.outbox.push(message(id, 4, 1));
    write(&*store, change.clone()).await;
    assert_eq!(load_one(&*store, id).await.version, 4);
    assert_eq!(store.journal(id).await.unwrap(), change.journal);
    let keys: Vec<_> = change.outbox.iter().map(|row| row.key).collect();
    assert_eq!(outbox_keys(&*store, NOW).await, keys);
}

pub async fn the_journal_is_in_order(place: Place) {
    let store = place.store().await;
    let sagas = write_starts(&*store, &["1", "2"]).await;
    let mut written = start("1").journal;
    for _ in 0..5 {
        let change = step(&load_one(&*store, sagas[0]).await);
        written.extend(change.journal.clone());
        write(&*store, change).await;
    }
    assert_eq!(store.journal(sagas[0]).await.unwrap(), written);
    assert_eq!(store.journal(sagas[1]).await.unwrap().len(), 1);
}

/// A NUL in a text is what PostgreSQL refuses, and so every store does.
pub async fn what_the_database_refuses_writes_nothing(place: Place) {
    let store = place.store().await;
    let saga = write_starts(&*store, &["1"]).await[0];
    let good = step(&load_one(&*store, saga).await);
    type Poison = fn(&mut Change);
    let poisoned: [(&str, Poison); 4] = [
        ("order id", |change| {
            let order = Arc::make_mut(change.order.as_mut().unwrap());
            order.order_id = "\0".to_owned();
        }),
        ("tenant", |change| {
            Arc::make_mut(change.order.as_mut().unwrap()).tenant = "a\0b".to_owned();
        }),
        ("channel", |change| change.outbox[0].channel = "x\0".to_owned()),
        ("reason", |change| {
            let mut row = deed(1);
            row.reason = "\0y".to_owned();
            change.audit = Some(row);
        }),
    ];
    let before = store.counts().await.unwrap();
    for (what, poison) in poisoned {
        let mut bad = start("2");
        poison(&mut bad);
        let refused = store.commit(&[good.clone(), bad]).await;
        assert!(matches!(refused, Err(StoreError::Rejected { .. })), "{what}: {refused:?}");
        assert_eq!(store.counts().await.unwrap(), before, "{what}");
    }
    let mut letter = letter(1, "2");
    letter.error = "\0".to_owned();
    assert!(matches!(store.bury(&[letter]).await, Err(StoreError::Rejected { .. })));
    write(&*store, good).await;
}

pub async fn a_new_saga_needs_its_order(place: Place) {
    let store = place.store().await;
    let change = Change { order: None, ..start("1") };
    assert!(matches!(store.commit(&[change]).await, Err(StoreError::Rejected { .. })));
    assert_eq!(store.counts().await.unwrap(), Counts::default());
}

pub async fn a_deed_is_audited_once_and_with_its_change(place: Place) {
    let store = place.store().await;
    let saga = write_starts(&*store, &["1"]).await[0];
    let stored = load_one(&*store, saga).await;
    let by_operator = Change { audit: Some(deed(1)), ..step(&stored) };
    write(&*store, by_operator.clone()).await;
    // The same call again, its answer having been lost: the fence holds.
    assert_eq!(store.commit(&[by_operator]).await.unwrap(), [Written::LostRace]);
    let stale = Change { audit: Some(deed(2)), ..step(&stored) };
    assert_eq!(store.commit(&[stale]).await.unwrap(), [Written::LostRace]);
    let kept = [AuditedRow { version: 2, deed: deed(1) }];
    assert_eq!(store.deeds(saga).await.unwrap(), kept);
    // And decided anew, under the same id: still one deed.
    let again = Change { audit: Some(deed(1)), ..step(&load_one(&*store, saga).await) };
    write(&*store, again).await;
    assert_eq!(store.deeds(saga).await.unwrap(), kept);
}

pub async fn a_breaker_is_open_until_it_is_closed(place: Place) {
    let store = place.store().await;
    store.open_breaker("wms", NOW).await.unwrap();
    store.open_breaker("wms", NOW + Millis(1)).await.unwrap();
    store.open_breaker("tms", NOW + Millis(2)).await.unwrap();
    let open = [("tms".to_owned(), NOW + Millis(2)), ("wms".to_owned(), NOW)];
    assert_eq!(store.open_breakers().await.unwrap(), open);
    for _ in 0..2 {
        store.close_breaker("wms").await.unwrap();
    }
    assert_eq!(store.open_breakers().await.unwrap(), open[..1]);
}

pub async fn a_request_waits_until_it_is_dropped(place: Place) {
    let store = place.store().await;
    let (first, second) = (request(1, NOW), request(2, NOW + Millis(1)));
    for row in [&second, &first, &first] {
        store.keep_request(row).await.unwrap();
    }
    assert_eq!(store.requests(10).await.unwrap(), [first.clone(), second.clone()]);
    assert_eq!(store.requests(1).await.unwrap(), std::slice::from_ref(&first));
    for _ in 0..2 {
        store.drop_request(first.id).await.unwrap();
    }
    assert_eq!(store.requests(10).await.unwrap(), [second]);
}

/// Each worker raises numbers in the sagas, loading and committing in batches, and repeats
/// what lost a race. In the end every raise is there.
pub async fn no_update_is_lost_between_eight_workers(place: Place) {
    const WORKERS: u64 = 8;
    const RAISES: u64 = 40;
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let store = place.store().await;
    let orders: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    let orders: Vec<&str> = orders.iter().map(String::as_str).collect();
    let sagas = write_starts(&*store, &orders).await;
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (store, sagas) = (store.clone(), sagas.clone());
            let rng = fastrand::Rng::with_seed(seed + worker);
            tokio::spawn(raise(store, sagas, rng, RAISES))
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    let stored = store.load(&sagas).await.unwrap();
    let raised: u64 =
        stored.iter().map(|stored| u64::from(stored.saga.steps[0].generation) - 1).sum();
    assert_eq!(raised, WORKERS * RAISES);
    for stored in stored {
        let journal = store.journal(stored.saga.id).await.unwrap();
        let versions: Vec<u32> = journal.iter().map(|row| row.version).collect();
        assert_eq!(versions, (1..=stored.version).collect::<Vec<_>>());
    }
}

async fn raise(store: Arc<dyn Store>, sagas: Vec<SagaId>, mut rng: fastrand::Rng, raises: u64) {
    let mut left = raises;
    while left > 0 {
        let size = usize::try_from(left).unwrap().min(5);
        let batch: Vec<SagaId> = rng.choose_multiple(sagas.iter().copied(), size);
        let changes: Vec<Change> = store.load(&batch).await.unwrap().iter().map(step).collect();
        let written = store.commit(&changes).await.unwrap();
        left -= written.iter().filter(|written| **written == Written::Committed).count() as u64;
    }
}

pub async fn a_commit_given_up_half_way_harms_nobody(place: Place) {
    let store = place.store().await;
    let saga = write_starts(&*store, &["1"]).await[0];
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for round in 0..60 {
        let batch = [step(&load_one(&*store, saga).await), start(&format!("x{round}"))];
        let within = Duration::from_micros(rng.u64(0..4_000));
        let _ = tokio::time::timeout(within, store.commit(&batch)).await;
    }
    // Whatever was committed was committed whole.
    assert_whole(&*store, saga).await;
    for stored in store.list(&Default::default(), None, 100).await.unwrap() {
        assert_whole(&*store, stored.saga.id).await;
    }
    while store.commit(&[step(&load_one(&*store, saga).await)]).await.unwrap()
        != [Written::Committed]
    {}
}

/// A commit that was given up may still take place at any moment, so it is looked at between
/// two looks at the version that agree.
async fn assert_whole(store: &dyn Store, saga: SagaId) {
    loop {
        let before = load_one(store, saga).await.version;
        let journal = store.journal(saga).await.unwrap();
        if load_one(store, saga).await.version == before {
            let versions: Vec<u32> = journal.iter().map(|row| row.version).collect();
            assert_eq!(versions, (1..=before).collect::<Vec<_>>());
            return;
        }
    }
}
