//! Dead letters: written down, found again, corrected, discarded.

use std::collections::BTreeMap;

use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use uuid::Uuid;

use super::connection::Connections;
use crate::saga::Time;
use crate::store::rows::{self, DeadLetterColumns, GroupColumns, counted, signed};
use crate::store::{Closed, DeadLetter, LetterDeed, LetterFilter, LetterGroup, StoreError};

/// The columns of [`DeadLetterColumns`] of table `d`, as a static text with what follows.
macro_rules! select_letters {
    ($($rest:expr),+) => {
        concat!(
            "SELECT d.id, d.source, d.reason, d.error, d.body, d.headers, d.tenant, d.order_id, ",
            "d.first_seen, d.last_seen, d.attempts, d.kind, d.participant, d.corrects, d.closed, ",
            "d.closed_at ",
            $($rest),+
        )
    };
}

/// Which rows of table `d` a filter means; its values are the first ten.
macro_rules! matching {
    () => {
        "($1::uuid[] IS NULL OR d.id = ANY ($1))
         AND ($2::text IS NULL OR d.fingerprint = $2)
         AND ($3::text IS NULL OR d.reason = $3)
         AND ($4::text IS NULL OR d.kind = $4)
         AND ($5::text IS NULL OR d.participant = $5)
         AND ($6::text IS NULL OR d.source = $6)
         AND ($7::text IS NULL OR d.tenant = $7)
         AND ($8::text IS NULL OR d.order_id = $8)
         AND ($9::bigint IS NULL OR d.last_seen <= $9)
         AND ($10 OR d.closed IS NULL)"
    };
}
pub(super) use matching;

pub(super) type Filtered<'q, Row> = QueryAs<'q, Postgres, Row, PgArguments>;

/// A query that begins with the values of a filter.
pub(super) fn filtered<'q, Row>(sql: &'static str, filter: &'q LetterFilter) -> Filtered<'q, Row>
where
    Row: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow>,
{
    let mut query = sqlx::query_as(sql).bind(filter.ids.as_deref());
    for text in filter.texts() {
        query = query.bind(text);
    }
    query.bind(filter.seen_before).bind(filter.also_closed)
}

/// A letter that is there already keeps when it was first seen, is open again, and takes over
/// why it cannot be processed, and what is known of it by now: what waits for its order is found
/// by that.
const BURY: &str = "
INSERT INTO dead_letter AS d (id, source, reason, error, body, headers, tenant, order_id,
                              first_seen, last_seen, attempts, kind, participant, fingerprint)
SELECT id, source, reason, error, body, headers, tenant, order_id, first_seen, last_seen,
       attempts + again - 1, kind, participant, fingerprint
FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::text[],
            $8::text[], $9::bigint[], $10::bigint[], $11::int[], $12::int[], $13::text[],
            $14::text[], $15::text[])
    AS l (id, source, reason, error, body, headers, tenant, order_id, first_seen, last_seen,
          attempts, again, kind, participant, fingerprint)
ON CONFLICT (id) DO UPDATE
SET reason = excluded.reason, error = excluded.error, last_seen = excluded.last_seen,
    fingerprint = excluded.fingerprint, closed = NULL, closed_at = NULL,
    tenant = coalesce(excluded.tenant, d.tenant),
    order_id = coalesce(excluded.order_id, d.order_id),
    kind = coalesce(excluded.kind, d.kind),
    participant = coalesce(excluded.participant, d.participant),
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
        .bind(again)
        .bind(column(&letters, |letter| letter.kind.as_deref()))
        .bind(column(&letters, |letter| letter.participant.as_deref()))
        .bind(column(&letters, |letter| letter.fingerprint()));
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
                    last_seen, attempts, kind, participant, corrects, closed, closed_at
             FROM dead_letter d
             WHERE reason = 'unknown-order' AND closed IS NULL
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
    let query = sqlx::query_as::<_, DeadLetterColumns>(select_letters!(
        "FROM dead_letter d ORDER BY last_seen DESC, id DESC LIMIT $1"
    ));
    rows::all(connections.rows("reading dead letters", query.bind(rows::limit(limit))).await?)
}

pub(super) async fn groups(
    connections: &Connections,
    filter: &LetterFilter,
    limit: usize,
) -> Result<Vec<LetterGroup>, StoreError> {
    let query = filtered::<GroupColumns>(
        concat!(
            "SELECT d.fingerprint, min(d.source), min(d.reason), min(d.kind), min(d.participant),
                    min(d.error), count(*), count(r.letter_id), min(d.first_seen), max(d.last_seen)
             FROM dead_letter d LEFT JOIN replay r ON r.letter_id = d.id WHERE ",
            matching!(),
            " GROUP BY d.fingerprint ORDER BY count(*) DESC, d.fingerprint LIMIT $11"
        ),
        filter,
    );
    rows::all(connections.rows("grouping dead letters", query.bind(rows::limit(limit))).await?)
}

pub(super) async fn count(
    connections: &Connections,
    filter: &LetterFilter,
) -> Result<u64, StoreError> {
    let sql = concat!("SELECT count(*) FROM dead_letter d WHERE ", matching!());
    number(connections.rows("counting dead letters", filtered(sql, filter)).await?)
}

pub(super) async fn page(
    connections: &Connections,
    filter: &LetterFilter,
    after: Option<(Time, Uuid)>,
    limit: usize,
) -> Result<Vec<DeadLetter>, StoreError> {
    let query = filtered::<DeadLetterColumns>(
        select_letters!(
            "FROM dead_letter d WHERE ",
            matching!(),
            " AND ($11::bigint IS NULL OR (d.first_seen, d.id) > ($11, $12))
             ORDER BY d.first_seen, d.id LIMIT $13"
        ),
        filter,
    );
    let query = query.bind(after.map(|(at, _)| at.0)).bind(after.map(|(_, id)| id));
    rows::all(connections.rows("reading dead letters", query.bind(rows::limit(limit))).await?)
}

pub(super) async fn correct(
    connections: &Connections,
    copy: &DeadLetter,
    deed: &LetterDeed,
) -> Result<bool, StoreError> {
    let during = "correcting a dead letter";
    let query = sqlx::query_as::<_, (Uuid,)>(
        "WITH original AS (
             UPDATE dead_letter d SET closed = $1, closed_at = $2
             WHERE id = $3 AND closed IS NULL
               AND NOT EXISTS (SELECT 1 FROM replay r WHERE r.letter_id = d.id)
             RETURNING id
         ), copied AS (
             INSERT INTO dead_letter (id, source, reason, error, body, headers, tenant, order_id,
                                      first_seen, last_seen, attempts, kind, participant,
                                      fingerprint, corrects)
             SELECT $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, id
             FROM original
         ), audited AS (
             INSERT INTO letter_audit (subject, id, at, actor, verb, reason)
             SELECT id, $18, $2, $19, $20, $21 FROM original
         )
         SELECT id FROM original",
    )
    .bind(Closed::Corrected.as_str())
    .bind(deed.at.0)
    .bind(copy.corrects)
    .bind(copy.id)
    .bind(&copy.source)
    .bind(&copy.reason)
    .bind(&copy.error)
    .bind(&copy.body)
    .bind(&copy.headers)
    .bind(&copy.tenant)
    .bind(&copy.order_id)
    .bind(copy.first_seen.0)
    .bind(copy.last_seen.0)
    .bind(signed(copy.attempts, during)?)
    .bind(&copy.kind)
    .bind(&copy.participant)
    .bind(copy.fingerprint())
    .bind(deed.id)
    .bind(&deed.actor)
    .bind(&deed.verb)
    .bind(&deed.reason);
    Ok(!connections.rows(during, query).await?.is_empty())
}

pub(super) async fn discard(
    connections: &Connections,
    filter: &LetterFilter,
    limit: usize,
    deed: &LetterDeed,
) -> Result<u64, StoreError> {
    let query = filtered::<(i64,)>(
        concat!(
            "WITH chosen AS MATERIALIZED (
                 SELECT d.id FROM dead_letter d WHERE ",
            matching!(),
            "      AND NOT EXISTS (SELECT 1 FROM replay r WHERE r.letter_id = d.id)
                 ORDER BY d.first_seen, d.id LIMIT $11
             ), discarded AS (
                 UPDATE dead_letter d SET closed = $12, closed_at = $13 FROM chosen c
                 WHERE d.id = c.id AND d.closed IS NULL
                 RETURNING d.id
             ), audited AS (
                 INSERT INTO letter_audit (subject, id, at, actor, verb, reason)
                 SELECT id, $14, $13, $15, $16, $17 FROM discarded
             )
             SELECT count(*) FROM discarded"
        ),
        filter,
    )
    .bind(rows::limit(limit))
    .bind(Closed::Discarded.as_str())
    .bind(deed.at.0)
    .bind(deed.id)
    .bind(&deed.actor)
    .bind(&deed.verb)
    .bind(&deed.reason);
    number(connections.rows("discarding dead letters", query).await?)
}

pub(super) async fn purge_closed(
    connections: &Connections,
    before: Time,
    limit: usize,
) -> Result<u64, StoreError> {
    let query = sqlx::query(
        "DELETE FROM dead_letter WHERE id = ANY (ARRAY(
             SELECT id FROM dead_letter WHERE closed IS NOT NULL AND closed_at <= $1
             ORDER BY closed_at LIMIT $2 FOR UPDATE SKIP LOCKED
         ))",
    );
    let query = query.bind(before.0).bind(rows::limit(limit));
    connections.execute("purging closed letters", query).await
}

/// The one number that a statement answers with.
pub(super) fn number(rows: Vec<(i64,)>) -> Result<u64, StoreError> {
    counted(rows.first().map_or(0, |(count,)| *count))
}
