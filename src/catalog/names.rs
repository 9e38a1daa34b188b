//! What names in a definition file may look like. They end up in command ids, routing keys,
//! metric labels and diagrams, so they are kept plain.

use super::keys::{Found, Keys};
use super::problem::Problem;
use crate::saga::OrderState;

/// Long enough for any name, short enough for a queue name (RabbitMQ: 255 bytes) around it.
const MAX_NAME: usize = 64;

/// Reads the name of a definition, a step or a participant: `order-fulfilment`.
pub(super) fn plain(keys: &mut Keys<'_>, key: &str) -> Option<Found<String>> {
    let found = keys.text(key)?;
    let help = "use lower-case letters, digits and dashes, beginning with a letter: hand-over";
    if is_word(&found.value) && found.value.len() <= MAX_NAME {
        return Some(found);
    }
    let message = format!("'{}' cannot be the {key} (at most {MAX_NAME} characters)", found.value);
    keys.problem(Problem::new("makegood::definition::name", found.span, message, help));
    None
}

/// Reads the name of an event or a command: `order.created`.
pub(super) fn dotted(keys: &mut Keys<'_>, key: &str) -> Option<Found<String>> {
    let found = keys.text(key)?;
    check_dotted(keys, key, &found).then_some(found)
}

/// Whether this is the name of an event or a command, without its major version: versions
/// belong to the wire, so that a definition does not change when a message gets a new field.
pub(super) fn check_dotted(keys: &mut Keys<'_>, key: &str, found: &Found<String>) -> bool {
    let name = found.value.as_str();
    let segments: Vec<&str> = name.split('.').collect();
    let (message, help) = if segments.len() > 1 && is_version(segments[segments.len() - 1]) {
        let plain = segments[..segments.len() - 1].join(".");
        (format!("{key}: '{name}' names a version"), format!("write it without: {plain}"))
    } else if segments.len() < 2 || name.len() > MAX_NAME || !segments.iter().all(|s| is_word(s)) {
        (
            format!("{key}: '{name}' cannot be the name of a message"),
            format!(
                "use at least two words of lower-case letters, digits and dashes with dots \
                 between, at most {MAX_NAME} characters: shipment.in-transit"
            ),
        )
    } else {
        return true;
    };
    let code = "makegood::definition::name";
    keys.problem(Problem::new(code, found.span.clone(), message, help));
    false
}

/// Reads the name of an order's state, one of these.
pub(super) fn state(keys: &mut Keys<'_>, key: &str, states: &[OrderState]) -> Option<OrderState> {
    let found = keys.text(key)?;
    let state = states.iter().find(|state| state.as_str() == found.value);
    if state.is_none() {
        let names: Vec<&str> = states.iter().map(|state| state.as_str()).collect();
        let message = format!("{key}: '{}' is not a state for this", found.value);
        let help = format!("use one of: {}", names.join(", "));
        keys.problem(Problem::new("makegood::definition::state", found.span, message, help));
    }
    state.copied()
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !text.ends_with('-')
}

fn is_version(segment: &str) -> bool {
    segment
        .strip_prefix('v')
        .is_some_and(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit()))
}
