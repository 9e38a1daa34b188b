//! The published contracts, held against what Makegood really says, takes and refuses, so that
//! neither can change without the other.
//!
//! The official parsers of AsyncAPI and OpenAPI, and requests made up from the OpenAPI document,
//! need Node.js and Python: `tests/services` has scripts that install the rest, and
//! `MAKEGOOD_TEST_SERVICES` names that folder (`tests/run` sets it). What cannot run is shown as
//! ignored, with the reason.

#[path = "contracts/answers.rs"]
mod answers;
#[path = "contracts/asyncapi.rs"]
mod asyncapi;
#[allow(dead_code)] // the doors' suite uses the rest of it
#[path = "doors/client.rs"]
mod client;
#[path = "command/mod.rs"]
mod command;
#[path = "contracts/command_line.rs"]
mod command_line;
#[allow(dead_code)] // the intake's suite uses the rest of it
#[path = "intake/forgetful.rs"]
mod forgetful;
#[path = "contracts/openapi.rs"]
mod openapi;
#[path = "contracts/refused.rs"]
mod refused;
#[path = "contracts/schemas.rs"]
mod schemas;
#[path = "contracts/sent.rs"]
mod sent;
#[path = "contracts/taken.rs"]
mod taken;
#[path = "contracts/tools.rs"]
mod tools;
#[allow(dead_code)] // the doors' suite uses the rest of it
#[path = "doors/world.rs"]
mod world;

use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Trial};
use tokio::runtime::Builder;

/// A case that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    let trials = vec![
        // The longest come first.
        tool("tools::made_up_requests_break_nothing", tools::made_up_requests_break_nothing),
        tool("tools::asyncapi_is_well_formed", || async { tools::asyncapi_is_well_formed() }),
        tool("tools::openapi_is_well_formed", || async { tools::openapi_is_well_formed() }),
        simulated(
            "sent::every_message_is_as_its_schema_says",
            sent::every_message_is_as_its_schema_says,
        ),
        plain("sent::every_code_is_documented", sent::every_code_is_documented),
        plain("schemas::each_is_good", schemas::each_is_good),
        plain("taken::orders_of_the_corpus", taken::orders_of_the_corpus),
        plain("taken::orders_changed_at_random", taken::orders_changed_at_random),
        plain("taken::envelopes_of_the_corpus", taken::envelopes_of_the_corpus),
        live("refused::replies_and_facts", refused::replies_and_facts),
        live("refused::scans_and_cancellations", refused::scans_and_cancellations),
        live("answers::each_is_documented", answers::each_is_documented),
        live("answers::what_is_not_there_is_told", answers::what_is_not_there_is_told),
        live("answers::health_is_documented", answers::health_is_documented),
        plain("openapi::every_route_is_documented", openapi::every_route_is_documented),
        plain("openapi::every_problem_is_documented", openapi::every_problem_is_documented),
        plain("openapi::its_examples_are_valid", openapi::its_examples_are_valid),
        plain("asyncapi::every_name_on_rabbitmq", asyncapi::every_name_on_rabbitmq),
        #[cfg(feature = "kafka")]
        plain("asyncapi::every_topic_on_kafka", asyncapi::every_topic_on_kafka),
        plain("asyncapi::every_message_is_documented", asyncapi::every_message_is_documented),
        plain("asyncapi::every_schema_is_used", asyncapi::every_schema_is_used),
        plain("command_line::it_prints_the_files", command_line::it_prints_the_files),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn plain(name: &str, case: fn()) -> Trial {
    let case = move || {
        case();
        Ok(())
    };
    Trial::test(name, case)
}

/// One thread: a simulation is a chain of small steps.
fn simulated<F: Future<Output = ()> + 'static>(name: &str, case: fn() -> F) -> Trial {
    Trial::test(name, move || within(Builder::new_current_thread(), case()))
}

fn live<F: Future<Output = ()> + 'static>(name: &str, case: fn() -> F) -> Trial {
    Trial::test(name, move || within(Builder::new_multi_thread(), case()))
}

fn within(
    mut runtime: Builder,
    case: impl Future<Output = ()>,
) -> Result<(), libtest_mimic::Failed> {
    let runtime = runtime.enable_all().build().map_err(|error| error.to_string())?;
    let ran = runtime.block_on(async { tokio::time::timeout(PATIENCE, case).await });
    runtime.shutdown_background();
    ran.map_err(|_| format!("still not finished after {PATIENCE:?}").into())
}

/// A case that needs the scripts in `tests/services`.
fn tool<F>(name: &str, case: fn() -> F) -> Trial
where
    F: Future<Output = Result<(), String>> + 'static,
{
    Trial::ignorable_test(name, move || {
        let runtime = Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        Ok(match runtime.block_on(case()) {
            Ok(()) => Completion::Completed,
            Err(reason) => {
                eprintln!("skipped: {reason}");
                Completion::ignored_with(reason)
            }
        })
    })
}
