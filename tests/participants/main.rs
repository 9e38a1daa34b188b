//! The simulated outside keeps the participant contract, whatever its scripts make it say. Time
//! is simulated, so that weeks pass at once.

mod stage;

use makegood::broker::Outgoing;
use makegood::fixture::ledger::{self, Effect, Entry};
use makegood::saga::{Millis, Time};
use serde_json::{Value, json};

use crate::stage::{
    Run, START, Said, command, entries, kinds, message, of_order, order, outcomes, probe, room,
};

const MINUTE: Millis = Millis::MINUTE;

#[test]
fn a_repeated_command_gets_the_first_answer_and_takes_effect_once() {
    let room = room();
    let dispatch = || command("tms.dispatch", "dispatch", 2, None);
    let run = Run::new(room.path(), json!({ "deliver": "never", "scans": "skipped" }), json!({}));
    let said = run.play(vec![(Millis(0), dispatch()), (MINUTE, dispatch())]);
    assert_eq!(outcomes(&said), ["success", "success"]);
    assert_eq!(said[0].kind, "tms.dispatch.replied.v1");
    assert_eq!(said[0].source, "/participants/tms");
    assert_eq!(said[0].data["data"], said[1].data["data"]);
    assert!(said[0].data["data"]["shipment_id"].is_string());
    assert_ne!(said[0].id, said[1].id, "each answer is a message of its own");
    assert!((Millis(1_000)..=Millis(5_000)).contains(&said[0].after), "{:?}", said[0].after);
    let entries = entries(&room, "tms");
    assert_eq!(
        entries.iter().map(|e| (e.applied, e.repeated)).collect::<Vec<_>>(),
        [(true, false), (false, true)]
    );
    assert_eq!(entries.iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_compensation_that_overtakes_its_command_closes_the_door_on_it() {
    let room = room();
    let said = Run::new(room.path(), json!({}), json!({})).play(vec![
        (Millis(0), command("inventory.release", "reserve", 3, Some(2))),
        (MINUTE, command("inventory.reserve", "reserve", 2, None)),
    ]);
    assert_eq!(outcomes(&said), ["nothing_to_do", "refused"]);
    assert!(entries(&room, "inventory").iter().all(|entry| !entry.applied));
}

#[test]
fn what_is_compensated_goes_back_where_it_came_from() {
    let room = room();
    let said = Run::new(room.path(), json!({}), json!({})).play(vec![
        (Millis(0), command("inventory.reserve", "reserve", 2, None)),
        (MINUTE, command("inventory.release", "reserve", 3, Some(2))),
        (MINUTE.times(2), command("inventory.release", "reserve", 4, Some(2))),
        (MINUTE.times(3), command("loan.reverse", "financed", 5, None)),
    ]);
    assert_eq!(outcomes(&said), ["success", "success", "nothing_to_do", "success"]);
    let moved: Vec<i64> = entries(&room, "inventory")
        .iter()
        .filter_map(|entry| match &entry.effect {
            Some(Effect::Stock(movements)) => Some(movements.iter().map(|m| m.quantity).sum()),
            _ => None,
        })
        .collect();
    assert_eq!(moved, [-3, 3]);
    let reversed = Effect::Reversed { loan_id: "L-1".into(), amount_minor: 4_990 };
    assert_eq!(entries(&room, "loan")[0].effect, Some(reversed));
}

#[test]
fn the_last_item_is_sold_once() {
    let room = room();
    let mut run = Run::new(room.path(), json!({}), json!({}));
    run.options.stock = [("A".to_owned(), 2)].into();
    let said = run.play(vec![
        (Millis(0), of_order("o-1", "inventory.reserve", "reserve", 2, None)),
        (MINUTE, of_order("o-2", "inventory.reserve", "reserve", 3, None)),
        (MINUTE.times(2), of_order("o-1", "inventory.release", "reserve", 4, Some(2))),
        (MINUTE.times(3), of_order("o-3", "inventory.reserve", "reserve", 5, None)),
    ]);
    assert_eq!(outcomes(&said), ["success", "rejected", "success", "success"]);
    assert_eq!(said[1].data["code"], "OUT_OF_STOCK");
}

#[test]
fn a_script_decides_what_is_answered() {
    let play = |step: Value, commands: Vec<(Millis, Outgoing)>| {
        let room = room();
        Run::new(room.path(), json!({ "pick": step }), json!({})).play(commands)
    };
    let pick = |at: u64| (MINUTE.times(at), command("wms.pick", "pick", 2, None));
    let undo = |at: u64| (MINUTE.times(at), command("wms.cancel-pick", "pick", 3, Some(2)));

    let rejected = play(json!("rejected BROKEN"), vec![pick(0), pick(1), undo(2)]);
    assert_eq!(outcomes(&rejected), ["rejected", "rejected", "nothing_to_do"]);
    assert_eq!(rejected[0].data["code"], "BROKEN");
    let retried = play(json!("retry 2"), vec![pick(0), pick(1), pick(2), pick(3)]);
    assert_eq!(outcomes(&retried), ["retry", "retry", "success", "success"]);
    let refused = play(json!("refuses compensation"), vec![pick(0), undo(1)]);
    assert_eq!(outcomes(&refused), ["success", "refused"]);
    assert_eq!(refused[1].data["code"], "TOO_LATE");
    let late = play(json!("late 2h"), vec![pick(0)]);
    assert!(late[0].after > Millis::HOUR.times(2), "{:?}", late[0].after);
}

#[test]
fn a_silent_participant_has_done_it_for_about_half_of_the_orders() {
    let room = room();
    let orders = (0..40).map(|n| order(&format!("o-{n}"), json!({ "pick": "silent" }), json!({})));
    let mut run = Run::new(room.path(), json!({}), json!({}));
    run.orders = orders.collect();
    let messages = (0..40).flat_map(|n| {
        let (id, order_id) = (1_000 + 2 * n, format!("o-{n}"));
        [
            (Millis(0), of_order(&order_id, "wms.pick", "pick", id, None)),
            (MINUTE, of_order(&order_id, "wms.cancel-pick", "pick", id + 1, Some(id))),
        ]
    });
    let (picks, undos): (Vec<_>, Vec<_>) = messages.partition(|(at, _)| at.0 == 0);
    let said = run.play(picks.into_iter().chain(undos).collect());
    let answers = outcomes(&said);
    assert_eq!(answers.len(), 40, "only the compensations are answered");
    let undone = answers.iter().filter(|answer| **answer == "success").count();
    assert!((10..=30).contains(&undone), "{undone} of 40 were applied");
    let applied = entries(&room, "wms").iter().filter(|entry| entry.applied).count();
    assert_eq!(applied, 2 * undone, "what was undone had been done, and nothing else");
}

#[test]
fn a_probe_is_answered_from_the_books() {
    let room = room();
    let said = Run::new(room.path(), json!({ "pick": "retry 9" }), json!({})).play(vec![
        (Millis(0), command("inventory.reserve", "reserve", 2, None)),
        (MINUTE, probe("inventory.reserve", "reserve", 2)),
        (MINUTE.times(2), probe("wms.pick", "pick", 4)),
    ]);
    let states: Vec<&Value> = said[1..].iter().map(|said| &said.data["state"]).collect();
    assert_eq!(states, ["applied", "not_applied"]);
    assert_eq!(said[1].kind, "inventory.reserve.status.replied.v1");
    assert_eq!(said[1].data["data"], said[0].data["data"]);
}

fn facts() -> Value {
    json!({ "handed_over_at": "2018-07-30T15:24:00Z", "delivered_at": "2018-08-13T19:08:37Z" })
}

/// Plays a dispatch with this script, and says which scans came when.
fn scans(script: Value, facts: Value) -> Vec<Said> {
    let room = room();
    let dispatch = command("tms.dispatch", "dispatch", 2, None);
    let mut said = Run::new(room.path(), script, facts).play(vec![(Millis(0), dispatch)]);
    said.retain(|said| said.kind.starts_with("shipment."));
    said
}

const TRANSIT: &str = "shipment.in-transit.v1";
const DELIVERED: &str = "shipment.delivered.v1";

#[test]
fn the_courier_scans_when_it_happened() {
    let said = scans(json!({}), facts());
    assert_eq!(kinds(&said), [TRANSIT, DELIVERED]);
    let at: Vec<Time> = said.iter().map(|said| START + said.after).collect();
    let fact = |name: &str| makegood::clock::from_rfc3339(facts()[name].as_str().unwrap());
    assert_eq!(at, [fact("handed_over_at").unwrap(), fact("delivered_at").unwrap()]);
    assert_eq!(said[0].source, "/couriers/simulated");

    // Stamped before the dispatch, as real couriers do: it still comes after it, in order.
    let early =
        json!({ "handed_over_at": "2018-07-01T00:00:00Z", "delivered_at": "2018-07-02T00:00:00Z" });
    let said = scans(json!({}), early);
    assert_eq!(kinds(&said), [TRANSIT, DELIVERED]);
    assert!(said[0].after >= Millis::SECOND && said[1].after.0 >= said[0].after.0 + 1_000);
}

#[test]
fn scans_come_as_the_script_says() {
    assert_eq!(kinds(&scans(json!({ "deliver": "never" }), facts())), [TRANSIT]);
    let failed = scans(json!({ "deliver": "failed" }), facts());
    assert_eq!(kinds(&failed), [TRANSIT, "shipment.failed.v1"]);
    assert_eq!(kinds(&scans(json!({ "scans": "skipped" }), facts())), [DELIVERED]);
    assert_eq!(kinds(&scans(json!({ "scans": "swapped" }), facts())), [DELIVERED, TRANSIT]);
    let twice = scans(json!({ "scans": "repeated" }), facts());
    assert_eq!(kinds(&twice), [TRANSIT, TRANSIT, DELIVERED, DELIVERED, DELIVERED]);
    assert_eq!(twice[0].id, twice[1].id);
    assert_eq!(twice[2].id, twice[3].id);
    assert_ne!(twice[2].id, twice[4].id, "a re-scan is another event");
}

#[test]
fn a_parcel_can_be_called_off_until_it_is_handed_over() {
    let play = |script: Value, cancel_after: Millis| {
        let room = room();
        let cancel = command("tms.cancel-shipment", "dispatch", 3, Some(2));
        let dispatch = command("tms.dispatch", "dispatch", 2, None);
        let messages = vec![(Millis(0), dispatch), (cancel_after, cancel)];
        Run::new(room.path(), script, facts()).play(messages)
    };
    let early = play(json!({}), Millis::HOUR);
    assert_eq!(outcomes(&early), ["success", "success"]);
    assert!(kinds(&early).is_empty(), "nothing is scanned any more: {early:?}");
    let late = play(json!({}), Millis::DAY.times(3));
    assert_eq!(outcomes(&late), ["success", "refused"]);
    assert_eq!(kinds(&late), [TRANSIT, DELIVERED]);
    let left = play(json!({ "cancel": "after dispatch" }), Millis::HOUR);
    assert_eq!(outcomes(&left), ["success", "refused"]);
    assert_eq!(kinds(&left), ["order.cancel-requested.v1", TRANSIT, DELIVERED]);
}

#[test]
fn answers_are_repeated_when_the_script_says_so() {
    let room = room();
    let run = Run::new(room.path(), json!({ "replies": "repeated" }), json!({}));
    let said = run.play(vec![(Millis(0), command("wms.pick", "pick", 2, None))]);
    assert_eq!(outcomes(&said), ["success", "success"]);
}

#[test]
fn the_shop_emits_orders_when_they_are_paid_and_customers_change_their_minds() {
    let room = room();
    let mut run = Run::new(room.path(), json!({}), json!({}));
    run.shop = true;
    run.orders = vec![
        order(
            "o-2",
            json!({ "cancel": "before reserve" }),
            json!({ "approved_at": "2018-07-29T15:54:51Z" }),
        ),
        order("o-1", json!({ "cancel": "after pick" }), json!({})),
    ];
    let said = run.play(vec![(MINUTE, command("wms.pick", "pick", 2, None))]);
    let about = |said: &Said| (said.kind.clone(), said.data["order_id"].clone(), said.after);
    let (created, cancel) = ("order.created.v1".to_owned(), "order.cancel-requested.v1".to_owned());
    let seen: Vec<_> = said.iter().filter(|s| !s.kind.contains("replied")).map(about).collect();
    assert_eq!(
        seen,
        [
            (created.clone(), json!("o-1"), Millis(0)),
            (cancel.clone(), json!("o-1"), MINUTE),
            (created, json!("o-2"), Millis::HOUR.times(2)),
            (cancel, json!("o-2"), Millis::HOUR.times(2)),
        ]
    );
}

#[test]
fn a_restarted_simulation_remembers_and_goes_on() {
    let room = room();
    let dispatch = || command("tms.dispatch", "dispatch", 2, None);
    let run = |starts_at: Time| {
        let mut run = Run::new(room.path(), json!({}), facts());
        (run.shop, run.starts_at) = (true, starts_at);
        run
    };
    let first = run(START).play(vec![(Millis(0), dispatch())]);
    assert_eq!(kinds(&first), ["order.created.v1", TRANSIT, DELIVERED]);

    // As after a crash on the way: the last scan is forgotten, and a line was torn.
    let scans = room.path().join("courier-scans.ndjson");
    let written = std::fs::read_to_string(&scans).unwrap();
    let (kept, _) = written.split_once('\n').unwrap();
    std::fs::write(&scans, format!("{kept}\n{{\"entry\":\"scan\",\"se")).unwrap();
    let second = run(START + Millis::DAY.times(2)).play(vec![(Millis(0), dispatch())]);
    assert_eq!(kinds(&second), [DELIVERED], "the order and the first scan are done");
    assert_eq!(second.last().unwrap().id, first.last().unwrap().id);
    assert_eq!(outcomes(&second), ["success"]);
    assert_eq!(entries(&room, "tms").iter().filter(|entry| entry.applied).count(), 1);
    let mut seen = 0;
    for entry in ledger::read(&scans).unwrap() {
        assert!(matches!(entry.unwrap(), Entry::Scan(_)));
        seen += 1;
    }
    assert_eq!(seen, 2, "the torn line is gone, the scan is there again");
}

#[test]
fn what_is_no_command_does_not_stop_the_counter() {
    let room = room();
    let said = Run::new(room.path(), json!({}), json!({})).play(vec![
        (Millis(0), message("wms.pick", 2, json!({ "step": "pick" }))),
        (MINUTE, command("wms.pick", "pick", 3, None)),
    ]);
    assert_eq!(outcomes(&said), ["success"]);
}
