//! `dev`: the whole job in one process, without any service.
//!
//! What is asked for is read and checked before anything is begun; [`simulated`] plays it, and
//! then the result is audited and summed up.
//!
//! [`simulated`]: super::simulated

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, ValueEnum};
use tokio::time::Instant;

use super::simulated::Play;
use super::summary::{Run, Summary, each, write_report};
use super::{End, Misuse, definitions, log, open, print_json};
use crate::catalog::{self, Catalog, LoadedDefinition};
use crate::clock::SimulatedClock;
use crate::config::{Config, LogFormat};
use crate::fixture::auditor::{self, AuditReport};
use crate::fixture::{self, Away, ScriptedOrder, Unheard};
use crate::order::is_id;
use crate::saga::{Millis, Time};
use crate::store::Store;
use crate::store::sqlite::Durability;
use crate::worker;

/// The definitions that come with Makegood, so that `dev` runs in any folder.
pub(super) const BUILT_IN: [(&str, &str); 2] = [
    ("sagas/order-fulfilment.toml", include_str!("../../sagas/order-fulfilment.toml")),
    ("sagas/holiday-package.toml", include_str!("../../sagas/holiday-package.toml")),
];
/// A run that a power cut spoils is simply run again; a killed one goes on where it was. With
/// 16 commits per order, waiting for the disk at each was three quarters of the wall time.
const DURABILITY: Durability = Durability::ProcessCrash;

/// There in the data folder while a run is going. Found at the start, it says that the last
/// run was killed, and whatever its broker still held was lost with it.
const RUNNING: &str = "running";

#[derive(Debug, Args)]
pub(super) struct Dev {
    /// Orders to run, one JSON object a line; `-` for standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["count", "seed"])]
    orders: Option<PathBuf>,
    /// How many orders to make up.
    #[arg(long, default_value_t = 1_000)]
    count: u64,
    /// Made-up orders are the same for the same seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// When to stop.
    #[arg(long, value_enum, default_value_t = Until::Settled)]
    until: Until,
    /// Where the state is kept.
    #[arg(long, value_name = "DIR", default_value = open::DATA)]
    data: PathBuf,
    /// More definitions to publish.
    #[arg(long = "saga", value_name = "FILE")]
    sagas: Vec<PathBuf>,
    /// A participant that is not there for a while, such as inventory=10m..70m, by simulated time
    /// from the first order on.
    #[arg(long = "away", value_name = "WHO=FROM..UNTIL", value_parser = absence)]
    away: Vec<Absence>,
    /// Write one JSON line per order.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print the summary as one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone)]
struct Absence {
    participant: String,
    from: Millis,
    until: Millis,
}

fn absence(text: &str) -> Result<Absence, String> {
    let expected = "must be like inventory=10m..70m";
    let (participant, span) = text.split_once('=').ok_or(expected)?;
    let (from, until) = span.split_once("..").ok_or(expected)?;
    let time = |text: &str| {
        let span = text.parse::<humantime::Duration>().map_err(|_| expected)?;
        Ok::<Millis, String>(Millis(u64::try_from(span.as_millis()).map_err(|_| expected)?))
    };
    let (from, until) = (time(from)?, time(until)?);
    let is_good = is_id(participant) && from < until;
    is_good
        .then(|| Absence { participant: participant.to_owned(), from, until })
        .ok_or(expected.to_owned())
}

impl Absence {
    fn since(&self, began: Time) -> Away {
        let participant = self.participant.clone();
        Away { participant, from: began + self.from, until: began + self.until }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Until {
    /// Every clock has fired: deadlines, give-up times, resends.
    Settled,
    /// No message is on its way and nobody outside has anything left to do. The worker's own
    /// clocks do not fire.
    Quiet,
}

impl Dev {
    pub async fn run(self, config: Config) -> anyhow::Result<End> {
        // A person watches: what happens to orders is in the summary, not in the log.
        log(&Config { log_format: LogFormat::Text, log: "error".to_owned(), ..config.clone() });
        let orders = self.read_orders()?;
        let definitions = self.read_definitions()?;
        if !open::exists(&self.data) {
            self.check_names(&orders, definitions.iter())?; // before anything is made
        }
        let report = self.open_report()?;
        let first = orders.iter().map(|order| order.paid_at).min().unwrap_or_default();
        let began = first.max(open::latest(&self.data).await?.unwrap_or_default());
        let clock = SimulatedClock::starting_at(began);
        let store = open::sqlite(&self.data, Arc::new(clock.clone()), DURABILITY).await?;
        store.migrate().await?;
        let catalog = publish(&*store, &definitions).await?;
        self.check_names(&orders, catalog.all().map(|loaded| &**loaded))?;
        let running = self.data.join(RUNNING);
        let unheard = match running.exists() {
            true => unheard(&*store, &orders).await?,
            false => Unheard::default(),
        };
        std::fs::write(&running, [])?;
        let asked = orders.iter().map(identity).collect();
        let watch = Instant::now();
        let play = Play {
            store: store.clone(),
            catalog: &catalog,
            clock,
            ledgers: self.ledgers(),
            orders,
            unheard: Arc::new(unheard),
            away: self.away.iter().map(|absence| absence.since(began)).collect(),
            worker: worker::Options { timers: self.clocks_fire(), ..config.worker() },
        };
        let played = play.run().await?;
        let wall = watch.elapsed();
        let audit = self.audit(&*store, &catalog, played.ended).await?;
        let summary = Summary::of(&*store, Run { asked, began, played, wall, audit }).await?;
        if let Some(report) = report {
            write_report(&*store, &summary, report).await.with_context(|| self.about_report())?;
        }
        store.close().await;
        std::fs::remove_file(&running)?;
        if self.json {
            print_json(&summary)?;
        } else {
            print!("{summary}");
            self.suggest(&summary);
        }
        Ok(if summary.is_good() { End::Good } else { End::Bad })
    }

    fn ledgers(&self) -> PathBuf {
        self.data.join("ledgers")
    }

    fn clocks_fire(&self) -> bool {
        self.until == Until::Settled
    }

    fn read_orders(&self) -> anyhow::Result<Vec<ScriptedOrder>> {
        let Some(path) = &self.orders else {
            return Ok(fixture::generate(self.count, self.seed).collect());
        };
        super::participants::read("--orders", path)
    }

    /// The definitions that come with Makegood, and those that were named.
    fn read_definitions(&self) -> anyhow::Result<Vec<LoadedDefinition>> {
        let mut loaded = built_in()?;
        for path in &self.sagas {
            let read = definitions::load(path).map_err(|e| Misuse(format!("--saga: {e:#}")))?;
            loaded.push(read.map_err(|flaws| Misuse(flaws.to_fancy(false)))?);
        }
        Ok(loaded)
    }

    /// Made before anything is run: a report that cannot be written is known at once.
    fn open_report(&self) -> anyhow::Result<Option<File>> {
        let open = |path: &PathBuf| {
            File::create(path).map_err(|error| Misuse(format!("{}: {error}", self.about_report())))
        };
        Ok(self.report.as_ref().map(open).transpose()?)
    }

    fn about_report(&self) -> String {
        let path = self.report.as_deref().unwrap_or(Path::new(""));
        format!("--report: cannot write {}", path.display())
    }

    /// Whether scripts name steps that there are. Made-up orders do.
    fn check_names<'a>(
        &self,
        orders: &[ScriptedOrder],
        definitions: impl Iterator<Item = &'a LoadedDefinition>,
    ) -> anyhow::Result<()> {
        let Some(path) = &self.orders else { return Ok(()) };
        Ok(super::participants::check_names(path, orders, definitions)?)
    }

    async fn audit(
        &self,
        store: &dyn Store,
        catalog: &Catalog,
        now: Time,
    ) -> anyhow::Result<AuditReport> {
        let definition = |name: &str, version: u32| {
            Some(Arc::new(catalog.get(name, version)?.definition.clone()))
        };
        let clocks_fire = self.clocks_fire();
        let options = auditor::AuditOptions { now, may_wait: !clocks_fire, clocks_fire };
        Ok(auditor::audit(store, &definition, &self.ledgers(), options).await?)
    }

    /// What to try next, with orders that are there.
    fn suggest(&self, summary: &Summary) {
        let data = match self.data == Path::new(open::DATA) {
            true => String::new(),
            false => format!(" --data {}", self.data.display()),
        };
        if summary.worth_a_look.is_empty() {
            return;
        }
        // As it was called, so that the lines can be copied.
        let me = std::env::args().next().unwrap_or_else(|| "makegood".to_owned());
        println!("\nNext, try");
        for (order, why) in &summary.worth_a_look {
            println!("  {me} explain {order}{data}    # {why}");
        }
        if summary.attention > 0 {
            println!("  {me} order list --attention{data}");
        }
        if let Some((order, _)) = summary.worth_a_look.first() {
            println!("  {me} order show {order}{data}");
        }
    }
}

/// The definitions that come with Makegood.
pub(super) fn built_in() -> anyhow::Result<Vec<LoadedDefinition>> {
    let load = |(name, text)| catalog::load(name, text).context("a built-in definition is flawed");
    BUILT_IN.into_iter().map(load).collect()
}

async fn publish(store: &dyn Store, loaded: &[LoadedDefinition]) -> anyhow::Result<Catalog> {
    for definition in loaded {
        store.publish_definition(&definitions::row(definition, store.now().await?)).await?;
    }
    Ok(crate::operate::definitions(store).await?)
}

/// The orders of which a killed run may have lost messages: those that are not finished.
async fn unheard(store: &dyn Store, orders: &[ScriptedOrder]) -> anyhow::Result<Unheard> {
    let mut unheard: Unheard = orders.iter().map(identity).collect();
    let mut unfinished = Unheard::new();
    each(store, None, |stored| {
        let order = (stored.order.tenant.clone(), stored.order.order_id.clone());
        unheard.remove(&order);
        if !stored.saga.status.is_final() {
            unfinished.insert(order);
        }
    })
    .await?;
    unheard.extend(unfinished);
    Ok(unheard)
}

/// Tenant and order id.
fn identity(order: &ScriptedOrder) -> (String, String) {
    (order.tenant_id.clone(), order.order_id.clone())
}
