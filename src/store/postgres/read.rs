//! Questions: sagas, journals, definitions, counts.

use super::connection::Connections;
use crate::saga::{SagaId, Time};
use crate::store::rows::{
    self, CountColumns, DefinitionColumns, JournalColumns, StoredColumns, signed,
};
use crate::store::{
    Counts, DefinitionRow, Filter, JournalRow, Published, StoreError, Stored, encoding,
};

/// The columns of [`StoredColumns`], as a static text with what follows.
macro_rules! select_stored {
    ($rest:literal) => {
        concat!(
            "SELECT s.saga_id, s.version, s.due, s.state, o.tenant, o.order_id, o.definition, ",
            "o.definition_version, o.received_at, o.traceparent, o.payload ",
            "FROM saga s JOIN saga_order o ON o.saga_id = s.saga_id ",
            $rest
        )
    };
}
pub(super) use select_stored;

pub(super) async fn now(connections: &Connections) -> Result<Time, StoreError> {
    let query = sqlx::query_as::<_, (i64,)>(
        "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint",
    );
    match connections.rows("asking for the time", query).await?[..] {
        [(now,)] => Ok(Time(now)),
        _ => Err(StoreError::Unreadable { what: "the time" }),
    }
}

pub(super) async fn find(
    connections: &Connections,
    order_id: &str,
    tenant: Option<&str>,
) -> Result<Vec<Stored>, StoreError> {
    let query = sqlx::query_as::<_, StoredColumns>(select_stored!(
        "WHERE o.order_id = $1 AND ($2::text IS NULL OR o.tenant = $2)
         ORDER BY o.tenant, o.definition"
    ));
    rows::all(connections.rows("finding an order", query.bind(order_id).bind(tenant)).await?)
}

pub(super) async fn list(
    connections: &Connections,
    filter: &Filter,
    after: Option<SagaId>,
    limit: usize,
) -> Result<Vec<Stored>, StoreError> {
    // Parameters that are null fall out of the plan: it is made anew for each call.
    let query = sqlx::query_as::<_, StoredColumns>(select_stored!(
        "WHERE ($1::uuid IS NULL OR s.saga_id > $1)
           AND ($2::smallint IS NULL OR s.status = $2)
           AND ($3::bool IS NULL OR s.attention = $3)
           AND ($4::text IS NULL OR o.tenant = $4)
           AND ($5::text IS NULL OR o.definition = $5)
           AND ($6::bigint IS NULL OR o.received_at <= $6)
         ORDER BY s.saga_id LIMIT $7"
    ))
    .bind(after.map(|id| id.0))
    .bind(filter.status.map(encoding::status_to_number))
    .bind(filter.attention)
    .bind(filter.tenant.as_deref())
    .bind(filter.definition.as_deref())
    .bind(filter.received_before.map(|time| time.0))
    .bind(rows::limit(limit));
    rows::all(connections.rows("listing orders", query).await?)
}

pub(super) async fn journal(
    connections: &Connections,
    saga: SagaId,
) -> Result<Vec<JournalRow>, StoreError> {
    let query = sqlx::query_as::<_, JournalColumns>(
        "SELECT version, at, entry FROM saga_journal WHERE saga_id = $1 ORDER BY version",
    );
    rows::all(connections.rows("reading a journal", query.bind(saga.0)).await?)
}

pub(super) async fn publish_definition(
    connections: &Connections,
    row: &DefinitionRow,
) -> Result<Published, StoreError> {
    let during = "publishing a definition";
    let version = signed(row.version, during)?;
    let insert = sqlx::query(
        "INSERT INTO saga_definition (name, version, content, published_at)
         VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    );
    let insert = insert.bind(&row.name).bind(version).bind(&row.content).bind(row.published_at.0);
    if connections.execute(during, insert).await? == 1 {
        return Ok(Published::New);
    }
    // It was there, and what is there never changes: a second statement can compare in peace.
    let compare = sqlx::query_as::<_, (bool,)>(
        "SELECT content = $3 FROM saga_definition WHERE name = $1 AND version = $2",
    );
    let compare = compare.bind(&row.name).bind(version).bind(&row.content);
    match connections.rows(during, compare).await?[..] {
        [(true,)] => Ok(Published::AlreadyThere),
        _ => Err(StoreError::DefinitionDiffers { name: row.name.clone(), version: row.version }),
    }
}

pub(super) async fn definitions(
    connections: &Connections,
) -> Result<Vec<DefinitionRow>, StoreError> {
    let query = sqlx::query_as::<_, DefinitionColumns>(
        "SELECT name, version, content, published_at FROM saga_definition
         ORDER BY name COLLATE \"C\", version",
    );
    rows::all(connections.rows("reading definitions", query).await?)
}

pub(super) async fn latest_time(connections: &Connections) -> Result<Option<Time>, StoreError> {
    let sql = "SET LOCAL enable_seqscan = on; SELECT max(at) FROM saga_journal";
    let rows: Vec<(Option<i64>,)> = connections.script("looking for the latest time", sql).await?;
    Ok(rows.first().and_then(|&(latest,)| latest).map(Time))
}

pub(super) async fn counts(connections: &Connections) -> Result<Counts, StoreError> {
    // By status needs every saga, and then the table's own order is the fastest.
    let sql = "SET LOCAL enable_seqscan = on;
        SELECT 'saga', status, count(*) FROM saga GROUP BY status
        UNION ALL SELECT 'attention', NULL, count(*) FROM saga WHERE attention
        UNION ALL SELECT 'outbox', NULL, count(*) FROM outbox
        UNION ALL SELECT 'dead_letter', NULL, count(*) FROM dead_letter WHERE closed IS NULL";
    rows::counts(connections.script::<CountColumns>("counting", sql).await?)
}
