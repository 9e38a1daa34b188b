//! A shop, participants and a courier that speak by the SDK.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::instance::shared;
use crate::process::run;
use crate::stage::Stage;

/// For all orders to come to their end, and a Python to start.
const PLAYED: Duration = Duration::from_secs(120);
const SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cloudevents/sdk.py");
/// The reason for a dead letter, with what was wrong.
const LETTERS: &str = "SELECT count(*) FROM dead_letter";
/// What an order that goes well leads to, in any order.
const COMPLETED: [&str; 5] = [
    "inventory.reserve.v1",
    "wms.pick.v1",
    "tms.dispatch.v1",
    "loan.activate.v1",
    "order.completed.v1",
];
/// And one whose goods are not there.
const CANCELLED: [&str; 3] = ["inventory.reserve.v1", "loan.reverse.v1", "order.cancelled.v1"];

/// An order as a shop of the SDK tells it; `trace` is where the trace context stands, if it does.
struct Told {
    order_id: &'static str,
    mode: &'static str,
    trace: Option<(&'static str, String)>,
    sku: &'static str,
    leads_to: &'static [&'static str],
}

impl Told {
    fn event_id(&self) -> String {
        format!("event-of-{}", self.order_id)
    }

    fn json(&self) -> Value {
        let mut attributes = json!({
            "id": self.event_id(), "source": "/shops/python", "type": "order.created.v1",
            "subject": self.order_id, "datacontenttype": "application/json",
        });
        let mut told = json!({
            "mode": self.mode, "ends": self.leads_to.last(),
            "data": {
                "order_id": self.order_id, "tenant_id": "acme", "currency": "EUR",
                "placed_at": "2026-03-02T09:00:00Z",
                "loan": { "loan_id": format!("L-{}", self.order_id), "amount_minor": 5_000 },
                "lines": [{ "line_id": "1", "sku": self.sku, "quantity": 1 }],
                "ship_to": { "postal_code": "10115", "city": "Berlin", "country": "DE" },
            },
        });
        match &self.trace {
            Some(("header", trace)) => told["header"] = json!(trace),
            Some((_, trace)) => attributes["traceparent"] = json!(trace),
            None => {}
        }
        told["attributes"] = attributes;
        told
    }
}

fn trace(digit: char) -> String {
    format!("00-{}-b7ad6b7169203331-01", digit.to_string().repeat(32))
}

pub async fn the_sdk_reads_all_and_is_understood(broker: &'static str, python: PathBuf) {
    let stage = Stage::new("sdk", shared("postgres"), shared(broker)).await;
    let worker = stage.ready_worker("worker").await;
    let told = |order_id, mode, trace, sku, leads_to| Told { order_id, mode, trace, sku, leads_to };
    let all = [
        told("structured", "structured", Some(("attribute", trace('1'))), "A", &COMPLETED),
        told("binary", "binary", Some(("attribute", trace('2'))), "A", &COMPLETED),
        told("plain", "plain", Some(("header", trace('3'))), "A", &COMPLETED),
        told("untraced", "plain", None, "A", &COMPLETED),
        told("no-stock", "binary", Some(("header", trace('5'))), "NONE", &CANCELLED),
    ];
    let file = stage.command(&[]).get_current_dir().expect("its folder").join("told.json");
    let orders: Vec<Value> = all.iter().map(Told::json).collect();
    std::fs::write(&file, Value::from(orders).to_string()).expect("written");
    let mut play = Command::new(python);
    play.arg(SDK).arg(broker).arg(&stage.broker).arg(&file);
    let (status, said, error) = run(play, PLAYED).await;
    assert!(status.success(), "{error}\n{said}\n{}", worker.process.log());
    let came: Vec<Value> =
        said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for told in &all {
        let about = |message: &&Value| message["attributes"]["subject"] == told.order_id;
        led_to_what_was_expected(broker, told, &came.iter().filter(about).collect::<Vec<_>>());
    }
    assert_eq!(stage.number(LETTERS).await, Some(0), "{}", worker.process.log());
}

fn led_to_what_was_expected(broker: &str, told: &Told, came: &[&Value]) {
    let kinds: BTreeSet<&str> =
        came.iter().map(|message| message["attributes"]["type"].as_str().expect("text")).collect();
    let expected: BTreeSet<&str> = told.leads_to.iter().copied().collect();
    assert!(kinds.is_superset(&expected), "{}: {kinds:?}", told.order_id);
    let traces: BTreeSet<&str> = came.iter().map(|message| trace_id(message)).collect();
    assert_eq!(traces.len(), 1, "{}: one trace", told.order_id);
    if let Some((_, trace)) = &told.trace {
        assert!(trace.contains(traces.first().expect("one")), "{traces:?} is not {trace}");
    }
    for message in came {
        let attributes = &message["attributes"];
        assert_eq!(attributes["specversion"], "1.0");
        assert_eq!(attributes["source"], "/makegood/default");
        assert_eq!(attributes["tenantid"], "acme");
        assert_eq!(attributes["partitionkey"], told.order_id);
        assert_eq!(attributes["sagaid"], attributes["correlationid"]);
        assert_eq!(message["data"]["order_id"], told.order_id);
        is_carried_well(broker, attributes, &message["message"]);
    }
    let first = came.iter().find(|message| message["attributes"]["type"] == "inventory.reserve.v1");
    let cause = &first.expect("there is one")["attributes"]["causationid"];
    assert_eq!(*cause, told.event_id(), "its id was understood, however it came");
}

/// What a broker tells of a message beside its event.
fn is_carried_well(broker: &str, attributes: &Value, sent_as: &Value) {
    assert_eq!(sent_as["headers"]["traceparent"], attributes["traceparent"]);
    if broker == "kafka" {
        // The binary mode: the SDK has read the attributes out of the headers.
        assert_eq!(sent_as["content_type"], "application/json");
        assert_eq!(sent_as["headers"]["ce_id"], attributes["id"]);
        assert_eq!(sent_as["key"], attributes["partitionkey"]);
    } else {
        // For those who do not parse the body.
        assert_eq!(sent_as["content_type"], "application/cloudevents+json");
        assert_eq!(sent_as["id"], attributes["id"]);
        assert_eq!(sent_as["type"], attributes["type"]);
        assert_eq!(sent_as["correlation"], attributes["sagaid"]);
        assert_eq!(sent_as["headers"]["cloudEvents_id"], attributes["id"]);
    }
}

fn trace_id(message: &Value) -> &str {
    let trace = message["attributes"]["traceparent"].as_str().expect("a trace context");
    trace.split('-').nth(1).expect("a trace id")
}
