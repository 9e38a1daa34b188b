//! Whether the worker can do its work: what `/readyz` answers.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The parts on which readiness depends, each with what is wrong with it, if anything.
#[derive(Debug, Default)]
pub struct Health {
    parts: Mutex<BTreeMap<&'static str, Option<String>>>,
}

impl Health {
    /// Notes the state of a part; true when that is news.
    pub fn set(&self, part: &'static str, trouble: Option<String>) -> bool {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let was_well = matches!(parts.get(part), Some(None));
        let is_well = trouble.is_none();
        let news = !parts.contains_key(part) || was_well != is_well;
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
