//! The store in one SQLite file: for `makegood dev`, for one process.
//!
//! One connection writes, in one transaction at a time (`writing`), and two read beside it.
//! A lock file keeps a second writing process out. Time is whatever the given clock says, so
//! that a simulated clock rules here too. No decision is taken here.

mod commit;
mod error;
mod letters;
mod queue;
mod read;
mod writing;

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::Mutex;

use super::{
    BoxError, Change, Counts, DeadLetter, DefinitionRow, Filter, JournalRow, OutboxKey, OutboxRow,
    Published, Store, StoreError, Stored, Written,
};
use crate::clock::Clock;
use crate::saga::{SagaId, Time};
use error::explain;
use writing::Writer;

/// How long SQLite itself waits for a file lock that another process holds for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Readers beside the writer: the worker's and an operator's.
const READERS: u32 = 2;
const OPENING: &str = "opening the database file";

/// Each brings the tables from the version before it to its own, counted from 1, and sets
/// `user_version`. Released ones never change.
const MIGRATIONS: [&str; 1] = [include_str!("../../migrations/sqlite/0001_tables.sql")];

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
    /// `None` when opened for reading only, or closed.
    writer: Mutex<Option<Writer>>,
    readers: SqlitePool,
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
        let options = options(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(match durability {
                Durability::PowerCut => SqliteSynchronous::Full,
                Durability::ProcessCrash => SqliteSynchronous::Normal,
            });
        let connection = SqliteConnection::connect_with(&options)
            .await
            .map_err(|error| explain(OPENING, error))?;
        let readers = readers(options.create_if_missing(false));
        let writer = Mutex::new(Some(Writer::new(connection, lock)));
        Ok(SqliteStore { writer, readers, clock })
    }

    /// Opens an existing file for reading, also while another process writes to it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; later, every write is answered with it.
    pub async fn open_read_only(
        path: &Path,
        clock: Arc<dyn Clock>,
    ) -> Result<SqliteStore, StoreError> {
        let readers = readers(options(path).read_only(true));
        readers.acquire().await.map_err(|error| explain(OPENING, error))?;
        Ok(SqliteStore { writer: Mutex::new(None), readers, clock })
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging()
}

fn readers(options: SqliteConnectOptions) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(READERS)
        .test_before_acquire(false)
        .connect_lazy_with(options)
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
        let mut transaction = writing::begin(&self.writer, "migrating").await?;
        let present = read::version(transaction.connection()).await?;
        for migration in MIGRATIONS.into_iter().skip(present) {
            transaction.script(migration).await?;
        }
        transaction.commit().await
    }

    async fn check(&self) -> Result<(), StoreError> {
        let mut reader = read::reader(&self.readers).await?;
        match read::version(&mut reader).await? == MIGRATIONS.len() {
            true => Ok(()),
            false => Err(StoreError::NotMigrated),
        }
    }

    async fn now(&self) -> Result<Time, StoreError> {
        Ok(self.clock.now())
    }

    async fn publish_definition(&self, row: &DefinitionRow) -> Result<Published, StoreError> {
        let transaction = writing::begin(&self.writer, "publishing a definition").await?;
        commit::publish_definition(transaction, row).await
    }

    async fn definitions(&self) -> Result<Vec<DefinitionRow>, StoreError> {
        read::definitions(&self.readers).await
    }

    async fn load(&self, ids: &[SagaId]) -> Result<Vec<Stored>, StoreError> {
        read::load(&self.readers, ids).await
    }

    async fn commit(&self, batch: &[Change]) -> Result<Vec<Written>, StoreError> {
        let transaction = writing::begin(&self.writer, commit::DURING).await?;
        commit::commit(transaction, batch).await
    }

    async fn claim_due(
        &self,
        now: Time,
        until: Time,
        limit: usize,
    ) -> Result<Vec<SagaId>, StoreError> {
        let transaction = writing::begin(&self.writer, "claiming due sagas").await?;
        queue::claim_due(transaction, now, until, limit).await
    }

    async fn next_due(&self) -> Result<Option<Time>, StoreError> {
        read::next_due(&self.readers).await
    }

    async fn reschedule(&self, sagas: &[(SagaId, u32, Option<Time>)]) -> Result<(), StoreError> {
        let transaction = writing::begin(&self.writer, queue::RESCHEDULING).await?;
        queue::reschedule(transaction, sagas).await
    }

    async fn claim_outbox(
        &self,
        now: Time,
        until: Time,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let transaction = writing::begin(&self.writer, "claiming outbox rows").await?;
        queue::claim_outbox(transaction, now, until, limit).await
    }

    async fn delete_outbox(&self, keys: &[OutboxKey]) -> Result<(), StoreError> {
        let transaction = writing::begin(&self.writer, queue::DELETING).await?;
        queue::delete_outbox(transaction, keys).await
    }

    async fn bury(&self, letters: &[DeadLetter]) -> Result<(), StoreError> {
        let transaction = writing::begin(&self.writer, letters::BURYING).await?;
        letters::bury(transaction, letters).await
    }

    async fn parked(&self, orders: &[(String, String)]) -> Result<Vec<DeadLetter>, StoreError> {
        letters::parked(&self.readers, orders).await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        letters::newest(&self.readers, limit).await
    }

    async fn find(&self, order_id: &str, tenant: Option<&str>) -> Result<Vec<Stored>, StoreError> {
        read::find(&self.readers, order_id, tenant).await
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<SagaId>,
        limit: usize,
    ) -> Result<Vec<Stored>, StoreError> {
        read::list(&self.readers, filter, after, limit).await
    }

    async fn journal(&self, saga: SagaId) -> Result<Vec<JournalRow>, StoreError> {
        read::journal(&self.readers, saga).await
    }

    async fn latest_time(&self) -> Result<Option<Time>, StoreError> {
        read::latest_time(&self.readers).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        read::counts(&self.readers).await
    }

    async fn close(&self) {
        self.readers.close().await;
        if let Some(writer) = self.writer.lock().await.take() {
            writer.close().await;
        }
    }
}
