//! What a CloudEvent has to look like to be worked with. What its data means is not known here.

use super::{Event, Malformed};

/// The major version of every contract so far.
const MAJOR: &str = "1";
/// Longest id and type, in bytes: they become AMQP short strings, which hold no more.
pub const MAX_NAME_BYTES: usize = 255;
/// Longest other attribute, in bytes. Attributes are copied into messages that go out, there as
/// headers, and all headers of a message must fit into one AMQP frame of 128 KiB: a message with
/// more costs the connection. The longest that anybody has a use for is a source URI.
pub const MAX_ATTRIBUTE_BYTES: usize = 1_024;

/// Refuses what cannot be passed on as an attribute of a message that goes out.
pub fn check(event: &Event) -> Result<(), Malformed> {
    for (name, value) in event.attributes() {
        if value.chars().any(char::is_control) {
            return Err(Malformed::schema(format!("control characters in '{name}'")));
        }
        let most = if matches!(name, "id" | "type") { MAX_NAME_BYTES } else { MAX_ATTRIBUTE_BYTES };
        if value.len() > most {
            return Err(Malformed::schema(format!("'{name}' is longer than {most} bytes")));
        }
    }
    check_kind(&event.kind)
}

pub fn check_kind(kind: &str) -> Result<(), Malformed> {
    let wrong = || {
        Malformed::schema(format!(
            "the type '{kind}' is not <entity>.<what>.v<major> in lower case"
        ))
    };
    let (name, major) = kind.rsplit_once(".v").ok_or_else(wrong)?;
    let is_word = |word: &str| {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        word.starts_with(|c: char| c.is_ascii_lowercase()) && word.chars().all(allowed)
    };
    let is_number = !major.is_empty() && major.chars().all(|c| c.is_ascii_digit());
    if !is_number || !name.contains('.') || !name.split('.').all(is_word) {
        return Err(wrong());
    }
    if major != MAJOR {
        return Err(Malformed::schema(format!("major version {major} of '{name}' is not known")));
    }
    Ok(())
}

/// Whether it is a `traceparent` as W3C Trace Context defines it: version, trace, parent and
/// flags as lower-case hexadecimal numbers of fixed length.
pub fn is_trace_context(value: &str) -> bool {
    const LENGTHS: [usize; 4] = [2, 32, 16, 2];
    let is_hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let parts: Vec<&str> = value.splitn(LENGTHS.len() + 1, '-').collect();
    parts.iter().map(|part| part.len()).eq(LENGTHS) && parts.into_iter().all(is_hex)
}
