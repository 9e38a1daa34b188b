//! Questions: sagas, journals, definitions, counts.

use sqlx::pool::PoolConnection;
use sqlx::query::QueryAs;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{FromRow, Sqlite};

use super::error::explain;
use crate::saga::{SagaId, Time};
use crate::store::rows::{self, CountColumns, DefinitionColumns, JournalColumns, StoredColumns};
use crate::store::{Counts, DefinitionRow, Filter, JournalRow, StoreError, Stored, encoding};

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

/// Runs one query on a reader.
pub(super) async fn fetch<Row>(
    readers: &SqlitePool,
    during: &'static str,
    query: QueryAs<'_, Sqlite, Row, SqliteArguments>,
) -> Result<Vec<Row>, StoreError>
where
    Row: Send + Unpin + for<'r> FromRow<'r, SqliteRow>,
{
    query.fetch_all(readers).await.map_err(|error| explain(during, error))
}

pub(super) async fn reader(readers: &SqlitePool) -> Result<PoolConnection<Sqlite>, StoreError> {
    readers.acquire().await.map_err(|error| explain("opening the database file", error))
}

/// The version of the tables; 0 where there are none.
pub(super) async fn version(connection: &mut SqliteConnection) -> Result<usize, StoreError> {
    let (version,): (i64,) = sqlx::query_as("PRAGMA user_version")
        .fetch_one(connection)
        .await
        .map_err(|error| explain("checking the tables", error))?;
    usize::try_from(version).map_err(|_| StoreError::NotMigrated)
}

pub(super) async fn load(readers: &SqlitePool, ids: &[SagaId]) -> Result<Vec<Stored>, StoreError> {
    let ids: Vec<String> = ids.iter().map(|id| id.0.simple().to_string()).collect();
    let query = sqlx::query_as::<_, StoredColumns>(select_stored!(
        "WHERE s.saga_id IN (SELECT unhex(value) FROM json_each(?1))"
    ));
    let ids = serde_json::json!(ids).to_string();
    rows::all(fetch(readers, "loading sagas", query.bind(ids)).await?)
}

pub(super) async fn find(
    readers: &SqlitePool,
    order_id: &str,
    tenant: Option<&str>,
) -> Result<Vec<Stored>, StoreError> {
    let query = sqlx::query_as::<_, StoredColumns>(select_stored!(
        "WHERE o.order_id = ?1 AND (?2 IS NULL OR o.tenant = ?2)
         ORDER BY o.tenant, o.definition"
    ));
    rows::all(fetch(readers, "finding an order", query.bind(order_id).bind(tenant)).await?)
}

pub(super) async fn list(
    readers: &SqlitePool,
    filter: &Filter,
    after: Option<SagaId>,
    limit: usize,
) -> Result<Vec<Stored>, StoreError> {
    // Every id is greater than no bytes at all.
    let query = sqlx::query_as::<_, StoredColumns>(select_stored!(
        "WHERE s.saga_id > coalesce(?1, x'')
           AND (?2 IS NULL OR s.status = ?2)
           AND (?3 IS NULL OR s.attention = ?3)
           AND (?4 IS NULL OR o.tenant = ?4)
           AND (?5 IS NULL OR o.definition = ?5)
           AND (?6 IS NULL OR o.received_at <= ?6)
         ORDER BY s.saga_id LIMIT ?7"
    ))
    .bind(after.map(|id| id.0))
    .bind(filter.status.map(encoding::status_to_number))
    .bind(filter.attention)
    .bind(filter.tenant.as_deref())
    .bind(filter.definition.as_deref())
    .bind(filter.received_before.map(|time| time.0))
    .bind(rows::limit(limit));
    rows::all(fetch(readers, "listing orders", query).await?)
}

pub(super) async fn journal(
    readers: &SqlitePool,
    saga: SagaId,
) -> Result<Vec<JournalRow>, StoreError> {
    let query = sqlx::query_as::<_, JournalColumns>(
        "SELECT version, at, entry FROM saga_journal WHERE saga_id = ?1 ORDER BY version",
    );
    rows::all(fetch(readers, "reading a journal", query.bind(saga.0)).await?)
}

pub(super) async fn definitions(readers: &SqlitePool) -> Result<Vec<DefinitionRow>, StoreError> {
    let query = sqlx::query_as::<_, DefinitionColumns>(
        "SELECT name, version, content, published_at FROM saga_definition ORDER BY name, version",
    );
    rows::all(fetch(readers, "reading definitions", query).await?)
}

pub(super) async fn next_due(readers: &SqlitePool) -> Result<Option<Time>, StoreError> {
    let query = sqlx::query_as::<_, (i64,)>(
        "SELECT due FROM saga WHERE due IS NOT NULL ORDER BY due LIMIT 1",
    );
    let earliest = fetch(readers, "looking for the next due saga", query).await?;
    Ok(earliest.first().map(|&(due,)| Time(due)))
}

pub(super) async fn latest_time(readers: &SqlitePool) -> Result<Option<Time>, StoreError> {
    let query = sqlx::query_as::<_, (Option<i64>,)>("SELECT max(at) FROM saga_journal");
    let rows = fetch(readers, "looking for the latest time", query).await?;
    Ok(rows.first().and_then(|&(latest,)| latest).map(Time))
}

pub(super) async fn counts(readers: &SqlitePool) -> Result<Counts, StoreError> {
    let query = sqlx::query_as::<_, CountColumns>(
        "SELECT 'saga', status, count(*) FROM saga GROUP BY status
         UNION ALL SELECT 'attention', NULL, count(*) FROM saga WHERE attention
         UNION ALL SELECT 'outbox', NULL, count(*) FROM outbox
         UNION ALL SELECT 'dead_letter', NULL, count(*) FROM dead_letter",
    );
    rows::counts(fetch(readers, "counting", query).await?)
}
