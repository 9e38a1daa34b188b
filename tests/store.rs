//! The conformance suite of stores: one set of rules, run for SQLite always, and for
//! PostgreSQL where `MAKEGOOD_TEST_POSTGRES` holds the URL of a server on which schemas may be
//! made. Without it those cases are listed as ignored.

#[path = "store/campaigns.rs"]
mod campaigns;
#[path = "store/due.rs"]
mod due;
#[path = "store/letters.rs"]
mod letters;
#[path = "store/outbox.rs"]
mod outbox;
#[path = "store/place.rs"]
mod place;
#[path = "store/postgres_only.rs"]
mod postgres_only;
#[path = "store/questions.rs"]
mod questions;
#[path = "store/samples.rs"]
mod samples;
#[path = "store/shipments.rs"]
mod shipments;
#[path = "store/sqlite_only.rs"]
mod sqlite_only;
#[path = "store/tables.rs"]
mod tables;
#[path = "store/watch.rs"]
mod watch;
#[path = "store/writing.rs"]
mod writing;

use std::pin::Pin;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

use place::{Kind, Place};

/// The server on which the PostgreSQL cases run.
const POSTGRES: &str = "MAKEGOOD_TEST_POSTGRES";

type Case = (&'static str, fn(Place) -> Pin<Box<dyn Future<Output = ()>>>);

macro_rules! cases {
    ($($module:ident: $($name:ident)*;)*) => {
        vec![$($((
            concat!(stringify!($module), "::", stringify!($name)),
            |place| Box::pin($module::$name(place)),
        ),)*)*]
    };
}

fn both() -> Vec<Case> {
    cases! {
        tables: migrating_twice_changes_nothing two_may_migrate_at_once
            tables_that_were_not_migrated_are_refused state_survives_reopening
            a_definition_never_changes;
        writing: a_new_saga_is_loaded_as_it_was_written
            a_repeated_start_loses_the_race_and_changes_nothing
            a_stale_write_changes_nothing_and_the_rest_is_committed
            an_update_of_a_saga_that_is_not_there_loses_the_race
            a_batch_of_five_hundred_is_written_whole an_empty_batch_is_fine
            several_transitions_are_one_change the_journal_is_in_order
            what_the_database_refuses_writes_nothing a_new_saga_needs_its_order
            a_deed_is_audited_once_and_with_its_change a_request_waits_until_it_is_dropped a_breaker_is_open_until_it_is_closed no_update_is_lost_between_eight_workers
            a_commit_given_up_half_way_harms_nobody;
        due: a_claim_takes_the_earliest_first a_claim_leases_until_its_end
            two_workers_claim_different_sagas rescheduling_is_fenced
            next_due_is_the_earliest_of_all;
        outbox: only_the_winner_has_rows a_claimed_row_waits_for_its_lease_to_end
            two_relays_claim_different_rows a_deleted_row_is_gone_and_deleting_again_is_fine
            a_row_that_was_claimed_since_is_left_to_its_new_owner
            a_claim_is_bounded;
        letters: the_same_letter_again_counts_an_attempt
            the_same_letter_twice_in_a_batch_counts_both parked_letters_are_found_by_order
            letters_are_revived_only_by_the_winner the_newest_letters_come_first
            a_change_without_transitions_only_takes_letters_away
            a_letter_learns_what_it_is_about_and_forgets_nothing;
        campaigns: letters_that_failed_alike_are_one_group letters_are_filtered_and_paged
            a_corrected_copy_takes_the_place_of_the_original
            discarded_letters_are_closed_until_they_come_again a_letter_has_one_outstanding_replay
            two_campaigns_started_at_once_share_no_letter replays_go_out_in_order_and_by_one_worker
            what_comes_of_replays_is_written_down_once
            a_campaign_changes_only_for_who_has_seen_it
            what_came_of_replays_is_kept_for_a_time letters_of_the_tables_before_are_still_there;
        shipments: a_shipment_is_found_by_its_tenant_and_courier_alone
            the_first_to_name_a_shipment_has_it every_scan_is_kept_once
            only_the_winner_has_shipments_and_scans;
        questions: orders_are_found_by_id_and_tenant a_list_is_filtered a_list_is_paged
            counts_are_right the_latest_time_is_of_any_journal;
        watch: a_duty_is_one_workers_until_its_end what_stands_is_counted_and_what_has_ended_is_not
            what_is_at_risk_is_found_until_it_is_settled the_oldest_message_is_told_by_its_journal;
    }
}

fn only(kind: Kind) -> Vec<Case> {
    match kind {
        Kind::Postgres => cases! {
            postgres_only: a_row_that_commits_late_is_still_found
                an_outbox_that_was_empty_when_last_counted_is_still_read_by_key
                an_order_at_hand_is_the_one_that_is_stored
                a_database_that_is_away_is_unavailable killed_connections_are_replaced
                a_batch_that_dies_of_a_deadlock_is_sent_again
                a_migration_killed_half_way_leaves_nothing a_locked_row_is_not_waited_for_without_end
                a_read_only_database_is_unavailable the_password_is_never_printed
                cancelled_commits_leave_no_transaction_open
                a_server_that_falls_silent_does_not_use_up_the_pool
                tables_of_a_later_version_blame_no_row;
        },
        Kind::Sqlite => cases! {
            sqlite_only: a_second_writer_is_refused a_reader_may_look_on_while_another_writes
                a_reader_may_open_what_was_closed a_reader_cannot_write time_is_the_given_clocks
                what_was_committed_survives_a_kill;
        },
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let server = std::env::var(POSTGRES).ok();
    if server.is_none() {
        eprintln!("skipped: the PostgreSQL cases; set {POSTGRES} to a server's URL to run them");
    }
    let mut trials = Vec::new();
    for kind in [Kind::Sqlite, Kind::Postgres] {
        for (name, case) in both().into_iter().chain(only(kind)) {
            let server = server.clone();
            let ignored = kind == Kind::Postgres && server.is_none();
            let name = format!("{}::{name}", kind.as_str());
            let run = move || run(kind, server.as_deref().unwrap_or_default(), case);
            trials.push(Trial::test(name, run).with_ignored_flag(ignored));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn run(
    kind: Kind,
    server: &str,
    case: fn(Place) -> Pin<Box<dyn Future<Output = ()>>>,
) -> Result<(), Failed> {
    if kind == Kind::Postgres && server.is_empty() {
        return Err(format!("needs {POSTGRES}").into());
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let place = Place::new(kind, server).await;
        case(place.clone()).await;
        place.remove().await;
    });
    Ok(())
}
