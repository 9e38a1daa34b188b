//! The participant conformance kit: the simulated participants pass it, and each that is broken
//! on purpose fails exactly the rule that it breaks.
//!
//! Over the broker in memory always; over RabbitMQ where `MAKEGOOD_TEST_AMQP` holds a URL. What
//! cannot run is shown as ignored, with the reason.

#[path = "kit/cases.rs"]
mod cases;
#[path = "command/mod.rs"]
mod command;
#[path = "kit/command_line.rs"]
mod command_line;
#[path = "kit/contract.rs"]
mod contract;
#[path = "kit/world.rs"]
mod world;

use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use world::World;

/// A case that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);

macro_rules! trials {
    ($prefix:literal, $world:expr, $module:ident: $($case:ident),+ $(,)?) => {
        vec![$(trial(concat!($prefix, stringify!($case)), $world, $module::$case)),+]
    };
}

fn main() -> ExitCode {
    macro_rules! common {
        ($prefix:literal, $world:expr) => {
            trials!($prefix, $world, cases:
                the_simulated_participants_pass,
                commands_without_a_definition_are_checked,
                no_dedupe_is_found,
                forgetting_over_a_restart_is_found,
                no_tombstone_is_found,
                slowness_is_found,
                wrong_command_ids_are_found,
                another_source_is_found,
                answers_without_saga_and_order_are_found,
                another_type_is_found,
                an_unknown_outcome_is_found,
                answers_in_the_wrong_place_are_found,
                answers_in_the_shared_place_are_taken_when_asked_for,
                strictness_is_found,
                a_service_that_stops_is_found,
                undoing_nothing_is_found,
                forgetting_what_was_undone_is_found,
                deduping_by_step_is_found,
                a_lying_probe_is_found,
                a_service_that_is_not_there_is_found,
                what_was_made_to_happen_is_undone,
                a_busy_broker_is_not_confused_with_it,
            )
        };
    }
    let mut trials = common!("memory::", World::memory);
    trials.extend(trials!("memory::", World::memory, cases:
        rules_that_no_participant_breaks_can_fail,
        a_command_that_is_put_off_is_sent_again,
    ));
    trials.extend(common!("amqp::", World::amqp));
    trials.extend(trials!("amqp::", World::amqp, command_line:
        the_command_prints_pass_or_fail_and_says_so_by_its_status,
        the_participant_in_the_contract_passes,
    ));
    trials.push(Trial::test("command_line::what_is_wrong_is_told", || {
        command_line::what_is_wrong_is_told();
        Ok(())
    }));
    trials.extend(contract::trials());
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial<F>(name: &str, world: fn() -> Result<World, String>, case: fn(World) -> F) -> Trial
where
    F: Future<Output = ()> + Send + 'static,
{
    Trial::ignorable_test(name, move || {
        let world = match world() {
            Ok(world) => world,
            Err(reason) => {
                eprintln!("skipped: {reason}");
                return Ok(Completion::ignored_with(reason));
            }
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| Failed::from(error.to_string()))?;
        runtime.block_on(async {
            let (cleanup, skipped) = (world.cleanup(), world.skipped.clone());
            let ran = tokio::time::timeout(PATIENCE, tokio::spawn(case(world))).await;
            cleanup.run().await;
            match ran {
                Err(_) => Err(format!("still waiting after {PATIENCE:?}").into()),
                Ok(Err(panicked)) => std::panic::resume_unwind(panicked.into_panic()),
                Ok(Ok(())) => Ok(match skipped.get() {
                    Some(reason) => Completion::ignored_with(reason),
                    None => Completion::Completed,
                }),
            }
        })
    })
}
