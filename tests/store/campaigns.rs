//! What operators do with dead letters: groups, corrected copies, and campaigns of replays.

use makegood::saga::Time;
use makegood::store::{
    Campaign, CampaignState, Claim, Closed, DeadLetter, LetterDeed, LetterFilter, Outcome, Plan,
    ReplayedOf, Settlement, Store,
};
use uuid::Uuid;

use crate::place::Place;
use crate::samples::*;

const ONE: Uuid = Uuid::from_u128(0xa);
const OTHER: Uuid = Uuid::from_u128(0xb);

fn all() -> LetterFilter {
    LetterFilter::default()
}

fn id(letter: u128) -> Uuid {
    Uuid::from_u128(letter)
}

fn unreadable(number: u128, error: &str) -> DeadLetter {
    DeadLetter {
        reason: "unparseable".to_owned(),
        error: error.to_owned(),
        kind: Some("wms.pick.replied.v1".to_owned()),
        participant: Some("wms".to_owned()),
        first_seen: later(i64::try_from(number).unwrap()),
        ..letter(number, "1")
    }
}

fn campaign(number: u128) -> Campaign {
    Campaign {
        id: id(number),
        version: 1,
        state: CampaignState::Running,
        why: None,
        plan: Plan { filter: all(), ramp: vec![1, 5], rate: 7, stop_percent: 10, stop_from: 5 },
        actor: "ana".to_owned(),
        reason: "the WMS is back".to_owned(),
        total: 0,
        released: 0,
        settled: 0,
        failed: 0,
        base: 0,
        paced_at: NOW,
        judged_from: NOW,
        started_at: NOW,
        changed_at: NOW,
    }
}

fn claim(by: Uuid, seconds: i64) -> Claim {
    Claim { by, until: later(seconds) }
}

fn did(subject: Uuid, verb: &str) -> LetterDeed {
    LetterDeed {
        subject,
        id: id(0xdeed),
        at: later(1),
        actor: "ana".to_owned(),
        verb: verb.to_owned(),
        reason: "known noise".to_owned(),
    }
}

fn result(letter: u128, outcome: Outcome) -> Settlement {
    let failed = outcome == Outcome::Failed;
    let reason = if failed { "unparseable" } else { "" }.to_owned();
    Settlement { letter: id(letter), outcome, reason, error: String::new() }
}

async fn current(store: &dyn Store, campaign: &Campaign) -> Campaign {
    store.letters().campaign(campaign.id).await.unwrap().expect("it is there")
}

/// Claims the next replays; the letters' ids.
async fn release(store: &dyn Store, campaign: &Campaign, count: u32, claim: Claim) -> Vec<Uuid> {
    let campaign = current(store, campaign).await;
    let released = store.letters().release(&campaign, count, claim).await.unwrap();
    released.expect("nobody was faster").iter().map(|replay| replay.letter).collect()
}

pub async fn letters_that_failed_alike_are_one_group(place: Place) {
    let store = place.store().await;
    let letters = [
        unreadable(1, "line 1"),
        unreadable(2, "line 22"),
        unreadable(3, "cut off"),
        DeadLetter { participant: Some("tms".to_owned()), ..unreadable(4, "line 1") },
        DeadLetter { kind: None, participant: None, ..unreadable(5, "line 1") },
    ];
    store.bury(&letters).await.unwrap();
    let groups = store.letters().groups(&all(), 10).await.unwrap();
    let sizes: Vec<u64> = groups.iter().map(|group| group.letters).collect();
    assert_eq!(sizes, [2, 1, 1, 1]);
    let first = &groups[0];
    assert_eq!(first.fingerprint, letters[0].fingerprint());
    assert_eq!((first.first_seen, first.last_seen), (later(1), NOW));
    assert_eq!((first.source.as_str(), first.reason.as_str()), ("facts", "unparseable"));
    assert_eq!(first.participant.as_deref(), Some("wms"));
    let group = LetterFilter { group: Some(first.fingerprint.clone()), ..all() };
    assert_eq!(store.letters().page(&group, None, 9).await.unwrap(), letters[..2]);
    assert_eq!(store.letters().groups(&all(), 1).await.unwrap(), groups[..1]);
    store.letters().start(&campaign(0xc1), &group, 9).await.unwrap();
    assert_eq!(store.letters().groups(&group, 9).await.unwrap()[0].replaying, 2);
    // What fails otherwise the next time belongs to another group.
    store.bury(&[unreadable(2, "cut off")]).await.unwrap();
    assert_eq!(store.letters().count(&group).await.unwrap(), 1);
}

pub async fn letters_are_filtered_and_paged(place: Place) {
    let store = place.store().await;
    let mut letters = vec![
        unreadable(1, "a"),
        DeadLetter { source: "orders".to_owned(), ..unreadable(2, "a") },
        DeadLetter { tenant: Some("other".to_owned()), ..unreadable(3, "a") },
        DeadLetter { order_id: Some("9".to_owned()), ..unreadable(4, "a") },
        DeadLetter { last_seen: later(100), ..unreadable(5, "a") },
        DeadLetter { kind: Some("x.v1".to_owned()), ..unreadable(6, "a") },
        DeadLetter { participant: Some("tms".to_owned()), ..unreadable(7, "a") },
        DeadLetter { reason: "oversized".to_owned(), ..unreadable(8, "a") },
    ];
    store.bury(&letters).await.unwrap();
    let some = |text: &str| Some(text.to_owned());
    for (filter, expected) in [
        (LetterFilter { source: some("orders"), ..all() }, vec![2]),
        (LetterFilter { tenant: some("other"), ..all() }, vec![3]),
        (LetterFilter { order_id: some("9"), ..all() }, vec![4]),
        (LetterFilter { seen_before: Some(NOW.0), ..all() }, vec![1, 2, 3, 4, 6, 7, 8]),
        (LetterFilter { kind: some("x.v1"), ..all() }, vec![6]),
        (LetterFilter { participant: some("tms"), ..all() }, vec![7]),
        (LetterFilter { reason: some("oversized"), ..all() }, vec![8]),
        (LetterFilter { ids: Some(vec![id(4), id(1), id(77)]), ..all() }, vec![1, 4]),
        (LetterFilter { ids: Some(Vec::new()), ..all() }, vec![]),
        (LetterFilter { ids: Some(vec![id(4)]), source: some("orders"), ..all() }, vec![]),
    ] {
        let found = store.letters().page(&filter, None, 9).await.unwrap();
        let found: Vec<Uuid> = found.iter().map(|letter| letter.id).collect();
        assert_eq!(found, expected.into_iter().map(id).collect::<Vec<_>>(), "{filter:?}");
        assert_eq!(store.letters().count(&filter).await.unwrap(), found.len() as u64);
    }
    // Letters of the same time are in the order of their ids.
    letters.push(DeadLetter { first_seen: later(8), ..unreadable(9, "a") });
    store.bury(&letters[8..]).await.unwrap();
    let mut read = Vec::new();
    while let page = store
        .letters()
        .page(&all(), read.last().map(|l: &DeadLetter| (l.first_seen, l.id)), 4)
        .await
        .unwrap()
        && !page.is_empty()
    {
        read.extend(page);
    }
    assert_eq!(read, letters);
}

pub async fn a_corrected_copy_takes_the_place_of_the_original(place: Place) {
    let store = place.store().await;
    let original = letter(1, "1");
    store.bury(std::slice::from_ref(&original)).await.unwrap();
    let copy = DeadLetter {
        body: b"corrected".to_vec(),
        corrects: Some(original.id),
        attempts: 0,
        ..letter(2, "1")
    };
    assert!(store.letters().correct(&copy, &did(original.id, "edit")).await.unwrap());
    let closed = DeadLetter { closed: Some((Closed::Corrected, later(1))), ..original.clone() };
    let both = LetterFilter { also_closed: true, ..all() };
    assert_eq!(store.letters().page(&both, None, 9).await.unwrap(), [closed, copy.clone()]);
    assert_eq!(store.letters().page(&all(), None, 9).await.unwrap(), std::slice::from_ref(&copy));
    assert_eq!(store.letters().deeds(original.id).await.unwrap(), [did(original.id, "edit")]);
    // Both wait for their order: the original does no more.
    let order = (TENANT.to_owned(), "1".to_owned());
    assert_eq!(store.parked(&[order]).await.unwrap(), std::slice::from_ref(&copy));
    // What is closed is corrected no more, nor what is being replayed.
    let again = DeadLetter { id: id(3), ..copy.clone() };
    assert!(!store.letters().correct(&again, &did(original.id, "edit")).await.unwrap());
    store.letters().start(&campaign(0xc1), &all(), 9).await.unwrap();
    let again = DeadLetter { corrects: Some(copy.id), ..again };
    assert!(!store.letters().correct(&again, &did(copy.id, "edit")).await.unwrap());
    assert_eq!(store.counts().await.unwrap().dead_letters, 1);
    assert!(store.letters().deeds(copy.id).await.unwrap().is_empty());
}

pub async fn discarded_letters_are_closed_until_they_come_again(place: Place) {
    let store = place.store().await;
    let letters = [letter(1, "1"), letter(2, "1"), letter(3, "2")];
    store.bury(&letters).await.unwrap();
    store.letters().start(&campaign(0xc1), &LetterFilter::ids(&[id(2)]), 9).await.unwrap();
    let of_one = LetterFilter { order_id: Some("1".to_owned()), ..all() };
    let deed = did(Uuid::nil(), "discard");
    assert_eq!(store.letters().discard(&of_one, 9, &deed).await.unwrap(), 1);
    assert_eq!(store.letters().discard(&of_one, 9, &deed).await.unwrap(), 0);
    let open = store.letters().page(&all(), None, 9).await.unwrap();
    assert_eq!(open, letters[1..], "what is being replayed is left alone");
    assert_eq!(store.letters().deeds(id(1)).await.unwrap(), [did(id(1), "discard")]);
    let order = (TENANT.to_owned(), "1".to_owned());
    assert_eq!(store.parked(&[order]).await.unwrap(), letters[1..2], "nor is it taken in any more");
    assert_eq!(store.counts().await.unwrap().dead_letters, 2);
    store.bury(&letters[..1]).await.unwrap();
    let again = DeadLetter { attempts: 2, ..letters[0].clone() };
    assert_eq!(store.letters().page(&LetterFilter::ids(&[id(1)]), None, 9).await.unwrap(), [again]);
    assert_eq!(
        store.letters().discard(&all(), 1, &LetterDeed { id: ONE, ..deed }).await.unwrap(),
        1
    );
    // Those that were closed long enough ago go.
    assert_eq!(store.letters().purge_closed(NOW, 9).await.unwrap(), 0);
    assert_eq!(store.letters().purge_closed(later(1), 9).await.unwrap(), 1);
    assert_eq!(store.dead_letters(9).await.unwrap().len(), 2);
}

pub async fn a_letter_has_one_outstanding_replay(place: Place) {
    let store = place.store().await;
    let letters: Vec<DeadLetter> = (1..=5).map(|number| unreadable(number, "a")).collect();
    store.bury(&letters).await.unwrap();
    let (first, second, third) = (campaign(0xc1), campaign(0xc2), campaign(0xc3));
    assert_eq!(store.letters().start(&first, &all(), 3).await.unwrap(), 3);
    assert_eq!(store.letters().start(&second, &all(), 9).await.unwrap(), 2);
    assert_eq!(store.letters().start(&third, &all(), 9).await.unwrap(), 0);
    assert_eq!(store.letters().campaign(third.id).await.unwrap(), None);
    assert_eq!(current(&*store, &first).await, Campaign { total: 3, ..first.clone() });
    let newest_first = store.letters().campaigns(None, 9).await.unwrap();
    assert_eq!(newest_first.iter().map(|c| c.total).collect::<Vec<_>>(), [2, 3]);
    assert!(store.letters().campaigns(Some(CampaignState::Done), 9).await.unwrap().is_empty());
    let outstanding = store.letters().outstanding(&[id(5), id(77)]).await.unwrap();
    assert_eq!(outstanding[0].campaign, second.id);
    assert_eq!(outstanding.len(), 1);
    let deeds = store.letters().deeds(first.id).await.unwrap();
    assert_eq!((deeds[0].verb.as_str(), deeds[0].actor.as_str()), ("replay", "ana"));
}

pub async fn two_campaigns_started_at_once_share_no_letter(place: Place) {
    let store = place.store().await;
    let letters: Vec<DeadLetter> = (1..=300).map(|number| unreadable(number, "a")).collect();
    store.bury(&letters).await.unwrap();
    let starts = (1..=4u128).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            store.letters().start(&campaign(0xc0 + number), &all(), 1_000).await.unwrap()
        })
    });
    let mut made = 0;
    for start in starts.collect::<Vec<_>>() {
        made += start.await.unwrap();
    }
    assert_eq!(made, 300);
    let campaigns = store.letters().campaigns(None, 9).await.unwrap();
    assert_eq!(campaigns.iter().map(|campaign| campaign.total).sum::<u32>(), 300);
}

pub async fn replays_go_out_in_order_and_by_one_worker(place: Place) {
    let store = place.store().await;
    let letters: Vec<DeadLetter> = (1..=5).map(|number| unreadable(number, "a")).collect();
    store.bury(&letters).await.unwrap();
    let made = campaign(0xc1);
    store.letters().start(&made, &all(), 9).await.unwrap();
    let seen = current(&*store, &made).await;
    let paced = Campaign { paced_at: later(3), ..seen.clone() };
    let first = store.letters().release(&paced, 2, claim(ONE, 30)).await.unwrap().unwrap();
    assert_eq!(first.iter().map(|replay| replay.letter).collect::<Vec<_>>(), [id(1), id(2)]);
    assert_eq!(store.letters().release(&seen, 2, claim(OTHER, 30)).await.unwrap(), None);
    let now = current(&*store, &made).await;
    assert_eq!((now.version, now.released, now.paced_at), (2, 2, later(3)));
    assert_eq!(release(&*store, &made, 9, claim(OTHER, 40)).await, [id(3), id(4), id(5)]);
    // Nobody takes over a claim that holds; one that is prolonged holds longer.
    assert!(store.letters().reclaim(later(29), claim(OTHER, 60), 9).await.unwrap().is_empty());
    store.letters().renew(claim(ONE, 50)).await.unwrap();
    let taken = store.letters().reclaim(later(40), claim(ONE, 60), 9).await.unwrap();
    let mut taken: Vec<Uuid> = taken.iter().map(|replay| replay.letter).collect();
    taken.sort();
    assert_eq!(taken, [id(3), id(4), id(5)]);
    // Now all five are at their end; these were in hand twice before, the others once.
    store
        .letters()
        .settle(ONE, &[result(1, Outcome::Gone), result(2, Outcome::Gone)], NOW)
        .await
        .unwrap();
    let again = store.letters().reclaim(later(60), claim(OTHER, 90), 2).await.unwrap();
    assert_eq!(again.iter().map(|replay| replay.claims).collect::<Vec<_>>(), [3, 3]);
    assert_eq!(current(&*store, &made).await.released, 5);
}

pub async fn what_comes_of_replays_is_written_down_once(place: Place) {
    let store = place.store().await;
    let letters: Vec<DeadLetter> = (1..=4).map(|number| unreadable(number, "a")).collect();
    store.bury(&letters).await.unwrap();
    let made = campaign(0xc1);
    store.letters().start(&made, &all(), 9).await.unwrap();
    release(&*store, &made, 3, claim(ONE, 30)).await;
    let results = [
        result(2, Outcome::Failed),
        result(1, Outcome::Advanced),
        result(3, Outcome::Parked),
        result(4, Outcome::Advanced), // not in anybody's hands
    ];
    assert_eq!(store.letters().settle(OTHER, &results, later(5)).await.unwrap(), 0);
    assert_eq!(store.letters().settle(ONE, &results, later(5)).await.unwrap(), 3);
    assert_eq!(store.letters().settle(ONE, &results, later(6)).await.unwrap(), 0);
    let now = current(&*store, &made).await;
    assert_eq!((now.settled, now.failed, now.released, now.total), (3, 1, 3, 4));
    let open = store.letters().page(&all(), None, 9).await.unwrap();
    assert_eq!(open.iter().map(|letter| letter.id).collect::<Vec<_>>(), [id(2), id(3), id(4)]);
    let closed = store.letters().page(&LetterFilter { also_closed: true, ..all() }, None, 1).await;
    assert_eq!(closed.unwrap()[0].closed, Some((Closed::Replayed, later(5))));
    let outcomes = store.letters().outcomes(made.id).await.unwrap();
    let expected = [("advanced", 1), ("failed", 1), ("parked", 1)];
    assert_eq!(outcomes, expected.map(|(outcome, count)| (outcome.to_owned(), count)));
    let of = ReplayedOf::Campaign(made.id);
    assert_eq!(store.letters().replayed(of, false, 9).await.unwrap().len(), 3);
    let failed = store.letters().replayed(of, true, 9).await.unwrap();
    assert_eq!((failed.len(), failed[0].letter, failed[0].at), (1, id(2), later(5)));
    assert_eq!(failed[0].reason, "unparseable");
    assert_eq!(store.letters().recent(made.id, NOW, 9).await.unwrap(), (3, 1));
    assert_eq!(store.letters().recent(made.id, later(6), 9).await.unwrap(), (0, 0));
    assert_eq!(store.letters().recent(made.id, NOW, 2).await.unwrap().0, 2);
    // What failed may be replayed again, by another campaign, and is told of both.
    let again = campaign(0xc2);
    let failed = LetterFilter::ids(&[id(2)]);
    assert_eq!(store.letters().start(&again, &failed, 9).await.unwrap(), 1);
    release(&*store, &again, 1, claim(ONE, 30)).await;
    store.letters().settle(ONE, &[result(2, Outcome::Duplicate)], later(7)).await.unwrap();
    let both = store.letters().replayed(ReplayedOf::Letter(id(2)), false, 9).await.unwrap();
    let outcomes: Vec<&str> = both.iter().map(|row| row.outcome.as_str()).collect();
    assert_eq!(outcomes, ["failed", "duplicate"]);
}

pub async fn a_campaign_changes_only_for_who_has_seen_it(place: Place) {
    let store = place.store().await;
    let letters: Vec<DeadLetter> = (1..=4).map(|number| unreadable(number, "a")).collect();
    store.bury(&letters).await.unwrap();
    let made = campaign(0xc1);
    store.letters().start(&made, &all(), 9).await.unwrap();
    release(&*store, &made, 1, claim(ONE, 30)).await;
    let seen = current(&*store, &made).await;
    let stopped = Campaign {
        state: CampaignState::Stopped,
        why: Some("5 of 5 failed".to_owned()),
        base: 1,
        judged_from: later(4),
        changed_at: later(4),
        ..seen.clone()
    };
    assert!(store.letters().change(&stopped, None).await.unwrap());
    assert!(!store.letters().change(&seen, Some(&did(made.id, "pause"))).await.unwrap());
    let now = current(&*store, &made).await;
    assert_eq!(now, Campaign { version: seen.version + 1, ..stopped });
    assert_eq!(store.letters().deeds(made.id).await.unwrap().len(), 1, "the start alone");
    // One that does not run lets nothing go, and keeps what its worker left.
    assert_eq!(store.letters().release(&now, 9, claim(ONE, 30)).await.unwrap(), None);
    assert!(store.letters().reclaim(later(60), claim(ONE, 90), 9).await.unwrap().is_empty());
    let cancelled = Campaign { state: CampaignState::Cancelled, ..now };
    let deed = did(made.id, "cancel");
    assert!(store.letters().change(&cancelled, Some(&deed)).await.unwrap());
    assert_eq!(store.letters().deeds(made.id).await.unwrap()[1], deed);
    let ids: Vec<Uuid> = (1..=4).map(id).collect();
    assert_eq!(store.letters().outstanding(&ids).await.unwrap().len(), 1, "in a worker's hands");
    store.letters().reclaim(later(60), claim(ONE, 90), 9).await.unwrap();
    assert!(store.letters().outstanding(&ids).await.unwrap().is_empty());
    assert_eq!(store.letters().start(&campaign(0xc2), &all(), 9).await.unwrap(), 4);
}

pub async fn what_came_of_replays_is_kept_for_a_time(place: Place) {
    let store = place.store().await;
    let letters: Vec<DeadLetter> = (1..=3).map(|number| unreadable(number, "a")).collect();
    store.bury(&letters).await.unwrap();
    let (over, running) = (campaign(0xc1), campaign(0xc2));
    for (made, filter) in [(&over, LetterFilter::ids(&[id(1), id(2)])), (&running, all())] {
        store.letters().start(made, &filter, 9).await.unwrap();
        release(&*store, made, 9, claim(ONE, 30)).await;
    }
    let results = [1, 2, 3].map(|letter| result(letter, Outcome::Failed));
    store.letters().settle(ONE, &results, NOW).await.unwrap();
    let done = current(&*store, &over).await;
    let done = Campaign { state: CampaignState::Done, changed_at: later(5), ..done };
    assert!(store.letters().change(&done, None).await.unwrap());
    assert_eq!(store.letters().purge_results(later(4), 9).await.unwrap(), 0);
    assert_eq!(store.letters().purge_results(later(5), 1).await.unwrap(), 1);
    assert!(store.letters().campaign(over.id).await.unwrap().is_some(), "one result is left");
    assert_eq!(store.letters().purge_results(later(5), 9).await.unwrap(), 1);
    assert_eq!(store.letters().campaign(over.id).await.unwrap(), None);
    assert_eq!(store.letters().deeds(over.id).await.unwrap().len(), 1, "the audit stays");
    let of = ReplayedOf::Campaign(running.id);
    assert_eq!(store.letters().replayed(of, false, 9).await.unwrap().len(), 1);
}

pub async fn letters_of_the_tables_before_are_still_there(place: Place) {
    let store = place.earlier_store().await;
    store.migrate().await.unwrap();
    store.check().await.unwrap();
    let letters = store.letters().page(&all(), None, 9).await.unwrap();
    assert_eq!((letters.len(), letters[0].attempts, letters[0].kind.clone()), (1, 3, None));
    let groups = store.letters().groups(&all(), 9).await.unwrap();
    assert_eq!(groups[0].fingerprint, "oversized", "grouped by their reason");
    assert_eq!(letters[0].last_seen, Time(7));
}
