//! Every answer that is not a success: one table, and its form (RFC 9457).
//!
//! The `type` of a problem is stable; whoever writes a client may branch on it. The detail is
//! for a human and never quotes what was sent: it may be personal, or secret.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

/// When to come again where too much is under way, in seconds: that passes quickly.
const SOON_SECONDS: u32 = 1;
/// When to come again while the database is away, in seconds.
const LATER_SECONDS: u32 = 5;
/// How requests are signed, for who did not (RFC 9110 wants to know with every 401).
const CHALLENGE: HeaderValue = HeaderValue::from_static("Standard-Webhooks");

/// What can be wrong. The kinds are the contract: `docs` and clients know their types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Malformed,
    MissingSignature,
    StaleTimestamp,
    BadSignature,
    WrongTenant,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    OrderDiffers,
    CancelRefused,
    TooLarge,
    UnsupportedMediaType,
    InvalidOrder,
    CardData,
    InvalidScan,
    Unstorable,
    TooBusy,
    DatabaseAway,
    NotReady,
    Stopping,
    OutcomeUnknown,
}

/// A kind's type, status, title, and after how many seconds to come again.
type Row = (&'static str, u16, &'static str, Option<u32>);

impl Kind {
    pub const ALL: [Kind; 21] = [
        Kind::Malformed,
        Kind::MissingSignature,
        Kind::StaleTimestamp,
        Kind::BadSignature,
        Kind::WrongTenant,
        Kind::NotFound,
        Kind::MethodNotAllowed,
        Kind::RequestTimeout,
        Kind::OrderDiffers,
        Kind::CancelRefused,
        Kind::TooLarge,
        Kind::UnsupportedMediaType,
        Kind::InvalidOrder,
        Kind::CardData,
        Kind::InvalidScan,
        Kind::Unstorable,
        Kind::TooBusy,
        Kind::DatabaseAway,
        Kind::NotReady,
        Kind::Stopping,
        Kind::OutcomeUnknown,
    ];

    fn row(self) -> Row {
        let (soon, later) = (Some(SOON_SECONDS), Some(LATER_SECONDS));
        match self {
            Kind::Malformed => ("/problems/malformed", 400, "The request cannot be read", None),
            Kind::MissingSignature => {
                ("/problems/missing-signature", 401, "The request is not signed", None)
            }
            Kind::StaleTimestamp => {
                ("/problems/stale-timestamp", 401, "The signature is too old, or too new", None)
            }
            Kind::BadSignature => {
                ("/problems/bad-signature", 401, "The signature does not fit", None)
            }
            Kind::WrongTenant => {
                ("/problems/wrong-tenant", 403, "The order is another tenant's", None)
            }
            Kind::NotFound => ("/problems/not-found", 404, "There is nothing here", None),
            Kind::MethodNotAllowed => {
                ("/problems/method-not-allowed", 405, "That cannot be done here", None)
            }
            Kind::RequestTimeout => {
                ("/problems/request-timeout", 408, "The request came too slowly", None)
            }
            Kind::OrderDiffers => (
                "/problems/order-differs",
                409,
                "An order with this id was taken in with other content",
                None,
            ),
            Kind::CancelRefused => {
                ("/problems/cancel-refused", 409, "The order cannot be cancelled any more", None)
            }
            Kind::TooLarge => ("/problems/too-large", 413, "The body is too large", None),
            Kind::UnsupportedMediaType => {
                ("/problems/unsupported-media-type", 415, "The body must be JSON", None)
            }
            Kind::InvalidOrder => {
                ("/problems/invalid-order", 422, "The order cannot be worked with", None)
            }
            Kind::CardData => ("/problems/card-data", 422, "The order holds card data", None),
            Kind::InvalidScan => {
                ("/problems/invalid-scan", 422, "The scan cannot be worked with", None)
            }
            Kind::Unstorable => ("/problems/unstorable", 422, "It cannot be stored", None),
            Kind::TooBusy => ("/problems/too-busy", 503, "Too much is under way", soon),
            Kind::DatabaseAway => {
                ("/problems/database-away", 503, "Nothing can be stored for now", later)
            }
            Kind::NotReady => ("/problems/not-ready", 503, "Nothing is taken in yet", later),
            Kind::Stopping => ("/problems/stopping", 503, "This worker is stopping", soon),
            Kind::OutcomeUnknown => (
                "/problems/outcome-unknown",
                503,
                "It may have been stored: send the same again",
                soon,
            ),
        }
    }

    /// Its stable type.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    #[must_use]
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.row().1).expect("the table has valid statuses")
    }

    /// What it is, in a few words that never change.
    #[must_use]
    pub fn title(self) -> &'static str {
        self.row().2
    }

    pub fn because(self, detail: impl Into<String>) -> Problem {
        Problem { kind: self, detail: Some(detail.into()), more: Map::new() }
    }
}

/// One problem document.
#[derive(Debug, Clone)]
pub struct Problem {
    kind: Kind,
    detail: Option<String>,
    more: Map<String, Value>,
}

impl From<Kind> for Problem {
    fn from(kind: Kind) -> Problem {
        Problem { kind, detail: None, more: Map::new() }
    }
}

impl Problem {
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Adds a member of its own, such as the field that is wrong.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Problem {
        self.more.insert(name.to_owned(), value.into());
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (kind, status, title, retry_after) = self.kind.row();
        let mut body = self.more;
        body.insert("type".to_owned(), json!(kind));
        body.insert("title".to_owned(), json!(title));
        body.insert("status".to_owned(), json!(status));
        if let Some(detail) = self.detail {
            body.insert("detail".to_owned(), json!(detail));
        }
        let mut response = (self.kind.status(), Json(body)).into_response();
        let headers = response.headers_mut();
        let problem = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, problem);
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED.as_u16() {
            headers.insert(header::WWW_AUTHENTICATE, CHALLENGE);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_type_of_its_own_and_all_are_listed() {
        let mut types: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        types.sort_unstable();
        types.dedup();
        assert_eq!(types.len(), Kind::ALL.len());
        assert_eq!(Kind::ALL[Kind::ALL.len() - 1] as usize + 1, Kind::ALL.len(), "one is missing");
        assert!(Kind::ALL.iter().all(|kind| kind.status().as_u16() >= 400));
    }
}
