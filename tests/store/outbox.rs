//! The outbox: rows of those who won, each with one relay at a time, until deleted.

use makegood::store::Change;

use crate::place::Place;
use crate::samples::*;

pub async fn only_the_winner_has_rows(place: Place) {
    let store = place.store().await;
    let saga = write_starts(&*store, &["1"]).await[0];
    let stale = load_one(&*store, saga).await;
    let winner = step(&stale);
    let loser = Change { outbox: vec![message(saga, 2, 5)], ..step(&stale) };
    write(&*store, winner.clone()).await;
    store.commit(&[loser]).await.unwrap();
    let rows = store.claim_outbox(NOW, later(30), 10).await.unwrap();
    let mut expected = [start("1").outbox, winner.outbox].concat();
    for row in &mut expected {
        row.claimed_until = later(30);
    }
    assert_eq!(rows, expected);
}

pub async fn a_claimed_row_waits_for_its_lease_to_end(place: Place) {
    let store = place.store().await;
    // The worker that writes a row claims it for itself at once.
    let mut change = start("1");
    change.outbox[0].claimed_until = later(30);
    let key = change.outbox[0].key;
    write(&*store, change).await;
    assert!(store.claim_outbox(later(29), later(60), 10).await.unwrap().is_empty());
    // It died before it published: the sweeper finds the row.
    let rows = store.claim_outbox(later(30), later(60), 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.key).collect::<Vec<_>>(), [key]);
    assert!(store.claim_outbox(later(59), later(90), 10).await.unwrap().is_empty());
    assert_eq!(store.claim_outbox(later(60), later(90), 10).await.unwrap().len(), 1);
}

pub async fn two_relays_claim_different_rows(place: Place) {
    let store = place.store().await;
    let mut change = start("1");
    change.outbox = (0..60).map(|number| message(change.saga.id, 1, number)).collect();
    write(&*store, change).await;
    let claim = || async {
        let mut mine = Vec::new();
        loop {
            let claimed = store.claim_outbox(NOW, later(60), 7).await.unwrap();
            if claimed.is_empty() {
                return mine;
            }
            mine.extend(claimed.iter().map(|row| row.key.number));
        }
    };
    let (one, other) = tokio::join!(claim(), claim());
    let mut all = [one, other].concat();
    all.extend(claim().await); // what both skipped because the other held it just then
    all.sort_unstable();
    assert_eq!(all, (0..60).collect::<Vec<_>>());
}

pub async fn a_deleted_row_is_gone_and_deleting_again_is_fine(place: Place) {
    let store = place.store().await;
    let sagas = write_starts(&*store, &["1", "2"]).await;
    let [one, other] = sagas[..] else { panic!("two sagas") };
    let row = (message(one, 1, 0).key, NOW);
    store.delete_outbox(&[row]).await.unwrap();
    store.delete_outbox(&[row, (message(one, 9, 0).key, NOW)]).await.unwrap();
    store.delete_outbox(&[]).await.unwrap();
    assert_eq!(outbox_keys(&*store, NOW).await, [message(other, 1, 0).key]);
    assert_eq!(store.counts().await.unwrap().outbox, 1);
}

pub async fn a_row_that_was_claimed_since_is_left_to_its_new_owner(place: Place) {
    let store = place.store().await;
    let saga = write_starts(&*store, &["1"]).await[0];
    let claimed = store.claim_outbox(NOW, later(30), 10).await.unwrap();
    assert_eq!(claimed[0].claimed_until, later(30));
    let key = message(saga, 1, 0).key;
    store.delete_outbox(&[(key, NOW)]).await.unwrap();
    assert_eq!(store.counts().await.unwrap().outbox, 1);
    store.delete_outbox(&[(key, later(30))]).await.unwrap();
    assert_eq!(store.counts().await.unwrap().outbox, 0);
}

pub async fn a_claim_is_bounded(place: Place) {
    let store = place.store().await;
    write_starts(&*store, &["1", "2", "3"]).await;
    assert_eq!(store.claim_outbox(NOW, later(30), 2).await.unwrap().len(), 2);
    assert_eq!(store.claim_outbox(NOW, later(30), 2).await.unwrap().len(), 1);
}
