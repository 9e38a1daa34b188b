//! The one connection that writes, and its transactions.
//!
//! A transaction that was given up half-way, by an error or because its future was dropped,
//! is rolled back before the next one begins.

use std::fs::File;

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Connection, Executor, Sqlite};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use super::error::explain;
use crate::store::StoreError;

pub(super) struct Writer {
    connection: SqliteConnection,
    /// A transaction was begun and its end was not seen.
    unfinished: bool,
    /// Held as long as this lives.
    _lock: File,
}

impl Writer {
    pub(super) fn new(connection: SqliteConnection, lock: File) -> Writer {
        Writer { connection, unfinished: false, _lock: lock }
    }

    pub(super) async fn close(self) {
        // Everything committed is in the file already; a failed close loses nothing.
        let _ = self.connection.close().await;
    }
}

/// Dropped without [`Transaction::commit`], nothing of it remains.
pub(super) struct Transaction<'a> {
    writer: MappedMutexGuard<'a, Writer>,
    during: &'static str,
}

/// Waits for its turn and begins.
pub(super) async fn begin<'a>(
    writer: &'a Mutex<Option<Writer>>,
    during: &'static str,
) -> Result<Transaction<'a>, StoreError> {
    let writer = MutexGuard::try_map(writer.lock().await, Option::as_mut).map_err(|_| {
        let source = "the database file is open for reading only, or closed".into();
        StoreError::Unavailable { during, source }
    })?;
    let mut transaction = Transaction { writer, during };
    if transaction.writer.unfinished {
        // Fails where SQLite has rolled back by itself, which is as good.
        let _ = transaction.script("ROLLBACK").await;
    }
    transaction.writer.unfinished = true;
    transaction.script("BEGIN IMMEDIATE").await?;
    Ok(transaction)
}

impl Transaction<'_> {
    /// Runs one statement and returns how many rows it touched.
    pub(super) async fn execute(
        &mut self,
        query: Query<'_, Sqlite, SqliteArguments>,
    ) -> Result<u64, StoreError> {
        let done = query.execute(&mut self.writer.connection).await;
        Ok(done.map_err(|error| explain(self.during, error))?.rows_affected())
    }

    pub(super) async fn script(&mut self, sql: &'static str) -> Result<(), StoreError> {
        let done = self.writer.connection.execute(sqlx::raw_sql(sql)).await;
        done.map(drop).map_err(|error| explain(self.during, error))
    }

    /// For a query inside the transaction.
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.writer.connection
    }

    pub(super) fn during(&self) -> &'static str {
        self.during
    }

    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        self.script("COMMIT").await?;
        self.writer.unfinished = false;
        Ok(())
    }
}
