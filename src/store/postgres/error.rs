//! What an error of PostgreSQL means to the worker.

use crate::store::StoreError;

/// SQLSTATE of a transaction that lost to another one and may simply be run again.
const SERIALIZATION_FAILURE: &str = "40001";
const DEADLOCK_DETECTED: &str = "40P01";
/// What tables of another version answer: a table or column that is missing, or a new column
/// that this build does not fill.
const CODES_OF_OTHER_TABLES: [&str; 3] = ["42P01", "42703", "23502"];
/// A lock or a statement that took too long, memory that did not suffice, an internal error:
/// one row, or too many at once, may be all there is to it.
const CODES_OF_BLOCKED_ROWS: [&str; 4] = ["55P03", "57014", "53200", "XX000"];
/// Classes for which the row itself is to blame: data exception, constraint violation, program
/// limit exceeded. Everything else (no connection, timeouts, disk full, read-only, shutting
/// down, missing rights) is the database's or the operator's trouble and may pass: an order
/// must never become a dead letter because of that.
const CLASSES_OF_BAD_ROWS: [&str; 3] = ["22", "23", "54"];

/// What `error` means, having come up `during` something.
pub(super) fn explain(during: &'static str, error: sqlx::Error) -> StoreError {
    let code = match &error {
        sqlx::Error::Encode(_) | sqlx::Error::Configuration(_) => {
            return StoreError::Rejected { during, source: error.into() };
        }
        // A column of another type, not a damaged row: what rows hold is ours to decode.
        sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => {
            return StoreError::NotMigrated;
        }
        _ => code_of(&error),
    };
    match code.as_deref() {
        Some(code) if CODES_OF_OTHER_TABLES.contains(&code) => StoreError::NotMigrated,
        Some(code) if CODES_OF_BLOCKED_ROWS.contains(&code) => {
            StoreError::Blocked { during, source: error.into() }
        }
        Some(code) if CLASSES_OF_BAD_ROWS.iter().any(|class| code.starts_with(class)) => {
            StoreError::Rejected { during, source: error.into() }
        }
        _ => StoreError::Unavailable { during, source: error.into() },
    }
}

/// Whether the same statement may succeed when it is simply run again.
pub(super) fn lost_to_another(error: &StoreError) -> bool {
    let StoreError::Unavailable { source, .. } = error else { return false };
    let code = source.downcast_ref::<sqlx::Error>().and_then(code_of);
    matches!(code.as_deref(), Some(SERIALIZATION_FAILURE | DEADLOCK_DETECTED))
}

fn code_of(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}
