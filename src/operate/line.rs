//! An order as a line of a list.

use serde::Serialize;
use uuid::Uuid;

use crate::clock::rfc3339;
use crate::saga::{Millis, Time};
use crate::store::Stored;

/// Enough to choose one by. Times RFC 3339.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    pub order_id: String,
    pub tenant_id: String,
    pub saga_id: Uuid,
    pub status: &'static str,
    /// The codes of what needs a person.
    pub attention: Vec<&'static str>,
    pub definition: String,
    pub definition_version: u32,
    pub started_at: String,
    pub ended_at: Option<String>,
    /// Until its end, or until now.
    pub age_seconds: u64,
}

/// An order as it is at `now`.
#[must_use]
pub fn line(stored: &Stored, now: Time) -> Line {
    let ended = stored.saga.ended_at;
    let Millis(age_ms) = ended.unwrap_or(now) - stored.saga.started_at;
    Line {
        order_id: stored.order.order_id.clone(),
        tenant_id: stored.order.tenant.clone(),
        saga_id: stored.saga.id.0,
        status: stored.saga.status.as_str(),
        attention: stored.saga.attention.iter().map(|a| a.code.as_str()).collect(),
        definition: stored.order.definition.clone(),
        definition_version: stored.order.definition_version,
        started_at: rfc3339(stored.saga.started_at),
        ended_at: ended.map(rfc3339),
        age_seconds: age_ms / 1_000,
    }
}
