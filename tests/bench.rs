//! `bench` measures what it says, in a store of its own.

mod command;

use std::collections::BTreeSet;

use command::{Place, order};
use serde_json::{Value, json};

const STORE: &str = "store=sqlite:bench";

fn bench(place: &Place, arguments: &[&str]) -> Value {
    let command = ["--set", STORE, "--set", "lanes=2", "bench", "--json", "--sagas", "60"];
    let all = [&command[..], arguments].concat();
    place.makegood(&all).exits(0).json()
}

#[test]
fn the_store_path_takes_every_saga_to_its_end() {
    let place = Place::new();
    let measured = bench(&place, &["--in-flight", "20", "--waiting", "10"]);
    let documented = BTreeSet::from([
        "through",
        "sagas",
        "in_flight",
        "waiting",
        "seconds",
        "sagas_per_second",
        "transitions_per_second",
        "commits_per_saga",
        "average_batch",
        "latency_of",
        "latency_p50_ms",
        "latency_p99_ms",
    ]);
    let keys = measured.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(documented, keys);
    // Twenty sagas and two lanes, ten each: no batch can be larger, and none needs to be smaller.
    assert_eq!(measured["average_batch"], 10.0);
    let list = |status| {
        let arguments = ["--set", STORE, "order", "list", "--json", "--status", status];
        let listed = place.makegood(&arguments).exits(0).json();
        listed["orders"].as_array().expect("orders").len()
    };
    assert_eq!(list("running"), 10);
    assert_eq!(list("completed"), 50); // a page of the 60
}

#[test]
fn the_whole_worker_is_measured_through_a_broker() {
    let measured = bench(&Place::new(), &["--through", "memory"]);
    assert_eq!(measured["through"], "memory");
    assert_eq!(measured["latency_of"], "order to third command");
    assert!(measured["latency_p99_ms"].as_f64() >= measured["latency_p50_ms"].as_f64());
    assert!(measured["commits_per_saga"].as_f64() > Some(0.0), "{measured}");
}

#[test]
fn the_shipped_definition_is_measured_on_demand_and_never_beside_the_other() {
    let place = Place::new();
    let arguments = ["--set", STORE, "bench", "--sagas", "20", "--json", "--notices"];
    place.makegood(&arguments).exits(0);
    place.makegood(&arguments[..6]).exits(2).complains(&["other definitions", "empty database"]);
}

#[test]
fn a_store_with_orders_in_it_is_refused() {
    let place = Place::new();
    place.orders("orders.ndjson", &[order("o-1", &json!({}))]);
    place.makegood(&["dev", "--orders", "orders.ndjson"]).exits(0);
    let arguments = ["--set", "store=sqlite:.makegood", "bench", "--sagas", "1"];
    let refused = place.makegood(&arguments).exits(2);
    refused.complains(&["holds orders", "a database of its own"]);
}
