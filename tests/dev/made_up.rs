//! Made-up orders, the summary, and the audit.

use std::collections::BTreeSet;

use serde_json::json;

use crate::command::Place;

/// The report of a run with made-up orders.
fn report(count: &str, seed: &str) -> String {
    let place = Place::new();
    place.makegood(&["dev", "--count", count, "--seed", seed, "--report", "report"]).exits(0);
    place.read("report")
}

pub fn the_same_seed_gives_the_same_run() {
    let first = report("60", "7");
    assert_eq!(first, report("60", "7"));
    assert_ne!(first, report("60", "8"));
}

pub fn every_order_is_accounted_for() {
    let place = Place::new();
    let summary = place.makegood(&["dev", "--count", "500", "--seed", "3", "--json"]).exits(0);
    let summary = summary.json();
    let [completed, compensated, running, attention] =
        ["completed", "compensated", "running", "attention"]
            .map(|key| summary[key].as_u64().expect("a number"));
    assert_eq!(completed + compensated + running, 500);
    assert!(compensated > 0 && attention > 0, "{summary}");
    assert_eq!(running, attention, "whoever did not finish has told an operator");
    assert_eq!((&summary["unaccounted"], &summary["dead_letters"]), (&json!(0), &json!(0)));
    assert_eq!(summary["audit"]["findings"], json!([]));
}

pub fn the_summary_is_one_json_object() {
    let place = Place::new();
    let summary = place.makegood(&["dev", "--count", "5", "--json"]).exits(0).json();
    let keys: BTreeSet<&str> =
        summary.as_object().expect("an object").keys().map(String::as_str).collect();
    let documented = BTreeSet::from([
        "orders",
        "completed",
        "compensated",
        "running",
        "attention",
        "dead_letters",
        "unaccounted",
        "simulated_from",
        "simulated_until",
        "simulated_days",
        "wall_seconds",
        "sagas_per_second",
        "duration_p50_seconds",
        "duration_p99_seconds",
        "audit",
    ]);
    assert_eq!(keys, documented);
}

pub fn a_broken_ledger_is_found() {
    let place = Place::new();
    place.makegood(&["dev", "--count", "20"]).exits(0);
    place.makegood(&["audit", "--data", ".makegood"]).exits(0).says(&["audit passed"]);
    // The inventory applied something twice, and says so under another number.
    let name = ".makegood/ledgers/inventory.ndjson";
    let mut ledger = place.read(name);
    let first = ledger.lines().next().expect("an entry").replacen("\"seq\":1,", "\"seq\":999,", 1);
    ledger.push_str(&first);
    ledger.push('\n');
    place.write(name, ledger);
    let found = place.makegood(&["audit", "--data", ".makegood"]).exits(1);
    found.says(&["audit FAILED", "applied-twice", "at inventory"]);
    let found = place.makegood(&["audit", "--data", ".makegood", "--json"]).exits(1).json();
    assert_eq!(found["findings"][0]["rule"], "applied-twice");
    // A run that finds it says so as well.
    let summary = place.makegood(&["dev", "--count", "20", "--json"]).exits(1).json();
    assert_eq!(summary["audit"]["findings"][0]["rule"], "applied-twice");
}
