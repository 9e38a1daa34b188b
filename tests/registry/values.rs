//! All that is on Kafka after a whole job, read byte by byte.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::instance::shared;
use crate::orders::{mixed, scripted};
use crate::stage::Stage;
use crate::{frame, request, schemas};

const ORDERS: usize = 40;
/// For one question to Kafka.
const LOOK: Duration = Duration::from_secs(10);
/// What these orders lead to, at least.
const SEEN: [&str; 7] = [
    "command",
    "fact",
    "order-cancel-requested",
    "order-created",
    "order-reached",
    "reply",
    "saga-attention",
];

pub struct Record {
    pub topic: String,
    pub kind: String,
    pub value: Vec<u8>,
}

pub async fn every_value_names_its_schema_and_keeps_to_it() {
    let registry = shared("apicurio");
    let mut stage = Stage::new("framed", shared("postgres"), shared("kafka")).await;
    frame(&stage, registry, "");
    let mut orders = mixed("framed", ORDERS, 4);
    orders.push(scripted("lost", 1, json!({ "deliver": "failed" }), "running"));
    stage.cast(orders);
    let _participants = stage.participants();
    let _worker = stage.ready_worker("worker").await;
    stage.submit(2).await;
    stage.ends_well(0).await;

    let mut known = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for Record { topic, kind, value } in records(&stage.broker).await {
        let name = record(&topic, &kind);
        let [0, a, b, c, d, json @ ..] = &*value else { panic!("{kind}: no frame: {value:?}") };
        let id = u32::from_be_bytes([*a, *b, *c, *d]);
        if let std::collections::btree_map::Entry::Vacant(unknown) = known.entry(id) {
            let schema = request(registry, "GET", &format!("/schemas/ids/{id}"), None).await;
            let schema: Value = serde_json::from_str(&schema).expect("JSON");
            assert_eq!(schema["schemaType"], "JSON", "{schema}");
            let text = schema["schema"].as_str().expect("a schema").to_owned();
            unknown.insert(text);
        }
        let schema: Value = serde_json::from_str(&known[&id]).expect("a JSON Schema");
        let subject = format!("makegood.{name}.v1");
        assert_eq!(schema["title"], *subject, "{kind} in {topic}");
        if seen.insert(name) {
            let printed = stage.succeed(&["contract", "subjects", &subject]).await;
            assert_eq!(printed.trim(), known[&id], "what CI would register");
        }
        let json: Value = serde_json::from_slice(json).expect("JSON behind the frame");
        for validator in [schemas::published(name), jsonschema::draft7::new(&schema).expect("one")]
        {
            let errors: Vec<_> = validator.iter_errors(&json).map(|e| e.to_string()).collect();
            assert_eq!(errors, Vec::<String>::new(), "{kind}: {json:#}");
        }
    }
    assert!(seen.is_superset(&SEEN.into()), "{seen:?}");
}

/// The name of the published schema of what is in a topic under a type: as asyncapi.yaml says it.
fn record(topic: &str, kind: &str) -> &'static str {
    let (_, topic) = topic.split_once(".makegood.").expect("our topics");
    match (topic, kind) {
        ("orders.v1", "order.created.v1") => "order-created",
        ("orders.v1", "order.cancel-requested.v1") => "order-cancel-requested",
        ("facts.v1", _) => "fact",
        ("replies.v1", kind) if kind.ends_with(".status.replied.v1") => "probe-reply",
        ("replies.v1", _) => "reply",
        ("events.v1", "order.cancel-refused.v1") => "order-cancel-refused",
        ("events.v1", "saga.attention-raised.v1" | "saga.attention-cleared.v1") => "saga-attention",
        ("events.v1", "saga.abandoned.v1") => "saga-abandoned",
        ("events.v1", _) => "order-reached",
        (topic, kind) if topic.ends_with(".commands.v1") && kind.ends_with(".status.v1") => "probe",
        (topic, _) if topic.ends_with(".commands.v1") => "command",
        _ => panic!("{kind} in {topic}"),
    }
}

/// Everything in all topics of a deployment.
pub async fn records(broker: &str) -> Vec<Record> {
    let (hosts, path) =
        broker.split_once("://").and_then(|url| url.1.split_once('/')).expect("one");
    let prefix = format!("{}.", path.split_once('?').map_or(path, |(prefix, _)| prefix));
    let hosts = hosts.to_owned();
    let read = tokio::task::spawn_blocking(move || read_all(&hosts, &prefix));
    read.await.expect("it was read")
}

fn read_all(hosts: &str, prefix: &str) -> Vec<Record> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", hosts).set("group.id", "reads-all");
    let client: BaseConsumer = config.create().expect("a client");
    let metadata = client.fetch_metadata(None, LOOK).expect("the topics");
    let mut list = TopicPartitionList::new();
    let mut expected = 0;
    for topic in metadata.topics().iter().filter(|topic| topic.name().starts_with(prefix)) {
        for partition in topic.partitions() {
            let (low, high) =
                client.fetch_watermarks(topic.name(), partition.id(), LOOK).expect("its ends");
            list.add_partition_offset(topic.name(), partition.id(), Offset::Beginning)
                .expect("an offset");
            expected += high - low;
        }
    }
    client.assign(&list).expect("assigned");
    let mut records = Vec::new();
    for _ in 0..expected {
        let message = client.poll(LOOK).expect("one more").expect("a message");
        let headers = message.headers().into_iter().flat_map(Headers::iter);
        let mut kind = headers.filter(|header| header.key == "ce_type");
        let kind = kind.next().and_then(|header| header.value).unwrap_or_default();
        records.push(Record {
            topic: message.topic().to_owned(),
            kind: String::from_utf8_lossy(kind).into_owned(),
            value: message.payload().unwrap_or_default().to_vec(),
        });
    }
    records
}
