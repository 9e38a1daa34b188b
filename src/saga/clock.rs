//! Time has passed: resends, give-up times and deadlines that are due.

use super::turn::Turn;
use super::{
    AttentionCode, Cause, Direction, Forward, Ignored, Millis, Origin, Phase, Time, Verdict, Wait,
    Work,
};

/// A clock that is looked at later than this after it was due shows that nobody was there to
/// look, and that answers may be waiting unread. Far more than a busy worker ever lags behind,
/// and less than it takes to call a participant silent.
const AWAY: Millis = Millis::MINUTE;

pub(super) fn clock(turn: &mut Turn<'_>) -> Verdict {
    let due = |turn: &Turn<'_>, at: Option<Time>| at.is_some_and(|at| at <= turn.now);
    if turn.saga.is_held() {
        return Verdict::Ignored(Ignored::NothingDue);
    }
    let mut fired = false;
    for step in 0..turn.saga.steps.len() {
        match turn.phase(step).clone() {
            Phase::Awaiting { deadline_at } if due(turn, deadline_at) => {
                turn.saga.steps[step].phase = Phase::Awaiting { deadline_at: None };
                turn.raise(Some(step), AttentionCode::DeadlinePassed, Origin::Clock);
            }
            // Who asks again too early learns nothing new.
            Phase::Held { look_at } if look_at <= turn.now && !turn.barred.contains(step) => {
                turn.begin(step);
            }
            Phase::Sent(wait) | Phase::Asking(wait) if due(turn, wait.next()) => {
                command_clocks(turn, step, wait, due);
            }
            Phase::Undoing { wait, forward, renew } if due(turn, wait.next()) => {
                compensation_clocks(turn, step, wait, (forward, renew), due);
            }
            _ => continue,
        }
        fired = true;
    }
    if fired { Verdict::Applied } else { Verdict::Ignored(Ignored::NothingDue) }
}

type Due = fn(&Turn<'_>, Option<Time>) -> bool;

/// Time in which nobody looked does not count against a participant: its give-up time ends later
/// by as much as we were away, from now if it has passed, though by no more than itself; and what
/// was sent is sent once more at once.
fn allow_for_absence(turn: &Turn<'_>, wait: &mut Wait, give_up: Millis) {
    let away = wait.next().map_or(Millis(0), |due| turn.now - due);
    if let (Some(at), true) = (wait.give_up_at, away > AWAY) {
        wait.give_up_at = Some(at.max(turn.now) + away.min(give_up));
        wait.resend_at = Some(turn.now);
    }
}

fn command_clocks(turn: &mut Turn<'_>, step: usize, mut wait: Wait, due: Due) {
    let Work::Command { give_up, .. } = turn.step(step).work else { return };
    let asking = matches!(turn.phase(step), Phase::Asking(_));
    allow_for_absence(turn, &mut wait, give_up);
    if due(turn, wait.deadline_at) {
        wait.deadline_at = None;
        turn.raise(Some(step), AttentionCode::DeadlinePassed, Origin::Clock);
    }
    if due(turn, wait.give_up_at) && turn.away.contains(step) {
        // It answers nobody, so its silence says nothing of this command.
        wait.give_up_at = Some(turn.now + give_up);
    }
    if due(turn, wait.give_up_at) {
        return in_doubt(turn, step, wait, asking);
    }
    turn.saga.steps[step].phase = if asking { Phase::Asking(wait) } else { Phase::Sent(wait) };
    if !due(turn, wait.resend_at) {
        return;
    }
    let attempt = turn.next_attempt(step);
    if asking {
        turn.probe(step);
    }
    // A command in doubt is only asked after, until it is compensated or, forward only, sent on.
    if !asking || forward_only(turn, step) {
        turn.send(step, Direction::Forward, attempt);
    }
}

/// No answer within the give-up time: the step is in doubt, it may have happened.
fn in_doubt(turn: &mut Turn<'_>, step: usize, mut wait: Wait, asked: bool) {
    let Work::Command { give_up, probe: can_probe, .. } = turn.step(step).work else { return };
    wait.give_up_at = None;
    if forward_only(turn, step) {
        turn.raise(Some(step), AttentionCode::InDoubt, Origin::Clock);
    } else if asked || !can_probe {
        turn.saga.steps[step].phase = Phase::Sent(wait);
        return turn.turn_back(Cause::InDoubt { step });
    } else {
        wait.give_up_at = Some(turn.now + give_up);
    }
    if can_probe {
        turn.enter(step, Phase::Asking(wait));
        turn.probe(step);
    } else {
        turn.saga.steps[step].phase = Phase::Sent(wait);
    }
}

/// The pivot is never compensated while in doubt, nor is anything once it is passed.
fn forward_only(turn: &Turn<'_>, step: usize) -> bool {
    turn.step(step).pivot || turn.must_go_forward(step)
}

fn compensation_clocks(
    turn: &mut Turn<'_>,
    step: usize,
    mut wait: Wait,
    (forward, renew): (Forward, bool),
    due: Due,
) {
    let Some(undo) = &turn.step(step).compensation else { return };
    allow_for_absence(turn, &mut wait, undo.give_up);
    if due(turn, wait.give_up_at) {
        wait.give_up_at = None;
        turn.raise(Some(step), AttentionCode::CompensationStuck, Origin::Clock);
    }
    turn.saga.steps[step].phase = Phase::Undoing { wait, forward, renew };
    if due(turn, wait.resend_at) {
        let attempt = turn.next_attempt(step);
        turn.send(step, Direction::Compensate, attempt);
    }
}
