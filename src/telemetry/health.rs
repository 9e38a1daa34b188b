//! Whether the worker can do its work: what `/readyz` answers.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What is wrong with a part that has not yet said how it is.
const NOT_YET: &str = "not started yet";

/// The parts on which readiness depends, each with what is wrong with it, if anything.
#[derive(Debug, Default)]
pub struct Health {
    parts: Mutex<BTreeMap<&'static str, Option<String>>>,
}

impl Health {
    /// Names parts on which readiness will depend, before any of them has begun.
    pub fn expect(&self, parts: &[&'static str]) {
        let mut known = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        for part in parts {
            known.entry(part).or_insert_with(|| Some(NOT_YET.to_owned()));
        }
    }

    /// Notes the state of a part; true when that is news.
    pub fn set(&self, part: &'static str, trouble: Option<String>) -> bool {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let was_well = matches!(parts.get(part), Some(None));
        let is_well = trouble.is_none();
        let is_first = parts.get(part).is_none_or(|t| t.as_deref() == Some(NOT_YET));
        let news = is_first || was_well != is_well;
        parts.insert(part, trouble);
        news
    }

    /// Ready when every part is known and well. Parts by name with their trouble.
    #[must_use]
    pub fn report(&self) -> (bool, BTreeMap<&'static str, Option<String>>) {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (!parts.is_empty() && parts.values().all(Option::is_none), parts)
    }
}
