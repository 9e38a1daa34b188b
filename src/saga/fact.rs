//! Something happened in the world: a courier's scan, a warehouse's note.

use super::turn::Turn;
use super::{AttentionCode, Fact, FactSeen, Ignored, Origin, Phase, Status, Verdict};

pub(super) fn fact(turn: &mut Turn<'_>, seen: &FactSeen) -> Verdict {
    if !turn.definition.steps().iter().any(|step| step.facts().any(|kind| kind == &*seen.kind)) {
        return Verdict::Ignored(Ignored::Irrelevant);
    }
    let early = comes_early(turn, &seen.kind);
    let known = turn.saga.facts.iter().position(|fact| fact.kind == seen.kind);
    if let Some(known) = known {
        // Repeated scans are normal. Only one that confirms an early fact says something new.
        let confirms = turn.saga.facts[known].early && !early;
        if !confirms || turn.saga.facts[known].event == seen.event {
            return Verdict::Ignored(Ignored::Duplicate);
        }
        turn.saga.facts.remove(known);
    }
    let fact = Fact { kind: seen.kind.clone(), event: seen.event, at: turn.now, early };
    turn.saga.facts.push(fact);
    if early {
        let step = awaiting_step(turn, &seen.kind);
        turn.raise(step, AttentionCode::EarlyFact, Origin::Decision);
        return Verdict::Applied;
    }
    match turn.saga.status {
        Status::Running => apply(turn, &seen.kind),
        Status::Compensating => {} // kept: the answer to the open compensation decides
        Status::Compensated if turn.pivot_fact_seen() => {
            let step = awaiting_step(turn, &seen.kind);
            turn.raise(step, AttentionCode::GoodsAndMoneyDisagree, Origin::Decision);
        }
        _ => return Verdict::Ignored(Ignored::Stale),
    }
    Verdict::Applied
}

/// Lets the fact count for the steps that wait for it now; those that begin later recall it.
fn apply(turn: &mut Turn<'_>, kind: &str) {
    for step in 0..turn.saga.steps.len() {
        match turn.phase(step) {
            Phase::Awaiting { .. } if turn.step(step).completes_on(kind) => turn.done(step, None),
            Phase::Awaiting { .. } if turn.step(step).fails_on(kind) => {
                turn.fail(step, kind.into())
            }
            // A failed delivery that succeeds at the next attempt is done after all.
            Phase::Failed { .. } if turn.step(step).completes_on(kind) => turn.done(step, None),
            _ => {}
        }
    }
    turn.advance();
}

/// A fact that belongs behind a pivot cannot be true before that pivot was even possible: a
/// parcel that nobody dispatched was not delivered. Money must not move on such a word.
fn comes_early(turn: &Turn<'_>, kind: &str) -> bool {
    if turn.saga.status != Status::Running {
        return false;
    }
    // A step that waits for it by now shows that its time has come.
    let waiting = turn.steps_in(|phase| matches!(phase, Phase::Awaiting { .. }));
    if waiting.iter().any(|step| turn.step(step).facts().any(|fact| fact == kind)) {
        return false;
    }
    let done = turn.steps_in(|phase| *phase == Phase::Done);
    let impossible = |pivot: usize| !turn.definition.ancestors(pivot).is_subset_of(done);
    (0..turn.saga.steps.len()).any(|step| {
        turn.step(step).facts().any(|fact| fact == kind)
            && turn
                .definition
                .ancestors(step)
                .iter()
                .any(|before| turn.definition.pivots().contains(before) && impossible(before))
    })
}

/// The last step that waits for this fact: the one that would believe it.
fn awaiting_step(turn: &Turn<'_>, kind: &str) -> Option<usize> {
    (0..turn.saga.steps.len()).rev().find(|step| turn.step(*step).facts().any(|fact| fact == kind))
}
