//! Turning back: undo all that was done or may have been done, in order.

use super::turn::Turn;
use super::{
    AttentionCode, CancelState, Cause, Definition, Direction, Forward, OrderState, Origin, Phase,
    Saga, Status, StepSet, WhyRefused, Work,
};

/// The steps of which something is, or may be, out in the world and must come back if the
/// saga does not complete.
#[must_use]
pub fn owed(definition: &Definition, saga: &Saga) -> StepSet {
    let owes = |step: &usize| {
        let state = &saga.steps[*step];
        let may_be_out = match state.phase {
            Phase::Done | Phase::Sent(_) | Phase::Asking(_) => true,
            Phase::Undoing { .. } | Phase::Refused { .. } => true,
            // Unless it was skipped before it was ever sent.
            Phase::Skipped => state.generation > 0,
            Phase::Idle | Phase::Held { .. } | Phase::Awaiting { .. } => false,
            Phase::Failed { .. } | Phase::Undone => false,
        };
        may_be_out && definition.steps()[*step].compensation.is_some()
    };
    (0..saga.steps.len()).filter(owes).collect()
}

impl Turn<'_> {
    /// Turns the saga back, unless a pivot is under way: then its answer decides, because what
    /// may already be past the point of no return must not be undone.
    pub fn turn_back(&mut self, cause: Cause) {
        match self.saga.status {
            Status::Running if self.pivot_under_way() => {
                self.saga.cause.get_or_insert(cause);
            }
            Status::Running => {
                // An earlier cause that waited for the pivot is the real one.
                self.saga.cause.get_or_insert(cause);
                if self.saga.cancel == CancelState::Waiting {
                    self.saga.cancel = CancelState::Accepted;
                }
                self.saga.status = Status::Compensating;
                self.stop_waiting();
                self.settle();
            }
            _ => self.settle(),
        }
    }

    /// Nothing goes forward any more: steps that wait for facts stop, commands that are out
    /// are no longer resent. Whether these were applied is unknown, so they stay owed.
    fn stop_waiting(&mut self) {
        for step in 0..self.saga.steps.len() {
            match &mut self.saga.steps[step].phase {
                Phase::Awaiting { .. } | Phase::Held { .. } => self.enter(step, Phase::Idle),
                Phase::Sent(wait) | Phase::Asking(wait) => {
                    wait.resend_at = None;
                    wait.give_up_at = None;
                    wait.deadline_at = None;
                }
                _ => continue,
            }
            self.clear(step);
        }
    }

    /// Sends every compensation whose turn has come; ends the saga when nothing is owed.
    pub fn settle(&mut self) {
        if self.saga.status != Status::Compensating || self.saga.is_held() {
            return;
        }
        let owed = owed(self.definition, &self.saga);
        for step in owed.iter() {
            let blocked = self
                .step(step)
                .compensation
                .as_ref()
                .is_some_and(|undo| undo.after.intersects(owed));
            let forward = match self.phase(step) {
                Phase::Done => Forward::Done,
                Phase::Sent(_) | Phase::Asking(_) | Phase::Skipped => Forward::Unknown,
                _ => continue,
            };
            if !blocked {
                self.undo(step, forward);
            }
        }
        if owed.is_empty() {
            self.notice_crossed_pivot();
            self.saga.status = Status::Compensated;
            self.saga.ended_at = Some(self.now);
            self.reach(OrderState::Cancelled);
        }
    }

    /// What leads to a pivot was undone, yet the pivot's fact is in: an operator is called.
    pub fn notice_crossed_pivot(&mut self) {
        let crossed = self.definition.pivots().iter().find(|pivot| {
            self.saga.facts.iter().any(|fact| self.step(*pivot).completes_on(&fact.kind))
        });
        if crossed.is_some() {
            self.raise(crossed, AttentionCode::GoodsAndMoneyDisagree, Origin::Decision);
        }
    }

    /// Sends a compensation under a new id.
    pub fn undo(&mut self, step: usize, forward: Forward) {
        let state = &mut self.saga.steps[step];
        state.undo = state.undo.saturating_add(1);
        let wait = self.first_wait(step, Direction::Compensate);
        self.enter(step, Phase::Undoing { wait, forward, renew: false });
        self.send(step, Direction::Compensate, 1);
    }

    /// A compensation was answered: it is undone, or there was nothing to undo. Not `settled`
    /// where the command was never answered either.
    pub fn undone(&mut self, step: usize, settled: bool) {
        self.enter(step, Phase::Undone);
        self.clear(step);
        if !settled {
            let state = &mut self.saga.steps[step];
            state.unsettled.push(state.generation);
        }
        match self.saga.status {
            Status::Compensating => {
                if self.pivot_fact_seen() && self.leads_to_pivot(step) {
                    self.notice_crossed_pivot();
                }
                self.settle();
            }
            // The saga resumed while this compensation was out: do the step again.
            Status::Running => {
                self.reopen(step);
                self.advance();
            }
            _ => {}
        }
    }

    fn leads_to_pivot(&self, step: usize) -> bool {
        self.definition.pivots().iter().any(|pivot| self.definition.ancestors(pivot).contains(step))
    }

    /// A compensation was refused as too late.
    pub fn refused(&mut self, step: usize, code: Box<str>) {
        self.clear(step);
        self.enter(step, Phase::Refused { code });
        if !self.go_on_after_all() {
            self.raise(Some(step), AttentionCode::CompensationRefused, Origin::Decision);
        }
    }

    /// Goes forward again if what was refused may stand: after a cancel request, or once the
    /// pivot's fact is in, whichever of the two came first. Whether it did.
    pub fn go_on_after_all(&mut self) -> bool {
        let refused = !self.steps_in(|phase| matches!(phase, Phase::Refused { .. })).is_empty();
        let wanted = match self.saga.status {
            Status::Running => true,
            Status::Compensating => {
                self.saga.cause == Some(Cause::Cancel) || self.pivot_can_follow()
            }
            _ => false,
        };
        if !refused || !wanted {
            return false;
        }
        let mut ahead = self.clone();
        ahead.resume();
        // What would turn the saga back again at once is a business failure: an operator's, or
        // a participant that keeps refusing would send the saga to and fro for ever.
        let turns_back = ahead.saga.status == Status::Compensating || ahead.saga.cause.is_some();
        let goes_on = self.saga.status == Status::Running || !turns_back;
        if goes_on {
            *self = ahead;
        }
        goes_on
    }

    /// Whether the pivot's fact is in and all before that pivot stands, so that going forward
    /// leads past it at once, whatever turned the saga back.
    fn pivot_can_follow(&self) -> bool {
        let stands =
            self.steps_in(|phase| phase.stands() || matches!(phase, Phase::Refused { .. }));
        let mut pivots = self.definition.pivots().iter();
        pivots.any(|pivot| {
            self.fact_completes(pivot) && self.definition.ancestors(pivot).is_subset_of(stands)
        })
    }

    /// Whether a fact that counts by now completes this step.
    fn fact_completes(&self, step: usize) -> bool {
        let mut facts = self.saga.facts.iter().filter(|fact| !fact.early);
        facts.any(|fact| self.step(step).completes_on(&fact.kind))
    }

    /// What was refused stands, so the order goes on after all. Steps undone meanwhile run again.
    fn resume(&mut self) {
        for step in self.steps_in(|phase| matches!(phase, Phase::Refused { .. })).iter() {
            self.enter(step, Phase::Done);
        }
        if self.saga.status == Status::Compensating {
            self.saga.status = Status::Running;
            let cause = self.saga.cause.take();
            if cause == Some(Cause::Cancel) || self.saga.cancel == CancelState::Accepted {
                self.refuse_cancel(WhyRefused::TooLate);
            }
            for step in 0..self.saga.steps.len() {
                match self.phase(step) {
                    Phase::Undone => self.reopen(step),
                    // A fact failed it, and another says that it was done after all.
                    Phase::Failed { .. } if self.fact_completes(step) => {
                        self.enter(step, Phase::Idle);
                    }
                    Phase::Sent(_) | Phase::Asking(_) => {
                        let wait = self.first_wait(step, Direction::Forward);
                        self.enter(step, Phase::Sent(wait));
                        self.send(step, Direction::Forward, 1);
                    }
                    _ => {}
                }
            }
        }
        self.advance();
        self.fail_again();
    }

    /// An undone step is to be done anew; an obligation cannot be, so an operator is called.
    fn reopen(&mut self, step: usize) {
        if self.step(step).work == Work::Obligation {
            self.raise(Some(step), AttentionCode::ObligationUndone, Origin::Decision);
        } else {
            self.enter(step, Phase::Idle);
        }
    }

    /// A "no" that came in while the saga was turned back counts again now that it resumed.
    fn fail_again(&mut self) {
        for step in 0..self.saga.steps.len() {
            if let Phase::Failed { code } = self.phase(step).clone()
                && self.saga.status == Status::Running
            {
                self.fail(step, code);
            }
        }
    }
}
