//! CloudEvents for real: what Makegood publishes is read by the official SDK of another language,
//! and what that SDK publishes is taken in. The trace goes in and out on every hop.
//!
//! A worker of the real binary, PostgreSQL and RabbitMQ or Kafka of its own, and `cloudevents/sdk.py` as
//! the outside. Needs `MAKEGOOD_TEST_SERVICES` (`tests/run` sets it) and a Python with the SDK,
//! which `services/python.sh` makes; what cannot run is shown as ignored, with the reason.

#[path = "cloudevents/check.rs"]
mod check;
#[allow(dead_code)] // each suite uses a part of these
#[path = "services_e2e/instance.rs"]
mod instance;
#[cfg(feature = "kafka")]
#[allow(dead_code)]
#[path = "services_e2e/lag.rs"]
mod lag;
#[allow(dead_code)]
#[path = "services_e2e/orders.rs"]
mod orders;
#[allow(dead_code)]
#[path = "services_e2e/process.rs"]
mod process;
#[path = "cloudevents/sdk.rs"]
mod sdk;
#[allow(dead_code)]
#[path = "services_e2e/stage.rs"]
mod stage;
#[path = "services_e2e/trial.rs"]
mod trial;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use libtest_mimic::Arguments;

use trial::trial;

/// A case that takes longer hangs; each wait inside has a shorter bound, and says what for.
const PATIENCE: Duration = Duration::from_secs(240);

macro_rules! trials {
    ($broker:literal) => {
        vec![
            trial(
                concat!($broker, "::the_sdk_reads_all_and_is_understood"),
                PATIENCE,
                python,
                |python| sdk::the_sdk_reads_all_and_is_understood($broker, python),
            ),
            trial(
                concat!($broker, "::a_check_beside_a_running_worker_disturbs_nobody"),
                PATIENCE,
                |_| Ok(()),
                |()| check::a_check_beside_a_running_worker_disturbs_nobody($broker),
            ),
        ]
    };
}

fn main() -> ExitCode {
    let trials = vec![
        trials!("rabbitmq"),
        #[cfg(feature = "kafka")]
        trials!("kafka"),
    ];
    let trials = trials.into_iter().flatten().collect();
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    instance::stop_shared();
    conclusion.exit_code()
}

/// The interpreter that has the SDK.
fn python(scripts: &Path) -> Result<PathBuf, String> {
    let script = scripts.join("python.sh");
    let made = Command::new(&script).arg("path").stdin(Stdio::null()).output();
    let made = made.map_err(|error| format!("{}: {error}", script.display()))?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).trim().replace('\n', "; "));
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&made.stdout).trim()))
}
