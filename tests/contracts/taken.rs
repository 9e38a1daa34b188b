//! What Makegood takes is valid by its schema, and what the schema refuses Makegood refuses, for
//! the same field: orders and envelopes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use fastrand::Rng;
use jsonschema::Validator;
use makegood::broker::{DEFAULT_MAX_MESSAGE_BYTES, envelope};
use makegood::order::Order;
use serde_json::{Value, json};

use crate::schemas::{published, wrong_fields};

/// Orders that are changed at random, and each with how many changes at most.
const CHANGED: usize = 20_000;
const CHANGES: usize = 2;

/// The inputs of a fuzz target, by name.
fn corpus(target: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = fs::read_dir(folder).expect("the corpus is there");
    files
        .map(|file| {
            let path = file.expect("a file").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read(path).expect("it can be read"))
        })
        .collect()
}

#[derive(Debug, PartialEq)]
enum Agreed {
    Taken,
    Refused,
    /// By Makegood alone, for what no schema can say.
    BeyondSchemas,
}

/// Holds one order against both.
fn order(validator: &Validator, bytes: &[u8]) -> Agreed {
    let text = || String::from_utf8_lossy(bytes).into_owned();
    let value: Option<Value> = serde_json::from_slice(bytes).ok();
    let wrong = value.as_ref().map(|value| wrong_fields(validator, value));
    match (Order::parse(bytes), wrong) {
        (Ok(_), wrong) => {
            let wrong = wrong.expect("it is JSON");
            assert!(wrong.is_empty(), "taken, and by the schema {wrong:?} is wrong: {}", text());
            Agreed::Taken
        }
        // A duplicated field, no JSON at all: a schema sees neither.
        (Err(_), None) => Agreed::BeyondSchemas,
        (Err(refused), _) if refused.reason == "card-data" => Agreed::BeyondSchemas,
        (Err(refused), _) if refused.problem.starts_with("cannot be taken") => {
            Agreed::BeyondSchemas
        }
        (Err(refused), Some(wrong)) => {
            let field = if refused.field == "order" { "" } else { &refused.field };
            if wrong.contains(field) {
                return Agreed::Refused;
            }
            // JSON Schema knows no difference between 1 and 1.0.
            let number = value.as_ref().and_then(|value| value.pointer(&pointer(field)));
            let is_float = number.is_some_and(|number| number.is_f64());
            assert!(is_float, "'{field}' ({refused}) and {wrong:?} in {}", text());
            Agreed::BeyondSchemas
        }
    }
}

fn pointer(field: &str) -> String {
    format!("/{}", field.replace('[', "/").replace("].", "/").replace(']', "").replace('.', "/"))
}

pub fn orders_of_the_corpus() {
    let validator = published("order-created");
    let mut agreed = Vec::new();
    for (name, bytes) in corpus("order") {
        let this = order(&validator, &bytes);
        assert_eq!(this == Agreed::Taken, name.ends_with(".good"), "{name}");
        agreed.push(this);
    }
    assert!([Agreed::Taken, Agreed::Refused].iter().all(|all| agreed.contains(all)));
}

fn good() -> Value {
    json!({
        "order_id": "o-1", "tenant_id": "acme", "placed_at": "2026-03-02T09:00:00Z",
        "currency": "EUR", "loan": { "loan_id": "L-1", "amount_minor": 5000, "fee_minor": 3 },
        "lines": [
            { "line_id": "1", "sku": "A-1", "quantity": 1, "unit_price_minor": 5000 },
            { "line_id": "2", "sku": "B-2", "quantity": 2, "extras": [{ "wrap_minor": 2 }] },
        ],
        "ship_to": { "postal_code": "10115", "city": "Berlin", "country": "DE" },
        "total_minor": null,
    })
}

/// What may stand in place of anything else.
fn odd(rng: &mut Rng) -> Value {
    let odd = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1),
        json!(1.0),
        json!(1.5),
        json!(-0.0),
        json!(1_000_001),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(1e300),
        json!(""),
        json!("x"),
        json!("eur"),
        json!("USD"),
        json!("é\u{7f}"),
        json!("a\u{85}b"),
        json!("line\nbreak"),
        json!("ü".repeat(128)),
        json!("x".repeat(129)),
        json!([]),
        json!({}),
        json!([[{ "x_minor": -1 }]]),
        json!([{ "sku": "A", "quantity": 3 }]),
        json!({ "deep": { "y_minor": "7" } }),
        json!({ "y_minor": null, "z_minor": 7 }),
    ];
    odd[rng.usize(..odd.len())].clone()
}

/// Replaces, removes or adds something somewhere.
fn change(rng: &mut Rng, value: &mut Value) {
    let goes_in = rng.u8(..4) > 0;
    match value {
        Value::Object(fields) if !fields.is_empty() && goes_in => {
            let name = fields.keys().nth(rng.usize(..fields.len())).expect("a field").clone();
            match rng.u8(..6) {
                0 => drop(fields.remove(&name)),
                1 => drop(fields.insert("more_minor".to_owned(), odd(rng))),
                _ => change(rng, fields.get_mut(&name).expect("a field")),
            }
        }
        Value::Array(items) if !items.is_empty() && goes_in => {
            let index = rng.usize(..items.len());
            change(rng, &mut items[index]);
        }
        value => *value = odd(rng),
    }
}

pub fn orders_changed_at_random() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let validator = published("order-created");
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..CHANGED {
        let mut value = good();
        for _ in 0..rng.usize(1..=CHANGES) {
            change(&mut rng, &mut value);
        }
        match order(&validator, value.to_string().as_bytes()) {
            Agreed::Taken => taken += 1,
            Agreed::Refused => refused += 1,
            Agreed::BeyondSchemas => {}
        }
    }
    assert!(taken > CHANGED / 20 && refused > CHANGED / 3, "{taken} taken, {refused} refused");
}

/// Events in structured JSON: those of the corpus, and each with one attribute that is odd.
pub fn envelopes_of_the_corpus() {
    let validator = published("envelope");
    let check = |name: &str, body: &[u8]| -> Option<bool> {
        let value: Value = serde_json::from_slice(body).ok()?;
        let headers = [("content-type".to_owned(), envelope::STRUCTURED.to_owned())].into();
        let body = Bytes::copy_from_slice(body);
        let read = envelope::decode(&body, &headers, DEFAULT_MAX_MESSAGE_BYTES);
        let wrong = wrong_fields(&validator, &value);
        match read {
            Ok(_) => assert!(wrong.is_empty(), "{name}: read, and {wrong:?} is wrong: {value:#}"),
            // Told by the text alone: an attribute that comes twice, and the like.
            Err(why) if why.reason == "unparseable" => {}
            Err(why) => assert!(!wrong.is_empty(), "{name}: {why}, and the schema takes it"),
        }
        Some(wrong.is_empty())
    };
    let mut good = None;
    for (name, input) in corpus("envelope") {
        let Some(at) = input.windows(2).position(|pair| pair == b"\n\n") else { continue };
        let is_structured = String::from_utf8_lossy(&input[..at]).contains(envelope::STRUCTURED);
        if is_structured && check(&name, &input[at + 2..]) == Some(true) {
            good = Some(serde_json::from_slice::<Value>(&input[at + 2..]).expect("JSON"));
        }
    }
    let good = good.expect("one is good");
    let values = [
        json!(null),
        json!(""),
        json!("x"),
        json!("a.b.v1"),
        json!("a.b.v2"),
        json!("A.b.v1"),
        json!("b.v1"),
        json!(7),
        json!(true),
        json!([]),
        json!({}),
        json!("a\nb"),
        json!("1.0"),
        json!("x".repeat(256)),
        json!("x".repeat(1_025)),
        json!("ü".repeat(1_024)),
    ];
    let names = [
        "specversion",
        "id",
        "source",
        "type",
        "subject",
        "tenantid",
        "sagaid",
        "time",
        "other",
        "traceparent",
        "data",
    ];
    for name in names {
        for value in &values {
            let mut event = good.clone();
            event[name] = value.clone();
            // Bytes are counted, and a schema counts characters.
            if value.as_str().is_some_and(|text| !text.is_ascii()) {
                continue;
            }
            check(name, event.to_string().as_bytes());
        }
        let mut event = good.clone();
        event.as_object_mut().expect("an object").remove(name);
        check(name, event.to_string().as_bytes());
    }
}
