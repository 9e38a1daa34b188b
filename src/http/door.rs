//! What all doors have in common: bounds, who signed, and what becomes of a call.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::accounts::{Account, Accounts, MAX_TRIED, Role};
use super::problem::{Kind, Problem};
use super::signature::Claim;
use super::{orders, shipments};
use crate::broker::envelope::{MAX_NESTING, nesting};
use crate::clock::Clock;
use crate::order::parse_json;
use crate::store::{Store, StoreError};
use crate::telemetry::Telemetry;
use crate::worker::{Call, DATABASE, Entrance, Settled, Shutdown, Unanswered};

/// Which account signed, where the sender says so.
pub const ACCOUNT: &str = "makegood-account";
/// What is signed.
const WHAT: &str = "webhook-id.webhook-timestamp.body, byte for byte";
/// Questions to the database at the same time: the lanes need its connections more.
const LOOKUPS: usize = 2;
/// How much of a body that is too large is read all the same, in bytes. Who sends it hears the
/// answer only when it has been sent; beyond this the connection is cut.
const MAX_DISCARDED_BYTES: usize = 16 * 1024 * 1024;

/// The bounds of the doors.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// The largest body, in bytes.
    pub max_body_bytes: usize,
    /// How long a request may take: its head from the opening of the connection, or from the
    /// last answer, and then all the rest.
    pub timeout: Duration,
    /// Requests at the same time; one more is told to come again.
    pub in_flight: usize,
}

/// All that the doors work with.
pub struct Doors {
    pub(super) entrance: Entrance,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) telemetry: Arc<Telemetry>,
    accounts: Arc<Accounts>,
    shutdown: Shutdown,
    bounds: Bounds,
    room: Semaphore,
    lookups: Semaphore,
}

impl Doors {
    #[must_use]
    pub fn new(
        entrance: Entrance,
        (store, clock, telemetry): (Arc<dyn Store>, Arc<dyn Clock>, Arc<Telemetry>),
        accounts: Arc<Accounts>,
        shutdown: Shutdown,
        bounds: Bounds,
    ) -> Doors {
        let room = Semaphore::new(bounds.in_flight);
        let lookups = Semaphore::new(LOOKUPS);
        Doors { entrance, store, clock, telemetry, accounts, shutdown, bounds, room, lookups }
    }

    pub(super) fn router(self: &Arc<Doors>) -> Router {
        Router::new()
            .route("/v1/orders", post(orders::push))
            .route("/v1/orders/{order_id}", get(orders::status))
            .route("/v1/orders/{order_id}/cancel", post(orders::cancel))
            .route("/v1/shipments/{shipment_id}/status", post(shipments::scan))
            .method_not_allowed_fallback(async || Problem::from(Kind::MethodNotAllowed))
            .fallback(async || Problem::from(Kind::NotFound))
            .layer(from_fn_with_state(self.clone(), bounded))
            .with_state(self.clone())
    }

    pub(super) fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// How long a head may take.
    pub(super) fn patience(&self) -> Duration {
        self.bounds.timeout
    }

    /// Asks the store, while not too many do.
    pub(super) async fn look<T>(
        &self,
        request: &Signed,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Problem> {
        let answer = async {
            // It is never closed.
            let _turn = self.lookups.acquire().await;
            question.await
        };
        match timeout_at(request.deadline, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if error.is_transient() => Err(Kind::DatabaseAway.into()),
            Ok(Err(_)) => Err(Kind::NotReady.because("what is stored cannot be read here")),
            Err(_) => Err(Kind::TooBusy.into()),
        }
    }

    /// Hands a call in and waits for what becomes of it.
    pub(super) async fn call(
        &self,
        call: Call,
        deadline: Instant,
    ) -> Result<Vec<Settled>, Problem> {
        if self.shutdown.is_stopping() {
            return Err(Kind::Stopping.into());
        }
        if self.telemetry.health.has_trouble(|part| part == DATABASE) {
            return Err(Kind::DatabaseAway.into());
        }
        let again = "sent again with the same content, it does no harm";
        match timeout_at(deadline, self.entrance.call(call)).await {
            Ok(Ok(settled)) if settled.is_empty() => {
                Err(Kind::NotReady.because("no definition is published that takes it"))
            }
            Ok(Ok(settled)) => Ok(settled),
            Ok(Err(Unanswered::Full)) => Err(Kind::TooBusy.into()),
            Ok(Err(Unanswered::Stopping)) => Err(Kind::Stopping.into()),
            Ok(Err(Unanswered::LetGo)) | Err(_) => Err(Kind::OutcomeUnknown.because(again)),
        }
    }

    /// Reads a request and finds out who signed it.
    pub(super) async fn signed(&self, role: Role, request: Request) -> Result<Signed, Problem> {
        let deadline = Instant::now() + self.bounds.timeout;
        let (head, body) = request.into_parts();
        let claim = Claim::read(&head.headers, self.clock.now())?;
        let name = account_name(&head.headers)?;
        if head.method == axum::http::Method::POST {
            expect_json(&head.headers)?;
        }
        let body = self.read(body, deadline).await?;
        let account = self.accounts.signer(role, name, &claim, &body).ok_or_else(|| {
            Kind::BadSignature.because(format!(
                "no key of such an account fits what was signed, {WHAT}; where there are more \
                 than {MAX_TRIED} accounts, {ACCOUNT} must name the one that signed"
            ))
        })?;
        Ok(Signed { account, id: claim.id, body, headers: head.headers, deadline })
    }

    async fn read(&self, body: Body, deadline: Instant) -> Result<Bytes, Problem> {
        let most = self.bounds.max_body_bytes;
        let too_large = || Kind::TooLarge.because(format!("at most {most} bytes are taken in"));
        let mut body = body;
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        let collected = async {
            if announced > most {
                return Err(too_large());
            }
            let limited = Limited::new(&mut body, most);
            limited.collect().await.map(|collected| collected.to_bytes()).map_err(|error| {
                match error.is::<LengthLimitError>() {
                    true => too_large(),
                    false => Kind::Malformed.because("the body ended before its end"),
                }
            })
        };
        let read = timeout_at(deadline, collected).await;
        if matches!(&read, Ok(Err(_))) {
            let _ = timeout_at(deadline, discard(body)).await;
        }
        read.unwrap_or_else(|_| Err(Kind::RequestTimeout.into()))
    }
}

/// Reads to the end what nobody wants, within bounds.
async fn discard(mut body: Body) {
    let mut bytes = 0;
    while bytes <= MAX_DISCARDED_BYTES
        && let Some(Ok(frame)) = body.frame().await
    {
        bytes += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// A request of which it is known who signed it.
pub(super) struct Signed {
    pub account: Arc<Account>,
    /// Its `webhook-id`.
    pub id: String,
    pub body: Bytes,
    pub headers: HeaderMap,
    /// When its sender will have waited long enough.
    pub deadline: Instant,
}

impl Signed {
    /// The body as JSON, every field named once.
    pub fn json(&self) -> Result<Value, Problem> {
        let text = std::str::from_utf8(&self.body)
            .map_err(|_| Kind::Malformed.because("the body is not UTF-8"))?;
        if nesting(text) > MAX_NESTING {
            let detail = format!("the body is nested deeper than {MAX_NESTING} levels");
            return Err(Kind::Malformed.because(detail));
        }
        parse_json(&self.body).map_err(|error| {
            let what = if error.is_data() { "cannot be taken" } else { "is not JSON" };
            Kind::Malformed.because(format!("the body {what}: {error}"))
        })
    }
}

fn account_name(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(name) = headers.get(ACCOUNT) else { return Ok(None) };
    let wrong = || Kind::BadSignature.because(format!("{ACCOUNT} must be plain text"));
    name.to_str().map(Some).map_err(|_| wrong())
}

fn expect_json(headers: &HeaderMap) -> Result<(), Problem> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = value.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    match kind.eq_ignore_ascii_case("application/json") {
        true => Ok(()),
        false => Err(Kind::UnsupportedMediaType.because("content-type must be application/json")),
    }
}

/// Lets in no more than may be under way, and counts the answers.
async fn bounded(State(doors): State<Arc<Doors>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let door = match request.extensions().get::<MatchedPath>().map(MatchedPath::as_str) {
        Some("/v1/orders") => "orders",
        Some("/v1/orders/{order_id}") => "status",
        Some("/v1/orders/{order_id}/cancel") => "cancel",
        Some(_) => "shipments",
        None => "none",
    };
    let response = match doors.room.try_acquire() {
        Ok(_room) => next.run(request).await,
        Err(_) => Problem::from(Kind::TooBusy).into_response(),
    };
    let seconds = began.elapsed().as_secs_f64();
    doors.telemetry.http_answered(door, response.status().as_u16(), seconds);
    response
}
