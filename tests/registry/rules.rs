//! What a registry may refuse, and who may register.

use std::time::Duration;

use serde_json::{Value, json};

use crate::instance::{Instance, data, shared};
use crate::orders::mixed;
use crate::process::{Process, run, until};
use crate::stage::Stage;
use crate::{frame, request};

const COMMAND: &str = "makegood.command.v1";
/// For a process that must fail.
const FAILED: Duration = Duration::from_secs(60);

pub async fn a_schema_that_is_refused_or_missing_is_named() {
    // Where the data of an earlier run is kept, its registry has these rules already.
    let name = format!("rules-{}", std::process::id());
    let registry = Instance::start("apicurio", &name, &[]).await;
    let mut stage = Stage::new("rules", shared("postgres"), shared("kafka")).await;
    // Somebody else was there first.
    let strange = json!({
        "$schema": "http://json-schema.org/draft-07/schema#", "type": "object",
        "required": ["command_id"], "properties": { "command_id": { "type": "integer" } },
    });
    let strange = json!({ "schemaType": "JSON", "schema": strange.to_string() }).to_string();
    let registered =
        request(&registry, "POST", &format!("/subjects/{COMMAND}/versions"), Some(&strange)).await;
    assert!(registered.contains("\"id\""), "{registered}");
    compatibility(&registry, "BACKWARD").await;

    frame(&stage, &registry, "");
    refused_worker(&stage).await;
    let (status, told, said) =
        run(stage.command(&["contract", "register", "--json"]), FAILED).await;
    assert_eq!(status.code(), Some(1), "{said}");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    for each in told.as_array().expect("all of them") {
        let is_refused = each["error"].as_str().is_some_and(|error| error.contains("(409)"));
        assert_eq!(is_refused, each["subject"] == COMMAND, "the others are registered: {each}");
        assert_eq!(each["id"].is_null(), is_refused);
    }

    // Where only a person or a build may register, a worker waits for that.
    compatibility(&registry, "NONE").await;
    frame(&stage, &registry, "?register=false");
    stage.cast(mixed("rules", 5, 2));
    let worker = stage.worker("worker");
    let why = worker.trouble("orders", "makegood contract register").await;
    assert!(why.contains(COMMAND) && why.contains("register=false"), "{why}");
    let told = stage.succeed(&["contract", "register"]).await;
    assert_eq!(told.lines().filter(|line| line.contains(" id ")).count(), 11, "{told}");
    worker.becomes_ready().await;
    let _participants = stage.participants();
    stage.submit(1).await;
    stage.ends_well(0).await;
}

/// A worker ends at its start, and says why. Where the first try does not get so far, because
/// Kafka is slow to answer, it says so while it tries again.
async fn refused_worker(stage: &Stage) {
    let mut command = stage.command(&["worker"]);
    command.env("MAKEGOOD_HTTP_LISTEN", "127.0.0.1:0");
    let said = data().join(format!("registry-refused-{}", std::process::id()));
    let mut worker = Process::start(command, said);
    until("a refusal", FAILED, async || worker.log().contains("(409)")).await;
    let said = worker.log();
    for part in [COMMAND, "ncompatible", "/properties/command_id"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    if let Some(status) = worker.has_ended() {
        assert_eq!(status.code(), Some(1), "{said}");
    }
}

async fn compatibility(registry: &Instance, level: &str) {
    let body = json!({ "compatibility": level }).to_string();
    let answer = request(registry, "PUT", &format!("/config/{COMMAND}"), Some(&body)).await;
    assert!(answer.contains(level), "{answer}");
}
