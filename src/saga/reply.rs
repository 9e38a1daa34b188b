//! A participant answered a command.

use super::turn::Turn;
use super::{
    AttentionCode, CommandId, Definition, Direction, Effect, Forward, Ignored, Origin, Outcome,
    Phase, Refusal, Reply, Saga, Status, Time, Verdict,
};

/// The command that an id belongs to.
pub(super) struct Sent {
    pub step: usize,
    pub direction: Direction,
    pub generation: u16,
    /// No newer one has been started since.
    pub newest: bool,
}

pub(super) fn reply(turn: &mut Turn<'_>, reply: &Reply) -> Verdict {
    let sent = match answered(turn, reply.command, reply.from.as_deref()) {
        Ok(sent) => sent,
        Err(_) if answers_notice(turn, reply.command) => {
            return Verdict::Ignored(Ignored::Irrelevant);
        }
        Err(refusal) => return Verdict::Refused(refusal),
    };
    match sent.direction {
        Direction::Forward if reply.outcome == Outcome::Success && is_unsettled(turn, &sent) => {
            turn.saga.steps[sent.step].unsettled.retain(|run| *run != sent.generation);
            late_success(turn, sent.step);
            Verdict::Applied
        }
        // What was settled before a newer generation began stays settled.
        _ if !sent.newest => Verdict::Ignored(Ignored::Stale),
        Direction::Forward => forward(turn, sent.step, reply),
        Direction::Compensate => compensation(turn, sent.step, reply),
    }
}

fn is_unsettled(turn: &Turn<'_>, sent: &Sent) -> bool {
    turn.saga.steps[sent.step].unsettled.contains(&sent.generation)
}

/// A notice is answered like any command, and nothing hangs on it.
fn answers_notice(turn: &Turn<'_>, command: CommandId) -> bool {
    let mut notices = turn.definition.notices().iter();
    notices.any(|notice| CommandId::of_notice(turn.saga.id, notice) == command)
}

/// The command that an answer is for, if it comes from the participant that got it.
pub(super) fn answered(
    turn: &Turn<'_>,
    command: CommandId,
    from: Option<&str>,
) -> Result<Sent, Refusal> {
    let sent = find(turn, command).ok_or(Refusal::UnknownCommand)?;
    let asked = turn.step(sent.step).command(sent.direction).map(|(participant, _)| participant);
    if from.is_some() && from != asked {
        return Err(Refusal::WrongParticipant);
    }
    Ok(sent)
}

/// The participant that a command of this saga went to.
#[must_use]
pub fn asked<'a>(definition: &'a Definition, saga: &Saga, command: CommandId) -> Option<&'a str> {
    let turn = Turn::new(definition, saga, Time::default().into());
    let sent = find(&turn, command)?;
    definition.steps()[sent.step].command(sent.direction).map(|(participant, _)| participant)
}

/// Which of the commands this saga ever sent has this id. Ids are hashes, so the candidates
/// are computed; those that are out now come first because almost every reply is for them.
fn find(turn: &Turn<'_>, command: CommandId) -> Option<Sent> {
    let is_out =
        |phase: &Phase| matches!(phase, Phase::Sent(_) | Phase::Asking(_) | Phase::Undoing { .. });
    let out = turn.steps_in(is_out);
    let rest = turn.steps_in(|phase| !is_out(phase));
    for step in out.iter().chain(rest.iter()) {
        let state = &turn.saga.steps[step];
        let ways = [(Direction::Forward, state.generation), (Direction::Compensate, state.undo)];
        for (direction, newest) in ways {
            let name = &turn.step(step).name;
            let matches = |g: &u16| CommandId::of(turn.saga.id, name, direction, *g) == command;
            if let Some(generation) = (1..=newest).rev().find(matches) {
                let newest = generation == newest;
                return Some(Sent { step, direction, generation, newest });
            }
        }
    }
    None
}

fn forward(turn: &mut Turn<'_>, step: usize, reply: &Reply) -> Verdict {
    let phase = turn.phase(step).clone();
    match (&phase, &reply.outcome) {
        (Phase::Sent(_) | Phase::Asking(_), Outcome::Success | Outcome::NothingToDo) => {
            turn.done(step, reply.data.clone());
            turn.advance();
            turn.settle();
        }
        // A command that was refused came after its own compensation: it was not applied.
        (
            Phase::Sent(_) | Phase::Asking(_),
            Outcome::Rejected { code } | Outcome::Refused { code },
        ) => turn.fail(step, code.clone()),
        (Phase::Sent(super::Wait { postponed: true, .. }), Outcome::Retry) => {
            return Verdict::Ignored(Ignored::Duplicate);
        }
        (Phase::Sent(wait) | Phase::Asking(wait), Outcome::Retry) => {
            // Without a resend clock the saga has turned back, and a resend is not wanted.
            if wait.resend_at.is_none() {
                return Verdict::Ignored(Ignored::Stale);
            }
            let pause = turn.backoff(step, Direction::Forward, wait.attempt);
            let resend_at = Some(turn.now + pause);
            let wait = super::Wait { resend_at, postponed: true, ..*wait };
            turn.saga.steps[step].phase = Phase::Sent(wait);
        }
        (Phase::Failed { .. }, Outcome::Success) => return succeed_after_all(turn, step, reply),
        (
            Phase::Undoing { wait, forward: Forward::Unknown, renew },
            Outcome::Success | Outcome::NothingToDo,
        ) => {
            let (wait, renew) = (*wait, *renew);
            turn.saga.steps[step].phase =
                Phase::Undoing { wait, forward: Forward::DoneLate, renew };
            turn.effects.push(Effect::LateSuccess { step });
        }
        // It was out when an operator skipped it.
        (Phase::Skipped, Outcome::Success) => turn.done(step, reply.data.clone()),
        (Phase::Done, Outcome::Success) => return Verdict::Ignored(Ignored::Duplicate),
        (Phase::Failed { .. }, Outcome::Rejected { .. }) => {
            return Verdict::Ignored(Ignored::Duplicate);
        }
        _ => return Verdict::Ignored(Ignored::Stale),
    }
    Verdict::Applied
}

/// First a "no", then a success for the same command: against the participant contract, but
/// something is out in the world now, so it counts.
fn succeed_after_all(turn: &mut Turn<'_>, step: usize, reply: &Reply) -> Verdict {
    if turn.saga.status == Status::Running {
        turn.done(step, reply.data.clone());
        turn.advance();
    } else if turn.step(step).compensation.is_some() {
        late_success(turn, step);
    } else {
        // A pivot: it cannot be undone, while all that led to it is.
        turn.raise(Some(step), AttentionCode::GoodsAndMoneyDisagree, Origin::Decision);
    }
    Verdict::Applied
}

/// The step was applied after we had settled that it was not: undo it, under a new id. If the
/// saga has ended, it stays ended, and the attention shows that something is still owed. If it
/// has resumed, the step is done anew, and only an operator can undo the one run of the two.
fn late_success(turn: &mut Turn<'_>, step: usize) {
    turn.effects.push(Effect::LateSuccess { step });
    if !matches!(turn.phase(step), Phase::Undone | Phase::Failed { .. }) {
        turn.raise(Some(step), AttentionCode::LateSuccess, Origin::Decision);
        return;
    }
    turn.undo(step, Forward::Done);
    if turn.saga.status.is_final() {
        turn.raise(Some(step), AttentionCode::LateSuccess, Origin::Clock);
    }
}

fn compensation(turn: &mut Turn<'_>, step: usize, reply: &Reply) -> Verdict {
    let (wait, forward, refused) = match turn.phase(step) {
        Phase::Undoing { wait, forward, renew } => (*wait, *forward, *renew),
        Phase::Undone => return Verdict::Ignored(Ignored::Duplicate),
        _ => return Verdict::Ignored(Ignored::Stale),
    };
    match &reply.outcome {
        Outcome::Success => turn.undone(step, true),
        // It overtook its own command, which was then applied all the same: once more.
        Outcome::NothingToDo if forward == Forward::DoneLate => turn.undo(step, Forward::Done),
        Outcome::NothingToDo => turn.undone(step, forward == Forward::Done),
        Outcome::Refused { code } => turn.refused(step, code.clone()),
        // The next attempt has a new id; a repeated "no" to the old one does not postpone it.
        Outcome::Retry | Outcome::Rejected { .. } if refused => {
            return Verdict::Ignored(Ignored::Duplicate);
        }
        Outcome::Retry if wait.postponed => return Verdict::Ignored(Ignored::Duplicate),
        Outcome::Retry | Outcome::Rejected { .. } => {
            let pause = turn.backoff(step, Direction::Compensate, wait.attempt);
            let resend_at = Some(turn.now + pause);
            let wait = super::Wait { resend_at, postponed: true, ..wait };
            let renew = matches!(reply.outcome, Outcome::Rejected { .. });
            turn.saga.steps[step].phase = Phase::Undoing { wait, forward, renew };
        }
    }
    Verdict::Applied
}
