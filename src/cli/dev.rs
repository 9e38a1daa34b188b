//! `dev`: the whole job in one process, without any service.
//!
//! The real worker on a SQLite file and the in-memory broker, with a simulated shop, simulated
//! participants and a clock that jumps to the next event whenever everybody waits.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;
use tokio::time::Instant;

use super::summary::{Run, Summary, each, write_report};
use super::{End, Misuse, definitions, log, open, print_json};
use crate::broker::Broker;
use crate::broker::memory::MemoryBroker;
use crate::catalog::{self, Catalog, LoadedDefinition};
use crate::clock::{Clock, SimulatedClock, rfc3339};
use crate::config::{Config, LogFormat};
use crate::fixture::{self, ScriptedOrder, Scripts, Shop, Simulation, Unheard, auditor};
use crate::saga::{Millis, Phase, Status, Time};
use crate::store::sqlite::Durability;
use crate::store::{Store, Stored};
use crate::telemetry::Telemetry;
use crate::worker::{self, Worker, shutdown, topology};

/// The definitions that come with Makegood, so that `dev` runs in any folder.
const BUILT_IN: [(&str, &str); 2] = [
    ("sagas/order-fulfilment.toml", include_str!("../../sagas/order-fulfilment.toml")),
    ("sagas/holiday-package.toml", include_str!("../../sagas/holiday-package.toml")),
];
/// Nobody else writes to the file: due times are known without looking.
const TIMER_POLL: Millis = Millis::DAY;
/// A run that a power cut spoils is simply run again; a killed one goes on where it was. With
/// 16 commits per order, waiting for the disk at each was three quarters of the wall time.
const DURABILITY: Durability = Durability::ProcessCrash;
/// Participants and couriers act on whole seconds, so that simulated time makes fewer stops.
const GRAIN: Millis = Millis::SECOND;

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
    /// Write one JSON line per order.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print the summary as one JSON object.
    #[arg(long)]
    json: bool,
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
        let asked = orders.iter().map(identity).collect();
        let ledgers = self.data.join("ledgers");
        let first = orders.iter().map(|order| order.paid_at).min().unwrap_or_default();
        let began = first.max(open::latest(&self.data).await?.unwrap_or_default());
        let clock = SimulatedClock::starting_at(began);
        let store = open::sqlite(&self.data, Arc::new(clock.clone()), DURABILITY).await?;
        store.migrate().await?;
        let running = self.data.join(RUNNING);
        let unheard = match running.exists() {
            true => unheard(&*store, &orders).await?,
            false => Unheard::default(),
        };
        std::fs::write(&running, [])?;
        let catalog = self.publish(&*store).await?;
        let watch = Instant::now();
        let ended = self.simulate(&config, &store, &catalog, &clock, (orders, unheard)).await?;
        let wall = watch.elapsed();
        let definition = |name: &str, version: u32| {
            Some(Arc::new(catalog.get(name, version)?.definition.clone()))
        };
        let clocks_fire = self.until == Until::Settled;
        let options = auditor::AuditOptions { now: ended, may_wait: !clocks_fire, clocks_fire };
        let audit = auditor::audit(&*store, &definition, &ledgers, options).await?;
        let run = Run { asked, began, ended, wall, audit };
        let summary = Summary::of(&*store, run).await?;
        if let Some(path) = &self.report {
            write_report(&*store, path).await?;
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

    fn read_orders(&self) -> anyhow::Result<Vec<ScriptedOrder>> {
        let Some(path) = &self.orders else {
            return Ok(fixture::generate(self.count, self.seed).collect());
        };
        super::participants::read("--orders", path)
    }

    async fn publish(&self, store: &dyn Store) -> anyhow::Result<Catalog> {
        let mut loaded = built_in()?;
        for path in &self.sagas {
            let text = std::fs::read_to_string(path)
                .map_err(|e| Misuse(format!("--saga: cannot read {}: {e}", path.display())))?;
            let name = path.display().to_string();
            loaded.push(catalog::load(&name, &text).map_err(|e| Misuse(e.to_fancy(false)))?);
        }
        for definition in &loaded {
            store.publish_definition(&definitions::row(definition, store.now().await?)).await?;
        }
        Ok(crate::operate::definitions(store).await?)
    }

    /// Runs everything until nobody waits for anything. Returns the simulated time then.
    async fn simulate(
        &self,
        config: &Config,
        store: &Arc<dyn Store>,
        catalog: &Catalog,
        clock: &SimulatedClock,
        (orders, unheard): (Vec<ScriptedOrder>, Unheard),
    ) -> anyhow::Result<Time> {
        let held = clock.busy();
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let broker: Arc<dyn Broker> = Arc::new(MemoryBroker::new(shared.clone()));
        let telemetry = Arc::new(Telemetry::new());
        let topology = topology(catalog);
        broker.declare(&topology).await?;
        let progress = progress(orders.len() as u64);
        let ledgers = self.data.join("ledgers");
        let unheard = Arc::new(unheard);
        let mut until = orders.iter().map(|order| order.paid_at).max().unwrap_or_default();
        let scripts: Arc<Scripts> = Arc::new(orders.iter().collect());
        let simulation = Simulation {
            broker: broker.clone(),
            clock: shared.clone(),
            ledgers: ledgers.clone(),
            participants: topology.participants,
            scripts,
            unheard: unheard.clone(),
            options: fixture::Options { grain: GRAIN, ..fixture::Options::default() },
        };
        let shop = Shop {
            broker: broker.clone(),
            clock: shared.clone(),
            ledgers,
            orders,
            unheard,
            timeline: fixture::Timeline::default(),
            fsync: false,
        };
        let (stop, stopping) = watch::channel(false);
        let (stopper, shutdown) = shutdown();
        let outside = simulation.open()?;
        let pending = outside.pending();
        let outside = tokio::spawn(outside.run(stopping.clone()));
        let shop = tokio::spawn(shop.open()?.run(stopping));
        let worker = Worker {
            store: store.clone(),
            broker,
            clock: shared,
            telemetry: telemetry.clone(),
            options: worker::Options {
                lanes: 1, // SQLite has one writer
                relays: 1,
                timers: self.until == Until::Settled,
                timer_poll: TIMER_POLL,
                ..config.worker()
            },
            system_clock: None,
        };
        let worker = tokio::spawn(worker.run(shutdown, held));
        let show = |now| {
            progress.set_position(telemetry.finished());
            progress.set_message(rfc3339(now));
        };
        while let Some(next) = clock.run_until(until, show).await {
            if pending.count() == 0 && only_resends_are_left(&**store).await? {
                break;
            }
            until = next + Millis::DAY;
        }
        progress.finish_and_clear();
        let ended = clock.now();
        stopper.drain();
        let _ = stop.send(true);
        worker.await??;
        shop.await??;
        outside.await??;
        Ok(ended)
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

/// Whether nothing more is going to happen: what is sent again to somebody who never answers
/// would be sent for ever, and an operator knows.
async fn only_resends_are_left(store: &dyn Store) -> anyhow::Result<bool> {
    let is_left = |phase: &Phase| match phase {
        Phase::Sent(wait) | Phase::Asking(wait) | Phase::Undoing { wait, .. } => {
            wait.give_up_at.or(wait.deadline_at).is_none()
        }
        Phase::Awaiting { deadline_at } => deadline_at.is_none(),
        _ => true,
    };
    let mut only_resends = true;
    for status in [Status::Running, Status::Compensating] {
        each(store, Some(status), |Stored { saga, .. }| {
            let has_told = !saga.attention.is_empty();
            only_resends &= has_told && saga.steps.iter().all(|step| is_left(&step.phase));
        })
        .await?;
    }
    Ok(only_resends)
}

/// Tenant and order id.
fn identity(order: &ScriptedOrder) -> (String, String) {
    (order.tenant_id.clone(), order.order_id.clone())
}

fn progress(orders: u64) -> ProgressBar {
    let bar = ProgressBar::new(orders);
    let style = "{bar:32} {pos}/{len} orders finished · {msg} (simulated) · {elapsed}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
