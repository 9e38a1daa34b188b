//! What is fed to `dev`: files, standard input, and orders that are not as they should be.

use serde_json::{Value, json};

use crate::command::{Place, lines, of, order};

pub fn orders_come_from_standard_input() {
    let place = Place::new();
    let orders = [order("o-1", &json!({})), order("o-2", &json!({ "reserve": "rejected GONE" }))];
    let ended =
        place.makegood_with(&["dev", "--orders", "-", "--report", "report"], &lines(&orders));
    ended.exits(0).says(&["audit passed", "completed", "makegood explain o-2"]);
    let report = place.objects("report");
    assert_eq!(of(&report, "o-1")["status"], "completed");
    assert_eq!(of(&report, "o-2")["status"], "compensated");
}

pub fn a_bad_line_names_file_line_and_field() {
    let place = Place::new();
    let mut bad = order("o-2", &json!({}));
    bad["script"] = json!({ "pick": "flies away" });
    place.orders("orders.ndjson", &[order("o-1", &json!({})), bad.clone()]);
    let refused = place.makegood(&["dev", "--orders", "orders.ndjson"]).exits(2);
    refused.complains(&["orders.ndjson:2:", "script.pick", "flies away"]);
    let refused = place.makegood_with(&["dev", "--orders", "-"], &lines(&[bad])).exits(2);
    refused.complains(&["standard input:1:", "script.pick"]);
    place.orders("event.ndjson", &[json!({ "order": {}, "event": "Order Created" })]);
    let refused = place.makegood(&["dev", "--orders", "event.ndjson"]).exits(2);
    refused.complains(&["event.ndjson:1:", "event", "order.created"]);
    let refused = place.makegood(&["dev", "--orders", "nowhere.ndjson"]).exits(2);
    refused.complains(&["--orders", "nowhere.ndjson"]);
    let mut none = order("o-3", &json!({}));
    none["order"]["lines"][1]["quantity"] = json!(0);
    place.orders("none.ndjson", &[order("o-1", &json!({})), none]);
    let refused = place.makegood(&["dev", "--orders", "none.ndjson"]).exits(2);
    refused.complains(&["none.ndjson:2:", "order.lines[1].quantity", "must be"]);
    place.orders("slip.ndjson", &[order("o-1", &json!({ "resrve": "silent" }))]);
    let refused = place.makegood(&["dev", "--orders", "slip.ndjson"]).exits(2);
    refused.complains(&["slip.ndjson:1:", "script.resrve", "expected one of reserve, pick"]);
    assert!(!place.path(".makegood").exists(), "nothing was begun");
    // A folder with definitions of its own is asked as well.
    place.makegood(&["dev", "--count", "1"]).exits(0);
    place.makegood(&["dev", "--orders", "slip.ndjson"]).exits(2).complains(&["script.resrve"]);
    assert!(!place.path(".makegood/running").exists(), "no run was torn off");
}

pub fn a_report_that_cannot_be_written_is_known_before_the_run() {
    let place = Place::new();
    let arguments = ["dev", "--count", "1", "--report", "nowhere/report"];
    place.makegood(&arguments).exits(2).complains(&["--report: cannot write nowhere/report"]);
    assert!(!place.path(".makegood").exists(), "nothing was begun");
}

pub fn no_orders_are_fine() {
    let place = Place::new();
    place.write("orders.ndjson", "\n\n");
    let ended = place.makegood(&["dev", "--orders", "orders.ndjson", "--report", "report"]);
    let ended = ended.exits(0);
    ended.says(&["audit passed: 0 sagas"]);
    assert!(!ended.stdout.contains("Next, try"), "there is nothing to look at: {}", ended.stdout);
    assert_eq!(place.read("report"), "");
}

/// Runs `orders` and returns the summary and the report.
fn run(place: &Place, orders: &[Value]) -> (Value, Vec<Value>) {
    place.orders("orders.ndjson", orders);
    let arguments = ["dev", "--orders", "orders.ndjson", "--report", "report", "--json"];
    let summary = place.makegood(&arguments).exits(0).json();
    assert_eq!(summary["audit"]["findings"], json!([]));
    (summary, place.objects("report"))
}

fn numbers(summary: &Value) -> [u64; 4] {
    ["orders", "completed", "dead_letters", "unaccounted"]
        .map(|key| summary[key].as_u64().expect("a number"))
}

pub fn card_data_is_a_dead_letter_and_accounted_for() {
    let place = Place::new();
    let mut with_card = order("o-1", &json!({}));
    with_card["order"]["payment"] = json!({ "card_number": "4111 1111 1111 1111" });
    let (summary, report) = run(&place, &[with_card, order("o-2", &json!({}))]);
    assert_eq!(numbers(&summary), [2, 1, 1, 0]);
    assert_eq!(of(&report, "o-2")["status"], "completed");
    let refused = of(&report, "o-1");
    assert_eq!(
        (&refused["status"], &refused["reason"]),
        (&json!("dead-letter"), &json!("card-data"))
    );
    assert_eq!(refused["saga_id"], Value::Null, "no saga was begun for it");
    assert!(
        refused["error"].as_str().expect("a text").contains("payment.card_number"),
        "{refused}"
    );
    assert_eq!(report.len(), 2, "one line for each order");
    assert_eq!(summary["refused"][0]["order_id"], "o-1");
    assert_eq!(summary["refused"][0]["reason"], "card-data");
    // People are told as well, and by a run that has nothing to do, too.
    let again = place.makegood(&["dev", "--orders", "orders.ndjson"]).exits(0);
    again.says(&["Orders without a saga", "o-1 of acme: card-data: payment.card_number"]);
    assert!(!place.ledgers().contains("4111"), "no participant has seen it");
    let database = place.path(".makegood/makegood.db");
    let letter = "SELECT reason || ' ' || error || ' ' || cast(body AS text) FROM dead_letter";
    let letter = super::reruns::query(&database, letter).concat();
    assert!(letter.starts_with("card-data payment.card_number: "), "{letter}");
    assert!(letter.contains("is masked") && letter.contains("**** **** **** 1111"), "{letter}");
    for folder in std::fs::read_dir(place.path(".makegood")).expect("the data folder") {
        let path = folder.expect("an entry").path();
        let bytes = if path.is_file() { std::fs::read(&path).expect("read") } else { Vec::new() };
        let card = b"4111 1111 1111 1111";
        assert!(!bytes.windows(card.len()).any(|part| part == card), "{}", path.display());
    }
}

pub fn a_repeated_order_starts_one_saga() {
    let place = Place::new();
    let one = order("o-1", &json!({}));
    let (summary, report) = run(&place, &[one.clone(), one.clone(), one]);
    assert_eq!(numbers(&summary), [1, 1, 0, 0]);
    assert_eq!(report.len(), 1);
}

pub fn the_same_order_with_other_content_is_a_dead_letter() {
    let place = Place::new();
    let mut other = order("o-1", &json!({}));
    other["order"]["lines"][0]["quantity"] = json!(7);
    let (summary, report) = run(&place, &[order("o-1", &json!({})), other]);
    assert_eq!(numbers(&summary), [1, 1, 1, 0]);
    assert_eq!(report.len(), 1);
    let database = place.path(".makegood/makegood.db");
    let reasons = super::reruns::query(&database, "SELECT reason FROM dead_letter");
    assert_eq!(reasons, ["order-differs"]);
}
