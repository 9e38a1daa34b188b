//! JSON in which every field is named once.
//!
//! Parsers disagree on which of two equally named fields counts: what was checked here could be
//! another one than what a participant reads, since the payload is passed on as it came.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Parses a whole document.
///
/// # Errors
/// [`serde_json::Error::is_data`] tells a field named twice from what is no JSON at all. The
/// text has line and column, and never a value.
pub fn parse(text: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(text).map(|Once(value)| value)
}

struct Once(Value);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Once, D::Error> {
        deserializer.deserialize_any(Reader).map(Once)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Once(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Once(value))) = fields.next_entry::<String, Once>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a field is named twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_serde_json_reads() {
        let text =
            r#"{"a":[1,-2,3.5,1e300,"x\u0041",true,null,{}],"b":{"a":18446744073709551615}}"#;
        let expected: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(parse(text.as_bytes()).expect("JSON"), expected);
    }

    #[test]
    fn a_field_named_twice_is_refused_without_quoting_it() {
        let error = parse(br#"{"a":[{"secret":1,"secret":2}]}"#).expect_err("twice");
        assert!(error.is_data());
        assert!(error.to_string().starts_with("a field is named twice at line 1"), "{error}");
        // The same name may stand in two objects, also spelled otherwise in one of them.
        assert!(parse(br#"[{"a":{"a":1}},{"a":2}]"#).is_ok());
        assert!(parse(br#"{"a":1,"\u0061":2}"#).is_err(), "escaped, it is the same name");
    }

    #[test]
    fn what_is_no_json_is_told_apart() {
        assert!(!parse(b"{\"a\":1").expect_err("cut off").is_data());
        assert!(!parse(b"{} {}").expect_err("more than one").is_data());
    }
}
