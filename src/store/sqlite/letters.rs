//! Dead letters: written down, found again, corrected, discarded.

use rusqlite::types::Value;
use rusqlite::{Connection, Transaction, params, params_from_iter};
use uuid::Uuid;

use super::connection::{execute, fetch};
use super::error::Failure;
use crate::saga::Time;
use crate::store::rows::{self, DeadLetterColumns, GroupColumns, counted, signed};
use crate::store::{Closed, DeadLetter, LetterDeed, LetterFilter, LetterGroup};

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
        "(?1 IS NULL OR d.id IN (SELECT unhex(value) FROM json_each(?1)))
         AND (?2 IS NULL OR d.fingerprint = ?2)
         AND (?3 IS NULL OR d.reason = ?3)
         AND (?4 IS NULL OR d.kind = ?4)
         AND (?5 IS NULL OR d.participant = ?5)
         AND (?6 IS NULL OR d.source = ?6)
         AND (?7 IS NULL OR d.tenant = ?7)
         AND (?8 IS NULL OR d.order_id = ?8)
         AND (?9 IS NULL OR d.last_seen <= ?9)
         AND (?10 OR d.closed IS NULL)"
    };
}
pub(super) use matching;

/// Ids as a JSON array of hexadecimal digits.
pub(super) fn hex(ids: &[Uuid]) -> String {
    serde_json::json!(ids.iter().map(|id| id.simple().to_string()).collect::<Vec<_>>()).to_string()
}

/// The values of a filter, and what follows them.
pub(super) fn filtered<const N: usize>(filter: &LetterFilter, others: [Value; N]) -> Vec<Value> {
    let mut values: Vec<Value> = vec![filter.ids.as_deref().map(hex).into()];
    values.extend(filter.texts().map(|text| text.map(str::to_owned).into()));
    values.extend([filter.seen_before.into(), filter.also_closed.into()]);
    values.extend(others);
    values
}

pub(super) const BURYING: &str = "burying dead letters";

pub(super) fn bury(transaction: &Transaction<'_>, letters: &[DeadLetter]) -> Result<(), Failure> {
    for letter in letters {
        // A letter that is there already keeps when it was first seen, and is open again.
        execute(
            transaction,
            "INSERT INTO dead_letter (id, source, reason, error, body, headers, tenant, order_id,
                                      first_seen, last_seen, attempts, kind, participant,
                                      fingerprint)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
             ON CONFLICT (id) DO UPDATE
             SET reason = excluded.reason, error = excluded.error,
                 last_seen = excluded.last_seen, fingerprint = excluded.fingerprint,
                 attempts = dead_letter.attempts + 1, closed = NULL, closed_at = NULL,
                 tenant = coalesce(excluded.tenant, dead_letter.tenant),
                 order_id = coalesce(excluded.order_id, dead_letter.order_id),
                 kind = coalesce(excluded.kind, dead_letter.kind),
                 participant = coalesce(excluded.participant, dead_letter.participant)",
            params![
                letter.id,
                letter.source,
                letter.reason,
                letter.error,
                letter.body,
                letter.headers,
                letter.tenant,
                letter.order_id,
                letter.first_seen.0,
                letter.last_seen.0,
                signed(letter.attempts, BURYING)?,
                letter.kind,
                letter.participant,
                letter.fingerprint(),
            ],
        )?;
    }
    Ok(())
}

pub(super) fn parked(
    connection: &Connection,
    orders: &[(String, String)],
) -> Result<Vec<DeadLetter>, Failure> {
    let letters: Vec<DeadLetterColumns> = fetch(
        connection,
        select_letters!(
            "FROM dead_letter d
             WHERE reason = 'unknown-order' AND closed IS NULL
               AND (tenant, order_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1))
             ORDER BY first_seen, id"
        ),
        [serde_json::json!(orders).to_string()],
    )?;
    Ok(rows::all(letters)?)
}

pub(super) fn newest(connection: &Connection, limit: usize) -> Result<Vec<DeadLetter>, Failure> {
    let letters: Vec<DeadLetterColumns> = fetch(
        connection,
        select_letters!("FROM dead_letter d ORDER BY last_seen DESC, id DESC LIMIT ?1"),
        [rows::limit(limit)],
    )?;
    Ok(rows::all(letters)?)
}

pub(super) fn groups(
    connection: &Connection,
    filter: &LetterFilter,
    limit: usize,
) -> Result<Vec<LetterGroup>, Failure> {
    let groups: Vec<GroupColumns> = fetch(
        connection,
        concat!(
            "SELECT d.fingerprint, min(d.source), min(d.reason), min(d.kind), min(d.participant),
                    min(d.error), count(*), count(r.letter_id), min(d.first_seen), max(d.last_seen)
             FROM dead_letter d LEFT JOIN replay r ON r.letter_id = d.id WHERE ",
            matching!(),
            " GROUP BY d.fingerprint ORDER BY count(*) DESC, d.fingerprint LIMIT ?11"
        ),
        params_from_iter(filtered(filter, [rows::limit(limit).into()])),
    )?;
    Ok(rows::all(groups)?)
}

pub(super) fn count(connection: &Connection, filter: &LetterFilter) -> Result<u64, Failure> {
    let sql = concat!("SELECT count(*) FROM dead_letter d WHERE ", matching!());
    let values = params_from_iter(filtered(filter, []));
    let count = connection.prepare_cached(sql)?.query_row(values, |row| row.get(0))?;
    Ok(counted(count)?)
}

pub(super) fn page(
    connection: &Connection,
    filter: &LetterFilter,
    after: Option<(Time, Uuid)>,
    limit: usize,
) -> Result<Vec<DeadLetter>, Failure> {
    let (at, id) = after.map(|(at, id)| (at.0, id.into_bytes().to_vec())).unzip();
    let others = [at.into(), id.into(), rows::limit(limit).into()];
    let letters: Vec<DeadLetterColumns> = fetch(
        connection,
        select_letters!(
            "FROM dead_letter d WHERE ",
            matching!(),
            " AND (?11 IS NULL OR (d.first_seen, d.id) > (?11, ?12))
             ORDER BY d.first_seen, d.id LIMIT ?13"
        ),
        params_from_iter(filtered(filter, others)),
    )?;
    Ok(rows::all(letters)?)
}

pub(super) fn correct(
    transaction: &Transaction<'_>,
    copy: &DeadLetter,
    deed: &LetterDeed,
) -> Result<bool, Failure> {
    let closed = execute(
        transaction,
        "UPDATE dead_letter SET closed = ?2, closed_at = ?3
         WHERE id = ?1 AND closed IS NULL
           AND NOT EXISTS (SELECT 1 FROM replay r WHERE r.letter_id = dead_letter.id)",
        params![copy.corrects, Closed::Corrected.as_str(), deed.at.0],
    )?;
    if closed == 0 {
        return Ok(false);
    }
    bury(transaction, std::slice::from_ref(copy))?;
    execute(
        transaction,
        "UPDATE dead_letter SET corrects = ?2 WHERE id = ?1",
        params![copy.id, copy.corrects],
    )?;
    audit(transaction, deed)?;
    Ok(true)
}

pub(super) fn discard(
    transaction: &Transaction<'_>,
    filter: &LetterFilter,
    limit: usize,
    deed: &LetterDeed,
) -> Result<u64, Failure> {
    let others =
        [rows::limit(limit).into(), Closed::Discarded.as_str().to_owned().into(), deed.at.0.into()];
    let mut statement = transaction.prepare_cached(concat!(
        "UPDATE dead_letter SET closed = ?12, closed_at = ?13 WHERE id IN (
             SELECT d.id FROM dead_letter d WHERE ",
        matching!(),
        "      AND NOT EXISTS (SELECT 1 FROM replay r WHERE r.letter_id = d.id)
             ORDER BY d.first_seen, d.id LIMIT ?11
         ) RETURNING id"
    ))?;
    let values = params_from_iter(filtered(filter, others));
    let discarded = statement.query_map(values, |row| row.get(0))?;
    let discarded: Vec<Uuid> = discarded.collect::<Result<_, _>>()?;
    for subject in &discarded {
        audit(transaction, &LetterDeed { subject: *subject, ..deed.clone() })?;
    }
    Ok(discarded.len() as u64)
}

pub(super) fn audit(transaction: &Transaction<'_>, deed: &LetterDeed) -> Result<(), Failure> {
    execute(
        transaction,
        "INSERT INTO letter_audit (subject, id, at, actor, verb, reason)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![deed.subject, deed.id, deed.at.0, deed.actor, deed.verb, deed.reason],
    )?;
    Ok(())
}

pub(super) fn purge_closed(
    transaction: &Transaction<'_>,
    before: Time,
    limit: usize,
) -> Result<u64, Failure> {
    let purged = execute(
        transaction,
        "DELETE FROM dead_letter WHERE id IN (
             SELECT id FROM dead_letter WHERE closed IS NOT NULL AND closed_at <= ?1
             ORDER BY closed_at LIMIT ?2
         )",
        params![before.0, rows::limit(limit)],
    )?;
    Ok(purged as u64)
}
