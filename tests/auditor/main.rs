//! The auditor finds nothing in a clean world, and in a broken one it names exactly the rule
//! that was broken. `world` is the clean one.

mod excuses;
mod read_only;
mod world;

use std::sync::Arc;

use makegood::fixture::auditor::{AuditReport, Rule};
use makegood::fixture::ledger::{Effect as Deed, Entry, Outcome, Way};
use makegood::saga::{CommandId, Direction, Millis, Phase, Wait};
use uuid::Uuid;

use crate::world::{COMPENSATED, COMPLETED, IN_DOUBT, ON_ITS_WAY, UNANSWERED, World, moved};

/// Runs the audit on a world that `break_it` has had its hands on.
fn audited(break_it: impl FnOnce(&mut World)) -> AuditReport {
    let mut world = World::new();
    break_it(&mut world);
    world.audit()
}

/// The one rule that is broken; fails when there are several.
fn broken_rule(break_it: impl FnOnce(&mut World)) -> Rule {
    let report = audited(break_it);
    let rules = rules(&report);
    assert_eq!(rules.len(), 1, "{report}");
    rules[0]
}

/// The rules that are broken, each once.
fn rules(report: &AuditReport) -> Vec<Rule> {
    let mut rules: Vec<Rule> = report.findings.iter().map(|finding| finding.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

#[test]
fn a_clean_world_passes() {
    let report = audited(|_| ());
    assert!(report.is_clean(), "{report}");
    assert_eq!(
        (report.sagas, report.completed, report.compensated, report.unfinished),
        (5, 1, 2, 2)
    );
    assert_eq!((report.applied, report.undone, report.attention), (18, 5, 1));
    assert!(report.to_string().starts_with("audit passed: 5 sagas"), "{report}");
}

/// At a running system what was on its way at one look has arrived at the next.
#[test]
fn what_only_one_look_finds_was_on_its_way() {
    let twice = |order| audited(|world| world.repeat("inventory", order, |_| ()));
    let mut same = twice(COMPLETED);
    same.keep_what_was_found_before(&twice(COMPLETED));
    assert_eq!(rules(&same), [Rule::AppliedTwice]);
    let mut moved_on = twice(COMPLETED);
    moved_on.keep_what_was_found_before(&twice(COMPENSATED));
    assert!(moved_on.is_clean(), "{moved_on}");
}

#[test]
fn a_command_that_took_effect_twice() {
    let rule = broken_rule(|world| world.repeat("inventory", COMPLETED, |_| ()));
    assert_eq!(rule, Rule::AppliedTwice);
}

#[test]
fn a_second_generation_while_the_first_stands() {
    let rule = broken_rule(|world| {
        world.repeat("wms", COMPLETED, |again| {
            again.command_id = Uuid::from_u128(7);
            again.generation = 2;
        });
    });
    assert_eq!(rule, Rule::AppliedTwice);
}

#[test]
fn a_customer_who_was_told_twice() {
    let rule = broken_rule(|world| world.repeat("mail", COMPLETED, |_| ()));
    assert_eq!(rule, Rule::AppliedTwice);
}

#[test]
fn a_customer_who_was_never_told() {
    let rule = broken_rule(|world| world.forget("mail", COMPLETED, Way::Forward));
    assert_eq!(rule, Rule::Notice);
}

#[test]
fn a_customer_who_was_told_what_is_not_so() {
    let rule = broken_rule(|world| {
        let mut told = world.entry("mail", COMPLETED, Way::Forward).clone();
        told.command_id = Uuid::from_u128(6);
        told.step = "notice.completed".to_owned();
        told.saga_id = world.saga(ON_ITS_WAY).0;
        told.order_id = ON_ITS_WAY.to_owned();
        world.ledger("mail").push(Entry::Command(told));
    });
    assert_eq!(rule, Rule::Notice);
}

#[test]
fn an_effect_that_was_never_undone() {
    let rule = broken_rule(|world| world.forget("inventory", COMPENSATED, Way::Compensate));
    assert_eq!(rule, Rule::NotMadeGood);
}

#[test]
fn an_obligation_that_was_forgotten() {
    let rule = broken_rule(|world| world.forget("loan", COMPENSATED, Way::Compensate));
    assert_eq!(rule, Rule::NotMadeGood);
}

#[test]
fn a_compensation_of_something_that_never_was() {
    let rule = broken_rule(|world| world.forget("inventory", COMPENSATED, Way::Forward));
    assert_eq!(rule, Rule::UnfoundedCompensation);
}

#[test]
fn a_command_applied_after_its_compensation() {
    let rule = broken_rule(|world| {
        let forward = CommandId::of(world.saga(IN_DOUBT), "reserve", Direction::Forward, 1).0;
        let mut late = world.entry("inventory", COMPLETED, Way::Forward).clone();
        late.command_id = forward;
        late.saga_id = world.saga(IN_DOUBT).0;
        late.order_id = IN_DOUBT.to_owned();
        world.ledger("inventory").push(Entry::Command(late));
    });
    assert_eq!(rule, Rule::UnfoundedCompensation);
}

#[test]
fn money_back_before_the_goods_are_safe() {
    let rule = broken_rule(|world| {
        let early = world.entry("wms", COMPENSATED, Way::Compensate).at_ms - 1;
        world.entry("loan", COMPENSATED, Way::Compensate).at_ms = early;
    });
    assert_eq!(rule, Rule::CompensationOrder);
}

#[test]
fn a_compensation_past_the_pivot() {
    let rule = broken_rule(|world| {
        let mut undo = world.entry("tms", COMPENSATED, Way::Compensate).clone();
        undo.compensates = Some(world.entry("tms", ON_ITS_WAY, Way::Forward).command_id);
        undo.command_id = Uuid::from_u128(8);
        undo.saga_id = world.saga(ON_ITS_WAY).0;
        undo.order_id = ON_ITS_WAY.to_owned();
        undo.at_ms = world.now.0 + 1_000;
        world.ledger("tms").push(Entry::Command(undo));
    });
    assert_eq!(rule, Rule::PastPivot);
}

#[test]
fn a_compensated_order_of_which_the_courier_has_the_parcel() {
    let rule = broken_rule(|world| world.scan(COMPENSATED, "shipment.in-transit"));
    assert_eq!(rule, Rule::PastPivot);
}

#[test]
fn goods_that_came_back_in_the_wrong_order() {
    let rule = broken_rule(|world| {
        let early = world.entry("tms", COMPENSATED, Way::Compensate).at_ms - 1;
        world.entry("wms", COMPENSATED, Way::Compensate).at_ms = early;
    });
    assert_eq!(rule, Rule::CompensationOrder);
}

#[test]
fn a_step_that_is_done_only_in_the_saga() {
    let rule = broken_rule(|world| world.forget("inventory", ON_ITS_WAY, Way::Forward));
    assert_eq!(rule, Rule::Incomplete);
}

#[test]
fn a_completed_order_that_nobody_dispatched() {
    let rule = broken_rule(|world| world.forget("tms", COMPLETED, Way::Forward));
    assert_eq!(rule, Rule::Incomplete);
}

#[test]
fn less_stock_came_back_than_left() {
    let rule = broken_rule(|world| {
        let effect = &mut world.entry("inventory", COMPENSATED, Way::Compensate).effect;
        *effect = Some(moved(1));
    });
    assert_eq!(rule, Rule::Stock);
}

#[test]
fn another_amount_was_reversed() {
    let rule = broken_rule(|world| {
        let effect = &mut world.entry("loan", COMPENSATED, Way::Compensate).effect;
        *effect = Some(Deed::Reversed { loan_id: format!("L-{COMPENSATED}"), amount_minor: 1 });
    });
    assert_eq!(rule, Rule::Loan);
}

#[test]
fn a_loan_of_an_order_that_was_not_delivered() {
    let rule = broken_rule(|world| {
        let is_delivery =
            |e: &Entry| matches!(e, Entry::Scan(scan) if scan.kind == "shipment.delivered");
        world.ledger("courier-scans").retain(|entry| !is_delivery(entry));
    });
    assert_eq!(rule, Rule::Loan);
}

#[test]
fn a_shipment_that_was_not_called_off() {
    let rule = broken_rule(|world| world.entry("tms", COMPENSATED, Way::Compensate).effect = None);
    assert_eq!(rule, Rule::Transport);
}

#[test]
fn what_was_applied_and_moved_nothing() {
    let moved_nothing = |ledger, order_id, way| {
        broken_rule(|world| world.entry(ledger, order_id, way).effect = None)
    };
    assert_eq!(moved_nothing("inventory", COMPLETED, Way::Forward), Rule::Stock);
    assert_eq!(moved_nothing("tms", COMPLETED, Way::Forward), Rule::Transport);
    assert_eq!(moved_nothing("loan", COMPLETED, Way::Forward), Rule::Loan);
    assert_eq!(moved_nothing("loan", COMPENSATED, Way::Compensate), Rule::Loan);
    assert_eq!(moved_nothing("inventory", ON_ITS_WAY, Way::Forward), Rule::Stock);
}

#[test]
fn a_stored_order_that_cannot_be_read() {
    let rule = broken_rule(|world| {
        let mut order = (*world.stored(COMPLETED).order).clone();
        let text = String::from_utf8(order.payload).unwrap();
        let endless = text.replace("\"quantity\":2", "\"quantity\":18446744073709551615");
        assert_ne!(text, endless);
        order.payload = endless.into_bytes();
        world.stored(COMPLETED).order = Arc::new(order);
    });
    assert_eq!(rule, Rule::Payload);
}

#[test]
fn a_key_that_came_with_another_order_after_a_no() {
    let rule = broken_rule(|world| {
        for hash in [1, 2] {
            world.repeat("wms", COMPLETED, |again| {
                again.command_id = Uuid::from_u128(7);
                (again.applied, again.outcome) = (false, Outcome::Retry);
                again.payload_hash = hash;
            });
        }
    });
    assert_eq!(rule, Rule::KeyReused);
}

#[test]
fn a_key_that_came_with_another_order() {
    let rule = broken_rule(|world| {
        world.repeat("wms", COMPLETED, |again| {
            (again.applied, again.repeated, again.payload_hash) = (false, true, 99);
        });
    });
    assert_eq!(rule, Rule::KeyReused);
}

#[test]
fn a_saga_that_nobody_looks_after() {
    let no_clock = broken_rule(|world| world.stored(ON_ITS_WAY).due = None);
    assert_eq!(no_clock, Rule::Stuck);
    let nobody_told = broken_rule(|world| world.may_wait = false);
    assert_eq!(nobody_told, Rule::Stuck);
}

#[test]
fn an_attention_is_no_excuse_for_a_clock_at_which_nobody_looks() {
    let never = broken_rule(|world| world.stored(UNANSWERED).due = None);
    assert_eq!(never, Rule::Stuck);
    let late = broken_rule(|world| {
        world.stored(UNANSWERED).due = Some(world.now + Millis::DAY);
    });
    assert_eq!(late, Rule::Stuck);
}

#[test]
fn an_attention_is_no_excuse_for_another_step() {
    // The clock of the one thing that is out is gone, and the saga is told to be looked at.
    let report = audited(|world| {
        let stored = world.stored(UNANSWERED);
        let Phase::Sent(wait) = &mut stored.saga.steps[6].phase else { panic!("not sent") };
        *wait = Wait { attempt: 1, ..Wait::default() };
        stored.due = None;
    });
    assert_eq!(rules(&report), [Rule::Stuck, Rule::Journal], "{report}");
}

#[test]
fn a_timer_that_is_left_over() {
    let rule = broken_rule(|world| {
        world.stored(COMPLETED).due = Some(world.now + Millis::DAY.times(25_000));
    });
    assert_eq!(rule, Rule::Timer);
}

#[test]
fn a_message_that_was_never_published() {
    assert_eq!(broken_rule(|world| world.store.outbox = 1), Rule::Outbox);
}

#[test]
fn a_clock_that_is_overdue() {
    assert_eq!(broken_rule(|world| world.now = world.now + Millis::DAY.times(99)), Rule::Timer);
}

#[test]
fn a_journal_that_does_not_tell_the_saga() {
    let gap = broken_rule(|world| drop(world.journal(COMPLETED).remove(1)));
    assert_eq!(gap, Rule::Journal);
    let end = broken_rule(|world| drop(world.journal(COMPLETED).pop()));
    assert_eq!(end, Rule::Journal);
    let effects = broken_rule(|world| world.journal(COMPLETED)[0].effects.clear());
    assert_eq!(effects, Rule::Journal);
    let state = broken_rule(|world| world.stored(COMPLETED).saga.steps[1].generation = 9);
    assert_eq!(state, Rule::Journal);
}

#[test]
fn a_ledger_that_is_gone() {
    for name in ["shop-orders", "courier-scans"] {
        assert_eq!(broken_rule(|world| world.lose_ledger(name)), Rule::Ledger, "{name}");
    }
}

#[test]
fn commands_and_orders_without_a_saga() {
    let lost =
        broken_rule(|world| world.store.sagas.retain(|(s, _)| s.order.order_id != COMPLETED));
    assert_eq!(lost, Rule::NoSaga);
    assert_eq!(broken_rule(|world| world.emit("unheard-of")), Rule::NoSaga);
}

#[test]
fn a_definition_that_is_gone() {
    let rule = broken_rule(|world| {
        let mut order = (*world.stored(COMPLETED).order).clone();
        order.definition_version = 2;
        world.stored(COMPLETED).order = Arc::new(order);
    });
    assert_eq!(rule, Rule::Definition);
}

#[test]
fn a_report_is_json_as_well() {
    let report = audited(|world| world.store.outbox = 3);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["findings"][0]["rule"], "outbox");
    assert_eq!(json["sagas"], 5);
    assert!(report.to_string().contains("FAILED, 1 finding"), "{report}");
}
