//! Couriers' shipments and scans.

use rusqlite::{Connection, Transaction, params};

use super::connection::{execute, fetch};
use super::error::Failure;
use crate::saga::SagaId;
use crate::store::rows::{self, ScanColumns, ShipmentColumns};
use crate::store::{ScanRow, ShipmentRow};

pub(super) fn shipment(
    connection: &Connection,
    (tenant, courier, shipment_id): (&str, &str, &str),
) -> Result<Option<ShipmentRow>, Failure> {
    let found: Vec<ShipmentColumns> = fetch(
        connection,
        "SELECT tenant, courier, shipment_id, saga_id, order_id FROM shipment
         WHERE tenant = ?1 AND courier = ?2 AND shipment_id = ?3",
        params![tenant, courier, shipment_id],
    )?;
    Ok(rows::all(found)?.pop())
}

pub(super) fn scans(connection: &Connection, saga: SagaId) -> Result<Vec<ScanRow>, Failure> {
    let found: Vec<ScanColumns> = fetch(
        connection,
        "SELECT saga_id, courier, id, shipment_id, status, happened_at, latitude, longitude,
                received_at
         FROM scan WHERE saga_id = ?1 ORDER BY received_at, courier, id",
        [saga.0],
    )?;
    Ok(rows::all(found)?)
}

pub(super) fn write_shipment(
    transaction: &Transaction<'_>,
    row: &ShipmentRow,
) -> Result<(), Failure> {
    execute(
        transaction,
        "INSERT INTO shipment (tenant, courier, shipment_id, saga_id, order_id)
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
        params![row.tenant, row.courier, row.shipment_id, row.saga.0, row.order_id],
    )?;
    Ok(())
}

pub(super) fn write_scan(transaction: &Transaction<'_>, row: &ScanRow) -> Result<(), Failure> {
    execute(
        transaction,
        "INSERT INTO scan (saga_id, courier, id, shipment_id, status, happened_at, latitude,
                           longitude, received_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
        params![
            row.saga.0,
            row.courier,
            row.id,
            row.shipment_id,
            row.status,
            row.happened_at.0,
            row.location.map(|(latitude, _)| latitude),
            row.location.map(|(_, longitude)| longitude),
            row.received_at.0,
        ],
    )?;
    Ok(())
}
