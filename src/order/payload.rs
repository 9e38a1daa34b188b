//! The order's payload: the data of `order.created`.

use serde_json::{Map, Value};

use super::{card, json};

/// The longest order id, tenant id, loan id or SKU, in characters.
pub const MAX_ID_CHARS: usize = 128;
/// The most lines of one order.
pub const MAX_LINES: usize = 1_000;
/// The most pieces of one line: far above any order that a person paid for, and so small that
/// no sum of them overflows wherever stock is counted.
pub const MAX_QUANTITY: u64 = 1_000_000;

/// A paid order that can be worked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub tenant_id: String,
    pub order_id: String,
    /// ISO 4217.
    pub currency: String,
    pub loan: Loan,
    pub lines: usize,
    /// The payload as it came.
    pub payload: Vec<u8>,
}

/// The loan that paid for the order in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loan {
    pub loan_id: String,
    /// In minor units of the order's currency; not negative.
    pub amount_minor: i64,
}

/// Why an order is refused. Never holds the offending value: it may be personal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidOrder {
    /// `card-data` or `invalid-order`: the reason code of the dead letter.
    pub reason: &'static str,
    /// The path of the field, such as `lines[0].quantity`.
    pub field: String,
    pub problem: String,
}

impl Order {
    /// Parses the data of an order event.
    ///
    /// Lines that do not add up to the loan are accepted as they come (real orders have
    /// rounding, vouchers and freight); negative amounts, fractions and card data are not.
    ///
    /// # Errors
    /// The first field that is wrong, and what is expected there.
    pub fn parse(payload: &[u8]) -> Result<Order, InvalidOrder> {
        let value = json::parse(payload).map_err(|error| {
            let problem = if error.is_data() { "cannot be taken" } else { "is not JSON" };
            invalid("order", format!("{problem}: {error}"))
        })?;
        let Value::Object(order) = &value else {
            return Err(invalid("order", "must be a JSON object"));
        };
        if let Some(field) = card::find(&value) {
            let problem = "holds card data, which Makegood does not take".to_owned();
            return Err(InvalidOrder { reason: "card-data", field, problem });
        }
        let tenant_id = id(order, "", "tenant_id")?;
        let order_id = id(order, "", "order_id")?;
        let currency = text(order, "", "currency")?;
        if currency.len() != 3 || !currency.bytes().all(|b| b.is_ascii_uppercase()) {
            return Err(invalid(
                "currency",
                "must be three capital letters (ISO 4217), such as EUR",
            ));
        }
        let loan = match order.get("loan") {
            Some(Value::Object(loan)) => Loan {
                loan_id: id(loan, "loan.", "loan_id")?,
                amount_minor: amount(loan, "loan.", "amount_minor")?,
            },
            _ => {
                return Err(invalid("loan", "must be an object: the loan that paid for the order"));
            }
        };
        let lines = match order.get("lines") {
            Some(Value::Array(lines)) => lines,
            _ => return Err(invalid("lines", "must be a list of order lines")),
        };
        if lines.is_empty() || lines.len() > MAX_LINES {
            return Err(invalid("lines", format!("must have 1 to {MAX_LINES} entries")));
        }
        for (index, line) in lines.iter().enumerate() {
            check_line(line, &format!("lines[{index}]"))?;
        }
        amounts(&value, "")?;
        let lines = lines.len();
        let payload = payload.to_vec();
        Ok(Order { tenant_id, order_id, currency, loan, lines, payload })
    }
}

fn check_line(line: &Value, path: &str) -> Result<(), InvalidOrder> {
    let Value::Object(line) = line else { return Err(invalid(path, "must be an object")) };
    let path = format!("{path}.");
    id(line, &path, "sku")?;
    match line.get("quantity").and_then(Value::as_u64) {
        Some(1..=MAX_QUANTITY) => Ok(()),
        _ => {
            let problem = format!("must be a whole number from 1 to {MAX_QUANTITY}");
            Err(invalid(&format!("{path}quantity"), problem))
        }
    }
}

/// Every amount, also in the fields that only participants know.
fn amounts(value: &Value, path: &str) -> Result<(), InvalidOrder> {
    let inside = |name: &str, value: &Value| {
        let separator = if path.is_empty() || name.starts_with('[') { "" } else { "." };
        amounts(value, &format!("{path}{separator}{name}"))
    };
    match value {
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| {
            if name.ends_with("_minor") && !value.is_null() {
                let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
                amount(fields, &prefix, name)?;
            }
            inside(name, value)
        }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(index, item)| inside(&format!("[{index}]"), item)),
        _ => Ok(()),
    }
}

fn text(object: &Map<String, Value>, path: &str, key: &str) -> Result<String, InvalidOrder> {
    match object.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(invalid(&format!("{path}{key}"), "must be a text")),
        None => Err(invalid(&format!("{path}{key}"), "is missing")),
    }
}

fn id(object: &Map<String, Value>, path: &str, key: &str) -> Result<String, InvalidOrder> {
    let id = text(object, path, key)?;
    if is_id(&id) {
        return Ok(id);
    }
    let problem = format!("must have 1 to {MAX_ID_CHARS} characters and no control characters");
    Err(invalid(&format!("{path}{key}"), problem))
}

/// Whether this can be the id of an order, a tenant, a loan or an article.
#[must_use]
pub fn is_id(id: &str) -> bool {
    (1..=MAX_ID_CHARS).contains(&id.chars().count()) && !id.chars().any(char::is_control)
}

fn amount(object: &Map<String, Value>, path: &str, key: &str) -> Result<i64, InvalidOrder> {
    match object.get(key).and_then(Value::as_i64) {
        Some(amount @ 0..) => Ok(amount),
        _ => {
            let problem = "must be a whole number of minor units (cents), not negative";
            Err(invalid(&format!("{path}{key}"), problem))
        }
    }
}

fn invalid(field: &str, problem: impl Into<String>) -> InvalidOrder {
    InvalidOrder { reason: "invalid-order", field: field.to_owned(), problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn order() -> Value {
        json!({
            "order_id": "o-1", "tenant_id": "acme", "currency": "BRL",
            "loan": { "loan_id": "L-1", "amount_minor": 3871 },
            "lines": [{ "line_id": "1", "sku": "a", "quantity": 1, "unit_price_minor": 2999 }],
            "colour_of_the_box": "red",
        })
    }

    fn refused(change: impl FnOnce(&mut Value)) -> String {
        let mut value = order();
        change(&mut value);
        Order::parse(value.to_string().as_bytes()).expect_err("must be refused").to_string()
    }

    #[test]
    fn an_order_is_kept_as_it_came() {
        let payload = order().to_string();
        let parsed = Order::parse(payload.as_bytes()).expect("a good order");
        assert_eq!(parsed.payload, payload.as_bytes());
        assert_eq!(parsed.loan.amount_minor, 3871);
    }

    #[test]
    fn a_field_named_twice_is_refused() {
        let twice = order().to_string().replacen('{', "{\"note\":\"secret\",\"note\":\"x\",", 1);
        let refused = Order::parse(twice.as_bytes()).expect_err("which note counts?").to_string();
        assert!(refused.contains("a field is named twice at line 1"), "{refused}");
        assert!(!refused.contains("secret"));
        let refused = Order::parse(b"{\"note\": secret}").expect_err("no JSON").to_string();
        assert!(refused.starts_with("order: is not JSON") && !refused.contains("secret"));
    }

    #[test]
    fn a_bad_field_is_named() {
        assert_eq!(
            refused(|o| o["order_id"] = json!("")),
            "order_id: must have 1 to 128 characters and no control characters"
        );
        assert_eq!(
            refused(|o| o["currency"] = json!("real")),
            "currency: must be three capital letters (ISO 4217), such as EUR"
        );
        assert_eq!(
            refused(|o| o["loan"]["amount_minor"] = json!(-1)),
            "loan.amount_minor: must be a whole number of minor units (cents), not negative"
        );
        assert_eq!(
            refused(|o| o["loan"]["amount_minor"] = json!(1.5)),
            "loan.amount_minor: must be a whole number of minor units (cents), not negative"
        );
        assert_eq!(
            refused(|o| o["lines"][0]["quantity"] = json!(0)),
            "lines[0].quantity: must be a whole number from 1 to 1000000"
        );
        assert_eq!(
            refused(|o| o["lines"][0]["quantity"] = json!(u64::MAX)),
            "lines[0].quantity: must be a whole number from 1 to 1000000"
        );
        assert_eq!(
            refused(|o| o["fees"] = json!([{ "vat_minor": -7 }])),
            "fees[0].vat_minor: must be a whole number of minor units (cents), not negative"
        );
        assert_eq!(
            refused(|o| o["total_minor"] = json!(-5)),
            "total_minor: must be a whole number of minor units (cents), not negative"
        );
        assert_eq!(
            refused(|o| o["lines"][0]["freight_minor"] = json!(-5)),
            "lines[0].freight_minor: must be a whole number of minor units (cents), not negative"
        );
        assert_eq!(refused(|o| o["lines"] = json!([])), "lines: must have 1 to 1000 entries");
        assert_eq!(
            refused(|o| o["tenant_id"] = json!("a\u{0}b")),
            "tenant_id: must have 1 to 128 characters and no control characters"
        );
        assert_eq!(
            refused(|o| o["card_number"] = json!("x")),
            "card_number: holds card data, which Makegood does not take"
        );
    }
}
