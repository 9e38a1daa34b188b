//! Couriers' shipments and scans.

use uuid::Uuid;

use super::connection::Connections;
use crate::saga::SagaId;
use crate::store::rows::{self, ScanColumns, ShipmentColumns};
use crate::store::{ScanRow, ShipmentRow, StoreError};

pub(super) async fn shipment(
    connections: &Connections,
    (tenant, courier, shipment_id): (&str, &str, &str),
) -> Result<Option<ShipmentRow>, StoreError> {
    let query = sqlx::query_as::<_, ShipmentColumns>(
        "SELECT tenant, courier, shipment_id, saga_id, order_id FROM shipment
         WHERE tenant = $1 AND courier = $2 AND shipment_id = $3",
    );
    let query = query.bind(tenant).bind(courier).bind(shipment_id);
    Ok(rows::all(connections.rows("looking for a shipment", query).await?)?.pop())
}

pub(super) async fn scans(
    connections: &Connections,
    saga: SagaId,
) -> Result<Vec<ScanRow>, StoreError> {
    let query = sqlx::query_as::<_, ScanColumns>(
        "SELECT saga_id, courier, id, shipment_id, status, happened_at, latitude, longitude,
                received_at
         FROM scan WHERE saga_id = $1 ORDER BY received_at, courier, id",
    );
    rows::all(connections.rows("reading scans", query.bind(saga.0)).await?)
}

/// The shipments of a batch by column.
#[derive(Default)]
pub(super) struct Shipments<'a> {
    pub tenant: Vec<&'a str>,
    pub courier: Vec<&'a str>,
    pub shipment_id: Vec<&'a str>,
    pub saga: Vec<Uuid>,
    pub order_id: Vec<&'a str>,
}

impl<'a> Shipments<'a> {
    pub fn add(&mut self, row: &'a ShipmentRow) {
        self.tenant.push(&row.tenant);
        self.courier.push(&row.courier);
        self.shipment_id.push(&row.shipment_id);
        self.saga.push(row.saga.0);
        self.order_id.push(&row.order_id);
    }
}

/// The scans of a batch by column.
#[derive(Default)]
pub(super) struct Scans<'a> {
    pub saga: Vec<Uuid>,
    pub courier: Vec<&'a str>,
    pub id: Vec<&'a str>,
    pub shipment_id: Vec<&'a str>,
    pub status: Vec<&'a str>,
    pub happened_at: Vec<i64>,
    pub latitude: Vec<Option<f64>>,
    pub longitude: Vec<Option<f64>>,
    pub received_at: Vec<i64>,
}

impl<'a> Scans<'a> {
    pub fn add(&mut self, row: &'a ScanRow) {
        self.saga.push(row.saga.0);
        self.courier.push(&row.courier);
        self.id.push(&row.id);
        self.shipment_id.push(&row.shipment_id);
        self.status.push(&row.status);
        self.happened_at.push(row.happened_at.0);
        self.latitude.push(row.location.map(|(latitude, _)| latitude));
        self.longitude.push(row.location.map(|(_, longitude)| longitude));
        self.received_at.push(row.received_at.0);
    }
}
