//! Orders that are fed to the simulation: read from a file, or made up.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Trial};
use makegood::fixture::orders::{Expect, OrdersError, check_names, read};
use makegood::fixture::verdict::{Cancel, Delivery, Scans, Verdict};
use makegood::fixture::{ScriptedOrder, Scripts, generate};
use makegood::saga::{Definition, Time};
use serde_json::json;

/// Names a file of real orders, one scripted order a line.
const ORDERS: &str = "MAKEGOOD_TEST_ORDERS";
/// Where it is otherwise, seen from the project's folder.
const BESIDE: &str = "../shared/data/olist/orders.ndjson";

fn main() {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(BESIDE);
    let path = std::env::var_os(ORDERS).map_or(beside, PathBuf::from);
    let has_file = path.exists();
    if !has_file {
        eprintln!("skipped real_orders_are_read: set {ORDERS} to a file of orders");
    }
    let real = move || real_orders_are_read(&path);
    let trials = vec![
        trial("a_scripted_order_is_read_whole", a_scripted_order_is_read_whole),
        trial(
            "a_bare_order_is_taken_byte_for_byte_and_goes_smoothly",
            a_bare_order_is_taken_byte_for_byte_and_goes_smoothly,
        ),
        trial(
            "an_error_names_the_file_the_line_the_field_and_what_was_expected",
            an_error_names_the_file_the_line_the_field_and_what_was_expected,
        ),
        trial(
            "a_line_without_end_is_refused_without_being_held_in_memory",
            a_line_without_end_is_refused_without_being_held_in_memory,
        ),
        trial("a_script_names_steps_that_there_are", a_script_names_steps_that_there_are),
        trial("the_same_seed_gives_the_same_orders", the_same_seed_gives_the_same_orders),
        trial("made_up_orders_look_like_a_shop", made_up_orders_look_like_a_shop),
        trial("real_orders_are_read", real).with_ignored_flag(!has_file),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn trial(name: &str, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

const PLACED: &str = "2018-07-29T13:54:51Z";

fn one(line: &str) -> Result<ScriptedOrder, OrdersError> {
    read(line.as_bytes(), "orders.ndjson").next().expect("a line")
}

fn order() -> serde_json::Value {
    json!({
        "order_id": "o-1", "tenant_id": "acme", "placed_at": PLACED, "currency": "EUR",
        "loan": { "loan_id": "L-1", "amount_minor": 7_200 },
        "lines": [{ "line_id": "1", "sku": "A-1", "quantity": 1, "unit_price_minor": 7_200 }],
    })
}

fn a_scripted_order_is_read_whole() {
    let line = json!({
        "order": order(),
        "script": { "reserve": "retry 2", "cancel": "after pick", "deliver": "failed" },
        "facts": { "approved_at": "2018-07-29T14:24:20Z", "handed_over_at": "2018-07-30T15:24:00Z" },
        "expect": "attention",
    });
    let read = one(&line.to_string()).unwrap();
    assert_eq!((read.tenant_id.as_str(), read.order_id.as_str()), ("acme", "o-1"));
    assert_eq!(read.paid_at, Time(1_532_874_260_000));
    assert_eq!(read.script.verdict("reserve"), &Verdict::Retry { times: 2 });
    assert_eq!(read.script.verdict("pick"), &Verdict::Success);
    assert_eq!(read.script.cancel, Some(Cancel::After("pick".into())));
    assert_eq!(read.script.delivery, Delivery::Failed);
    assert_eq!(read.expect, Some(Expect::Attention));
    assert_eq!(read.facts.delivered_at, None);
    let scripts: Scripts = [&read].into_iter().collect();
    let plan = scripts.get("acme", "o-1").expect("it was put there");
    assert_eq!((&plan.script, plan.facts), (&read.script, read.facts));
    assert_eq!(scripts.get("other", "o-1"), None);
}

fn a_bare_order_is_taken_byte_for_byte_and_goes_smoothly() {
    let line = order().to_string().replacen(':', ":  ", 1);
    let read = one(&line).unwrap();
    assert_eq!(read.payload.get(), line);
    assert_eq!(read.script, Default::default());
    assert_eq!(read.paid_at, Time(1_532_872_491_000), "paid when it was placed");
}

fn an_error_names_the_file_the_line_the_field_and_what_was_expected() {
    let with = |key: &str, value: serde_json::Value| {
        let mut line = json!({ "order": order() });
        line[key] = value;
        line.to_string()
    };
    let cases = [
        ("{", "(line)", "not JSON"),
        ("[1]", "(line)", "expected a JSON object"),
        (r#"{"order": 7}"#, "order", "expected a JSON object"),
        (
            r#"{"tenant_id": "acme", "placed_at": "2018-07-29T13:54:51Z"}"#,
            "order.order_id",
            "missing",
        ),
        (&with("scirpt", json!({})), "scirpt", "expected one of order, script, facts, expect"),
        (&with("script", json!({ "pick": "fly" })), "script.pick", "expected \"rejected CODE\""),
        (&with("script", json!({ "pick": 3 })), "script.pick", "expected a text"),
        (
            &with("script", json!({ "deliver": "late" })),
            "script.deliver",
            "\"never\" or \"failed\"",
        ),
        (&with("facts", json!({ "delivered_at": "soon" })), "facts.delivered_at", "a time such as"),
        (
            &with("facts", json!({ "lost_at": PLACED })),
            "facts.lost_at",
            "expected one of approved_at",
        ),
        (&with("expect", json!("joy")), "expect", "expected one of completed"),
    ];
    let mut cases: Vec<(String, &str, &str)> = cases
        .into_iter()
        .map(|(line, field, expected)| (line.to_owned(), field, expected))
        .collect();
    // What no worker would take is not even sent.
    let mut none = order();
    none["lines"][0]["quantity"] = json!(0);
    cases.push((none.to_string(), "order.lines[0].quantity", "must be a whole number"));
    let mut unpaid = order();
    unpaid["loan"] = json!({ "loan_id": "L-1" });
    cases.push((json!({ "order": unpaid }).to_string(), "order.loan.amount_minor", "minor units"));
    for (line, field, expected) in cases {
        let source = format!("\n{line}\n");
        let error = read(source.as_bytes(), "orders.ndjson").next().unwrap().unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with(&format!("orders.ndjson:2: field '{field}'")), "{text}");
        assert!(text.contains(expected), "{text}");
    }
}

fn definitions() -> Vec<Definition> {
    [
        ("order-fulfilment.toml", include_str!("../sagas/order-fulfilment.toml")),
        ("holiday-package.toml", include_str!("../sagas/holiday-package.toml")),
    ]
    .map(|(name, text)| makegood::catalog::load(name, text).expect("it is sound").definition)
    .into()
}

/// What is wrong with the names in a line, which is the third of its file.
fn misnamed(line: &serde_json::Value) -> Option<String> {
    let source = format!("\n{}\n{line}\n", order());
    let orders: Vec<ScriptedOrder> =
        read(source.as_bytes(), "orders.ndjson").collect::<Result<_, _>>().unwrap();
    let checked = check_names(&orders, "orders.ndjson", definitions().iter());
    checked.err().map(|error| error.to_string())
}

fn a_script_names_steps_that_there_are() {
    let scripted =
        |key: &str, value: &str| misnamed(&json!({ "order": order(), "script": { key: value } }));
    for (key, value) in [
        ("reserve", "silent"),
        ("activate-loan", "retry 2"),
        ("cancel", "after hand-over"),
        ("cancel", "before pick"),
        ("deliver", "never"),
        ("scans", "swapped"),
        ("replies", "repeated"),
    ] {
        assert_eq!(scripted(key, value), None, "{key} {value}");
    }
    let refused = |key: &str, value: &str, words: &[&str]| {
        let error = scripted(key, value).expect("there is no such step");
        assert!(error.starts_with(&format!("orders.ndjson:3: field 'script.{key}': ")), "{error}");
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    refused("resrve", "silent", &["'resrve'", "reserve, pick, dispatch, activate-loan"]);
    refused("cancel", "after pck", &["'pck'", "reserve, pick, dispatch, hand-over"]);
    // It waits for a scan: no participant could be silent about it.
    refused("hand-over", "silent", &["'hand-over'"]);
    // Of another definition, which this order does not start.
    refused("hotel", "silent", &["'hotel'"]);
    let mut holiday = json!({ "order": order(), "script": { "hotel": "silent" } });
    holiday["event"] = json!("holiday.booked");
    assert_eq!(misnamed(&holiday), None);
    holiday["event"] = json!("holiday.boked");
    let error = misnamed(&holiday).expect("nobody knows the event");
    assert!(error.contains("3: field 'event'") && error.contains("holiday.booked"), "{error}");
}

fn a_line_without_end_is_refused_without_being_held_in_memory() {
    let endless = BufReader::new(std::io::Read::take(std::io::repeat(b' '), 1 << 40));
    let endless = std::io::Read::chain(&b"{"[..], endless);
    let error = read(endless, "orders.ndjson").next().unwrap().unwrap_err();
    assert!(error.to_string().contains("at most"), "{error}");
}

fn the_same_seed_gives_the_same_orders() {
    let all = |seed| -> Vec<String> { generate(500, seed).map(|o| format!("{o:?}")).collect() };
    assert_eq!(all(7), all(7));
    assert_ne!(all(7), all(8));
}

fn made_up_orders_look_like_a_shop() {
    let orders: Vec<ScriptedOrder> = generate(20_000, 1).collect();
    let ids: HashSet<&str> = orders.iter().map(|order| order.order_id.as_str()).collect();
    assert_eq!(ids.len(), orders.len());

    let mut hours = [Vec::new(), Vec::new(), Vec::new()];
    let mut single = 0;
    for order in &orders {
        let payload: serde_json::Value = serde_json::from_str(order.payload.get()).unwrap();
        let placed = payload["placed_at"].as_str().unwrap();
        let placed = makegood::clock::from_rfc3339(placed).unwrap();
        let lines = payload["lines"].as_array().unwrap();
        let worth: i64 = lines
            .iter()
            .map(|line| {
                let field = |name: &str| line[name].as_i64().unwrap();
                field("unit_price_minor") * field("quantity") + field("freight_minor")
            })
            .sum();
        assert_eq!(payload["loan"]["amount_minor"], worth);
        single += usize::from(lines.len() == 1);
        let times = [
            Some(placed),
            order.facts.approved_at,
            order.facts.handed_over_at,
            order.facts.delivered_at,
        ];
        for (stage, pair) in times.windows(2).enumerate() {
            if let [Some(from), Some(to)] = pair {
                hours[stage].push((*to - *from).0 as f64 / 3_600_000.0);
            }
        }
        assert_eq!(order.paid_at, order.facts.approved_at.unwrap());
        assert_eq!(order.expect, None);
    }
    let [approval, hand_over, delivery] = &mut hours;
    close_to(quantile(approval, 0.5), 0.34);
    close_to(quantile(approval, 0.95), 54.0);
    close_to(quantile(hand_over, 0.5), 1.8 * 24.0);
    close_to(quantile(hand_over, 0.95), 8.4 * 24.0);
    close_to(quantile(delivery, 0.5), 7.1 * 24.0);
    close_to(quantile(delivery, 0.95), 24.6 * 24.0);
    close_to(quantile(delivery, 0.99), 40.2 * 24.0);
    let share = |count: usize| count as f64 / orders.len() as f64;
    close_to(share(single), 0.9);
    let count =
        |test: &dyn Fn(&ScriptedOrder) -> bool| share(orders.iter().filter(|o| test(o)).count());
    let rejected =
        |o: &ScriptedOrder| matches!(o.script.verdict("reserve"), Verdict::Rejected { .. });
    near(count(&rejected), 0.01);
    near(count(&|o| o.script.cancel.is_some()), 0.012);
    near(count(&|o| o.script.delivery == Delivery::Never), 0.01);
    assert!(count(&|o| o.script.verdict("pick") == &Verdict::Silent) > 0.0);
    assert!(count(&|o| o.script.scans == Scans::Swapped) > 0.0);
    assert!(count(&|o| o.script.repeats_replies) > 0.0);
}

fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() as f64 * share) as usize]
}

/// Within a tenth.
fn close_to(is: f64, should: f64) {
    assert!((is - should).abs() < should * 0.1, "{is} is not near {should}");
}

/// A rare thing, within a third.
fn near(is: f64, should: f64) {
    assert!((is - should).abs() < should * 0.34, "{is} is not near {should}");
}

fn real_orders_are_read(path: &Path) {
    let file = || BufReader::new(std::fs::File::open(path).expect("the file can be opened"));
    let orders: Result<Vec<ScriptedOrder>, OrdersError> = read(file(), "real orders").collect();
    assert_eq!(orders.unwrap().len(), file().lines().count());
}
