//! Where sagas are kept: the port, and its two stores.
//!
//! [`Store`] is what the rest of the crate knows. PostgreSQL serves production, SQLite the
//! embedded development mode; `tests/store.rs` holds one conformance suite that *is* the
//! definition of what a store must do, and each passes all of it. No decision is taken here.

mod campaign;
mod deed;
mod encoding;
mod letters;
pub mod postgres;
mod rows;
mod shipment;
pub mod sqlite;
pub mod watch;

use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use crate::saga::{Effect, Input, Moment, Saga, SagaId, Status, Time};
pub use campaign::{
    Campaign, CampaignState, Claim, Outcome, Plan, Replay, ReplayedOf, ReplayedRow, Settlement,
};
pub use deed::{AuditRow, AuditedRow, RequestRow};
pub use letters::{Closed, LetterDeed, LetterFilter, LetterGroup, Letters, MAX_LETTERS};
pub use shipment::{ScanRow, ShipmentRow};
pub use watch::{Standing, Watch};

/// Everything the worker, the operator and the auditor ask of a store.
///
/// Every method may be called by several workers at once. An [`StoreError::Unavailable`] says
/// nothing about whether a write took place: fencing makes it safe to load and decide again.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Creates or upgrades the tables. Safe to run twice, and by two at once.
    async fn migrate(&self) -> Result<(), StoreError>;

    /// Fails with [`StoreError::NotMigrated`] unless the tables are the ones this build needs.
    async fn check(&self) -> Result<(), StoreError>;

    /// The database's clock: the one time on which all workers agree.
    async fn now(&self) -> Result<Time, StoreError>;

    /// Stores a definition for ever. The same content again is fine.
    ///
    /// # Errors
    /// [`StoreError::DefinitionDiffers`] when this version was published with other content.
    async fn publish_definition(&self, row: &DefinitionRow) -> Result<Published, StoreError>;

    /// All published definitions, by name and version.
    async fn definitions(&self) -> Result<Vec<DefinitionRow>, StoreError>;

    /// The sagas among `ids` that exist, in any order. `ids` holds no repeats.
    async fn load(&self, ids: &[SagaId]) -> Result<Vec<Stored>, StoreError>;

    /// Writes a batch in one transaction: each change is written whole or, where somebody else
    /// has changed that saga since, not at all ([`Written::LostRace`]); the rest is committed.
    /// The answer has one entry per change, in order. A batch holds a saga at most once.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: nothing is known, load and decide again later.
    /// [`StoreError::Blocked`]: the same, and in smaller batches.
    /// [`StoreError::Rejected`]: the database will never take this batch; nothing was written.
    async fn commit(&self, batch: &[Change]) -> Result<Vec<Written>, StoreError>;

    /// Takes up to `limit` sagas whose due time is at or before `now`, earliest first, and
    /// moves their due time to `until`, so that no other worker takes them before that.
    async fn claim_due(
        &self,
        now: Time,
        until: Time,
        limit: usize,
    ) -> Result<Vec<SagaId>, StoreError>;

    /// The earliest due time of any saga.
    async fn next_due(&self) -> Result<Option<Time>, StoreError>;

    /// Corrects the due time of sagas that are still at that version, without a new version.
    async fn reschedule(&self, sagas: &[(SagaId, u32, Option<Time>)]) -> Result<(), StoreError>;

    /// Takes up to `limit` outbox rows that nobody has claimed beyond `now`, and claims them
    /// until `until`. Found by their claim, never by an id cursor: ids commit out of order.
    async fn claim_outbox(
        &self,
        now: Time,
        until: Time,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError>;

    /// Deletes rows whose publication the broker has confirmed, each named with the claim under
    /// which it was published. Missing ones are fine, and one that somebody else has claimed
    /// since is left to them.
    async fn delete_outbox(&self, rows: &[(OutboxKey, Time)]) -> Result<(), StoreError>;

    /// Keeps dead letters. One that is there already (same id) counts one more attempt, and is
    /// open again if it was closed.
    async fn bury(&self, letters: &[DeadLetter]) -> Result<(), StoreError>;

    /// Open dead letters with reason [`DeadLetter::UNKNOWN_ORDER`] of these (tenant, order id)s.
    async fn parked(&self, orders: &[(String, String)]) -> Result<Vec<DeadLetter>, StoreError>;

    /// Dead letters, also closed ones, newest first, at most `limit`.
    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError>;

    /// The dead letters as operators know them.
    fn letters(&self) -> &dyn Letters;

    /// Every saga of an order: one per definition it started. `tenant` narrows the search.
    async fn find(&self, order_id: &str, tenant: Option<&str>) -> Result<Vec<Stored>, StoreError>;

    /// Whose parcel a shipment is: of this tenant, and of the courier of this name.
    async fn shipment(
        &self,
        tenant: &str,
        courier: &str,
        shipment_id: &str,
    ) -> Result<Option<ShipmentRow>, StoreError>;

    /// Every scan of a saga's parcels, in the order in which they came in.
    async fn scans(&self, saga: SagaId) -> Result<Vec<ScanRow>, StoreError>;

    /// A page of orders by saga id, those after `after`.
    async fn list(
        &self,
        filter: &Filter,
        after: Option<SagaId>,
        limit: usize,
    ) -> Result<Vec<Stored>, StoreError>;

    /// The journal of a saga, oldest first.
    async fn journal(&self, saga: SagaId) -> Result<Vec<JournalRow>, StoreError>;

    /// The latest time in any journal: where simulated time goes on. Scans; not for the worker.
    async fn latest_time(&self) -> Result<Option<Time>, StoreError>;

    /// How many of everything there are. Scans; not for the worker.
    async fn counts(&self) -> Result<Counts, StoreError>;

    /// What is asked every few seconds.
    fn watch(&self) -> &dyn Watch;

    /// What operators did to a saga, oldest first.
    async fn deeds(&self, saga: SagaId) -> Result<Vec<AuditedRow>, StoreError>;

    /// Keeps what waits for a second person. The same again is fine.
    async fn keep_request(&self, row: &RequestRow) -> Result<(), StoreError>;

    /// What waits for a second person, oldest first, at most `limit`.
    async fn requests(&self, limit: usize) -> Result<Vec<RequestRow>, StoreError>;

    /// It was done, or is not wanted any more. A missing one is fine.
    async fn drop_request(&self, id: Uuid) -> Result<(), StoreError>;

    /// The participants that answer nobody, and since when.
    async fn open_breakers(&self) -> Result<Vec<(String, Time)>, StoreError>;

    /// A participant answers nobody any more: keeps since when, unless that is known already.
    async fn open_breaker(&self, participant: &str, at: Time) -> Result<(), StoreError>;

    /// It answers again. A missing one is fine.
    async fn close_breaker(&self, participant: &str) -> Result<(), StoreError>;

    /// Closes all connections.
    async fn close(&self);
}

/// A saga as it is stored, with the order it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    pub saga: Saga,
    /// Counts transitions from 1; also the fencing token.
    pub version: u32,
    /// The coarse time at which the timer looks at it: rounded up from its next clock, or an
    /// earlier one.
    pub due: Option<Time>,
    pub order: Arc<OrderRow>,
}

/// What never changes about a saga. Written once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRow {
    pub saga: SagaId,
    pub tenant: String,
    pub order_id: String,
    pub definition: String,
    pub definition_version: u32,
    pub received_at: Time,
    /// W3C trace context that came with the order, or one derived from the saga id.
    pub traceparent: String,
    /// The order as it came: JSON.
    pub payload: Vec<u8>,
}

/// All that one or more transitions of one saga write, in one piece.
#[derive(Debug, Clone)]
pub struct Change {
    pub saga: Saga,
    /// The version that was loaded, which must still be the stored one; 0 for a new saga.
    pub from_version: u32,
    /// With `from_version` 0: the order, else `None`.
    pub order: Option<Arc<OrderRow>>,
    /// The transitions, oldest first; the last one's version is the new version. Empty when the
    /// change is only that parked letters leave, or that a scan is kept.
    pub journal: Vec<JournalRow>,
    pub due: Option<Time>,
    pub outbox: Vec<OutboxRow>,
    /// Parked dead letters that this change has taken in; they are deleted with it.
    pub revived: Vec<Uuid>,
    /// Parcels that were booked by the steps that are done now.
    pub shipments: Vec<ShipmentRow>,
    /// Scans that came in; one that is stored already is left as it is.
    pub scans: Vec<ScanRow>,
    /// Who asked for it, where an operator did.
    pub audit: Option<AuditRow>,
}

impl Change {
    /// The version after this change.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.journal.last().map_or(self.from_version, |row| row.version)
    }

    /// The order that is to be stored with a new saga.
    fn new_order(&self, during: &'static str) -> Result<Option<&OrderRow>, StoreError> {
        match (self.from_version, &self.order) {
            (0, Some(order)) => Ok(Some(order)),
            (0, None) => {
                Err(StoreError::Rejected { during, source: "a new saga without its order".into() })
            }
            _ => Ok(None),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    Committed,
    /// Somebody else changed, or created, the saga: load it and decide again.
    LostRace,
}

/// One transition: what happened and what was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRow {
    pub version: u32,
    pub moment: Moment,
    pub input: Input,
    pub effects: Vec<Effect>,
}

impl JournalRow {
    #[must_use]
    pub fn at(&self) -> Time {
        self.moment.now
    }
}

/// A message that is to be published, under the saga that wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    pub key: OutboxKey,
    /// The channel's name, as the broker room prints and parses it.
    pub channel: String,
    /// The CloudEvent in structured JSON, readable in a pinch with psql.
    pub message: Vec<u8>,
    /// Claimed until then by the worker that wrote it or took it over.
    pub claimed_until: Time,
}

/// (saga, version, number within that version): unique for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutboxKey {
    pub saga: SagaId,
    pub version: u32,
    pub number: u16,
}

/// A message that could not be processed, with all that came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Derived from where it came from and its bytes, so a redelivery is the same letter.
    pub id: Uuid,
    /// The channel or queue it came from.
    pub source: String,
    /// A stable reason code, kebab-case.
    pub reason: String,
    /// What was wrong, for a human.
    pub error: String,
    pub body: Vec<u8>,
    /// Properties and headers as a JSON object.
    pub headers: String,
    pub tenant: Option<String>,
    pub order_id: Option<String>,
    pub first_seen: Time,
    pub last_seen: Time,
    pub attempts: u32,
    /// The event's type, where it could be read.
    pub kind: Option<String>,
    /// Whose answer it is, or whose command.
    pub participant: Option<String>,
    /// The letter of which this is a corrected copy.
    pub corrects: Option<Uuid>,
    /// How and when it was dealt with.
    pub closed: Option<(Closed, Time)>,
}

impl DeadLetter {
    /// Reason of facts and cancel requests that came before their order: they are taken in
    /// when it arrives.
    pub const UNKNOWN_ORDER: &'static str = "unknown-order";
}

/// A published definition: the file as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionRow {
    pub name: String,
    pub version: u32,
    pub content: String,
    pub published_at: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    New,
    AlreadyThere,
}

/// Which orders to list. Empty: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub status: Option<Status>,
    pub attention: Option<bool>,
    pub tenant: Option<String>,
    pub definition: Option<String>,
    /// Received at or before.
    pub received_before: Option<Time>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// By status, only those that occur.
    pub sagas: Vec<(Status, u64)>,
    pub attention: u64,
    pub outbox: u64,
    pub dead_letters: u64,
}

impl Counts {
    #[must_use]
    pub fn of(&self, status: Status) -> u64 {
        self.sagas.iter().filter(|(s, _)| *s == status).map(|(_, count)| count).sum()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is away, overloaded or read-only: worth trying again.
    #[error("the database is not available ({during})")]
    Unavailable {
        during: &'static str,
        #[source]
        source: BoxError,
    },
    /// It was there and did not get this done: somebody holds a row of it, or it is too much at
    /// once. Other rows, and smaller batches, may get through.
    #[error("the database did not get this done ({during})")]
    Blocked {
        during: &'static str,
        #[source]
        source: BoxError,
    },
    /// It will refuse this for ever.
    #[error("the database refuses this ({during})")]
    Rejected {
        during: &'static str,
        #[source]
        source: BoxError,
    },
    #[error("the tables are missing or of another version: run `makegood migrate`")]
    NotMigrated,
    #[error(
        "definition {name} version {version} is already published with other content: \
         published versions never change, raise the version"
    )]
    DefinitionDiffers { name: String, version: u32 },
    #[error("a stored row cannot be read ({what}): it was written by a newer version, or damaged")]
    Unreadable { what: &'static str },
}

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl StoreError {
    /// Whether trying again later can help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, StoreError::Unavailable { .. } | StoreError::Blocked { .. })
    }

    /// Whether a row is to blame, and no waiting helps. Tables that are missing or of another
    /// version are nobody's row: they may be there again a moment later.
    #[must_use]
    pub fn blames_rows(&self) -> bool {
        matches!(self, StoreError::Rejected { .. } | StoreError::Unreadable { .. })
    }
}
