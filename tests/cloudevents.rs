//! CloudEvents for real: what Makegood publishes is read by the official SDK of another language,
//! and what that SDK publishes is taken in. The trace goes in and out on every hop.
//!
//! A worker of the real binary, PostgreSQL and RabbitMQ of its own, and `cloudevents/sdk.py` as
//! the outside. Needs `MAKEGOOD_TEST_SERVICES` (`tests/run` sets it) and a Python with the SDK,
//! which `services/python.sh` makes; what cannot run is shown as ignored, with the reason.

#[allow(dead_code)] // each suite uses a part of these
#[path = "services_e2e/instance.rs"]
mod instance;
#[cfg(feature = "kafka")]
#[path = "services_e2e/lag.rs"]
mod lag;
#[allow(dead_code)]
#[path = "services_e2e/orders.rs"]
mod orders;
#[allow(dead_code)]
#[path = "services_e2e/process.rs"]
mod process;
#[path = "cloudevents/rabbitmq.rs"]
mod rabbitmq;
#[allow(dead_code)]
#[path = "services_e2e/stage.rs"]
mod stage;

use std::path::PathBuf;
use std::pin::Pin;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Trial};

/// A case that takes longer hangs; each wait inside has a shorter bound, and says what for.
const PATIENCE: Duration = Duration::from_secs(240);

type Case = fn(PathBuf) -> Pin<Box<dyn Future<Output = ()>>>;

fn main() -> ExitCode {
    let trials = vec![
        trial("rabbitmq::the_sdk_reads_all_and_is_understood", |python| {
            Box::pin(rabbitmq::the_sdk_reads_all_and_is_understood(python))
        }),
        trial("rabbitmq::a_check_beside_a_running_worker_disturbs_nobody", |_| {
            Box::pin(rabbitmq::a_check_beside_a_running_worker_disturbs_nobody())
        }),
    ];
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    instance::stop_shared();
    conclusion.exit_code()
}

fn trial(name: &str, case: Case) -> Trial {
    Trial::ignorable_test(name, move || {
        let python = match instance::scripts().and_then(|scripts| python(&scripts)) {
            Ok(python) => python,
            Err(reason) => {
                eprintln!("skipped: {reason}");
                return Ok(Completion::ignored_with(reason));
            }
        };
        let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
        let ran = runtime.block_on(async { tokio::time::timeout(PATIENCE, case(python)).await });
        runtime.shutdown_background();
        ran.map(|()| Completion::Completed)
            .map_err(|_| format!("still not finished after {PATIENCE:?}").into())
    })
}

/// The interpreter that has the SDK.
fn python(scripts: &std::path::Path) -> Result<PathBuf, String> {
    let script = scripts.join("python.sh");
    let made = Command::new(&script).arg("path").stdin(Stdio::null()).output();
    let made = made.map_err(|error| format!("{}: {error}", script.display()))?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).trim().replace('\n', "; "));
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&made.stdout).trim()))
}
