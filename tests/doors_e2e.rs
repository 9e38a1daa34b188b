//! The shop's door of the real binary, on real PostgreSQL and RabbitMQ, while the worker behind it
//! is killed with `kill -9`, or its database is away. Without `MAKEGOOD_TEST_SERVICES`, which
//! `tests/run` sets, every case is ignored.

#[allow(dead_code)] // the in-process suite uses the rest of it
#[path = "doors/client.rs"]
mod client;
#[allow(dead_code)] // and of this
#[path = "services_e2e/instance.rs"]
mod instance;
#[cfg(feature = "kafka")]
#[path = "services_e2e/lag.rs"]
mod lag;
#[path = "doors/load.rs"]
mod load;
#[allow(dead_code)] // the services' suite uses the rest of these
#[path = "services_e2e/orders.rs"]
mod orders;
#[allow(dead_code)]
#[path = "services_e2e/process.rs"]
mod process;
#[allow(dead_code)]
#[path = "services_e2e/stage.rs"]
mod stage;

use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Trial};

/// A case that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(240);

type Case = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

fn main() -> ExitCode {
    let cases: [Case; 2] = [
        ("nothing_acknowledged_is_missing_after_kills_in_mid_load", || {
            Box::pin(load::nothing_acknowledged_is_missing_after_kills_in_mid_load())
        }),
        ("a_stopped_database_is_told_and_waited_for", || {
            Box::pin(load::a_stopped_database_is_told_and_waited_for())
        }),
    ];
    let trials = cases.into_iter().map(|(name, case)| trial(name, case)).collect();
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    instance::stop_shared();
    conclusion.exit_code()
}

fn trial(name: &str, case: fn() -> Pin<Box<dyn Future<Output = ()>>>) -> Trial {
    Trial::ignorable_test(name, move || {
        if let Err(reason) = instance::scripts() {
            eprintln!("skipped: {reason}");
            return Ok(Completion::ignored_with(reason));
        }
        let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
        let ran = runtime.block_on(async { tokio::time::timeout(PATIENCE, case()).await });
        runtime.shutdown_background();
        ran.map(|()| Completion::Completed)
            .map_err(|_| format!("still not finished after {PATIENCE:?}").into())
    })
}
