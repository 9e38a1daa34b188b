//! What happened, by name: counted and, where a person would want to read it, logged.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::{Encoder, IntGauge, TextEncoder};

use super::Health;
use super::metrics::Metrics;
use crate::saga::{Announcement, Effect, OrderState, SagaId, Status, Time};

/// The worker's voice: counts, logs and health.
#[derive(Debug)]
pub struct Telemetry {
    metrics: Metrics,
    pub health: Health,
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
    #[must_use]
    pub fn new() -> Telemetry {
        let metrics = Metrics::new();
        metrics.build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Telemetry {
            metrics,
            health: Health::default(),
            finished_here: AtomicU64::new(0),
            transitions_here: AtomicU64::new(0),
        }
    }

    /// The metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        let encoded = TextEncoder::new().encode(&self.metrics.registry.gather(), &mut text);
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

    pub fn published(&self, channel: &str) {
        self.metrics.published.with_label_values(&[channel]).inc();
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

    /// One stored transition: what it means for the saga, counted and, where it matters, logged.
    pub fn transition(&self, seen: &Seen<'_>) {
        self.metrics.transitions.with_label_values(&[seen.input]).inc();
        self.transitions_here.fetch_add(1, Ordering::Relaxed);
        if seen.input == "start" {
            self.metrics.started.with_label_values(&[seen.definition]).inc();
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
            Effect::Announce(
                Announcement::Reached(OrderState::Completed | OrderState::Cancelled)
                | Announcement::Abandoned,
            ) => {
                let labels = &[seen.definition, seen.status.as_str()];
                self.metrics.finished.with_label_values(labels).inc();
                self.finished_here.fetch_add(1, Ordering::Relaxed);
                let span = seen.at - seen.started_at;
                self.metrics.duration.with_label_values(labels).observe(span.0 as f64 / 1_000.0);
            }
            Effect::Announce(Announcement::AttentionRaised { code, step }) => {
                self.metrics.attention.with_label_values(&[code.as_str(), "raised"]).inc();
                tracing::warn!(trace, %saga, order, code = code.as_str(), step, "attention raised");
            }
            Effect::Announce(Announcement::AttentionCleared { code, step }) => {
                self.metrics.attention.with_label_values(&[code.as_str(), "cleared"]).inc();
                tracing::info!(trace, %saga, order, code = code.as_str(), step, "attention cleared");
            }
            Effect::LateSuccess { step } => {
                self.metrics.late_successes.inc();
                tracing::warn!(trace, %saga, order, step, "a compensated step succeeded late");
            }
            Effect::Announce(Announcement::Reached(_) | Announcement::CancelRefused { .. })
            | Effect::Notify { .. }
            | Effect::Send { .. }
            | Effect::Probe { .. } => {}
        }
    }

    /// What is stored, as one worker counts it now and then: sagas by status, sagas with
    /// attention, outbox rows, dead letters.
    pub fn stored(&self, sagas: &[(Status, u64)], attention: u64, outbox: u64, dead: u64) {
        let set =
            |gauge: &IntGauge, count: u64| gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        for status in Status::ALL.into_iter().filter(|status| *status != Status::Created) {
            let count = sagas.iter().filter(|(s, _)| *s == status).map(|(_, count)| count).sum();
            set(&self.metrics.stored_sagas.with_label_values(&[status.as_str()]), count);
        }
        set(&self.metrics.stored_attention, attention);
        set(&self.metrics.outbox_pending, outbox);
        set(&self.metrics.dead_letters_stored, dead);
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
