//! Confluent's own client, in Python: it reads what Makegood writes, and is understood.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::frame;
use crate::instance::shared;
use crate::orders::{mixed, payload, scripted};
use crate::process::run;
use crate::stage::Stage;
use crate::values::records;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/registry/client.py");
/// For a Python to start and to do its work.
const PLAYED: Duration = Duration::from_secs(90);

pub async fn confluents_own_client_reads_and_writes(python: PathBuf) {
    let registry = shared("apicurio");
    let mut stage = Stage::new("client", shared("postgres"), shared("kafka")).await;
    frame(&stage, registry, "");
    stage.cast(mixed("read", 10, 2));
    let _participants = stage.participants();
    let _worker = stage.ready_worker("worker").await;
    stage.submit(1).await;
    let broker = stage.broker.clone();
    let play = async |verb: &str, argument: &str| {
        let mut play = Command::new(&python);
        play.arg(SCRIPT).arg(verb).arg(&broker).arg(registry.value("REGISTRY")).arg(argument);
        let (status, said, error) = run(play, PLAYED).await;
        assert!(status.success(), "{verb}: {error}\n{said}");
        said
    };
    play("write", &payload("python-0001").to_string()).await;
    let mut refused = payload("python-0002");
    refused["lines"] = json!([]);
    let said = play("refuse", &refused.to_string()).await;
    assert!(said.contains("[] should be non-empty"), "its schema is one that checks: {said}");
    stage.cast_more(vec![scripted("python", 1, json!({}), "completed")]);
    stage.ends_well(0).await;

    let mut expected: BTreeMap<(String, String), usize> = BTreeMap::new();
    for record in records(&stage.broker).await {
        *expected.entry((record.topic, record.kind)).or_default() += 1;
    }
    let mut read: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in play("read", "").await.lines() {
        let record: Value = serde_json::from_str(line).expect("JSON");
        let text = |key: &str| record[key].as_str().expect("text").to_owned();
        assert_eq!(record["data"]["tenant_id"].as_str().unwrap_or("acme"), "acme", "{record}");
        *read.entry((text("topic"), text("type"))).or_default() += 1;
    }
    assert_eq!(read, expected);
}
