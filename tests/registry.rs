//! Values framed by a schema registry, for real: workers, participants and shops of the real binary
//! on Kafka and PostgreSQL, beside an Apicurio Registry, and Confluent's own client as the outside.
//!
//! Needs `MAKEGOOD_TEST_SERVICES` (`tests/run` sets it), a Java that Apicurio Registry runs on, and
//! for one case a Python with the client, which `services/python.sh` makes; what cannot run is
//! shown as ignored, with the reason.

#[path = "registry/client.rs"]
mod client;
#[path = "registry/frames.rs"]
mod frames;
#[allow(dead_code)] // each suite uses a part of these
#[path = "services_e2e/instance.rs"]
mod instance;
#[allow(dead_code)]
#[path = "services_e2e/lag.rs"]
mod lag;
#[allow(dead_code)]
#[path = "services_e2e/orders.rs"]
mod orders;
#[path = "registry/outage.rs"]
mod outage;
#[allow(dead_code)]
#[path = "services_e2e/process.rs"]
mod process;
#[path = "registry/rules.rs"]
mod rules;
#[allow(dead_code)]
#[path = "contracts/schemas.rs"]
mod schemas;
#[allow(dead_code)]
#[path = "services_e2e/stage.rs"]
mod stage;
#[path = "services_e2e/trial.rs"]
mod trial;
#[path = "registry/values.rs"]
mod values;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use libtest_mimic::Arguments;

use instance::Instance;
use stage::Stage;
use trial::trial;

/// A case that takes longer hangs; each wait inside has a shorter bound, and says what for.
const PATIENCE: Duration = Duration::from_secs(240);
/// Cases at the same time: they mostly wait, and some start a Java machine of their own.
const AT_ONCE: usize = 3;

fn main() -> ExitCode {
    let trials = vec![
        trial("outage::a_registry_that_is_away_is_waited_for", PATIENCE, registry, |()| {
            outage::a_registry_that_is_away_is_waited_for()
        }),
        trial("values::every_value_names_its_schema_and_keeps_to_it", PATIENCE, registry, |()| {
            values::every_value_names_its_schema_and_keeps_to_it()
        }),
        trial("rules::a_schema_that_is_refused_or_missing_is_named", PATIENCE, registry, |()| {
            rules::a_schema_that_is_refused_or_missing_is_named()
        }),
        trial(
            "frames::a_frame_is_understood_and_a_bad_one_kept_as_it_came",
            PATIENCE,
            |_| Ok(()),
            |()| frames::a_frame_is_understood_and_a_bad_one_kept_as_it_came(),
        ),
        trial("client::confluents_own_client_reads_and_writes", PATIENCE, python, |python| {
            client::confluents_own_client_reads_and_writes(python)
        }),
    ];
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(arguments.test_threads.map_or(AT_ONCE, |n| n.min(AT_ONCE)));
    let conclusion = libtest_mimic::run(&arguments, trials);
    instance::stop_shared();
    conclusion.exit_code()
}

/// What a script prints; or, where it fails, why.
fn asked(scripts: &Path, script: &str, verb: &str) -> Result<String, String> {
    let script = scripts.join(script);
    let ran = Command::new(&script).arg(verb).stdin(Stdio::null()).output();
    let ran = ran.map_err(|error| format!("{}: {error}", script.display()))?;
    if !ran.status.success() {
        return Err(String::from_utf8_lossy(&ran.stderr).trim().replace('\n', "; "));
    }
    Ok(String::from_utf8_lossy(&ran.stdout).trim().to_owned())
}

/// Whether there can be a registry.
fn registry(scripts: &Path) -> Result<(), String> {
    asked(scripts, "apicurio.sh", "usable").map(drop)
}

/// The interpreter that has the client.
fn python(scripts: &Path) -> Result<PathBuf, String> {
    registry(scripts)?;
    asked(scripts, "python.sh", "path").map(PathBuf::from)
}

/// Settles the registry of all processes of a case.
fn frame(stage: &Stage, registry: &Instance, query: &str) {
    let command = stage.command(&[]);
    let file = command.get_current_dir().expect("its folder").join("makegood.toml");
    let url = format!("{}{query}", registry.value("REGISTRY"));
    std::fs::write(file, format!("schema_registry = \"{url}\"\n")).expect("written");
}

/// A request to the registry's API, with a body or without one; what it answers.
async fn request(registry: &Instance, method: &str, path: &str, body: Option<&str>) -> String {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-m", "20", "-X", method])
        .arg(format!("{}{path}", registry.value("REGISTRY")));
    if let Some(body) = body {
        curl.args(["-H", "Content-Type: application/vnd.schemaregistry.v1+json", "-d", body]);
    }
    let (status, answer, error) = process::run(curl, Duration::from_secs(30)).await;
    assert!(status.success(), "{method} {path}: {error}");
    answer
}
