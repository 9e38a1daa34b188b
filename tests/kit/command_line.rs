//! `makegood participant check`, as a user runs it: against simulated participants, and against
//! the service that the contract shows in another language.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use makegood::broker::Topology;
use makegood::broker::topology::Names;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::command::{Ended, Place, Running};
use crate::world::{Cleanup, World};

const SAGAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/sagas");
const CONTRACT: &str = include_str!("../../docs/participants.md");
/// Whose turn it is: both cases use the queues that every installation has.
static QUEUES: Mutex<()> = Mutex::const_new(());
/// For a process that has yet to start, on a busy machine.
const PATIENT: &str = "30s";

pub async fn the_command_prints_pass_or_fail_and_says_so_by_its_status(world: World) {
    let url = world.url.clone().expect("a case for RabbitMQ");
    let _mine = QUEUES.lock().await;
    cleanup(&url).run().await;
    let played = tokio::task::spawn_blocking({
        let url = url.clone();
        move || {
            let stage = Stage::new(&url);
            a_broken_one_fails(&stage);
            a_good_one_passes(&stage);
        }
    });
    let played = played.await;
    cleanup(&url).run().await;
    played.expect("played");
}

pub async fn the_participant_in_the_contract_passes(world: World) {
    let url = world.url.clone().expect("a case for RabbitMQ");
    let python = tokio::task::spawn_blocking(python).await.expect("it ran");
    let python = match python {
        Ok(python) => python,
        Err(reason) => return world.skip(reason),
    };
    let _mine = QUEUES.lock().await;
    cleanup(&url).run().await;
    let played = tokio::task::spawn_blocking({
        let url = url.clone();
        move || a_python_one_passes(&Stage::new(&url), &python)
    });
    let played = played.await;
    cleanup(&url).run().await;
    played.expect("played");
}

/// What an installation without a prefix declares.
fn cleanup(url: &str) -> Cleanup {
    let participants = ["inventory", "wms", "tms", "loan"].map(str::to_owned).to_vec();
    let topology = Topology { participants, ..Topology::default() };
    Cleanup::of(url, Names::default().layout(&topology))
}

struct Stage {
    place: Place,
    broker: String,
}

impl Stage {
    fn new(url: &str) -> Stage {
        let stage = Stage { place: Place::new(), broker: format!("broker={url}") };
        stage.place.makegood(&["--set", "store=sqlite:db", "migrate", "--sagas", SAGAS]).exits(0);
        stage
    }

    /// Simulated participants, for as long as the value lives.
    fn participants(&self, arguments: &[&str]) -> Running {
        let mut all = vec!["--set", "store=sqlite:db", "--set", &self.broker, "participants"];
        all.extend(arguments);
        self.place.start(&all)
    }

    fn check(&self, arguments: &[&str]) -> Ended {
        self.check_within(PATIENT, arguments)
    }

    fn check_within(&self, timeout: &str, arguments: &[&str]) -> Ended {
        let mut all = vec!["--set", &self.broker, "participant", "check", "--participant", "wms"];
        all.extend(["--timeout", timeout]);
        all.extend(arguments);
        self.place.makegood(&all)
    }
}

fn a_broken_one_fails(stage: &Stage) {
    let participants = stage.participants(&["--broken", "no-dedupe", "--ledgers", "broken"]);
    let ended = stage.check(&[]).exits(1);
    ended.says(&[
        "wms.pick: step pick of order-fulfilment, undone by wms.cancel-pick",
        "pass  answers-in-time",
        "FAIL  repeats-its-answer",
        "see docs/participants.md#the-same-command-again",
        "sent      {\"specversion\":\"1.0\"",
        "received  {\"specversion\":\"1.0\"",
        "skip  probe-finds-what-was-done",
        "1 failed",
    ]);
    let report = stage.check(&["--json"]).exits(1).json();
    assert_eq!((&report["good"], &report["failed"]), (&Value::Bool(false), &1.into()));
    let rules = report["commands"][0]["rules"].as_array().expect("rules");
    let broken = rules.iter().find(|rule| rule["verdict"] == "fail").expect("one is broken");
    assert_eq!(broken["rule"], "repeats-its-answer");
    let exchanges = report["commands"][0]["exchanges"].as_array().expect("exchanges");
    let shown: Vec<&Value> = broken["shown"]
        .as_array()
        .expect("indexes")
        .iter()
        .map(|index| &exchanges[usize::try_from(index.as_u64().expect("one")).expect("small")])
        .collect();
    assert_eq!(shown.len(), 2);
    assert_eq!(shown[0]["sent"]["id"], shown[1]["sent"]["id"], "the same command came twice");
    assert_eq!(shown[1]["sent"]["data"]["attempt"], 2);
    assert_ne!(shown[0]["received"][0]["body"], shown[1]["received"][0]["body"]);
    participants.kill();
}

fn a_good_one_passes(stage: &Stage) {
    let participants = stage.participants(&[]);
    let plain = stage.check(&[]).exits(0);
    plain.says(&["0 failed, 3 skipped"]);
    assert!(!plain.stdout.contains("sent      "), "messages only where they are needed");
    stage.place.write("order.json", ORDER);
    stage.place.write("results.json", r#"{ "reserve": { "warehouse": "BER-2" } }"#);
    let asked = ["--probe", "--restart", "true", "--order", "order.json", "--verbose"];
    let ended = stage.check(&[&asked[..], &["--results", "results.json"]].concat()).exits(0);
    ended.says(&[
        "21 passed, 0 failed, 0 skipped",
        "all that was said",
        "\"sku\":\"K-9\"",
        "\"warehouse\":\"BER-2\"",
        "\"tenantid\":\"hugo\"",
    ]);
    assert!(!ended.stdout.contains("\"o-77\""), "it is not that order that is sent");
    let named = stage.check(&["--command", "wms.pick=wms.cancel-pick", "--no-probe"]).exits(0);
    named.says(&["wms.pick: step pick of participant-check", "18 passed, 0 failed, 3 skipped"]);
    stage.check(&["--restart", "exit 3"]).exits(1).complains(&["could not be started anew"]);
    participants.kill();
}

const ORDER: &str = r#"{
  "order": {
    "order_id": "o-77", "tenant_id": "hugo", "currency": "EUR",
    "loan": { "loan_id": "L-77", "amount_minor": 100 },
    "lines": [{ "sku": "K-9", "quantity": 2 }]
  },
  "script": {}
}"#;

/// The interpreter with the packages that it needs.
fn python() -> Result<PathBuf, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/services/python.sh");
    let made = Command::new(script).arg("path").stdin(Stdio::null()).output();
    let made = made.map_err(|error| format!("{script}: {error}"))?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).trim().replace('\n', "; "));
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&made.stdout).trim()))
}

fn a_python_one_passes(stage: &Stage, python: &std::path::Path) {
    let (_, rest) = CONTRACT.split_once("```python\n").expect("the contract shows one");
    let (program, _) = rest.split_once("```").expect("and it ends");
    stage.place.write("wms.py", program);
    let (_, url) = stage.broker.split_once('=').expect("KEY=VALUE");
    // The queue is there before the service: somebody's worker, or a check, has declared it.
    let start = format!(
        "MAKEGOOD_BROKER='{url}' '{}' wms.py >wms.out 2>wms.log </dev/null & echo $! >wms.pid",
        python.display()
    );
    let declared = stage.check_within("50ms", &[]).exits(1);
    declared.says(&["FAIL  answers-in-time", "nothing came within 50ms"]);
    stage.place.write("start.sh", &start);
    let service = Service(stage);
    stage.place.write("restart.sh", "kill $(cat wms.pid); . ./start.sh");
    let started = Command::new("sh").arg("start.sh").current_dir(stage.place.path("")).status();
    assert!(started.expect("a shell").success());
    let ended = stage.check(&["--probe", "--restart", ". ./restart.sh"]);
    let log = stage.place.read("wms.log");
    assert_eq!(ended.status, Some(0), "{}\n{}\n{log}", ended.stdout, ended.stderr);
    ended.says(&["21 passed, 0 failed, 0 skipped"]);
    drop(service);
}

/// The service in Python. Dropped, it is killed.
struct Service<'a>(&'a Stage);

impl Drop for Service<'_> {
    fn drop(&mut self) {
        if let Ok(pid) = std::fs::read_to_string(self.0.place.path("wms.pid")) {
            let _ = Command::new("kill").args(["-9", pid.trim()]).status();
        }
    }
}

pub fn what_is_wrong_is_told() {
    let place = Place::new();
    let refuses = |arguments: &[&str], words: &[&str]| {
        let mut all = vec!["participant", "check"];
        all.extend(arguments);
        place.makegood(&all).exits(2).complains(words);
    };
    let nowhere = ["--participant", "wms", "--set", "broker=amqp://127.0.0.1:1"];
    let with = |more: &[&'static str]| [&nowhere[..], more].concat();
    refuses(&[], &["--participant <NAME>"]);
    refuses(&["--participant", "wms"], &["`broker` is not set", "MAKEGOOD_BROKER"]);
    refuses(&["--participant", "W M S"], &["--participant: must be small letters"]);
    let nobody = &["--participant", "wsm", "--set", "broker=amqp://127.0.0.1:1"];
    refuses(
        nobody,
        &["sends nothing to 'wsm'", "inventory, loan, notifications, tms, wms", "--definition"],
    );
    refuses(&with(&["--definition", "nope"]), &["--definition: 'nope'", "sagas/"]);
    refuses(&with(&["--command", "Pick"]), &["'Pick' is no command", "wms.pick"]);
    refuses(&with(&["--timeout", "1ms"]), &["--timeout must be from 50ms to 10m"]);
    refuses(&with(&["--probe", "--no-probe"]), &["cannot be used with"]);
    refuses(&with(&["--order", "none.json"]), &["--order: none.json"]);
    place.write("bad.json", r#"{ "order_id": "o-1" }"#);
    refuses(&with(&["--order", "bad.json"]), &["--order: bad.json: tenant_id: is missing"]);
    refuses(&with(&["--results", "bad.toml"]), &["--results: cannot read bad.toml"]);
    place.write("flawed.toml", "name = \"x\"\n");
    refuses(&with(&["--definition", "flawed.toml"]), &["flawed.toml", "version"]);
    let unreachable = place.makegood(&[&["participant", "check"], &nowhere[..]].concat()).exits(1);
    unreachable.complains(&["the broker is not available"]);
}
