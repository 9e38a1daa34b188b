//! The operators' API, on the listener that is not public: what the command line does, for tools.
//!
//! `Authorization: Bearer TOKEN` says who it is; that name is kept in the audit, whatever the
//! body says. A verb needs an `Idempotency-Key` (a UUID): the same key again is the same deed.
//!
//! ```text
//! GET    /api/v1/orders?status=&attention=true&tenant=&definition=&limit=&after=
//! GET    /api/v1/orders/{order}?tenant=                what `order show --json` says
//! POST   /api/v1/orders/{order}/verbs?tenant=&dry_run=true
//!        {"verb": "resolve", "step": "pick", "as": "success", "reason": "…"}
//! GET    /api/v1/requests                              what waits for a second person
//! POST   /api/v1/requests/{id}/approve?dry_run=true
//! DELETE /api/v1/requests/{id}
//! ```

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use uuid::Uuid;

use super::operators::{Operator, Operators};
use crate::operate::{self, Answer, Ask, By, Deed, Line, Mode, OperateError, Outcome, Policy};
use crate::saga::{SagaId, Status};
use crate::store::{Filter, Store, StoreError};

/// The largest body, in bytes: a verb with a step's result.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Requests at the same time; more are told to come again.
const AT_ONCE: usize = 16;
/// For one request.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Orders of a page, unless the request says otherwise, and at most.
const PAGE: usize = 50;
const MAX_PAGE: usize = 1_000;
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// What the API works with.
pub struct Desk {
    pub store: Arc<dyn Store>,
    /// The CloudEvents source of what a verb sends.
    pub source: String,
    pub policy: Policy,
    pub operators: Operators,
}

#[derive(Clone)]
struct Office {
    desk: Arc<Desk>,
    places: Arc<Semaphore>,
}

pub(super) fn router(desk: Desk) -> Router {
    let office = Office { desk: Arc::new(desk), places: Arc::new(Semaphore::new(AT_ONCE)) };
    Router::new()
        .route("/api/v1/orders", get(list))
        .route("/api/v1/orders/{order}", get(show))
        .route("/api/v1/orders/{order}/verbs", post(verb))
        .route("/api/v1/requests", get(requests))
        .route("/api/v1/requests/{id}", delete(withdraw))
        .route("/api/v1/requests/{id}/approve", post(approve))
        .layer(from_fn_with_state(office.clone(), admit))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(office)
}

/// Lets in who has a token, within bounds.
async fn admit(State(office): State<Office>, mut request: Request, next: Next) -> Response {
    let Ok(_place) = office.places.try_acquire() else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "too-busy", "Come again in a second.");
    };
    let operator = match office.desk.operators.holder(token(request.headers()).unwrap_or("")) {
        Ok(Some(operator)) => operator,
        Ok(None) => {
            let detail = "Send Authorization: Bearer with the token of an operator.";
            let answer = problem(StatusCode::UNAUTHORIZED, "unauthenticated", detail);
            return ([(header::WWW_AUTHENTICATE, "Bearer")], answer).into_response();
        }
        Err(error) => {
            tracing::error!(error = %error, "the file of operators cannot be read");
            let detail = "The file of operators cannot be read.";
            return problem(StatusCode::SERVICE_UNAVAILABLE, "no-operators", detail);
        }
    };
    if !request.method().is_safe() && !operator.may_act {
        let detail = "You may look, and not act.";
        return problem(StatusCode::FORBIDDEN, "may-not-act", detail);
    }
    request.extensions_mut().insert(operator);
    match timeout(TIMEOUT, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => {
            let detail = "Not answered in time. Ask again with the same Idempotency-Key.";
            problem(StatusCode::SERVICE_UNAVAILABLE, "outcome-unknown", detail)
        }
    }
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    status: Option<String>,
    attention: Option<bool>,
    tenant: Option<String>,
    definition: Option<String>,
    limit: Option<usize>,
    after: Option<Uuid>,
}

async fn list(
    State(office): State<Office>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Refused> {
    let Query(wanted) = wanted?;
    let status = match wanted.status.as_deref() {
        None => None,
        Some(name) => {
            let known = Status::ALL.into_iter().find(|status| status.as_str() == name);
            Some(known.ok_or_else(|| malformed(&format!("there is no status '{name}'")))?)
        }
    };
    let filter = Filter {
        status,
        attention: wanted.attention,
        tenant: wanted.tenant,
        definition: wanted.definition,
        received_before: None,
    };
    let limit = wanted.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE);
    let store = &*office.desk.store;
    let mut page = store.list(&filter, wanted.after.map(SagaId), limit + 1).await?;
    let after = (page.len() > limit).then(|| page[limit - 1].saga.id.0);
    page.truncate(limit);
    let now = store.now().await?;
    let orders: Vec<Line> = page.iter().map(|stored| operate::line(stored, now)).collect();
    Ok(Json(json!({ "orders": orders, "after": after })).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    tenant: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

async fn show(
    State(office): State<Office>,
    Path(order): Path<String>,
    place: Result<Query<Place>, QueryRejection>,
) -> Result<Response, Refused> {
    let Query(place) = place?;
    let (store, tenant) = (&*office.desk.store, place.tenant.as_deref());
    let explained = operate::explain(store, &order, tenant).await?;
    let timelines = operate::timelines(store, &order, tenant).await?;
    let sagas = explained.iter().zip(&timelines);
    let sagas: Vec<Value> =
        sagas.map(|(saga, timeline)| json!({ "saga": saga, "timeline": timeline })).collect();
    Ok(Json(sagas).into_response())
}

async fn verb(
    State(office): State<Office>,
    Path(order): Path<String>,
    place: Result<Query<Place>, QueryRejection>,
    operator: Extension<Operator>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    let Query(place) = place?;
    let (ask, reason) = read(&body?)?;
    let key = headers.get(IDEMPOTENCY_KEY).and_then(|key| key.to_str().ok()?.parse().ok());
    let key: Uuid = match (key, place.dry_run) {
        (Some(key), _) => key,
        (None, true) => Uuid::nil(),
        (None, false) => return Err(malformed("send an Idempotency-Key: a UUID")),
    };
    let by = By { actor: operator.name.clone(), reason, key, approver: None };
    let Desk { store, source, policy, .. } = &*office.desk;
    let subject = (order.as_str(), place.tenant.as_deref());
    let outcome = match place.dry_run {
        true => {
            let rehearsed =
                operate::perform(&**store, source, subject, &ask, &by, Mode::Rehearse).await?;
            Outcome::Deeds(rehearsed)
        }
        false => operate::ask(&**store, source, subject, &ask, &by, policy).await?,
    };
    let status = match &outcome {
        Outcome::Waits { .. } => StatusCode::ACCEPTED,
        Outcome::Deeds(deeds) => told(deeds),
    };
    Ok((status, Json(outcome)).into_response())
}

/// What the deeds come to: a conflict where none of them could be done.
fn told(deeds: &[Deed]) -> StatusCode {
    let is_refused = |deed: &Deed| matches!(deed.result, Answer::Illegal | Answer::Refused);
    match deeds.iter().all(is_refused) {
        true => StatusCode::CONFLICT,
        false => StatusCode::OK,
    }
}

/// The verb, and why.
fn read(body: &[u8]) -> Result<(Ask, String), Refused> {
    let mut said: serde_json::Map<String, Value> =
        serde_json::from_slice(body).map_err(|error| malformed(&error.to_string()))?;
    let reason = match said.remove("reason") {
        Some(Value::String(reason)) if !reason.trim().is_empty() => reason,
        _ => return Err(malformed("`reason` must say why")),
    };
    let ask = serde_json::from_value(Value::Object(said));
    Ok((ask.map_err(|error| malformed(&error.to_string()))?, reason))
}

async fn requests(State(office): State<Office>) -> Result<Response, Refused> {
    Ok(Json(operate::requests(&*office.desk.store).await?).into_response())
}

async fn approve(
    State(office): State<Office>,
    id: Result<Path<Uuid>, PathRejection>,
    place: Result<Query<Place>, QueryRejection>,
    operator: Extension<Operator>,
) -> Result<Response, Refused> {
    let (Path(id), Query(place)) = (id?, place?);
    let Desk { store, source, .. } = &*office.desk;
    let mode = if place.dry_run { Mode::Rehearse } else { Mode::Do };
    let deeds = operate::approve(&**store, source, id, &operator.name, mode).await?;
    Ok((told(&deeds), Json(deeds)).into_response())
}

async fn withdraw(
    State(office): State<Office>,
    id: Result<Path<Uuid>, PathRejection>,
) -> Result<Response, Refused> {
    let Path(id) = id?;
    Ok(Json(operate::withdraw(&*office.desk.store, id).await?).into_response())
}

/// A request that came to nothing, as a problem document (RFC 9457).
struct Refused(Box<Response>);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        *self.0
    }
}

fn problem(status: StatusCode, kind: &str, detail: &str) -> Response {
    let body = json!({
        "type": format!("/problems/{kind}"),
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
    });
    let form = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, form, body.to_string()).into_response()
}

fn refused(status: StatusCode, kind: &str, detail: &str) -> Refused {
    Refused(Box::new(problem(status, kind, detail)))
}

fn malformed(detail: &str) -> Refused {
    refused(StatusCode::BAD_REQUEST, "malformed", detail)
}

impl From<QueryRejection> for Refused {
    fn from(error: QueryRejection) -> Refused {
        malformed(&error.body_text())
    }
}

impl From<PathRejection> for Refused {
    fn from(error: PathRejection) -> Refused {
        malformed(&error.body_text())
    }
}

impl From<BytesRejection> for Refused {
    fn from(error: BytesRejection) -> Refused {
        let kind = match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => "too-large",
            _ => "malformed",
        };
        refused(error.status(), kind, &error.body_text())
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Refused {
        OperateError::from(error).into()
    }
}

impl From<OperateError> for Refused {
    fn from(error: OperateError) -> Refused {
        let (status, kind) = match &error {
            OperateError::NoSuchOrder(_) => (StatusCode::NOT_FOUND, "no-such-order"),
            OperateError::NoSuchRequest(_) => (StatusCode::NOT_FOUND, "no-such-request"),
            OperateError::SeveralTenants { .. } => (StatusCode::CONFLICT, "several-tenants"),
            OperateError::UnknownStep { .. } => (StatusCode::BAD_REQUEST, "unknown-step"),
            OperateError::UnknownCode(_) => (StatusCode::BAD_REQUEST, "unknown-code"),
            OperateError::SamePerson(_) => (StatusCode::FORBIDDEN, "same-person"),
            OperateError::Store(error) if error.is_transient() => {
                (StatusCode::SERVICE_UNAVAILABLE, "database-away")
            }
            OperateError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        refused(status, kind, &error.to_string())
    }
}
