//! What operators did, and what waits for a second person.

use uuid::Uuid;

use crate::saga::Time;

/// An operator's deed, written in the transaction of what it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// The idempotency key: the same id twice is one deed.
    pub id: Uuid,
    pub at: Time,
    pub actor: String,
    /// The second person, where one was needed.
    pub approver: Option<String>,
    pub verb: String,
    /// The verb with all that was said with it: JSON.
    pub detail: String,
    pub reason: String,
}

/// A deed with the version that it led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditedRow {
    pub version: u32,
    pub deed: AuditRow,
}

/// What somebody asked for, and another person must agree to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRow {
    /// The key under which it will be done.
    pub id: Uuid,
    pub tenant: Option<String>,
    pub order_id: String,
    /// The verb with all that was said with it: JSON.
    pub detail: String,
    pub actor: String,
    pub reason: String,
    pub asked_at: Time,
}
