//! What excuses a finding, and what does not: the dead letter of that very message, and an
//! attention that says that very thing.

use makegood::fixture::Shop;
use makegood::fixture::auditor::Rule;
use makegood::fixture::ledger::Way;
use makegood::saga::{Attention, AttentionCode, Origin, Time};
use makegood::store::DeadLetter;
use uuid::Uuid;

use crate::world::{COMPENSATED, ON_ITS_WAY, World, letter, scan_of};
use crate::{audited, broken_rule, rules};

const LOST: &str = "o-lost";

/// A world in which an order is nowhere but in this letter.
fn lost_but_for(letter: DeadLetter) -> impl FnOnce(&mut World) {
    move |world| {
        world.emit(LOST);
        world.store.letters.push(letter);
    }
}

#[test]
fn an_order_that_was_refused_is_not_lost() {
    let event = Shop::event_of("acme", LOST);
    let report = audited(lost_but_for(letter(event, "acme", LOST, "invalid-order")));
    assert!(report.is_clean(), "{report}");
    // Known by its body, where its headers were lost.
    let mut bare = letter(event, "acme", LOST, "store-rejected");
    bare.headers = "{}".to_owned();
    bare.body = serde_json::json!({
        "specversion": "1.0", "id": event, "source": "/shops/simulated",
        "type": "order.created.v1", "data": {},
    })
    .to_string()
    .into_bytes();
    let report = audited(lost_but_for(bare));
    assert!(report.is_clean(), "{report}");
}

#[test]
fn no_other_letter_excuses_a_lost_order() {
    let cancel = Uuid::from_u128(77);
    let parked = letter(cancel, "acme", LOST, DeadLetter::UNKNOWN_ORDER);
    assert_eq!(broken_rule(lost_but_for(parked)), Rule::NoSaga);
    let refused_cancel = letter(cancel, "acme", LOST, "wrong-schema");
    assert_eq!(broken_rule(lost_but_for(refused_cancel)), Rule::NoSaga);
    let event = Shop::event_of("globex", LOST);
    let another_tenants = letter(event, "globex", LOST, "invalid-order");
    assert_eq!(broken_rule(lost_but_for(another_tenants)), Rule::NoSaga);
    let event = Shop::event_of("acme", LOST);
    let differs = letter(event, "acme", LOST, "order-differs");
    assert_eq!(broken_rule(lost_but_for(differs)), Rule::NoSaga);
}

#[test]
fn a_scan_that_never_reached_its_saga() {
    const DELIVERED: &str = "shipment.delivered";
    let lost = broken_rule(|world| world.scan(ON_ITS_WAY, DELIVERED));
    assert_eq!(lost, Rule::LostFact);
    let with_letter = |event, reason: &'static str| {
        audited(move |world| {
            world.scan(ON_ITS_WAY, DELIVERED);
            world.store.letters.push(letter(event, "acme", ON_ITS_WAY, reason));
        })
    };
    let event = scan_of(ON_ITS_WAY, DELIVERED);
    assert!(with_letter(event, "delivery-limit").is_clean());
    assert!(!with_letter(event, DeadLetter::UNKNOWN_ORDER).is_clean(), "its order is known");
    assert!(!with_letter(Uuid::from_u128(77), "delivery-limit").is_clean());
}

/// The rules that are broken when an operator was told this about the step, where the release
/// of the stock never happened.
fn never_released(step: usize, code: AttentionCode) -> Vec<Rule> {
    let report = audited(|world| {
        world.forget("inventory", COMPENSATED, Way::Compensate);
        told(world, step, code);
    });
    rules(&report)
}

/// Tells an operator, and so breaks the replay of the journal.
fn told(world: &mut World, step: usize, code: AttentionCode) {
    let attention = Attention { step: Some(step), code, since: Time(0), origin: Origin::Decision };
    world.stored(COMPENSATED).saga.attention.push(attention);
}

#[test]
fn only_what_says_that_something_is_owed_excuses_it() {
    const RESERVE: usize = 1;
    const PICK: usize = 2;
    let excused = [Rule::Journal];
    let found = [Rule::NotMadeGood, Rule::Journal];
    assert_eq!(never_released(RESERVE, AttentionCode::LateSuccess), excused);
    assert_eq!(never_released(RESERVE, AttentionCode::CompensationStuck), excused);
    assert_eq!(never_released(RESERVE, AttentionCode::DeadlinePassed), found);
    assert_eq!(never_released(RESERVE, AttentionCode::GoodsAndMoneyDisagree), found);
    assert_eq!(never_released(PICK, AttentionCode::LateSuccess), found);
}

#[test]
fn a_parcel_that_left_all_the_same_is_told_as_that() {
    const HAND_OVER: usize = 4;
    let scanned_and_told = |code| {
        let report = audited(|world| {
            world.scan(COMPENSATED, "shipment.in-transit");
            told(world, HAND_OVER, code);
        });
        rules(&report)
    };
    assert_eq!(scanned_and_told(AttentionCode::GoodsAndMoneyDisagree), [Rule::Journal]);
    let found = [Rule::PastPivot, Rule::Journal];
    assert_eq!(scanned_and_told(AttentionCode::DeadlinePassed), found);
}
