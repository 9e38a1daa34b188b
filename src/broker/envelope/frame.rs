//! The frame that a schema registry's serializer puts before a value: which schema it is of.
//!
//! ```text
//! 0  id, 4 bytes big endian   value        the Confluent wire format
//! 1  GUID, 16 bytes           value        the same with the schema's GUID
//!    header __value_schema_id value        the GUID beside the value, which is bare
//! ```
//!
//! JSON begins with none of these bytes, so a framed value is understood whether or not a
//! registry is configured, and unframed ones beside it. The schema itself is not asked for: what
//! the JSON has to be like is checked here anyway, more strictly, and a paid order must not wait
//! for a registry that is away, nor be refused because one forgot an id. Avro and Protobuf cannot
//! be read without their schema; they are refused, with a reason that says so.

use std::collections::BTreeMap;
use std::fmt;

use uuid::Uuid;

use super::Malformed;

/// The header with the GUID of the value's schema, by lower-case name.
pub const SCHEMA_HEADER: &str = "__value_schema_id";
/// What a frame begins with: the version of the format.
const MAGIC_ID: u8 = 0;
pub const MAGIC_GUID: u8 = 1;
/// What may stand before JSON.
const WHITESPACE: [u8; 4] = [b' ', b'\t', b'\n', b'\r'];

/// The schema that a value says it is of.
enum Schema {
    Id(u32),
    Guid(Uuid),
    Named(String),
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Schema::Id(id) => write!(f, "{id}"),
            Schema::Guid(guid) => write!(f, "{guid}"),
            Schema::Named(text) => f.write_str(text),
        }
    }
}

/// A value with the frame for a schema.
#[must_use]
pub fn framed(schema: u32, value: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(1 + size_of::<u32>() + value.len());
    framed.push(MAGIC_ID);
    framed.extend(schema.to_be_bytes());
    framed.extend(value);
    framed
}

/// The value without its frame, where it has one.
///
/// # Errors
/// A frame that is not whole, or behind which there is no JSON.
pub fn unframed<'a>(
    body: &'a [u8],
    headers: &BTreeMap<String, String>,
) -> Result<&'a [u8], Malformed> {
    let named = headers.get(SCHEMA_HEADER).map(|text| Schema::Named(text.clone()));
    let (schema, value) = match (named, body.split_first()) {
        (Some(schema), _) => (schema, body),
        (None, Some((&MAGIC_ID, rest))) => {
            let (id, value) = rest.split_first_chunk().ok_or_else(|| short(body))?;
            (Schema::Id(u32::from_be_bytes(*id)), value)
        }
        (None, Some((&MAGIC_GUID, rest))) => {
            let (guid, value) = rest.split_first_chunk().ok_or_else(|| short(body))?;
            (Schema::Guid(Uuid::from_bytes(*guid)), value)
        }
        (None, Some((byte, _))) if byte.is_ascii_control() && !WHITESPACE.contains(byte) => {
            return Err(Malformed::unparseable(format!(
                "it begins with the byte {byte:#04x}: neither JSON nor the frame of a schema \
                 registry, whose magic byte is 0 or 1"
            )));
        }
        _ => return Ok(body),
    };
    let first = value.iter().find(|byte| !WHITESPACE.contains(byte));
    if first == Some(&b'{') {
        return Ok(value);
    }
    Err(Malformed::unparseable(format!(
        "a value of schema {schema} of a schema registry that is no JSON object: only what a \
         serializer for JSON Schema writes is understood, not Avro, Protobuf or ids of 8 bytes"
    )))
}

fn short(body: &[u8]) -> Malformed {
    let (bytes, magic) = (body.len(), body[0]);
    Malformed::unparseable(format!(
        "it begins with the magic byte {magic} of a schema registry's frame, and ends within the \
         frame, after {bytes} bytes"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "89791762-2336-4186-9674-299b90a802e2";

    fn read<'a>(body: &'a [u8], header: Option<&str>) -> Result<&'a [u8], String> {
        let header = header.map(|guid| (SCHEMA_HEADER.to_owned(), guid.to_owned()));
        unframed(body, &header.into_iter().collect()).map_err(|error| {
            assert_eq!(error.reason, "unparseable");
            error.detail
        })
    }

    #[test]
    fn json_is_found_behind_each_frame_and_without_one() {
        let json = b" {\"a\":1}";
        assert_eq!(framed(0x0102_0304, b"{}"), b"\x00\x01\x02\x03\x04{}");
        assert_eq!(read(&framed(u32::MAX, json), None).unwrap(), json);
        let guid = Uuid::parse_str(GUID).unwrap();
        let by_guid = [&[MAGIC_GUID], &guid.as_bytes()[..], json].concat();
        assert_eq!(read(&by_guid, None).unwrap(), json);
        assert_eq!(read(json, Some(GUID)).unwrap(), json);
        for bare in [&json[..], b"\t{}", b"[]", b"x", b""] {
            assert_eq!(read(bare, None).unwrap(), bare, "not ours to judge");
        }
    }

    #[test]
    fn what_is_not_json_says_what_it_is() {
        let apicurio = b"\x00\x00\x00\x00\x00\x00\x00\x00\x07{\"a\":1}";
        for (body, header, expected) in [
            (&b"\x00\x00\x00\x00"[..], None, "after 4 bytes"),
            (b"\x01short", None, "after 6 bytes"),
            (b"\x03{}", None, "the byte 0x03"),
            (b"\x00\x00\x00\x00\x07", None, "schema 7 of a schema registry that is no JSON"),
            (b"\x00\x00\x00\x00\x07\x06foo", None, "schema 7"),
            (b"\x00\x00\x00\x00\x07\x00{}", None, "not Avro, Protobuf"),
            (&apicurio[..], None, "ids of 8 bytes"),
            (b"\x00\x00\x00\x00\x07{}", Some(GUID), GUID),
        ] {
            let error = read(body, header).unwrap_err();
            assert!(error.contains(expected), "{body:?}: {error}");
        }
    }
}
