//! What an error of SQLite means to the worker.

use rusqlite::ErrorCode;

use crate::store::StoreError;

/// What ended some work on the connection: SQLite, or the store's own rules.
pub(super) enum Failure {
    Sqlite(rusqlite::Error),
    Store(StoreError),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Failure {
        Failure::Sqlite(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Store(error)
    }
}

impl Failure {
    /// What it means, having come up `during` something.
    pub(super) fn explain(self, during: &'static str) -> StoreError {
        match self {
            Failure::Store(error) => error,
            Failure::Sqlite(error) => explain(during, error),
        }
    }
}

fn explain(during: &'static str, error: rusqlite::Error) -> StoreError {
    use rusqlite::Error::{
        FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, SqliteFailure,
        ToSqlConversionFailure,
    };
    match &error {
        ToSqlConversionFailure(_) => StoreError::Rejected { during, source: error.into() },
        FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) => {
            StoreError::Unreadable { what: during }
        }
        SqliteFailure(_, Some(message))
            if message.starts_with("no such table") || message.starts_with("no such column") =>
        {
            StoreError::NotMigrated
        }
        SqliteFailure(failure, _) if blames_the_row(failure.code) => {
            StoreError::Rejected { during, source: error.into() }
        }
        _ => StoreError::Unavailable { during, source: error.into() },
    }
}

/// Everything else (busy, disk full, IO errors, read-only) is the file's trouble and may pass.
fn blames_the_row(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::TooBig | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch)
}
