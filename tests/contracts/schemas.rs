//! The published schemas, as others would use them; and stricter, for what Makegood itself says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, Registry, Validator};
use serde_json::Value;

/// Where the schemas are said to be: they refer to each other by file name.
const BASE: &str = "json-schema:///schemas/";

pub fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

pub fn names() -> BTreeSet<String> {
    let files = std::fs::read_dir(docs().join("schemas")).expect("the schemas are there");
    files
        .map(|file| {
            let name = file.expect("a file").file_name().into_string().expect("text");
            name.strip_suffix(".json").expect("only schemas are there").to_owned()
        })
        .collect()
}

pub fn schema(name: &str) -> Value {
    let path = docs().join("schemas").join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The schema as it is published.
pub fn published(name: &str) -> Validator {
    validator(&format!("of-{name}"), &schema(name))
}

/// The same, and a field that it does not name is an error.
pub fn strict(name: &str) -> Validator {
    let mut schema = schema(name);
    schema["unevaluatedProperties"] = false.into();
    validator(&format!("strict-{name}"), &schema)
}

/// A schema that may refer to the published ones; formats are checked as well.
pub fn validator(name: &str, schema: &Value) -> Validator {
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .with_base_uri(format!("{BASE}{name}.json"))
        .with_registry(registry())
        .should_validate_formats(true)
        .build(schema)
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn registry() -> &'static Registry<'static> {
    static REGISTRY: OnceLock<Registry<'static>> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        let files = names().into_iter().map(|name| (format!("{BASE}{name}.json"), schema(&name)));
        let registry = Registry::new().draft(Draft::Draft202012).extend(files);
        registry.expect("good URIs").prepare().expect("good schemas")
    })
}

/// The fields that are wrong, as Makegood names them: `lines[0].quantity`. The whole of it has no
/// name.
pub fn wrong_fields(validator: &Validator, value: &Value) -> BTreeSet<String> {
    let errors = validator.iter_errors(value);
    errors
        .map(|error| {
            let mut pointer = error.instance_path().as_str().to_owned();
            if let ValidationErrorKind::Required { property } = error.kind() {
                pointer = format!("{pointer}/{}", property.as_str().expect("a name"));
            }
            field(&pointer)
        })
        .collect()
}

fn field(pointer: &str) -> String {
    let mut field = String::new();
    for segment in pointer.split('/').skip(1) {
        if segment.bytes().all(|b| b.is_ascii_digit()) {
            field += &format!("[{segment}]");
        } else {
            let dot = if field.is_empty() { "" } else { "." };
            field += &format!("{dot}{}", segment.replace("~1", "/").replace("~0", "~"));
        }
    }
    field
}

/// Fails, with all that is wrong, unless it is as the schema says.
#[track_caller]
pub fn assert_valid(validator: &Validator, value: &Value, what: &str) {
    let wrong: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(wrong.is_empty(), "{what}: {}\n{value:#}", wrong.join("; "));
}

/// Each schema is one, refers to what is there, and says what it is; its examples are valid.
pub fn each_is_good() {
    for name in names() {
        let schema = schema(&name);
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{name}");
        assert!(schema["title"].is_string(), "{name} has no title");
        jsonschema::meta::validate(&schema).unwrap_or_else(|error| panic!("{name}: {error}"));
        let validator = published(&name);
        for example in schema["examples"].as_array().into_iter().flatten() {
            assert_valid(&validator, example, &format!("an example in {name}"));
        }
    }
}
