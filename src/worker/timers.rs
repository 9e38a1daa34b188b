//! Durable timers: sagas whose clock is due go to their lanes.
//!
//! A saga has one due time, the earliest clock of any step; exact times live in its state. The
//! indexed column is coarse, and lazy: a clock that moves *later* leaves it alone, so that a
//! saga that runs through its steps rewrites no index. The timer then comes too early once,
//! finds nothing due, and moves the time on.
//!
//! No clock is claimed while answers cannot come in or commands cannot go out: then the
//! silence that a clock stands for is our own.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::inputs::{Item, What};
use super::lanes::Lanes;
use super::{Options, Shutdown, is_line};
use crate::clock::{Backoff, Busy, Clock};
use crate::saga::{Input, Millis, Time};
use crate::store::{Store, StoreError};
use crate::telemetry::Telemetry;

/// Due times are rounded up to this. A timer is at most this much late by design.
const BUCKET: Millis = Millis::SECOND;
/// How many due sagas are claimed at once.
const CLAIM_LIMIT: usize = 500;
/// How long a claim keeps other workers off, should this one die before it has dealt with it.
const CLAIM_LEASE: Millis = Millis(30_000);

/// Before this no clock is due: all news are let go.
const NEVER: Time = Time(i64::MIN);

/// The coarse time at which a saga with this next clock is looked at.
#[must_use]
pub fn bucket(next: Option<Time>) -> Option<Time> {
    let width = i64::try_from(BUCKET.0).unwrap_or(1);
    next.map(|Time(at)| Time(at.saturating_add(width - 1).div_euclid(width) * width))
}

/// The due time to store after a transition that no clock caused.
pub(super) fn lazy_due(stored: Option<Time>, next: Option<Time>) -> Option<Time> {
    match (stored, bucket(next)) {
        (_, None) => None,
        (Some(stored), Some(next)) => Some(stored.min(next)),
        (None, Some(next)) => Some(next),
    }
}

/// Tells the timers of due times that lanes have just stored.
#[derive(Debug, Clone, Default)]
pub(super) struct TimerHandle(Arc<News>);

#[derive(Debug, Default)]
struct News {
    /// The earliest that the timers have not heard of. Later ones they find in the store.
    earliest: Mutex<Option<(Time, Busy)>>,
    changed: Notify,
}

impl TimerHandle {
    /// Never blocks.
    pub fn due(&self, at: Time, busy: Busy) {
        let mut earliest = self.0.earliest.lock().unwrap_or_else(PoisonError::into_inner);
        if earliest.as_ref().is_none_or(|(known, _)| at < *known) {
            *earliest = Some((at, busy));
            self.0.changed.notify_one();
        }
    }

    /// Waits for news of a due time before `bound`; later ones are let go.
    async fn before(&self, bound: Time) -> Busy {
        loop {
            let news = self.0.earliest.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some((at, busy)) = news
                && at < bound
            {
                return busy;
            }
            self.0.changed.notified().await;
        }
    }
}

pub(super) struct Timers {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    telemetry: Arc<Telemetry>,
    lanes: Lanes,
    news: TimerHandle,
    /// The longest time between two looks, for due times that another worker wrote.
    poll: Millis,
    backoff: Backoff,
}

impl Timers {
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        telemetry: Arc<Telemetry>,
        lanes: Lanes,
        news: TimerHandle,
        poll: Millis,
    ) -> Timers {
        let backoff = Backoff::default();
        Timers { store, clock, telemetry, lanes, news, poll, backoff }
    }

    /// Runs until shutdown. `held` keeps simulated time still until the first look is over.
    pub async fn run(mut self, options: Arc<Options>, shutdown: Shutdown, held: Busy) {
        if !options.timers {
            // Take the news all the same, so that nobody's `Busy` waits here for ever.
            drop(held);
            return tokio::select! {
                () = shutdown.stopped() => {}
                _busy = self.news.before(NEVER) => {}
            };
        }
        let mut held = held;
        let stop = shutdown.clone();
        let stopped = stop.stopped();
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                () = &mut stopped => return,
                busy = self.look(held) => held = busy,
            }
        }
    }

    /// Sends all that is due to the lanes, then waits for the next due time or news of one.
    async fn look(&mut self, held: Busy) -> Busy {
        if self.telemetry.health.has_trouble(is_line) {
            self.backoff.wait().await;
            return held;
        }
        let Some(next) = self.fire().await else {
            self.backoff.wait().await;
            return held;
        };
        self.backoff.reset();
        match next {
            Some(next) => {
                tokio::select! {
                    busy = self.clock.sleep_until(next, held) => busy,
                    busy = self.news.before(next) => busy,
                    busy = self.clock.pause(self.poll) => busy,
                }
            }
            None => {
                drop(held);
                tokio::select! {
                    busy = self.news.before(Time(i64::MAX)) => busy,
                    busy = self.clock.pause(self.poll) => busy,
                }
            }
        }
    }

    /// Sends all that is due to the lanes. The next due time after that; `None` on failure.
    async fn fire(&mut self) -> Option<Option<Time>> {
        match self.send_due().await {
            Ok(next) => {
                self.telemetry.part("timers", None);
                Some(next)
            }
            Err(error) => {
                self.telemetry.part("timers", Some(&error));
                None
            }
        }
    }

    async fn send_due(&mut self) -> Result<Option<Time>, StoreError> {
        loop {
            // Looking costs one step down an index; claiming writes.
            let now = self.clock.now();
            let next = self.store.next_due().await?;
            if next.is_none_or(|next| next > now) {
                return Ok(next);
            }
            let claimed = self.store.claim_due(now, now + CLAIM_LEASE, CLAIM_LIMIT).await?;
            if claimed.is_empty() {
                // Somebody holds what is due, perhaps for long: no reason to ask without pause.
                return Ok(Some(now + BUCKET));
            }
            self.telemetry.timers_fired(claimed.len());
            for saga in claimed {
                let what = What::Input(Input::Clock);
                let _busy = self.clock.busy();
                self.lanes.send(vec![Item { saga, what, delivery: None, _busy }]).await;
            }
        }
    }
}
