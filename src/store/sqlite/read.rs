//! Questions: sagas, journals, definitions, counts.

use rusqlite::{Connection, params};

use super::connection::fetch;
use super::error::Failure;
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
pub(super) use select_stored;

/// The version of the tables; 0 where there are none.
pub(super) fn version(connection: &Connection) -> Result<usize, Failure> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    Ok(usize::try_from(version).map_err(|_| StoreError::NotMigrated)?)
}

pub(super) fn load(connection: &Connection, ids: &[SagaId]) -> Result<Vec<Stored>, Failure> {
    let mut stored = Vec::with_capacity(ids.len());
    for id in ids {
        let found: Vec<StoredColumns> =
            fetch(connection, select_stored!("WHERE s.saga_id = ?1"), [id.0])?;
        stored.extend(rows::all::<Stored>(found)?);
    }
    Ok(stored)
}

pub(super) fn find(
    connection: &Connection,
    order_id: &str,
    tenant: Option<&str>,
) -> Result<Vec<Stored>, Failure> {
    let found: Vec<StoredColumns> = fetch(
        connection,
        select_stored!(
            "WHERE o.order_id = ?1 AND (?2 IS NULL OR o.tenant = ?2)
             ORDER BY o.tenant, o.definition"
        ),
        params![order_id, tenant],
    )?;
    Ok(rows::all(found)?)
}

pub(super) fn list(
    connection: &Connection,
    filter: &Filter,
    after: Option<SagaId>,
    limit: usize,
) -> Result<Vec<Stored>, Failure> {
    // Every id is greater than no bytes at all.
    let found: Vec<StoredColumns> = fetch(
        connection,
        select_stored!(
            "WHERE s.saga_id > coalesce(?1, x'')
               AND (?2 IS NULL OR s.status = ?2)
               AND (?3 IS NULL OR s.attention = ?3)
               AND (?4 IS NULL OR o.tenant = ?4)
               AND (?5 IS NULL OR o.definition = ?5)
               AND (?6 IS NULL OR o.received_at <= ?6)
             ORDER BY s.saga_id LIMIT ?7"
        ),
        params![
            after.map(|id| id.0),
            filter.status.map(encoding::status_to_number),
            filter.attention,
            filter.tenant,
            filter.definition,
            filter.received_before.map(|time| time.0),
            rows::limit(limit),
        ],
    )?;
    Ok(rows::all(found)?)
}

pub(super) fn journal(connection: &Connection, saga: SagaId) -> Result<Vec<JournalRow>, Failure> {
    let journal: Vec<JournalColumns> = fetch(
        connection,
        "SELECT version, at, entry FROM saga_journal WHERE saga_id = ?1 ORDER BY version",
        [saga.0],
    )?;
    Ok(rows::all(journal)?)
}

pub(super) fn definitions(connection: &Connection) -> Result<Vec<DefinitionRow>, Failure> {
    let definitions: Vec<DefinitionColumns> = fetch(
        connection,
        "SELECT name, version, content, published_at FROM saga_definition ORDER BY name, version",
        [],
    )?;
    Ok(rows::all(definitions)?)
}

pub(super) fn next_due(connection: &Connection) -> Result<Option<Time>, Failure> {
    let earliest: Vec<(i64,)> =
        fetch(connection, "SELECT due FROM saga WHERE due IS NOT NULL ORDER BY due LIMIT 1", [])?;
    Ok(earliest.first().map(|&(due,)| Time(due)))
}

pub(super) fn latest_time(connection: &Connection) -> Result<Option<Time>, Failure> {
    let latest: Vec<(Option<i64>,)> = fetch(connection, "SELECT max(at) FROM saga_journal", [])?;
    Ok(latest.first().and_then(|&(latest,)| latest).map(Time))
}

pub(super) fn counts(connection: &Connection) -> Result<Counts, Failure> {
    let counted: Vec<CountColumns> = fetch(
        connection,
        "SELECT 'saga', status, count(*) FROM saga GROUP BY status
         UNION ALL SELECT 'attention', NULL, count(*) FROM saga WHERE attention
         UNION ALL SELECT 'outbox', NULL, count(*) FROM outbox
         UNION ALL SELECT 'dead_letter', NULL, count(*) FROM dead_letter WHERE closed IS NULL",
        [],
    )?;
    Ok(rows::counts(counted)?)
}
