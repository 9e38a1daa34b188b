//! Timers: who is due, and who takes it.

use makegood::saga::{SagaId, Time};
use makegood::store::{Change, Store};

use crate::place::Place;
use crate::samples::*;

async fn write_due(store: &dyn Store, dues: &[Option<Time>]) -> Vec<SagaId> {
    let mut sagas = Vec::new();
    for (number, due) in dues.iter().enumerate() {
        let change = Change { due: *due, ..start(&number.to_string()) };
        sagas.push(change.saga.id);
        write(store, change).await;
    }
    sagas
}

pub async fn a_claim_takes_the_earliest_first(place: Place) {
    let store = place.store().await;
    let dues = [Some(later(3)), Some(later(1)), None, Some(later(2)), Some(later(9))];
    let sagas = write_due(&*store, &dues).await;
    assert!(store.claim_due(NOW, later(60), 10).await.unwrap().is_empty());
    let claimed = store.claim_due(later(3), later(60), 2).await.unwrap();
    assert_eq!(claimed, [sagas[1], sagas[3]]);
    // A saga is due at its time, not only after it.
    assert_eq!(store.claim_due(later(3), later(60), 2).await.unwrap(), [sagas[0]]);
}

pub async fn a_claim_leases_until_its_end(place: Place) {
    let store = place.store().await;
    let sagas = write_due(&*store, &[Some(later(1))]).await;
    assert_eq!(store.claim_due(later(1), later(30), 10).await.unwrap(), sagas);
    assert!(store.claim_due(later(29), later(60), 10).await.unwrap().is_empty());
    assert_eq!(load_one(&*store, sagas[0]).await.due, Some(later(30)));
    // The worker that claimed it is dead: the next one takes it over.
    assert_eq!(store.claim_due(later(30), later(60), 10).await.unwrap(), sagas);
    // A claim is no transition: what was loaded before it can still be committed.
    let change = Change { due: Some(later(5)), ..step(&load_one(&*store, sagas[0]).await) };
    store.claim_due(later(60), later(90), 10).await.unwrap();
    write(&*store, change).await;
    assert_eq!(store.next_due().await.unwrap(), Some(later(5)));
}

pub async fn two_workers_claim_different_sagas(place: Place) {
    let store = place.store().await;
    let sagas = write_due(&*store, &[Some(NOW); 40]).await;
    let claim = || async {
        let mut mine = Vec::new();
        loop {
            let claimed = store.claim_due(NOW, later(60), 3).await.unwrap();
            if claimed.is_empty() {
                return mine;
            }
            mine.extend(claimed);
        }
    };
    let (one, other) = tokio::join!(claim(), claim());
    let mut all = [one, other].concat();
    all.extend(claim().await); // what both skipped because the other held it just then
    all.sort_unstable();
    let mut expected = sagas;
    expected.sort_unstable();
    assert_eq!(all, expected);
}

pub async fn rescheduling_is_fenced(place: Place) {
    let store = place.store().await;
    let sagas = write_due(&*store, &[Some(later(1)), Some(later(1)), Some(later(1))]).await;
    write(&*store, step(&load_one(&*store, sagas[1]).await)).await;
    let unknown = SagaId::of(TENANT, "unknown", DEFINITION);
    let moved = [
        (sagas[0], 1, Some(later(7))),
        (sagas[1], 1, Some(later(7))),
        (sagas[2], 1, None),
        (unknown, 1, None),
    ];
    store.reschedule(&moved).await.unwrap();
    store.reschedule(&[]).await.unwrap();
    let first = load_one(&*store, sagas[0]).await;
    assert_eq!((first.due, first.version), (Some(later(7)), 1));
    assert_eq!(load_one(&*store, sagas[1]).await.due, Some(later(1)));
    assert_eq!(load_one(&*store, sagas[2]).await.due, None);
}

pub async fn next_due_is_the_earliest_of_all(place: Place) {
    let store = place.store().await;
    assert_eq!(store.next_due().await.unwrap(), None);
    write_due(&*store, &[None, Some(later(8)), Some(later(4)), Some(later(6))]).await;
    assert_eq!(store.next_due().await.unwrap(), Some(later(4)));
}
