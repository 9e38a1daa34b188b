//! The order is paid.

use super::turn::Turn;
use super::{Phase, Status, Verdict, Work};

pub(super) fn start(turn: &mut Turn<'_>) -> Verdict {
    turn.saga.status = Status::Running;
    turn.saga.started_at = turn.now;
    for step in 0..turn.definition.steps().len() {
        turn.saga.steps[step].since = turn.now;
        if turn.step(step).work == Work::Obligation {
            turn.enter(step, Phase::Done);
        }
    }
    turn.advance();
    Verdict::Applied
}
