//! Every metric, declared once: its name, what it says, its labels. Labels are low-cardinality:
//! no order, saga or message ids.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
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
const COMMIT_SECONDS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0];

/// Makes of a table of metrics a struct that has them, registered.
macro_rules! metrics {
    ($($field:ident: $kind:ident = $make:ident($name:literal, $help:literal $(, $more:expr)*);)*) => {
        #[derive(Debug)]
        pub(super) struct Metrics {
            pub registry: Registry,
            $(pub $field: $kind,)*
        }

        impl Metrics {
            /// # Panics
            /// Only if two metrics here had the same name, which the first test would show.
            pub fn new() -> Metrics {
                let registry = Registry::new();
                Metrics { $($field: $make(&registry, $name, $help $(, $more)*),)* registry }
            }
        }
    };
}

metrics! {
    build: IntGaugeVec = gauges("makegood_build_info", "The running version.", &["version"]);
    started: IntCounterVec = counters(
        "makegood_sagas_started_total", "Sagas started.", &["definition"]
    );
    finished: IntCounterVec = counters(
        "makegood_sagas_finished_total",
        "Sagas that reached a final state.",
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
    late_successes: IntCounter = counter(
        "makegood_late_successes_total", "Steps that succeeded after their compensation was sent."
    );
    breakers: IntGaugeVec = gauges(
        "makegood_breaker_open",
        "1 while a participant answers nobody: its give-up clocks stand still, and sagas are held before its steps.",
        &["participant"]
    );
    attention: IntCounterVec = counters(
        "makegood_attention_changes_total",
        "Reasons for an operator to look, raised and cleared.",
        &["code", "change"]
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
    stored_sagas: IntGaugeVec = gauges(
        "makegood_sagas", "Sagas stored, by status.", &["status"]
    );
    stored_attention: IntGauge = gauge(
        "makegood_sagas_attention", "Sagas that wait for an operator."
    );
    outbox_pending: IntGauge = gauge(
        "makegood_outbox_pending", "Messages not yet confirmed."
    );
    dead_letters_stored: IntGauge = gauge(
        "makegood_dead_letters_stored", "Dead letters kept in the database."
    );
    connected: IntGaugeVec = gauges(
        "makegood_connected", "1 while that part of the worker can do its work.", &["part"]
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
