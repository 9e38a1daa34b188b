//! Card data does not belong in an order: it is refused before anything is written.

use serde_json::Value;

/// Keys that hold card data whatever their value is.
const CARD_KEYS: [&str; 10] = [
    "card_number",
    "cardnumber",
    "pan",
    "cvv",
    "cvc",
    "cvv2",
    "card_cvv",
    "card_cvc",
    "track1",
    "track2",
];

/// Finds the first place that holds card data, as a path such as `payment.card_number`.
pub(super) fn find(value: &Value) -> Option<String> {
    match value {
        Value::Object(fields) => fields.iter().find_map(|(key, value)| {
            let name = key.to_ascii_lowercase().replace('-', "_");
            if CARD_KEYS.contains(&name.as_str()) && !value.is_null() {
                return Some(key.clone());
            }
            // Ids and article numbers may look like anything.
            if name.ends_with("_id") || matches!(name.as_str(), "sku" | "ean" | "gtin") {
                return None;
            }
            find(value).map(|rest| join(key, &rest))
        }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| find(item).map(|rest| join(&format!("[{index}]"), &rest))),
        Value::String(text) => is_card_number(text).then(String::new),
        Value::Number(number) => is_card_number(&number.to_string()).then(String::new),
        Value::Bool(_) | Value::Null => None,
    }
}

fn join(first: &str, rest: &str) -> String {
    if rest.is_empty() || rest.starts_with('[') {
        format!("{first}{rest}")
    } else {
        format!("{first}.{rest}")
    }
}

/// A whole text of digits (spaces and dashes between) with a card issuer's prefix and length
/// and a right check digit (Luhn, ISO/IEC 7812-1).
fn is_card_number(text: &str) -> bool {
    if text.len() > 32 || !text.chars().all(|c| c.is_ascii_digit() || c == ' ' || c == '-') {
        return false;
    }
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    has_issuer(&digits) && luhn(&digits)
}

fn has_issuer(digits: &[u32]) -> bool {
    let prefix = |count: usize| digits.iter().take(count).fold(0, |sum, digit| sum * 10 + digit);
    match digits.len() {
        13 | 19 => prefix(1) == 4,
        15 => matches!(prefix(2), 34 | 37),
        16 => {
            prefix(1) == 4
                || matches!(prefix(2), 51..=55 | 35 | 65)
                || matches!(prefix(4), 2221..=2720 | 6011)
        }
        _ => false,
    }
}

fn luhn(digits: &[u32]) -> bool {
    let doubled = |(index, digit): (usize, &u32)| match (index % 2, digit * 2) {
        (0, _) => *digit,
        (_, twice) => twice - if twice > 9 { 9 } else { 0 },
    };
    digits.iter().rev().enumerate().map(doubled).sum::<u32>().is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn card_data_is_found_by_key_and_by_value() {
        assert_eq!(find(&json!({"payment": {"cvv": "1"}})), Some("payment.cvv".into()));
        assert_eq!(find(&json!({"notes": ["x", "4111 1111 1111 1111"]})), Some("notes[1]".into()));
        assert_eq!(find(&json!({"ref": 5_500_000_000_000_004_u64})), Some("ref".into()));
    }

    #[test]
    fn what_only_looks_like_a_card_is_fine() {
        assert_eq!(find(&json!({"ref": "4111111111111112"})), None, "wrong check digit");
        assert_eq!(find(&json!({"order_id": "4111111111111111"})), None, "an id");
        assert_eq!(find(&json!({"lines": [{"sku": "4006381333931"}]})), None, "an article number");
        assert_eq!(find(&json!({"phone": "+49 170 1234567"})), None);
    }
}
