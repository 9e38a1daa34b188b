//! `makegood dead` as whoever is on call uses it, on the state that a dev run left behind.

mod command;

use std::collections::BTreeSet;
use std::sync::Arc;

use command::{Ended, Place, order};
use makegood::clock::{SystemClock, from_rfc3339};
use makegood::store::sqlite::{Durability, SqliteStore};
use makegood::store::{DeadLetter, Store};
use serde_json::{Value, json};
use uuid::Uuid;

/// A dev folder with one order that went well and three that are dead letters.
fn small_run() -> Place {
    let place = Place::new();
    place.orders("orders.ndjson", &[order("o-good", &json!({}))]);
    place.makegood(&["dev", "--orders", "orders.ndjson"]).exits(0);
    let letters = [
        letter(1, "o-loan", "/loan/amount_minor", "loan.amount_minor: must be whole"),
        letter(2, "o-first", "/lines/0/quantity", "lines[0].quantity: must be whole"),
        letter(3, "o-second", "/lines/1/quantity", "lines[1].quantity: must be whole"),
    ];
    let bury = async {
        let clock = Arc::new(SystemClock::default());
        let file = place.path(".makegood/makegood.db");
        let store = SqliteStore::open(&file, clock, Durability::ProcessCrash).await;
        let store = store.expect("nobody has it open");
        store.bury(&letters).await.expect("buried");
        store.close().await;
    };
    tokio::runtime::Runtime::new().expect("a runtime").block_on(bury);
    place
}

/// An order that was refused for a field of it.
fn letter(number: u128, order_id: &str, field: &str, error: &str) -> DeadLetter {
    let mut bad = order(order_id, &json!({}))["order"].clone();
    *bad.pointer_mut(field).expect("a field") = json!(-1);
    let seen = from_rfc3339("2026-03-02T09:00:00Z").expect("RFC 3339");
    DeadLetter {
        id: Uuid::from_u128(number),
        source: "orders".to_owned(),
        reason: "invalid-order".to_owned(),
        error: error.to_owned(),
        body: bad.to_string().into_bytes(),
        headers: json!({ "type": "order.created.v1" }).to_string(),
        tenant: Some("acme".to_owned()),
        order_id: Some(order_id.to_owned()),
        first_seen: seen,
        last_seen: seen,
        attempts: 1,
        kind: Some("order.created.v1".to_owned()),
        participant: None,
        corrects: None,
        closed: None,
    }
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn dead(place: &Place, arguments: &[&str]) -> Ended {
    place.makegood(&[&["dead"], arguments].concat())
}

fn letters(place: &Place) -> Vec<Value> {
    let listed = dead(place, &["list", "--each", "--json"]).exits(0).json();
    listed["letters"].as_array().expect("a list").clone()
}

fn id_of(place: &Place, order_id: &str) -> String {
    let letters = letters(place);
    let letter = letters.iter().find(|letter| letter["order_id"] == order_id);
    letter.unwrap_or_else(|| panic!("{letters:#?}"))["id"].as_str().expect("text").to_owned()
}

#[test]
fn what_failed_alike_is_listed_as_one_group() {
    let place = small_run();
    dead(&place, &["list"]).exits(0).says(&["2 groups, 3 letters", "invalid-order", "loan.amount"]);
    let listed = dead(&place, &["list", "--json"]).exits(0).json();
    assert_eq!(listed["letters"], 3);
    let groups = listed["groups"].as_array().expect("a list");
    assert_eq!((&groups[0]["letters"], &groups[1]["letters"]), (&json!(2), &json!(1)));
    let documented = BTreeSet::from([
        "group",
        "letters",
        "replaying",
        "reason",
        "kind",
        "participant",
        "source",
        "error",
        "first_seen",
        "last_seen",
        "oldest_seconds",
        "newest_seconds",
    ]);
    assert_eq!(keys(&groups[0]), documented);
    let group = groups[0]["group"].as_str().expect("text");
    let each = dead(&place, &["list", "--each", "--group", group, "--limit", "1"]).exits(0);
    each.says(&["o-first", "more: --after"]);
    dead(&place, &["list", "--code", "unparseable"]).exits(0).says(&["no dead letters"]);
    dead(&place, &["list", "--older-than", "1d"]).exits(0);
    dead(&place, &["list", "--closed"]).exits(2).complains(&["--each"]);
}

#[test]
fn one_letter_is_shown_with_all_that_is_known() {
    let place = small_run();
    let id = id_of(&place, "o-loan");
    let shown = dead(&place, &["show", &id]).exits(0);
    shown.says(&["is open", "invalid-order: loan.amount_minor", "o-loan", "Headers", "Body, "]);
    let view = dead(&place, &["show", &id, "--json"]).exits(0).json();
    let documented = BTreeSet::from([
        "id",
        "group",
        "reason",
        "error",
        "kind",
        "participant",
        "source",
        "tenant_id",
        "order_id",
        "attempts",
        "first_seen",
        "last_seen",
        "corrects",
        "state",
        "closed_at",
        "destination",
        "traceparent",
        "headers",
        "body_bytes",
        "body",
        "replaying",
        "history",
    ]);
    assert_eq!(keys(&view), documented);
    let body = dead(&place, &["show", &id, "--body"]).exits(0).stdout;
    assert_eq!(view["body_bytes"], body.len());
    let nobody = "00000000-0000-4000-8000-000000000000";
    dead(&place, &["show", nobody]).exits(1).complains(&["no dead letter", "dead list"]);
}

#[test]
fn a_letter_is_corrected_and_replayed_and_its_order_made_good() {
    let place = small_run();
    let id = id_of(&place, "o-loan");
    let body = dead(&place, &["show", &id, "--body"]).exits(0).stdout;
    place.write("still.json", body.replace(":-1", ":-2"));
    place.write("good.json", body.replace(":-1", ":7200"));
    let edit = |file: &str, others: &[&str]| {
        dead(&place, &[&["edit", &id, "--body", file], others].concat())
    };
    edit("good.json", &[]).exits(2).complains(&["--reason"]);
    edit("still.json", &["--reason", "r"]).exits(1).complains(&["dead again", "loan.amount_minor"]);
    edit("good.json", &["--dry-run"]).exits(0).says(&["started", "nothing was written"]);
    let by = ["--reason", "the shop sent a sign", "--actor", "ana", "--json"];
    let corrected = edit("good.json", &by).exits(0).json();
    assert_eq!((&corrected["original"], &corrected["outcome"]), (&json!(id), &json!("started")));
    let copy = corrected["copy"].as_str().expect("an id");
    edit("good.json", &["--reason", "r"]).exits(1).complains(&["was corrected on"]);

    let rehearsed = dead(&place, &["replay", copy, "--rehearse", "--json"]).exits(0).json();
    assert_eq!(rehearsed["outcomes"], json!({ "started": 1 }));
    dead(&place, &["replay", copy, "--dry-run"]).exits(0).says(&["1 letter would be replayed"]);
    let started =
        dead(&place, &["replay", copy, "--reason", "corrected", "--json"]).exits(0).json();
    assert_eq!(started["letters"], 1);
    dead(&place, &["replay", copy, "--reason", "again"]).exits(1).complains(&["under way"]);
    dead(&place, &["discard", copy, "--reason", "no"]).exits(1).complains(&["under way"]);
    let campaign = started["campaign"].as_str().expect("an id");
    dead(&place, &["campaign", "list"]).exits(0).says(&[campaign, "running"]);

    place.makegood(&["dev", "--orders", "orders.ndjson"]).exits(0);
    let shown = dead(&place, &["campaign", "show", campaign, "--json"]).exits(0).json();
    assert_eq!(shown["campaign"]["state"], "done", "{shown:#}");
    assert_eq!(shown["campaign"]["outcomes"], json!({ "started": 1 }));
    let documented = BTreeSet::from([
        "campaign",
        "state",
        "why",
        "letters",
        "waiting",
        "under_way",
        "settled",
        "outcomes",
        "filter",
        "ramp",
        "rate_per_second",
        "stop_percent",
        "stop_from",
        "actor",
        "reason",
        "started_at",
        "changed_at",
    ]);
    assert_eq!(keys(&shown["campaign"]), documented);
    dead(&place, &["show", &id]).exits(0).says(&["is corrected since", "by ana", copy]);
    dead(&place, &["show", copy]).exits(0).says(&["is replayed since", "replayed: started"]);
    place.makegood(&["explain", "o-loan"]).exits(0).says(&["completed"]);
}

#[test]
fn what_is_done_has_to_be_chosen_and_has_a_reason() {
    let place = small_run();
    for verb in ["replay", "discard"] {
        dead(&place, &[verb, "--reason", "r"]).exits(2).complains(&["which letters?", "--all"]);
        dead(&place, &[verb, "--all"]).exits(2).complains(&["--reason must say why"]);
        let both = [verb, "--all", "--source", "orders", "--reason", "r"];
        dead(&place, &both).exits(2).complains(&["--all goes with"]);
        let none = [verb, "--source", "facts", "--reason", "r"];
        dead(&place, &none).exits(1).complains(&["no open dead letter matches"]);
    }
    dead(&place, &["replay", "--all", "--rate", "0", "--reason", "r"]).exits(2);
    dead(&place, &["replay", "--all", "--ramp", "1,0", "--reason", "r"]).exits(2);
    dead(&place, &["discard", "--all", "--dry-run"]).exits(0).says(&["3 letters would be"]);
    assert_eq!(letters(&place).len(), 3);
    let discarded = dead(&place, &["discard", "--all", "--reason", "a test", "--json"]).exits(0);
    assert_eq!(discarded.json(), json!({ "letters": 3, "dry_run": false }));
    dead(&place, &["list"]).exits(0).says(&["no dead letters"]);
    dead(&place, &["list", "--each", "--closed"]).exits(0).says(&["discarded", "3 letters"]);
    let nobody = "00000000-0000-4000-8000-000000000000";
    let pause = ["campaign", "pause", nobody, "--reason", "r"];
    dead(&place, &pause).exits(1).complains(&["no campaign", "campaign list"]);
}
