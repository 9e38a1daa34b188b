//! The real binary on real PostgreSQL and RabbitMQ or Kafka, while what it stands on is stopped,
//! killed or frozen. Each case ends with the same verdict: every order came to the end that its script
//! has for it, and the audit finds nothing.
//!
//! The services are started by the scripts in the folder that `MAKEGOOD_TEST_SERVICES` names
//! (`tests/run` sets it), under `MAKEGOOD_TEST_DATA`. Without it every case is ignored.

#[cfg(feature = "kafka")]
#[path = "services_e2e/cluster.rs"]
mod cluster;
#[path = "services_e2e/flow.rs"]
mod flow;
#[path = "services_e2e/instance.rs"]
mod instance;
#[cfg(feature = "kafka")]
#[path = "services_e2e/lag.rs"]
mod lag;
#[path = "services_e2e/letters.rs"]
mod letters;
#[path = "services_e2e/metrics.rs"]
mod metrics;
#[path = "services_e2e/orders.rs"]
mod orders;
#[path = "services_e2e/outage.rs"]
mod outage;
#[path = "services_e2e/process.rs"]
mod process;
#[path = "services_e2e/replays.rs"]
mod replays;
#[path = "services_e2e/shortage.rs"]
mod shortage;
#[path = "services_e2e/stage.rs"]
mod stage;
#[path = "services_e2e/start.rs"]
mod start;
#[cfg(feature = "kafka")]
#[path = "services_e2e/topics.rs"]
mod topics;
#[path = "services_e2e/trial.rs"]
mod trial;

use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::Arguments;

use trial::trial;

/// A case that takes longer hangs; each wait inside has a shorter bound, and says what for.
const PATIENCE: Duration = Duration::from_secs(360);
/// Cases at the same time. They mostly wait for couriers and leases; each may have a database
/// and a broker of its own in memory.
const AT_ONCE: usize = 5;
/// Fewer where each of them may start a Java machine of its own.
const KAFKA_AT_ONCE: usize = 2;

type Case = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

/// Cases that need RabbitMQ, or no broker in particular.
macro_rules! cases {
    ($($module:ident: $($name:ident)*;)*) => {
        vec![$($((
            concat!(stringify!($module), "::", stringify!($name)),
            (|| Box::pin($module::$name())) as fn() -> Pin<Box<dyn Future<Output = ()>>>,
        ),)*)*]
    };
}

/// Cases that are the same on each broker.
macro_rules! cases_on {
    ($broker:literal $prefix:literal; $($module:ident: $($name:ident)*;)*) => {
        vec![$($((
            concat!($prefix, stringify!($module), "::", stringify!($name)),
            (|| Box::pin($module::$name($broker))) as fn() -> Pin<Box<dyn Future<Output = ()>>>,
        ),)*)*]
    };
}

fn main() -> ExitCode {
    // The longest come first.
    let mut cases: Vec<Case> = cases_on! { "rabbitmq" "";
        flow: a_worker_killed_again_and_again_loses_nothing a_frozen_worker_wakes_up_too_late;
        outage: a_killed_broker_is_waited_for;
    };
    cases.extend(cases! {
        replays: a_campaign_survives_its_workers_and_nothing_happens_twice;
        outage: a_killed_database_is_waited_for a_frozen_database_is_waited_for
            a_stopped_database_is_waited_for;
    });
    cases.extend(cases_on! { "rabbitmq" "";
        outage: a_stopped_broker_is_waited_for a_frozen_broker_is_waited_for;
    });
    cases.extend(cases! {
        shortage: a_queue_that_does_not_confirm_holds_up_no_other
            a_broker_out_of_memory_is_waited_for a_full_queue_keeps_its_messages_in_the_outbox
            a_lost_binding_is_made_again_and_purged_commands_are_sent_again;
        letters: a_deleted_queue_is_made_again;
    });
    cases.extend(cases_on! { "rabbitmq" "";
        flow: two_workers_share_and_one_may_go;
    });
    cases.extend(cases! {
        flow: killed_participants_remember;
    });
    cases.extend(cases_on! { "rabbitmq" "";
        flow: all_orders_come_to_their_end;
        start: a_worker_waits_for_what_is_not_there_yet;
        letters: what_cannot_be_processed_is_kept_and_the_queue_moves_on;
    });
    cases.extend(cases! {
        start: tables_that_are_missing_end_the_start a_wrong_password_is_named_and_not_printed;
        metrics: prometheus_reads_the_metrics;
        shortage: a_queue_with_other_properties_ends_the_start;
    });
    let has_failed = run_all(cases, AT_ONCE);
    let has_failed = run_all(on_kafka(), KAFKA_AT_ONCE) || has_failed;
    instance::stop_shared();
    if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[cfg(feature = "kafka")]
fn on_kafka() -> Vec<Case> {
    let mut cases: Vec<Case> =
        vec![("kafka::cluster::each_of_three_brokers_is_killed_in_turn", || {
            Box::pin(cluster::each_of_three_brokers_is_killed_in_turn())
        })];
    cases.extend(cases_on! { "kafka" "kafka::";
        flow: a_worker_killed_again_and_again_loses_nothing a_frozen_worker_wakes_up_too_late;
        outage: a_killed_broker_is_waited_for a_frozen_broker_is_waited_for
            a_stopped_broker_is_waited_for;
        start: a_worker_waits_for_what_is_not_there_yet;
        letters: what_cannot_be_processed_is_kept_and_the_queue_moves_on;
        flow: two_workers_share_and_one_may_go all_orders_come_to_their_end;
    });
    cases
}

#[cfg(not(feature = "kafka"))]
fn on_kafka() -> Vec<Case> {
    Vec::new()
}

/// Runs these, so many at a time; whether one failed.
fn run_all(cases: Vec<Case>, at_once: usize) -> bool {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(arguments.test_threads.map_or(at_once, |n| n.min(at_once)));
    let trial = |(name, case): Case| trial(name, PATIENCE, |_| Ok(()), move |()| case());
    libtest_mimic::run(&arguments, cases.into_iter().map(trial).collect()).has_failed()
}
