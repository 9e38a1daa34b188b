//! What a transition is counted as.

use makegood::catalog;
use makegood::saga::{
    Definition, Effect, Input, Millis, Saga, SagaId, Time, Transition, Verb, decide,
};
use makegood::telemetry::{Moved, Seen, Telemetry};

use crate::read;

const BEGIN: Time = Time(1_764_000_000_000);

struct World {
    definition: Definition,
    telemetry: Telemetry,
    saga: Saga,
}

impl World {
    fn new() -> World {
        let path = "sagas/order-fulfilment.toml";
        let definition = catalog::load(path, &read(path)).expect("it ships").definition;
        let id = SagaId::of("acme", "o-1", definition.name());
        let saga = Saga::created(&definition, id);
        let telemetry = Telemetry::new();
        telemetry.definition_known(&definition);
        World { definition, telemetry, saga }
    }

    fn happen(&mut self, input: &Input, now: Time) -> Moved {
        let Transition { saga, effects, .. } = decide(&self.definition, &self.saga, input, now);
        let moved = Moved::between(&self.saga, &saga, input, now);
        self.saga = saga;
        self.count(&moved, &effects, now);
        moved
    }

    fn count(&self, moved: &Moved, effects: &[Effect], at: Time) {
        self.telemetry.transition(&Seen {
            definition: &self.definition,
            order: "o-1",
            trace: "",
            saga: self.saga.id,
            started_at: self.saga.started_at,
            moved,
            effects,
            at,
        });
    }

    /// The value of a series, with its labels in the order of their names.
    fn value(&self, series: &str) -> f64 {
        let page = self.telemetry.render();
        let found = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let found = found.unwrap_or_else(|| panic!("no {series} in {page}"));
        found.parse().expect("a number")
    }

    fn of_reserve(&self, metric: &str, labels: [&str; 2]) -> f64 {
        let [before, after] = labels;
        let ours = "definition=\"order-fulfilment\"";
        self.value(&format!("{metric}{{{ours}{before},step=\"reserve\"{after}}}"))
    }
}

/// A counter that comes out of nothing has not risen, to Prometheus.
pub fn they_begin_at_zero() {
    let world = World::new();
    let started = "makegood_sagas_started_total{definition=\"order-fulfilment\"}";
    assert!(world.value(started).abs() < f64::EPSILON);
    for (metric, labels) in [
        ("makegood_step_phases_total", [",phase=\"sent\"", ""]),
        ("makegood_step_phases_total", [",phase=\"compensating\"", ""]),
        ("makegood_commands_total", [",direction=\"forward\",sending=\"again\"", ""]),
        ("makegood_late_successes_total", ["", ""]),
    ] {
        assert!(world.of_reserve(metric, labels).abs() < f64::EPSILON, "{metric}");
    }
}

pub fn a_step_is_counted_as_it_goes() {
    let mut world = World::new();
    world.happen(&Input::Start, BEGIN);
    let of =
        |world: &World, metric: &str, before: &str| world.of_reserve(metric, [before, ""]) as u64;
    assert_eq!(of(&world, "makegood_step_phases_total", ",phase=\"sent\""), 1);
    let first = ",direction=\"forward\",sending=\"first\"";
    let again = ",direction=\"forward\",sending=\"again\"";
    assert_eq!(of(&world, "makegood_commands_total", first), 1);
    // Nobody answers: the same command again, some seconds late.
    let due = world.saga.next_clock().expect("a clock");
    let moved = world.happen(&Input::Clock, due + Millis(3_000));
    assert_eq!((moved.late, moved.is_called), (Some(Millis(3_000)), false));
    assert!(moved.steps.is_empty(), "it is sent as before");
    assert_eq!(of(&world, "makegood_commands_total", first), 1);
    assert_eq!(of(&world, "makegood_commands_total", again), 1);
    assert_eq!(world.value("makegood_timer_lag_seconds_sum") as u64, 3);
    // A step that left a phase tells how long it was there, and none that was not.
    let waited = "makegood_step_phase_duration_seconds_count";
    assert_eq!(of(&world, waited, ",phase=\"sent\""), 0);
    while world.saga.steps[1].phase.as_str() == "sent" {
        let due = world.saga.next_clock().expect("it is given up in the end");
        world.happen(&Input::Clock, due);
    }
    assert_eq!(of(&world, waited, ",phase=\"sent\""), 1);
    let seconds = of(&world, "makegood_step_phase_duration_seconds_sum", ",phase=\"sent\"");
    assert_eq!(seconds, 300, "its give-up time");
}

/// Who holds an order knows of it; the objective is about orders that call by themselves.
pub fn a_hold_is_no_call_and_a_deadline_is_one() {
    let called = "makegood_sagas_called_total{definition=\"order-fulfilment\"}";
    let mut world = World::new();
    world.happen(&Input::Start, BEGIN);
    let held = world.happen(&Input::Operator(Verb::Hold), BEGIN + Millis::SECOND);
    assert!(world.saga.is_held() && !held.is_called);
    world.happen(&Input::Operator(Verb::Release), BEGIN + Millis::MINUTE);
    assert_eq!(world.value(called) as u64, 0);
    let mut overdue = world.saga.clone();
    let hold = decide(&world.definition, &overdue, &Input::Operator(Verb::Hold), BEGIN);
    let mut attention = hold.saga.attention[0].clone();
    attention.code = makegood::saga::AttentionCode::DeadlinePassed;
    overdue.attention.push(attention);
    let moved = Moved::between(&world.saga, &overdue, &Input::Clock, BEGIN);
    assert!(moved.is_called);
    world.count(&moved, &[], BEGIN);
    assert_eq!(world.value(called) as u64, 1);
    let again = Moved::between(&overdue, &overdue, &Input::Clock, BEGIN);
    assert!(!again.is_called, "it is called already");
}
