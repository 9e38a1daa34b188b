//! What every broker must do. One suite; each broker passes all of it.
//!
//! The broker in memory always runs. RabbitMQ runs where `MAKEGOOD_TEST_AMQP` holds a URL such
//! as `amqp://guest:guest@127.0.0.1:5672/%2f`; the case that restarts it needs a command for
//! that in `MAKEGOOD_TEST_AMQP_RESTART`. Kafka runs where `MAKEGOOD_TEST_KAFKA` holds a
//! `HOST:PORT`, and has a `_RESTART` likewise. What cannot run is shown as ignored, with the
//! reason.
//!
//! Kafka passes all but three of the common cases. Members of its groups share partitions and
//! not messages, and events are kept whether anybody listens or not: that can only be promised
//! in other words, which `kafka_only` has.

#[path = "broker/amqp_only.rs"]
mod amqp_only;
#[path = "broker/cases.rs"]
mod cases;
#[cfg(feature = "kafka")]
#[path = "broker/kafka_only.rs"]
mod kafka_only;
#[cfg(feature = "kafka-tls")]
#[path = "broker/kafka_tls.rs"]
mod kafka_tls;
#[path = "broker/world.rs"]
mod world;

use std::process::ExitCode;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Trial};
use world::World;

/// Held for reading by every case, for writing by those that restart a broker.
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
                what_is_delivered_too_often_is_dead,
                declaring_again_changes_nothing,
                an_oversized_message_is_delivered_and_refused,
                the_status_tells_whether_it_is_connected,
            )
        };
    }
    macro_rules! sharing_messages {
        ($prefix:literal, $world:expr) => {
            trials!($prefix, $world, cases:
                events_need_no_subscriber_and_reach_each_one,
                competing_consumers_share,
                the_prefetch_bounds_what_is_out,
            )
        };
    }
    trials.extend(common!("memory::", World::memory));
    trials.extend(sharing_messages!("memory::", World::memory));
    trials.extend(common!("amqp::", World::amqp));
    trials.extend(trials!("memory::", World::memory, cases:
        an_answer_aside_reaches_whoever_asked_and_no_worker,
    ));
    trials.extend(trials!("amqp::", World::amqp, cases:
        an_answer_aside_reaches_whoever_asked_and_no_worker,
    ));
    trials.extend(sharing_messages!("amqp::", World::amqp));
    trials.extend(common!("kafka::", World::kafka));
    #[cfg(feature = "kafka")]
    trials.extend(kafka_trials());
    // Last: for some seconds after its restart RabbitMQ 3.10 may answer a declaration with an
    // internal error. A worker tries again; these cases do not.
    trials.extend(trials!("amqp::", World::restarting, amqp_only:
        what_was_confirmed_survives_a_restart,
    ));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

#[cfg(feature = "kafka")]
fn kafka_trials() -> Vec<Trial> {
    let mut trials = trials!("kafka::", World::kafka, kafka_only:
        events_are_kept_and_reach_each_subscriber,
        competing_consumers_share_partitions,
        the_prefetch_bounds_what_is_out,
        a_rebalance_forgets_no_partition_that_pauses,
        a_stale_ticket_moves_nothing,
        who_is_stuck_is_replaced_and_told,
        other_properties_are_a_mismatch,
        a_topic_that_forgets_too_early_is_a_mismatch,
        a_missing_topic_is_unroutable,
        a_deleted_topic_ends_its_consumer_and_can_be_declared_again,
        a_closed_broker_has_committed_everything,
        what_others_publish_is_understood,
        a_wrong_password_is_refused_without_being_printed,
    );
    trials.extend(trials!("kafka::", World::alone, kafka_only:
        a_broker_that_says_nothing_is_given_up,
        a_broker_that_is_not_there_is_unavailable,
    ));
    #[cfg(feature = "kafka-tls")]
    trials.extend(trials!("kafka::", World::alone, kafka_tls:
        tls_is_spoken_with_whom_it_can_trust,
    ));
    trials.extend(trials!("kafka::", World::restarting_kafka, kafka_only:
        what_was_confirmed_survives_a_restart,
    ));
    trials
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
