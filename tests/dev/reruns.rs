//! One data folder, several runs: what was done is not done again, and what a kill tore apart
//! is brought to its end.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::command::{Place, of, order};

/// How long a run may take to get anywhere.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at a run.
const LOOK: Duration = Duration::from_millis(20);

pub fn a_second_run_does_nothing_again() {
    let place = Place::new();
    let arguments = |report| ["dev", "--count", "150", "--seed", "5", "--report", report];
    place.makegood(&arguments("first")).exits(0);
    let ledgers = place.ledgers();
    place.makegood(&arguments("second")).exits(0).says(&["audit passed"]);
    assert_eq!(place.read("first"), place.read("second"));
    assert!(ledgers == place.ledgers(), "the second run wrote into a ledger");
}

/// Kills a run again and again, further on each time, then lets it end. Every order comes to the
/// same end as without a kill. A run gets four times as many orders as the one before until it
/// is slow enough to be caught twice.
pub fn a_killed_run_is_finished_by_the_next() {
    let enough = |count: &u64| killed_and_finished(*count) >= 2;
    let caught = [200, 800, 3_200].iter().any(enough);
    assert!(caught, "the runs were too fast to be killed");
}

/// Says how often the run could be killed.
fn killed_and_finished(count: u64) -> usize {
    let text = count.to_string();
    let arguments = |report| ["dev", "--count", &text, "--seed", "11", "--report", report];
    let undisturbed = Place::new();
    undisturbed.makegood(&arguments("report")).exits(0);
    let place = Place::new();
    let mut kills = 0;
    let points = [(None, 1), (None, 3), (Some("completed"), 1), (Some("completed"), 3)];
    for (status, quarters) in points {
        let mut running = place.start(&arguments("report"));
        let began = Instant::now();
        while !running.is_over() && sagas_in(&place, status) < quarters * count / 4 {
            assert!(began.elapsed() < PATIENCE, "the run does not get on");
            std::thread::sleep(LOOK);
        }
        if !running.is_over() {
            running.kill();
            kills += 1;
        }
    }
    let summary = place.makegood(&[&arguments("report")[..], &["--json"]].concat()).exits(0);
    let summary = summary.json();
    assert_eq!(summary["orders"], count);
    assert_eq!(summary["unaccounted"], 0);
    assert_eq!(summary["audit"]["findings"], json!([]));
    let ends = |place: &Place| -> Vec<[Value; 3]> {
        let objects = place.objects("report").into_iter();
        objects.map(|o| ["order_id", "status", "attention"].map(|key| o[key].clone())).collect()
    };
    for (killed, whole) in ends(&place).into_iter().zip(ends(&undisturbed)) {
        assert_eq!(killed, whole);
    }
    kills
}

/// An order whose message was lost with the broker, after the shop had it as emitted.
pub fn what_a_killed_run_lost_is_said_again() {
    let place = Place::new();
    place.orders("orders.ndjson", &[order("o-lost", &json!({})), order("o-kept", &json!({}))]);
    let run = |status| {
        let arguments = ["dev", "--orders", "orders.ndjson", "--report", "report"];
        place.makegood(&arguments).exits(status)
    };
    run(0);
    let database = place.path(".makegood/makegood.db");
    for table in ["saga", "saga_journal", "saga_order"] {
        // The order's row goes last: it says which saga is meant.
        let lost = "SELECT saga_id FROM saga_order WHERE order_id = 'o-lost'";
        change(&database, &format!("DELETE FROM {table} WHERE saga_id IN ({lost})"));
    }
    run(1).says(&["UNACCOUNTED FOR", "o-lost of acme: nobody knows", "no-saga order o-lost"]);
    assert_eq!(of(&place.objects("report"), "o-lost")["status"], "unaccounted");
    // What a run that is killed leaves behind.
    place.write(".makegood/running", "");
    run(0).says(&["audit passed: 2 sagas (2 completed"]);
    let report = place.objects("report");
    assert_eq!(of(&report, "o-lost")["status"], "completed");
    assert_eq!(of(&report, "o-lost")["attention"], json!([]));
}

/// How many sagas there are, as a user beside the run sees them.
fn sagas_in(place: &Place, status: Option<&str>) -> u64 {
    let database = place.path(".makegood/makegood.db");
    let has_tables = place.path(".makegood/running").exists() && database.exists();
    if !has_tables {
        return 0;
    }
    let mut arguments = vec!["order", "list", "--limit", "1000", "--json"];
    if let Some(status) = status {
        arguments.extend(["--status", status]);
    }
    let listed = place.makegood(&arguments);
    match listed.status {
        Some(0) => listed.json()["orders"].as_array().map_or(0, |orders| orders.len() as u64),
        _ => 0,
    }
}

pub fn a_folder_in_use_is_refused() {
    let place = Place::new();
    let mut running = place.start(&["dev", "--count", "20000"]);
    let began = Instant::now();
    while sagas_in(&place, None) == 0 {
        assert!(!running.is_over() && began.elapsed() < PATIENCE, "the first run never began");
        std::thread::sleep(LOOK);
    }
    let refused = place.makegood(&["dev", "--count", "5"]).exits(1);
    refused.complains(&["makegood.db is in use by another makegood process"]);
    let refused = place.makegood(&["order", "cancel", "x", "--reason", "y"]).exits(1);
    refused.complains(&["in use by another makegood process"]);
    assert!(!running.is_over());
    running.kill();
}

fn change(database: &Path, sql: &str) {
    let connection = rusqlite::Connection::open(database).expect("opened");
    assert!(connection.execute(sql, []).expect("a good statement") > 0, "{sql}");
}

/// The first column of what a query finds in a database file at rest.
pub fn query(database: &Path, sql: &str) -> Vec<String> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = rusqlite::Connection::open_with_flags(database, flags).expect("opened");
    let mut statement = connection.prepare(sql).expect("a good query");
    let rows = statement.query_map([], |row| row.get(0)).expect("rows");
    rows.collect::<Result<_, _>>().expect("texts")
}
