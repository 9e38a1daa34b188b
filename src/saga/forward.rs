//! Going forward: start what became ready, notice the end, and what a "no" means.

use super::identity::spread;
use super::turn::Turn;
use super::{
    Announcement, AttentionCode, CancelState, Cause, Direction, Effect, Millis, OrderState, Origin,
    Phase, Status, WhyRefused, Work, state,
};

/// How long a saga waits before a step until it is looked at again, and up to as long once more,
/// so that not all come at once.
const LOOK_AGAIN: Millis = Millis(30_000);

impl Turn<'_> {
    /// Starts every step that is ready, again and again, because a fact that is already known
    /// completes its step at once; then looks whether all is done. Steps that wait for facts
    /// come first: one that fails by a known fact turns the saga back before commands go out. A
    /// pivot among them comes before those: once it is done, they turn nothing back.
    pub fn advance(&mut self) {
        if !self.goes_forward() || self.saga.is_held() {
            return;
        }
        loop {
            let done = self.steps_in(Phase::stands);
            let idle = self.steps_in(|phase| *phase == Phase::Idle);
            // All that it depends on, directly or not: what leads to it may be done again.
            let ready =
                idle.iter().filter(|step| self.definition.ancestors(*step).is_subset_of(done));
            let precedence = |step: &usize| match self.step(*step) {
                step if step.is_command() => 2,
                step => u8::from(!step.pivot),
            };
            let Some(step) = ready.min_by_key(precedence) else { break };
            self.begin(step);
            // A step that fails as it begins may have turned the saga back.
            if !self.goes_forward() {
                return;
            }
        }
        let done = self.steps_in(Phase::stands);
        for milestone in OrderState::MILESTONES {
            let steps = self.definition.reaching(milestone);
            if !steps.is_empty() && steps.is_subset_of(done) {
                self.reach(milestone);
            }
        }
        if self.saga.steps.iter().all(|step| step.phase.stands()) {
            self.saga.status = Status::Completed;
            self.saga.ended_at = Some(self.now);
            self.reach(OrderState::Completed);
        }
    }

    /// Starts one step, or holds the saga before it: thousands that wait before a participant
    /// which is away are better than thousands that are compensated.
    pub fn begin(&mut self, step: usize) {
        match &self.step(step).work {
            Work::Obligation => self.enter(step, Phase::Done),
            Work::Command { .. } if self.barred.contains(step) => {
                let pause = spread(self.saga.id, self.now.0.unsigned_abs()) % LOOK_AGAIN.0;
                let look_at = self.now + Millis(LOOK_AGAIN.0 + pause);
                self.enter(step, Phase::Held { look_at });
            }
            Work::Command { .. } => {
                let state = &mut self.saga.steps[step];
                state.generation = state.generation.saturating_add(1);
                state.data = None;
                let wait = self.first_wait(step, Direction::Forward);
                self.enter(step, Phase::Sent(wait));
                self.send(step, Direction::Forward, 1);
                if self.saga.steps[step].generation > 1 {
                    self.set_facts_aside(step);
                }
            }
            Work::Facts { .. } => {
                let deadline_at = state::after(self.now, self.step(step).deadline);
                self.enter(step, Phase::Awaiting { deadline_at });
                self.recall(step);
            }
        }
    }

    /// Lets the facts that are already known count for a step that has begun to wait.
    fn recall(&mut self, step: usize) {
        let known = |test: &dyn Fn(&str) -> bool| {
            self.saga.facts.iter().any(|fact| !fact.early && test(&fact.kind))
        };
        if known(&|kind| self.step(step).completes_on(kind)) {
            self.done(step, None);
        } else if let Work::Facts { fails_on: Some(kind), .. } = &self.step(step).work
            && self.has_failed_by(step, kind)
        {
            self.fail(step, kind.as_str().into());
        }
    }

    /// The step is done. The caller advances.
    pub fn done(&mut self, step: usize, data: Option<Box<str>>) {
        self.enter(step, Phase::Done);
        if data.is_some() {
            self.saga.steps[step].data = data;
        }
        self.clear(step);
        if self.step(step).pivot {
            self.pass_pivot();
        }
    }

    /// A pivot was done while something wanted to turn the saga back: it is too late now, and
    /// what went wrong beside the pivot is an operator's.
    pub fn pass_pivot(&mut self) {
        if self.saga.cause.take() == Some(Cause::Cancel) || self.saga.cancel == CancelState::Waiting
        {
            self.refuse_cancel(WhyRefused::PastPivot);
        }
        for step in 0..self.saga.steps.len() {
            match self.phase(step) {
                Phase::Failed { .. } => {
                    self.raise(Some(step), AttentionCode::Rejected, Origin::Decision);
                }
                Phase::Sent(wait) | Phase::Asking(wait) if wait.give_up_at.is_none() => {
                    self.raise(Some(step), AttentionCode::InDoubt, Origin::Clock);
                }
                _ => {}
            }
        }
    }

    pub fn refuse_cancel(&mut self, why: WhyRefused) {
        self.saga.cancel = CancelState::Refused;
        self.effects.push(Effect::Announce(Announcement::CancelRefused { why }));
    }

    /// A business "no", or the fact that says so.
    pub fn fail(&mut self, step: usize, code: Box<str>) {
        self.enter(step, Phase::Failed { code: code.clone() });
        self.clear(step);
        if self.must_go_forward(step) {
            let code = match self.step(step).work {
                Work::Facts { .. } => AttentionCode::FailedPastPivot,
                _ => AttentionCode::Rejected,
            };
            self.raise(Some(step), code, Origin::Decision);
        } else {
            self.turn_back(Cause::Rejected { step, code });
        }
    }

    /// Whether this step can no longer be a reason to turn back.
    pub fn must_go_forward(&self, step: usize) -> bool {
        self.definition.is_past_pivot(step) || self.is_past_pivot()
    }
}
