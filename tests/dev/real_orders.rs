//! Four thousand orders of a real marketplace, order by order.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::command::Place;

/// Runs the file and returns, per order: its line, and its line in the report.
fn run(file: &Path, until: &str) -> (Vec<(Value, Value)>, Value) {
    let place = Place::new();
    let file = file.to_str().expect("UTF-8");
    let ended = place
        .makegood(&["dev", "--orders", file, "--until", until, "--report", "report", "--json"])
        .exits(0);
    let mut report: BTreeMap<String, Value> = place
        .objects("report")
        .into_iter()
        .map(|line| (line["order_id"].as_str().expect("text").to_owned(), line))
        .collect();
    let text = std::fs::read_to_string(file).expect("the file of orders");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let pairs: Vec<(Value, Value)> = lines
        .map(|line| {
            let id = line["order"]["order_id"].as_str().expect("text");
            let reported = report.remove(id).unwrap_or_else(|| panic!("{id} is not reported"));
            (line, reported)
        })
        .collect();
    assert!(report.is_empty(), "orders that nobody gave: {report:?}");
    (pairs, ended.json())
}

pub fn each_ends_for_its_own_reason(file: &Path) {
    let (orders, summary) = run(file, "settled");
    for (line, reported) in &orders {
        let script = &line["script"];
        let (status, attention) = match script.to_string().as_str() {
            "{}" => ("completed", json!([])),
            r#"{"deliver":"never"}"# => ("running", json!(["DEADLINE_PASSED"])),
            r#"{"cancel":"after dispatch","deliver":"failed"}"# => {
                ("running", json!(["FAILED_PAST_PIVOT"]))
            }
            r#"{"reserve":"rejected OUT_OF_STOCK"}"#
            | r#"{"cancel":"after pick"}"#
            | r#"{"pick":"silent"}"# => ("compensated", json!([])),
            other => panic!("what should become of {other}?"),
        };
        assert_eq!(reported["status"], status, "{script} {reported}");
        assert_eq!(reported["attention"], attention, "{script} {reported}");
    }
    let totals = ["completed", "compensated", "running"].map(|key| summary[key].as_u64());
    assert_eq!(totals, [Some(3_898), Some(61), Some(41)]);
    is_clean(&summary);
}

/// What the marketplace's own records say, without the clocks that it did not have.
pub fn quiet_is_what_really_was(file: &Path) {
    let (orders, summary) = run(file, "quiet");
    for (line, reported) in &orders {
        let needs_attention = reported["attention"] != json!([]);
        let expected = match line["expect"].as_str().expect("every order says") {
            "running" => ("running", false),
            "attention" => ("running", true),
            ended => (ended, false),
        };
        assert_eq!((reported["status"].as_str(), needs_attention), (Some(expected.0), expected.1));
    }
    is_clean(&summary);
}

fn is_clean(summary: &Value) {
    assert_eq!(summary["orders"], 4_000);
    assert_eq!((&summary["unaccounted"], &summary["dead_letters"]), (&json!(0), &json!(0)));
    assert_eq!(summary["audit"]["findings"], json!([]));
}
