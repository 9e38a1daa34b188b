//! What is understood, what is refused, and under which reason.

use super::check::{MAX_NAME_BYTES, check_kind};
use super::*;
use proptest::prelude::*;

const MAX: usize = 64 * 1024;

fn headers(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn read(body: &str, pairs: &[(&str, &str)]) -> Result<Event, Malformed> {
    decode(&Bytes::copy_from_slice(body.as_bytes()), &headers(pairs), MAX)
}

fn reason(body: &str, pairs: &[(&str, &str)]) -> &'static str {
    read(body, pairs).map_or_else(|malformed| malformed.reason, |_| "taken in")
}

const GOOD: &str = r#"{"specversion":"1.0","id":"e1","source":"/shop","type":"order.created.v1",
    "subject":"o1","data":{"order_id":"o1","amount": 1e999}}"#;

#[test]
fn structured_json_is_told_by_its_content_type_or_by_its_specversion() {
    for pairs in [&[("content-type", "application/cloudevents+json; charset=utf-8")][..], &[]] {
        let event = read(GOOD, pairs).expect("a good event");
        assert_eq!((event.id.as_str(), event.source.as_str()), ("e1", "/shop"));
        assert_eq!((event.kind.as_str(), event.name()), ("order.created.v1", "order.created"));
        assert_eq!(event.subject.as_deref(), Some("o1"));
        assert_eq!(event.data(), r#"{"order_id":"o1","amount": 1e999}"#, "byte for byte");
    }
}

#[test]
fn binary_mode_takes_attributes_from_headers_under_any_prefix() {
    for prefix in ["cloudevents_", "cloudevents:", "ce_", "ce-"] {
        let pairs: BTreeMap<String, String> = [
            ("specversion", "1.0"),
            ("id", "e1"),
            ("source", "/wms"),
            ("type", "wms.picked.v1"),
            ("tenantid", "acme"),
        ]
        .iter()
        .map(|(name, value)| (format!("{prefix}{name}"), (*value).to_owned()))
        .chain([("content-type".to_owned(), "application/json".to_owned())])
        .collect();
        let event = decode(&Bytes::from_static(b"{\"a\":1}"), &pairs, MAX).expect("a good event");
        assert_eq!(event.kind, "wms.picked.v1");
        assert_eq!(event.tenantid.as_deref(), Some("acme"));
        assert_eq!(event.datacontenttype.as_deref(), Some("application/json"));
        assert_eq!(event.data(), "{\"a\":1}");
    }
}

#[test]
fn plain_json_is_identified_by_its_message_id_or_its_order() {
    let body = r#"{"order_id":"o1"}"#;
    let event = read(body, &[("type", "order.created.v1"), ("message-id", "m1")]).unwrap();
    assert_eq!((event.id.as_str(), event.source.as_str()), ("m1", "/unknown"));
    assert_eq!(event.subject.as_deref(), Some("o1"));

    let event = read(body, &[("routing-key", "order.created.v1"), ("app-id", "shop")]).unwrap();
    assert_eq!((event.id.as_str(), event.source.as_str()), ("o1/order.created.v1", "shop"));
    assert_eq!(event.data(), body);

    assert_eq!(reason(r#"{"a":1}"#, &[("type", "order.created.v1")]), "wrong-schema");
    assert_eq!(reason(r#"{"order_id":7}"#, &[("type", "order.created.v1")]), "wrong-schema");
    assert_eq!(reason(body, &[]), "wrong-schema");
    assert_eq!(reason("[1]", &[("type", "order.created.v1")]), "wrong-schema");
}

#[test]
fn the_traceparent_header_wins_over_the_attribute() {
    let (old, new) = (trace('1'), trace('2'));
    let body = GOOD.replace("\"subject\"", &format!("\"traceparent\":\"{old}\",\"subject\""));
    assert_eq!(read(&body, &[]).unwrap().traceparent.as_ref(), Some(&old));
    let event = read(&body, &[("traceparent", new.as_str())]).unwrap();
    assert_eq!(event.traceparent.as_ref(), Some(&new));
}

fn trace(digit: char) -> String {
    format!("00-{}-b7ad6b7169203331-01", digit.to_string().repeat(32))
}

#[test]
fn what_is_no_trace_context_is_ignored() {
    let long = "a".repeat(70_000);
    let [upper, short, more] = [trace('A'), trace('1').replace("-01", "-1"), trace('1') + "-00"];
    for wrong in [&long, "", "1", "00-1-2-01", &upper, &short, &more] {
        let body = GOOD.replace("\"subject\"", &format!("\"traceparent\":\"{wrong}\",\"subject\""));
        assert_eq!(reason(&body, &[]), if wrong.len() > MAX { "oversized" } else { "taken in" });
        let event = read(GOOD, &[("traceparent", wrong)]).expect("taken in");
        assert_eq!(event.traceparent, None, "{wrong:.80}");
    }
    // A good attribute stands in for a header that is none.
    let good = trace('1');
    let body = GOOD.replace("\"subject\"", &format!("\"traceparent\":\"{good}\",\"subject\""));
    assert_eq!(read(&body, &[("traceparent", "x")]).unwrap().traceparent, Some(good));
}

#[test]
fn an_attribute_that_no_header_could_carry_on_is_refused() {
    for (name, most) in [("source", 1_024), ("subject", 1_024), ("tenantid", 1_024), ("id", 255)] {
        let event = |bytes: usize| {
            let mut event: serde_json::Value = serde_json::from_str(GOOD_DATA).expect("JSON");
            event[name] = "x".repeat(bytes).into();
            event.to_string()
        };
        assert_eq!(reason(&event(most), &[]), "taken in", "{name}");
        assert_eq!(reason(&event(most + 1), &[]), "wrong-schema", "{name}");
    }
}

const GOOD_DATA: &str = r#"{"specversion":"1.0","id":"e1","source":"/shop",
    "type":"order.created.v1","data":{}}"#;

#[test]
fn an_extension_may_be_a_number_and_null_is_absent() {
    let body = GOOD.replace("\"subject\":\"o1\"", "\"sequence\":7,\"subject\":null");
    let event = read(&body, &[]).unwrap();
    assert_eq!((event.sequence.as_deref(), event.subject), (Some("7"), None));
}

#[test]
fn what_is_too_large_is_not_looked_into() {
    let body = Bytes::from(vec![0xff; 11]);
    let malformed = decode(&body, &BTreeMap::new(), 10).unwrap_err();
    assert_eq!(malformed.reason, "oversized");
    let body = Bytes::copy_from_slice(GOOD.as_bytes());
    assert!(decode(&body, &BTreeMap::new(), GOOD.len()).is_ok());
    assert!(decode(&body, &BTreeMap::new(), GOOD.len() - 1).is_err());
}

#[test]
fn what_is_not_json_is_unparseable() {
    let structured = [("content-type", STRUCTURED)];
    for body in ["", "{", "nonsense", "{\"a\":1}{", "{\"a\":NaN}", "[]", "\"text\""] {
        assert_eq!(reason(body, &structured), "unparseable", "{body}");
    }
    let bytes = Bytes::from_static(b"{\"specversion\":\"\xff\"}");
    assert_eq!(decode(&bytes, &BTreeMap::new(), MAX).unwrap_err().reason, "unparseable");
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
        assert_eq!(reason(&deep, &[("type", "order.created.v1")]), "unparseable");
        let body = GOOD.replace("1e999", &deep);
        assert_eq!(reason(&body, &structured), "unparseable");
    }
    let brackets = GOOD.replace("1e999", &format!("\"{}\"", "[\\\"".repeat(1_000)));
    assert_eq!(reason(&brackets, &[]), "taken in", "brackets in a string are no nesting");
}

#[test]
fn an_attribute_that_appears_twice_is_unparseable() {
    let body = GOOD.replace("\"subject\":\"o1\"", "\"subject\":\"o1\",\"subj\\u0065ct\":\"o2\"");
    assert_eq!(reason(&body, &[]), "unparseable");
    let body = GOOD.replace("\"data\":", "\"data\":{},\"data\":");
    assert_eq!(reason(&body, &[]), "unparseable");
}

#[test]
fn an_incomplete_or_strange_event_has_the_wrong_schema() {
    for (from, to) in [
        ("\"id\":\"e1\",", ""),
        ("\"id\":\"e1\",", "\"id\":\"\","),
        ("\"id\":\"e1\",", "\"id\":7,"),
        ("\"id\":\"e1\",", "\"id\":null,"),
        ("\"e1\"", "\"a\\u0000b\""),
        ("\"source\":\"/shop\",", ""),
        ("\"type\":\"order.created.v1\",", ""),
        ("\"1.0\"", "\"0.3\""),
        ("\"data\"", "\"payload\""),
        ("\"data\"", "\"data_base64\""),
        ("{\"order_id\":\"o1\",\"amount\": 1e999}", "[]"),
        ("{\"order_id\":\"o1\",\"amount\": 1e999}", "\"{}\""),
        ("{\"order_id\":\"o1\",\"amount\": 1e999}", "null"),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let body = GOOD.replace(from, to);
        assert_eq!(reason(&body, &[("content-type", STRUCTURED)]), "wrong-schema", "{body}");
    }
    let long = GOOD.replace("e1\"", &format!("{}\"", "e".repeat(MAX_NAME_BYTES + 1)));
    assert_eq!(reason(&long, &[]), "wrong-schema");
}

#[test]
fn a_type_has_an_entity_a_name_and_major_version_1() {
    for kind in ["order.created.v1", "wms.cancel-pick.v1", "inventory.reserve.status.v1", "a.b2.v1"]
    {
        assert!(check_kind(kind).is_ok(), "{kind}");
    }
    for kind in [
        "",
        "v1",
        ".v1",
        "order.v1",
        "order..v1",
        "order.created",
        "order.created.v",
        "order.created.v2",
        "order.created.v01",
        "order.created.v1.",
        "Order.created.v1",
        "order.cre ated.v1",
        "order.*.v1",
        "order.#.v1",
        "order.1x.v1",
        "orderé.x.v1",
    ] {
        assert_eq!(check_kind(kind).map_err(|wrong| wrong.reason), Err("wrong-schema"), "{kind}");
    }
}

prop_compose! {
    fn any_event()(
        id in "[ -~]{1,40}", source in "\\PC{1,40}", kind in "[a-z][a-z-]{0,9}\\.[a-z]{1,9}",
        optional in prop::collection::vec(prop::option::of("\\PC{0,30}"), OPTIONAL.len()),
        trace in prop::option::of("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"),
        data in prop::collection::btree_map("\\PC{0,8}", any::<i64>(), 0..5),
    ) -> Event {
        let mut event = Event::new(id, source, format!("{kind}.v1"), &data);
        for ((name, _), value) in OPTIONAL.iter().zip(optional) {
            if let Some(value) = value {
                event.set(name, value);
            }
        }
        event.traceparent = trace;
        event
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read_back(event in any_event()) {
        let json = Bytes::from(event.to_json());
        let back = decode(&json, &headers(&[("content-type", STRUCTURED)]), MAX);
        prop_assert_eq!(back.map(|event| event.to_json()), Ok(event.to_json()));
    }

    #[test]
    fn random_bytes_are_refused_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        mode in prop::sample::select(vec!["structured", "binary", "plain"]),
    ) {
        let pairs: &[(&str, &str)] = match mode {
            "structured" => &[("content-type", STRUCTURED)],
            "binary" => &[("ce_specversion", "1.0"), ("ce_id", "1"), ("ce_type", "a.b.v1")],
            _ => &[("type", "order.created.v1"), ("message-id", "m")],
        };
        let _ = decode(&Bytes::from(bytes), &headers(pairs), MAX);
    }

    #[test]
    fn a_damaged_event_is_refused_without_a_panic(at in 0..GOOD.len(), byte in any::<u8>()) {
        let mut bytes = GOOD.as_bytes().to_vec();
        bytes[at] = byte;
        let _ = decode(&Bytes::from(bytes), &headers(&[]), MAX);
    }
}
