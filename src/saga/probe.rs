//! A participant answered a probe: what became of a command that is in doubt.

use super::reply::answered;
use super::turn::Turn;
use super::{Cause, CommandId, Direction, Ignored, Phase, ProbeState, Verdict};

pub(super) fn probed(
    turn: &mut Turn<'_>,
    (command, from): (CommandId, Option<&str>),
    state: ProbeState,
    data: Option<&str>,
) -> Verdict {
    let sent = match answered(turn, command, from) {
        Ok(sent) => sent,
        Err(refusal) => return Verdict::Refused(refusal),
    };
    let asking = matches!(turn.phase(sent.step), Phase::Asking(_));
    if !asking || !sent.newest || sent.direction != Direction::Forward {
        return Verdict::Ignored(Ignored::Stale);
    }
    let step = sent.step;
    match state {
        ProbeState::Applied => {
            turn.done(step, data.map(Into::into));
            turn.advance();
            turn.settle();
        }
        // The command may still be on its way, so it is compensated as well: that closes the
        // door on it. Past the pivot the resends go on.
        ProbeState::NotApplied if !turn.must_go_forward(step) && !turn.step(step).pivot => {
            turn.turn_back(Cause::InDoubt { step });
        }
        ProbeState::NotApplied | ProbeState::Unknown => return Verdict::Ignored(Ignored::Stale),
    }
    Verdict::Applied
}
