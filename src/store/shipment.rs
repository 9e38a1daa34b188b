//! A courier's shipments and scans, as they are stored beside the sagas that they are about.

use crate::saga::{SagaId, Time};

/// Whose parcel a courier's shipment is. Written in the commit in which the step that booked it
/// is done, and never changed: the first to name a shipment has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShipmentRow {
    pub tenant: String,
    /// The courier's name, as the participant that booked it says.
    pub courier: String,
    /// The courier's own number for it.
    pub shipment_id: String,
    pub saga: SagaId,
    pub order_id: String,
}

/// One scan, as a courier reported it. Kept whether or not it changed anything in the saga.
#[derive(Debug, Clone, PartialEq)]
pub struct ScanRow {
    pub saga: SagaId,
    pub courier: String,
    /// The courier's id of the report; unique with the courier's name.
    pub id: String,
    pub shipment_id: String,
    /// `IN_TRANSIT`, `DELIVERED` or `FAILED`.
    pub status: String,
    /// When it happened, by the courier's clock.
    pub happened_at: Time,
    /// Latitude and longitude in degrees (WGS 84).
    pub location: Option<(f64, f64)>,
    pub received_at: Time,
}
