//! Durable timers: sagas whose clock is due go to their lanes.
//!
//! A saga has one due time, the earliest clock of any step; exact times live in its state. The
//! indexed column is coarse, and lazy: a clock that moves *later* leaves it alone, so that a
//! saga that runs through its steps rewrites no index. The timer then comes too early once,
//! finds nothing due, and moves the time on.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::inputs::{Item, What};
use super::lanes::Lanes;
use super::{Options, Shutdown};
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

/// The coarse time at which a saga with this next clock is looked at.
pub(super) fn bucket(next: Option<Time>) -> Option<Time> {
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

/// Tells the timers of a due time that a lane has just stored.
#[derive(Debug, Clone)]
pub(super) struct TimerHandle(mpsc::UnboundedSender<(Time, Busy)>);

impl TimerHandle {
    /// Never blocks. Unbounded is safe: at most one message per stored transition, and the
    /// timers take all of them at each look.
    pub fn due(&self, at: Time, busy: Busy) {
        let _ = self.0.send((at, busy));
    }
}

pub(super) struct Timers {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    telemetry: Arc<Telemetry>,
    lanes: Lanes,
    news: mpsc::UnboundedReceiver<(Time, Busy)>,
    /// The longest time between two looks, for due times that another worker wrote.
    poll: Millis,
    backoff: Backoff,
}

impl Timers {
    pub fn channel() -> (TimerHandle, mpsc::UnboundedReceiver<(Time, Busy)>) {
        let (sender, news) = mpsc::unbounded_channel();
        (TimerHandle(sender), news)
    }

    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        telemetry: Arc<Telemetry>,
        lanes: Lanes,
        news: mpsc::UnboundedReceiver<(Time, Busy)>,
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
            let ignore = async { while self.news.recv().await.is_some() {} };
            return tokio::select! {
                () = shutdown.stopped() => {}
                () = ignore => {}
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
        let Some(next) = self.fire().await else {
            self.backoff.wait().await;
            return held;
        };
        self.backoff.reset();
        match next {
            Some(next) => {
                tokio::select! {
                    busy = self.clock.sleep_until(next, held) => busy,
                    Some((_, busy)) = earlier(&mut self.news, next) => busy,
                    busy = self.clock.pause(self.poll) => busy,
                }
            }
            None => {
                drop(held);
                tokio::select! {
                    Some((_, busy)) = self.news.recv() => busy,
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

/// The next news of a due time before `bound`; later ones are let go.
async fn earlier(
    news: &mut mpsc::UnboundedReceiver<(Time, Busy)>,
    bound: Time,
) -> Option<(Time, Busy)> {
    loop {
        let (at, busy) = news.recv().await?;
        if at < bound {
            return Some((at, busy));
        }
    }
}
