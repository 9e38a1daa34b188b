//! The CloudEvents 1.0 envelope of every message: writing it, and reading what others wrote.
//!
//! A message is read as structured JSON, as binary mode (attributes in headers) or as plain
//! JSON from a shop that knows nothing of CloudEvents. Whatever cannot be read is [`Malformed`],
//! with the reason code of the dead letter that it becomes. What `data` means is not known here.

mod check;
pub mod frame;
mod members;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use check::check;
pub use check::{MAX_ATTRIBUTE_BYTES, is_trace_context};
use members::Members;
pub use members::nesting;

/// The only version of the CloudEvents specification there is.
const SPECVERSION: &str = "1.0";
/// The content type of structured mode.
pub const STRUCTURED: &str = "application/cloudevents+json";
/// The source of a plain message whose sender did not say who it is.
const UNKNOWN_SOURCE: &str = "/unknown";
/// Deepest nesting of arrays and objects in a message. Orders need six or so; parsers further
/// on recurse, and serde_json itself stops at 128.
pub const MAX_NESTING: usize = 64;

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
    /// Where the answer goes, if not to everybody's replies. Part of the message, not of the
    /// CloudEvent.
    #[serde(skip)]
    pub reply_to: Option<String>,
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
    /// An event with what every event must have; the other attributes are left out.
    ///
    /// # Panics
    /// When `data` has a map with keys that are not text: a wrong type in our own code.
    #[must_use]
    pub fn new(
        id: impl Into<String>,
        source: impl Into<String>,
        kind: impl Into<String>,
        data: &impl Serialize,
    ) -> Event {
        let data = serde_json::value::to_raw_value(data).expect("our own types are JSON");
        Event::bare(id.into(), source.into(), kind.into(), data)
    }

    fn bare(id: String, source: String, kind: String, data: Box<RawValue>) -> Event {
        Event {
            specversion: SPECVERSION.to_owned(),
            id,
            source,
            kind,
            subject: None,
            time: None,
            datacontenttype: None,
            dataschema: None,
            tenantid: None,
            sagaid: None,
            correlationid: None,
            causationid: None,
            partitionkey: None,
            sequence: None,
            traceparent: None,
            reply_to: None,
            data: Some(data),
        }
    }

    /// The type without its major version: `order.created`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.kind.rsplit_once(".v").map_or(self.kind.as_str(), |(name, _)| name)
    }

    /// The payload as text; empty JSON object where there is none.
    #[must_use]
    pub fn data(&self) -> &str {
        self.data.as_ref().map_or("{}", |data| data.get())
    }

    /// The structured JSON form, as it is published and as it waits in the outbox.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and raw JSON always serialise")
    }

    /// The attributes other than `data` and `specversion` that are set, by their CloudEvents
    /// names.
    pub fn attributes(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let optional = OPTIONAL
            .iter()
            .filter_map(|(name, field)| field(self).as_deref().map(|value| (*name, value)));
        [("id", self.id.as_str()), ("source", &self.source), ("type", &self.kind)]
            .into_iter()
            .chain(optional)
    }

    fn set(&mut self, name: &str, value: String) {
        let slot = match name {
            "subject" => &mut self.subject,
            "time" => &mut self.time,
            "datacontenttype" => &mut self.datacontenttype,
            "dataschema" => &mut self.dataschema,
            "tenantid" => &mut self.tenantid,
            "sagaid" => &mut self.sagaid,
            "correlationid" => &mut self.correlationid,
            "causationid" => &mut self.causationid,
            "partitionkey" => &mut self.partitionkey,
            "sequence" => &mut self.sequence,
            "traceparent" => &mut self.traceparent,
            _ => return,
        };
        *slot = Some(value);
    }
}

type Field = fn(&Event) -> &Option<String>;

/// The optional attributes that Makegood knows.
const OPTIONAL: [(&str, Field); 11] = [
    ("subject", |event| &event.subject),
    ("time", |event| &event.time),
    ("datacontenttype", |event| &event.datacontenttype),
    ("dataschema", |event| &event.dataschema),
    ("tenantid", |event| &event.tenantid),
    ("sagaid", |event| &event.sagaid),
    ("correlationid", |event| &event.correlationid),
    ("causationid", |event| &event.causationid),
    ("partitionkey", |event| &event.partitionkey),
    ("sequence", |event| &event.sequence),
    ("traceparent", |event| &event.traceparent),
];

impl Malformed {
    fn oversized(bytes: usize, most: usize) -> Malformed {
        let detail = format!("{bytes} bytes, and at most {most} are taken in");
        Malformed { reason: "oversized", detail }
    }

    fn unparseable(detail: impl fmt::Display) -> Malformed {
        Malformed { reason: "unparseable", detail: detail.to_string() }
    }

    /// Tells where, and not what: the parser's own words may quote a customer.
    fn json(error: serde_json::Error) -> Malformed {
        let (line, column) = (error.line(), error.column());
        Malformed::unparseable(format!("not the expected JSON at line {line} column {column}"))
    }

    fn schema(detail: impl Into<String>) -> Malformed {
        Malformed { reason: "wrong-schema", detail: detail.into() }
    }
}

/// Reads what came in: a CloudEvent in structured JSON or in binary mode (`cloudEvents_*` /
/// `ce_*` headers), or a plain-JSON message whose kind is told by its `type` or routing key.
///
/// Each of them may be behind the [`frame`] of a schema registry.
///
/// `headers` are by lower-case name, as in [`Incoming`](super::Incoming).
///
/// # Errors
/// [`Malformed`], which makes it a dead letter.
pub fn decode(
    body: &Bytes,
    headers: &BTreeMap<String, String>,
    max_bytes: usize,
) -> Result<Event, Malformed> {
    if body.len() > max_bytes {
        return Err(Malformed::oversized(body.len(), max_bytes));
    }
    let value = frame::unframed(body, headers)?;
    let text = std::str::from_utf8(value).map_err(Malformed::unparseable)?;
    if nesting(text) > MAX_NESTING {
        return Err(Malformed::unparseable(format!("nested deeper than {MAX_NESTING} levels")));
    }
    let content_type = headers.get("content-type").map_or("", String::as_str);
    let mut event = if content_type.starts_with(STRUCTURED) {
        structured(members(text)?)?
    } else if attribute_headers(headers).any(|(name, _)| name == "specversion") {
        binary(text, headers)?
    } else {
        match members(text) {
            Ok(members) if members.0.iter().any(|(name, _)| name == "specversion") => {
                structured(members)?
            }
            _ => plain(text, headers)?,
        }
    };
    // Each hop writes the header anew; the attribute may be older. One that is no trace context
    // is ignored, as the W3C recommends: an order is not refused for it.
    let header = headers.get("traceparent").cloned();
    event.traceparent =
        [header, event.traceparent].into_iter().flatten().find(|value| is_trace_context(value));
    event.reply_to = headers.get("reply-to").cloned();
    check(&event)?;
    Ok(event)
}

fn structured(members: Members<'_>) -> Result<Event, Malformed> {
    let mut attributes = BTreeMap::new();
    let mut data = None;
    let mut seen = BTreeSet::new();
    for (name, value) in &members.0 {
        if !seen.insert(name) {
            return Err(Malformed::unparseable(format!("the attribute '{name}' appears twice")));
        }
        match (name.as_ref(), value.get()) {
            // CloudEvents: null is the same as absent.
            (_, "null") => {}
            ("data", _) => data = Some(*value),
            (name, _) => {
                if let Some(text) = attribute_text(name, value)? {
                    attributes.insert(name, text);
                }
            }
        }
    }
    let data = data.ok_or_else(|| Malformed::schema("there is no data"))?;
    assemble(attributes, object(data)?)
}

/// The value of an attribute as text. An extension may also be a number or a Boolean; one that
/// is an array or an object is none of ours, and left out.
fn attribute_text(name: &str, value: &RawValue) -> Result<Option<String>, Malformed> {
    let raw = value.get();
    if raw.starts_with('"') {
        return serde_json::from_str(raw).map(Some).map_err(Malformed::json);
    }
    if matches!(name, "id" | "source" | "type" | "specversion" | "subject") {
        return Err(Malformed::schema(format!("the attribute '{name}' is not text")));
    }
    Ok((!raw.starts_with(['{', '['])).then(|| raw.to_owned()))
}

fn binary(text: &str, headers: &BTreeMap<String, String>) -> Result<Event, Malformed> {
    let mut attributes: BTreeMap<&str, String> =
        attribute_headers(headers).map(|(name, value)| (name, value.to_owned())).collect();
    if let Some(content_type) = headers.get("content-type") {
        attributes.insert("datacontenttype", content_type.clone());
    }
    let data: &RawValue = serde_json::from_str(text).map_err(Malformed::json)?;
    assemble(attributes, object(data)?)
}

/// Attributes in headers, without the prefix of the AMQP, JMS, Kafka or RabbitMQ binding.
fn attribute_headers(headers: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    headers.iter().filter_map(|(name, value)| {
        let prefixes = ["cloudevents_", "cloudevents:", "ce_", "ce-"];
        let name = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix))?;
        Some((name, value.as_str()))
    })
}

fn assemble(
    mut attributes: BTreeMap<&str, String>,
    data: Box<RawValue>,
) -> Result<Event, Malformed> {
    let version = required(&mut attributes, "specversion")?;
    if version != SPECVERSION {
        return Err(Malformed::schema(format!("specversion '{version}' is not known")));
    }
    let id = required(&mut attributes, "id")?;
    let source = required(&mut attributes, "source")?;
    let kind = required(&mut attributes, "type")?;
    let mut event = Event::bare(id, source, kind, data);
    for (name, value) in attributes {
        event.set(name, value);
    }
    Ok(event)
}

fn required(attributes: &mut BTreeMap<&str, String>, name: &str) -> Result<String, Malformed> {
    attributes
        .remove(name)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| Malformed::schema(format!("the attribute '{name}' is missing")))
}

/// What a plain message tells about the order it is for.
#[derive(Deserialize)]
struct PlainData {
    order_id: Option<String>,
}

fn plain(text: &str, headers: &BTreeMap<String, String>) -> Result<Event, Malformed> {
    let header = |name| headers.get(name).filter(|value| !value.is_empty());
    let data: &RawValue = serde_json::from_str(text).map_err(Malformed::json)?;
    let data = object(data)?;
    let kind = header("type").or_else(|| header("routing-key")).ok_or_else(|| {
        Malformed::schema("neither a CloudEvent nor a message with a type or a routing key")
    })?;
    let PlainData { order_id } = serde_json::from_str(data.get())
        .map_err(|_| Malformed::schema("not a CloudEvent, and its order_id is not one text"))?;
    // The shop repeats an order under the same id, so the order and the kind identify it.
    let id = match (header("message-id"), &order_id) {
        (Some(id), _) => id.clone(),
        (None, Some(order_id)) => format!("{order_id}/{kind}"),
        (None, None) => {
            return Err(Malformed::schema("neither a message-id nor an order_id identifies it"));
        }
    };
    let source = header("app-id").map_or(UNKNOWN_SOURCE, String::as_str);
    let mut event = Event::bare(id, source.to_owned(), kind.clone(), data);
    event.subject = order_id;
    Ok(event)
}

fn members(text: &str) -> Result<Members<'_>, Malformed> {
    serde_json::from_str(text).map_err(Malformed::json)
}

fn object(data: &RawValue) -> Result<Box<RawValue>, Malformed> {
    if data.get().starts_with('{') {
        Ok(data.to_owned())
    } else {
        Err(Malformed::schema("the data is not a JSON object"))
    }
}

#[cfg(test)]
mod tests;
