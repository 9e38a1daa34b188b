//! What those who watch ask of a store: every few seconds, by one worker at a time.

use async_trait::async_trait;
use uuid::Uuid;

use super::{StoreError, Stored};
use crate::saga::{Status, Time};

/// Questions that cost the same however many sagas have ended: each is answered from a small
/// index that holds only what is asked for.
#[async_trait]
pub trait Watch: Send + Sync {
    /// Takes the duty of this name until `until`, or keeps it: true when it is `holder`'s now.
    /// Only whoever has it may be given it again before its end.
    async fn take_duty(
        &self,
        name: &'static str,
        holder: Uuid,
        now: Time,
        until: Time,
    ) -> Result<bool, StoreError>;

    /// What there is of everything that is not at rest.
    async fn standing(&self) -> Result<Standing, StoreError>;

    /// Up to `limit` sagas that are at risk ([`crate::saga::Saga::is_at_risk`]), in the order of
    /// their ids.
    async fn at_risk(&self, limit: usize) -> Result<Vec<Stored>, StoreError>;
}

/// The most outbox rows that are counted. Where as many wait, the number no longer matters, and a
/// count of all of them would cost more each time it is asked for.
pub const MOST_OUTBOX_COUNTED: usize = 100_000;
/// Among how many outbox rows, those first whose claim ends first, the oldest is looked for.
pub const OUTBOX_LOOKED_AT: usize = 1_000;
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Unfinished sagas by status, only those that occur.
    pub active: Vec<(Status, u64)>,
    /// When the oldest unfinished saga started.
    pub oldest: Option<Time>,
    pub attention: u64,
    pub at_risk: u64,
    /// The earliest due time of any saga.
    pub next_due: Option<Time>,
    /// Up to [`MOST_OUTBOX_COUNTED`].
    pub outbox: u64,
    /// When the oldest message in the outbox was decided, of the [`OUTBOX_LOOKED_AT`] looked at.
    pub outbox_oldest: Option<Time>,
    /// Open ones by reason, only those that occur.
    pub dead_letters: Vec<(String, u64)>,
}
