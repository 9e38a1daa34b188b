//! What workers take turns at: due sagas and outbox rows.

use rusqlite::{Transaction, params};
use uuid::Uuid;

use super::connection::{execute, fetch};
use super::error::Failure;
use crate::saga::{SagaId, Time};
use crate::store::rows::{self, OutboxColumns, signed, small};
use crate::store::{OutboxKey, OutboxRow};

pub(super) const RESCHEDULING: &str = "rescheduling";
pub(super) const DELETING: &str = "deleting outbox rows";

pub(super) fn claim_due(
    transaction: &Transaction<'_>,
    now: Time,
    until: Time,
    limit: usize,
) -> Result<Vec<SagaId>, Failure> {
    let due: Vec<(Uuid,)> = fetch(
        transaction,
        "SELECT saga_id FROM saga WHERE due <= ?1 ORDER BY due LIMIT ?2",
        params![now.0, rows::limit(limit)],
    )?;
    for (id,) in &due {
        execute(transaction, "UPDATE saga SET due = ?2 WHERE saga_id = ?1", params![id, until.0])?;
    }
    Ok(due.into_iter().map(|(id,)| SagaId(id)).collect())
}

pub(super) fn reschedule(
    transaction: &Transaction<'_>,
    sagas: &[(SagaId, u32, Option<Time>)],
) -> Result<(), Failure> {
    for (id, version, due) in sagas {
        execute(
            transaction,
            "UPDATE saga SET due = ?3 WHERE saga_id = ?1 AND version = ?2",
            params![id.0, signed(*version, RESCHEDULING)?, due.map(|due| due.0)],
        )?;
    }
    Ok(())
}

pub(super) fn claim_outbox(
    transaction: &Transaction<'_>,
    now: Time,
    until: Time,
    limit: usize,
) -> Result<Vec<OutboxRow>, Failure> {
    let claimed: Vec<OutboxColumns> = fetch(
        transaction,
        "UPDATE outbox SET claimed_until = ?2
         WHERE (saga_id, version, number) IN (
             SELECT saga_id, version, number FROM outbox WHERE claimed_until <= ?1
             ORDER BY claimed_until LIMIT ?3)
         RETURNING saga_id, version, number, claimed_until, channel, message",
        params![now.0, until.0, rows::limit(limit)],
    )?;
    let mut claimed: Vec<OutboxRow> = rows::all(claimed)?;
    claimed.sort_unstable_by_key(|row| row.key);
    Ok(claimed)
}

pub(super) fn delete_outbox(
    transaction: &Transaction<'_>,
    rows: &[(OutboxKey, Time)],
) -> Result<(), Failure> {
    for (key, claimed_until) in rows {
        let (version, number) = (signed(key.version, DELETING)?, small(key.number, DELETING)?);
        execute(
            transaction,
            "DELETE FROM outbox
             WHERE saga_id = ?1 AND version = ?2 AND number = ?3 AND claimed_until = ?4",
            params![key.saga.0, version, number, claimed_until.0],
        )?;
    }
    Ok(())
}
