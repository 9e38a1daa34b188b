//! What operators did, and what waits for a second person.

use rusqlite::{Connection, Transaction, params};
use uuid::Uuid;

use super::connection::{execute, fetch};
use super::error::Failure;
use crate::saga::SagaId;
use crate::store::rows::{self, AuditColumns, RequestColumns};
use crate::store::{AuditRow, AuditedRow, RequestRow};

pub(super) fn deeds(connection: &Connection, saga: SagaId) -> Result<Vec<AuditedRow>, Failure> {
    let found: Vec<AuditColumns> = fetch(
        connection,
        "SELECT version, id, at, actor, approver, verb, detail, reason
         FROM operator_audit WHERE saga_id = ?1 ORDER BY version, id",
        [saga.0],
    )?;
    Ok(rows::all(found)?)
}

pub(super) fn write_deed(
    transaction: &Transaction<'_>,
    saga: Uuid,
    version: i32,
    row: &AuditRow,
) -> Result<(), Failure> {
    execute(
        transaction,
        "INSERT INTO operator_audit (saga_id, id, version, at, actor, verb, reason, approver,
                                     detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
        params![
            saga,
            row.id,
            version,
            row.at.0,
            row.actor,
            row.verb,
            row.reason,
            row.approver,
            row.detail,
        ],
    )?;
    Ok(())
}

pub(super) fn keep_request(transaction: &Transaction<'_>, row: &RequestRow) -> Result<(), Failure> {
    execute(
        transaction,
        "INSERT INTO operator_request (id, tenant, order_id, detail, actor, reason, asked_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
        params![
            row.id,
            row.tenant,
            row.order_id,
            row.detail,
            row.actor,
            row.reason,
            row.asked_at.0,
        ],
    )?;
    Ok(())
}

pub(super) fn requests(connection: &Connection, limit: usize) -> Result<Vec<RequestRow>, Failure> {
    let found: Vec<RequestColumns> = fetch(
        connection,
        "SELECT id, tenant, order_id, detail, actor, reason, asked_at
         FROM operator_request ORDER BY asked_at, id LIMIT ?1",
        [rows::limit(limit)],
    )?;
    Ok(rows::all(found)?)
}

pub(super) fn drop_request(transaction: &Transaction<'_>, id: Uuid) -> Result<(), Failure> {
    execute(transaction, "DELETE FROM operator_request WHERE id = ?1", [id])?;
    Ok(())
}
