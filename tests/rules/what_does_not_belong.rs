//! Inputs that are repeated, late, or for somebody else.

use super::*;

/// A duplicate, or an answer to a command of an earlier generation: no change.
#[test]
fn duplicates_and_stale_replies_change_nothing() {
    let order = order();
    Run::start(&order)
        .succeed(&["reserve", "insure"])
        .reply("reserve", SUCCESS)
        .ignored(Ignored::Duplicate)
        .cancel()
        .undone(&["insure"])
        .undo("pick", too_late())
        .answer("insure", Direction::Forward, 1, no("LATE"))
        .ignored(Ignored::Stale)
        .phase("insure", "sent");
}

/// An unknown command, the wrong participant, a saga that was never started: refused, so
/// that they become dead letters.
#[test]
fn strangers_are_refused() {
    let order = order();
    let run = Run::start(&order).answer("reserve", Direction::Forward, 9, SUCCESS);
    let run = run.verdict(Verdict::Refused(Refusal::UnknownCommand));
    let command = CommandId::of(run.saga.id, "reserve", Direction::Forward, 1);
    let from = Some("loan".into());
    run.input(Input::Reply(Reply { command, from, outcome: SUCCESS, data: None }))
        .verdict(Verdict::Refused(Refusal::WrongParticipant));
    let saga = Saga::created(&order, SagaId::of("acme", "o-2", "order"));
    let made = decide(&order, &saga, &Input::Cancel, Time(0));
    assert_eq!(made.verdict, Verdict::Refused(Refusal::UnknownSaga));
}

/// A second start, and a clock that fires for nothing.
#[test]
fn a_second_start_and_an_idle_clock_change_nothing() {
    let order = order();
    Run::start(&order).input(Input::Start).ignored(Ignored::Duplicate);
    Run::start(&order).input(Input::Clock).ignored(Ignored::NothingDue);
}
