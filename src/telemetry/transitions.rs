//! What became of sagas, one stored transition at a time.

use std::sync::atomic::Ordering;

use super::Telemetry;
use crate::saga::{
    Announcement, AttentionCode, Definition, Direction, Effect, Input, Millis, OrderState, Phase,
    Saga, SagaId, Status, Step, StepState, Time, Work, step_label,
};

/// A stored transition, as telemetry looks at it.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub definition: &'a Definition,
    pub order: &'a str,
    pub trace: &'a str,
    pub saga: SagaId,
    pub started_at: Time,
    pub moved: &'a Moved,
    pub effects: &'a [Effect],
    pub at: Time,
}

/// What a transition did to a saga.
#[derive(Debug, Clone)]
pub struct Moved {
    /// The input's name.
    pub input: &'static str,
    /// After the transition.
    pub status: Status,
    /// The steps that came into another phase.
    pub steps: Vec<MovedStep>,
    /// It needs a person from now on, and an operator who holds it is not all the reason.
    pub is_called: bool,
    /// Of a clock: how much later than its time it was dealt with.
    pub late: Option<Millis>,
}

#[derive(Debug, Clone, Copy)]
pub struct MovedStep {
    pub step: usize,
    /// The phases as [`Phase::as_str`] calls them.
    pub from: &'static str,
    pub to: &'static str,
    /// How long it was in the phase before.
    pub stayed: Millis,
}

impl Moved {
    #[must_use]
    pub fn between(before: &Saga, after: &Saga, input: &Input, now: Time) -> Moved {
        let moved = |(step, (before, after)): (usize, (&StepState, &StepState))| {
            let (from, to) = (before.phase.as_str(), after.phase.as_str());
            (from != to).then(|| MovedStep { step, from, to, stayed: now - before.since })
        };
        let due = before.next_clock().filter(|_| *input == Input::Clock);
        Moved {
            input: input.name(),
            status: after.status,
            steps: before.steps.iter().zip(&after.steps).enumerate().filter_map(moved).collect(),
            is_called: needs_person(after) && !needs_person(before),
            late: due.map(|due| now - due),
        }
    }
}

fn needs_person(saga: &Saga) -> bool {
    saga.attention.iter().any(|attention| attention.code != AttentionCode::Held)
}

/// The phases in which a step of this kind waits, as [`Phase::as_str`] calls them. How long it is
/// in the others says nothing.
pub(super) fn waits(step: &Step) -> impl Iterator<Item = &'static str> {
    let (is_sent, is_asked, is_awaited) = match &step.work {
        Work::Command { probe, .. } => (true, *probe, false),
        Work::Facts { .. } => (false, false, true),
        Work::Obligation => (false, false, false),
    };
    let of = [
        (is_sent, "held"),
        (is_sent, "sent"),
        (is_asked, "in-doubt"),
        (is_awaited, "awaiting"),
        (step.compensation.is_some(), "compensating"),
    ];
    of.into_iter().filter_map(|(is_possible, phase)| is_possible.then_some(phase))
}

impl Telemetry {
    /// This definition may be run: its counters begin at zero, so that the first event of each is
    /// seen as one. A counter that comes out of nothing at one has not risen.
    pub fn definition_known(&self, definition: &Definition) {
        let metrics = &self.metrics;
        let name = definition.name();
        metrics.started.with_label_values(&[name]);
        metrics.called.with_label_values(&[name]);
        // What an operator abandons ends in the operator's process, and is kept in the audit.
        for outcome in [Status::Completed, Status::Compensated] {
            metrics.finished.with_label_values(&[name, outcome.as_str()]);
            metrics.duration.with_label_values(&[name, outcome.as_str()]);
        }
        for (participant, _) in definition.commands() {
            metrics.breakers.with_label_values(&[participant]);
        }
        for step in definition.steps() {
            for phase in waits(step).chain([Phase::Done.as_str()]) {
                metrics.phases.with_label_values(&[name, &step.name, phase]);
            }
            for phase in waits(step) {
                metrics.phase_seconds.with_label_values(&[name, &step.name, phase]);
            }
            let both = [Direction::Forward, Direction::Compensate];
            for direction in both.into_iter().filter(|way| step.command(*way).is_some()) {
                for sending in ["first", "again"] {
                    let labels = &[name, &step.name, direction.as_str(), sending];
                    metrics.commands.with_label_values(labels);
                }
            }
            if step.compensation.is_some() {
                metrics.late_successes.with_label_values(&[name, &step.name]);
            }
        }
    }

    /// One stored transition: what it means for the saga, counted and, where it matters, logged.
    pub fn transition(&self, seen: &Seen<'_>) {
        let Seen { definition, moved, .. } = *seen;
        let name = definition.name();
        self.metrics.transitions.with_label_values(&[moved.input]).inc();
        self.transitions_here.fetch_add(1, Ordering::Relaxed);
        if moved.input == "start" {
            self.metrics.started.with_label_values(&[name]).inc();
        }
        if moved.is_called {
            self.metrics.called.with_label_values(&[name]).inc();
        }
        if let Some(late) = moved.late {
            self.metrics.timer_lag.observe(late.as_seconds());
        }
        for MovedStep { step, from, to, stayed } in &moved.steps {
            let Some(step) = definition.steps().get(*step) else { continue };
            self.metrics.phases.with_label_values(&[name, &step.name, to]).inc();
            if waits(step).any(|phase| phase == *from) {
                let labels = &[name, &step.name, from];
                let spent = self.metrics.phase_seconds.with_label_values(labels);
                spent.observe(stayed.as_seconds());
            }
        }
        for effect in seen.effects {
            self.effect(seen, effect);
        }
        let (trace, saga) = (seen.trace, seen.saga);
        tracing::debug!(
            trace, %saga, order = seen.order, input = moved.input,
            status = moved.status.as_str(), "transition"
        );
    }

    fn effect(&self, seen: &Seen<'_>, effect: &Effect) {
        let Seen { definition, trace, order, saga, .. } = *seen;
        let name = definition.name();
        match effect {
            Effect::Announce(
                Announcement::Reached(OrderState::Completed | OrderState::Cancelled)
                | Announcement::Abandoned,
            ) => {
                let labels = &[name, seen.moved.status.as_str()];
                self.metrics.finished.with_label_values(labels).inc();
                self.finished_here.fetch_add(1, Ordering::Relaxed);
                let span = seen.at - seen.started_at;
                self.metrics.duration.with_label_values(labels).observe(span.as_seconds());
            }
            Effect::Announce(Announcement::AttentionRaised { code, step }) => {
                let (code, step) = (code.as_str(), step_label(definition, *step));
                self.metrics.attention.with_label_values(&[name, step, code, "raised"]).inc();
                tracing::warn!(trace, %saga, order, code, step, "attention raised");
            }
            Effect::Announce(Announcement::AttentionCleared { code, step }) => {
                let (code, step) = (code.as_str(), step_label(definition, *step));
                self.metrics.attention.with_label_values(&[name, step, code, "cleared"]).inc();
                tracing::info!(trace, %saga, order, code, step, "attention cleared");
            }
            Effect::LateSuccess { step } => {
                let step = step_label(definition, Some(*step));
                self.metrics.late_successes.with_label_values(&[name, step]).inc();
                tracing::warn!(trace, %saga, order, step, "a compensated step succeeded late");
            }
            Effect::Send { step, direction, attempt, .. } => {
                let sending = if *attempt > 1 { "again" } else { "first" };
                self.sent(definition, *step, direction.as_str(), sending);
            }
            Effect::Probe { step, .. } => self.sent(definition, *step, "probe", "first"),
            Effect::Announce(Announcement::Reached(_) | Announcement::CancelRefused { .. })
            | Effect::Notify { .. } => {}
        }
    }

    fn sent(&self, definition: &Definition, step: usize, direction: &str, sending: &str) {
        let step = step_label(definition, Some(step));
        let labels = &[definition.name(), step, direction, sending];
        self.metrics.commands.with_label_values(labels).inc();
    }
}
