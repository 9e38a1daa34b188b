//! Dead letters.

use sqlx::sqlite::SqlitePool;

use super::read::fetch;
use super::writing::Transaction;
use crate::store::rows::{self, DeadLetterColumns, signed};
use crate::store::{DeadLetter, StoreError};

pub(super) const BURYING: &str = "burying dead letters";

pub(super) async fn bury(
    mut transaction: Transaction<'_>,
    letters: &[DeadLetter],
) -> Result<(), StoreError> {
    for letter in letters {
        // A letter that is there already keeps when it was first seen.
        let query = sqlx::query(
            "INSERT INTO dead_letter (id, source, reason, error, body, headers, tenant, order_id,
                                      first_seen, last_seen, attempts)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
             ON CONFLICT (id) DO UPDATE
             SET reason = excluded.reason, error = excluded.error,
                 last_seen = excluded.last_seen, attempts = dead_letter.attempts + 1",
        );
        let query = query
            .bind(letter.id)
            .bind(letter.source.as_str())
            .bind(letter.reason.as_str())
            .bind(letter.error.as_str())
            .bind(letter.body.as_slice())
            .bind(letter.headers.as_str())
            .bind(letter.tenant.as_deref())
            .bind(letter.order_id.as_deref())
            .bind(letter.first_seen.0)
            .bind(letter.last_seen.0)
            .bind(signed(letter.attempts, BURYING)?);
        transaction.execute(query).await?;
    }
    transaction.commit().await
}

pub(super) async fn parked(
    readers: &SqlitePool,
    orders: &[(String, String)],
) -> Result<Vec<DeadLetter>, StoreError> {
    let orders = serde_json::json!(orders).to_string();
    let query = sqlx::query_as::<_, DeadLetterColumns>(
        "SELECT id, source, reason, error, body, headers, tenant, order_id, first_seen,
                last_seen, attempts
         FROM dead_letter
         WHERE reason = 'unknown-order'
           AND (tenant, order_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1))
         ORDER BY first_seen, id",
    );
    rows::all(fetch(readers, "reading parked letters", query.bind(orders)).await?)
}

pub(super) async fn newest(
    readers: &SqlitePool,
    limit: usize,
) -> Result<Vec<DeadLetter>, StoreError> {
    let query = sqlx::query_as::<_, DeadLetterColumns>(
        "SELECT id, source, reason, error, body, headers, tenant, order_id, first_seen,
                last_seen, attempts
         FROM dead_letter ORDER BY last_seen DESC, id DESC LIMIT ?1",
    );
    rows::all(fetch(readers, "reading dead letters", query.bind(rows::limit(limit))).await?)
}
