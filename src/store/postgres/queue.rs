//! What workers take turns at: due sagas and outbox rows. Claims skip what another worker
//! holds at this moment, so they never wait.
//!
//! The outbox is empty nearly always, and so say its statistics, also when an outage has filled
//! it with a million rows. A join with it would then be planned for one row, and read all of
//! them for every row it looks for. So its rows are reached in ways that leave no choice: by
//! their place (`ctid`), and by a lookup for each key, which `OFFSET 0` keeps from becoming a
//! join.

use uuid::Uuid;

use super::connection::Connections;
use crate::saga::{SagaId, Time};
use crate::store::rows::{self, OutboxColumns, signed, small};
use crate::store::{OutboxKey, OutboxRow, StoreError};

pub(super) async fn claim_due(
    connections: &Connections,
    now: Time,
    until: Time,
    limit: usize,
) -> Result<Vec<SagaId>, StoreError> {
    let query = sqlx::query_as::<_, (Uuid,)>(
        "WITH due AS MATERIALIZED (
             SELECT saga_id, due FROM saga WHERE due <= $1
             ORDER BY due LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED
         ), claimed AS (
             UPDATE saga s SET due = $2 FROM due WHERE s.saga_id = due.saga_id
         )
         SELECT saga_id FROM due ORDER BY due",
    );
    let query = query.bind(now.0).bind(until.0).bind(rows::limit(limit));
    let claimed = connections.rows("claiming due sagas", query).await?;
    Ok(claimed.into_iter().map(|(id,)| SagaId(id)).collect())
}

pub(super) async fn next_due(connections: &Connections) -> Result<Option<Time>, StoreError> {
    let query = sqlx::query_as::<_, (i64,)>(
        "SELECT due FROM saga WHERE due IS NOT NULL ORDER BY due LIMIT 1",
    );
    let earliest = connections.rows("looking for the next due saga", query).await?;
    Ok(earliest.first().map(|&(due,)| Time(due)))
}

pub(super) async fn reschedule(
    connections: &Connections,
    sagas: &[(SagaId, u32, Option<Time>)],
) -> Result<(), StoreError> {
    let during = "rescheduling";
    let mut sorted = sagas.to_vec();
    sorted.sort_unstable();
    let mut ids = Vec::with_capacity(sorted.len());
    let mut versions = Vec::with_capacity(sorted.len());
    let mut dues = Vec::with_capacity(sorted.len());
    for (id, version, due) in sorted {
        ids.push(id.0);
        versions.push(signed(version, during)?);
        dues.push(due.map(|due| due.0));
    }
    let query = sqlx::query(
        "UPDATE saga s SET due = c.due
         FROM UNNEST($1::uuid[], $2::int[], $3::bigint[]) AS c (saga_id, version, due)
         WHERE s.saga_id = c.saga_id AND s.version = c.version",
    );
    connections.execute(during, query.bind(ids).bind(versions).bind(dues)).await?;
    Ok(())
}

pub(super) async fn claim_outbox(
    connections: &Connections,
    now: Time,
    until: Time,
    limit: usize,
) -> Result<Vec<OutboxRow>, StoreError> {
    let query = sqlx::query_as::<_, OutboxColumns>(
        "WITH free AS MATERIALIZED (
             SELECT ctid FROM outbox WHERE claimed_until <= $1
             ORDER BY claimed_until LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED
         ), claimed AS (
             UPDATE outbox SET claimed_until = $2 WHERE ctid = ANY (ARRAY(SELECT ctid FROM free))
             RETURNING saga_id, version, number, claimed_until, channel, message
         )
         SELECT * FROM claimed ORDER BY saga_id, version, number",
    );
    let query = query.bind(now.0).bind(until.0).bind(rows::limit(limit));
    rows::all(connections.rows("claiming outbox rows", query).await?)
}

pub(super) async fn delete_outbox(
    connections: &Connections,
    rows: &[(OutboxKey, Time)],
) -> Result<u64, StoreError> {
    let during = "deleting outbox rows";
    let mut sorted = rows.to_vec();
    sorted.sort_unstable_by_key(|(key, claimed_until)| (*claimed_until, *key));
    let mut claims = Vec::with_capacity(sorted.len());
    let mut sagas = Vec::with_capacity(sorted.len());
    let mut versions = Vec::with_capacity(sorted.len());
    let mut numbers = Vec::with_capacity(sorted.len());
    for (key, claimed_until) in sorted {
        claims.push(claimed_until.0);
        sagas.push(key.saga.0);
        versions.push(signed(key.version, during)?);
        numbers.push(small(key.number, during)?);
    }
    let query = sqlx::query(
        "DELETE FROM outbox WHERE ctid = ANY (ARRAY(
             SELECT o.ctid
             FROM UNNEST($1::bigint[], $2::uuid[], $3::int[], $4::smallint[])
                     AS k (claimed_until, saga_id, version, number),
                 LATERAL (
                     SELECT ctid FROM outbox o
                     WHERE (o.claimed_until, o.saga_id, o.version, o.number)
                         = (k.claimed_until, k.saga_id, k.version, k.number)
                     OFFSET 0
                 ) o
         ))",
    );
    let query = query.bind(claims).bind(sagas).bind(versions).bind(numbers);
    connections.execute(during, query).await
}

/// Makes the room of deleted rows free for new ones: autovacuum looks once a minute, and in a
/// minute under load the outbox would have grown to gigabytes. Beside another vacuum it does
/// nothing. A failure is not told: this is tried again soon, and autovacuum still comes.
pub(super) async fn vacuum_outbox(connections: &Connections) {
    let query = sqlx::query("VACUUM (SKIP_LOCKED, TRUNCATE off) outbox");
    let _ = connections.execute("vacuuming the outbox", query).await;
}
