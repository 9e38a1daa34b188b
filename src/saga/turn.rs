//! The workbench of one decision: the saga being changed and the effects so far.

use super::identity::spread;
use super::{
    Announcement, Attention, AttentionCode, Definition, Direction, Effect, Ignored, Millis, Moment,
    OrderState, Origin, Phase, Saga, Status, Step, StepSet, Time, Transition, Verdict, Wait, Work,
    state,
};

#[derive(Clone)]
pub(super) struct Turn<'a> {
    pub definition: &'a Definition,
    pub saga: Saga,
    pub now: Time,
    /// Steps whose participant does not answer anybody.
    pub away: StepSet,
    /// Steps that are not to be begun now.
    pub barred: StepSet,
    pub effects: Vec<Effect>,
}

impl<'a> Turn<'a> {
    pub fn new(definition: &'a Definition, saga: &Saga, moment: Moment) -> Turn<'a> {
        let Moment { now, away, barred } = moment;
        Turn { definition, saga: saga.clone(), now, away, barred, effects: Vec::new() }
    }

    /// Ends the decision. What was not applied leaves no trace, and what changed nothing was
    /// not applied: a repeated answer must not grow the journal.
    pub fn finish(self, before: &Saga, verdict: Verdict) -> Transition {
        match verdict {
            Verdict::Applied if self.effects.is_empty() && self.saga == *before => Transition {
                saga: self.saga,
                effects: self.effects,
                verdict: Verdict::Ignored(Ignored::Duplicate),
            },
            Verdict::Applied => Transition { saga: self.saga, effects: self.effects, verdict },
            _ => Transition { saga: before.clone(), effects: Vec::new(), verdict },
        }
    }

    pub fn step(&self, step: usize) -> &'a Step {
        &self.definition.steps()[step]
    }

    pub fn phase(&self, step: usize) -> &Phase {
        &self.saga.steps[step].phase
    }

    pub fn enter(&mut self, step: usize, phase: Phase) {
        self.saga.steps[step].phase = phase;
        self.saga.steps[step].since = self.now;
    }

    /// The steps whose phase passes the test.
    pub fn steps_in(&self, test: impl Fn(&Phase) -> bool) -> StepSet {
        let states = self.saga.steps.iter().enumerate();
        states.filter(|(_, state)| test(&state.phase)).map(|(step, _)| step).collect()
    }

    /// Whether the point of no return is behind us.
    pub fn is_past_pivot(&self) -> bool {
        self.steps_in(Phase::stands).intersects(self.definition.pivots())
    }

    /// A pivot whose command is out: it may have been done, so nothing may be undone yet.
    pub fn pivot_under_way(&self) -> bool {
        let out = self.steps_in(|phase| matches!(phase, Phase::Sent(_) | Phase::Asking(_)));
        out.intersects(self.definition.pivots())
    }

    /// Whether a fact that completes one of the pivots has been seen.
    pub fn pivot_fact_seen(&self) -> bool {
        let mut pivots = self.definition.pivots().iter();
        pivots.any(|pivot| {
            self.saga.facts.iter().any(|fact| self.step(pivot).completes_on(&fact.kind))
        })
    }

    /// While the saga is held nothing goes out; what is open is sent when it is released.
    pub fn send(&mut self, step: usize, direction: Direction, attempt: u16) {
        if self.saga.is_held() {
            return;
        }
        let state = &self.saga.steps[step];
        let generation = match direction {
            Direction::Forward => state.generation,
            Direction::Compensate => state.undo,
        };
        self.effects.push(Effect::Send { step, direction, generation, attempt });
    }

    /// Asks whether the step's command was applied.
    pub fn probe(&mut self, step: usize) {
        let generation = self.saga.steps[step].generation;
        self.effects.push(Effect::Probe { step, generation });
    }

    /// The clocks of something sent now for the first time.
    pub fn first_wait(&self, step: usize, direction: Direction) -> Wait {
        let (give_up, deadline) = match (direction, &self.step(step).work) {
            (Direction::Forward, Work::Command { give_up, .. }) => {
                (Some(*give_up), self.step(step).deadline)
            }
            _ => (self.step(step).compensation.as_ref().map(|undo| undo.give_up), None),
        };
        Wait {
            attempt: 1,
            postponed: false,
            resend_at: Some(self.now + self.backoff(step, direction, 1)),
            give_up_at: state::after(self.now, give_up),
            deadline_at: state::after(self.now, deadline),
        }
    }

    /// Nothing turns the saga back, or will as soon as a pivot that is under way has answered.
    pub fn goes_forward(&self) -> bool {
        self.saga.status == Status::Running && self.saga.cause.is_none()
    }

    /// Counts one more attempt at what is out, and winds up the clock of the one after it. What
    /// was refused for good is tried under a new id. Whoever calls sends it.
    pub fn next_attempt(&mut self, step: usize) -> u16 {
        let state = &mut self.saga.steps[step];
        let (Phase::Sent(wait) | Phase::Asking(wait) | Phase::Undoing { wait, .. }) =
            &mut state.phase
        else {
            return 0;
        };
        wait.attempt = wait.attempt.saturating_add(1);
        wait.postponed = false;
        let attempt = wait.attempt;
        let direction = match &mut state.phase {
            Phase::Undoing { renew, .. } => {
                state.undo = state.undo.saturating_add(u16::from(std::mem::take(renew)));
                Direction::Compensate
            }
            _ => Direction::Forward,
        };
        let next = self.now + self.backoff(step, direction, attempt);
        if let Phase::Sent(wait) | Phase::Asking(wait) | Phase::Undoing { wait, .. } =
            &mut self.saga.steps[step].phase
        {
            wait.resend_at = Some(next);
        }
        attempt
    }

    /// How long to wait after the given attempt.
    pub fn backoff(&self, step: usize, direction: Direction, attempt: u16) -> Millis {
        let policy = match (direction, &self.step(step).work, &self.step(step).compensation) {
            (Direction::Forward, Work::Command { resend, .. }, _) => resend,
            (_, _, Some(undo)) => &undo.resend,
            _ => return Millis::HOUR,
        };
        let salt = (step as u64) << 32 | (direction as u64) << 31 | u64::from(attempt);
        policy.wait(attempt, spread(self.saga.id, salt))
    }

    /// The order has come so far: everybody is told, once. A saga that turned back and resumed
    /// says nothing twice.
    pub fn reach(&mut self, state: OrderState) {
        if self.saga.reached >= state {
            return;
        }
        self.saga.reached = state;
        self.effects.push(Effect::Announce(Announcement::Reached(state)));
        let notices = self.definition.notices().iter().enumerate();
        let due = notices.filter(|(_, notice)| notice.on == state);
        self.effects.extend(due.map(|(notice, _)| Effect::Notify { notice }));
    }

    /// Puts something before an operator; at most once per (step, code).
    pub fn raise(&mut self, step: Option<usize>, code: AttentionCode, origin: Origin) {
        let known = self.saga.attention.iter_mut().find(|a| a.step == step && a.code == code);
        match known {
            // What a decision raises outlasts what a clock raised.
            Some(attention) if origin == Origin::Decision => attention.origin = origin,
            Some(_) => {}
            None => {
                self.saga.attention.push(Attention { step, code, since: self.now, origin });
                self.effects.push(Effect::Announce(Announcement::AttentionRaised { step, code }));
            }
        }
    }

    /// Clears what a clock raised about a step that is settled now.
    pub fn clear(&mut self, step: usize) {
        self.dismiss(|a| a.step == Some(step) && a.origin == Origin::Clock);
    }

    /// Clears every attention of this kind. Whether there was one.
    pub fn dismiss(&mut self, is_meant: impl Fn(&Attention) -> bool) -> bool {
        let all = std::mem::take(&mut self.saga.attention);
        let (cleared, kept): (Vec<_>, _) = all.into_iter().partition(is_meant);
        self.saga.attention = kept;
        for Attention { step, code, .. } in &cleared {
            let (step, code) = (*step, *code);
            self.effects.push(Effect::Announce(Announcement::AttentionCleared { step, code }));
        }
        !cleared.is_empty()
    }
}
