//! `makegood dev` as its users run it: the binary, without any service.
//!
//! Two cases run real orders, where a file of them is at hand: `MAKEGOOD_TEST_ORDERS` names
//! it. Without it they are listed as ignored.

#[path = "dev/absence.rs"]
mod absence;
mod command;
#[path = "dev/definitions.rs"]
mod definitions;
#[path = "dev/input.rs"]
mod input;
#[path = "dev/made_up.rs"]
mod made_up;
#[path = "dev/real_orders.rs"]
mod real_orders;
#[path = "dev/reruns.rs"]
mod reruns;

use std::path::PathBuf;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// Names a file of real orders, one scripted order a line.
const ORDERS: &str = "MAKEGOOD_TEST_ORDERS";
/// Where it is otherwise, seen from the project's folder.
const BESIDE: &str = "../shared/data/olist/orders.ndjson";

macro_rules! cases {
    ($($module:ident: $($name:ident)*;)*) => {
        vec![$($(trial(concat!(stringify!($module), "::", stringify!($name)), $module::$name),)*)*]
    };
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(BESIDE);
    let path = std::env::var_os(ORDERS).map_or(beside, PathBuf::from);
    let is_there = path.exists();
    if !is_there {
        eprintln!("skipped: the real orders; set {ORDERS} to a file of them to run these cases");
    }
    let real = |name: &str, test: fn(&std::path::Path)| {
        let path = path.clone();
        trial(name, move || test(&path)).with_ignored_flag(!is_there)
    };
    // The two long ones come first, so that they run side by side.
    let mut trials = vec![
        real(
            "real_orders::each_ends_for_its_own_reason",
            real_orders::each_ends_for_its_own_reason,
        ),
        real("real_orders::quiet_is_what_really_was", real_orders::quiet_is_what_really_was),
    ];
    trials.extend(cases! {
        absence: orders_wait_before_a_participant_that_is_away;
        reruns: a_second_run_does_nothing_again a_killed_run_is_finished_by_the_next
            what_a_killed_run_lost_is_said_again
            a_folder_in_use_is_refused;
        input: orders_come_from_standard_input a_bad_line_names_file_line_and_field
            a_report_that_cannot_be_written_is_known_before_the_run
            no_orders_are_fine card_data_is_a_dead_letter_and_accounted_for
            a_repeated_order_starts_one_saga
            the_same_order_with_other_content_is_a_dead_letter;
        made_up: the_same_seed_gives_the_same_run every_order_is_accounted_for
            the_summary_is_one_json_object a_broken_ledger_is_found
            the_summary_is_a_table_for_people orders_are_listed_by_their_age
            what_is_broken_in_a_real_run_is_found an_audit_says_what_would_make_it_pass;
        definitions: orders_in_flight_keep_their_version
            a_holiday_is_booked_cancelled_and_undone a_room_given_back_past_the_ticket_is_found;
    });
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &str, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}
