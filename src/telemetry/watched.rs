//! What is stored, as the one worker that watches sees it.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use prometheus::IntGauge;

use super::Telemetry;
use super::metrics::Gauges;
use crate::saga::{Status, Time};

/// More currencies than this are one, `other`: the border takes any three letters, and a label
/// must not grow with what is sent.
const MOST_CURRENCIES: usize = 32;
const OTHER: &str = "other";

/// One look at what is stored.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    pub at: Time,
    pub took: Duration,
    /// Sagas that have not ended.
    pub active: Vec<(Status, u64)>,
    /// When the oldest of them started.
    pub oldest: Option<Time>,
    pub needs_person: u64,
    pub at_risk: u64,
    /// Those at risk that what follows does not count.
    pub unread: u64,
    /// By definition, step and code.
    pub attention: BTreeMap<(String, String, &'static str), u64>,
    /// By definition and step; every step of every definition, for a panel without gaps.
    pub in_doubt: BTreeMap<(String, String), u64>,
    /// By currency, in minor units.
    pub value_at_risk: BTreeMap<String, i128>,
    /// The earliest due time.
    pub next_due: Option<Time>,
    pub outbox: u64,
    /// When the oldest message in it was decided.
    pub outbox_oldest: Option<Time>,
    /// By reason.
    pub dead_letters: Vec<(String, u64)>,
}

impl Telemetry {
    /// What is stored. Shown until the next look, or [`Telemetry::unwatched`].
    pub fn watched(&self, seen: &Watched) {
        let gauges = Gauges::new();
        let ago = |time: Option<Time>| time.map_or(0.0, |time| (seen.at - time).as_seconds());
        let set =
            |gauge: &IntGauge, count: u64| gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        gauges.looked_at.set(seen.at.0 as f64 / 1_000.0);
        gauges.look_seconds.set(seen.took.as_secs_f64());
        for status in [Status::Running, Status::Compensating] {
            let count = seen.active.iter().filter(|(s, _)| *s == status).map(|(_, count)| count);
            set(&gauges.active.with_label_values(&[status.as_str()]), count.sum());
        }
        gauges.oldest.set(ago(seen.oldest));
        set(&gauges.needs_person, seen.needs_person);
        set(&gauges.at_risk, seen.at_risk);
        set(&gauges.unread, seen.unread);
        for ((definition, step, code), count) in &seen.attention {
            set(&gauges.attention_by.with_label_values(&[definition, step, *code]), *count);
        }
        for ((definition, step), count) in &seen.in_doubt {
            set(&gauges.in_doubt.with_label_values(&[definition, step]), *count);
        }
        gauges.overdue.set(ago(seen.next_due));
        set(&gauges.outbox_pending, seen.outbox);
        gauges.outbox_age.set(ago(seen.outbox_oldest));
        for (reason, count) in &seen.dead_letters {
            set(&gauges.dead_letters_stored.with_label_values(&[reason]), *count);
        }
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        for (currency, amount) in by_currency(&seen.value_at_risk) {
            gauges.value_at_risk.with_label_values(&[currency]).set(amount as f64);
        }
        *watched = Some(gauges);
    }

    /// Another worker watches, or what was seen is too old to be shown.
    pub fn unwatched(&self) {
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The largest amounts each under its own currency, the rest under one name.
fn by_currency(amounts: &BTreeMap<String, i128>) -> Vec<(&str, i128)> {
    let mut sorted: Vec<(&str, i128)> =
        amounts.iter().map(|(currency, amount)| (currency.as_str(), *amount)).collect();
    sorted.sort_by_key(|(currency, amount)| (std::cmp::Reverse(*amount), *currency));
    let rest = sorted.split_off(sorted.len().min(MOST_CURRENCIES));
    if !rest.is_empty() {
        sorted.push((OTHER, rest.iter().map(|(_, amount)| amount).sum()));
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_shown_whole_and_replaced_whole() {
        let telemetry = Telemetry::new();
        assert!(!telemetry.render().contains("_at_risk"), "nobody has looked");
        let first = Watched {
            at: Time(90_000),
            oldest: Some(Time(30_000)),
            value_at_risk: [("EUR".to_owned(), 5_000)].into(),
            dead_letters: vec![("unknown-order".to_owned(), 2)],
            ..Watched::default()
        };
        telemetry.watched(&first);
        let page = telemetry.render();
        assert!(page.contains("value_at_risk_minor{currency=\"EUR\"} 5000"), "{page}");
        assert!(page.contains("oldest_unfinished_saga_age_seconds 60\n"), "{page}");
        assert!(page.contains("sagas_active{status=\"compensating\"} 0"), "{page}");
        telemetry.watched(&Watched { at: Time(105_000), ..Watched::default() });
        let page = telemetry.render();
        assert!(!page.contains("EUR") && !page.contains("unknown-order"), "{page}");
        assert!(page.contains("oldest_unfinished_saga_age_seconds 0\n"), "{page}");
        telemetry.unwatched();
        assert!(!telemetry.render().contains("sagas_active"));
    }

    #[test]
    fn currencies_beyond_the_bound_are_one() {
        let amounts: BTreeMap<String, i128> =
            (0..40).map(|n| (format!("X{n:02}"), 100 - n)).collect();
        let shown = by_currency(&amounts);
        assert_eq!(shown.len(), MOST_CURRENCIES + 1);
        assert_eq!(shown[0], ("X00", 100));
        let rest: i128 = (32..40).map(|n| 100 - n).sum();
        assert_eq!(shown[MOST_CURRENCIES], (OTHER, rest));
    }
}
