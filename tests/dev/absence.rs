//! A participant that is away for an hour while orders come in: they wait before it, and go on
//! when it is back, at a bounded rate.

use std::collections::BTreeMap;

use serde_json::json;

use crate::command::{Place, order};

const ORDERS: u64 = 5_000;
const MINUTE: u64 = 60_000;
/// When it goes and comes back, after the first order. It gives nobody up before five minutes.
const AWAY: (u64, u64) = (5 * MINUTE, 65 * MINUTE);
/// What goes on per second of those that were held, and at once at most: a second's worth.
const RELEASED: u64 = 50;

/// One every 0.72 seconds: all within the hour.
fn paid_at(number: u64) -> String {
    let seconds = number * 18 / 25;
    format!("2026-03-01T{:02}:{:02}:{:02}Z", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

pub fn orders_wait_before_a_participant_that_is_away() {
    let place = Place::new();
    let paid = |number| {
        let mut line = order(&format!("o-{number}"), &json!({}));
        line["order"]["placed_at"] = json!(paid_at(number));
        line
    };
    let orders: Vec<_> = (0..ORDERS).map(paid).collect();
    place.orders("orders.ndjson", &orders);
    let arguments = ["dev", "--orders", "orders.ndjson", "--away", "inventory=5m..65m", "--json"];
    let summary = place.makegood(&arguments).exits(0).json();
    for (what, count) in [("completed", ORDERS), ("compensated", 0), ("attention", 0)] {
        assert_eq!(summary[what], count, "{what}: {summary}");
    }
    bounded(&place);
}

/// How many orders the inventory heard of for the first time, by second since the first.
fn first_heard(place: &Place) -> BTreeMap<u64, u64> {
    let mut heard: BTreeMap<String, u64> = BTreeMap::new();
    let entries = place.objects(".makegood/ledgers/inventory.ndjson");
    let began = entries[0]["at_ms"].as_u64().expect("a time");
    for entry in &entries {
        let order = entry["order_id"].as_str().expect("an order").to_owned();
        let at = (entry["at_ms"].as_u64().expect("a time") - began) / 1_000;
        heard.entry(order).or_insert(at);
    }
    let mut by_second = BTreeMap::new();
    heard.values().for_each(|at| *by_second.entry(*at).or_default() += 1);
    by_second
}

fn bounded(place: &Place) {
    let by_second = first_heard(place);
    let (away, back) = (AWAY.0 / 1_000, AWAY.1 / 1_000);
    // Until five have not been answered in time it is not known that it is away; from then on
    // one in a minute tries.
    let meanwhile: u64 = by_second.range(away + 60..back).map(|(_, count)| count).sum();
    assert!((10..=120).contains(&meanwhile), "{meanwhile} were sent to somebody who was away");
    let after: Vec<(u64, u64)> = by_second.range(back..).map(|(at, count)| (*at, *count)).collect();
    let released: u64 = after.iter().map(|(_, count)| count).sum();
    assert!(released > ORDERS * 8 / 10, "{released} were held until it was back");
    let most = after.iter().map(|(_, count)| *count).max().expect("some");
    assert!(most <= 2 * RELEASED, "{most} in one second");
    let (first, last) = (after[0].0, after[after.len() - 1].0);
    let least = released / RELEASED;
    assert!(last - first + 2 >= least, "{released} in {} s", last - first);
}
