//! What has to hold for any input whatever: shared by the fuzz targets, which make inputs up, and
//! by the ordinary tests, which replay those that were kept. A property that does not hold panics.
#![allow(dead_code)] // each fuzz target uses one of them

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use makegood::broker::{DEFAULT_MAX_MESSAGE_BYTES, envelope};
use makegood::catalog;
use makegood::http::{Claim, Key, ProblemKind};
use makegood::order::Order;
use makegood::saga::Time;

/// The key with which the corpus is signed, and the time at which it comes in.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SIGNED: Time = Time(1_614_265_330_000);
/// The reason codes of messages that cannot be read.
const UNREADABLE: [&str; 3] = ["unparseable", "oversized", "wrong-schema"];
/// The reason codes of orders that are refused.
const REFUSED: [&str; 2] = ["invalid-order", "card-data"];
/// The reason of every definition that is refused; its problems have codes of their own.
const FLAWED: &str = "flawed";

/// A message: headers, one `name: value` a line, an empty line, and the body. What comes in is
/// read or has a reason, and what is read is written and read again as the same.
///
/// # Errors
/// The reason code.
pub fn envelope(input: &[u8]) -> Result<(), &'static str> {
    let (headers, body) = message(input);
    let body = Bytes::copy_from_slice(body);
    let event = match envelope::decode(&body, &headers, DEFAULT_MAX_MESSAGE_BYTES) {
        Ok(event) => event,
        Err(malformed) => {
            assert!(UNREADABLE.contains(&malformed.reason), "{}", malformed.reason);
            assert!(!malformed.detail.is_empty());
            return Err(malformed.reason);
        }
    };
    for (name, value) in event.attributes() {
        assert!(value.len() <= envelope::MAX_ATTRIBUTE_BYTES, "{name} is too long to pass on");
        assert!(!value.contains(char::is_control), "control characters in {name}");
    }
    assert!(event.data().starts_with('{'));
    let written = Bytes::from(event.to_json());
    let structured = [("content-type".to_owned(), envelope::STRUCTURED.to_owned())].into();
    let back = envelope::decode(&written, &structured, usize::MAX).expect("it was good");
    assert_eq!(back.to_json(), written);
    Ok(())
}

/// The headers, by lower-case name as a broker gives them, and the body.
fn message(input: &[u8]) -> (BTreeMap<String, String>, &[u8]) {
    let end = input.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = match end {
        Some(at) => (&input[..at], &input[at + 2..]),
        None => (&[][..], input.strip_prefix(b"\n").unwrap_or(input)),
    };
    let head = String::from_utf8_lossy(head);
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_lowercase(), value.trim().to_owned()))
    };
    (head.lines().filter_map(header).collect(), body)
}

/// An order is taken as it came, or refused for a field.
///
/// # Errors
/// The reason code.
pub fn order(input: &[u8]) -> Result<(), &'static str> {
    match Order::parse(input) {
        Ok(order) => {
            assert_eq!(order.payload, input);
            assert!(order.loan.amount_minor >= 0 && order.lines > 0);
            for id in [&order.tenant_id, &order.order_id, &order.loan.loan_id] {
                assert!(makegood::order::is_id(id));
            }
            Ok(())
        }
        Err(refused) => {
            assert!(REFUSED.contains(&refused.reason), "{}", refused.reason);
            assert!(!refused.field.is_empty() && !refused.problem.is_empty());
            Err(refused.reason)
        }
    }
}

/// A signed request, written as a message is: whoever signed exactly these bytes at about this
/// time is believed, and nobody else is.
///
/// # Errors
/// The problem that it is told, without its path.
pub fn signature(input: &[u8]) -> Result<(), &'static str> {
    let (headers, body) = message(input);
    let header = |(name, value): (String, String)| {
        Some((name.parse::<HeaderName>().ok()?, value.parse::<HeaderValue>().ok()?))
    };
    let headers: HeaderMap = headers.into_iter().filter_map(header).collect();
    let key = Key::parse(SECRET).expect("a key");
    let kind = |kind: ProblemKind| kind.as_str().trim_start_matches("/problems/");
    let claim = Claim::read(&headers, SIGNED).map_err(|problem| kind(problem.kind()))?;
    if !claim.is_by([&key], body) {
        return Err(kind(ProblemKind::BadSignature));
    }
    let said = headers["webhook-signature"].to_str().expect("it was read");
    let ours = key.sign(&claim.id, claim.timestamp, body);
    assert!(said.split(' ').any(|signature| signature == ours), "{said} is believed");
    assert!(!claim.is_by([&key], &[body, b" "].concat()));
    Ok(())
}

/// A definition can be drawn, or is refused with problems that can be shown.
///
/// # Errors
/// Where it is not UTF-8, as a file that cannot be read; else the one reason there is.
pub fn definition(input: &[u8]) -> Result<(), &'static str> {
    let text = std::str::from_utf8(input).map_err(|_| "no-text")?;
    match catalog::load("fuzz.toml", text) {
        Ok(loaded) => {
            assert!(!loaded.definition.steps().is_empty());
            assert!(!catalog::mermaid(&loaded.definition).is_empty());
            assert_eq!(loaded.text, text);
            Ok(())
        }
        Err(errors) => {
            let problems = errors.to_json();
            assert!(!problems.is_empty() && !errors.to_fancy(false).is_empty());
            for problem in problems {
                let code = problem["code"].as_str().expect("a code");
                assert!(code.starts_with("makegood::definition::"), "{code}");
                assert!(problem["line"].as_u64() >= Some(1) && problem["message"] != "");
            }
            Err(FLAWED)
        }
    }
}
