//! Frames of others, read by a worker that knows no registry.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::json;
use sqlx::Row;

use crate::instance::shared;
use crate::orders::{payload, scripted};
use crate::process::until;
use crate::stage::Stage;

/// For one message, and for letters to be written down.
const SOON: Duration = Duration::from_secs(30);
const GUID: [u8; 17] = [
    1, 0x89, 0x79, 0x17, 0x62, 0x23, 0x36, 0x41, 0x86, 0x96, 0x74, 0x29, 0x9b, 0x90, 0xa8, 2, 0xe2,
];

/// A value, the GUID in its header, and what is said of it.
type Bad<'a> = (&'a [u8], Option<&'a [u8]>, &'a str);

pub async fn a_frame_is_understood_and_a_bad_one_kept_as_it_came() {
    let mut stage = Stage::new("frames", shared("postgres"), shared("kafka")).await;
    stage.cast(vec![scripted("plain", 1, json!({}), "completed")]);
    let _participants = stage.participants();
    let _worker = stage.ready_worker("worker").await;
    stage.submit(1).await;
    let outside = Outside::new(&stage.broker);
    let orders = ["f-0000", "f-0001", "f-0002", "f-0003"];
    let [framed, by_guid, beside, bare] = orders.map(|id| payload(id).to_string().into_bytes());
    outside.tell("f-0000", &[&[0, 0, 0, 1, 7], &framed[..]].concat(), None).await;
    outside.tell("f-0001", &[&GUID, &by_guid[..]].concat(), None).await;
    outside.tell("f-0002", &beside, Some(&GUID)).await;
    outside.tell("f-0003", &bare, None).await;
    let avro = b"\x00\x00\x00\x00\x07\x0cf-0009\x08acme";
    let bad: [Bad<'_>; 4] = [
        (b"\x00\x00\x00", None, "ends within the frame, after 3 bytes"),
        (b"\x05\x00\x00\x00\x07{}", None, "the byte 0x05"),
        (avro, None, "schema 7 of a schema registry that is no JSON object"),
        (b"\x0cf-0009\x08acme", Some(&GUID), "89791762-2336-4186-9674-299b90a802e2"),
    ];
    for (number, (body, guid, _)) in bad.iter().enumerate() {
        outside.tell(&format!("bad-{number}"), body, *guid).await;
    }

    stage.cast_more((0..4).map(|n| scripted("f", n, json!({}), "completed")).collect());
    const LETTERS: &str = "SELECT count(*) FROM dead_letter";
    until("four letters", SOON, async || stage.number(LETTERS).await == Some(4)).await;
    let mut connection = stage.connection().await;
    let letters = sqlx::query("SELECT body, reason, error FROM dead_letter");
    let letters = letters.fetch_all(&mut connection).await.expect("the letters");
    for (body, _, expected) in bad {
        let found = letters.iter().find(|letter| letter.get::<Vec<u8>, _>("body") == body);
        let letter = found.unwrap_or_else(|| panic!("{expected}: it is not kept as it came"));
        let (reason, error): (String, String) = (letter.get("reason"), letter.get("error"));
        assert_eq!(reason, "unparseable");
        assert!(error.contains(expected), "{error}");
    }
    stage.ends_well(4).await;
}

/// A shop that frames its values in a way of its own.
struct Outside {
    producer: FutureProducer,
    topic: String,
}

impl Outside {
    fn new(broker: &str) -> Outside {
        let (hosts, path) =
            broker.split_once("://").and_then(|url| url.1.split_once('/')).expect("one");
        let prefix = path.split_once('?').map_or(path, |(prefix, _)| prefix);
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", hosts).set("message.timeout.ms", "20000");
        let producer = config.create().expect("a producer");
        Outside { producer, topic: format!("{prefix}.makegood.orders.v1") }
    }

    async fn tell(&self, id: &str, value: &[u8], guid: Option<&[u8]>) {
        let mut headers = OwnedHeaders::new();
        let attributes = [
            ("ce_specversion", "1.0"),
            ("ce_id", id),
            ("ce_source", "/shops/framing"),
            ("ce_type", "order.created.v1"),
        ];
        for (key, value) in attributes {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        if let Some(guid) = guid {
            headers = headers.insert(Header { key: "__value_schema_id", value: Some(guid) });
        }
        let record = FutureRecord::to(&self.topic).key(id).payload(value).headers(headers);
        self.producer.send(record, SOON).await.expect("it is in Kafka");
    }
}
