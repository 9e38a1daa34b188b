//! What operators did, and what waits for a second person.

use uuid::Uuid;

use super::connection::Connections;
use crate::saga::SagaId;
use crate::store::rows::{self, AuditColumns, RequestColumns};
use crate::store::{AuditRow, AuditedRow, RequestRow, StoreError};

pub(super) async fn deeds(
    connections: &Connections,
    saga: SagaId,
) -> Result<Vec<AuditedRow>, StoreError> {
    let query = sqlx::query_as::<_, AuditColumns>(
        "SELECT version, id, at, actor, approver, verb, detail, reason
         FROM operator_audit WHERE saga_id = $1 ORDER BY version, id",
    );
    rows::all(connections.rows("reading operators' deeds", query.bind(saga.0)).await?)
}

pub(super) async fn keep_request(
    connections: &Connections,
    row: &RequestRow,
) -> Result<(), StoreError> {
    let query = sqlx::query(
        "INSERT INTO operator_request (id, tenant, order_id, detail, actor, reason, asked_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
    );
    let query = query
        .bind(row.id)
        .bind(row.tenant.as_deref())
        .bind(&row.order_id)
        .bind(&row.detail)
        .bind(&row.actor)
        .bind(&row.reason)
        .bind(row.asked_at.0);
    connections.execute("keeping a request", query).await?;
    Ok(())
}

pub(super) async fn requests(
    connections: &Connections,
    limit: usize,
) -> Result<Vec<RequestRow>, StoreError> {
    let query = sqlx::query_as::<_, RequestColumns>(
        "SELECT id, tenant, order_id, detail, actor, reason, asked_at
         FROM operator_request ORDER BY asked_at, id LIMIT $1",
    );
    rows::all(connections.rows("reading requests", query.bind(rows::limit(limit))).await?)
}

pub(super) async fn drop_request(connections: &Connections, id: Uuid) -> Result<(), StoreError> {
    let query = sqlx::query("DELETE FROM operator_request WHERE id = $1").bind(id);
    connections.execute("dropping a request", query).await?;
    Ok(())
}

/// The deeds of a batch by column.
#[derive(Default)]
pub(super) struct Audit<'a> {
    pub saga: Vec<Uuid>,
    pub id: Vec<Uuid>,
    pub version: Vec<i32>,
    pub at: Vec<i64>,
    pub actor: Vec<&'a str>,
    pub verb: Vec<&'a str>,
    pub reason: Vec<&'a str>,
    pub approver: Vec<Option<&'a str>>,
    pub detail: Vec<&'a str>,
}

impl<'a> Audit<'a> {
    pub fn add(&mut self, saga: Uuid, version: i32, row: &'a AuditRow) {
        self.saga.push(saga);
        self.id.push(row.id);
        self.version.push(version);
        self.at.push(row.at.0);
        self.actor.push(&row.actor);
        self.verb.push(&row.verb);
        self.reason.push(&row.reason);
        self.approver.push(row.approver.as_deref());
        self.detail.push(&row.detail);
    }
}
