//! Participants that answer nobody.

use rusqlite::{Connection, Transaction, params};

use super::connection::{execute, fetch};
use super::error::Failure;
use crate::saga::Time;

pub(super) fn open_breakers(connection: &Connection) -> Result<Vec<(String, Time)>, Failure> {
    let rows: Vec<(String, i64)> =
        fetch(connection, "SELECT participant, opened_at FROM breaker ORDER BY participant", [])?;
    Ok(rows.into_iter().map(|(participant, at)| (participant, Time(at))).collect())
}

pub(super) fn open_breaker(
    transaction: &Transaction<'_>,
    participant: &str,
    at: Time,
) -> Result<(), Failure> {
    execute(
        transaction,
        "INSERT INTO breaker (participant, opened_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        params![participant, at.0],
    )?;
    Ok(())
}

pub(super) fn close_breaker(
    transaction: &Transaction<'_>,
    participant: &str,
) -> Result<(), Failure> {
    execute(transaction, "DELETE FROM breaker WHERE participant = ?1", [participant])?;
    Ok(())
}
