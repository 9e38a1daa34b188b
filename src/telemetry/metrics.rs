//! Every metric, declared once, and the named events that move them.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::Health;
use crate::saga::{Announcement, Effect, SagaId, Status, Time, Verdict};

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

/// The worker's voice: counts, logs and health.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    pub health: Health,
    started: IntCounterVec,
    finished: IntCounterVec,
    duration: HistogramVec,
    transitions: IntCounterVec,
    ignored: IntCounterVec,
    late_successes: IntCounter,
    attention: IntCounterVec,
    commits: IntCounterVec,
    commit_seconds: Histogram,
    batch: Histogram,
    lost_races: IntCounter,
    published: IntCounterVec,
    publish_failures: IntCounterVec,
    events_unheard: IntCounter,
    dead_letters: IntCounterVec,
    received: IntCounterVec,
    timers: IntCounter,
    stored_sagas: IntGaugeVec,
    stored_attention: IntGauge,
    outbox_pending: IntGauge,
    dead_letters_stored: IntGauge,
    connected: IntGaugeVec,
    /// For progress bars: the sum over the labels of `finished`.
    finished_here: AtomicU64,
    transitions_here: AtomicU64,
}

impl Default for Telemetry {
    fn default() -> Telemetry {
        Telemetry::new()
    }
}

impl Telemetry {
    /// # Panics
    /// Only if two metrics here had the same name, which the first test would show.
    #[must_use]
    pub fn new() -> Telemetry {
        let registry = Registry::new();
        let build = gauges(&registry, "makegood_build_info", "The running version.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Telemetry {
            health: Health::default(),
            started: vec(
                &registry,
                "makegood_sagas_started_total",
                "Sagas started.",
                &["definition"],
            ),
            finished: vec(
                &registry,
                "makegood_sagas_finished_total",
                "Sagas that reached a final state.",
                &["definition", "outcome"],
            ),
            duration: histograms(
                &registry,
                "makegood_saga_duration_seconds",
                "From start to final state.",
                &["definition", "outcome"],
                &SAGA_SECONDS,
            ),
            transitions: vec(
                &registry,
                "makegood_transitions_total",
                "Transitions stored, by what caused them.",
                &["input"],
            ),
            ignored: vec(
                &registry,
                "makegood_inputs_ignored_total",
                "Inputs that changed nothing: duplicates, stale and irrelevant ones.",
                &["reason"],
            ),
            late_successes: counter(
                &registry,
                "makegood_late_successes_total",
                "Steps that succeeded after their compensation was sent.",
            ),
            attention: vec(
                &registry,
                "makegood_attention_changes_total",
                "Reasons for an operator to look, raised and cleared.",
                &["code", "change"],
            ),
            commits: vec(
                &registry,
                "makegood_commits_total",
                "Batches committed: of sagas, or of confirmed outbox rows.",
                &["what"],
            ),
            commit_seconds: histogram(
                &registry,
                "makegood_commit_duration_seconds",
                "How long a commit took.",
                &COMMIT_SECONDS,
            ),
            batch: histogram(
                &registry,
                "makegood_lane_batch_size",
                "Inputs a lane took at once.",
                &BATCH_SIZES,
            ),
            lost_races: counter(
                &registry,
                "makegood_lost_races_total",
                "Sagas decided again because another worker was first.",
            ),
            published: vec(
                &registry,
                "makegood_messages_published_total",
                "Messages that the broker confirmed.",
                &["channel"],
            ),
            publish_failures: vec(
                &registry,
                "makegood_publish_failures_total",
                "Messages without a good confirm; they are sent again.",
                &["reason"],
            ),
            events_unheard: counter(
                &registry,
                "makegood_events_unheard_total",
                "Events published to which nobody subscribes.",
            ),
            dead_letters: vec(
                &registry,
                "makegood_dead_letters_total",
                "Messages that could not be processed.",
                &["reason"],
            ),
            received: vec(
                &registry,
                "makegood_messages_received_total",
                "Messages taken from the broker.",
                &["channel"],
            ),
            timers: counter(&registry, "makegood_timers_fired_total", "Sagas whose clock was due."),
            stored_sagas: gauges(
                &registry,
                "makegood_sagas",
                "Sagas stored, by status.",
                &["status"],
            ),
            stored_attention: gauge(
                &registry,
                "makegood_sagas_attention",
                "Sagas that wait for an operator.",
            ),
            outbox_pending: gauge(
                &registry,
                "makegood_outbox_pending",
                "Messages not yet confirmed.",
            ),
            dead_letters_stored: gauge(
                &registry,
                "makegood_dead_letters_stored",
                "Dead letters kept in the database.",
            ),
            connected: gauges(
                &registry,
                "makegood_connected",
                "1 while that part of the worker can do its work.",
                &["part"],
            ),
            registry,
            finished_here: AtomicU64::new(0),
            transitions_here: AtomicU64::new(0),
        }
    }

    /// The metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        let encoded = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        debug_assert!(encoded.is_ok(), "only a broken metric name could fail to encode");
        String::from_utf8(text).unwrap_or_default()
    }

    /// A part (database, a channel, the relay) works, or does not and why. Logged when it changes.
    pub fn part(&self, part: &'static str, trouble: Option<&dyn std::error::Error>) {
        let trouble = trouble.map(chain);
        self.connected.with_label_values(&[part]).set(i64::from(trouble.is_none()));
        if self.health.set(part, trouble.clone()) {
            match trouble {
                None => tracing::info!(part, "working"),
                Some(error) => tracing::warn!(part, error, "not working; trying again"),
            }
        }
    }

    /// A stored definition cannot be read: its sagas cannot go on here.
    #[allow(clippy::unused_self)] // an event like the others, only logged
    pub fn unusable_definition(&self, name: &str, version: u32) {
        tracing::error!(name, version, "a published definition cannot be read by this version");
    }

    /// A clock of this saga is due and cannot be dealt with; it is tried again.
    #[allow(clippy::unused_self)] // an event like the others, only logged
    pub fn clock_refused(&self, saga: SagaId, reason: &str, error: &str) {
        tracing::error!(%saga, reason, error, "a saga's clock cannot be dealt with");
    }

    /// The clock was corrected by so much that somebody should know.
    #[allow(clippy::unused_self)] // an event like the others, only logged
    pub fn clock_stepped(&self, ahead_ms: i64) {
        tracing::warn!(ahead_ms, "the database's time and this worker's had come apart");
    }

    /// A batch was not stored whole; what is in it is tried again in smaller ones.
    #[allow(clippy::unused_self)] // an event like the others, only logged
    pub fn batch_split(&self, sagas: usize, error: &dyn std::error::Error) {
        tracing::warn!(sagas, error = chain(error), "a batch was not stored; trying it in parts");
    }

    /// Messages for a saga that this version cannot decide are kept out for a while.
    #[allow(clippy::unused_self)] // an event like the others, only logged
    pub fn set_aside(&self, what: &str, reason: &str, error: &str) {
        tracing::warn!(what, reason, error, "set aside: a newer version may know what to do");
    }

    pub fn received(&self, channel: &str, messages: usize) {
        self.received.with_label_values(&[channel]).inc_by(messages as u64);
    }

    pub fn batch(&self, inputs: usize) {
        self.batch.observe(inputs as f64);
    }

    pub fn committed(&self, seconds: f64) {
        self.commits.with_label_values(&["sagas"]).inc();
        self.commit_seconds.observe(seconds);
    }

    /// Confirmed messages were deleted from the outbox.
    pub fn outbox_deleted(&self) {
        self.commits.with_label_values(&["outbox"]).inc();
    }

    pub fn lost_race(&self) {
        self.lost_races.inc();
    }

    pub fn timers_fired(&self, sagas: usize) {
        self.timers.inc_by(sagas as u64);
    }

    pub fn published(&self, channel: &str) {
        self.published.with_label_values(&[channel]).inc();
    }

    pub fn publish_failed(&self, reason: &str, error: &str) {
        self.publish_failures.with_label_values(&[reason]).inc();
        tracing::warn!(reason, error, "a message was not confirmed; it will be sent again");
    }

    /// An event to which nobody subscribes was published: a subscriber's binding may be gone.
    pub fn event_unheard(&self) {
        self.events_unheard.inc();
    }

    pub fn ignored(&self, reason: &str) {
        self.ignored.with_label_values(&[reason]).inc();
    }

    pub fn dead_letter(&self, reason: &str, source: &str, error: &str) {
        self.dead_letters.with_label_values(&[reason]).inc();
        tracing::warn!(reason, source, error, "a message became a dead letter");
    }

    /// One stored transition: what it means for the saga, counted and, where it matters, logged.
    pub fn transition(&self, seen: &Seen<'_>) {
        self.transitions.with_label_values(&[seen.input]).inc();
        self.transitions_here.fetch_add(1, Ordering::Relaxed);
        if seen.input == "start" {
            self.started.with_label_values(&[seen.definition]).inc();
        }
        for effect in seen.effects {
            self.effect(seen, effect);
        }
        let (trace, saga) = (seen.trace, seen.saga);
        tracing::debug!(
            trace, %saga, order = seen.order, input = seen.input,
            status = seen.status.as_str(), "transition"
        );
    }

    fn effect(&self, seen: &Seen<'_>, effect: &Effect) {
        let Seen { trace, order, .. } = *seen;
        let saga = seen.saga;
        match effect {
            Effect::Announce(Announcement::Completed | Announcement::Cancelled) => {
                let labels = &[seen.definition, seen.status.as_str()];
                self.finished.with_label_values(labels).inc();
                self.finished_here.fetch_add(1, Ordering::Relaxed);
                let span = seen.at - seen.started_at;
                self.duration.with_label_values(labels).observe(span.0 as f64 / 1_000.0);
            }
            Effect::Announce(Announcement::AttentionRaised { code, step }) => {
                self.attention.with_label_values(&[code.as_str(), "raised"]).inc();
                tracing::warn!(trace, %saga, order, code = code.as_str(), step, "attention raised");
            }
            Effect::Announce(Announcement::AttentionCleared { code, step }) => {
                self.attention.with_label_values(&[code.as_str(), "cleared"]).inc();
                tracing::info!(trace, %saga, order, code = code.as_str(), step, "attention cleared");
            }
            Effect::LateSuccess { step } => {
                self.late_successes.inc();
                tracing::warn!(trace, %saga, order, step, "a compensated step succeeded late");
            }
            Effect::Announce(Announcement::CancelRefused { .. })
            | Effect::Send { .. }
            | Effect::Probe { .. } => {}
        }
    }

    /// A verdict other than "applied".
    pub fn verdict(&self, verdict: Verdict) {
        if let Verdict::Ignored(why) = verdict {
            self.ignored(why.as_str());
        }
    }

    /// What is stored, as one worker counts it now and then: sagas by status, sagas with
    /// attention, outbox rows, dead letters.
    pub fn stored(&self, sagas: &[(Status, u64)], attention: u64, outbox: u64, dead: u64) {
        let set =
            |gauge: &IntGauge, count: u64| gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        for status in Status::ALL.into_iter().filter(|status| *status != Status::Created) {
            let count = sagas.iter().filter(|(s, _)| *s == status).map(|(_, count)| count).sum();
            set(&self.stored_sagas.with_label_values(&[status.as_str()]), count);
        }
        set(&self.stored_attention, attention);
        set(&self.outbox_pending, outbox);
        set(&self.dead_letters_stored, dead);
    }

    /// Sagas that this worker has brought to a final state.
    #[must_use]
    pub fn finished(&self) -> u64 {
        self.finished_here.load(Ordering::Relaxed)
    }

    /// How well the lanes batch, for the benchmark's report.
    #[must_use]
    pub fn batching(&self) -> Batching {
        let commits = |what| self.commits.with_label_values(&[what]).get();
        Batching {
            commits: commits("sagas") + commits("outbox"),
            batches: self.batch.get_sample_count(),
            inputs: self.batch.get_sample_sum() as u64,
            transitions: self.transitions_here.load(Ordering::Relaxed),
        }
    }
}

/// Sums since the worker began.
#[derive(Debug, Clone, Copy)]
pub struct Batching {
    pub commits: u64,
    pub batches: u64,
    pub inputs: u64,
    pub transitions: u64,
}

/// A stored transition, as telemetry looks at it.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub definition: &'a str,
    pub order: &'a str,
    pub trace: &'a str,
    pub saga: SagaId,
    /// After the transition.
    pub status: Status,
    pub started_at: Time,
    pub input: &'static str,
    pub effects: &'a [Effect],
    pub at: Time,
}

/// An error with all its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

const ONCE: &str = "metric names are valid and declared once";

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    let metric = IntCounter::new(name, help).expect(ONCE);
    registry.register(Box::new(metric.clone())).expect(ONCE);
    metric
}

fn vec(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
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
