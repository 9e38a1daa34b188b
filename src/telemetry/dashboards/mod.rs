//! Dashboards for Grafana, made here and not by hand: the one of a definition has a row for each
//! step, so that none can be forgotten, and whoever adds a definition gets its dashboard.
//!
//! Gauges of what is stored are asked for with `max`: while the watch passes from one worker to
//! another both may show them for a moment, and they are never to be added up.

mod panel;

use serde_json::Value;

use super::transitions::waits;
use crate::saga::{Definition, Step, Work};
use panel::{Panel, dashboard, query};

/// A dashboard's file name, and what is in it.
pub type Dashboard = (String, Value);

/// The dashboards that there are whatever the definitions.
#[must_use]
pub fn of_every_worker() -> [Dashboard; 3] {
    [
        ("overview.json".to_owned(), overview()),
        ("messaging.json".to_owned(), messaging()),
        ("database.json".to_owned(), database()),
    ]
}

/// The dashboard of one definition, of all its versions.
#[must_use]
pub fn of_definition(definition: &Definition) -> Dashboard {
    (format!("saga-{}.json", definition.name()), saga(definition))
}

/// Per second, over an interval that always holds enough scrapes.
fn rate(by: &str, metric: &str, labels: &str) -> String {
    format!("sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]))")
}

fn quantile(share: &str, by: &str, histogram: &str, labels: &str) -> String {
    let by = if by.is_empty() { "le".to_owned() } else { format!("le, {by}") };
    let buckets = format!("{histogram}_bucket{{{labels}}}[$__rate_interval]");
    format!("histogram_quantile({share}, sum by ({by}) (rate({buckets})))")
}

fn overview() -> Value {
    let panels = [
        Panel::number(
            "Need a person",
            "Sagas under attention: `makegood order list --attention` names them.",
            Some(1.0),
        )
        .asks([query("max(makegood_sagas_attention)", "sagas")]),
        Panel::number(
            "Value at risk",
            "Money in the sagas that need a person or have a step in doubt, in minor units (cents).",
            None,
        )
        .wide(8)
        .asks([query(
            "max by (currency) (makegood_value_at_risk_minor) or vector(0)",
            "{{currency}}",
        )]),
        Panel::number("Dead letters", "Messages that could not be processed.", Some(1.0))
            .asks([query("sum(max by (reason) (makegood_dead_letters_stored)) or vector(0)", "letters")]),
        Panel::number(
            "Oldest message not sent",
            "How long the oldest message waits that the broker has not confirmed.",
            Some(60.0),
        )
        .in_unit("s")
        .asks([query("max(makegood_outbox_oldest_age_seconds)", "age")]),
        Panel::number(
            "Parts that do not work",
            "Of all workers: each names them under `/readyz`.",
            Some(1.0),
        )
        .asks([query("count(makegood_connected == 0) or vector(0)", "parts")]),
        Panel::lines("Under way", "Sagas that have not ended.")
            .asks([query("max by (status) (makegood_sagas_active)", "{{status}}")]),
        Panel::lines("Started and finished", "Sagas a second.").in_unit("ops").asks([
            query(rate("definition", "makegood_sagas_started_total", ""), "{{definition}} started"),
            query(
                rate("definition, outcome", "makegood_sagas_finished_total", ""),
                "{{definition}} {{outcome}}",
            ),
        ]),
        Panel::lines("From start to end", "Half of the sagas, and 99 of 100.").in_unit("s").asks([
            query(
                quantile("0.5", "definition", "makegood_saga_duration_seconds", ""),
                "{{definition}} p50",
            ),
            query(
                quantile("0.99", "definition", "makegood_saga_duration_seconds", ""),
                "{{definition}} p99",
            ),
        ]),
        Panel::lines("Attention", "Why persons are called, by step and code.").wide(12).asks([
            query(
                "max by (definition, step, code) (makegood_attention) or vector(0)",
                "{{definition}} {{step}} {{code}}",
            ),
        ]),
        Panel::lines("In doubt", "Steps of which nobody knows whether they took place.")
            .wide(12)
            .asks([query(
                "max by (definition, step) (makegood_steps_in_doubt)",
                "{{definition}} {{step}}",
            )]),
        Panel::lines("Value at risk", "In minor units of each currency.").asks([query(
            "max by (currency) (makegood_value_at_risk_minor) or vector(0)",
            "{{currency}}",
        )]),
        Panel::lines("Oldest under way", "The age of the oldest saga that has not ended.")
            .in_unit("s")
            .asks([query("max(makegood_oldest_unfinished_saga_age_seconds)", "oldest")]),
        Panel::lines(
            "Clocks",
            "How late clocks are dealt with, and how long the earliest has been due.",
        )
        .in_unit("s")
        .asks([
            query(quantile("0.99", "", "makegood_timer_lag_seconds", ""), "late p99"),
            query("max(makegood_timers_overdue_seconds)", "overdue"),
        ]),
        Panel::lines("Participants that are away", "1 while a participant answers nobody.")
            .asks([query("max by (participant) (makegood_breaker_open)", "{{participant}}")]),
        Panel::lines("Workers", "Those that run, by version.").asks([query(
            "count by (version) (makegood_build_info)",
            "{{version}}",
        )]),
        Panel::lines("Parts at work", "1 where every worker has that part at work.").asks([
            query("min by (part) (makegood_connected)", "{{part}}"),
        ]),
    ];
    dashboard("overview", "overview", "Is anything stuck, and does work flow?", &panels)
}

fn saga(definition: &Definition) -> Value {
    let name = definition.name();
    let ours = format!("definition=\"{name}\"");
    let mut panels = vec![
        Panel::lines("Started and finished", "Sagas a second.").in_unit("ops").asks([
            query(rate("definition", "makegood_sagas_started_total", &ours), "started"),
            query(rate("outcome", "makegood_sagas_finished_total", &ours), "{{outcome}}"),
        ]),
        Panel::lines("From start to end", "Half of the sagas, and 99 of 100.").in_unit("s").asks([
            query(
                quantile("0.5", "outcome", "makegood_saga_duration_seconds", &ours),
                "{{outcome}} p50",
            ),
            query(
                quantile("0.99", "outcome", "makegood_saga_duration_seconds", &ours),
                "{{outcome}} p99",
            ),
        ]),
        Panel::lines("Came to need a person", "Sagas a second; step - is the whole saga.")
            .in_unit("ops")
            .asks([query(rate("definition", "makegood_sagas_called_total", &ours), "called")]),
    ];
    for step in definition.steps() {
        panels.extend(step_row(name, step));
    }
    let description =
        format!("Each step of {name}: what is sent, how long it waits, where it sticks.");
    dashboard(&format!("saga-{name}"), name, &description, &panels)
}

/// The row of one step.
fn step_row(definition: &str, step: &Step) -> Vec<Panel> {
    let ours = format!("definition=\"{definition}\", step=\"{}\"", step.name);
    let title = match &step.work {
        Work::Obligation => format!("{} (true from the start)", step.name),
        Work::Command { participant, command, .. } => {
            format!("{}: {command} by {participant}", step.name)
        }
        Work::Facts { completes_on, .. } => {
            format!("{}: waits for {}", step.name, completes_on.join(" or "))
        }
    };
    let mut row = vec![
        Panel::row(&title),
        Panel::lines("Into each phase", "Steps a second that came to be sent, done, undone …")
            .wide(6)
            .in_unit("ops")
            .asks([query(rate("phase", "makegood_step_phases_total", &ours), "{{phase}}")]),
    ];
    if step.is_command() || step.compensation.is_some() {
        let sent = Panel::lines("Sent", "Commands, compensations and probes a second.");
        let labels = "direction, sending";
        row.push(sent.wide(6).in_unit("ops").asks([query(
            rate(labels, "makegood_commands_total", &ours),
            "{{direction}} {{sending}}",
        )]));
    }
    let waited = "makegood_step_phase_duration_seconds";
    if waits(step).next().is_some() {
        let panel = Panel::lines("Waited", "For its answer or fact, by phase.").wide(6);
        row.push(panel.in_unit("s").asks([
            query(quantile("0.5", "phase", waited, &ours), "{{phase}} p50"),
            query(quantile("0.99", "phase", waited, &ours), "{{phase}} p99"),
        ]));
    }
    row.push(Panel::lines("Sticks", "In doubt, and why persons are called.").wide(6).asks([
        query(format!("max(makegood_steps_in_doubt{{{ours}}})"), "in doubt"),
        query(format!("max by (code) (makegood_attention{{{ours}}}) or vector(0)"), "{{code}}"),
    ]));
    row
}

fn messaging() -> Value {
    let panels = [
        Panel::lines("Taken in", "Messages a second, by where they come from.")
            .in_unit("ops")
            .asks([query(rate("channel", "makegood_messages_received_total", ""), "{{channel}}")]),
        Panel::lines("Published", "Messages a second that the broker confirmed.")
            .in_unit("ops")
            .asks([query(rate("channel", "makegood_messages_published_total", ""), "{{channel}}")]),
        Panel::lines("Not confirmed", "They are sent again, under the same ids.")
            .in_unit("ops")
            .asks([
                query(
                    format!("{} or vector(0)", rate("reason", "makegood_publish_failures_total", "")),
                    "{{reason}}",
                ),
                query("sum(rate(makegood_events_unheard_total[$__rate_interval]))", "unheard events"),
            ]),
        Panel::lines("From decision to confirm", "How long messages wait for the broker's word.")
            .in_unit("s")
            .asks([
                query(
                    quantile("0.5", "channel", "makegood_publish_delay_seconds", ""),
                    "{{channel}} p50",
                ),
                query(
                    quantile("0.99", "channel", "makegood_publish_delay_seconds", ""),
                    "{{channel}} p99",
                ),
            ]),
        Panel::lines("Waiting in the outbox", "Messages not yet confirmed.")
            .asks([query("max(makegood_outbox_pending)", "messages")]),
        Panel::lines("Oldest in the outbox", "How long it waits.")
            .in_unit("s")
            .asks([query("max(makegood_outbox_oldest_age_seconds)", "age")]),
        Panel::lines("Dead letters", "Messages a second that could not be processed.")
            .in_unit("ops")
            .asks([query(
                format!("{} or vector(0)", rate("reason", "makegood_dead_letters_total", "")),
                "{{reason}}",
            )]),
        Panel::lines("Dead letters kept", "Open ones by reason, and what came of replays a second.")
            .asks([
                query(
                    "max by (reason) (makegood_dead_letters_stored) or vector(0)",
                    "{{reason}}",
                ),
                query(
                    format!("{} or vector(0)", rate("outcome", "makegood_replays_total", "")),
                    "replayed: {{outcome}}",
                ),
            ]),
        Panel::lines("What changed nothing", "Duplicate, stale and late answers.")
            .in_unit("ops")
            .asks([
                query(
                    format!("{} or vector(0)", rate("reason", "makegood_inputs_ignored_total", "")),
                    "{{reason}}",
                ),
                query("sum(rate(makegood_late_successes_total[$__rate_interval]))", "late success"),
            ]),
        Panel::lines("Doors", "Signed requests a second, by answer; empty where no door is open.")
            .wide(12)
            .in_unit("ops")
            .asks([query(
                format!("{} or vector(0)", rate("door, status", "makegood_http_answers_total", "")),
                "{{door}} {{status}}",
            )]),
        Panel::lines("Connections", "1 while the part works, of the worst worker.").wide(12).asks([
            query(
                "min by (part) (makegood_connected{part=~\"relay|topology|orders|replies|facts|dead\"})",
                "{{part}}",
            ),
        ]),
    ];
    dashboard("messaging", "messaging", "What comes in, what goes out, and what does not.", &panels)
}

fn database() -> Value {
    let panels = [
        Panel::lines("Commits", "Transactions a second: of sagas, and of confirmed outbox rows.")
            .in_unit("ops")
            .asks([query(rate("what", "makegood_commits_total", ""), "{{what}}")]),
        Panel::lines("How long a commit takes", "Half of them, and 99 of 100.").in_unit("s").asks([
            query(quantile("0.5", "", "makegood_commit_duration_seconds", ""), "p50"),
            query(quantile("0.99", "", "makegood_commit_duration_seconds", ""), "p99"),
        ]),
        Panel::lines("Inputs in a batch", "They grow by themselves under load.").asks([query(
            "sum(rate(makegood_lane_batch_size_sum[$__rate_interval])) / sum(rate(makegood_lane_batch_size_count[$__rate_interval]))",
            "inputs",
        )]),
        Panel::lines("Transitions", "Stored a second, by what caused them.")
            .in_unit("ops")
            .asks([query(rate("input", "makegood_transitions_total", ""), "{{input}}")]),
        Panel::lines("Decided again", "Sagas that another worker was first to change.")
            .in_unit("ops")
            .asks([query("sum(rate(makegood_lost_races_total[$__rate_interval]))", "lost races")]),
        Panel::lines("Clocks", "Sagas a second whose clock was due.")
            .in_unit("ops")
            .asks([query("sum(rate(makegood_timers_fired_total[$__rate_interval]))", "fired")]),
        Panel::lines("Connections", "1 while the part works, of the worst worker.").wide(12).asks([
            query(
                "min by (part) (makegood_connected{part=~\"database|timers|sweeper|outbox|definitions\"})",
                "{{part}}",
            ),
        ]),
        Panel::lines("The look at what is stored", "What it costs, and when it last took place.")
            .wide(12)
            .in_unit("s")
            .asks([
                query("max(makegood_watch_duration_seconds)", "took"),
                query("time() - max(makegood_watch_timestamp_seconds)", "ago"),
            ]),
    ];
    dashboard(
        "database",
        "database",
        "Commits, batches, and the connections to the store.",
        &panels,
    )
}
