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
    let asked = probed();
    let run = Run::start(&asked).succeed(&["insure"]).pass(Millis::MINUTE.times(5));
    let command = CommandId::of(run.saga.id, "reserve", Direction::Forward, 1);
    let (from, state) = (Some("loan".into()), ProbeState::Applied);
    run.input(Input::Probed { command, from, state, data: None })
        .verdict(Verdict::Refused(Refusal::WrongParticipant))
        .phase("reserve", "in-doubt");
    let saga = Saga::created(&order, SagaId::of("acme", "o-2", "order"));
    let made = decide(&order, &saga, &Input::Cancel, Time(0));
    assert_eq!(made.verdict, Verdict::Refused(Refusal::UnknownSaga));
}

/// A saga that speaks of steps which its definition does not have: its row is damaged, and
/// nothing can be decided about it.
#[test]
fn a_saga_that_does_not_fit_its_definition_is_refused() {
    let order = order();
    let started = || Run::start(&order).saga;
    let mut damaged = [started(), started(), started()];
    damaged[0].steps.truncate(2);
    damaged[1].cause = Some(Cause::InDoubt { step: 99 });
    let attention = (Some(99), AttentionCode::InDoubt, Time(0), Origin::Clock);
    let (step, code, since, origin) = attention;
    damaged[2].attention.push(Attention { step, code, since, origin });
    for saga in damaged {
        let made = decide(&order, &saga, &Input::Cancel, Time(0));
        assert_eq!(made.verdict, Verdict::Refused(Refusal::UnreadableSaga));
        assert_eq!(made.saga, saga);
    }
}

/// A second start, and a clock that fires for nothing.
#[test]
fn a_second_start_and_an_idle_clock_change_nothing() {
    let order = order();
    Run::start(&order).input(Input::Start).ignored(Ignored::Duplicate);
    Run::start(&order).input(Input::Clock).ignored(Ignored::NothingDue);
}
