//! Writing changes and definitions.

use super::error::explain;
use super::writing::Transaction;
use crate::store::rows::{signed, small};
use crate::store::{Change, DefinitionRow, OrderRow, Published, StoreError, Written, encoding};

pub(super) const DURING: &str = "committing";

pub(super) async fn commit(
    mut transaction: Transaction<'_>,
    batch: &[Change],
) -> Result<Vec<Written>, StoreError> {
    let mut written = Vec::with_capacity(batch.len());
    for change in batch {
        written.push(write(&mut transaction, change).await?);
    }
    transaction.commit().await?;
    Ok(written)
}

async fn write(transaction: &mut Transaction<'_>, change: &Change) -> Result<Written, StoreError> {
    if !write_saga(transaction, change).await? {
        return Ok(Written::LostRace);
    }
    let id = change.saga.id.0;
    if let Some(order) = change.new_order(DURING)? {
        write_order(transaction, order).await?;
    }
    for row in &change.journal {
        let query = sqlx::query(
            "INSERT INTO saga_journal (saga_id, version, at, entry) VALUES (?1, ?2, ?3, ?4)",
        );
        let query = query
            .bind(id)
            .bind(signed(row.version, DURING)?)
            .bind(row.at.0)
            .bind(encoding::entry_to_bytes(&row.input, &row.effects));
        transaction.execute(query).await?;
    }
    for row in &change.outbox {
        let query = sqlx::query(
            "INSERT INTO outbox (saga_id, version, number, claimed_until, channel, message)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        );
        let query = query
            .bind(id)
            .bind(signed(row.key.version, DURING)?)
            .bind(small(row.key.number, DURING)?)
            .bind(row.claimed_until.0)
            .bind(row.channel.as_str())
            .bind(row.message.as_slice());
        transaction.execute(query).await?;
    }
    for letter in &change.revived {
        let query = sqlx::query("DELETE FROM dead_letter WHERE id = ?1");
        transaction.execute(query.bind(*letter)).await?;
    }
    if let Some(row) = &change.audit {
        let query = sqlx::query(
            "INSERT INTO operator_audit (saga_id, id, version, at, actor, verb, reason)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
        );
        let query = query
            .bind(id)
            .bind(row.id)
            .bind(signed(change.version(), DURING)?)
            .bind(row.at.0)
            .bind(row.actor.as_str())
            .bind(row.verb.as_str())
            .bind(row.reason.as_str());
        transaction.execute(query).await?;
    }
    Ok(Written::Committed)
}

/// Whether this change won.
async fn write_saga(
    transaction: &mut Transaction<'_>,
    change: &Change,
) -> Result<bool, StoreError> {
    let query = match change.from_version {
        0 => sqlx::query(
            "INSERT INTO saga (saga_id, version, status, attention, due, state)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
        ),
        _ => sqlx::query(
            "UPDATE saga SET version = ?2, status = ?3, attention = ?4, due = ?5, state = ?6
             WHERE saga_id = ?1 AND version = ?7",
        ),
    };
    let mut query = query
        .bind(change.saga.id.0)
        .bind(signed(change.version(), DURING)?)
        .bind(encoding::status_to_number(change.saga.status))
        .bind(!change.saga.attention.is_empty())
        .bind(change.due.map(|due| due.0))
        .bind(encoding::saga_to_bytes(&change.saga));
    if change.from_version > 0 {
        query = query.bind(signed(change.from_version, DURING)?);
    }
    Ok(transaction.execute(query).await? == 1)
}

async fn write_order(
    transaction: &mut Transaction<'_>,
    order: &OrderRow,
) -> Result<(), StoreError> {
    let query = sqlx::query(
        "INSERT INTO saga_order (saga_id, tenant, order_id, definition, definition_version,
                                 received_at, traceparent, payload)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    );
    let query = query
        .bind(order.saga.0)
        .bind(order.tenant.as_str())
        .bind(order.order_id.as_str())
        .bind(order.definition.as_str())
        .bind(signed(order.definition_version, DURING)?)
        .bind(order.received_at.0)
        .bind(order.traceparent.as_str())
        .bind(order.payload.as_slice());
    transaction.execute(query).await?;
    Ok(())
}

pub(super) async fn publish_definition(
    mut transaction: Transaction<'_>,
    row: &DefinitionRow,
) -> Result<Published, StoreError> {
    let during = transaction.during();
    let version = signed(row.version, during)?;
    let stored: Option<(String,)> =
        sqlx::query_as("SELECT content FROM saga_definition WHERE name = ?1 AND version = ?2")
            .bind(row.name.as_str())
            .bind(version)
            .fetch_optional(transaction.connection())
            .await
            .map_err(|error| explain(during, error))?;
    let published = match stored {
        Some((content,)) if content == row.content => Published::AlreadyThere,
        Some(_) => {
            let name = row.name.clone();
            return Err(StoreError::DefinitionDiffers { name, version: row.version });
        }
        None => Published::New,
    };
    if published == Published::New {
        let query = sqlx::query(
            "INSERT INTO saga_definition (name, version, content, published_at)
             VALUES (?1, ?2, ?3, ?4)",
        );
        let query = query
            .bind(row.name.as_str())
            .bind(version)
            .bind(row.content.as_str())
            .bind(row.published_at.0);
        transaction.execute(query).await?;
    }
    transaction.commit().await?;
    Ok(published)
}
