//! Loading sagas, many at once, and their orders only where they are not at hand.
//!
//! An order never changes, and its saga is loaded once for each step: within the minutes that
//! most steps take the order is still in memory, and the database is asked for the small hot
//! row alone.

use std::collections::HashMap;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use uuid::Uuid;

use super::connection::Connections;
use crate::saga::SagaId;
use crate::store::rows::{self, FromColumns, OrderColumns, SagaColumns};
use crate::store::{Change, OrderRow, StoreError, Stored, Written};

/// How much of them is kept, in bytes: some 50,000 orders, or what comes in within minutes.
const KEPT_BYTES: u64 = 64 * 1024 * 1024;
/// How many orders are expected to fit: a usual one has 1 KB. Only a hint for the first size.
const KEPT_ORDERS: usize = 50_000;
/// What an order takes in memory beside its texts, in bytes.
const ORDER_OVERHEAD_BYTES: u64 = 256;

/// Orders of sagas that are under way.
pub(super) struct Orders(Cache<SagaId, Arc<OrderRow>, Bytes>);

impl Default for Orders {
    fn default() -> Orders {
        Orders(Cache::with_weighter(KEPT_ORDERS, KEPT_BYTES, Bytes))
    }
}

impl Orders {
    /// Takes in the orders of sagas that a batch created, and lets go of those that it ended:
    /// what still comes for them is rare.
    pub(super) fn follow(&self, batch: &[Change], written: &[Written]) {
        for (change, written) in batch.iter().zip(written) {
            match &change.order {
                _ if *written == Written::LostRace => {}
                _ if change.saga.status.is_final() => drop(self.0.remove(&change.saga.id)),
                Some(order) => self.0.insert(change.saga.id, order.clone()),
                None => {}
            }
        }
    }
}

pub(super) async fn load(
    connections: &Connections,
    orders: &Orders,
    ids: &[SagaId],
) -> Result<Vec<Stored>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let query = sqlx::query_as::<_, SagaColumns>(
        "SELECT saga_id, version, due, state FROM saga WHERE saga_id = ANY($1)",
    );
    let sagas = connections.rows("loading sagas", query.bind(ids)).await?;
    let mut known = HashMap::with_capacity(sagas.len());
    let mut unknown = Vec::new();
    for (id, ..) in &sagas {
        match orders.0.get(&SagaId(*id)) {
            Some(order) => drop(known.insert(*id, order)),
            None => unknown.push(*id),
        }
    }
    for order in read_orders(connections, unknown).await? {
        let order = Arc::new(order);
        orders.0.insert(order.saga, order.clone());
        known.insert(order.saga.0, order);
    }
    let stored = |saga: SagaColumns| {
        let order = known.remove(&saga.0);
        rows::stored(saga, order.ok_or(StoreError::Unreadable { what: "a saga's order" })?)
    };
    sagas.into_iter().map(stored).collect()
}

async fn read_orders(
    connections: &Connections,
    ids: Vec<Uuid>,
) -> Result<Vec<OrderRow>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let query = sqlx::query_as::<_, OrderColumns>(
        "SELECT saga_id, tenant, order_id, definition, definition_version, received_at,
                traceparent, payload
         FROM saga_order WHERE saga_id = ANY($1)",
    );
    let rows = connections.rows("loading orders", query.bind(ids)).await?;
    rows.into_iter().map(OrderRow::from_columns).collect()
}

/// Weighs an order by the memory that it takes.
#[derive(Clone)]
struct Bytes;

impl Weighter<SagaId, Arc<OrderRow>> for Bytes {
    fn weight(&self, _: &SagaId, order: &Arc<OrderRow>) -> u64 {
        let OrderRow { tenant, order_id, definition, traceparent, payload, .. } = &**order;
        let texts =
            tenant.len() + order_id.len() + definition.len() + traceparent.len() + payload.len();
        texts as u64 + ORDER_OVERHEAD_BYTES
    }
}
