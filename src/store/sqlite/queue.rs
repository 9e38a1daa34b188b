//! What workers take turns at: due sagas and outbox rows.

use uuid::Uuid;

use super::error::explain;
use super::writing::Transaction;
use crate::saga::{SagaId, Time};
use crate::store::rows::{self, OutboxColumns, signed, small};
use crate::store::{OutboxKey, OutboxRow, StoreError};

pub(super) const RESCHEDULING: &str = "rescheduling";
pub(super) const DELETING: &str = "deleting outbox rows";

pub(super) async fn claim_due(
    mut transaction: Transaction<'_>,
    now: Time,
    until: Time,
    limit: usize,
) -> Result<Vec<SagaId>, StoreError> {
    let during = transaction.during();
    let due: Vec<(Uuid,)> =
        sqlx::query_as("SELECT saga_id FROM saga WHERE due <= ?1 ORDER BY due LIMIT ?2")
            .bind(now.0)
            .bind(rows::limit(limit))
            .fetch_all(transaction.connection())
            .await
            .map_err(|error| explain(during, error))?;
    for (id,) in &due {
        let query = sqlx::query("UPDATE saga SET due = ?2 WHERE saga_id = ?1");
        transaction.execute(query.bind(*id).bind(until.0)).await?;
    }
    transaction.commit().await?;
    Ok(due.into_iter().map(|(id,)| SagaId(id)).collect())
}

pub(super) async fn reschedule(
    mut transaction: Transaction<'_>,
    sagas: &[(SagaId, u32, Option<Time>)],
) -> Result<(), StoreError> {
    for (id, version, due) in sagas {
        let query = sqlx::query("UPDATE saga SET due = ?3 WHERE saga_id = ?1 AND version = ?2");
        let query =
            query.bind(id.0).bind(signed(*version, RESCHEDULING)?).bind(due.map(|due| due.0));
        transaction.execute(query).await?;
    }
    transaction.commit().await
}

pub(super) async fn claim_outbox(
    mut transaction: Transaction<'_>,
    now: Time,
    until: Time,
    limit: usize,
) -> Result<Vec<OutboxRow>, StoreError> {
    let during = transaction.during();
    let claimed: Vec<OutboxColumns> = sqlx::query_as(
        "UPDATE outbox SET claimed_until = ?2
         WHERE (saga_id, version, number) IN (
             SELECT saga_id, version, number FROM outbox WHERE claimed_until <= ?1
             ORDER BY claimed_until LIMIT ?3)
         RETURNING saga_id, version, number, claimed_until, channel, message",
    )
    .bind(now.0)
    .bind(until.0)
    .bind(rows::limit(limit))
    .fetch_all(transaction.connection())
    .await
    .map_err(|error| explain(during, error))?;
    let mut claimed: Vec<OutboxRow> = rows::all(claimed)?;
    claimed.sort_unstable_by_key(|row| row.key);
    transaction.commit().await?;
    Ok(claimed)
}

pub(super) async fn delete_outbox(
    mut transaction: Transaction<'_>,
    keys: &[OutboxKey],
) -> Result<(), StoreError> {
    for key in keys {
        let query =
            sqlx::query("DELETE FROM outbox WHERE saga_id = ?1 AND version = ?2 AND number = ?3");
        let query = query
            .bind(key.saga.0)
            .bind(signed(key.version, DELETING)?)
            .bind(small(key.number, DELETING)?);
        transaction.execute(query).await?;
    }
    transaction.commit().await
}
