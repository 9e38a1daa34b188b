//! What is known of one participant: whether it answers, and how much it may be sent.
//!
//! The sign that it is away is its silence towards different sagas in a row: each resend is an
//! answer that did not come in the time which its definition expects, and any answer to anybody
//! ends the count. So one order at which a participant is stuck opens nothing, and a slow
//! participant is not taken for a dead one.

use std::collections::HashSet;

use crate::saga::{Millis, SagaId, Time};

/// Sagas in a row that were not answered in time.
const SILENT: usize = 5;
/// While it is away one new command goes out in so long, to see whether it is back: those that
/// are out already are sent again anyway, but may all be settled otherwise.
const TRIAL: Millis = Millis::MINUTE;
/// How long its give-up clocks stand still when it is back: it has a queue to work off, and the
/// first answer is not the last.
const GRACE: Millis = Millis(600_000);
/// When sagas are looked at again that wait for somebody who is away: after so long, and up to
/// as long once more.
const LOOK_AGAIN: Millis = Millis(30_000);
/// Of a limit, what those that waited may use while others come: four in five.
const SHARE_OF_WAITING: i64 = 800_000;
/// What may go out at once after a pause: what would have gone out in this time.
const BURST_MICROS: i64 = 1_000_000;

#[derive(Debug)]
pub(super) struct Breaker {
    silent_to: HashSet<SagaId>,
    away_since: Option<Time>,
    back_at: Option<Time>,
    next_trial: Time,
    /// For those that waited.
    release: Pace,
    /// For everybody.
    limit: Option<Pace>,
    /// The turns that were given away, in microseconds.
    given_until: i64,
}

impl Breaker {
    /// Rates in commands per second.
    pub fn new(release: u32, limit: Option<u32>) -> Breaker {
        Breaker {
            silent_to: HashSet::new(),
            away_since: None,
            back_at: None,
            next_trial: Time::default(),
            release: Pace::new(release),
            limit: limit.map(Pace::new),
            given_until: i64::MIN,
        }
    }

    pub fn away_since(&self) -> Option<Time> {
        self.away_since
    }

    pub fn has_been_silent(&self) -> bool {
        !self.silent_to.is_empty()
    }

    /// An answer to this saga did not come in time. Whether that is too much.
    pub fn was_silent(&mut self, saga: SagaId) -> bool {
        self.silent_to.insert(saga);
        self.away_since.is_none() && self.silent_to.len() >= SILENT
    }

    /// It answers nobody: as found out here, or by another worker.
    pub fn open(&mut self, at: Time) {
        self.away_since = Some(at);
        self.next_trial = at + TRIAL;
    }

    /// It has answered. Whether that was news.
    pub fn answered(&mut self, now: Time) -> bool {
        self.silent_to.clear();
        let is_news = self.away_since.take().is_some();
        self.back_at = if is_news { Some(now) } else { self.back_at };
        is_news
    }

    /// Whether its silence says nothing of a single command.
    pub fn stops_clocks(&self, now: Time) -> bool {
        self.away_since.is_some() || self.back_at.is_some_and(|back| now < back + GRACE)
    }

    /// Whether nothing new is to go to it now; `waited`: for a saga that was held before.
    pub fn bars(&self, now: Time, waited: bool) -> bool {
        if self.away_since.is_some() {
            return now < self.next_trial;
        }
        let burst = if waited { SHARE_OF_WAITING } else { BURST_MICROS };
        let is_full = |pace: &Pace, burst: i64| !pace.has_room(now, burst);
        self.limit.as_ref().is_some_and(|limit| is_full(limit, burst))
            || (waited && is_full(&self.release, BURST_MICROS))
    }

    /// Something new went to it.
    pub fn was_sent(&mut self, now: Time, waited: bool) {
        if self.away_since.is_some() {
            self.next_trial = now + TRIAL;
        }
        if let Some(limit) = &mut self.limit {
            limit.take(now);
        }
        if waited {
            self.release.take(now);
        }
    }

    /// When a saga that waits for it is looked at again. Each gets a turn of its own, so that
    /// not all come when there is room for one.
    pub fn turn(&mut self, now: Time, jitter: u64) -> Time {
        if self.away_since.is_some() {
            return now + Millis(LOOK_AGAIN.0 + jitter % LOOK_AGAIN.0);
        }
        let limit = self.limit.as_ref().map_or(0, |limit| limit.interval);
        let interval = self.release.interval.max(limit);
        self.given_until = self.given_until.max(micros(now)).saturating_add(interval);
        Time(self.given_until / 1_000 + 1)
    }
}

/// So many in a second, and no more than a second's worth at once: the generic cell rate
/// algorithm, with times in microseconds.
#[derive(Debug)]
struct Pace {
    interval: i64,
    next: i64,
}

impl Pace {
    fn new(per_second: u32) -> Pace {
        Pace { interval: 1_000_000 / i64::from(per_second.max(1)), next: i64::MIN }
    }

    fn has_room(&self, now: Time, burst: i64) -> bool {
        self.next.saturating_sub(micros(now)) < burst
    }

    fn take(&mut self, now: Time) {
        self.next = self.next.max(micros(now)).saturating_add(self.interval);
    }
}

fn micros(time: Time) -> i64 {
    time.0.saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1_000_000);

    fn saga(number: usize) -> SagaId {
        SagaId::of("acme", &number.to_string(), "order")
    }

    #[test]
    fn silence_towards_several_in_a_row_opens_it() {
        let mut breaker = Breaker::new(10, None);
        for _ in 0..2 * SILENT {
            assert!(!breaker.was_silent(saga(0)), "one saga says nothing of the others");
        }
        assert!((1..SILENT - 1).all(|number| !breaker.was_silent(saga(number))));
        assert!(!breaker.answered(NOW), "it was there all the time");
        assert!((0..SILENT - 1).all(|number| !breaker.was_silent(saga(number))));
        assert!(breaker.was_silent(saga(SILENT)));
        breaker.open(NOW);
        assert!(breaker.bars(NOW, false) && breaker.bars(NOW, true));
        assert!(breaker.answered(NOW));
        assert!(!breaker.bars(NOW, false));
        assert!(breaker.stops_clocks(NOW + Millis::MINUTE), "it has a queue to work off");
        assert!(!breaker.stops_clocks(NOW + GRACE));
    }

    #[test]
    fn while_it_is_away_one_at_a_time_tries() {
        let mut breaker = Breaker::new(10, None);
        breaker.open(NOW);
        let later = NOW + TRIAL;
        assert!(!breaker.bars(later, true));
        breaker.was_sent(later, true);
        assert!(breaker.bars(later, true));
        let turn = breaker.turn(later, 7);
        assert!(turn >= later + LOOK_AGAIN && turn <= later + Millis(2 * LOOK_AGAIN.0));
    }

    #[test]
    fn those_that_waited_are_released_at_a_rate() {
        let mut breaker = Breaker::new(10, None);
        let released = |breaker: &mut Breaker, now: Time| {
            let mut count = 0;
            while !breaker.bars(now, true) {
                breaker.was_sent(now, true);
                count += 1;
            }
            count
        };
        assert_eq!(released(&mut breaker, NOW), 10);
        assert_eq!(released(&mut breaker, NOW + Millis(500)), 5);
        assert!(!breaker.bars(NOW + Millis(500), false), "new work is not held up");
        assert_eq!(released(&mut breaker, NOW + Millis(60_000)), 10, "nothing is saved up");
    }

    #[test]
    fn a_limit_holds_for_all_and_keeps_a_share_for_new_work() {
        let mut breaker = Breaker::new(100, Some(10));
        let sent = |breaker: &mut Breaker, waited: bool| {
            let mut count = 0;
            while !breaker.bars(NOW, waited) {
                breaker.was_sent(NOW, waited);
                count += 1;
            }
            count
        };
        assert_eq!(sent(&mut breaker, true), 8);
        assert_eq!(sent(&mut breaker, false), 2);
    }

    #[test]
    fn turns_are_given_one_by_one() {
        let mut breaker = Breaker::new(10, None);
        let turns: Vec<Time> = (0..30).map(|_| breaker.turn(NOW, 0)).collect();
        assert!(turns.windows(2).all(|pair| (pair[1] - pair[0]).0 >= 99));
        assert_eq!(turns[29], NOW + Millis(3_001));
    }
}
