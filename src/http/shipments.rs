//! The courier's door: what happened to a parcel.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::accounts::Role;
use super::door::{Doors, Signed};
use super::orders::{id, refused};
use super::problem::{Kind, Problem};
use crate::clock::from_rfc3339;
use crate::saga::Time;
use crate::store::ScanRow;
use crate::worker::{Call, Fate};

/// What a courier may report, and the fact that it stands for.
const STATUSES: [(&str, &str); 3] = [
    ("IN_TRANSIT", "shipment.in-transit"),
    ("DELIVERED", "shipment.delivered"),
    ("FAILED", "shipment.failed"),
];

/// A report, understood.
#[derive(Debug, PartialEq)]
struct Report {
    status: &'static str,
    fact: &'static str,
    happened_at: Time,
    location: Option<(f64, f64)>,
}

/// `POST /v1/shipments/{shipment_id}/status`
///
/// A shipment that is not known, not known yet (the answer to its booking is still on its way),
/// or another courier's: all of that is a 404, and a courier sends again.
pub(super) async fn scan(
    State(doors): State<Arc<Doors>>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let signed = doors.signed(Role::Courier, request).await?;
    let shipment_id = id(path)?;
    let report = report(&signed, &shipment_id)?;
    let account = &signed.account;
    let look = doors.store.shipment(&account.tenant, &account.name, &shipment_id);
    let shipment = doors.look(&signed, look).await?.ok_or(Kind::NotFound)?;
    let saga = shipment.saga;
    let scan = ScanRow {
        saga,
        courier: account.name.clone(),
        id: signed.id.clone(),
        shipment_id,
        status: report.status.to_owned(),
        happened_at: report.happened_at,
        location: report.location,
        received_at: doors.clock.now(),
    };
    let call = Call::Scan { shipment, fact: report.fact, scan };
    let settled = doors.call(call, signed.deadline).await?;
    // Other sagas of the order that wait for the same fact hear of it too, if there are any.
    match settled.iter().find(|settled| settled.saga == saga).map(|settled| &settled.fate) {
        Some(Fate::Stored { .. }) => Ok(StatusCode::NO_CONTENT.into_response()),
        Some(Fate::Refused { reason }) => Err(refused(reason)),
        None => Err(Kind::OutcomeUnknown.into()),
    }
}

fn report(signed: &Signed, shipment_id: &str) -> Result<Report, Problem> {
    let body = signed.json()?;
    read(&body, shipment_id).map_err(|(field, problem)| {
        Kind::InvalidScan.because(format!("{field}: {problem}")).with("field", field)
    })
}

/// Understands a report, or says which field is wrong and what is expected there.
fn read(body: &Value, shipment_id: &str) -> Result<Report, (&'static str, &'static str)> {
    if !body.is_object() {
        return Err(("scan", "must be a JSON object"));
    }
    // The signature does not cover the address. A courier who names the shipment here as well
    // cannot have its report moved to another parcel.
    if body.get("shipment_id").is_some_and(|named| named != shipment_id) {
        return Err(("shipment_id", "must be the one of the address"));
    }
    let text = |field| body.get(field).and_then(Value::as_str);
    let known = STATUSES.into_iter().find(|(status, _)| text("status") == Some(status));
    let (status, fact) = known.ok_or(("status", "must be IN_TRANSIT, DELIVERED or FAILED"))?;
    let happened_at = text("timestamp")
        .and_then(moment)
        .ok_or(("timestamp", "must be a time such as 2026-01-31T12:00:00Z (RFC 3339)"))?;
    let location = match body.get("location") {
        None | Some(Value::Null) => None,
        Some(location) if !location.is_object() => {
            return Err(("location", "must be an object with lat and lng"));
        }
        Some(location) => Some((
            degrees(location, "lat", 90.0).ok_or(("location.lat", "must be -90 to 90"))?,
            degrees(location, "lng", 180.0).ok_or(("location.lng", "must be -180 to 180"))?,
        )),
    };
    Ok(Report { status, fact, happened_at, location })
}

/// A time as RFC 3339 and JSON Schemas have it. The parser alone takes any character where the `T`
/// belongs.
fn moment(text: &str) -> Option<Time> {
    let separator = text.as_bytes().get("2026-01-31".len());
    from_rfc3339(text).filter(|_| matches!(separator, Some(b'T' | b't')))
}

fn degrees(location: &Value, field: &str, most: f64) -> Option<f64> {
    location.get(field)?.as_f64().filter(|degrees| (-most..=most).contains(degrees))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_report_is_read_whole_or_its_field_is_named() {
        let at = "2026-01-31T12:00:00Z";
        let good = json!({
            "status": "DELIVERED", "timestamp": at, "location": { "lat": -23.5, "lng": -46 },
            "signed_by": "neighbour", "shipment_id": "S-1",
        });
        let report = read(&good, "S-1").expect("good");
        assert_eq!((report.fact, report.location), ("shipment.delivered", Some((-23.5, -46.0))));
        let refused = |body: Value| read(&body, "S-1").expect_err("bad").0;
        assert_eq!(refused(json!([])), "scan");
        assert_eq!(refused(json!({ "timestamp": at })), "status");
        assert_eq!(refused(json!({ "status": "delivered", "timestamp": at })), "status");
        assert_eq!(refused(json!({ "status": "FAILED", "timestamp": 17 })), "timestamp");
        assert_eq!(refused(json!({ "status": "FAILED" })), "timestamp");
        let placed = |lat: Value, lng: Value| json!({ "status": "FAILED", "timestamp": at, "location": { "lat": lat, "lng": lng } });
        assert_eq!(refused(placed(json!(90.1), json!(0))), "location.lat");
        assert_eq!(refused(placed(json!(0), json!("x"))), "location.lng");
        let apart = json!({ "status": "FAILED", "timestamp": "2026-01-31x12:00:00Z" });
        assert_eq!(refused(apart), "timestamp");
        let nowhere = json!({ "status": "FAILED", "timestamp": at, "location": [1, 2] });
        assert_eq!(refused(nowhere), "location");
        let other = json!({ "status": "FAILED", "timestamp": at, "shipment_id": "S-2" });
        assert_eq!(refused(other), "shipment_id");
    }
}
