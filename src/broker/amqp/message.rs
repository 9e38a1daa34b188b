//! A CloudEvent as an AMQP 0-9-1 message, there and back.
//!
//! The official CloudEvents binding is for AMQP 1.0; here the event is the body in structured
//! JSON, and its attributes are copied to headers `cloudEvents_*` for those who route or look
//! at messages without parsing them.

use std::collections::BTreeMap;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::broker::Event;
use crate::broker::envelope::{MAX_ATTRIBUTE_BYTES, STRUCTURED};

/// Written to disk by the broker.
const PERSISTENT: u8 = 2;
const APP_ID: &str = "makegood";
const ATTRIBUTE_PREFIX: &str = "cloudEvents_";

/// The properties of a message that carries this event. `reply_to` tells a participant where
/// its answer goes.
pub fn properties(event: &Event, reply_to: Option<&ShortString>) -> BasicProperties {
    let mut headers = FieldTable::default();
    let mut header = |name: &str, value: &str| {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    };
    header("cloudEvents_specversion", &event.specversion);
    let traceparent = event.traceparent.iter().map(|value| ("traceparent", value.as_str()));
    // All headers must fit into one frame, so what is too long is only in the body.
    let fits = |(_, value): &(&str, &str)| value.len() <= MAX_ATTRIBUTE_BYTES;
    for (name, value) in event.attributes().filter(fits) {
        header(&format!("{ATTRIBUTE_PREFIX}{name}"), value);
    }
    for (name, value) in traceparent.filter(fits) {
        header(name, value);
    }
    let mut properties = BasicProperties::default()
        .with_content_type(STRUCTURED.into())
        .with_delivery_mode(PERSISTENT)
        .with_app_id(APP_ID.into())
        .with_headers(headers);
    if let Ok(id) = ShortString::try_new(event.id.as_str()) {
        properties = properties.with_message_id(id);
    }
    if let Ok(kind) = ShortString::try_new(event.kind.as_str()) {
        properties = properties.with_type(kind);
    }
    if let Some(Ok(saga)) = event.sagaid.as_deref().map(ShortString::try_new) {
        properties = properties.with_correlation_id(saga);
    }
    if let Some(seconds) = event.time.as_deref().and_then(unix_seconds) {
        properties = properties.with_timestamp(seconds);
    }
    if let Some(reply_to) = reply_to {
        properties = properties.with_reply_to(reply_to.clone());
    }
    properties
}

fn unix_seconds(time: &str) -> Option<u64> {
    OffsetDateTime::parse(time, &Rfc3339).ok()?.unix_timestamp().try_into().ok()
}

/// Properties and headers as text by lower-case name, as [`Incoming`](crate::broker::Incoming)
/// has them. Of a structured event the copied attributes are left out: its body says the same,
/// and is what counts.
pub fn headers(
    properties: &BasicProperties,
    routing_key: &ShortString,
) -> BTreeMap<String, String> {
    let known = [
        ("content-type", properties.content_type()),
        ("correlation-id", properties.correlation_id()),
        ("reply-to", properties.reply_to()),
        ("message-id", properties.message_id()),
        ("type", properties.kind()),
        ("app-id", properties.app_id()),
    ];
    let structured = properties
        .content_type()
        .as_ref()
        .is_some_and(|content_type| content_type.as_str().starts_with(STRUCTURED));
    let table = properties.headers().iter().flat_map(|table| table.inner());
    let mut headers: BTreeMap<String, String> = table
        .filter(|(name, _)| !(structured && name.as_str().starts_with(ATTRIBUTE_PREFIX)))
        .filter_map(|(name, value)| Some((name.as_str().to_ascii_lowercase(), text(value)?)))
        .collect();
    // After the headers, which anybody may call whatever they like.
    headers.insert("routing-key".to_owned(), routing_key.as_str().to_owned());
    for (name, value) in known {
        if let Some(value) = value {
            headers.insert(name.to_owned(), value.as_str().to_owned());
        }
    }
    headers
}

fn text(value: &AMQPValue) -> Option<String> {
    Some(match value {
        AMQPValue::LongString(text) => readable(text)?,
        AMQPValue::ShortString(text) => text.as_str().to_owned(),
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::ShortShortInt(value) => value.to_string(),
        AMQPValue::ShortShortUInt(value) => value.to_string(),
        AMQPValue::ShortInt(value) => value.to_string(),
        AMQPValue::ShortUInt(value) => value.to_string(),
        AMQPValue::LongInt(value) => value.to_string(),
        AMQPValue::LongUInt(value) => value.to_string(),
        AMQPValue::LongLongInt(value) => value.to_string(),
        AMQPValue::Timestamp(value) => value.to_string(),
        _ => return None,
    })
}

fn readable(text: &LongString) -> Option<String> {
    std::str::from_utf8(text.as_bytes()).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_properties_are_those_of_the_contract() {
        let mut event = Event::new("e1", "/makegood/eu", "inventory.reserve.v1", &[(); 0]);
        event.sagaid = Some("s1".to_owned());
        event.time = Some("2026-01-01T00:00:01.5Z".to_owned());
        event.traceparent = Some("00-1-2-01".to_owned());
        let properties = properties(&event, Some(&"makegood.replies".into()));
        assert_eq!(*properties.delivery_mode(), Some(2));
        assert_eq!(*properties.timestamp(), Some(1_767_225_601));
        let table = properties.headers().as_ref().unwrap().inner();
        let found = |name: &str| table.get(name).and_then(text);
        assert_eq!(found("cloudEvents_id").as_deref(), Some("e1"));
        assert_eq!(found("cloudEvents_type").as_deref(), Some("inventory.reserve.v1"));
        assert_eq!(found("cloudEvents_sagaid").as_deref(), Some("s1"));
        let headers = headers(&properties, &"the.key".into());
        let expected = [
            ("app-id", "makegood"),
            ("content-type", "application/cloudevents+json"),
            ("correlation-id", "s1"),
            ("message-id", "e1"),
            ("reply-to", "makegood.replies"),
            ("routing-key", "the.key"),
            ("traceparent", "00-1-2-01"),
            ("type", "inventory.reserve.v1"),
        ];
        let found: Vec<_> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn headers_of_binary_mode_are_kept_and_cannot_pose_as_properties() {
        let mut table = FieldTable::default();
        table.insert("cloudEvents:id".into(), AMQPValue::LongString("e1".into()));
        table.insert("ce_sequence".into(), AMQPValue::LongInt(7));
        table.insert("Message-Id".into(), AMQPValue::LongString("forged".into()));
        let properties =
            BasicProperties::default().with_headers(table).with_message_id("m1".into());
        let headers = headers(&properties, &"k".into());
        assert_eq!(headers["cloudevents:id"], "e1");
        assert_eq!(headers["ce_sequence"], "7");
        assert_eq!(headers["message-id"], "m1");
    }

    #[test]
    fn a_name_too_long_for_amqp_is_left_out_and_not_a_panic() {
        let event = Event::new("x".repeat(300), "/test", "a.b.v1", &[(); 0]);
        assert_eq!(*properties(&event, None).message_id(), None);
    }

    #[test]
    fn an_attribute_too_long_for_a_frame_is_left_to_the_body() {
        let mut event = Event::new("e1", "/test", "a.b.v1", &[(); 0]);
        event.traceparent = Some("a".repeat(70_000));
        let properties = properties(&event, None);
        let table = properties.headers().as_ref().unwrap().inner();
        let lengths = table.values().filter_map(text).map(|value| value.len());
        assert!(lengths.sum::<usize>() < 1_000);
        assert!(table.contains_key("cloudEvents_id") && !table.contains_key("traceparent"));
    }
}
