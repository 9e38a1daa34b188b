//! Whether the worker can do its work: what `/readyz` answers.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

const STARTING: &str = "starting";

/// The parts on which readiness depends, each with what is wrong with it, if anything.
#[derive(Debug, Default)]
pub struct Health {
    parts: Mutex<BTreeMap<&'static str, Option<String>>>,
}

impl Health {
    /// A part that must be well before anything is ready, and of which nothing is known yet.
    pub fn expect(&self, part: &'static str) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.entry(part).or_insert_with(|| Some(STARTING.to_owned()));
    }

    /// Notes the state of a part; true when that is news.
    pub fn set(&self, part: &'static str, trouble: Option<String>) -> bool {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let was_well = matches!(parts.get(part), Some(None));
        let is_well = trouble.is_none();
        let before = parts.get(part);
        let is_first = before.is_none_or(|before| before.as_deref() == Some(STARTING));
        let news = is_first || was_well != is_well;
        parts.insert(part, trouble);
        news
    }

    /// Whether one of these parts is known not to be well, or has not begun.
    #[must_use]
    pub fn has_trouble(&self, is_meant: impl Fn(&str) -> bool) -> bool {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.iter().any(|(part, trouble)| trouble.is_some() && is_meant(part))
    }

    /// Ready when every part is known and well. Parts by name with their trouble.
    #[must_use]
    pub fn report(&self) -> (bool, BTreeMap<&'static str, Option<String>>) {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (!parts.is_empty() && parts.values().all(Option::is_none), parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_only_when_every_expected_part_is_known_to_be_well() {
        let health = Health::default();
        assert!(!health.report().0, "nothing is known");
        health.expect("orders");
        assert!(health.set("database", None), "news");
        assert!(!health.report().0, "orders are not taken in yet");
        assert!(health.set("orders", Some("no broker".to_owned())), "news");
        assert!(!health.set("orders", Some("still none".to_owned())));
        assert!(health.has_trouble(|part| part == "orders"));
        assert!(!health.has_trouble(|part| part == "database" || part == "relay"));
        assert!(health.set("orders", None) && health.report().0);
        assert!(!health.has_trouble(|part| part == "orders"));
    }
}
