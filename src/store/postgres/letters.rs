//! Dead letters.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::connection::Connections;
use crate::store::rows::{self, DeadLetterColumns, signed};
use crate::store::{DeadLetter, StoreError};

/// A letter that is there already keeps when it was first seen, and takes over the rest.
const BURY: &str = "
INSERT INTO dead_letter AS d (id, source, reason, error, body, headers, tenant, order_id,
                              first_seen, last_seen, attempts)
SELECT id, source, reason, error, body, headers, tenant, order_id, first_seen, last_seen,
       attempts + again - 1
FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::text[],
            $8::text[], $9::bigint[], $10::bigint[], $11::int[], $12::int[])
    AS l (id, source, reason, error, body, headers, tenant, order_id, first_seen, last_seen,
          attempts, again)
ON CONFLICT (id) DO UPDATE
SET reason = excluded.reason, error = excluded.error, last_seen = excluded.last_seen,
    attempts = d.attempts + (SELECT again FROM UNNEST($1::uuid[], $12::int[]) AS l (id, again)
                             WHERE l.id = excluded.id)";

pub(super) async fn bury(
    connections: &Connections,
    letters: &[DeadLetter],
) -> Result<(), StoreError> {
    let during = "burying dead letters";
    // One statement touches a row once, and in sorted order nobody waits in a circle.
    let mut by_id: BTreeMap<Uuid, (&DeadLetter, i32)> = BTreeMap::new();
    for letter in letters {
        let (latest, again) = by_id.entry(letter.id).or_insert((letter, 0));
        *latest = letter;
        *again += 1;
    }
    let letters: Vec<&DeadLetter> = by_id.values().map(|(letter, _)| *letter).collect();
    let again: Vec<i32> = by_id.values().map(|(_, again)| *again).collect();
    let mut attempts = Vec::with_capacity(letters.len());
    for letter in &letters {
        attempts.push(signed(letter.attempts, during)?);
    }
    fn column<'a, T>(letters: &[&'a DeadLetter], of: impl Fn(&'a DeadLetter) -> T) -> Vec<T> {
        letters.iter().map(|letter| of(letter)).collect()
    }
    let query = sqlx::query(BURY)
        .bind(column(&letters, |letter| letter.id))
        .bind(column(&letters, |letter| letter.source.as_str()))
        .bind(column(&letters, |letter| letter.reason.as_str()))
        .bind(column(&letters, |letter| letter.error.as_str()))
        .bind(column(&letters, |letter| letter.body.as_slice()))
        .bind(column(&letters, |letter| letter.headers.as_str()))
        .bind(column(&letters, |letter| letter.tenant.as_deref()))
        .bind(column(&letters, |letter| letter.order_id.as_deref()))
        .bind(column(&letters, |letter| letter.first_seen.0))
        .bind(column(&letters, |letter| letter.last_seen.0))
        .bind(attempts)
        .bind(again);
    connections.execute(during, query).await?;
    Ok(())
}

pub(super) async fn parked(
    connections: &Connections,
    orders: &[(String, String)],
) -> Result<Vec<DeadLetter>, StoreError> {
    if orders.is_empty() {
        return Ok(Vec::new());
    }
    let tenants: Vec<&str> = orders.iter().map(|(tenant, _)| tenant.as_str()).collect();
    let order_ids: Vec<&str> = orders.iter().map(|(_, order_id)| order_id.as_str()).collect();
    let query = sqlx::query_as::<_, DeadLetterColumns>(
        // A lookup for each order, which OFFSET 0 keeps from becoming a join: see `queue`.
        "SELECT l.*
         FROM (SELECT DISTINCT * FROM UNNEST($1::text[], $2::text[])) AS o (tenant, order_id),
         LATERAL (
             SELECT id, source, reason, error, body, headers, tenant, order_id, first_seen,
                    last_seen, attempts
             FROM dead_letter d
             WHERE reason = 'unknown-order'
               AND (d.tenant, d.order_id) = (o.tenant, o.order_id)
             OFFSET 0
         ) l
         ORDER BY first_seen, id",
    );
    rows::all(
        connections.rows("reading parked letters", query.bind(tenants).bind(order_ids)).await?,
    )
}

pub(super) async fn newest(
    connections: &Connections,
    limit: usize,
) -> Result<Vec<DeadLetter>, StoreError> {
    let query = sqlx::query_as::<_, DeadLetterColumns>(
        "SELECT id, source, reason, error, body, headers, tenant, order_id, first_seen,
                last_seen, attempts
         FROM dead_letter ORDER BY last_seen DESC, id DESC LIMIT $1",
    );
    rows::all(connections.rows("reading dead letters", query.bind(rows::limit(limit))).await?)
}
