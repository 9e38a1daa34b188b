//! How fast a campaign goes, and when it stops: plain decisions on its counts and the time.

use crate::saga::{Millis, Time};
use crate::store::Campaign;

/// How many of a campaign's latest results say whether it goes well. What failed long ago, or
/// went well long ago, says little about the service that came back, or broke, since.
pub(super) const LATEST: usize = 100;
/// The longest time for which an unused rate is made up for.
const BURST: Millis = Millis::SECOND;

/// What a campaign does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// So many letters go out; up to `paced_at` the rate is used then.
    Release {
        count: u32,
        paced_at: Time,
    },
    /// Nothing for now.
    Wait,
    /// Too much fails.
    Stop {
        why: String,
    },
    Done,
}

/// `latest` is how many of the latest results there are and how many of them are failures,
/// `room` how many letters the worker can take in hand.
pub(super) fn next(campaign: &Campaign, latest: (u64, u64), room: u32, now: Time) -> Step {
    let plan = &campaign.plan;
    if campaign.settled >= campaign.total {
        return Step::Done;
    }
    let (results, failures) = latest;
    if results >= u64::from(plan.stop_from)
        && failures * 100 > results * u64::from(plan.stop_percent)
    {
        let why = format!("{failures} of the latest {results} failed again");
        return Step::Stop { why };
    }
    let began = now.0.saturating_sub(i64::try_from(BURST.0).unwrap_or(i64::MAX));
    let paced_at = campaign.paced_at.0.clamp(began, now.0);
    let rate = i64::from(plan.rate.max(1));
    let affordable = u32::try_from((now.0 - paced_at) * rate / 1_000).unwrap_or(u32::MAX);
    let waiting = campaign.total.saturating_sub(campaign.released);
    let count = allowed(campaign).min(waiting).min(affordable).min(room);
    match count {
        0 => Step::Wait,
        count => {
            let paced_at = Time(paced_at + i64::from(count) * 1_000 / rate);
            Step::Release { count, paced_at }
        }
    }
}

/// How many letters the ramp lets go. A wave begins when all before it are settled.
fn allowed(campaign: &Campaign) -> u32 {
    let released = campaign.released.saturating_sub(campaign.base);
    let is_settled = campaign.settled >= campaign.released;
    let mut end: u32 = 0;
    for wave in &campaign.plan.ramp {
        let begin = end;
        end = end.saturating_add(*wave);
        if released < end {
            let has_begun = released > begin;
            return if has_begun || is_settled { end - released } else { 0 };
        }
    }
    // The last wave, too, has to be settled before the rate alone counts.
    match released > end || is_settled {
        true => u32::MAX,
        false => 0,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::store::{CampaignState, LetterFilter, Plan};

    fn campaign(released: u32, settled: u32) -> Campaign {
        Campaign {
            id: Uuid::nil(),
            version: 1,
            state: CampaignState::Running,
            why: None,
            plan: Plan {
                filter: LetterFilter::default(),
                ramp: vec![1, 5, 20],
                rate: 50,
                stop_percent: 10,
                stop_from: 5,
            },
            actor: String::new(),
            reason: String::new(),
            total: 1_000,
            released,
            settled,
            failed: 0,
            base: 0,
            paced_at: Time(0),
            judged_from: Time(0),
            started_at: Time(0),
            changed_at: Time(0),
        }
    }

    fn count(campaign: &Campaign, now: i64) -> u32 {
        match next(campaign, (0, 0), 500, Time(now)) {
            Step::Release { count, .. } => count,
            Step::Wait => 0,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_wave_begins_when_all_before_it_are_settled() {
        for (released, settled, expected) in [
            (0, 0, 1),
            (1, 0, 0),
            (1, 1, 5),
            (4, 2, 2), // the rest of the second wave
            (6, 5, 0),
            (6, 6, 20),
            (26, 25, 0),
            (26, 26, 50),
            (76, 26, 50),
            (990, 900, 10),
        ] {
            assert_eq!(count(&campaign(released, settled), 10_000), expected, "{released}");
        }
        // Resumed, it ramps up anew.
        let resumed = Campaign { base: 300, ..campaign(300, 300) };
        assert_eq!(count(&resumed, 10_000), 1);
    }

    #[test]
    fn the_rate_is_kept_whoever_asks_and_however_often() {
        let mut running = Campaign { paced_at: Time(10_000), ..campaign(100, 100) };
        let mut released = 0;
        for now in (10_000..=12_000).step_by(7) {
            if let Step::Release { count, paced_at } = next(&running, (0, 0), 500, Time(now)) {
                released += count;
                running = Campaign { paced_at, version: running.version + 1, ..running };
            }
        }
        assert!((95..=100).contains(&released), "{released} in two seconds");
        // What was not used in an hour is not made up for.
        assert_eq!(count(&running, 3_600_000), 50);
        assert_eq!(next(&running, (0, 0), 0, Time(20_000)), Step::Wait);
    }

    #[test]
    fn it_stops_when_too_much_of_the_latest_failed() {
        let running = campaign(100, 90);
        let stops = |latest| matches!(next(&running, latest, 9, Time(99)), Step::Stop { .. });
        assert!(!stops((4, 4)), "too few to tell");
        assert!(stops((5, 1)));
        assert!(!stops((10, 1)), "a tenth is allowed");
        assert!(stops((100, 11)));
        let ended = campaign(1_000, 1_000);
        assert_eq!(next(&ended, (100, 100), 9, Time(99)), Step::Done);
    }
}
