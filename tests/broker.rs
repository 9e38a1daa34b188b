//! What every broker must do. One suite; each broker passes all of it.
//!
//! The broker in memory always runs. RabbitMQ runs where `MAKEGOOD_TEST_AMQP` holds a URL such
//! as `amqp://guest:guest@127.0.0.1:5672/%2f`; the case that restarts it needs a command for
//! that in `MAKEGOOD_TEST_AMQP_RESTART`. What cannot run is shown as ignored, with the reason.

#[path = "broker/amqp_only.rs"]
mod amqp_only;
#[path = "broker/cases.rs"]
mod cases;
#[path = "broker/world.rs"]
mod world;

use std::process::ExitCode;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Trial};
use world::World;

/// Held for reading by every case that uses RabbitMQ, for writing by the one that restarts it.
static RUNNING: RwLock<()> = RwLock::new(());
/// A case that waits longer than this for its state hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Makes a trial of each case, under its own name.
macro_rules! trials {
    ($prefix:literal, $world:expr, $module:ident: $($case:ident),+ $(,)?) => {
        vec![$(trial(concat!($prefix, stringify!($case)), $world, $module::$case)),+]
    };
}

fn main() -> ExitCode {
    let mut trials = trials!("amqp::", World::amqp, amqp_only:
        other_properties_are_a_mismatch,
        a_deleted_queue_ends_its_consumer_and_can_be_declared_again,
        a_missing_exchange_is_unroutable,
        a_closed_broker_has_acknowledged_everything,
        a_wrong_password_is_refused_without_being_printed,
    );
    trials.extend(trials!("amqp::", World::alone, amqp_only:
        a_broker_that_says_nothing_is_given_up,
        a_broker_that_is_not_there_is_unavailable,
    ));
    macro_rules! common {
        ($prefix:literal, $world:expr) => {
            trials!($prefix, $world, cases:
                a_message_arrives_as_it_was,
                what_is_unacknowledged_comes_again,
                what_is_acknowledged_does_not_come_again,
                a_ticket_dropped_unused_brings_its_message_again,
                an_acknowledgement_never_passes_a_gap,
                a_batch_is_answered_in_order,
                an_unroutable_message_is_reported_and_the_rest_arrives,
                events_need_no_subscriber_and_reach_each_one,
                competing_consumers_share,
                the_prefetch_bounds_what_is_out,
                what_is_delivered_too_often_is_dead,
                declaring_again_changes_nothing,
                an_oversized_message_is_delivered_and_refused,
                the_status_tells_whether_it_is_connected,
            )
        };
    }
    trials.extend(common!("memory::", World::memory));
    trials.extend(common!("amqp::", World::amqp));
    trials.extend(trials!("memory::", World::memory, cases:
        an_answer_aside_reaches_whoever_asked_and_no_worker,
    ));
    trials.extend(trials!("amqp::", World::amqp, cases:
        an_answer_aside_reaches_whoever_asked_and_no_worker,
    ));
    // Last: for some seconds after its restart RabbitMQ 3.10 may answer a declaration with an
    // internal error. A worker tries again; these cases do not.
    trials.extend(trials!("amqp::", World::restarting, amqp_only:
        what_was_confirmed_survives_a_restart,
    ));
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
        let (_alone, _together) = match world.restarts {
            true => (Some(RUNNING.write().unwrap_or_else(PoisonError::into_inner)), None),
            false => (None, Some(RUNNING.read().unwrap_or_else(PoisonError::into_inner))),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        runtime.block_on(async {
            let skipped = world.skipped.clone();
            let cleanup = world.cleanup();
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
