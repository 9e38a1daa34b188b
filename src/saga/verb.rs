//! An operator decides: the verbs, what each may be said to, and what it does.
//!
//! A verb goes through `decide` like every other input. One that is not legal now is refused,
//! and [`legal`] names those that are: it tries them all, so that it cannot disagree.

use super::turn::Turn;
use super::{
    Announcement, AttentionCode, Definition, Direction, Effect, Forward, Input, Origin, Phase,
    Refusal, Saga, Status, StepSet, Time, Transition, Verdict, Work, decide,
};

/// What an operator may ask of one saga, beside [`Input::Cancel`]. Steps are indices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Send what is out once more, now. What was answered with a final "no" is done anew, under
    /// a new id.
    Retry {
        step: usize,
    },
    /// The outcome is known from elsewhere: as if the participant had said so.
    Resolve {
        step: usize,
        resolution: Resolution,
    },
    /// The order goes on without this step.
    Skip {
        step: usize,
    },
    /// Nothing new is sent and no clock runs until it is released. What comes in is taken in.
    Hold,
    Release,
    /// Looked at, and nothing to be done.
    Clear {
        step: Option<usize>,
        code: AttentionCode,
    },
    /// The saga ends as it stands; what is out in the world stays there.
    Abandon,
}

impl Verb {
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Verb::Retry { .. } => "retry",
            Verb::Resolve { .. } => "resolve",
            Verb::Skip { .. } => "skip",
            Verb::Hold => "hold",
            Verb::Release => "release",
            Verb::Clear { .. } => "clear",
            Verb::Abandon => "abandon",
        }
    }

    /// The step that it is about.
    #[must_use]
    pub fn step(&self) -> Option<usize> {
        match self {
            Verb::Retry { step } | Verb::Resolve { step, .. } | Verb::Skip { step } => Some(*step),
            Verb::Clear { step, .. } => *step,
            Verb::Hold | Verb::Release | Verb::Abandon => None,
        }
    }
}

/// How a step, or its compensation, came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// With what later steps need of it: a JSON text.
    Success { data: Option<Box<str>> },
    /// Of a compensation: it was too late.
    Rejected { code: Box<str> },
    /// Of a compensation: there was nothing to undo.
    NothingToDo,
}

impl Resolution {
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Resolution::Success { .. } => "success",
            Resolution::Rejected { .. } => "rejected",
            Resolution::NothingToDo => "nothing-to-do",
        }
    }
}

/// What is over when an operator has settled the step.
const SETTLED_BY_HAND: [AttentionCode; 4] = [
    AttentionCode::Rejected,
    AttentionCode::FailedPastPivot,
    AttentionCode::CompensationRefused,
    AttentionCode::ObligationUndone,
];

/// The code of a "no" that an operator says without another.
pub const BY_OPERATOR: &str = "BY_OPERATOR";

/// Every verb that this saga would take now, with what it would do; cancelling among them.
#[must_use]
pub fn legal(definition: &Definition, saga: &Saga, now: Time) -> Vec<(Input, Transition)> {
    let steps = (0..saga.steps.len()).flat_map(|step| {
        let resolutions = [
            Resolution::Success { data: None },
            Resolution::Rejected { code: BY_OPERATOR.into() },
            Resolution::NothingToDo,
        ];
        let resolve = resolutions.map(|resolution| Verb::Resolve { step, resolution });
        [Verb::Retry { step }].into_iter().chain(resolve).chain([Verb::Skip { step }])
    });
    let clear = saga.attention.iter().map(|a| Verb::Clear { step: a.step, code: a.code });
    let whole = [Verb::Hold, Verb::Release, Verb::Abandon];
    let verbs = steps.chain(clear).chain(whole).map(Input::Operator);
    let all = verbs.chain([Input::Cancel]).map(|input| {
        let transition = decide(definition, saga, &input, now);
        (input, transition)
    });
    all.filter(|(_, transition)| transition.verdict == Verdict::Applied).collect()
}

/// The steps of which something is, or may be, out in the world for good when the saga ends as
/// it stands.
#[must_use]
pub fn left_behind(definition: &Definition, saga: &Saga) -> StepSet {
    let is_out = |step: &usize| match saga.steps[*step].phase {
        Phase::Done => !matches!(definition.steps()[*step].work, Work::Facts { .. }),
        Phase::Skipped => saga.steps[*step].generation > 0,
        Phase::Sent(_) | Phase::Asking(_) | Phase::Undoing { .. } | Phase::Refused { .. } => true,
        Phase::Idle | Phase::Held { .. } | Phase::Awaiting { .. } => false,
        Phase::Failed { .. } | Phase::Undone => false,
    };
    (0..saga.steps.len()).filter(is_out).collect()
}

pub(super) fn operate(turn: &mut Turn<'_>, verb: &Verb) -> Verdict {
    let is_legal = match verb {
        _ if turn.saga.status == Status::Abandoned => false,
        _ if verb.step().is_some_and(|step| step >= turn.saga.steps.len()) => false,
        Verb::Hold => hold(turn),
        Verb::Release => release(turn),
        Verb::Clear { code: AttentionCode::Held, .. } => false,
        Verb::Clear { step, code } => clear(turn, *step, *code),
        Verb::Abandon => abandon(turn),
        // While it is held nothing is sent: release it first.
        Verb::Retry { step } => !turn.saga.is_held() && retry(turn, *step),
        Verb::Resolve { step, resolution } => resolve(turn, *step, resolution),
        Verb::Skip { step } => skip(turn, *step),
    };
    match is_legal && !leads_to_silence(turn) {
        true => Verdict::Applied,
        false => Verdict::Refused(Refusal::IllegalVerb),
    }
}

/// Whether the saga would be open, and neither a clock nor an attention would ever tell of it
/// again: now, or once it is released.
fn leads_to_silence(turn: &Turn<'_>) -> bool {
    let mut ahead = turn.clone();
    release(&mut ahead);
    let Saga { status, attention, .. } = &ahead.saga;
    !status.is_final() && attention.is_empty() && ahead.saga.next_clock().is_none()
}

fn hold(turn: &mut Turn<'_>) -> bool {
    let may = !turn.saga.status.is_final() && !turn.saga.is_held();
    if may {
        turn.raise(None, AttentionCode::Held, Origin::Decision);
    }
    may
}

/// The time in which it was held does not count for any clock, and what is out is sent again:
/// nobody knows what became of it meanwhile.
fn release(turn: &mut Turn<'_>) -> bool {
    let Some(since) = turn.saga.held_since() else { return false };
    turn.dismiss(|attention| attention.code == AttentionCode::Held);
    let held = turn.now - since;
    for step in 0..turn.saga.steps.len() {
        match &mut turn.saga.steps[step].phase {
            Phase::Awaiting { deadline_at } => *deadline_at = deadline_at.map(|at| at + held),
            Phase::Held { look_at } => *look_at = turn.now,
            Phase::Sent(wait) | Phase::Asking(wait) | Phase::Undoing { wait, .. } => {
                wait.give_up_at = wait.give_up_at.map(|at| at + held);
                wait.deadline_at = wait.deadline_at.map(|at| at + held);
                // Turned back: a resend is not wanted.
                if wait.resend_at.is_some() {
                    again(turn, step);
                }
            }
            _ => {}
        }
    }
    turn.advance();
    turn.settle();
    true
}

/// What a clock raised is looked at again when its time has passed once more. What only a verb
/// for the step itself can settle stays until then.
fn clear(turn: &mut Turn<'_>, step: Option<usize>, code: AttentionCode) -> bool {
    let is_open = step.is_some_and(|step| SETTLED_BY_HAND.contains(&code) && turn.is_left(step));
    if is_open || !turn.dismiss(|a| a.step == step && a.code == code) {
        return false;
    }
    if let Some(step) = step {
        wind_up(turn, step, code);
    }
    true
}

/// Starts the clock anew that raised this attention.
fn wind_up(turn: &mut Turn<'_>, step: usize, code: AttentionCode) {
    let (now, of) = (turn.now, turn.step(step));
    let deadline = of.deadline.map(|span| now + span);
    let give_up = |span| Some(now + span);
    match (&mut turn.saga.steps[step].phase, code, &of.work) {
        (Phase::Awaiting { deadline_at }, AttentionCode::DeadlinePassed, _) => {
            *deadline_at = deadline;
        }
        (Phase::Sent(wait) | Phase::Asking(wait), AttentionCode::DeadlinePassed, _) => {
            wait.deadline_at = deadline;
        }
        (
            Phase::Sent(wait) | Phase::Asking(wait),
            AttentionCode::InDoubt,
            Work::Command { give_up: span, .. },
        ) => wait.give_up_at = give_up(*span),
        (Phase::Undoing { wait, .. }, AttentionCode::CompensationStuck, _) => {
            wait.give_up_at = of.compensation.as_ref().and_then(|undo| give_up(undo.give_up));
        }
        _ => {}
    }
}

fn abandon(turn: &mut Turn<'_>) -> bool {
    if turn.saga.status.is_final() {
        return false;
    }
    turn.dismiss(|_| true);
    turn.saga.status = Status::Abandoned;
    turn.saga.ended_at = Some(turn.now);
    turn.effects.push(Effect::Announce(Announcement::Abandoned));
    true
}

fn retry(turn: &mut Turn<'_>, step: usize) -> bool {
    match turn.phase(step).clone() {
        // Turned back, and not yet sent its compensation: that is not wanted.
        Phase::Sent(wait) | Phase::Asking(wait) if wait.resend_at.is_none() => return false,
        Phase::Sent(_) | Phase::Asking(_) | Phase::Undoing { .. } => again(turn, step),
        // Whatever is thought of its participant.
        Phase::Held { .. } => {
            turn.barred = StepSet::default();
            turn.begin(step);
        }
        Phase::Refused { .. } => {
            turn.undo(step, Forward::Done);
            turn.settled_by_hand(step);
        }
        Phase::Failed { .. } if turn.is_left(step) => {
            turn.settled_by_hand(step);
            if let Work::Facts { fails_on, .. } = &turn.step(step).work {
                let failing = fails_on.as_deref();
                let facts = turn.saga.facts.iter_mut();
                facts.filter(|fact| Some(&*fact.kind) == failing).for_each(|f| f.early = true);
            }
            turn.enter(step, Phase::Idle);
            turn.advance();
        }
        _ => return false,
    }
    true
}

/// Sends what is out once more, under the same id unless that was refused for good.
fn again(turn: &mut Turn<'_>, step: usize) {
    let direction = match turn.phase(step) {
        Phase::Undoing { .. } => Direction::Compensate,
        _ => Direction::Forward,
    };
    let attempt = turn.next_attempt(step);
    if matches!(turn.phase(step), Phase::Asking(_)) {
        turn.probe(step);
    }
    turn.send(step, direction, attempt);
}

fn resolve(turn: &mut Turn<'_>, step: usize, resolution: &Resolution) -> bool {
    match turn.phase(step).clone() {
        Phase::Sent(_) | Phase::Asking(_) | Phase::Awaiting { .. } => match resolution {
            Resolution::Success { data } => {
                turn.done(step, data.clone());
                turn.advance();
                turn.settle();
            }
            Resolution::Rejected { code } => turn.fail(step, code.clone()),
            Resolution::NothingToDo => return false,
        },
        Phase::Failed { .. } | Phase::Undone if turn.is_left(step) => match resolution {
            Resolution::Success { data } => {
                turn.settled_by_hand(step);
                turn.done(step, data.clone());
                turn.advance();
            }
            _ => return false,
        },
        Phase::Undoing { .. } => match resolution {
            Resolution::Rejected { code } => turn.refused(step, code.clone()),
            _ => turn.undone(step, true),
        },
        Phase::Refused { .. } if !matches!(resolution, Resolution::Rejected { .. }) => {
            turn.settled_by_hand(step);
            turn.undone(step, true);
        }
        _ => return false,
    }
    true
}

fn skip(turn: &mut Turn<'_>, step: usize) -> bool {
    let is_open = match turn.phase(step) {
        Phase::Idle => turn.step(step).work != Work::Obligation,
        Phase::Held { .. } | Phase::Sent(_) | Phase::Asking(_) | Phase::Awaiting { .. } => true,
        Phase::Failed { .. } | Phase::Undone => turn.is_left(step),
        _ => false,
    };
    if !is_open || !turn.goes_forward() {
        return false;
    }
    turn.settled_by_hand(step);
    turn.clear(step);
    turn.enter(step, Phase::Skipped);
    if turn.step(step).pivot {
        turn.pass_pivot();
    }
    turn.advance();
    true
}

impl Turn<'_> {
    /// Whether nothing goes on with this step by itself, though the saga is open: it failed past
    /// the pivot, its compensation was refused, or it is an obligation that was undone in an order
    /// that goes forward after all.
    fn is_left(&self, step: usize) -> bool {
        match self.phase(step) {
            Phase::Failed { .. } => self.goes_forward(),
            Phase::Undone => self.goes_forward() && self.step(step).work == Work::Obligation,
            Phase::Refused { .. } => true,
            _ => false,
        }
    }

    /// An operator has dealt with what a decision raised about this step.
    fn settled_by_hand(&mut self, step: usize) {
        self.dismiss(|a| a.step == Some(step) && SETTLED_BY_HAND.contains(&a.code));
    }
}
