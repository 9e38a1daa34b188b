//! Orders with scripts, and what is to become of them.

use makegood::clock::rfc3339;
use makegood::saga::Time;
use serde_json::{Value, json};

/// How many times faster than the world the simulated couriers are: a day is 2.2 s. Not more: a
/// courier who is faster than a worker recovers would deliver before the news of the dispatch.
pub const PACE: i64 = 40_000;
/// When all orders are paid, by the shop's calendar: 2026-01-01.
const PAID_AT: i64 = 1_767_225_600_000;
/// A parcel that has so long to wait for its courier can be cancelled in any test.
const NOT_BEFORE_SECONDS: i64 = 1_000;

pub const TENANT: &str = "acme";

#[derive(Debug, Clone)]
pub struct Scripted {
    pub order_id: String,
    /// As `makegood order submit` reads it.
    pub line: String,
    /// `completed` or `compensated`; `running` means: under attention.
    pub expected: &'static str,
}

/// Mostly good ones, some without stock, some cancelled after the pick. Parcels are delivered
/// from `seconds` after the participants began, by this machine's clock: with all trouble over by
/// then, no delivery overtakes the news of its dispatch, which would rightly need attention.
pub fn mixed(prefix: &str, count: usize, seconds: i64) -> Vec<Scripted> {
    let kind = |index: usize| match index % 20 {
        7 => scripted(prefix, index, json!({ "reserve": "rejected OUT_OF_STOCK" }), "compensated"),
        13 => {
            let late = facts(NOT_BEFORE_SECONDS, NOT_BEFORE_SECONDS);
            let script = json!({ "cancel": "after pick" });
            order(prefix, index, &script, late, "compensated")
        }
        _ => {
            let spread = i64::try_from(index % 3).expect("small");
            order(prefix, index, &json!({}), facts(0, seconds + spread), "completed")
        }
    };
    (0..count).map(kind).collect()
}

/// An order with this script, that goes its way as fast as it can.
pub fn scripted(prefix: &str, index: usize, script: Value, expected: &'static str) -> Scripted {
    order(prefix, index, &script, facts(0, 0), expected)
}

/// Handed over and delivered so many seconds after the start, by this machine's clock.
fn facts(handed_over: i64, delivered: i64) -> Value {
    let at = |seconds: i64| rfc3339(Time(PAID_AT + seconds * 1_000 * PACE));
    let mut facts = json!({ "approved_at": at(0), "delivered_at": at(delivered) });
    if handed_over > 0 {
        facts["handed_over_at"] = json!(at(handed_over));
    }
    facts
}

fn order(
    prefix: &str,
    index: usize,
    script: &Value,
    facts: Value,
    expected: &'static str,
) -> Scripted {
    let order_id = format!("{prefix}-{index:04}");
    let order = payload(&order_id);
    let line = json!({ "order": order, "script": script, "facts": facts }).to_string();
    Scripted { order_id, line, expected }
}

/// The data of `order.created.v1`.
pub fn payload(order_id: &str) -> Value {
    json!({
        "order_id": order_id, "tenant_id": TENANT, "placed_at": rfc3339(Time(PAID_AT)),
        "currency": "EUR",
        "loan": { "loan_id": format!("L-{order_id}"), "amount_minor": 3_871, "installments": 1 },
        "lines": [{ "line_id": "1", "sku": "blue-lamp", "quantity": 1, "unit_price_minor": 3_871 }],
        "ship_to": { "postal_code": "10115", "city": "berlin", "region": "BE", "country": "DE" },
    })
}
