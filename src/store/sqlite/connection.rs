//! The one connection, and whose turn it is.
//!
//! Whatever is done with it is done on the caller's thread, without a single `await`: a call
//! takes SQLite some tens of microseconds, and handing it to another thread and waiting for
//! the answer would take several times that. So nothing can be given up half-way either.

use std::fs::File;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Params, Row, Transaction, TransactionBehavior};

use super::error::Failure;
use crate::store::StoreError;

/// How many prepared statements are kept: all there are in this room, with room to grow.
const PREPARED_STATEMENTS: usize = 64;

pub(super) struct Connection(Mutex<Option<Open>>);

struct Open {
    connection: rusqlite::Connection,
    /// Held for as long as the file is open; `None` when it is open for reading only.
    lock: Option<File>,
}

impl Connection {
    pub(super) fn new(connection: rusqlite::Connection, lock: Option<File>) -> Connection {
        connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
        Connection(Mutex::new(Some(Open { connection, lock })))
    }

    /// Waits for its turn and asks something.
    pub(super) fn read<T>(
        &self,
        during: &'static str,
        question: impl FnOnce(&rusqlite::Connection) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        match &*self.turn() {
            Some(open) => question(&open.connection).map_err(|failure| failure.explain(during)),
            None => Err(unavailable(during, CLOSED)),
        }
    }

    /// Waits for its turn and does `work` in one transaction. If it fails, nothing remains of it.
    pub(super) fn write<T>(
        &self,
        during: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        match &mut *self.turn() {
            Some(Open { connection, lock: Some(_) }) => {
                transact(connection, work).map_err(|failure| failure.explain(during))
            }
            Some(Open { lock: None, .. }) => Err(unavailable(during, READ_ONLY)),
            None => Err(unavailable(during, CLOSED)),
        }
    }

    pub(super) fn close(&self) {
        drop(self.turn().take());
    }

    fn turn(&self) -> MutexGuard<'_, Option<Open>> {
        // Whoever panicked here has rolled back on the way out.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const CLOSED: &str = "the database file is closed";
const READ_ONLY: &str = "the database file is open for reading only";

fn unavailable(during: &'static str, why: &'static str) -> StoreError {
    StoreError::Unavailable { during, source: why.into() }
}

fn transact<T>(
    connection: &mut rusqlite::Connection,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = work(&transaction)?;
    transaction.commit()?;
    Ok(done)
}

/// Runs one prepared statement and returns how many rows it touched.
pub(super) fn execute(
    connection: &rusqlite::Connection,
    sql: &'static str,
    parameters: impl Params,
) -> rusqlite::Result<usize> {
    connection.prepare_cached(sql)?.execute(parameters)
}

/// All rows of one prepared query, each as its columns.
pub(super) fn fetch<Columns>(
    connection: &rusqlite::Connection,
    sql: &'static str,
    parameters: impl Params,
) -> rusqlite::Result<Vec<Columns>>
where
    Columns: for<'r> TryFrom<&'r Row<'r>, Error = rusqlite::Error>,
{
    connection.prepare_cached(sql)?.query_map(parameters, |row| Columns::try_from(row))?.collect()
}
