//! Dead letters.

use rusqlite::{Connection, Transaction, params};

use super::connection::{execute, fetch};
use super::error::Failure;
use crate::store::DeadLetter;
use crate::store::rows::{self, DeadLetterColumns, signed};

pub(super) const BURYING: &str = "burying dead letters";

pub(super) fn bury(transaction: &Transaction<'_>, letters: &[DeadLetter]) -> Result<(), Failure> {
    for letter in letters {
        // A letter that is there already keeps when it was first seen.
        execute(
            transaction,
            "INSERT INTO dead_letter (id, source, reason, error, body, headers, tenant, order_id,
                                      first_seen, last_seen, attempts)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
             ON CONFLICT (id) DO UPDATE
             SET reason = excluded.reason, error = excluded.error,
                 last_seen = excluded.last_seen, attempts = dead_letter.attempts + 1",
            params![
                letter.id,
                letter.source,
                letter.reason,
                letter.error,
                letter.body,
                letter.headers,
                letter.tenant,
                letter.order_id,
                letter.first_seen.0,
                letter.last_seen.0,
                signed(letter.attempts, BURYING)?,
            ],
        )?;
    }
    Ok(())
}

pub(super) fn parked(
    connection: &Connection,
    orders: &[(String, String)],
) -> Result<Vec<DeadLetter>, Failure> {
    let letters: Vec<DeadLetterColumns> = fetch(
        connection,
        "SELECT id, source, reason, error, body, headers, tenant, order_id, first_seen,
                last_seen, attempts
         FROM dead_letter
         WHERE reason = 'unknown-order'
           AND (tenant, order_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1))
         ORDER BY first_seen, id",
        [serde_json::json!(orders).to_string()],
    )?;
    Ok(rows::all(letters)?)
}

pub(super) fn newest(connection: &Connection, limit: usize) -> Result<Vec<DeadLetter>, Failure> {
    let letters: Vec<DeadLetterColumns> = fetch(
        connection,
        "SELECT id, source, reason, error, body, headers, tenant, order_id, first_seen,
                last_seen, attempts
         FROM dead_letter ORDER BY last_seen DESC, id DESC LIMIT ?1",
        [rows::limit(limit)],
    )?;
    Ok(rows::all(letters)?)
}
