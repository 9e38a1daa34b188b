//! Something happened in the world: a courier's scan, a warehouse's note.

use super::turn::Turn;
use super::{AttentionCode, Fact, FactSeen, Ignored, Origin, Phase, Status, Verdict, Work};

pub(super) fn fact(turn: &mut Turn<'_>, seen: &FactSeen) -> Verdict {
    if !turn.definition.steps().iter().any(|step| step.facts().any(|kind| kind == &*seen.kind)) {
        return Verdict::Ignored(Ignored::Irrelevant);
    }
    let early = comes_early(turn, &seen.kind);
    // Repeated scans are normal. Only one that confirms an early fact says something new, or one
    // more attempt that failed, where several may.
    let mut known = turn.saga.facts.iter().filter(|fact| fact.kind == seen.kind);
    let says_nothing_new = known.clone().any(|fact| fact.event == seen.event)
        || match early {
            true => known.next().is_some(),
            false => turn.times_seen(&seen.kind) >= times_of_use(turn, &seen.kind),
        };
    if says_nothing_new {
        return Verdict::Ignored(Ignored::Duplicate);
    }
    turn.saga.facts.retain(|fact| fact.kind != seen.kind || !fact.early);
    let fact = Fact { kind: seen.kind.clone(), event: seen.event, at: turn.now, early };
    turn.saga.facts.push(fact);
    if early {
        turn.call_early(&seen.kind);
        return Verdict::Applied;
    }
    match turn.saga.status {
        Status::Running => apply(turn, &seen.kind),
        // Kept: the answer to the open compensation decides. It may be in already, and refuse.
        Status::Compensating => {
            turn.go_on_after_all();
        }
        Status::Compensated if turn.pivot_fact_seen() => turn.notice_crossed_pivot(),
        _ => return Verdict::Ignored(Ignored::Stale),
    }
    Verdict::Applied
}

/// Lets the fact count for the steps that wait for it now; those that begin later recall it.
fn apply(turn: &mut Turn<'_>, kind: &str) {
    for step in 0..turn.saga.steps.len() {
        match turn.phase(step) {
            Phase::Awaiting { .. } if turn.step(step).completes_on(kind) => turn.done(step, None),
            Phase::Awaiting { .. } if turn.has_failed_by(step, kind) => {
                turn.fail(step, kind.into())
            }
            // A failed delivery that succeeds at the next attempt is done after all.
            Phase::Failed { .. } if turn.step(step).completes_on(kind) => turn.done(step, None),
            _ => {}
        }
    }
    turn.advance();
}

/// How many events that say the same can mean something: the most attempts of any step that
/// fails on it.
fn times_of_use(turn: &Turn<'_>, kind: &str) -> usize {
    let steps = turn.definition.steps().iter();
    steps.filter_map(|step| step.attempts(kind)).max().unwrap_or(1)
}

/// A fact that belongs behind a pivot cannot be true before that pivot was even possible: a
/// parcel that nobody was asked to dispatch was not delivered. Money must not move on such a
/// word. One that was asked for may be under way although its answer is not in: a courier can be
/// faster than a reply that a broker in trouble holds back. Its scans are kept, and count once
/// the answer is there.
fn comes_early(turn: &Turn<'_>, kind: &str) -> bool {
    if !matches!(turn.saga.status, Status::Running | Status::Compensating) {
        return false;
    }
    // A step that waits for it by now shows that its time has come.
    let waiting = turn.steps_in(|phase| matches!(phase, Phase::Awaiting { .. }));
    if waiting.iter().any(|step| turn.step(step).facts().any(|fact| fact == kind)) {
        return false;
    }
    let pivots = turn.definition.pivots();
    (0..turn.saga.steps.len()).any(|step| {
        let mut before = turn.definition.ancestors(step).iter();
        turn.step(step).facts().any(|fact| fact == kind)
            && before.any(|before| pivots.contains(before) && !may_be_done(turn, before))
    })
}

/// Whether a pivot may be done by now: it and every command that leads to it was sent, and all
/// else that leads to it is done.
fn may_be_done(turn: &Turn<'_>, pivot: usize) -> bool {
    let sent = |step: usize| turn.saga.steps[step].generation > 0;
    let mut before = turn.definition.ancestors(pivot).iter();
    (!turn.step(pivot).is_command() || sent(pivot))
        && before.all(|step| match turn.step(step).work {
            Work::Obligation => true,
            Work::Command { .. } => sent(step),
            _ => turn.phase(step).stands(),
        })
}

impl Turn<'_> {
    /// By how many events a fact is known that can be true.
    fn times_seen(&self, kind: &str) -> usize {
        self.saga.facts.iter().filter(|fact| &*fact.kind == kind && !fact.early).count()
    }

    /// Whether a fact has been seen often enough for the step to have failed by it.
    pub fn has_failed_by(&self, step: usize, kind: &str) -> bool {
        let attempts = self.step(step).attempts(kind);
        attempts.is_some_and(|attempts| self.times_seen(kind) >= attempts)
    }

    /// A command is done again: what was seen behind it tells of what it did before. Such facts
    /// count no more, and the waits that they completed begin anew; a pivot is never taken back.
    pub fn set_facts_aside(&mut self, command: usize) {
        for step in self.definition.witnesses(command).iter() {
            if *self.phase(step) == Phase::Done && !self.step(step).pivot {
                self.enter(step, Phase::Idle);
            }
            for fact in 0..self.saga.facts.len() {
                let Fact { kind, early, .. } = &mut self.saga.facts[fact];
                if !*early && self.definition.steps()[step].facts().any(|known| known == &**kind) {
                    *early = true;
                    let kind = kind.clone();
                    self.call_early(&kind);
                }
            }
        }
    }

    /// Calls an operator to the last step that waits for a fact which does not count: the one
    /// that would believe it.
    fn call_early(&mut self, kind: &str) {
        let cares = |step: &usize| self.step(*step).facts().any(|fact| fact == kind);
        let step = (0..self.saga.steps.len()).rev().find(cares);
        self.raise(step, AttentionCode::EarlyFact, Origin::Decision);
    }
}
