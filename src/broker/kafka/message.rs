//! A CloudEvent as a Kafka message, there and back.
//!
//! Written in the binary mode of the CloudEvents binding for Kafka: the value is the data as it
//! is, the attributes are headers `ce_*` in UTF-8 (percent-encoding is a matter of HTTP), and
//! the key is the order's, so that all that concerns an order is in one partition. What is read
//! may be in structured mode as well, or the plain JSON of a shop that knows no CloudEvents.

use std::collections::BTreeMap;

use rdkafka::message::{Header, Headers, OwnedHeaders};
use uuid::Uuid;

use crate::broker::envelope::frame::{MAGIC_GUID, SCHEMA_HEADER};
use crate::broker::{Channel, Event};

const ATTRIBUTE_PREFIX: &str = "ce_";
const CONTENT_TYPE: &str = "content-type";
/// What data is of which its event does not say it.
const JSON: &str = "application/json";
/// What a plain message among the orders is that does not say it. Topics have no routing key.
const PLAIN_ORDER: &str = "order.created.v1";

/// Why a message is among the dead ones: a header of ours, its only value, and RabbitMQ's header.
pub const DEAD_LETTER_REASON: &str = "dead-letter-reason";
pub const LIMIT: &str = "delivery-limit";
const FIRST_DEATH: &str = "x-first-death-reason";

/// The key of an event's message: messages with the same key keep their order.
pub fn key(event: &Event) -> &str {
    event.partitionkey.as_deref().or(event.subject.as_deref()).unwrap_or(&event.id)
}

pub fn headers(event: &Event) -> OwnedHeaders {
    fn add(headers: OwnedHeaders, key: &str, value: &str) -> OwnedHeaders {
        headers.insert(Header { key, value: Some(value) })
    }
    let content_type = event.datacontenttype.as_deref().unwrap_or(JSON);
    let mut headers = add(OwnedHeaders::new(), CONTENT_TYPE, content_type);
    headers = add(headers, "ce_specversion", &event.specversion);
    for (name, value) in event.attributes().filter(|(name, _)| *name != "datacontenttype") {
        headers = add(headers, &format!("{ATTRIBUTE_PREFIX}{name}"), value);
    }
    match &event.traceparent {
        Some(traceparent) => add(headers, "traceparent", traceparent),
        None => headers,
    }
}

/// Headers as text by lower-case name, as [`Incoming`](crate::broker::Incoming) has them. What
/// is a property of the message at RabbitMQ is added under its name there.
pub fn incoming_headers(
    given: Option<&OwnedHeaders>,
    channel: &Channel,
) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    for header in given.iter().flat_map(|headers| headers.iter()) {
        let key = header.key.to_ascii_lowercase();
        if let Some(guid) = header.value.filter(|_| key == SCHEMA_HEADER).and_then(guid) {
            headers.insert(key, guid.to_string());
        } else if let Some(Ok(value)) = header.value.map(std::str::from_utf8) {
            headers.insert(key, value.to_owned());
        }
    }
    // Nobody may choose how a message counts here by a header of that name.
    headers.remove("x-delivery-count");
    for (attribute, property) in
        [("ce_id", "message-id"), ("ce_type", "type"), ("ce_sagaid", "correlation-id")]
    {
        if let Some(value) = headers.get(attribute).cloned() {
            headers.insert(property.to_owned(), value);
        }
    }
    // Only among the dead ones: there it was written by whoever gave the message up.
    headers.remove(FIRST_DEATH);
    if *channel == Channel::Dead && headers.get(DEAD_LETTER_REASON).is_some_and(|r| r == LIMIT) {
        headers.insert(FIRST_DEATH.to_owned(), "delivery_limit".to_owned());
    }
    let kind = headers.get("type").cloned();
    let kind = kind.or_else(|| (*channel == Channel::Orders).then(|| PLAIN_ORDER.to_owned()));
    match kind.filter(|_| !matches!(channel, Channel::ReplyTo(_))) {
        Some(kind) => headers.insert("routing-key".to_owned(), kind),
        // Who asks aside would take it for the address to which the answer was sent.
        None => headers.remove("routing-key"),
    };
    headers
}

/// The GUID of a schema, as a header has it: behind a magic byte.
fn guid(value: &[u8]) -> Option<Uuid> {
    Uuid::from_slice(value.strip_prefix(&[MAGIC_GUID])?).ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::broker::{DEFAULT_MAX_MESSAGE_BYTES, envelope};

    fn decoded(body: &str, given: &[(&str, &str)], channel: &Channel) -> Result<Event, String> {
        let headers = given.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(*value) })
        });
        let headers = incoming_headers(Some(&headers), channel);
        let body = Bytes::copy_from_slice(body.as_bytes());
        envelope::decode(&body, &headers, DEFAULT_MAX_MESSAGE_BYTES).map_err(|e| e.detail)
    }

    #[test]
    fn what_is_written_is_read() {
        let mut event = Event::new("e1", "/makegood/eu", "inventory.reserve.v1", &["ü"]);
        event.data = Some(serde_json::value::RawValue::from_string("{\"a\":1.50}".into()).unwrap());
        event.subject = Some("ö 1%20".to_owned());
        event.sagaid = Some("s1".to_owned());
        event.datacontenttype = Some(JSON.to_owned());
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        event.traceparent = Some(trace.to_owned());
        let headers = incoming_headers(Some(&headers(&event)), &Channel::Orders);
        let expected = [
            ("ce_id", "e1"),
            ("ce_sagaid", "s1"),
            ("ce_source", "/makegood/eu"),
            ("ce_specversion", "1.0"),
            ("ce_subject", "ö 1%20"),
            ("ce_traceparent", trace),
            ("ce_type", "inventory.reserve.v1"),
            ("content-type", "application/json"),
            ("correlation-id", "s1"),
            ("message-id", "e1"),
            ("routing-key", "inventory.reserve.v1"),
            ("traceparent", trace),
            ("type", "inventory.reserve.v1"),
        ];
        let found: Vec<_> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(found, expected);
        let body = Bytes::copy_from_slice(event.data().as_bytes());
        let read = envelope::decode(&body, &headers, DEFAULT_MAX_MESSAGE_BYTES).unwrap();
        assert_eq!(read.to_json(), event.to_json());
    }

    #[test]
    fn structured_mode_and_plain_json_are_read_as_well() {
        let event = Event::new("e2", "/shop", "order.cancel-requested.v1", &serde_json::json!({}));
        let structured = String::from_utf8(event.to_json()).unwrap();
        let content = [("Content-Type", "application/cloudevents+json; charset=UTF-8")];
        let read = decoded(&structured, &content, &Channel::Orders).unwrap();
        assert_eq!((read.id.as_str(), read.kind.as_str()), ("e2", "order.cancel-requested.v1"));

        let plain = "{\"order_id\":\"o1\"}";
        let read = decoded(plain, &[], &Channel::Orders).unwrap();
        assert_eq!((read.id.as_str(), read.kind.as_str()), ("o1/order.created.v1", PLAIN_ORDER));
        let typed = [("type", "order.cancel-requested.v1"), ("message-id", "m1")];
        let read = decoded(plain, &typed, &Channel::Orders).unwrap();
        assert_eq!((read.id.as_str(), read.kind.as_str()), ("m1", "order.cancel-requested.v1"));
        let error = decoded(plain, &[], &Channel::Facts).unwrap_err();
        assert!(error.contains("neither a CloudEvent"), "a fact must say what it is: {error}");
    }

    #[test]
    fn a_guid_in_a_header_is_told_of_what_is_not_json() {
        let guid = b"\x01\x89\x79\x17\x62\x23\x36\x41\x86\x96\x74\x29\x9b\x90\xa8\x02\xe2";
        let given = Header { key: "__value_schema_id", value: Some(&guid[..]) };
        let headers = incoming_headers(Some(&OwnedHeaders::new().insert(given)), &Channel::Orders);
        let read = |body: &'static [u8]| {
            envelope::decode(&Bytes::from_static(body), &headers, DEFAULT_MAX_MESSAGE_BYTES)
        };
        assert_eq!(read(b"{\"order_id\":\"o1\"}").unwrap().subject.as_deref(), Some("o1"));
        let error = read(b"\x00\x06foo").unwrap_err().detail;
        assert!(error.contains("89791762-2336-4186-9674-299b90a802e2"), "{error}");
    }

    #[test]
    fn the_order_is_the_key() {
        let mut event = Event::new("e1", "/x", "a.b.v1", &[(); 0]);
        assert_eq!(key(&event), "e1");
        event.subject = Some("o1".to_owned());
        assert_eq!(key(&event), "o1");
        event.partitionkey = Some("p1".to_owned());
        assert_eq!(key(&event), "p1");
    }
}
