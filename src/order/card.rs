//! Card data does not belong in an order: an order that holds any is refused, and what is kept
//! of it is masked.

mod number;

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

use super::json;

/// Fields that hold card data whatever their value is, in small letters without `_` and `-`.
const CARD_FIELDS: [&str; 20] = [
    "cardnumber",
    "creditcardnumber",
    "debitcardnumber",
    "paymentcardnumber",
    "ccnumber",
    "primaryaccountnumber",
    "pan",
    "cvv",
    "cvv2",
    "cvc",
    "cvc2",
    "cardcvv",
    "cardcvc",
    "securitycode",
    "cardsecuritycode",
    "track1",
    "track2",
    "track1data",
    "track2data",
    "pinblock",
];
/// Numbers of other things, which may look like anything; ids of all kinds end in `_id`.
const OTHER_NUMBERS: [&str; 11] = [
    "sku",
    "ean",
    "gtin",
    "isbn",
    "barcode",
    "imei",
    "cnpj",
    "cpf",
    "iban",
    "tracking_number",
    "tracking_code",
];
/// Of a value of which nothing may be kept.
const GONE: &str = "***";

/// Finds the first place that holds card data, as a path such as `payment.card_number`.
pub(super) fn find(value: &Value) -> Option<String> {
    match value {
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            if is_card_field(name, value) {
                return Some(name.clone());
            }
            // The name itself: the path must not quote it.
            if let Some(masked) = number::masked(name) {
                return Some(masked);
            }
            if is_other_number(name, value) {
                return None;
            }
            find(value).map(|rest| join(name, &rest))
        }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| find(item).map(|rest| join(&format!("[{index}]"), &rest))),
        Value::String(text) => (!number::find(text).is_empty()).then(String::new),
        Value::Number(number) => (!number::find(&plain(number)).is_empty()).then(String::new),
        Value::Bool(_) | Value::Null => None,
    }
}

/// The bytes of a message with the card data in them masked; as they came where there is none.
/// Of card numbers the last four digits stay, so that a person can still tell which it was.
#[must_use]
pub fn masked(body: &[u8]) -> Cow<'_, [u8]> {
    let as_text = || match number::masked(&String::from_utf8_lossy(body)) {
        Some(masked) => Cow::Owned(masked.into_bytes()),
        None => Cow::Borrowed(body),
    };
    let parsed = json::parse(body);
    // A field named twice: the one that this parser drops may hold some as well.
    let twice = parsed.is_err() && matches!(as_text(), Cow::Owned(_));
    match parsed.or_else(|_| serde_json::from_slice::<Value>(body)) {
        Ok(mut value) => match mask(&mut value) || twice {
            true => Cow::Owned(value.to_string().into_bytes()),
            false => Cow::Borrowed(body),
        },
        Err(_) => as_text(),
    }
}

/// Whether there was anything to mask.
fn mask(value: &mut Value) -> bool {
    match value {
        Value::Object(fields) => {
            let mut found = false;
            let mut masked = Map::new();
            for (name, mut value) in std::mem::take(fields) {
                if is_card_field(&name, &value) {
                    value = Value::from(last_four(&value).unwrap_or_else(|| GONE.to_owned()));
                    found = true;
                } else if !is_other_number(&name, &value) {
                    found |= mask(&mut value);
                }
                let shown = number::masked(&name);
                found |= shown.is_some();
                masked.insert(shown.unwrap_or(name), value);
            }
            *fields = masked;
            found
        }
        Value::Array(items) => {
            items.iter_mut().filter_map(|item| mask(item).then_some(())).count() > 0
        }
        Value::String(_) | Value::Number(_) => match last_four(value) {
            Some(masked) => {
                *value = Value::from(masked);
                true
            }
            None => false,
        },
        Value::Bool(_) | Value::Null => false,
    }
}

fn last_four(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => number::masked(text),
        Value::Number(number) => number::masked(&plain(number)),
        _ => None,
    }
}

fn is_card_field(name: &str, value: &Value) -> bool {
    let name: String = name.chars().filter(|c| c.is_alphanumeric()).collect();
    !value.is_null() && CARD_FIELDS.contains(&name.to_lowercase().as_str())
}

fn is_other_number(name: &str, value: &Value) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    !(value.is_object() || value.is_array())
        && (name.ends_with("_id") || OTHER_NUMBERS.contains(&name.as_str()))
}

/// A number without a fraction in plain digits, however it was written.
fn plain(number: &Number) -> String {
    match number.as_f64() {
        Some(value) if number.is_f64() && value.fract() == 0.0 => format!("{value:.0}"),
        Some(_) if number.is_f64() => String::new(), // no card has a fraction
        _ => number.to_string(),
    }
}

fn join(first: &str, rest: &str) -> String {
    if rest.is_empty() || rest.starts_with('[') {
        format!("{first}{rest}")
    } else {
        format!("{first}.{rest}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn card_data_is_found_by_name_and_by_value() {
        for (value, path) in [
            (json!({"payment": {"cvv": "1"}}), "payment.cvv"),
            (json!({"payment": {"Security-Code": 123}}), "payment.Security-Code"),
            (json!({"notes": ["x", "4111 1111 1111 1111"]}), "notes[1]"),
            (json!({"note": "pay with 4111111111111111 please"}), "note"),
            (json!({"payment_id": {"card_number": "x"}}), "payment_id.card_number"),
            (json!({"payment_ids": ["4111111111111111"]}), "payment_ids[0]"),
            (json!({"ref": 5_500_000_000_000_004_u64}), "ref"),
            (json!({"ref": 4_111_111_111_111_111.0}), "ref"),
            (json!({"cards": {"4111111111111111": true}}), "cards.************1111"),
        ] {
            assert_eq!(find(&value).as_deref(), Some(path), "{value}");
        }
    }

    #[test]
    fn what_only_looks_like_a_card_is_fine() {
        for value in [
            json!({"ref": "4111111111111112"}),
            json!({"order_id": "4111111111111111"}),
            json!({"lines": [{"sku": "4006381333931"}]}),
            json!({"phone": "+49 170 1234567"}),
            json!({"cvv": null}),
            json!({"weight": 4_111_111_111_111.5}),
            json!({"card": {"brand": "visa", "last_four": "1111"}}),
        ] {
            assert_eq!(find(&value), None, "{value}");
            let body = value.to_string();
            assert!(matches!(masked(body.as_bytes()), Cow::Borrowed(_)), "{value}");
        }
    }

    fn kept(body: &str) -> String {
        String::from_utf8(masked(body.as_bytes()).into_owned()).expect("text")
    }

    #[test]
    fn what_is_kept_is_masked() {
        let body = json!({
            "data": {
                "order_id": "4111111111111111", "card_number": "4111 1111 1111 1111", "cvv": 123,
                "track2": {"raw": ";4111111111111111=2712"}, "notes": ["4111111111111111!", "ok"],
                "ref": 4_111_111_111_111_111.0, "4111111111111111": 1,
            },
        });
        let expected = json!({
            "data": {
                "order_id": "4111111111111111", "card_number": "**** **** **** 1111", "cvv": "***",
                "track2": "***", "notes": ["************1111!", "ok"],
                "ref": "************1111", "************1111": 1,
            },
        });
        assert_eq!(kept(&body.to_string()), expected.to_string());
    }

    #[test]
    fn escaped_repeated_and_unreadable_ones_are_masked_too() {
        assert_eq!(kept(r#"{"a":"\u0034111111111111111"}"#), r#"{"a":"************1111"}"#);
        assert_eq!(kept(r#"{"a":"4111111111111111","a":"x"}"#), r#"{"a":"x"}"#);
        assert_eq!(kept(r#"{"a":"x","a":"y"}"#), r#"{"a":"x","a":"y"}"#);
        assert_eq!(kept(r#"{"a":"4111111111111111""#), r#"{"a":"************1111""#);
    }
}
