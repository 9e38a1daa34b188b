//! Tools of others, on the documents and on the live doors.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use makegood::http::{bind, serve};
use makegood::worker::shutdown;

use crate::schemas::docs;
use crate::world::{ACME, JADLOG, World, order};

/// Requests made up for each operation, besides those at the edges of what is allowed: so many
/// that all of it takes about a minute.
const SIGNED_EXAMPLES: usize = 20;
const UNSIGNED_EXAMPLES: usize = 5;

/// Runs a script of `tests/services`; the reason where it cannot.
fn script(name: &str, verb: &str) -> Result<PathBuf, String> {
    let folder = std::env::var_os("MAKEGOOD_TEST_SERVICES")
        .ok_or("MAKEGOOD_TEST_SERVICES names no folder with scripts; tests/run does")?;
    let path = Path::new(&folder).join(name);
    let output = Command::new(&path).arg(verb).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{}: {error}", path.display()))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().into()),
        false => Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// The folder of the packages for Node.js.
fn packages() -> Result<PathBuf, String> {
    script("node.sh", "path")
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

#[track_caller]
fn told(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}", text(&output.stdout), text(&output.stderr))
}

/// A copy of the documents in which something is wrong.
fn spoilt(file: &str, good: &str, bad: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink(docs().join("schemas"), folder.path().join("schemas"))
        .expect("a link");
    let text = std::fs::read_to_string(docs().join(file)).expect("it is there");
    assert!(text.contains(good), "{file} has no {good}");
    std::fs::write(folder.path().join(file), text.replacen(good, bad, 1)).expect("written");
    folder
}

pub fn asyncapi_is_well_formed() -> Result<(), String> {
    let packages = packages()?;
    let parser = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contracts/asyncapi.mjs");
    let parse =
        |document: &Path| run(Command::new("node").arg(&parser).arg(&packages).arg(document));
    let parsed = parse(&docs().join("asyncapi.yaml"));
    assert!(parsed.status.success(), "{}", told(&parsed));
    let spoilt = spoilt("asyncapi.yaml", "action: receive", "action: take");
    let parsed = parse(&spoilt.path().join("asyncapi.yaml"));
    assert!(!parsed.status.success() && told(&parsed).contains("action"), "{}", told(&parsed));
    Ok(())
}

pub fn openapi_is_well_formed() -> Result<(), String> {
    let packages = packages()?;
    let lint = |document: &Path| {
        let mut command = Command::new("node");
        command
            .arg(packages.join("node_modules/@redocly/cli/bin/cli.js"))
            .arg("lint")
            .arg(document);
        // Health has nothing to refuse, and no address refuses only other methods.
        command.args(["--skip-rule=operation-4xx-response", "--skip-rule=no-unused-components"]);
        command.env("REDOCLY_TELEMETRY", "off").env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true");
        run(&mut command)
    };
    let linted = lint(&docs().join("openapi.yaml"));
    assert!(linted.status.success() && !told(&linted).contains("You have "), "{}", told(&linted));
    let spoilt = spoilt("openapi.yaml", "in: path", "in: street");
    let linted = lint(&spoilt.path().join("openapi.yaml"));
    assert!(!linted.status.success(), "{}", told(&linted));
    Ok(())
}

/// Requests made up from the document, good and bad, to a live worker: with signatures, without,
/// and to the listener for the platform. Every answer is one that the document has.
pub async fn made_up_requests_break_nothing() -> Result<(), String> {
    let python = script("python.sh", "path")?;
    let world = World::new().await;
    world.push(order("o-1001").to_string()).await.is(201);
    world.dispatched("o-1001", "S-1").await;
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
    let platform = listener.local_addr().expect("an address");
    let (_stopper, stop) = shutdown();
    let served = tokio::spawn(serve(listener, world.telemetry.clone(), stop, None));
    let folder = tempfile::tempdir().expect("a folder");
    // Headers that are left out on purpose would be there all the same, once it is signed.
    let security =
        "security:\n  - webhookId: []\n    webhookTimestamp: []\n    webhookSignature: []\n";
    let unsecured = spoilt("openapi.yaml", security, "");
    let made_up = async |url: SocketAddr, examples: usize, more: &[&str], is_signed: bool| {
        let mut command = Command::new(python.with_file_name("schemathesis"));
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contracts");
        command.arg("--config-file").arg(here.join("schemathesis.toml")).arg("run");
        let document = if is_signed { unsecured.path().to_owned() } else { docs() };
        command.arg(document.join("openapi.yaml")).arg("--url").arg(format!("http://{url}"));
        command.args(["--max-examples", &examples.to_string(), "--no-shrink", "--warnings", "off"]);
        command.args(["--phases", "examples,coverage,fuzzing", "--continue-on-failure"]).args(more);
        // It keeps what it found for the next run: none of that here.
        command.current_dir(folder.path());
        if is_signed {
            command.env("SCHEMATHESIS_HOOKS", "signing").env("PYTHONPATH", &here);
            command.env("PYTHONDONTWRITEBYTECODE", "1");
            command.env("SHOP_KEY", ACME).env("COURIER_KEY", JADLOG);
            command.env("NOW", world.clock.seconds().to_string());
        }
        let ran = tokio::task::spawn_blocking(move || run(&mut command)).await.expect("no panic");
        assert!(ran.status.success(), "{}", told(&ran));
    };
    let doors = ["--exclude-tag", "operations"];
    made_up(world.address, SIGNED_EXAMPLES, &doors, true).await;
    made_up(world.address, UNSIGNED_EXAMPLES, &doors, false).await;
    made_up(platform, UNSIGNED_EXAMPLES, &["--include-tag", "operations"], false).await;
    served.abort();
    let (sagas, letters) = world.written().await;
    assert!(sagas > 1, "none of the made-up orders was taken");
    assert_eq!(letters, 0);
    assert!(world.telemetry.health.report().0, "the worker is well");
    world.stop().await;
    Ok(())
}
