//! The commands beside `dev`, as an operator and the author of a definition use them.

mod command;

use std::collections::BTreeSet;

use command::{Place, of, order};
use serde_json::{Value, json};

/// A dev folder with an order of each kind; the clocks of the silent warehouse did not fire.
fn small_run() -> Place {
    let place = Place::new();
    place.orders(
        "orders.ndjson",
        &[
            order("o-done", &json!({})),
            order("o-undone", &json!({ "reserve": "rejected OUT_OF_STOCK" })),
            order("o-waiting", &json!({ "pick": "silent" })),
            order("o-failed", &json!({ "deliver": "failed" })),
        ],
    );
    place.makegood(&["dev", "--orders", "orders.ndjson", "--until", "quiet"]).exits(0);
    place
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn explain_says_what_an_order_waits_for() {
    let place = small_run();
    let waiting = place.makegood(&["explain", "o-waiting"]).exits(0);
    waiting.says(&[
        "Order o-waiting of acme is running.",
        "order-fulfilment version 1",
        "wms to answer wms.pick (sent once",
        "for pick: send the command again",
        "undone by loan.reverse, inventory.release, wms.cancel-pick",
    ]);
    let failed = place.makegood(&["explain", "o-failed"]).exits(0);
    failed.says(&["needs attention", "FAILED_PAST_PIVOT at deliver", "nothing is undone"]);
    let undone = place.makegood(&["explain", "o-undone"]).exits(0);
    undone.says(&["is compensated", "reserve was rejected: OUT_OF_STOCK"]);
    let explained = place.makegood(&["explain", "o-waiting", "--json"]).exits(0).json();
    let documented = BTreeSet::from([
        "order_id",
        "tenant_id",
        "saga_id",
        "definition",
        "definition_version",
        "version",
        "status",
        "cause",
        "started_at",
        "ended_at",
        "attention",
        "steps",
        "awaiting",
        "in_doubt",
        "next_clock",
        "owed_if_it_fails_now",
        "past_pivot",
        "possible",
        "scans",
        "trace",
    ]);
    assert_eq!(keys(&explained[0]), documented);
    assert_eq!(explained[0]["owed_if_it_fails_now"][0], "loan.reverse");
    assert_eq!(explained[0]["past_pivot"], false);
}

#[test]
fn an_order_is_drawn_as_a_sequence() {
    let place = small_run();
    let drawn = place.makegood(&["explain", "o-undone", "--diagram"]).exits(0).stdout;
    let lines: Vec<&str> = drawn.lines().map(str::trim).collect();
    assert_eq!(lines[0], "sequenceDiagram");
    let actors: Vec<&str> =
        lines.iter().filter_map(|line| line.strip_prefix("participant ")).collect();
    assert_eq!(actors, ["world", "makegood", "inventory", "loan"]);
    let at = |line: &str| {
        lines.iter().position(|known| *known == line).unwrap_or_else(|| panic!("{line}: {drawn}"))
    };
    let told = [
        "world->>makegood: the order is paid",
        "makegood->>inventory: inventory.reserve",
        "inventory-->>makegood: inventory.reserve: rejected, OUT_OF_STOCK",
        "makegood->>loan: loan.reverse",
        "loan-->>makegood: loan.reverse: success",
    ];
    assert!(told.map(at).is_sorted(), "{drawn}");
}

#[test]
fn an_order_is_shown_with_its_timeline() {
    let place = small_run();
    let shown = place.makegood(&["order", "show", "o-undone"]).exits(0);
    shown.says(&["Timeline", "the order is paid", "sent inventory.reserve", "sent loan.reverse"]);
    shown.says(&["inventory.reserve: rejected, OUT_OF_STOCK", "all undone: compensated"]);
    let shown = place.makegood(&["order", "show", "o-done", "--json"]).exits(0).json();
    assert_eq!(keys(&shown[0]), BTreeSet::from(["saga", "timeline"]));
    let first = &shown[0]["timeline"][0];
    assert_eq!(keys(first), BTreeSet::from(["version", "at", "happened", "done"]));
    assert_eq!((&first["version"], &first["at"]), (&json!(1), &json!("2026-03-02T09:00:00Z")));
    let last = shown[0]["timeline"].as_array().and_then(|all| all.last()).expect("a timeline");
    assert_eq!(
        last["done"],
        json!(["the order is completed", "sent customer.order-completed, which nothing waits for"])
    );
}

#[test]
fn orders_are_listed_and_filtered() {
    let place = small_run();
    let all = place.makegood(&["order", "list"]).exits(0);
    all.says(&["ORDER", "o-done", "completed", "o-failed", "FAILED_PAST_PIVOT", "4 orders"]);
    let ids = |arguments: &[&str]| -> BTreeSet<String> {
        let listed = place.makegood(&[&["order", "list", "--json"], arguments].concat()).exits(0);
        let listed = listed.json();
        assert_eq!(keys(&listed), BTreeSet::from(["orders", "after"]));
        let orders = listed["orders"].as_array().expect("a list").iter();
        orders.map(|order| order["order_id"].as_str().expect("text").to_owned()).collect()
    };
    let set = |ids: &[&str]| -> BTreeSet<String> { ids.iter().map(|id| (*id).into()).collect() };
    assert_eq!(ids(&["--status", "running"]), set(&["o-waiting", "o-failed"]));
    assert_eq!(ids(&["--attention"]), set(&["o-failed"]));
    assert_eq!(ids(&["--tenant", "other"]), set(&[]));
    assert_eq!(ids(&["--definition", "order-fulfilment"]).len(), 4);
    let listed = place.makegood(&["order", "list", "--json"]).exits(0).json();
    let orders = listed["orders"].as_array().expect("a list");
    let documented = BTreeSet::from([
        "order_id",
        "tenant_id",
        "saga_id",
        "status",
        "attention",
        "definition",
        "definition_version",
        "started_at",
        "ended_at",
        "age_seconds",
    ]);
    assert_eq!(keys(of(orders, "o-done")), documented);
    // Page by page, each order once.
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let mut arguments = vec!["order", "list", "--json", "--limit", "3"];
        if !after.is_empty() {
            arguments.extend(["--after", &after]);
        }
        let page = place.makegood(&arguments).exits(0).json();
        let orders = page["orders"].as_array().expect("a list");
        seen.extend(orders.iter().map(|order| order["order_id"].to_string()));
        match page["after"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 4);
    assert_eq!(seen.len(), 4);
}

#[test]
fn what_is_not_there_is_said_clearly() {
    let place = small_run();
    for arguments in [
        &["explain", "o-9"][..],
        &["order", "show", "o-9"],
        &["order", "cancel", "o-9", "--reason", "why not"],
        &["order", "show", "o-done", "--tenant", "other"],
    ] {
        place.makegood(arguments).exits(1).complains(&["there is no order 'o-"]);
    }
    let refused = place.makegood(&["explain", "o-done", "--data", "nowhere"]).exits(2);
    refused.complains(&["there is no dev run in nowhere"]);
    let arguments = ["order", "cancel", "o-done", "--reason", "x", "--data", "nowhere"];
    place.makegood(&arguments).exits(2).complains(&["there is no dev run in nowhere"]);
    let empty = Place::new().makegood(&["order", "list"]).exits(2);
    empty.complains(&["no dev run in .makegood", "--data", "MAKEGOOD_STORE"]);
    // A full page that is the last one says so.
    place.makegood(&["order", "list", "--limit", "3"]).exits(0).says(&["more: --after "]);
    place.makegood(&["order", "list", "--limit", "4"]).exits(0).says(&["4 orders"]);
    place.makegood(&["order", "list", "--attention"]).exits(0).says(&["1 order\n"]);
    assert!(!place.path("nowhere").exists(), "looking for it made it");
}

#[test]
fn a_cancelled_order_is_undone_by_the_next_run() {
    let place = small_run();
    let cancel = ["order", "cancel", "o-waiting", "--reason", "fraud", "--actor", "erika"];
    let cancelled = place.makegood(&cancel).exits(0);
    cancelled.says(&["o-waiting (order-fulfilment): cancel: accepted; compensating"]);
    let explained = place.makegood(&["explain", "o-waiting"]).exits(0);
    explained.says(&["compensates because it was cancelled", "Left to compensate", "loan.reverse"]);
    let again = place.makegood(&[&cancel[..], &["--json"]].concat()).exits(0).json();
    assert_eq!(again[0]["result"], "accepted"); // as it was answered before
    let mut documented = BTreeSet::from(["order_id", "tenant_id", "saga_id", "definition"]);
    documented.extend(["verb", "result", "status", "commands", "effects"]);
    assert_eq!(keys(&again[0]), documented);

    let arguments = ["dev", "--orders", "orders.ndjson", "--report", "report"];
    place.makegood(&arguments).exits(0).says(&["audit passed"]);
    let report = place.objects("report");
    let waiting = of(&report, "o-waiting");
    assert_eq!(waiting["status"], "compensated");
    // It was cancelled in simulated time, where the quiet run had ended.
    assert!(waiting["ended_at"].as_str().expect("ended") < "2026-04", "{waiting}");
    let explained = place.makegood(&["explain", "o-waiting"]).exits(0);
    explained.says(&["was compensated because it was cancelled"]);
    assert_eq!(deeds(&place), [["erika", "cancel", "fraud"].map(str::to_owned)]);
}

/// Actor, verb and reason of what operators did.
fn deeds(place: &Place) -> Vec<[String; 3]> {
    let file = place.path(".makegood/makegood.db");
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = rusqlite::Connection::open_with_flags(file, flags).expect("opened");
    let mut statement =
        connection.prepare("SELECT actor, verb, reason FROM operator_audit").expect("a good query");
    let rows =
        statement.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?])).expect("rows");
    rows.collect::<Result<_, _>>().expect("texts")
}

#[test]
fn past_the_pivot_a_cancellation_is_refused() {
    let place = small_run();
    let cancel = ["order", "cancel", "o-failed", "--reason", "too late", "--actor", "erika"];
    place
        .makegood(&cancel)
        .exits(1)
        .says(&["o-failed (order-fulfilment): cancel: refused: it is past its pivot; running"]);
    let shown = place.makegood(&["order", "show", "o-failed"]).exits(0);
    shown.says(&["cancellation requested", "cancellation refused: past-pivot"]);
    let missing = place.makegood(&["order", "cancel", "o-failed", "--reason", " "]).exits(2);
    missing.complains(&["--reason"]);
}

#[test]
fn a_bad_configuration_names_the_key() {
    let place = Place::new();
    let refused = |text: &str, arguments: &[&str], words: &[&str]| {
        place.write("makegood.toml", text);
        place.makegood(arguments).exits(2).complains(words);
    };
    refused("lames = 2", &["worker"], &["lames"]);
    refused("lanes = 0", &["worker"], &["`lanes`", "1 to 64"]);
    refused("lanes = 'many'", &["order", "list"], &["lanes", "integer"]);
    refused("store = 'mysql://u:secret@h/d'", &["worker"], &["`store`", "postgres://"]);
    refused("", &["worker"], &["`store`", "MAKEGOOD_STORE"]);
    refused("store = 'sqlite:data'", &["worker"], &["`broker`", "MAKEGOOD_BROKER"]);
    refused("lanes = = 1", &["migrate"], &["makegood.toml", "TOML"]);
    std::fs::remove_file(place.path("makegood.toml")).expect("removed");
    let environment = [("MAKEGOOD_MAX_BATCH", "501")];
    let refused = place.start_with(&["worker"], &environment).end().exits(2);
    refused.complains(&["`max_batch`", "1 to 500"]);
    let refused = place.start_with(&["worker"], &[("MAKEGOOD_LAMES", "1")]).end().exits(2);
    refused.complains(&["lames"]);
    place.makegood(&["worker", "--config", "nowhere.toml"]).exits(2).complains(&["nowhere.toml"]);
    place.makegood(&["dev", "--count", "many"]).exits(2).complains(&["--count"]);
}

#[test]
fn a_bad_value_says_what_is_expected_and_exits_2() {
    let place = Place::new();
    let refused = |name: &str, value: &str, arguments: &[&str], words: &[&str]| {
        let refused = place.start_with(arguments, &[(name, value)]).end().exits(2);
        refused.complains(words);
        assert!(!refused.stderr.contains("hunter2"), "{}", refused.stderr);
    };
    let submit = ["order", "submit", "--count", "1"];
    refused("MAKEGOOD_BROKER", "amqp://u:hunter2@@bad host:xx/", &submit, &["`broker`", "amqp://"]);
    let list = ["order", "list"];
    refused("MAKEGOOD_STORE", "postgres://u:hunter2@:x/d", &list, &["`store`", "postgres://"]);
    refused("MAKEGOOD_HTTP_LISTEN", "all", &["worker"], &["`http_listen`", "127.0.0.1:9600"]);
    refused("MAKEGOOD_LOG_FORMAT", "xml", &["worker"], &["`log_format` must be json or text"]);
    place.makegood(&["--set", "=x", "worker"]).exits(2).complains(&["must be KEY=VALUE"]);
}

#[test]
fn who_reads_no_further_does_not_end_the_work() {
    let place = small_run();
    for arguments in [
        &["order", "list", "--limit", "1000"][..],
        &["order", "show", "o-undone"],
        &["explain", "o-waiting", "--json"],
        &["audit", "--may-wait"],
    ] {
        let ended = place.unheard(arguments).exits(0);
        assert_eq!(ended.stderr, "");
    }
    // And the exit status still tells how it ended.
    place.write("wrong.toml", GOOD.replacen("\"ends completed\"", "\"ends compensated\"", 1));
    place.unheard(&["saga", "test", "wrong.toml"]).exits(1);
}

#[test]
fn a_broker_that_is_away_is_not_waited_for_in_silence() {
    let place = Place::new();
    let away = [("MAKEGOOD_BROKER", "amqp://127.0.0.1:1")];
    let submit = ["order", "submit", "--count", "3", "--patience", "1s"];
    let ended = place.start_with(&submit, &away).end().exits(1);
    ended.complains(&["the broker has confirmed nothing for 1s", "0 of 3 orders are submitted"]);
}

#[test]
fn dev_and_the_services_keep_their_ledgers_apart() {
    let place = Place::new();
    place.makegood(&["dev", "--count", "3"]).exits(0);
    let away = [("MAKEGOOD_BROKER", "amqp://127.0.0.1:1")];
    // The same three orders: dev's shop has emitted them, this one has not.
    let submit = ["order", "submit", "--count", "3", "--patience", "1s"];
    place.start_with(&submit, &away).end().exits(1).complains(&["0 of 3 orders are submitted"]);
}

#[test]
fn a_configured_sqlite_store_is_looked_at_while_somebody_writes_to_it() {
    let place = Place::new();
    let store = [("MAKEGOOD_STORE", "sqlite:data")];
    let look = |arguments: &[&str]| place.start_with(arguments, &store).end();
    look(&["order", "list"]).exits(2).complains(&["no store in data", "makegood migrate"]);
    assert!(!place.path("data").exists(), "looking makes nothing");
    let migrated = look(&["migrate", "--json"]).exits(0).json();
    assert_eq!(keys(&migrated), BTreeSet::from(["definitions", "errors"]));
    let first = json!({ "name": "order-fulfilment", "version": 1, "new": true });
    assert!(migrated["definitions"].as_array().expect("a list").contains(&first), "{migrated}");
    look(&["migrate"]).exits(0).says(&["up to date", "version 1: already published"]);
    // What a worker holds for as long as it runs.
    let lock = std::fs::File::options().write(true).open(place.path("data/makegood.db.lock"));
    let lock = lock.expect("made beside the file");
    lock.try_lock().expect("nobody has it");
    look(&["order", "list"]).exits(0).says(&["0 orders"]);
    look(&["saga", "list"]).exits(0).says(&["order-fulfilment version 1"]);
    look(&["explain", "o-1"]).exits(1).complains(&["o-1"]);
    look(&["migrate"]).exits(1).complains(&["in use by another makegood process"]);
}

#[test]
fn secrets_do_not_appear_in_errors() {
    let place = Place::new();
    let environment = [("MAKEGOOD_STORE", "mysql://u:hunter2@h/d")];
    let refused = place.start_with(&["worker"], &environment).end().exits(2);
    assert!(!refused.stderr.contains("hunter2"), "{}", refused.stderr);
}

const GOOD: &str = include_str!("../sagas/order-fulfilment.toml");

#[test]
fn a_flawed_definition_is_shown_with_its_line() {
    let place = Place::new();
    place.write("good.toml", GOOD);
    place.makegood(&["saga", "check", "good.toml"]).exits(0).says(&["good.toml", "good, 7 steps"]);
    let line = 1 + GOOD.lines().position(|line| line == "after = [\"pick\"]").expect("dispatch");
    place.write("flawed.toml", GOOD.replacen("after = [\"pick\"]", "after = [\"pack\"]", 1));
    let found = place.makegood(&["saga", "check", "good.toml", "flawed.toml"]).exits(1);
    found.says(&["good.toml: order-fulfilment version 1: good"]);
    found.complains(&[&format!("flawed.toml:{line}"), "after = [\"pack\"]", "pack"]);
    let found = place.makegood(&["saga", "check", "flawed.toml", "--json"]).exits(1).json();
    assert_eq!(found["good"], false);
    assert_eq!(found["errors"][0]["line"], json!(line), "{found}");
    for verb in ["check", "test", "graph"] {
        let missing = place.makegood(&["saga", verb, "nowhere.toml"]).exits(2);
        missing.complains(&["cannot read nowhere.toml"]);
    }
    let found = place.makegood(&["saga", "test", "flawed.toml", "--json"]).exits(1).json();
    assert_eq!(found["errors"][0]["line"], json!(line), "{found}");
    // Nothing of a batch with a flaw in it is published.
    place.makegood(&["dev", "--count", "1"]).exits(0);
    place.write("second.toml", GOOD.replacen("version = 1", "version = 2", 1));
    let publish = ["saga", "publish", "--data", ".makegood", "second.toml", "flawed.toml"];
    place.makegood(&publish).exits(1).complains(&["flawed.toml"]);
    let told = place.makegood(&[&publish[..], &["--json"]].concat()).exits(1).json();
    assert_eq!((&told["definitions"], &told["errors"][0]["line"]), (&json!([]), &json!(line)));
    let listed = place.makegood(&["saga", "list", "--data", ".makegood", "--json"]).exits(0);
    let listed = listed.json();
    let versions: Vec<_> = listed.as_array().expect("a list").iter().collect();
    assert!(versions.iter().all(|row| row["version"] == 1), "{listed}");
    assert_eq!(keys(versions[0]), BTreeSet::from(["name", "version", "published_at"]));
    let listed = place.makegood(&["saga", "list", "--data", ".makegood"]).exits(0);
    listed.says(&["holiday-package version 1", "order-fulfilment version 1"]);
}

#[test]
fn inline_tests_are_run_and_a_failing_one_shows_why() {
    let place = Place::new();
    place.write("good.toml", GOOD);
    place.makegood(&["saga", "test", "good.toml"]).exits(0).says(&[", 0 failed"]);
    let wrong = GOOD.replacen("\"ends completed\", \"no attention\"", "\"ends compensated\"", 1);
    place.write("wrong.toml", wrong);
    let failed = place.makegood(&["saga", "test", "wrong.toml"]).exits(1);
    failed.says(&["all goes well", "ends compensated", "1 failed"]);
    let failed = place.makegood(&["saga", "test", "wrong.toml", "--json"]).exits(1).json();
    assert_eq!(keys(&failed), BTreeSet::from(["passed", "failed", "errors", "tests"]));
    assert_eq!(failed["failed"], 1);
}

#[test]
fn a_definition_is_drawn() {
    let place = Place::new();
    place.write("good.toml", GOOD);
    let drawn = place.makegood(&["saga", "graph", "good.toml"]).exits(0);
    drawn.says(&["flowchart", "reserve", "hand-over", "activate-loan", "-->"]);
}
