//! A participant answers nobody.

use makegood::saga::{Moment, Phase, StepSet};

use super::*;

impl Run<'_> {
    /// Decides about a time at which these steps' participant is away.
    fn while_away(mut self, names: &[&str], input: Input) -> Self {
        let steps: StepSet = names.iter().map(|name| self.step(name)).collect();
        let moment = Moment { now: self.now, away: steps, barred: steps };
        let made = decide(self.definition, &self.saga, &input, moment);
        (self.saga, self.effects, self.verdict) = (made.saga, made.effects, made.verdict);
        self
    }

    fn answered_while_away(self, name: &str, names: &[&str]) -> Self {
        let command = CommandId::of(self.saga.id, name, Direction::Forward, 1);
        let reply = Reply { command, from: None, outcome: SUCCESS, data: None };
        self.while_away(names, Input::Reply(reply))
    }

    fn later(mut self, span: Millis) -> Self {
        self.now = self.now + span;
        self
    }
}

/// The saga is held before its step, and goes on when it is back.
#[test]
fn is_sent_nothing_new() {
    let order = order();
    let held = Run::start(&order).answered_while_away("reserve", &["pick"]);
    let held = held.sends(&[]).phase("pick", "held").is(Status::Running).calm();
    let Phase::Held { look_at } = held.saga.steps[held.step("pick")].phase else { unreachable!() };
    assert!((30_000..60_000).contains(&(look_at - held.now).0), "soon, and not all at once");
    held.later(Millis::MINUTE)
        .while_away(&["pick"], Input::Clock)
        .phase("pick", "held")
        .input(Input::Clock)
        .sends(&["pick"])
        .calm();
}

/// Its silence says nothing of one command: that is sent again, and never given up.
#[test]
fn gives_nobody_up() {
    let order = order();
    let mut run = Run::start(&order);
    for _ in 0..100 {
        run = run.later(Millis::MINUTE).while_away(&["reserve", "insure"], Input::Clock);
    }
    run.is(Status::Running)
        .phase("reserve", "sent")
        .attention(&[("reserve", AttentionCode::DeadlinePassed)])
        // When it is back it has all its time again.
        .pass(Millis(4 * Millis::MINUTE.0))
        .is(Status::Running)
        .pass(Millis(2 * Millis::MINUTE.0))
        .is(Status::Compensating);
}

/// What was never sent has not to be undone.
#[test]
fn owes_nothing_where_it_was_sent_nothing() {
    let order = order();
    Run::start(&order)
        .answered_while_away("reserve", &["pick"])
        .cancel()
        .sends(&["undo paid", "undo reserve", "undo insure"])
        .phase("pick", "idle");
}
