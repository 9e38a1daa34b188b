//! Writing changes and definitions.

use rusqlite::{Transaction, params};

use super::connection::{execute, fetch};
use super::deeds::write_deed;
use super::error::Failure;
use super::shipments::{write_scan, write_shipment};
use crate::store::rows::{signed, small};
use crate::store::{Change, DefinitionRow, OrderRow, Published, StoreError, Written, encoding};

pub(super) const COMMITTING: &str = "committing";
pub(super) const PUBLISHING: &str = "publishing a definition";

pub(super) fn commit(
    transaction: &Transaction<'_>,
    batch: &[Change],
) -> Result<Vec<Written>, Failure> {
    batch.iter().map(|change| write(transaction, change)).collect()
}

fn write(transaction: &Transaction<'_>, change: &Change) -> Result<Written, Failure> {
    if !write_saga(transaction, change)? {
        return Ok(Written::LostRace);
    }
    let id = change.saga.id.0;
    if let Some(order) = change.new_order(COMMITTING)? {
        write_order(transaction, order)?;
    }
    for row in &change.journal {
        execute(
            transaction,
            "INSERT INTO saga_journal (saga_id, version, at, entry) VALUES (?1, ?2, ?3, ?4)",
            params![
                id,
                signed(row.version, COMMITTING)?,
                row.at().0,
                encoding::entry_to_bytes(row),
            ],
        )?;
    }
    for row in &change.outbox {
        execute(
            transaction,
            "INSERT INTO outbox (saga_id, version, number, claimed_until, channel, message)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                id,
                signed(row.key.version, COMMITTING)?,
                small(row.key.number, COMMITTING)?,
                row.claimed_until.0,
                row.channel,
                row.message,
            ],
        )?;
    }
    for letter in &change.revived {
        execute(transaction, "DELETE FROM dead_letter WHERE id = ?1", [letter])?;
    }
    for row in &change.shipments {
        write_shipment(transaction, row)?;
    }
    for row in &change.scans {
        write_scan(transaction, row)?;
    }
    if let Some(row) = &change.audit {
        write_deed(transaction, id, signed(change.version(), COMMITTING)?, row)?;
    }
    Ok(Written::Committed)
}

/// Whether this change won.
fn write_saga(transaction: &Transaction<'_>, change: &Change) -> Result<bool, Failure> {
    let id = change.saga.id.0;
    let version = signed(change.version(), COMMITTING)?;
    let status = encoding::status_to_number(change.saga.status);
    let attention = !change.saga.attention.is_empty();
    let due = change.due.map(|due| due.0);
    let state = encoding::saga_to_bytes(&change.saga);
    let at_risk = change.saga.is_at_risk();
    let written = match change.from_version {
        0 => execute(
            transaction,
            "INSERT INTO saga (saga_id, version, status, attention, due, state, at_risk, started)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
            params![id, version, status, attention, due, state, at_risk, change.saga.started_at.0],
        )?,
        from => execute(
            transaction,
            "UPDATE saga SET version = ?2, status = ?3, attention = ?4, due = ?5, state = ?6,
                             at_risk = ?8
             WHERE saga_id = ?1 AND version = ?7",
            params![id, version, status, attention, due, state, signed(from, COMMITTING)?, at_risk],
        )?,
    };
    Ok(written == 1)
}

fn write_order(transaction: &Transaction<'_>, order: &OrderRow) -> Result<(), Failure> {
    execute(
        transaction,
        "INSERT INTO saga_order (saga_id, tenant, order_id, definition, definition_version,
                                 received_at, traceparent, payload)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            order.saga.0,
            order.tenant,
            order.order_id,
            order.definition,
            signed(order.definition_version, COMMITTING)?,
            order.received_at.0,
            order.traceparent,
            order.payload,
        ],
    )?;
    Ok(())
}

pub(super) fn publish_definition(
    transaction: &Transaction<'_>,
    row: &DefinitionRow,
) -> Result<Published, Failure> {
    let version = signed(row.version, PUBLISHING)?;
    let stored: Vec<(String,)> = fetch(
        transaction,
        "SELECT content FROM saga_definition WHERE name = ?1 AND version = ?2",
        params![row.name, version],
    )?;
    match stored.first() {
        Some((content,)) if *content == row.content => Ok(Published::AlreadyThere),
        Some(_) => {
            let name = row.name.clone();
            Err(StoreError::DefinitionDiffers { name, version: row.version }.into())
        }
        None => {
            execute(
                transaction,
                "INSERT INTO saga_definition (name, version, content, published_at)
                 VALUES (?1, ?2, ?3, ?4)",
                params![row.name, version, row.content, row.published_at.0],
            )?;
            Ok(Published::New)
        }
    }
}
