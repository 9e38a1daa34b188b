//! An operator's verbs on the command line: what each does to an order, what is refused and how,
//! and that the next run and the audit agree with it.

mod command;

use command::{Place, order};
use serde_json::{Value, json};

/// An order that the warehouse never answers, one whose delivery failed, and one that never came;
/// the clocks of the first have not fired.
fn troubled() -> Place {
    let place = Place::new();
    place.orders(
        "orders.ndjson",
        &[
            order("o-silent", &json!({ "pick": "silent" })),
            order("o-failed", &json!({ "deliver": "failed" })),
            order("o-never", &json!({ "deliver": "never" })),
        ],
    );
    place.makegood(&["dev", "--orders", "orders.ndjson", "--until", "quiet"]).exits(0);
    place
}

const BY: [&str; 4] = ["--reason", "the WMS is back", "--actor", "ana"];

fn verb<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&["order"], words, &BY].concat()
}

fn plays_on(place: &Place) {
    place.makegood(&["dev", "--orders", "orders.ndjson"]).exits(0).says(&["audit passed"]);
}

fn status(place: &Place, order: &str) -> String {
    let explained = place.makegood(&["explain", order, "--json"]).exits(0).json();
    explained[0]["status"].as_str().expect("a status").to_owned()
}

#[test]
fn retry_sends_again_and_says_so() {
    let place = troubled();
    let rehearsed = place.makegood(&verb(&["retry", "o-silent", "--dry-run"])).exits(0);
    rehearsed.says(&["retry: would be done", "sent wms.pick again (attempt 2)"]);
    let retried = place.makegood(&verb(&["retry", "o-silent", "--json"])).exits(0).json();
    assert_eq!(retried[0]["result"], "done");
    assert_eq!(retried[0]["commands"], json!(["wms.pick"]), "the rehearsal had done nothing");
    let shown = place.makegood(&["order", "show", "o-silent"]).exits(0);
    shown.says(&["retry pick  (ana: the WMS is back)"]);
    plays_on(&place);
}

#[test]
fn the_same_key_again_is_the_same_deed() {
    let place = troubled();
    let key = "7d6bd7a8-5d0c-4a39-a2ba-7a31a1d1b6d1";
    let retry = verb(&["retry", "o-silent", "--key", key]);
    place.makegood(&retry).exits(0).says(&["retry: done;"]);
    place.makegood(&retry).exits(0).says(&["done before under this key"]);
    let shown = place.makegood(&["order", "show", "o-silent", "--json"]).exits(0).json();
    let timeline = shown[0]["timeline"].as_array().expect("a list").clone();
    let retried = timeline.iter().filter(|entry| entry["happened"] == "retry pick").count();
    assert_eq!(retried, 1);
}

#[test]
fn what_is_not_possible_names_what_is() {
    let place = troubled();
    let refused = place.makegood(&verb(&["retry", "o-failed", "--step", "pick"])).exits(1);
    refused.says(&["not possible as it stands", "possible now: retry deliver"]);
    let refused = place.makegood(&verb(&["skip", "o-failed", "--step", "pack"])).exits(1);
    refused.complains(&["no step 'pack'", "financed, reserve, pick"]);
    let refused = place.makegood(&verb(&["clear", "o-failed", "--code", "LATE"])).exits(1);
    refused.complains(&["no attention code 'LATE'"]);
    let refused = place.makegood(&verb(&["hold", "o-unknown"])).exits(1);
    refused.complains(&["no order 'o-unknown'"]);
    let resolve = ["resolve", "o-failed", "--step", "deliver", "--as", "rejected"];
    let refused = place.makegood(&verb(&[&resolve[..], &["--result", "{}"]].concat())).exits(2);
    refused.complains(&["--result goes with --as success"]);
}

/// The parcel was found, and lies at the customer's: the loan becomes active.
#[test]
fn resolve_goes_on_where_the_world_has_gone_on() {
    let place = troubled();
    let resolve = ["resolve", "o-failed", "--step", "deliver", "--as", "success"];
    place.makegood(&verb(&resolve)).exits(0).says(&[
        "resolve: done",
        "attention cleared at deliver: FAILED_PAST_PIVOT",
        "sent loan.activate",
    ]);
    plays_on(&place);
    assert_eq!(status(&place, "o-failed"), "completed");
}

#[test]
fn skip_lets_the_order_go_on_without_a_step() {
    let place = troubled();
    place.makegood(&verb(&["skip", "o-failed", "--step", "deliver"])).exits(0);
    plays_on(&place);
    assert_eq!(status(&place, "o-failed"), "completed");
    let explained = place.makegood(&["explain", "o-failed", "--json"]).exits(0).json();
    assert_eq!(explained[0]["steps"][5]["state"], "skipped");
}

#[test]
fn a_held_order_waits_for_its_release() {
    let place = troubled();
    place.makegood(&verb(&["hold", "o-silent"])).exits(0);
    plays_on(&place);
    let explained = place.makegood(&["explain", "o-silent"]).exits(0);
    explained.says(&["is running and needs attention", "HELD at the saga", "release"]);
    place.makegood(&verb(&["release", "o-silent"])).exits(0).says(&["sent wms.pick again"]);
    plays_on(&place);
    assert_eq!(status(&place, "o-silent"), "compensated");
}

#[test]
fn cleared_attention_comes_back_when_its_time_has_passed_again() {
    let place = troubled();
    plays_on(&place);
    let needs = |place: &Place| -> Value {
        let listed = place.makegood(&["order", "list", "--attention", "--json"]).exits(0).json();
        let orders = listed["orders"].as_array().expect("a list").iter();
        orders.filter(|order| order["order_id"] == "o-never").cloned().collect()
    };
    assert_eq!(needs(&place)[0]["attention"], json!(["DEADLINE_PASSED"]));
    place.makegood(&verb(&["clear", "o-never"])).exits(0);
    assert_eq!(needs(&place), json!([]));
    plays_on(&place);
    assert_eq!(needs(&place)[0]["attention"], json!(["DEADLINE_PASSED"]));
    // Nothing but this attention would ever tell of it.
    let clear = verb(&["clear", "o-failed"]);
    place.makegood(&clear).exits(1).says(&["not possible", "retry deliver"]);
}

#[test]
fn abandoning_needs_a_second_person() {
    let place = troubled();
    let asked = place.makegood(&verb(&["abandon", "o-failed"])).exits(0);
    asked.says(&[
        "left as it is out in the world: financed, reserve, pick, dispatch",
        "another person must agree",
        "makegood order approve",
    ]);
    assert_eq!(status(&place, "o-failed"), "running");
    let waiting = place.makegood(&["order", "requests", "--json"]).exits(0).json();
    let request = waiting[0]["id"].as_str().expect("an id").to_owned();
    let approve = |actor| ["order", "approve", &request, "--actor", actor].map(str::to_owned);
    let approve = |actor| {
        let words = approve(actor);
        place.makegood(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    approve("Ana").exits(1).complains(&["another person must agree"]);
    approve("bo").exits(0).says(&["abandon: done; abandoned"]);
    approve("bo").exits(1).complains(&["makegood order requests"]);
    assert_eq!(status(&place, "o-failed"), "abandoned");
    let shown = place.makegood(&["order", "show", "o-failed"]).exits(0);
    shown.says(&["abandon  (ana and bo: the WMS is back)"]);
    plays_on(&place);
    assert_eq!(status(&place, "o-failed"), "abandoned");
}

#[test]
fn money_and_goods_may_need_a_second_person_always() {
    let place = troubled();
    place.write("makegood.toml", "second_person = 'money-and-goods'");
    let cancel = place.makegood(&verb(&["cancel", "o-silent", "--json"])).exits(0).json();
    assert_eq!(cancel["would"][0]["commands"], json!(["wms.cancel-pick"]));
    let request = cancel["request"]["id"].as_str().expect("an id");
    place.makegood(&verb(&["hold", "o-silent"])).exits(0).says(&["hold: done"]);
    place.makegood(&["order", "withdraw", request]).exits(0).says(&["withdrawn", "cancel"]);
    place.makegood(&["order", "requests"]).exits(0).says(&["0 waiting"]);
    place.write("makegood.toml", "second_person = 'explode'");
    place.makegood(&verb(&["hold", "o-silent"])).exits(2).complains(&["`second_person`"]);
}

/// The courier's scans find the parcel that an operator says was booked.
#[test]
fn a_parcel_that_was_booked_by_hand_is_known() {
    let place = Place::new();
    place.orders("orders.ndjson", &[order("o-1", &json!({ "dispatch": "silent" }))]);
    place.makegood(&["dev", "--orders", "orders.ndjson", "--until", "quiet"]).exits(0);
    let parcel = r#"{"shipment_id":"S-77","courier":"jadlog"}"#;
    let resolve = ["resolve", "o-1", "--step", "dispatch", "--as", "success", "--result", parcel];
    place.makegood(&verb(&resolve)).exits(0).says(&["resolve: done"]);
    let database = rusqlite::Connection::open(place.path(".makegood/makegood.db")).expect("opened");
    let sql = "SELECT courier, shipment_id, order_id FROM shipment";
    let known: (String, String, String) = database
        .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .expect("a shipment");
    assert_eq!(known, ("jadlog".into(), "S-77".into(), "o-1".into()));
}
