//! The shop's door: push an order, cancel it, ask how it stands.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::accounts::Role;
use super::door::{Doors, Signed};
use super::problem::{Kind, Problem};
use crate::broker::envelope::is_trace_context;
use crate::clock::rfc3339;
use crate::order::{InvalidOrder, Order, is_id};
use crate::saga::{CancelState, OrderState, SagaId, Time};
use crate::store::Stored;
use crate::worker::{Call, Fate, Settled, order_event_id};

/// What a shop gets for an order, the same whenever it asks again.
#[derive(Debug, Serialize)]
struct Receipt {
    order_id: String,
    saga_id: Uuid,
    event_id: Uuid,
    received_at: String,
}

/// What was decided about a cancellation.
#[derive(Debug, Serialize)]
struct Cancelled {
    order_id: String,
    /// `accepted`: it is being undone, or has been. `waiting`: for the answer of a step that may
    /// be the last that can be undone; an event tells what came of it.
    result: &'static str,
    status: &'static str,
}

/// How an order stands: `status` is one of the shared states, `pending`, `confirmed`,
/// `fulfilling`, `completed`, `cancelled`.
#[derive(Debug, Serialize)]
struct OrderView {
    order_id: String,
    status: &'static str,
    received_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<String>,
}

/// `POST /v1/orders`
pub(super) async fn push(
    State(doors): State<Arc<Doors>>,
    request: Request,
) -> Result<Response, Problem> {
    let signed = doors.signed(Role::Shop, request).await?;
    let order = order(&signed)?;
    let order_id = order.order_id.clone();
    let traceparent = traceparent(&signed.headers);
    let settled = doors.call(Call::Order { order, traceparent }, signed.deadline).await?;
    receipt(order_id, &settled)
}

/// The order in the body, as one of the account's tenant.
fn order(signed: &Signed) -> Result<Order, Problem> {
    let body = signed.json()?;
    let tenant = &signed.account.tenant;
    let payload = match body.get("tenant_id") {
        Some(Value::String(named)) if named != tenant => {
            let detail = "tenant_id is not the tenant of the account that signed: leave it out";
            return Err(Kind::WrongTenant.because(detail));
        }
        None if body.is_object() => filled_in(&signed.body, tenant),
        _ => signed.body.clone(),
    };
    Order::parse(&payload).map_err(|InvalidOrder { reason, field, problem }| {
        let kind = if reason == "card-data" { Kind::CardData } else { Kind::InvalidOrder };
        kind.because(format!("{field}: {problem}")).with("field", field)
    })
}

/// The same object, with its tenant in it, and otherwise byte for byte.
fn filled_in(body: &Bytes, tenant: &str) -> Bytes {
    let Some(brace) = body.iter().position(|byte| *byte == b'{') else { return body.clone() };
    let (open, rest) = body.split_at(brace + 1);
    let is_empty = rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}');
    let comma = if is_empty { "" } else { "," };
    let member = format!("\"tenant_id\":{}{comma}", Value::from(tenant));
    [open, member.as_bytes(), rest].concat().into()
}

fn traceparent(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("traceparent")?.to_str().ok()?;
    is_trace_context(value).then(|| value.to_owned())
}

/// The answer to a push, from what became of it in each saga that the order starts.
fn receipt(order_id: String, settled: &[Settled]) -> Result<Response, Problem> {
    let mut is_new = true;
    let mut first: Option<(Time, SagaId)> = None;
    for Settled { saga, fate } in settled {
        match fate {
            Fate::Stored { is_new: began, received_at, .. } => {
                is_new &= began;
                // A definition published later may start another saga; the receipt stays.
                let this = (*received_at, *saga);
                first = Some(first.map_or(this, |first| first.min(this)));
            }
            Fate::Refused { reason } => return Err(refused(reason)),
        }
    }
    let (received_at, saga) = first.ok_or(Kind::OutcomeUnknown)?;
    let location = format!("/v1/orders/{}", escaped(&order_id));
    let receipt = Receipt {
        order_id,
        saga_id: saga.0,
        event_id: order_event_id(saga),
        received_at: rfc3339(received_at),
    };
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, [(header::LOCATION, location)], Json(receipt)).into_response())
}

/// What the worker refused, as a problem.
pub(super) fn refused(reason: &str) -> Problem {
    match reason {
        "order-differs" => Kind::OrderDiffers.into(),
        "unknown-saga" => Kind::NotFound.into(),
        "store-rejected" => Kind::Unstorable.because("the database refuses it for ever"),
        // A newer worker may be able to.
        _ => Kind::OutcomeUnknown.because("this worker cannot work with what is stored of it"),
    }
}

/// As one segment of a path (RFC 3986).
fn escaped(segment: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    let escape = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    segment.bytes().map(escape).collect()
}

/// `POST /v1/orders/{order_id}/cancel`
pub(super) async fn cancel(
    State(doors): State<Arc<Doors>>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let signed = doors.signed(Role::Shop, request).await?;
    let order_id = id(path)?;
    expect_named(&signed, &order_id)?;
    let tenant = signed.account.tenant.clone();
    let call = Call::Cancel { tenant, order_id: order_id.clone() };
    let settled = doors.call(call, signed.deadline).await?;
    decided(order_id, &settled)
}

/// The signature covers the body and not the address, so the body has to say which order is
/// meant: or whoever saw one signed request could turn it into the cancellation of any order.
fn expect_named(signed: &Signed, order_id: &str) -> Result<(), Problem> {
    let body = signed.json()?;
    let is_only = body.as_object().is_some_and(|object| object.len() == 1);
    match body.get("order_id") {
        Some(Value::String(named)) if is_only && named == order_id => Ok(()),
        _ => Err(Kind::Malformed.because(
            "the body must be {\"order_id\": \"…\"}, with the order id of the address: the \
             signature does not cover the address",
        )),
    }
}

fn decided(order_id: String, settled: &[Settled]) -> Result<Response, Problem> {
    let mut result = None;
    let mut refusal = None;
    let mut standing = OrderState::Cancelled;
    for settled in settled {
        match &settled.fate {
            Fate::Stored { reached, cancel, is_past_pivot, .. } => {
                standing = standing.min(*reached);
                match cancel {
                    CancelState::Refused if *is_past_pivot => refusal = Some("past-pivot"),
                    CancelState::Refused => refusal = refusal.or(Some("too-late")),
                    CancelState::Waiting => result = Some("waiting"),
                    // None: it has been undone anyway.
                    CancelState::Accepted | CancelState::None => {
                        result = result.or(Some("accepted"));
                    }
                }
            }
            Fate::Refused { reason: "unknown-saga" } => {}
            Fate::Refused { reason } => return Err(refused(reason)),
        }
    }
    match (result, refusal) {
        (Some(result), _) => {
            let cancelled = Cancelled { order_id, result, status: standing.as_str() };
            Ok((StatusCode::ACCEPTED, Json(cancelled)).into_response())
        }
        (None, Some(reason)) => {
            let detail = "the goods are on their way: offer a return";
            Err(Kind::CancelRefused.because(detail).with("reason", reason))
        }
        (None, None) => Err(Kind::NotFound.into()),
    }
}

/// `GET /v1/orders/{order_id}`
pub(super) async fn status(
    State(doors): State<Arc<Doors>>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let signed = doors.signed(Role::Shop, request).await?;
    let order_id = id(path)?;
    let tenant = Some(signed.account.tenant.as_str());
    let found = doors.look(&signed, doors.store.find(&order_id, tenant)).await?;
    let view = view(order_id, &found)?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(view)).into_response())
}

/// An order is as far as the saga of it that is least far.
fn view(order_id: String, found: &[Stored]) -> Result<OrderView, Problem> {
    let reached = found.iter().map(|stored| stored.saga.reached).min();
    let received_at = found.iter().map(|stored| stored.order.received_at).min();
    let (Some(reached), Some(received_at)) = (reached, received_at) else {
        return Err(Kind::NotFound.into());
    };
    let ended: Option<Vec<Time>> = found.iter().map(|stored| stored.saga.ended_at).collect();
    let ended_at = ended.and_then(|ended| ended.into_iter().max()).map(rfc3339);
    let status = reached.as_str();
    Ok(OrderView { order_id, status, received_at: rfc3339(received_at), ended_at })
}

/// An id in the address. What can be none is not there.
pub(super) fn id(path: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    match path {
        Ok(Path(id)) if is_id(&id) => Ok(id),
        _ => Err(Kind::NotFound.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenant_is_filled_in_and_nothing_else_changes() {
        let filled = |body: &'static str| {
            String::from_utf8(filled_in(&Bytes::from(body), "a\"b").to_vec()).expect("text")
        };
        assert_eq!(filled(" { \"x\" : 1e2 }"), " {\"tenant_id\":\"a\\\"b\", \"x\" : 1e2 }");
        assert_eq!(filled("{ }"), "{\"tenant_id\":\"a\\\"b\" }");
    }

    #[test]
    fn a_receipt_is_the_earliest_and_new_only_if_all_of_it_is() {
        let settled = |saga: u128, is_new, at| Settled {
            saga: SagaId(Uuid::from_u128(saga)),
            fate: Fate::Stored {
                is_new,
                received_at: Time(at),
                reached: OrderState::Pending,
                cancel: CancelState::None,
                is_past_pivot: false,
            },
        };
        let answer = |all: &[Settled]| receipt("o/1".to_owned(), all).expect("a receipt");
        let both = answer(&[settled(1, true, 7), settled(2, false, 5)]);
        assert_eq!(both.status(), StatusCode::OK);
        assert_eq!(both.headers()[header::LOCATION], "/v1/orders/o%2F1");
        assert_eq!(answer(&[settled(1, true, 7)]).status(), StatusCode::CREATED);
    }
}
