//! What is watched: answered from indexes that hold only what is asked for.

use uuid::Uuid;

use super::connection::Connections;
use super::read::select_stored;
use crate::saga::Time;
use crate::store::rows::{self, StandingColumns, StoredColumns};
use crate::store::watch::{MOST_OUTBOX_COUNTED, OUTBOX_LOOKED_AT};
use crate::store::{Standing, StoreError, Stored};

pub(super) async fn take_duty(
    connections: &Connections,
    name: &'static str,
    holder: Uuid,
    now: Time,
    until: Time,
) -> Result<bool, StoreError> {
    let query = sqlx::query(
        "INSERT INTO duty AS d (name, holder, until) VALUES ($1, $2, $4)
         ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
         WHERE d.holder = excluded.holder OR d.until <= $3",
    );
    let query = query.bind(name).bind(holder).bind(now.0).bind(until.0);
    Ok(connections.execute("taking a duty", query).await? == 1)
}

/// Measured with a million sagas: of which 20,000 have not ended, 3 to 8 ms (counting all of them
/// took 200); of which none has ended, and none of whose pages was vacuumed since, about a second.
/// The connection's statement timeout bounds it.
const STANDING: &str = "
SELECT 'active', status, NULL, count(*), min(started)
FROM saga WHERE status IN (1, 2) GROUP BY status
UNION ALL SELECT 'attention', NULL, NULL, count(*), NULL FROM saga WHERE attention
UNION ALL SELECT 'at_risk', NULL, NULL, count(*), NULL FROM saga WHERE at_risk
UNION ALL SELECT 'due', NULL, NULL, 0,
    (SELECT due FROM saga WHERE due IS NOT NULL ORDER BY due LIMIT 1)
UNION ALL SELECT 'outbox', NULL, NULL, count(*), NULL
    FROM (SELECT FROM outbox ORDER BY claimed_until LIMIT $1) AS o
UNION ALL SELECT 'outbox_oldest', NULL, NULL, 0, min(j.at)
    FROM (SELECT saga_id, version FROM outbox ORDER BY claimed_until LIMIT $2) AS o,
        LATERAL (SELECT at FROM saga_journal j
                 WHERE j.saga_id = o.saga_id AND j.version = o.version OFFSET 0) AS j
UNION ALL SELECT 'dead_letter', NULL, reason, count(*), NULL FROM dead_letter
WHERE closed IS NULL GROUP BY reason";

pub(super) async fn standing(connections: &Connections) -> Result<Standing, StoreError> {
    let query = sqlx::query_as::<_, StandingColumns>(STANDING)
        .bind(rows::limit(MOST_OUTBOX_COUNTED))
        .bind(rows::limit(OUTBOX_LOOKED_AT));
    rows::standing(connections.rows("looking at what stands", query).await?)
}

pub(super) async fn at_risk(
    connections: &Connections,
    limit: usize,
) -> Result<Vec<Stored>, StoreError> {
    let query = sqlx::query_as::<_, StoredColumns>(select_stored!(
        "WHERE s.at_risk ORDER BY s.saga_id LIMIT $1"
    ));
    let query = query.bind(rows::limit(limit));
    rows::all(connections.rows("reading what is at risk", query).await?)
}
