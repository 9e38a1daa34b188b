//! What those on call look at: counters, dashboards, alerts and runbooks, held to the code and to each other.
//!
//! The tools of others (Grafana's types, promtool) are used where they are; without them those
//! cases are ignored, with the reason.

#[path = "watching/alerts.rs"]
mod alerts;
#[path = "watching/counters.rs"]
mod counters;
#[path = "watching/dashboards.rs"]
mod dashboards;
#[path = "watching/runbooks.rs"]
mod runbooks;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Trial};

fn main() -> ExitCode {
    let trials = vec![
        plain("counters::they_begin_at_zero", counters::they_begin_at_zero),
        plain("counters::a_step_is_counted_as_it_goes", counters::a_step_is_counted_as_it_goes),
        plain(
            "counters::a_hold_is_no_call_and_a_deadline_is_one",
            counters::a_hold_is_no_call_and_a_deadline_is_one,
        ),
        plain("dashboards::they_are_as_they_are_made", dashboards::they_are_as_they_are_made),
        plain("dashboards::the_verb_writes_them", dashboards::the_verb_writes_them),
        plain("dashboards::no_step_is_forgotten", dashboards::no_step_is_forgotten),
        plain("dashboards::panels_do_not_overlap", dashboards::panels_do_not_overlap),
        tool("dashboards::they_are_of_grafanas_types", dashboards::they_are_of_grafanas_types),
        plain("alerts::each_says_what_whether_and_where", alerts::each_says_what_whether_and_where),
        plain("alerts::every_code_has_an_alert", alerts::every_code_has_an_alert),
        tool("alerts::each_fires_and_stays_silent", alerts::each_fires_and_stays_silent),
        tool("alerts::compose_evaluates_them", alerts::compose_evaluates_them),
        plain("runbooks::there_is_one_for_each_alert", runbooks::there_is_one_for_each_alert),
        plain("runbooks::their_commands_exist", runbooks::their_commands_exist),
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

/// A case that needs somebody's tool; the reason where there is none.
fn tool(name: &str, case: fn() -> Result<(), String>) -> Trial {
    Trial::ignorable_test(name, move || {
        Ok(match case() {
            Ok(()) => Completion::Completed,
            Err(reason) => {
                eprintln!("skipped: {reason}");
                Completion::ignored_with(reason)
            }
        })
    })
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    let path = project(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files of a folder that end so, by name.
fn names(folder: &str, ending: &str) -> Vec<String> {
    let entries = std::fs::read_dir(project(folder)).expect("the folder is there");
    let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut names: Vec<String> = entries.map(|entry| name(entry.expect("readable"))).collect();
    names.retain(|name| name.ends_with(ending));
    names.sort();
    names
}
