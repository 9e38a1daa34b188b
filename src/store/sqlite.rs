//! The store in one SQLite file: for `makegood dev`, for one process.
//!
//! There is one connection (`connection`), and everybody takes turns; a lock file keeps a
//! second writing process out, while others may look on. Time is whatever the given clock
//! says, so that a simulated clock rules here too. No decision is taken here.

mod breakers;
mod campaigns;
mod commit;
mod connection;
mod deeds;
mod error;
mod letters;
mod queue;
mod read;
mod shipments;
mod watch;

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::OpenFlags;

use uuid::Uuid;

use super::{
    AuditedRow, BoxError, Change, Counts, DeadLetter, DefinitionRow, Filter, JournalRow, Letters,
    OutboxKey, OutboxRow, Published, RequestRow, ScanRow, ShipmentRow, Standing, Store, StoreError,
    Stored, Watch, Written,
};
use crate::clock::Clock;
use crate::saga::{SagaId, Time};
use connection::Connection;
use error::Failure;

/// How long SQLite itself waits for a file lock that another process holds for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const OPENING: &str = "opening the database file";

/// Each brings the tables from the version before it to its own, counted from 1, and sets
/// `user_version`. Released ones never change.
const MIGRATIONS: [&str; 4] = [
    include_str!("../../migrations/sqlite/0001_tables.sql"),
    include_str!("../../migrations/sqlite/0002_operators.sql"),
    include_str!("../../migrations/sqlite/0003_dead_letters.sql"),
    include_str!("../../migrations/sqlite/0004_watching.sql"),
];

/// What a commit survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// The machine losing power: every commit waits for the disk.
    #[default]
    PowerCut,
    /// This process being killed at any moment. A power cut may take the last commits with it,
    /// newest first; the file stays consistent. For what can simply be run again.
    ProcessCrash,
}

pub struct SqliteStore {
    connection: Connection,
    clock: Arc<dyn Clock>,
}

impl SqliteStore {
    /// Opens the file, and makes it and its directory where they are missing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], also when another process has it open for writing.
    pub async fn open(
        path: &Path,
        clock: Arc<dyn Clock>,
        durability: Durability,
    ) -> Result<SqliteStore, StoreError> {
        let lock = lock_beside(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let settings = match durability {
            Durability::PowerCut => "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL",
            Durability::ProcessCrash => "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL",
        };
        let connection = connect(path, flags, settings).map_err(|error| error.explain(OPENING))?;
        Ok(SqliteStore { connection: Connection::new(connection, Some(lock)), clock })
    }

    /// Opens an existing file for reading, also while another process writes to it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; later, every write is answered with it.
    pub async fn open_read_only(
        path: &Path,
        clock: Arc<dyn Clock>,
    ) -> Result<SqliteStore, StoreError> {
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, "")
            .map_err(|error| error.explain(OPENING))?;
        Ok(SqliteStore { connection: Connection::new(connection, None), clock })
    }
}

fn connect(
    path: &Path,
    flags: OpenFlags,
    settings: &'static str,
) -> Result<rusqlite::Connection, Failure> {
    // One thread at a time: SQLite's own mutex would be a second one.
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = rusqlite::Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.execute_batch(settings)?;
    Ok(connection)
}

/// SQLite would let two processes take turns at writing; their simulated clocks and memory
/// brokers would know nothing of each other.
fn lock_beside(path: &Path) -> Result<File, StoreError> {
    let unavailable = |source: BoxError| StoreError::Unavailable { during: OPENING, source };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(|error| unavailable(error.into()))?;
    }
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.with_added_extension("lock"))
        .map_err(|error| unavailable(error.into()))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(unavailable(
            format!("{} is in use by another makegood process", path.display()).into(),
        )),
        Err(TryLockError::Error(error)) => Err(unavailable(error.into())),
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn migrate(&self) -> Result<(), StoreError> {
        self.connection.write("migrating", |transaction| {
            let present = read::version(transaction)?;
            for migration in MIGRATIONS.into_iter().skip(present) {
                transaction.execute_batch(migration)?;
            }
            Ok(())
        })
    }

    async fn check(&self) -> Result<(), StoreError> {
        match self.connection.read("checking the tables", read::version)? == MIGRATIONS.len() {
            true => Ok(()),
            false => Err(StoreError::NotMigrated),
        }
    }

    async fn now(&self) -> Result<Time, StoreError> {
        Ok(self.clock.now())
    }

    async fn publish_definition(&self, row: &DefinitionRow) -> Result<Published, StoreError> {
        self.connection
            .write(commit::PUBLISHING, |transaction| commit::publish_definition(transaction, row))
    }

    async fn definitions(&self) -> Result<Vec<DefinitionRow>, StoreError> {
        self.connection.read("reading definitions", read::definitions)
    }

    async fn load(&self, ids: &[SagaId]) -> Result<Vec<Stored>, StoreError> {
        self.connection.read("loading sagas", |connection| read::load(connection, ids))
    }

    async fn commit(&self, batch: &[Change]) -> Result<Vec<Written>, StoreError> {
        self.connection.write(commit::COMMITTING, |transaction| commit::commit(transaction, batch))
    }

    async fn claim_due(
        &self,
        now: Time,
        until: Time,
        limit: usize,
    ) -> Result<Vec<SagaId>, StoreError> {
        self.connection.write("claiming due sagas", |transaction| {
            queue::claim_due(transaction, now, until, limit)
        })
    }

    async fn next_due(&self) -> Result<Option<Time>, StoreError> {
        self.connection.read("looking for the next due saga", read::next_due)
    }

    async fn reschedule(&self, sagas: &[(SagaId, u32, Option<Time>)]) -> Result<(), StoreError> {
        self.connection
            .write(queue::RESCHEDULING, |transaction| queue::reschedule(transaction, sagas))
    }

    async fn claim_outbox(
        &self,
        now: Time,
        until: Time,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        self.connection.write("claiming outbox rows", |transaction| {
            queue::claim_outbox(transaction, now, until, limit)
        })
    }

    async fn delete_outbox(&self, rows: &[(OutboxKey, Time)]) -> Result<(), StoreError> {
        self.connection
            .write(queue::DELETING, |transaction| queue::delete_outbox(transaction, rows))
    }

    async fn bury(&self, letters: &[DeadLetter]) -> Result<(), StoreError> {
        self.connection.write(letters::BURYING, |transaction| letters::bury(transaction, letters))
    }

    async fn parked(&self, orders: &[(String, String)]) -> Result<Vec<DeadLetter>, StoreError> {
        self.connection
            .read("reading parked letters", |connection| letters::parked(connection, orders))
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        self.connection
            .read("reading dead letters", |connection| letters::newest(connection, limit))
    }

    fn letters(&self) -> &dyn Letters {
        self
    }

    async fn find(&self, order_id: &str, tenant: Option<&str>) -> Result<Vec<Stored>, StoreError> {
        self.connection
            .read("finding an order", |connection| read::find(connection, order_id, tenant))
    }

    async fn shipment(
        &self,
        tenant: &str,
        courier: &str,
        shipment_id: &str,
    ) -> Result<Option<ShipmentRow>, StoreError> {
        self.connection.read("looking for a shipment", |connection| {
            shipments::shipment(connection, (tenant, courier, shipment_id))
        })
    }

    async fn scans(&self, saga: SagaId) -> Result<Vec<ScanRow>, StoreError> {
        self.connection.read("reading scans", |connection| shipments::scans(connection, saga))
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<SagaId>,
        limit: usize,
    ) -> Result<Vec<Stored>, StoreError> {
        self.connection
            .read("listing orders", |connection| read::list(connection, filter, after, limit))
    }

    async fn journal(&self, saga: SagaId) -> Result<Vec<JournalRow>, StoreError> {
        self.connection.read("reading a journal", |connection| read::journal(connection, saga))
    }

    async fn latest_time(&self) -> Result<Option<Time>, StoreError> {
        self.connection.read("looking for the latest time", read::latest_time)
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.connection.read("counting", read::counts)
    }

    fn watch(&self) -> &dyn Watch {
        self
    }

    async fn deeds(&self, saga: SagaId) -> Result<Vec<AuditedRow>, StoreError> {
        self.connection
            .read("reading operators' deeds", |connection| deeds::deeds(connection, saga))
    }

    async fn keep_request(&self, row: &RequestRow) -> Result<(), StoreError> {
        self.connection
            .write("keeping a request", |transaction| deeds::keep_request(transaction, row))
    }

    async fn requests(&self, limit: usize) -> Result<Vec<RequestRow>, StoreError> {
        self.connection.read("reading requests", |connection| deeds::requests(connection, limit))
    }

    async fn drop_request(&self, id: Uuid) -> Result<(), StoreError> {
        self.connection
            .write("dropping a request", |transaction| deeds::drop_request(transaction, id))
    }

    async fn open_breakers(&self) -> Result<Vec<(String, Time)>, StoreError> {
        self.connection.read("reading breakers", breakers::open_breakers)
    }

    async fn open_breaker(&self, participant: &str, at: Time) -> Result<(), StoreError> {
        self.connection.write("opening a breaker", |transaction| {
            breakers::open_breaker(transaction, participant, at)
        })
    }

    async fn close_breaker(&self, participant: &str) -> Result<(), StoreError> {
        self.connection.write("closing a breaker", |transaction| {
            breakers::close_breaker(transaction, participant)
        })
    }

    async fn close(&self) {
        self.connection.close();
    }
}

#[async_trait]
impl Watch for SqliteStore {
    async fn take_duty(
        &self,
        name: &'static str,
        holder: Uuid,
        now: Time,
        until: Time,
    ) -> Result<bool, StoreError> {
        self.connection.write("taking a duty", |transaction| {
            watch::take_duty(transaction, name, holder, now, until)
        })
    }

    async fn standing(&self) -> Result<Standing, StoreError> {
        self.connection.read("looking at what stands", watch::standing)
    }

    async fn at_risk(&self, limit: usize) -> Result<Vec<Stored>, StoreError> {
        self.connection
            .read("reading what is at risk", |connection| watch::at_risk(connection, limit))
    }
}
