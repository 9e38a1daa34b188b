//! What happened, by name: counted and, where a person would want to read it, logged.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use prometheus::{Encoder, TextEncoder};

use super::Health;
use super::metrics::{Gauges, Metrics};
use crate::saga::{Millis, SagaId};

/// The worker's voice: counts, logs and health.
#[derive(Debug)]
pub struct Telemetry {
    pub(super) metrics: Metrics,
    /// What is stored, where this is the worker that watches.
    pub(super) watched: Mutex<Option<Gauges>>,
    pub health: Health,
    /// For progress bars: the sum over the labels of `finished`.
    pub(super) finished_here: AtomicU64,
    pub(super) transitions_here: AtomicU64,
}

impl Default for Telemetry {
    fn default() -> Telemetry {
        Telemetry::new()
    }
}

impl Telemetry {
    #[must_use]
    pub fn new() -> Telemetry {
        let metrics = Metrics::new();
        metrics.build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Telemetry {
            metrics,
            watched: Mutex::default(),
            health: Health::default(),
            finished_here: AtomicU64::new(0),
            transitions_here: AtomicU64::new(0),
        }
    }

    /// The metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        let mut families = self.metrics.registry.gather();
        if let Some(gauges) = &*self.watched.lock().unwrap_or_else(PoisonError::into_inner) {
            families.extend(gauges.registry.gather());
        }
        let encoded = TextEncoder::new().encode(&families, &mut text);
        debug_assert!(encoded.is_ok(), "only a broken metric name could fail to encode");
        String::from_utf8(text).unwrap_or_default()
    }

    /// A part (database, a channel, the relay) works, or does not and why. Logged when it changes;
    /// each further failed attempt only for those who look closely.
    pub fn part(&self, part: &'static str, trouble: Option<&dyn std::error::Error>) {
        let trouble = trouble.map(chain);
        self.metrics.connected.with_label_values(&[part]).set(i64::from(trouble.is_none()));
        let is_news = self.health.set(part, trouble.clone());
        match trouble {
            None if is_news => tracing::info!(part, "working"),
            None => {}
            Some(error) if is_news => tracing::warn!(part, error, "not working; trying again"),
            Some(error) => tracing::debug!(part, error, "still not working"),
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
        tracing::warn!(
            sagas,
            error = chain(error),
            "a batch did not get through; trying it in parts"
        );
    }

    /// Messages for a saga that this version cannot decide are kept out for a while.
    #[allow(clippy::unused_self)] // an event like the others, only logged
    pub fn set_aside(&self, what: &str, reason: &str, error: &str) {
        tracing::warn!(what, reason, error, "set aside: a newer version may know what to do");
    }

    /// A signed request was answered.
    pub fn http_answered(&self, door: &str, status: u16, seconds: f64) {
        self.metrics.http_answers.with_label_values(&[door, &status.to_string()]).inc();
        self.metrics.http_seconds.with_label_values(&[door]).observe(seconds);
    }

    /// The file of accounts has changed, and is in force.
    #[allow(clippy::unused_self)] // an event like the others, only logged
    pub fn accounts_read(&self, accounts: usize) {
        tracing::info!(accounts, "the accounts were read again");
    }

    /// The file of accounts has changed, and is bad: the one before it stays in force.
    #[allow(clippy::unused_self)] // an event like the others, only logged
    pub fn accounts_refused(&self, error: &str) {
        tracing::warn!(
            error,
            "the accounts cannot be read again; those known before stay in force"
        );
    }

    /// The certificate has changed, and cannot be used: the one before it stays in use.
    #[allow(clippy::unused_self)] // an event like the others, only logged
    pub fn certificate_refused(&self, error: &str) {
        tracing::warn!(error, "the certificate cannot be used; the one before it stays in use");
    }

    /// A shipment was booked, and the booking does not say which: no scan will find its order.
    pub fn shipment_unnamed(&self, definition: &str, order: &str, step: &str) {
        self.metrics.unnamed_shipments.with_label_values(&[definition]).inc();
        tracing::warn!(definition, order, step, "a booking without the names of its shipment");
    }

    pub fn received(&self, channel: &str, messages: usize) {
        self.metrics.received.with_label_values(&[channel]).inc_by(messages as u64);
    }

    pub fn batch(&self, inputs: usize) {
        self.metrics.batch.observe(inputs as f64);
    }

    pub fn committed(&self, seconds: f64) {
        self.metrics.commits.with_label_values(&["sagas"]).inc();
        self.metrics.commit_seconds.observe(seconds);
    }

    /// Confirmed messages were deleted from the outbox.
    pub fn outbox_deleted(&self) {
        self.metrics.commits.with_label_values(&["outbox"]).inc();
    }

    /// A participant answers nobody any more, or does again.
    pub fn breaker(&self, participant: &str, is_open: bool) {
        self.metrics.breakers.with_label_values(&[participant]).set(i64::from(is_open));
        match is_open {
            true => tracing::warn!(
                participant,
                "it answers nobody: its give-up clocks stand still, sagas are held before its steps"
            ),
            false => tracing::info!(participant, "it answers again: held sagas are released"),
        }
    }

    pub fn lost_race(&self) {
        self.metrics.lost_races.inc();
    }

    pub fn timers_fired(&self, sagas: usize) {
        self.metrics.timers.inc_by(sagas as u64);
    }

    /// A message was confirmed, so long after it was decided.
    pub fn published(&self, channel: &str, delay: Option<Millis>) {
        self.metrics.published.with_label_values(&[channel]).inc();
        if let Some(delay) = delay {
            self.metrics.publish_delay.with_label_values(&[channel]).observe(delay.as_seconds());
        }
    }

    pub fn publish_failed(&self, reason: &str, error: &str) {
        self.metrics.publish_failures.with_label_values(&[reason]).inc();
        tracing::warn!(reason, error, "a message was not confirmed; it will be sent again");
    }

    /// An event to which nobody subscribes was published: a subscriber's binding may be gone.
    pub fn event_unheard(&self) {
        self.metrics.events_unheard.inc();
    }

    pub fn ignored(&self, reason: &str) {
        self.metrics.ignored.with_label_values(&[reason]).inc();
    }

    pub fn dead_letter(&self, reason: &str, source: &str, error: &str) {
        self.metrics.dead_letters.with_label_values(&[reason]).inc();
        tracing::warn!(reason, source, error, "a message became a dead letter");
    }

    /// A dead letter was replayed, and this came of it.
    pub fn replayed(&self, outcome: &str) {
        self.metrics.replays.with_label_values(&[outcome]).inc();
    }

    /// A campaign that replays dead letters is done, or stopped because too much failed.
    #[allow(clippy::unused_self)] // an event like the others, only logged
    pub fn campaign_ended(&self, campaign: uuid::Uuid, state: &str, why: Option<&str>) {
        match why {
            Some(why) => tracing::warn!(%campaign, state, why, "a replay campaign stopped"),
            None => tracing::info!(%campaign, state, "a replay campaign ended"),
        }
    }

    /// Sagas that this worker has brought to a final state.
    #[must_use]
    pub fn finished(&self) -> u64 {
        self.finished_here.load(Ordering::Relaxed)
    }

    /// How well the lanes batch, for the benchmark's report.
    #[must_use]
    pub fn batching(&self) -> Batching {
        let commits = |what| self.metrics.commits.with_label_values(&[what]).get();
        Batching {
            commits: commits("sagas") + commits("outbox"),
            batches: self.metrics.batch.get_sample_count(),
            inputs: self.metrics.batch.get_sample_sum() as u64,
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

/// An error with all its causes on one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
