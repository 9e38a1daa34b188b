//! Made-up orders, the summary, and the audit.

use std::collections::BTreeSet;

use serde_json::json;

use crate::command::{Place, order};

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
        "abandoned",
        "running",
        "attention",
        "dead_letters",
        "refused",
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

pub fn the_summary_is_a_table_for_people() {
    let place = Place::new();
    let ended = place.makegood(&["dev", "--count", "200", "--seed", "3"]).exits(0);
    let row = |name: &str| -> String {
        let named = |line: &&str| line.trim_start().starts_with(name);
        let line = ended.stdout.lines().find(named).unwrap_or_else(|| panic!("{}", ended.stdout));
        line.trim_start()[name.len()..].trim().to_owned()
    };
    let count = |name: &str| -> u64 { row(name).parse().expect("a number") };
    assert_eq!(count("orders"), 200);
    assert_eq!(count("completed") + count("compensated") + count("running"), 200);
    assert_eq!((count("under attention"), count("dead letters")), (count("running"), 0));
    assert!(row("simulated").contains(" days, until 20"), "{}", row("simulated"));
    let wall = row("wall time");
    let speed: u64 = wall
        .strip_suffix(" sagas/s")
        .and_then(|wall| wall.split_whitespace().last())
        .and_then(|speed| speed.parse().ok())
        .unwrap_or_else(|| panic!("{wall}"));
    assert!(speed > 0, "{wall}");
    let ends = row("order to end");
    assert!(ends.starts_with("p50 ") && ends.contains(", p99 "), "{ends}");
    // A second run finishes nothing, and does not call that fast.
    let again = place.makegood(&["dev", "--count", "200", "--seed", "3", "--json"]).exits(0).json();
    assert_eq!(again["sagas_per_second"], 0.0);
}

pub fn orders_are_listed_by_their_age() {
    let place = Place::new();
    place.makegood(&["dev", "--count", "30"]).exits(0);
    let ids = |age: &[&str]| -> BTreeSet<String> {
        let arguments = [&["order", "list", "--limit", "1000", "--json"], age].concat();
        let listed = place.makegood(&arguments).exits(0).json();
        let orders = listed["orders"].as_array().expect("a list");
        orders.iter().map(|order| order["order_id"].as_str().expect("text").to_owned()).collect()
    };
    let all = ids(&[]);
    assert_eq!(ids(&["--older-than", "1s"]), all, "they took days");
    assert_eq!(ids(&["--older-than", "1000d"]), BTreeSet::new());
    let received = super::reruns::query(
        &place.path(".makegood/makegood.db"),
        "SELECT CAST((SELECT MAX(at) FROM saga_journal) - received_at AS TEXT) FROM saga_order
         ORDER BY received_at LIMIT 1 OFFSET 9",
    );
    let tenth: u64 = received[0].parse().expect("milliseconds");
    let older = ids(&["--older-than", &format!("{}s", tenth / 1_000)]);
    assert_eq!(older.len(), 10, "ten are at least as old as the tenth");
    assert!(older.is_subset(&all));
}

pub fn an_audit_says_what_would_make_it_pass() {
    let place = Place::new();
    place.orders("orders.ndjson", &[order("o-1", &json!({ "pick": "silent" }))]);
    let run = |until| place.makegood(&["dev", "--orders", "orders.ndjson", "--until", until]);
    run("quiet").exits(0);
    let audit = ["audit", "--data", ".makegood"];
    place.makegood(&audit).exits(1).says(&["stuck order o-1", "--may-wait"]);
    place.makegood(&[&audit[..], &["--may-wait"]].concat()).exits(0);
    place.makegood(&["order", "cancel", "o-1", "--reason", "a test"]);
    let found = place.makegood(&[&audit[..], &["--may-wait"]].concat()).exits(1);
    found.says(&["outbox: 1 message", "the next `makegood dev --data .makegood`"]);
    run("settled").exits(0);
    let passed = place.makegood(&audit).exits(0);
    assert!(!passed.stdout.contains("--may-wait"), "{}", passed.stdout);
}

/// What a run left, with one thing broken by hand each time.
pub fn what_is_broken_in_a_real_run_is_found() {
    let place = Place::new();
    place.makegood(&["dev", "--count", "20", "--seed", "3"]).exits(0);
    let ledger = |name: &str| format!(".makegood/ledgers/{name}.ndjson");
    let audit = ["audit", "--data", ".makegood"];
    let broken = |name: &str, change: &dyn Fn(&str) -> Option<String>| {
        let whole = place.read(&ledger(name));
        match change(&whole) {
            Some(text) => place.write(&ledger(name), text),
            None => std::fs::remove_file(place.path(&ledger(name))).expect("it was there"),
        }
        let ended = place.makegood(&audit).exits(1);
        place.write(&ledger(name), whole);
        place.makegood(&audit).exits(0).says(&["audit passed"]);
        ended
    };
    let gone = &|_: &str| None;
    broken("shop-orders", gone).says(&["ledger at shop-orders: the ledger is missing"]);
    broken("courier-scans", gone).says(&["ledger at courier-scans: the ledger is missing"]);
    broken("wms", gone).says(&["incomplete order", "at wms", "step 'pick' was not applied"]);
    let torn = broken("tms", &|whole| {
        let middle = whole.match_indices('\n').nth(4).expect("more lines").0;
        Some(format!("{}\n{}", &whole[..middle - 40], &whole[middle + 1..]))
    });
    torn.complains(&["tms.ndjson", "cannot be read in line 5"]);
    let forgotten = broken("loan", &|whole| {
        let first = whole.lines().next().expect("an entry");
        Some(whole.replacen(&format!("{first}\n"), "", 1))
    });
    forgotten.says(&["audit FAILED", "at loan"]);
    let lost = broken("shop-orders", &|whole| {
        let first = whole.lines().next().expect("an entry");
        let mut order: serde_json::Value = serde_json::from_str(first).expect("JSON");
        order["order_id"] = json!("o-lost");
        Some(format!("{whole}{order}\n"))
    });
    lost.says(&["no-saga order o-lost"]);
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
