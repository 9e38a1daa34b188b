//! What an error of SQLite means to the worker.

use crate::store::StoreError;

/// Primary result codes (the low byte of the extended code) for which the row itself is to
/// blame: SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH. Everything else (busy, disk full,
/// IO errors, read-only) is the file's trouble and may pass.
const CODES_OF_BAD_ROWS: [u32; 3] = [18, 19, 20];

/// What `error` means, having come up `during` something.
pub(super) fn explain(during: &'static str, error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Encode(_) => return StoreError::Rejected { during, source: error.into() },
        sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => {
            return StoreError::Unreadable { what: during };
        }
        _ => {}
    }
    let Some(from_sqlite) = error.as_database_error() else {
        return StoreError::Unavailable { during, source: error.into() };
    };
    let message = from_sqlite.message();
    if message.starts_with("no such table") || message.starts_with("no such column") {
        return StoreError::NotMigrated;
    }
    let code = from_sqlite.code().and_then(|code| code.parse::<u32>().ok());
    match code {
        Some(code) if CODES_OF_BAD_ROWS.contains(&(code & 0xff)) => {
            StoreError::Rejected { during, source: error.into() }
        }
        _ => StoreError::Unavailable { during, source: error.into() },
    }
}
