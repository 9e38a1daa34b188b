//! The one door through which time comes in.
//!
//! In production time is the database's (workers on different machines then agree), which
//! [`SystemClock`] reads now and then and counts on from. In `makegood dev` it is a
//! [`SimulatedClock`], which stands still while anybody works and jumps to the next event as
//! soon as everybody waits, so that 45 days of delivery pass in seconds through the very same
//! worker. Nothing else in the crate may ask the machine what time it is (clippy.toml).

mod backoff;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::saga::{Millis, Time};

pub use backoff::Backoff;

#[async_trait]
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Time;

    /// Waits until `at` for something that is worth waiting for: a simulated clock jumps there.
    /// `held` is what the caller was busy with; it is let go only after the wait is known, so
    /// that there is no idle moment between. The returned [`Busy`] keeps time from going on
    /// until what was due is done.
    async fn sleep_until(&self, at: Time, held: Busy) -> Busy;

    /// Waits for `span` between two looks at something that may have changed. A simulated
    /// clock never jumps for this; it wakes the caller when time has passed for another reason.
    /// Like [`Clock::sleep_until`] it hands out a [`Busy`] for what follows.
    async fn pause(&self, span: Millis) -> Busy;

    /// Marks work that must be finished before simulated time may go on.
    fn busy(&self) -> Busy;
}

/// Waits for `span` of this machine's time, also in a simulation: for what is broken outside
/// (a database that is away), which no simulated time can heal.
#[allow(clippy::disallowed_methods)] // this is the door
pub async fn wait(span: Duration) {
    tokio::time::sleep(span).await;
}

/// A time as it is written everywhere outside: RFC 3339 in UTC, to the millisecond.
#[must_use]
pub fn rfc3339(at: Time) -> String {
    let nanoseconds = i128::from(at.0) * 1_000_000;
    time::OffsetDateTime::from_unix_timestamp_nanos(nanoseconds)
        .ok()
        .and_then(|time| time.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_else(|| format!("{} ms", at.0))
}

/// Reads an RFC 3339 time.
#[must_use]
pub fn from_rfc3339(text: &str) -> Option<Time> {
    let format = &time::format_description::well_known::Rfc3339;
    let time = time::OffsetDateTime::parse(text, format).ok()?;
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok().map(Time)
}

/// Held while something is under way. Dropping it says that it is done.
#[must_use]
#[derive(Debug, Default)]
pub struct Busy(Option<Arc<Simulation>>);

impl Clone for Busy {
    fn clone(&self) -> Busy {
        self.0.as_ref().map_or(Busy(None), Simulation::busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(simulation) = self.0.take() {
            simulation.state().busy -= 1;
            simulation.changed.notify_one();
        }
    }
}

/// An answer about the time that took longer than this says too little about now.
const FRESH: Millis = Millis::SECOND;

/// The database's time as it was last read, and what has passed since then. What has passed is
/// counted, not read off this machine's clock: nobody who sets that clock moves a timer. Until
/// the first correction it goes on from this machine's time.
#[derive(Debug)]
pub struct SystemClock {
    began: Instant,
    time_then_ms: AtomicI64,
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock { began: Instant::now(), time_then_ms: AtomicI64::new(machine_time().0) }
    }
}

impl SystemClock {
    /// Takes over the database's time, just read; `asked` is what this clock said before the
    /// question. Returns by how many milliseconds it went ahead; an answer that took too long
    /// changes nothing.
    pub fn correct(&self, database: Time, asked: Time) -> Option<i64> {
        let now = self.now();
        if now - asked > FRESH {
            return None;
        }
        let ahead_ms = database.0 - now.0;
        self.time_then_ms.fetch_add(ahead_ms, Ordering::Relaxed);
        Some(ahead_ms)
    }
}

#[async_trait]
#[allow(clippy::disallowed_methods)] // this is the door
impl Clock for SystemClock {
    fn now(&self) -> Time {
        let passed = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        Time(self.time_then_ms.load(Ordering::Relaxed).saturating_add(passed))
    }

    async fn sleep_until(&self, at: Time, _held: Busy) -> Busy {
        wait(Duration::from_millis((at - self.now()).0)).await;
        Busy(None)
    }

    async fn pause(&self, span: Millis) -> Busy {
        wait(Duration::from_millis(span.0)).await;
        Busy(None)
    }

    fn busy(&self) -> Busy {
        Busy(None)
    }
}

#[allow(clippy::disallowed_methods)] // this is the door
fn machine_time() -> Time {
    let since_epoch =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Time(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// A clock for `makegood dev`: time passes only when nothing is going on.
#[derive(Debug, Clone)]
pub struct SimulatedClock(Arc<Simulation>);

#[derive(Debug)]
struct Simulation {
    state: Mutex<SimulationState>,
    changed: Notify,
}

#[derive(Debug)]
struct SimulationState {
    now: Time,
    /// Work under way.
    busy: usize,
    /// Who waits for which time; the number keeps equal times in order of arrival.
    sleepers: BTreeMap<(Time, u64), Sleeper>,
    arrivals: u64,
}

#[derive(Debug)]
struct Sleeper {
    wake: oneshot::Sender<Busy>,
    /// Whether time may jump because of this one.
    moves_time: bool,
}

impl SimulatedClock {
    #[must_use]
    pub fn starting_at(now: Time) -> SimulatedClock {
        let state = SimulationState { now, busy: 0, sleepers: BTreeMap::new(), arrivals: 0 };
        SimulatedClock(Arc::new(Simulation { state: Mutex::new(state), changed: Notify::new() }))
    }

    /// Runs the simulation: returns when nothing is under way and nobody waits for a time that
    /// is worth jumping to. `progress` is told each new time.
    pub async fn run(&self, progress: impl FnMut(Time)) {
        self.run_until(Time(i64::MAX), progress).await;
    }

    /// The same up to `end`: where time would go beyond it, nothing is under way, and the time
    /// to which it would go is returned.
    pub async fn run_until(&self, end: Time, mut progress: impl FnMut(Time)) -> Option<Time> {
        loop {
            match self.step(end) {
                Step::Busy => self.0.changed.notified().await,
                Step::Jumped(now) => progress(now),
                Step::Beyond(next) => return Some(next),
                Step::Finished => return None,
            }
        }
    }

    fn step(&self, end: Time) -> Step {
        let mut state = self.0.state();
        if state.busy > 0 {
            return Step::Busy;
        }
        // A sleeper that was given up (its future dropped) must not move time.
        state.sleepers.retain(|_, sleeper| !sleeper.wake.is_closed());
        let next = state.sleepers.iter().find(|(_, sleeper)| sleeper.moves_time);
        let Some((&(at, _), _)) = next else { return Step::Finished };
        if at > end {
            return Step::Beyond(at);
        }
        state.now = state.now.max(at);
        let bound = (state.now + Millis(1), 0);
        let later = state.sleepers.split_off(&bound);
        let due = std::mem::replace(&mut state.sleepers, later);
        for sleeper in due.into_values() {
            state.busy += 1;
            // The guard is made before the lock is free: nobody sees an idle moment between.
            let guard = Busy(Some(self.0.clone()));
            if let Err(unwanted) = sleeper.wake.send(guard) {
                state.busy -= 1;
                std::mem::forget(unwanted); // its drop would lock again; it is counted here
            }
        }
        Step::Jumped(state.now)
    }

    fn enqueue(&self, at: Time, moves_time: bool) -> oneshot::Receiver<Busy> {
        let (wake, woken) = oneshot::channel();
        let mut state = self.0.state();
        state.arrivals += 1;
        let key = (at, state.arrivals);
        state.sleepers.insert(key, Sleeper { wake, moves_time });
        drop(state);
        self.0.changed.notify_one();
        woken
    }
}

enum Step {
    Busy,
    Jumped(Time),
    Beyond(Time),
    Finished,
}

impl Simulation {
    fn state(&self) -> MutexGuard<'_, SimulationState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn busy(self: &Arc<Simulation>) -> Busy {
        self.state().busy += 1;
        Busy(Some(self.clone()))
    }
}

#[async_trait]
impl Clock for SimulatedClock {
    fn now(&self) -> Time {
        self.0.state().now
    }

    async fn sleep_until(&self, at: Time, held: Busy) -> Busy {
        let woken = self.enqueue(at, true);
        drop(held);
        woken.await.unwrap_or_default()
    }

    async fn pause(&self, span: Millis) -> Busy {
        let at = self.now() + span;
        self.enqueue(at, false).await.unwrap_or_default()
    }

    fn busy(&self) -> Busy {
        Simulation::busy(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_as_rfc3339() {
        let at = from_rfc3339("2018-07-29T14:24:20Z").expect("RFC 3339");
        assert_eq!(rfc3339(at), "2018-07-29T14:24:20Z");
        assert_eq!(from_rfc3339("2018-07-29T11:24:20-03:00"), Some(at));
        assert_eq!(from_rfc3339("yesterday"), None);
    }

    #[test]
    fn the_databases_time_is_counted_on_from_whatever_this_machine_says() {
        let clock = SystemClock::default();
        let database = Time(clock.now().0 - 3_600_000);
        let ahead_ms = clock.correct(database, clock.now()).expect("a fresh answer");
        assert!((-3_600_100..=-3_599_900).contains(&ahead_ms), "{ahead_ms}");
        assert!(clock.now() >= database && clock.now() - database < Millis(1_000));
        let asked = Time(clock.now().0 - 1_001);
        assert_eq!(clock.correct(Time(0), asked), None, "an answer from long ago");
        assert!(clock.now() >= database);
    }

    #[tokio::test]
    async fn simulated_time_jumps_only_when_nobody_is_busy() {
        let clock = SimulatedClock::starting_at(Time(0));
        let held = clock.busy();
        let sleeper = clock.clone();
        let woken = tokio::spawn(async move {
            let busy = sleeper.sleep_until(Time(50), held).await;
            let first = sleeper.now();
            let _busy = sleeper.sleep_until(Time(70), busy).await;
            (first, sleeper.now())
        });
        // Looks between two jumps must not make a jump of their own.
        let looker = clock.clone();
        let look = tokio::spawn(async move { looker.pause(Millis(1_000)).await });
        clock.run(|_| ()).await;
        assert_eq!(woken.await.expect("ran"), (Time(50), Time(70)));
        assert!(!look.is_finished(), "a pause alone moves no time");
        look.abort();
    }
}
