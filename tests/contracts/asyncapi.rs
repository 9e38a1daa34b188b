//! The AsyncAPI document against the code: every exchange, queue, binding, topic and message, for
//! the definitions that come with Makegood.

use std::collections::{BTreeMap, BTreeSet};

#[cfg(feature = "kafka")]
use makegood::broker::kafka::topics;
use makegood::broker::topology::{Binding, Names, Routing};
use makegood::catalog::{Catalog, load};
use makegood::saga::{Definition, OrderState};
use makegood::worker::topology;
use serde_json::Value;

use crate::schemas::{docs, names};

fn document() -> Value {
    let text = std::fs::read_to_string(docs().join("asyncapi.yaml")).expect("it is there");
    serde_saphyr::from_str(&text).expect("it is YAML")
}

fn catalog() -> Catalog {
    let shipped = [
        ("order-fulfilment.toml", include_str!("../../sagas/order-fulfilment.toml")),
        ("holiday-package.toml", include_str!("../../sagas/holiday-package.toml")),
    ];
    let loaded = shipped.map(|(name, text)| load(name, text).expect("it is good"));
    Catalog::new(loaded).expect("they differ")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("text, and not {value}")).to_owned()
}

/// The channels of a server, each once for every value of its parameter.
fn channels(document: &Value, server: &str) -> Vec<Value> {
    let channels = document["channels"].as_object().expect("channels").values();
    let server = format!("#/servers/{server}");
    let ours = channels.filter(|channel| channel["servers"][0]["$ref"] == server.as_str());
    ours.flat_map(|channel| {
        let Some(parameters) = channel["parameters"].as_object() else {
            return vec![channel.clone()];
        };
        let (name, parameter) = parameters.iter().next().expect("one");
        let values = parameter["enum"].as_array().expect("all values");
        let put_in = |value: &Value| {
            let whole = channel.to_string().replace(&format!("{{{name}}}"), &text(value));
            whole.parse().expect("JSON")
        };
        values.iter().map(put_in).collect()
    })
    .collect()
}

/// What RabbitMQ has by this document.
#[derive(Debug, Default, PartialEq)]
struct Rabbit {
    exchanges: BTreeMap<String, String>,
    /// With the delivery limit, and where it leads.
    queues: BTreeMap<String, (u64, Option<String>)>,
    /// Exchange, key, queue.
    bindings: BTreeSet<(String, String, String)>,
}

fn documented(document: &Value) -> Rabbit {
    let mut rabbit = Rabbit::default();
    for channel in channels(document, "rabbitmq") {
        let address = text(&channel["address"]);
        let amqp = &channel["bindings"]["amqp"];
        let queue = match text(&amqp["is"]).as_str() {
            "queue" => {
                assert_eq!(amqp["queue"]["durable"], true, "{address}");
                for binding in channel["x-bindings"].as_array().expect("bindings") {
                    let exchange = text(&binding["exchange"]);
                    rabbit.exchanges.insert(exchange.clone(), text(&binding["exchangeType"]));
                    rabbit.bindings.insert((exchange, text(&binding["key"]), address.clone()));
                }
                assert_eq!(amqp["queue"]["name"], address.as_str());
                Some(address)
            }
            _ => {
                let exchange = text(&amqp["exchange"]["name"]);
                assert_eq!(amqp["exchange"]["durable"], true, "{address}");
                rabbit.exchanges.insert(exchange.clone(), text(&amqp["exchange"]["type"]));
                let queue = channel["x-queue"].as_str().map(str::to_owned);
                rabbit.bindings.extend(queue.clone().map(|queue| (exchange, address, queue)));
                queue
            }
        };
        if let Some(queue) = queue {
            let limit = channel["x-delivery-limit"].as_u64().expect("a delivery limit");
            let dead = channel["x-dead-letter-exchange"].as_str().map(str::to_owned);
            rabbit.queues.insert(queue, (limit, dead));
        }
    }
    rabbit
}

pub fn every_name_on_rabbitmq() {
    let layout = Names::default().layout(&topology(&catalog()));
    let routing = |routing| match routing {
        Routing::Topic => "topic".to_owned(),
        Routing::Direct => "direct".to_owned(),
        Routing::Fanout => "fanout".to_owned(),
    };
    let queues = layout
        .queues
        .into_iter()
        .map(|queue| (queue.name, (u64::from(queue.delivery_limit), queue.dead_letter_exchange)));
    let bindings = layout.bindings.into_iter();
    let declared = Rabbit {
        exchanges: layout.exchanges.into_iter().map(|(name, kind)| (name, routing(kind))).collect(),
        queues: queues.collect(),
        bindings: bindings.map(|Binding { exchange, key, queue }| (exchange, key, queue)).collect(),
    };
    assert_eq!(documented(&document()), declared);
}

#[cfg(feature = "kafka")]
pub fn every_topic_on_kafka() {
    let document = document();
    let documented: BTreeSet<String> = channels(&document, "kafka")
        .iter()
        .map(|channel| {
            assert_eq!(channel["bindings"]["kafka"]["topic"], channel["address"]);
            text(&channel["address"])
        })
        .collect();
    let (names, settings) = (topics::Names::default(), topics::Settings::default());
    let layout = names.layout(&topology(&catalog()), &settings);
    let expected: BTreeSet<String> = layout.into_iter().map(|topic| topic.name).collect();
    assert_eq!(documented, expected);
}

/// The types of all events that a definition may lead to.
fn announced(definition: &Definition) -> Vec<String> {
    let (entity, _) = definition.starts_on().split_once('.').expect("an entity");
    let mut kinds = vec![OrderState::Completed.as_str(), OrderState::Cancelled.as_str()];
    let milestones = OrderState::MILESTONES.into_iter();
    kinds.extend(
        milestones.filter(|state| !definition.reaching(*state).is_empty()).map(|s| s.as_str()),
    );
    kinds.extend(definition.cancels_on().map(|_| "cancel-refused"));
    kinds.into_iter().map(|kind| format!("{entity}.{kind}.v1")).collect()
}

pub fn every_message_is_documented() {
    let document = document();
    let catalog = catalog();
    let mut events: BTreeSet<String> =
        catalog.all().flat_map(|loaded| announced(&loaded.definition)).collect();
    events.extend(["raised", "cleared"].map(|what| format!("saga.attention-{what}.v1")));
    events.insert("saga.abandoned.v1".to_owned());
    let documented: BTreeSet<String> = channels(&document, "rabbitmq")
        .iter()
        .filter(|channel| channel["bindings"]["amqp"]["exchange"]["name"] == "makegood.events")
        .map(|channel| text(&channel["address"]))
        .collect();
    assert_eq!(documented, events);
    // The same is said on both brokers, by messages that have these types and no others.
    for broker in ["Rabbitmq", "Kafka"] {
        let mut types = BTreeSet::new();
        for name in ["orderReached", "orderCancelRefused", "sagaAttention", "sagaAbandoned"] {
            let message = &document["components"]["messages"][format!("{name}On{broker}")];
            let properties = match broker {
                "Kafka" => &message["headers"]["allOf"][1]["properties"]["ce_type"],
                _ => &message["payload"]["allOf"][1]["properties"]["type"],
            };
            types.extend(properties["enum"].as_array().expect("types").iter().map(text));
        }
        assert_eq!(types, events, "{broker}");
    }
}

/// Each schema is referred to by a document, or by another schema.
pub fn every_schema_is_used() {
    let mut texts = ["asyncapi.yaml", "openapi.yaml"]
        .map(|name| std::fs::read_to_string(docs().join(name)).expect("it is there"))
        .to_vec();
    let files = names();
    texts.extend(files.iter().map(|name| crate::schemas::schema(name).to_string()));
    for name in files {
        let file = format!("{name}.json");
        assert!(texts.iter().any(|text| text.contains(&file)), "nothing refers to {file}");
    }
}
