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
#[allow(dead_code)]
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
#[path = "services_e2e/trial.rs"]
mod trial;

use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::Arguments;

use load::{
    a_stopped_database_is_told_and_waited_for,
    nothing_acknowledged_is_missing_after_kills_in_mid_load,
};
use trial::trial;

/// A case that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(240);

fn main() -> ExitCode {
    let trials = vec![
        trial(
            "nothing_acknowledged_is_missing_after_kills_in_mid_load",
            PATIENCE,
            |_| Ok(()),
            |()| nothing_acknowledged_is_missing_after_kills_in_mid_load(),
        ),
        trial(
            "a_stopped_database_is_told_and_waited_for",
            PATIENCE,
            |_| Ok(()),
            |()| a_stopped_database_is_told_and_waited_for(),
        ),
    ];
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    instance::stop_shared();
    conclusion.exit_code()
}
