//! What is watched.

use rusqlite::{Connection, Transaction, params};
use uuid::Uuid;

use super::connection::{execute, fetch};
use super::error::Failure;
use super::read::select_stored;
use crate::saga::Time;
use crate::store::rows::{self, StandingColumns, StoredColumns};
use crate::store::watch::{MOST_OUTBOX_COUNTED, OUTBOX_LOOKED_AT};
use crate::store::{Standing, Stored};

pub(super) fn take_duty(
    transaction: &Transaction<'_>,
    name: &'static str,
    holder: Uuid,
    now: Time,
    until: Time,
) -> Result<bool, Failure> {
    let taken = execute(
        transaction,
        "INSERT INTO duty (name, holder, until) VALUES (?1, ?2, ?4)
         ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
         WHERE duty.holder = excluded.holder OR duty.until <= ?3",
        params![name, holder, now.0, until.0],
    )?;
    Ok(taken == 1)
}

pub(super) fn standing(connection: &Connection) -> Result<Standing, Failure> {
    let rows: Vec<StandingColumns> = fetch(
        connection,
        "SELECT 'active', status, NULL, count(*), min(started)
         FROM saga WHERE status IN (1, 2) GROUP BY status
         UNION ALL SELECT 'attention', NULL, NULL, count(*), NULL FROM saga WHERE attention
         UNION ALL SELECT 'at_risk', NULL, NULL, count(*), NULL FROM saga WHERE at_risk
         UNION ALL SELECT 'due', NULL, NULL, 0,
             (SELECT due FROM saga WHERE due IS NOT NULL ORDER BY due LIMIT 1)
         UNION ALL SELECT 'outbox', NULL, NULL, count(*), NULL
             FROM (SELECT 1 FROM outbox LIMIT ?1)
         UNION ALL SELECT 'outbox_oldest', NULL, NULL, 0, min(j.at)
             FROM (SELECT saga_id, version FROM outbox ORDER BY claimed_until LIMIT ?2)
             JOIN saga_journal j USING (saga_id, version)
         UNION ALL SELECT 'dead_letter', NULL, reason, count(*), NULL
             FROM dead_letter WHERE closed IS NULL GROUP BY reason",
        [rows::limit(MOST_OUTBOX_COUNTED), rows::limit(OUTBOX_LOOKED_AT)],
    )?;
    Ok(rows::standing(rows)?)
}

pub(super) fn at_risk(connection: &Connection, limit: usize) -> Result<Vec<Stored>, Failure> {
    let found: Vec<StoredColumns> = fetch(
        connection,
        select_stored!("WHERE s.at_risk ORDER BY s.saga_id LIMIT ?1"),
        [rows::limit(limit)],
    )?;
    Ok(rows::all(found)?)
}
