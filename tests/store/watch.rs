//! What those who watch ask.

use std::sync::Arc;

use makegood::saga::{Phase, SagaId, Status, Wait};
use makegood::store::Standing;
use uuid::Uuid;

use crate::place::Place;
use crate::samples::*;

pub async fn a_duty_is_one_workers_until_its_end(place: Place) {
    let store = place.store().await;
    let [ours, theirs] = [1, 2].map(Uuid::from_u128);
    let take = async |holder, now, until| {
        store.watch().take_duty("watch", holder, now, until).await.unwrap()
    };
    assert!(take(ours, NOW, later(45)).await);
    assert!(!take(theirs, later(44), later(90)).await, "it is ours for a second more");
    assert!(take(ours, later(15), later(60)).await, "who has it may keep it");
    assert!(!take(theirs, later(45), later(90)).await, "it was kept");
    assert!(take(theirs, later(60), later(90)).await, "its end has come");
    assert!(!take(ours, later(61), later(99)).await);
    assert!(take(theirs, later(62), later(62)).await, "given up");
    assert!(take(ours, later(62), later(99)).await);
    assert!(store.watch().take_duty("other", theirs, NOW, later(9)).await.unwrap());
}

pub async fn what_stands_is_counted_and_what_has_ended_is_not(place: Place) {
    let store = place.store().await;
    assert_eq!(store.watch().standing().await.unwrap(), Standing::default());
    for (number, status) in [
        Status::Completed,
        Status::Running,
        Status::Compensating,
        Status::Running,
        Status::Abandoned,
    ]
    .into_iter()
    .enumerate()
    {
        let mut change = start(&number.to_string());
        change.saga.status = status;
        change.saga.started_at = later(number as i64);
        change.due = (!status.is_final()).then(|| later(100 - number as i64));
        if number == 3 {
            change.saga.attention.push(attention());
        }
        write(&*store, change).await;
    }
    store.bury(&[letter(1, "9"), letter(2, "9")]).await.unwrap();
    let standing = store.watch().standing().await.unwrap();
    let of = |status| standing.active.iter().find(|(s, _)| *s == status).map(|(_, count)| *count);
    assert_eq!((of(Status::Running), of(Status::Compensating)), (Some(2), Some(1)));
    assert_eq!(standing.active.len(), 2, "what has ended is not counted");
    assert_eq!(standing.oldest, Some(later(1)));
    assert_eq!((standing.attention, standing.at_risk), (1, 1));
    assert_eq!(standing.next_due, Some(later(97)));
    assert_eq!((standing.outbox, standing.outbox_oldest), (5, Some(NOW)));
    assert_eq!(standing.dead_letters, [("unknown-order".to_owned(), 2)]);
    // It ends, and is no longer among them.
    let mut end = step(&load_one(&*store, SagaId::of(TENANT, "1", DEFINITION)).await);
    end.saga.status = Status::Completed;
    end.due = None;
    write(&*store, end).await;
    let standing = store.watch().standing().await.unwrap();
    assert_eq!(standing.oldest, Some(later(2)));
    assert_eq!(standing.active.iter().map(|(_, count)| count).sum::<u64>(), 2);
}

pub async fn what_is_at_risk_is_found_until_it_is_settled(place: Place) {
    let store = place.store().await;
    let mut called = start("called");
    called.saga.attention.push(attention());
    let mut doubted = start("doubted");
    doubted.saga.steps[0].phase = Phase::Asking(Wait::default());
    let mut abandoned = start("abandoned");
    abandoned.saga.steps[0].phase = Phase::Asking(Wait::default());
    abandoned.saga.status = Status::Abandoned;
    let fine = start("fine");
    let mut expected = [called.saga.id, doubted.saga.id];
    expected.sort_unstable();
    for change in [called, doubted, abandoned, fine] {
        write(&*store, change).await;
    }
    let found = async |limit| -> Vec<SagaId> {
        let stored = store.watch().at_risk(limit).await.unwrap();
        stored.iter().map(|stored| stored.saga.id).collect()
    };
    assert_eq!(found(10).await, expected);
    assert_eq!(found(1).await, expected[..1], "no more than asked for");
    assert_eq!(store.watch().standing().await.unwrap().at_risk, 2);
    for id in expected {
        let mut settled = step(&load_one(&*store, id).await);
        settled.saga.attention.clear();
        settled.saga.steps[0].phase = Phase::Done;
        write(&*store, settled).await;
    }
    assert_eq!(found(10).await, []);
    let stored = store.watch().at_risk(1).await.unwrap();
    assert!(stored.is_empty());
}

pub async fn the_oldest_message_is_told_by_its_journal(place: Place) {
    let store = place.store().await;
    let mut first = start("1");
    first.journal[0].moment = later(7).into();
    let mut second = start_of(Arc::new((*order(TENANT, "2")).clone()));
    second.journal[0].moment = later(3).into();
    let key = second.outbox[0].key;
    write(&*store, first).await;
    write(&*store, second).await;
    // A claim changes when it is looked at, and not how old it is.
    store.claim_outbox(NOW, later(500), 10).await.unwrap();
    assert_eq!(store.watch().standing().await.unwrap().outbox_oldest, Some(later(3)));
    store.delete_outbox(&[(key, later(500))]).await.unwrap();
    let standing = store.watch().standing().await.unwrap();
    assert_eq!((standing.outbox, standing.outbox_oldest), (1, Some(later(7))));
}
