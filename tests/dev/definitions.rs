//! Definitions that change while orders are in flight, and another one than the shop's.

use serde_json::{Value, json};

use crate::command::{Place, of, order};

const FIRST: &str = include_str!("../../sagas/order-fulfilment.toml");

pub fn orders_in_flight_keep_their_version() {
    let place = Place::new();
    // Quiet stops before any clock fires: the warehouse owes this order an answer.
    let old = order("o-old", &json!({ "pick": "silent" }));
    place.orders("old.ndjson", std::slice::from_ref(&old));
    place.makegood(&["dev", "--orders", "old.ndjson", "--until", "quiet"]).exits(0);

    let second = FIRST.replacen("version = 1", "version = 2", 1);
    let second = second.replacen("command = \"wms.pick\"", "command = \"wms.pick-and-pack\"", 1);
    // The inline tests name the old command.
    let second = second.replace("wms.pick\"", "wms.pick-and-pack\"");
    let second = second.replace("wms.pick before", "wms.pick-and-pack before");
    let second = second.replace("before wms.pick\"", "before wms.pick-and-pack\"");
    place.write("second.toml", &second);
    let publish = ["saga", "publish", "--data", ".makegood", "second.toml"];
    place.makegood(&publish).exits(0).says(&["order-fulfilment version 2: published"]);
    place.makegood(&publish).exits(0).says(&["already published"]);
    place.write("other.toml", second.replacen("14d", "15d", 1));
    let refused =
        place.makegood(&["saga", "publish", "--data", ".makegood", "other.toml"]).exits(1);
    refused.complains(&["order-fulfilment version 2", "other content"]);

    place.orders("all.ndjson", &[old, order("o-new", &json!({}))]);
    let arguments = ["dev", "--orders", "all.ndjson", "--report", "report"];
    place.makegood(&arguments).exits(0).says(&["audit passed"]);
    let report = place.objects("report");
    let versions = |id| {
        let line = of(&report, id);
        (line["definition_version"].as_u64(), line["status"].as_str())
    };
    assert_eq!(versions("o-old"), (Some(1), Some("compensated")));
    assert_eq!(versions("o-new"), (Some(2), Some("completed")));
    let show = |id| place.makegood(&["order", "show", id]).exits(0);
    show("o-old").says(&["order-fulfilment version 1", "sent wms.pick\n", "sent wms.cancel-pick"]);
    show("o-new").says(&["order-fulfilment version 2", "sent wms.pick-and-pack\n"]);
}

/// A holiday told of by its own event, so that the shop's orders do not start one.
fn holiday(order_id: &str, script: &Value) -> Value {
    let mut line = order(order_id, script);
    line["event"] = json!("holiday.booked");
    line
}

pub fn a_holiday_is_booked_cancelled_and_undone() {
    let place = Place::new();
    let parcel = order("parcel", &json!({}));
    place.orders(
        "orders.ndjson",
        &[
            holiday("smooth", &json!({})),
            holiday("full", &json!({ "hotel": "rejected FULLY_BOOKED" })),
            holiday("cancelled", &json!({ "cancel": "after flight", "hotel": "retry 3" })),
            holiday("silent", &json!({ "transfer": "silent" })),
            holiday("doubtful", &json!({ "ticket": "silent" })),
            parcel,
        ],
    );
    let arguments = ["dev", "--orders", "orders.ndjson", "--report", "report"];
    place.makegood(&arguments).exits(0).says(&["audit passed"]);
    let report = place.objects("report");
    for (id, status, definition) in [
        ("smooth", "completed", "holiday-package"),
        ("full", "compensated", "holiday-package"),
        ("cancelled", "compensated", "holiday-package"),
        ("silent", "compensated", "holiday-package"),
        ("parcel", "completed", "order-fulfilment"),
    ] {
        let line = of(&report, id);
        assert_eq!((&line["status"], &line["definition"]), (&json!(status), &json!(definition)));
        assert_eq!(line["attention"], json!([]), "{line}");
    }
    assert_eq!(report.len(), 6);
    // Nobody answers, and past the pivot it is sent again for ever: the run ends all the same.
    let doubtful = of(&report, "doubtful");
    assert_eq!(doubtful["status"], "running");
    assert_eq!(doubtful["attention"], json!(["IN_DOUBT", "DEADLINE_PASSED"]));

    // What ran in parallel is undone in parallel, and the money comes back last.
    let show = place.makegood(&["order", "show", "full", "--json"]).exits(0).json();
    let done: Vec<&str> = show[0]["timeline"]
        .as_array()
        .expect("a timeline")
        .iter()
        .flat_map(|entry| entry["done"].as_array().expect("a list"))
        .map(|done| done.as_str().expect("text"))
        .collect();
    let place_of = |what: &str| {
        done.iter().position(|done| *done == what).unwrap_or_else(|| panic!("{what}: {done:?}"))
    };
    let money = place_of("sent loan.reverse");
    assert!(place_of("sent airline.release-seat") < money);
    assert!(place_of("sent ground.cancel-ride") < money);
    assert!(!done.contains(&"sent hotel.cancel-room"), "there never was a room: {done:?}");
    assert!(!done.contains(&"sent airline.issue-ticket"));
    place.makegood(&["order", "show", "cancelled"]).exits(0).says(&[
        "cancellation requested",
        "was compensated because it was cancelled",
        "sent airline.release-seat",
    ]);
    place.makegood(&["explain", "silent"]).exits(0).says(&["transfer is in doubt"]);
}

/// The ticket cannot be given back: from its command on, nothing may be.
pub fn a_room_given_back_past_the_ticket_is_found() {
    let place = Place::new();
    place.orders("orders.ndjson", &[holiday("smooth", &json!({}))]);
    place.makegood(&["dev", "--orders", "orders.ndjson"]).exits(0).says(&["audit passed"]);
    let name = ".makegood/ledgers/hotel.ndjson";
    let booked = place.read(name);
    let mut back: Value = serde_json::from_str(booked.trim()).expect("one entry");
    let later = back["at_ms"].as_i64().expect("a time") + 3_600_000;
    back["compensates"] = back["command_id"].clone();
    for (key, value) in [
        ("seq", json!(2)),
        ("at_ms", json!(later)),
        ("command", json!("hotel.cancel-room")),
        ("command_id", json!("00000000-0000-4000-8000-000000000008")),
        ("direction", json!("compensate")),
    ] {
        back[key] = value;
    }
    place.write(name, format!("{booked}{back}\n"));
    let found = place.makegood(&["audit", "--data", ".makegood"]).exits(1);
    found.says(&[
        "1 finding",
        "past-pivot",
        "step 'hotel' was compensated after the pivot 'ticket'",
    ]);
}
