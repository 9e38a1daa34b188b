//! Dead letters: kept, counted, found again, taken in.

use makegood::store::{Change, DeadLetter, Written};

use crate::place::Place;
use crate::samples::*;

pub async fn the_same_letter_again_counts_an_attempt(place: Place) {
    let store = place.store().await;
    let first = letter(1, "1");
    store.bury(&[first.clone(), letter(2, "2")]).await.unwrap();
    let again = DeadLetter { first_seen: later(5), last_seen: later(5), ..first.clone() };
    store.bury(&[again]).await.unwrap();
    let letters = store.dead_letters(10).await.unwrap();
    assert_eq!(letters[0], DeadLetter { last_seen: later(5), attempts: 2, ..first });
    assert_eq!(letters[1], letter(2, "2"));
    store.bury(&[]).await.unwrap();
    assert_eq!(store.counts().await.unwrap().dead_letters, 2);
}

pub async fn the_same_letter_twice_in_a_batch_counts_both(place: Place) {
    let store = place.store().await;
    let twice = [letter(1, "1"), letter(2, "1"), letter(1, "1")];
    store.bury(&twice).await.unwrap();
    store.bury(&twice).await.unwrap();
    let mut letters = store.dead_letters(10).await.unwrap();
    letters.sort_by_key(|letter| letter.id);
    let attempts: Vec<u32> = letters.iter().map(|letter| letter.attempts).collect();
    assert_eq!(attempts, [4, 2]);
}

pub async fn parked_letters_are_found_by_order(place: Place) {
    let store = place.store().await;
    let early = DeadLetter { first_seen: later(-9), ..letter(3, "1") };
    let elsewhere = DeadLetter { tenant: Some("other".to_owned()), ..letter(4, "1") };
    let malformed = DeadLetter { reason: "unparseable".to_owned(), ..letter(5, "1") };
    let nobodys = DeadLetter { tenant: None, order_id: None, ..letter(6, "1") };
    let all = [letter(1, "1"), letter(2, "2"), early.clone(), elsewhere, malformed, nobodys];
    store.bury(&all).await.unwrap();
    let order = |order_id: &str| (TENANT.to_owned(), order_id.to_owned());
    assert_eq!(store.parked(&[order("1")]).await.unwrap(), [early.clone(), letter(1, "1")]);
    let both = store.parked(&[order("2"), order("1"), order("3")]).await.unwrap();
    assert_eq!(both, [early, letter(1, "1"), letter(2, "2")]);
    assert!(store.parked(&[]).await.unwrap().is_empty());
}

pub async fn letters_are_revived_only_by_the_winner(place: Place) {
    let store = place.store().await;
    store.bury(&[letter(1, "1"), letter(2, "1"), letter(3, "2")]).await.unwrap();
    write_starts(&*store, &["2"]).await;
    let winner = Change { revived: vec![letter(2, "1").id, letter(1, "1").id], ..start("1") };
    let loser = Change { revived: vec![letter(3, "2").id], ..start("2") };
    let written = store.commit(&[winner, loser]).await.unwrap();
    assert_eq!(written, [Written::Committed, Written::LostRace]);
    assert_eq!(store.dead_letters(10).await.unwrap(), [letter(3, "2")]);
}

pub async fn the_newest_letters_come_first(place: Place) {
    let store = place.store().await;
    let seen = |id, seconds| DeadLetter { last_seen: later(seconds), ..letter(id, "1") };
    let letters = [seen(1, 2), seen(2, 3), seen(3, 1)];
    store.bury(&letters).await.unwrap();
    let newest = store.dead_letters(2).await.unwrap();
    assert_eq!(newest, [letters[1].clone(), letters[0].clone()]);
}

pub async fn a_change_without_transitions_only_takes_letters_away(place: Place) {
    let store = place.store().await;
    write_starts(&*store, &["1"]).await;
    store.bury(&[letter(1, "1")]).await.unwrap();
    let before = store.load(&[start("1").saga.id]).await.unwrap().remove(0);
    let taken = |from_version| Change {
        saga: before.saga.clone(),
        from_version,
        order: None,
        journal: Vec::new(),
        due: before.due,
        outbox: Vec::new(),
        revived: vec![letter(1, "1").id],
        shipments: Vec::new(),
        scans: Vec::new(),
        audit: None,
    };
    assert_eq!(store.commit(&[taken(before.version + 1)]).await.unwrap(), [Written::LostRace]);
    assert_eq!(store.counts().await.unwrap().dead_letters, 1);
    assert_eq!(store.commit(&[taken(before.version)]).await.unwrap(), [Written::Committed]);
    assert_eq!(store.counts().await.unwrap().dead_letters, 0);
    assert_eq!(store.load(&[before.saga.id]).await.unwrap(), std::slice::from_ref(&before));
    assert_eq!(store.journal(before.saga.id).await.unwrap().len(), 1);
}

pub async fn a_letter_learns_what_it_is_about_and_forgets_nothing(place: Place) {
    let store = place.store().await;
    let known = DeadLetter { kind: Some("a.v1".to_owned()), ..letter(1, "1") };
    let unknown =
        DeadLetter { tenant: None, order_id: None, reason: "dead".to_owned(), ..letter(1, "1") };
    store.bury(std::slice::from_ref(&unknown)).await.unwrap();
    store.bury(std::slice::from_ref(&known)).await.unwrap();
    let order = (TENANT.to_owned(), "1".to_owned());
    let parked = store.parked(std::slice::from_ref(&order)).await.unwrap();
    assert_eq!(parked, [DeadLetter { attempts: 2, ..known.clone() }]);
    store.bury(&[unknown]).await.unwrap();
    let now = store.dead_letters(1).await.unwrap().remove(0);
    assert_eq!((now.kind, now.order_id), (known.kind, known.order_id));
}
