//! What an error of PostgreSQL means to the worker.

use crate::store::StoreError;

/// SQLSTATE of a transaction that lost to another one and may simply be run again.
const SERIALIZATION_FAILURE: &str = "40001";
const DEADLOCK_DETECTED: &str = "40P01";
const UNDEFINED_TABLE: &str = "42P01";
const UNDEFINED_COLUMN: &str = "42703";
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
        sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => {
            return StoreError::Unreadable { what: during };
        }
        _ => code_of(&error),
    };
    match code.as_deref() {
        Some(UNDEFINED_TABLE | UNDEFINED_COLUMN) => StoreError::NotMigrated,
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
