//! The records: what a message's data can be, and the JSON Schema of each as a registry gets it.
//!
//! It is that of `docs/schemas` with its title, references and dialect changed. The title becomes
//! the record's name, which is where serializers for JSON Schema look for it. A registry knows no
//! files that refer to each other, so what is referred to is put into `definitions`, under the
//! file's and the definition's name. And it is draft 7: that is what all of them can compare and
//! all serializers can check; a registry that cannot compare 2020-12 refuses the second version of
//! a schema with an internal error. The published schemas use no word that draft 7 lacks.

use std::fmt;

use serde_json::{Map, Value};

use crate::broker::{Channel, Outgoing};

macro_rules! schemas {
    ($($name:literal)*) => {
        [$(($name, include_str!(concat!("../../../../docs/schemas/", $name, ".json")))),*]
    };
}

/// Those of the records, and what they refer to.
const SCHEMAS: [(&str, &str); 13] = schemas! {
    "command" "fact" "order" "order-cancel-refused" "order-cancel-requested" "order-created"
    "order-reached" "probe" "probe-reply" "reply" "saga-abandoned" "saga-attention" "values"
};

/// What draft 7 calls itself.
const DIALECT: &str = "http://json-schema.org/draft-07/schema#";

/// What the data of a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Record {
    OrderCreated,
    OrderCancelRequested,
    Fact,
    Command,
    Probe,
    Reply,
    ProbeReply,
    OrderReached,
    OrderCancelRefused,
    SagaAttention,
    SagaAbandoned,
}

impl Record {
    pub const ALL: [Record; 11] = [
        Record::OrderCreated,
        Record::OrderCancelRequested,
        Record::Fact,
        Record::Command,
        Record::Probe,
        Record::Reply,
        Record::ProbeReply,
        Record::OrderReached,
        Record::OrderCancelRefused,
        Record::SagaAttention,
        Record::SagaAbandoned,
    ];

    /// What a message is, by where it goes and by how its type ends: the words before that are the
    /// definition's own. `None` of what was given up.
    #[must_use]
    pub fn of(message: &Outgoing) -> Option<Record> {
        let name = message.event.name();
        let ends = |suffix| name.ends_with(suffix);
        Some(match &message.channel {
            Channel::Orders if ends(".cancel-requested") => Record::OrderCancelRequested,
            Channel::Orders => Record::OrderCreated,
            Channel::Facts => Record::Fact,
            Channel::Commands(_) if ends(".status") => Record::Probe,
            Channel::Commands(_) => Record::Command,
            Channel::Replies | Channel::ReplyTo(_) if ends(".status.replied") => Record::ProbeReply,
            Channel::Replies | Channel::ReplyTo(_) => Record::Reply,
            Channel::Events if ends(".cancel-refused") => Record::OrderCancelRefused,
            Channel::Events if name.starts_with("saga.attention-") => Record::SagaAttention,
            Channel::Events if name == "saga.abandoned" => Record::SagaAbandoned,
            Channel::Events => Record::OrderReached,
            Channel::Dead => return None,
        })
    }

    /// Whether a worker publishes it; the others come from shops, couriers and participants.
    #[must_use]
    pub fn is_sent_by_workers(self) -> bool {
        matches!(
            self,
            Record::Command
                | Record::Probe
                | Record::OrderReached
                | Record::OrderCancelRefused
                | Record::SagaAttention
                | Record::SagaAbandoned
        )
    }

    /// The name of its schema in `docs/schemas`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Record::OrderCreated => "order-created",
            Record::OrderCancelRequested => "order-cancel-requested",
            Record::Fact => "fact",
            Record::Command => "command",
            Record::Probe => "probe",
            Record::Reply => "reply",
            Record::ProbeReply => "probe-reply",
            Record::OrderReached => "order-reached",
            Record::OrderCancelRefused => "order-cancel-refused",
            Record::SagaAttention => "saga-attention",
            Record::SagaAbandoned => "saga-abandoned",
        }
    }

    /// The subject under which its schema is registered.
    #[must_use]
    pub fn subject(self) -> String {
        format!("makegood.{}.v1", self.name())
    }

    /// Its schema in one document, as text that is the same each time.
    #[must_use]
    pub fn schema(self) -> String {
        let mut definitions = Map::new();
        let mut schema = gathered(self.name(), file(self.name()), &mut definitions);
        let root = schema.as_object_mut().expect("schemas are objects");
        let text = |key: &str| root.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let description = [text("title"), text("description")].join(". ");
        root.insert("title".to_owned(), self.subject().into());
        root.insert("description".to_owned(), description.trim_end_matches(". ").into());
        root.insert("$schema".to_owned(), DIALECT.into());
        root.insert("definitions".to_owned(), definitions.into());
        schema.to_string()
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.subject())
    }
}

fn file(name: &str) -> Value {
    let (_, text) = SCHEMAS.iter().find(|(known, _)| *known == name).expect("all are listed");
    serde_json::from_str(text).expect("a test reads all of them")
}

/// A part of the file of this name, with all that it refers to gathered into the definitions.
fn gathered(name: &str, part: Value, definitions: &mut Map<String, Value>) -> Value {
    match part {
        Value::Object(members) => members
            .into_iter()
            .filter(|(key, _)| key != "$defs")
            .map(|(key, value)| match (key.as_str(), value) {
                ("$ref", Value::String(to)) => (key, refer(name, &to, definitions).into()),
                (_, value) => (key, gathered(name, value, definitions)),
            })
            .collect(),
        Value::Array(parts) => {
            parts.into_iter().map(|part| gathered(name, part, definitions)).collect()
        }
        plain => plain,
    }
}

/// A reference within one document to what `to` refers to in the file of this name.
fn refer(name: &str, to: &str, definitions: &mut Map<String, Value>) -> String {
    let (path, pointer) = to.split_once('#').unwrap_or((to, ""));
    let name = if path.is_empty() { name } else { path.trim_end_matches(".json") };
    let definition = pointer.trim_start_matches("/$defs/");
    let key = [name, definition].join(".").trim_end_matches('.').to_owned();
    if !definitions.contains_key(&key) {
        // It may refer to itself.
        definitions.insert(key.clone(), Value::Null);
        let mut meant = file(name).pointer(pointer).expect("it refers to something").clone();
        if let Some(members) = meant.as_object_mut() {
            members.remove("$schema");
        }
        let meant = gathered(name, meant, definitions);
        definitions.insert(key.clone(), meant);
    }
    format!("#/definitions/{key}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Event;

    /// The words of draft 7 that the published schemas use. One that only a later draft has would
    /// mean nothing to a registry; nor does draft 7 read what stands beside a reference.
    const WORDS: [&str; 22] = [
        "$ref",
        "$schema",
        "additionalProperties",
        "allOf",
        "anyOf",
        "const",
        "definitions",
        "description",
        "enum",
        "examples",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "pattern",
        "required",
        "title",
        "type",
    ];

    fn assert_draft_7(schema: &Value) {
        for (word, value) in schema.as_object().expect("a schema") {
            match (word.as_str(), value) {
                ("properties" | "patternProperties" | "definitions", Value::Object(named)) => {
                    named.values().for_each(assert_draft_7);
                }
                ("examples" | "enum" | "const", _) => {}
                (_, Value::Array(parts)) if parts.iter().all(Value::is_object) => {
                    parts.iter().for_each(assert_draft_7);
                }
                (word, value) => {
                    assert!(WORDS.contains(&word), "{word}: is it a word of draft 7?");
                    if value.is_object() {
                        assert_draft_7(value);
                    }
                }
            }
        }
        if schema.get("$ref").is_some() {
            let beside = schema.as_object().expect("a schema").keys();
            let mut beside =
                beside.filter(|word| !["$ref", "description"].contains(&word.as_str()));
            assert_eq!(beside.next(), None, "nobody reads it: {schema}");
        }
    }

    #[test]
    fn each_schema_stands_alone_and_judges_as_the_files_do() {
        for record in Record::ALL {
            let schema: Value = serde_json::from_str(&record.schema()).unwrap();
            assert_eq!(schema["title"], record.subject().as_str());
            assert!(schema["description"].as_str().is_some_and(|text| text.len() > 20), "{record}");
            // Its references all lead somewhere, or this fails.
            let validator = jsonschema::draft7::new(&schema).unwrap();
            assert_draft_7(&schema);
            for example in file(record.name())["examples"].as_array().into_iter().flatten() {
                assert!(validator.is_valid(example), "{record}: {example}");
            }
            assert!(!validator.is_valid(&serde_json::json!(["x"])), "{record} is an object");
            let references = schema.to_string();
            let references = references.split("\"$ref\":\"").skip(1);
            assert!(references.clone().all(|rest| rest.starts_with("#/definitions/")), "{record}");
        }
    }

    #[test]
    fn whatever_is_a_value_on_kafka_is_a_record() {
        let contract = include_str!("../../../../docs/asyncapi.yaml");
        let payloads = contract.split("payload: { $ref: schemas/").skip(1);
        let mut payloads: Vec<_> =
            payloads.filter_map(|rest| Some(rest.split_once(".json")?.0)).collect();
        let mut records = Record::ALL.map(Record::name);
        payloads.sort_unstable();
        records.sort_unstable();
        assert_eq!(payloads, records);
    }

    #[test]
    fn what_a_schema_refers_to_is_in_it() {
        let schema: Value = serde_json::from_str(&Record::OrderCreated.schema()).unwrap();
        let definitions: Vec<_> = schema["definitions"].as_object().unwrap().keys().collect();
        assert!(definitions.contains(&&"order".to_owned()), "{definitions:?}");
        let validator = jsonschema::draft7::new(&schema).unwrap();
        let mut order = schema["examples"][0].clone();
        order["loan"]["amount_minor"] = (-1).into();
        assert!(!validator.is_valid(&order), "what the order refers to counts");
    }

    #[test]
    fn a_message_is_known_by_its_channel_and_its_type() {
        let record = |channel: &str, kind: &str| {
            let channel = channel.parse().unwrap();
            Record::of(&Outgoing { channel, event: Event::new("e", "/s", kind, &()) })
        };
        for (channel, kind, expected) in [
            ("orders", "holiday.booked.v1", Record::OrderCreated),
            ("orders", "holiday.cancel-requested.v1", Record::OrderCancelRequested),
            ("facts", "shipment.delivered.v1", Record::Fact),
            ("commands.wms", "wms.pick.v1", Record::Command),
            ("commands.wms", "wms.pick.status.v1", Record::Probe),
            ("replies", "wms.pick.replied.v1", Record::Reply),
            ("reply-to.x", "wms.pick.status.replied.v1", Record::ProbeReply),
            ("events", "order.completed.v1", Record::OrderReached),
            ("events", "holiday.cancel-refused.v1", Record::OrderCancelRefused),
            ("events", "saga.attention-raised.v1", Record::SagaAttention),
            ("events", "saga.abandoned.v1", Record::SagaAbandoned),
        ] {
            assert_eq!(record(channel, kind), Some(expected), "{kind}");
        }
        assert_eq!(record("dead", "a.b.v1"), None);
    }
}
