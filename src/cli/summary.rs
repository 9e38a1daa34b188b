//! What a dev run came to, for people and as JSON.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::Duration;

use comfy_table::{Table, presets};
use serde::Serialize;
use serde_json::json;

use super::simulated::Played;
use crate::clock::rfc3339;
use crate::fixture::auditor::AuditReport;
use crate::fixture::{Refusal, Refused};
use crate::operate;
use crate::saga::{Millis, Saga, Status, Time};
use crate::store::{Filter, Store, Stored};

/// How many orders without a saga are shown to people.
const SHOWN: usize = 10;

/// Sagas read at once.
const PAGE: usize = 1_000;

/// A run that has ended.
pub(super) struct Run {
    /// The orders that were to be run, in their order: tenant and order id. The same one may be
    /// named again.
    pub asked: Vec<(String, String)>,
    pub began: Time,
    pub played: Played,
    pub wall: Duration,
    pub audit: AuditReport,
}

/// Counts over all orders in the data folder, those of earlier runs included.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// Different orders that this run was asked to make good.
    pub orders: usize,
    pub completed: u64,
    pub compensated: u64,
    /// Ended by an operator, as they stood.
    pub abandoned: u64,
    /// Not finished, those with attention included.
    pub running: u64,
    /// Sagas that need an operator, finished or not.
    pub attention: u64,
    pub dead_letters: u64,
    /// Orders of this run that became a dead letter instead of a saga.
    pub refused: Vec<Missing>,
    /// How many orders of this run are neither a saga nor a dead letter.
    pub unaccounted: usize,
    /// Those.
    #[serde(skip)]
    pub lost: Vec<Missing>,
    pub simulated_from: String,
    pub simulated_until: String,
    pub simulated_days: f64,
    pub wall_seconds: f64,
    /// Sagas that came to their end in this run, over its wall time.
    pub sagas_per_second: f64,
    /// From start to end of finished sagas, in simulated seconds.
    pub duration_p50_seconds: f64,
    pub duration_p99_seconds: f64,
    pub audit: AuditReport,
    /// Orders worth a look, and why.
    #[serde(skip)]
    pub worth_a_look: Vec<(String, String)>,
}

/// An order without a saga.
#[derive(Debug, Serialize)]
pub(super) struct Missing {
    pub order_id: String,
    pub tenant_id: String,
    /// What its dead letter says; nothing where there is none.
    #[serde(flatten)]
    pub letter: Option<Letter>,
}

#[derive(Debug, Serialize)]
pub(super) struct Letter {
    pub reason: String,
    pub error: String,
}

impl Missing {
    fn find(refused: &Refused, (tenant_id, order_id): (String, String)) -> Missing {
        let letter = refused.order(&tenant_id, &order_id).map(|Refusal { reason, error }| Letter {
            reason: reason.clone(),
            error: error.clone(),
        });
        Missing { order_id, tenant_id, letter }
    }

    /// Its line of the report.
    fn line(&self) -> serde_json::Value {
        let Missing { order_id, tenant_id, letter } = self;
        match letter {
            Some(Letter { reason, error }) => json!({
                "order_id": order_id, "tenant_id": tenant_id,
                "status": "dead-letter", "reason": reason, "error": error,
            }),
            None => json!({
                "order_id": order_id, "tenant_id": tenant_id, "status": "unaccounted",
            }),
        }
    }
}

impl Summary {
    pub async fn of(store: &dyn Store, run: Run) -> anyhow::Result<Summary> {
        let mut tally = Tally::default();
        let mut missing: HashSet<(String, String)> = run.asked.iter().cloned().collect();
        let asked = missing.len();
        each(store, None, |stored| {
            tally.add(stored);
            missing.remove(&(stored.order.tenant.clone(), stored.order.order_id.clone()));
        })
        .await?;
        let dead_letters = store.counts().await?.dead_letters;
        let mut without_saga = run.asked;
        without_saga.retain(|order| missing.remove(order)); // each once
        let letters = match without_saga.is_empty() {
            true => Refused::default(),
            false => Refused::among(&store.dead_letters(usize::try_from(dead_letters)?).await?),
        };
        let (refused, lost): (Vec<Missing>, Vec<Missing>) = without_saga
            .into_iter()
            .map(|order| Missing::find(&letters, order))
            .partition(|missing| missing.letter.is_some());
        tally.durations.sort_unstable();
        let seconds = run.wall.as_secs_f64();
        let span = run.played.ended - run.began;
        Ok(Summary {
            orders: asked,
            completed: tally.completed,
            compensated: tally.compensated,
            abandoned: tally.abandoned,
            running: tally.running,
            attention: tally.attention,
            dead_letters,
            refused,
            unaccounted: lost.len(),
            lost,
            simulated_from: rfc3339(run.began),
            simulated_until: rfc3339(run.played.ended),
            simulated_days: span.0 as f64 / Millis::DAY.0 as f64,
            wall_seconds: seconds,
            sagas_per_second: run.played.finished as f64 / seconds.max(0.001),
            duration_p50_seconds: quantile(&tally.durations, 0.50),
            duration_p99_seconds: quantile(&tally.durations, 0.99),
            audit: run.audit,
            worth_a_look: tally
                .worth_a_look
                .into_iter()
                .map(|(_, order, why)| (order, why))
                .collect(),
        })
    }

    pub fn is_good(&self) -> bool {
        self.unaccounted == 0 && self.audit.is_clean()
    }
}

#[derive(Default)]
struct Tally {
    completed: u64,
    compensated: u64,
    abandoned: u64,
    running: u64,
    attention: u64,
    durations: Vec<u64>,
    /// One of each kind: (kind, order, why).
    worth_a_look: Vec<(&'static str, String, String)>,
}

impl Tally {
    fn add(&mut self, stored: &Stored) {
        let Saga { status, attention, started_at, ended_at, .. } = &stored.saga;
        match status {
            Status::Completed => self.completed += 1,
            Status::Compensated => self.compensated += 1,
            Status::Abandoned => self.abandoned += 1,
            Status::Created | Status::Running | Status::Compensating => self.running += 1,
        }
        self.attention += u64::from(!attention.is_empty());
        self.durations.extend(ended_at.map(|ended| (ended - *started_at).0));
        let (kind, why) = match attention.first() {
            Some(attention) => {
                ("attention", format!("needs attention: {}", attention.code.as_str()))
            }
            None => (status.as_str(), status.as_str().to_owned()),
        };
        let known = self.worth_a_look.iter().any(|(known, ..)| *known == kind);
        if !known && kind != "completed" && self.worth_a_look.len() < 3 {
            self.worth_a_look.push((kind, stored.order.order_id.clone(), why));
        }
    }
}

/// In seconds; the durations are sorted milliseconds.
fn quantile(durations: &[u64], share: f64) -> f64 {
    let place = (durations.len() as f64 * share) as usize;
    let found = durations.get(place.min(durations.len().saturating_sub(1)));
    found.map_or(0.0, |duration| *duration as f64 / 1_000.0)
}

/// Shows every saga in that status, or all of them.
pub(super) async fn each(
    store: &dyn Store,
    status: Option<Status>,
    mut look: impl FnMut(&Stored),
) -> anyhow::Result<()> {
    let filter = Filter { status, ..Filter::default() };
    let mut after = None;
    loop {
        let page = store.list(&filter, after, PAGE).await?;
        page.iter().for_each(&mut look);
        after = page.last().map(|last| last.saga.id);
        if page.len() < PAGE {
            return Ok(());
        }
    }
}

/// Writes one JSON line per saga, and one per order of this run that has none.
pub(super) async fn write_report(
    store: &dyn Store,
    summary: &Summary,
    report: File,
) -> anyhow::Result<()> {
    let mut out = BufWriter::new(report);
    let mut lines = Vec::new();
    each(store, None, |stored| lines.push(line(stored))).await?;
    lines.extend(summary.refused.iter().chain(&summary.lost).map(Missing::line));
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}

fn line(stored: &Stored) -> serde_json::Value {
    let Stored { saga, order, version, .. } = stored;
    let attention: Vec<&str> = saga.attention.iter().map(|a| a.code.as_str()).collect();
    json!({
        "order_id": order.order_id,
        "tenant_id": order.tenant,
        "saga_id": saga.id.0,
        "status": saga.status.as_str(),
        "attention": attention,
        "definition": order.definition,
        "definition_version": order.definition_version,
        "transitions": version,
        "started_at": rfc3339(saga.started_at),
        "ended_at": saga.ended_at.map(rfc3339),
    })
}

impl Summary {
    /// The first orders that have no saga, and why.
    fn missing(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = || self.refused.iter().chain(&self.lost);
        if missing().next().is_some() {
            writeln!(f, "\nOrders without a saga")?;
        }
        for Missing { order_id, tenant_id, letter } in missing().take(SHOWN) {
            write!(f, "  {order_id} of {tenant_id}: ")?;
            match letter {
                Some(Letter { reason, error }) => writeln!(f, "{reason}: {error}")?,
                None => writeln!(f, "nobody knows")?,
            }
        }
        match missing().count().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more, in the report"),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let seconds = |seconds: f64| operate::span(Millis((seconds * 1_000.0) as u64));
        let mut row = |name: &str, value: String| {
            table.add_row([name.to_owned(), value]);
        };
        row("orders", self.orders.to_string());
        row("completed", self.completed.to_string());
        row("compensated", self.compensated.to_string());
        if self.abandoned > 0 {
            row("abandoned", self.abandoned.to_string());
        }
        row("running", self.running.to_string());
        row("under attention", self.attention.to_string());
        row("dead letters", self.dead_letters.to_string());
        if self.unaccounted > 0 {
            row("UNACCOUNTED FOR", self.unaccounted.to_string());
        }
        let span = format!("{:.0} days, until {}", self.simulated_days, self.simulated_until);
        row("simulated", span);
        let speed = format!("{:.1} s, {:.0} sagas/s", self.wall_seconds, self.sagas_per_second);
        row("wall time", speed);
        let durations = format!(
            "p50 {}, p99 {} (simulated)",
            seconds(self.duration_p50_seconds),
            seconds(self.duration_p99_seconds)
        );
        row("order to end", durations);
        writeln!(f, "{}", table.trim_fmt())?;
        self.missing(f)?;
        writeln!(f, "\n{}", self.audit)
    }
}
