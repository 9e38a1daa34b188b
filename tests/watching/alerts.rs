//! Alerts say what is wrong and where to read on, and are shown to fire.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use makegood::saga::AttentionCode;
use serde_json::Value;

use crate::{project, read};

const RULES: &str = "alerts/makegood.yaml";
const TESTS: &str = "alerts/makegood.test.yaml";

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).expect("it is YAML")
}

/// Every alert, as it is written.
fn rules() -> Vec<Value> {
    let rules = yaml(RULES);
    let groups = rules["groups"].as_array().expect("groups").clone();
    let all = groups.iter().flat_map(|group| group["rules"].as_array().expect("rules").clone());
    all.filter(|rule| rule.get("alert").is_some()).collect()
}

pub fn alert_names() -> BTreeSet<String> {
    let name = |rule: &Value| rule["alert"].as_str().expect("a name").to_owned();
    rules().iter().map(name).collect()
}

pub fn each_says_what_whether_and_where() {
    let rules = rules();
    assert!(rules.len() >= 15, "only {} alerts were found", rules.len());
    assert_eq!(alert_names().len(), rules.len(), "two alerts of one name");
    for rule in rules {
        let name = rule["alert"].as_str().expect("a name");
        for text in ["summary", "description", "runbook_url"] {
            let said = rule["annotations"][text].as_str().unwrap_or_default();
            assert!(!said.is_empty(), "{name} has no {text}");
        }
        let runbook = rule["annotations"]["runbook_url"].as_str().expect("it has one");
        assert!(runbook.ends_with(&format!("/{name}.md")), "{name}: {runbook}");
        let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
        assert!(["page", "ticket"].contains(&severity), "{name} is {severity:?}");
    }
}

/// Whatever calls a person is in exactly one of the alerts about attention, so that a code that
/// is added to the core is not forgotten: it falls to the one that names what it leaves out.
pub fn every_code_has_an_alert() {
    let of_attention: Vec<String> = rules()
        .iter()
        .map(|rule| rule["expr"].as_str().expect("an expression").to_owned())
        .filter(|expression| expression.contains("makegood_attention{code"))
        .collect();
    assert_eq!(of_attention.len(), 3, "{of_attention:?}");
    for code in AttentionCode::ALL.map(AttentionCode::as_str) {
        let takes = |expression: &&String| {
            let (_, rest) = expression.split_once("{code").expect("it does");
            let (operator, rest) = rest.split_once('"').expect("a value");
            let (values, _) = rest.split_once('"').expect("its end");
            values.split('|').any(|value| value == code) != operator.starts_with('!')
        };
        let takers = of_attention.iter().filter(takes).count();
        assert_eq!(takers, 1, "{code} is in {takers} alerts");
    }
}

/// promtool plays each, once so that it fires and once so that it does not.
pub fn each_fires_and_stays_silent() -> Result<(), String> {
    let tests = yaml(TESTS);
    let mut shown = BTreeSet::new();
    for test in tests["tests"].as_array().expect("tests") {
        for case in test["alert_rule_test"].as_array().expect("cases") {
            let name = case["alertname"].as_str().expect("a name").to_owned();
            let fires = case["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty());
            shown.insert((name, fires));
        }
    }
    for name in alert_names() {
        for fires in [true, false] {
            let how = if fires { "firing" } else { "silent" };
            assert!(shown.contains(&(name.clone(), fires)), "{name} is not shown {how} in {TESTS}");
        }
    }
    promtool(&["check", "rules", RULES])?;
    promtool(&["test", "rules", TESTS])
}

/// The Prometheus of `compose/` reads this rule file, by a configuration that it takes.
pub fn compose_evaluates_them() -> Result<(), String> {
    let compose = yaml("compose/compose.yaml");
    let volumes = compose["services"]["prometheus"]["volumes"].as_array().expect("volumes");
    assert!(volumes.contains(&Value::from("../alerts:/etc/prometheus/alerts:ro")), "{volumes:?}");
    let config = yaml("compose/prometheus.yml");
    assert_eq!(config["rule_files"][0], format!("/etc/prometheus/{RULES}"));
    promtool(&["check", "config", "--syntax-only", "compose/prometheus.yml"])
}

fn promtool(arguments: &[&str]) -> Result<(), String> {
    let ran = Command::new("promtool")
        .args(arguments)
        .current_dir(project("."))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("promtool: {error}; Debian's package prometheus has it"))?;
    let said = [ran.stdout, ran.stderr].concat();
    assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
    Ok(())
}
