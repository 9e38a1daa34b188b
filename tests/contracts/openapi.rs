//! The OpenAPI document against the code: every route, every problem.

use std::collections::{BTreeMap, BTreeSet};

use makegood::http::ProblemKind;
use serde_json::Value;

use crate::schemas::{assert_valid, docs, strict, validator};

/// Where routes are made. The document has what these have.
const SOURCES: [&str; 2] =
    [include_str!("../../src/http/door.rs"), include_str!("../../src/http/mod.rs")];
const METHODS: [&str; 7] = ["get", "post", "put", "patch", "delete", "head", "options"];

pub fn document() -> Value {
    let text = std::fs::read_to_string(docs().join("openapi.yaml")).expect("it is there");
    serde_saphyr::from_str(&text).expect("it is YAML")
}

/// What is meant, where another place is referred to.
pub fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        Some(pointer) => document.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}")),
        None => value,
    }
}

/// All operations, by method and path.
pub fn operations<'a>(document: &'a Value) -> BTreeMap<(String, String), &'a Value> {
    let paths = document["paths"].as_object().expect("paths");
    let of = |(path, item): (&String, &'a Value)| {
        let methods = METHODS.into_iter().filter(|method| item.get(*method).is_some());
        methods.map(|method| ((method.to_owned(), path.clone()), &item[method])).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of).collect()
}

pub fn every_route_is_documented() {
    let mut routes = BTreeSet::new();
    for made in SOURCES.iter().flat_map(|source| source.split(".route(\"").skip(1)) {
        let (path, rest) = made.split_once("\", ").expect("a path, and a handler");
        let (method, _) = rest.split_once('(').expect("a method");
        assert!(METHODS.contains(&method), "{path}: {method}");
        assert!(!rest.split('\n').next().expect("a line").contains(")."), "{path}: one a line");
        routes.insert((method.to_owned(), path.to_owned()));
    }
    let document = document();
    let documented: BTreeSet<_> = operations(&document).into_keys().collect();
    assert_eq!(documented, routes);
    assert!(routes.len() >= 7, "{routes:?}");
}

/// The examples of problems, with the status they stand under.
fn problems(document: &Value) -> BTreeSet<(String, String, u64)> {
    let responses = document["components"]["responses"].as_object().expect("responses").values();
    let contents =
        responses.filter_map(|response| response["content"].get("application/problem+json"));
    let examples = contents.flat_map(|content| content["examples"].as_object().expect("examples"));
    examples
        .map(|(_, example)| {
            let problem = &example["value"];
            let text = |key: &str| problem[key].as_str().expect("text").to_owned();
            (text("type"), text("title"), problem["status"].as_u64().expect("a status"))
        })
        .collect()
}

pub fn every_problem_is_documented() {
    let kinds = ProblemKind::ALL.map(|kind| {
        let status = u64::from(kind.status().as_u16());
        (kind.as_str().to_owned(), kind.title().to_owned(), status)
    });
    let document = document();
    assert_eq!(problems(&document), BTreeSet::from(kinds));
    // They stand where their status is.
    for ((method, path), operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().expect("responses") {
            let content = &resolved(&document, response)["content"]["application/problem+json"];
            for (name, example) in content["examples"].as_object().into_iter().flatten() {
                let of = example["value"]["status"].to_string();
                assert_eq!(*status, of, "{name} at {method} {path}");
            }
        }
    }
}

/// Every example of a body is what its schema says, and names no field that it does not.
pub fn its_examples_are_valid() {
    let document = document();
    let mut checked = 0;
    let mut contents = Vec::new();
    collect(&document, &mut contents);
    for content in contents {
        let schema = &content["schema"];
        let validator = match schema["$ref"].as_str().and_then(|file| file.strip_prefix("schemas/"))
        {
            Some(file) => strict(file.strip_suffix(".json").expect("a file")),
            None => validator("inline", schema),
        };
        for (name, example) in content["examples"].as_object().into_iter().flatten() {
            assert_valid(&validator, &example["value"], name);
            checked += 1;
        }
    }
    assert!(checked > 30, "{checked} examples");
}

/// Whatever has a schema and examples.
fn collect<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            if fields.contains_key("schema") && fields.contains_key("examples") {
                found.push(value);
            }
            fields.values().for_each(|value| collect(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, found)),
        _ => {}
    }
}
