//! Participants that answer nobody.

use super::connection::Connections;
use crate::saga::Time;
use crate::store::StoreError;

pub(super) async fn open_breakers(
    connections: &Connections,
) -> Result<Vec<(String, Time)>, StoreError> {
    let query = sqlx::query_as::<_, (String, i64)>(
        "SELECT participant, opened_at FROM breaker ORDER BY participant",
    );
    let rows = connections.rows("reading breakers", query).await?;
    Ok(rows.into_iter().map(|(participant, at)| (participant, Time(at))).collect())
}

pub(super) async fn open_breaker(
    connections: &Connections,
    participant: &str,
    at: Time,
) -> Result<(), StoreError> {
    let query = sqlx::query(
        "INSERT INTO breaker (participant, opened_at) VALUES ($1, $2) ON CONFLICT DO NOTHING",
    );
    connections.execute("opening a breaker", query.bind(participant).bind(at.0)).await?;
    Ok(())
}

pub(super) async fn close_breaker(
    connections: &Connections,
    participant: &str,
) -> Result<(), StoreError> {
    let query = sqlx::query("DELETE FROM breaker WHERE participant = $1").bind(participant);
    connections.execute("closing a breaker", query).await?;
    Ok(())
}
