//! Every metric, declared once: its name, what it says, its labels. Labels are low-cardinality:
//! no order, saga or message ids.

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// Seconds from a few milliseconds to two months: sagas live long.
const SAGA_SECONDS: [f64; 12] = [
    0.1,
    1.0,
    10.0,
    60.0,
    600.0,
    3_600.0,
    21_600.0,
    86_400.0,
    259_200.0,
    604_800.0,
    2_592_000.0,
    5_184_000.0,
];
const BATCH_SIZES: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0];
/// From what nobody notices to an outage that somebody slept through.
const DELAY_SECONDS: [f64; 12] =
    [0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0];
const COMMIT_SECONDS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0];

/// Makes of a table of metrics a struct that has them, registered.
macro_rules! metrics {
    ($metrics:ident: $($field:ident: $kind:ident = $make:ident($name:literal, $help:literal $(, $more:expr)*);)*) => {
        #[derive(Debug)]
        pub(super) struct $metrics {
            pub registry: Registry,
            $(pub $field: $kind,)*
        }

        impl $metrics {
            /// # Panics
            /// Only if two metrics here had the same name, which the first test would show.
            pub fn new() -> $metrics {
                let registry = Registry::new();
                $metrics { $($field: $make(&registry, $name, $help $(, $more)*),)* registry }
            }
        }
    };
}

metrics! { Metrics:
    build: IntGaugeVec = gauges("makegood_build_info", "The running version.", &["version"]);
    started: IntCounterVec = counters(
        "makegood_sagas_started_total", "Sagas started.", &["definition"]
    );
    finished: IntCounterVec = counters(
        "makegood_sagas_finished_total",
        "Sagas that this worker brought to a final state.",
        &["definition", "outcome"]
    );
    duration: HistogramVec = histograms(
        "makegood_saga_duration_seconds",
        "From start to final state.",
        &["definition", "outcome"], &SAGA_SECONDS
    );
    transitions: IntCounterVec = counters(
        "makegood_transitions_total", "Transitions stored, by what caused them.", &["input"]
    );
    ignored: IntCounterVec = counters(
        "makegood_inputs_ignored_total",
        "Inputs that changed nothing: duplicates, stale and irrelevant ones.",
        &["reason"]
    );
    phases: IntCounterVec = counters(
        "makegood_step_phases_total",
        "Steps that came into a phase: sent, in-doubt, done, failed, compensating and the others.",
        &["definition", "step", "phase"]
    );
    phase_seconds: HistogramVec = histograms(
        "makegood_step_phase_duration_seconds",
        "How long a step was in a phase in which it waits: for an answer, a fact, a compensation.",
        &["definition", "step", "phase"], &SAGA_SECONDS
    );
    commands: IntCounterVec = counters(
        "makegood_commands_total",
        "Commands, compensations and probes to be sent: for the first time, or again.",
        &["definition", "step", "direction", "sending"]
    );
    late_successes: IntCounterVec = counters(
        "makegood_late_successes_total",
        "Steps that succeeded after their compensation was sent.",
        &["definition", "step"]
    );
    breakers: IntGaugeVec = gauges(
        "makegood_breaker_open",
        "1 while a participant answers nobody: its give-up clocks stand still, and sagas are held before its steps.",
        &["participant"]
    );
    attention: IntCounterVec = counters(
        "makegood_attention_changes_total",
        "Reasons for an operator to look, raised and cleared; step - is the saga as a whole.",
        &["definition", "step", "code", "change"]
    );
    called: IntCounterVec = counters(
        "makegood_sagas_called_total",
        "Sagas that came to need a person, other than by an operator who holds them.",
        &["definition"]
    );
    commits: IntCounterVec = counters(
        "makegood_commits_total",
        "Batches committed: of sagas, or of confirmed outbox rows.",
        &["what"]
    );
    commit_seconds: Histogram = histogram(
        "makegood_commit_duration_seconds", "How long a commit took.", &COMMIT_SECONDS
    );
    batch: Histogram = histogram(
        "makegood_lane_batch_size", "Inputs a lane took at once.", &BATCH_SIZES
    );
    lost_races: IntCounter = counter(
        "makegood_lost_races_total", "Sagas decided again because another worker was first."
    );
    published: IntCounterVec = counters(
        "makegood_messages_published_total", "Messages that the broker confirmed.", &["channel"]
    );
    publish_delay: HistogramVec = histograms(
        "makegood_publish_delay_seconds",
        "From the decision to send a message until the broker has confirmed it.",
        &["channel"], &DELAY_SECONDS
    );
    publish_failures: IntCounterVec = counters(
        "makegood_publish_failures_total",
        "Messages without a good confirm; they are sent again.",
        &["reason"]
    );
    events_unheard: IntCounter = counter(
        "makegood_events_unheard_total", "Events published to which nobody subscribes."
    );
    dead_letters: IntCounterVec = counters(
        "makegood_dead_letters_total", "Messages that could not be processed.", &["reason"]
    );
    replays: IntCounterVec = counters(
        "makegood_replays_total", "Dead letters replayed, by what came of it.", &["outcome"]
    );
    received: IntCounterVec = counters(
        "makegood_messages_received_total", "Messages taken from the broker.", &["channel"]
    );
    http_answers: IntCounterVec = counters(
        "makegood_http_answers_total", "Answers to signed requests.", &["door", "status"]
    );
    http_seconds: HistogramVec = histograms(
        "makegood_http_answer_duration_seconds",
        "From a signed request's head to its answer.",
        &["door"], &COMMIT_SECONDS
    );
    unnamed_shipments: IntCounterVec = counters(
        "makegood_unnamed_shipments_total",
        "Booked shipments whose booking did not say which they are: no courier can scan them.",
        &["definition"]
    );
    timers: IntCounter = counter(
        "makegood_timers_fired_total", "Sagas whose clock was due."
    );
    timer_lag: Histogram = histogram(
        "makegood_timer_lag_seconds",
        "How much later than its time a clock was dealt with.", &DELAY_SECONDS
    );
    connected: IntGaugeVec = gauges(
        "makegood_connected", "1 while that part of the worker can do its work.", &["part"]
    );
}

// Made anew at each look by the one worker that watches, and shown whole: nobody sees half of a
// look, and what does not occur any more is gone. What is at rest is not among them: how many
// sagas have ended would take a scan to say, and the counters above say how many end.
metrics! { Gauges:
    looked_at: Gauge = number(
        "makegood_watch_timestamp_seconds",
        "When what is stored was last looked at, in seconds since 1970."
    );
    look_seconds: Gauge = number(
        "makegood_watch_duration_seconds", "How long that look took."
    );
    active: IntGaugeVec = gauges(
        "makegood_sagas_active", "Sagas that have not ended, by status.", &["status"]
    );
    oldest: Gauge = number(
        "makegood_oldest_unfinished_saga_age_seconds",
        "How long ago the oldest saga started that has not ended; 0 where there is none."
    );
    needs_person: IntGauge = gauge(
        "makegood_sagas_attention", "Sagas that wait for an operator."
    );
    at_risk: IntGauge = gauge(
        "makegood_sagas_at_risk", "Sagas that wait for an operator or have a step in doubt."
    );
    unread: IntGauge = gauge(
        "makegood_sagas_at_risk_unread",
        "Those at risk that the gauges by step, by code and by currency do not count: they are lower bounds where this is above 0."
    );
    attention_by: IntGaugeVec = gauges(
        "makegood_attention",
        "Reasons for an operator to look, now; step - is the saga as a whole.",
        &["definition", "step", "code"]
    );
    in_doubt: IntGaugeVec = gauges(
        "makegood_steps_in_doubt",
        "Steps of which it is unknown whether they, or their compensation, took place.",
        &["definition", "step"]
    );
    value_at_risk: GaugeVec = numbers(
        "makegood_value_at_risk_minor",
        "Money in the sagas at risk, in minor units of its currency.",
        &["currency"]
    );
    overdue: Gauge = number(
        "makegood_timers_overdue_seconds",
        "How long ago the earliest clock was due that nobody has dealt with; 0 where none is."
    );
    outbox_pending: IntGauge = gauge(
        "makegood_outbox_pending", "Messages not yet confirmed; 100000 may be more."
    );
    outbox_age: Gauge = number(
        "makegood_outbox_oldest_age_seconds",
        "How long ago the oldest message not yet confirmed was decided; of many, a lower bound."
    );
    dead_letters_stored: IntGaugeVec = gauges(
        "makegood_dead_letters_stored", "Dead letters kept in the database.", &["reason"]
    );
}

const ONCE: &str = "metric names are valid and declared once";

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    let metric = IntCounter::new(name, help).expect(ONCE);
    registry.register(Box::new(metric.clone())).expect(ONCE);
    metric
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let metric = IntCounterVec::new(Opts::new(name, help), labels).expect(ONCE);
    registry.register(Box::new(metric.clone())).expect(ONCE);
    metric
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    let metric = IntGauge::new(name, help).expect(ONCE);
    registry.register(Box::new(metric.clone())).expect(ONCE);
    metric
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    let metric = IntGaugeVec::new(Opts::new(name, help), labels).expect(ONCE);
    registry.register(Box::new(metric.clone())).expect(ONCE);
    metric
}

/// A gauge that may be a fraction.
fn number(registry: &Registry, name: &str, help: &str) -> Gauge {
    let metric = Gauge::new(name, help).expect(ONCE);
    registry.register(Box::new(metric.clone())).expect(ONCE);
    metric
}

fn numbers(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    let metric = GaugeVec::new(Opts::new(name, help), labels).expect(ONCE);
    registry.register(Box::new(metric.clone())).expect(ONCE);
    metric
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    let metric = Histogram::with_opts(options).expect(ONCE);
    registry.register(Box::new(metric.clone())).expect(ONCE);
    metric
}

fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: &[f64],
) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    let metric = HistogramVec::new(options, labels).expect(ONCE);
    registry.register(Box::new(metric.clone())).expect(ONCE);
    metric
}
