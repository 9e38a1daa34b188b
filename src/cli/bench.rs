//! `bench`: how many sagas a second, and where the time goes.
//!
//! The real worker over the configured store, with a stage of its own around it. It writes its
//! orders into that store and its messages into that broker's queues, so both have to be its own.

mod stage;
mod store_path;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use comfy_table::{Table, presets};
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::time::Instant;

use super::dev::built_in;
use super::{End, Misuse, definitions, open, print_json};
use crate::broker::Broker;
use crate::broker::memory::MemoryBroker;
use crate::catalog::{self, LoadedDefinition};
use crate::clock::{Busy, SystemClock, wait};
use crate::config::{Config, LogFormat};
use crate::saga::Definition;
use crate::store::{Filter, Store};
use crate::telemetry::Telemetry;
use crate::worker::{Worker, shutdown, topology};
use stage::{Stage, courier, echo, payload};
use store_path::{Course, Until};

/// What is run unless it is the shipped definition.
const DEFINITION: &str = include_str!("bench/definition.toml");
/// Every definition that an order starts would run, and be measured, beside the bench's.
const OTHER: &str = "the configured store has other definitions than the bench runs; give it an \
                     empty database (it makes the tables itself), and --notices always or never";
/// How long nothing may move before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Through {
    /// The configured store alone: load, decide, commit, with no message in sight.
    Store,
    /// The whole worker, with an in-process broker.
    Memory,
    /// The configured store and the configured broker.
    Broker,
}

#[derive(Debug, Args)]
pub(super) struct Bench {
    #[arg(long, value_enum, default_value_t = Through::Store)]
    through: Through,
    /// Sagas to run to their end.
    #[arg(long, default_value_t = 20_000)]
    sagas: u64,
    /// Sagas under way at the same time.
    #[arg(long, default_value_t = 10_000)]
    in_flight: u64,
    /// Sagas that wait for a courier meanwhile, started first and not measured.
    #[arg(long, default_value_t = 0)]
    waiting: u64,
    /// Tell the shop and the customer as the shipped definition does: four more messages a saga.
    #[arg(long)]
    notices: bool,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Result {
    through: &'static str,
    sagas: u64,
    in_flight: u64,
    waiting: u64,
    seconds: f64,
    sagas_per_second: f64,
    transitions_per_second: f64,
    /// Lane commits and outbox deletions together.
    commits_per_saga: f64,
    average_batch: f64,
    /// What the two latencies measure.
    latency_of: &'static str,
    latency_p50_ms: Option<f64>,
    latency_p99_ms: Option<f64>,
}

impl Bench {
    pub async fn run(self, config: Config) -> anyhow::Result<End> {
        super::log(&Config {
            log_format: LogFormat::Text,
            log: "warn".to_owned(),
            ..config.clone()
        });
        let system_clock = Arc::new(SystemClock::default());
        let store = open::store(&config, system_clock.clone()).await?;
        store.migrate().await?;
        of_its_own(&*store).await?;
        let loaded = self.definition()?;
        if store.definitions().await?.iter().any(|row| row.content != loaded.text) {
            return Err(Misuse(OTHER.to_owned()).into());
        }
        store.publish_definition(&definitions::row(&loaded, store.now().await?)).await?;
        let catalog = crate::operate::definitions(&*store).await?;
        if self.through == Through::Store {
            let result = self.store_alone(&store, loaded.definition, &config).await?;
            store.close().await;
            return result.show(self.json);
        }
        let (ours, theirs): (Arc<dyn Broker>, Arc<dyn Broker>) = match self.through {
            Through::Store | Through::Memory => {
                let broker = Arc::new(MemoryBroker::new(system_clock.clone()));
                (broker.clone(), broker)
            }
            Through::Broker => (open::broker(&config)?, open::broker(&config)?),
        };
        let topology = topology(&catalog);
        theirs.declare(&topology).await?;
        let (stopper, shutdown) = shutdown();
        let telemetry = Arc::new(Telemetry::new());
        let worker = Worker {
            store: store.clone(),
            broker: ours,
            clock: system_clock.clone(),
            telemetry: telemetry.clone(),
            options: config.worker(),
            system_clock: Some(system_clock),
        };
        let worker = tokio::spawn(worker.run(shutdown.clone(), Busy::default()));
        let stage = Arc::new(Stage::new(theirs.clone(), self.in_flight));
        for participant in &topology.participants {
            tokio::spawn(echo(stage.clone(), participant.clone(), shutdown.clone()));
        }
        tokio::spawn(courier(stage.clone(), shutdown.clone()));
        let result = self.measure(&stage, &telemetry).await?;
        stopper.drain();
        worker.await??;
        store.close().await;
        result.show(self.json)
    }

    fn definition(&self) -> anyhow::Result<LoadedDefinition> {
        if self.notices {
            return built_in()?.into_iter().next().context("there is a built-in definition");
        }
        Ok(catalog::load("bench/definition.toml", DEFINITION)?)
    }

    async fn store_alone(
        &self,
        store: &Arc<dyn Store>,
        definition: Definition,
        config: &Config,
    ) -> anyhow::Result<Result> {
        let options = config.worker();
        let course = Course {
            store: store.clone(),
            definition: Arc::new(definition),
            payload: payload("bench", 1).to_string().into(),
            lanes: options.lanes,
            max_batch: options.max_batch,
        };
        let progress = ProgressBar::new(self.waiting).with_message("waiting sagas");
        course.run((self.waiting, self.in_flight), Until::Waiting, &progress).await?;
        progress.finish_and_clear();
        let progress = ProgressBar::new(self.sagas);
        let began = Instant::now();
        let mut done = course.run((self.sagas, self.in_flight), Until::Done, &progress).await?;
        let seconds = began.elapsed().as_secs_f64();
        progress.finish_and_clear();
        done.batches.sort_unstable();
        let quantile = |share| Some(at(&done.batches, share)?.as_secs_f64() * 1_000.0);
        Ok(Result {
            through: "store",
            latency_of: "batch, load to commit",
            sagas: self.sagas,
            in_flight: self.in_flight,
            waiting: self.waiting,
            seconds,
            sagas_per_second: self.sagas as f64 / seconds,
            transitions_per_second: done.transitions as f64 / seconds,
            commits_per_saga: done.commits as f64 / self.sagas as f64,
            average_batch: done.transitions as f64 / done.batches.len().max(1) as f64,
            latency_p50_ms: quantile(0.50),
            latency_p99_ms: quantile(0.99),
        })
    }

    async fn measure(&self, stage: &Arc<Stage>, telemetry: &Telemetry) -> anyhow::Result<Result> {
        if self.waiting > 0 {
            let progress = ProgressBar::new(self.waiting).with_message("waiting sagas");
            stage.feed("waiting", self.waiting).await?;
            // Each saga that only waits has been through start, reserve, pick and dispatch.
            let target = 4 * self.waiting;
            until(&progress, target, || telemetry.batching().transitions).await?;
        }
        let before = telemetry.batching();
        let finished = telemetry.finished();
        let began = Instant::now();
        let progress = ProgressBar::new(self.sagas);
        stage.latencies().clear();
        stage.feed("bench", self.sagas).await?;
        until(&progress, self.sagas, || telemetry.finished() - finished).await?;
        let seconds = began.elapsed().as_secs_f64();
        progress.finish_and_clear();
        let after = telemetry.batching();
        let mut latencies = std::mem::take(&mut *stage.latencies());
        latencies.sort_unstable();
        let quantile = |share| Some(at(&latencies, share)? as f64 / 1_000.0);
        let per_saga = |count: u64| count as f64 / self.sagas as f64;
        let batches = (after.batches - before.batches).max(1);
        Ok(Result {
            through: match self.through {
                Through::Store => "store",
                Through::Memory => "memory",
                Through::Broker => "broker",
            },
            latency_of: "order to third command",
            sagas: self.sagas,
            in_flight: self.in_flight,
            waiting: self.waiting,
            seconds,
            sagas_per_second: self.sagas as f64 / seconds,
            transitions_per_second: (after.transitions - before.transitions) as f64 / seconds,
            commits_per_saga: per_saga(after.commits - before.commits),
            average_batch: (after.inputs - before.inputs) as f64 / batches as f64,
            latency_p50_ms: quantile(0.50),
            latency_p99_ms: quantile(0.99),
        })
    }
}

/// Refuses a store with anybody's orders in it: the bench would leave its own among them, and
/// publish the built-in definitions there.
async fn of_its_own(store: &dyn Store) -> anyhow::Result<()> {
    let first = store.list(&Filter::default(), None, 1).await?;
    if first.iter().any(|stored| stored.order.tenant != "bench") {
        let why = "the configured store holds orders; the bench wants a database of its own";
        return Err(Misuse(why.to_owned()).into());
    }
    Ok(())
}

/// The value below which this share of the sorted values lies.
pub(super) fn at<T: Copy>(sorted: &[T], share: f64) -> Option<T> {
    sorted.get((sorted.len() as f64 * share) as usize).copied()
}

/// Waits until `count` reaches `target`; an error when nothing moves for too long.
async fn until(progress: &ProgressBar, target: u64, count: impl Fn() -> u64) -> anyhow::Result<()> {
    let mut moved = Instant::now();
    let mut last = count();
    while last < target {
        wait(Duration::from_millis(10)).await;
        let now = count();
        if now != last {
            moved = Instant::now();
        }
        last = now;
        progress.set_position(last);
        anyhow::ensure!(
            moved.elapsed() < PATIENCE,
            "nothing moved for {PATIENCE:?}: {last} of {target}"
        );
    }
    Ok(())
}

impl Result {
    fn show(&self, as_json: bool) -> anyhow::Result<End> {
        if as_json {
            print_json(self)?;
        } else {
            println!("{}", self.table());
        }
        Ok(End::Good)
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let milliseconds = |ms: Option<f64>| ms.map_or("-".to_owned(), |ms| format!("{ms:.0} ms"));
        let rows = [
            ("through", self.through.to_owned()),
            ("sagas", self.sagas.to_string()),
            ("in flight, waiting", format!("{}, {}", self.in_flight, self.waiting)),
            ("seconds", format!("{:.1}", self.seconds)),
            ("sagas/s", format!("{:.0}", self.sagas_per_second)),
            ("transitions/s", format!("{:.0}", self.transitions_per_second)),
            ("commits per saga", format!("{:.3}", self.commits_per_saga)),
            ("average batch", format!("{:.0}", self.average_batch)),
            (&format!("{}, p50", self.latency_of), milliseconds(self.latency_p50_ms)),
            (&format!("{}, p99", self.latency_of), milliseconds(self.latency_p99_ms)),
        ];
        for (name, value) in rows {
            table.add_row([name.to_owned(), value]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::DEFINITION;

    /// The steps of a definition, without what tells others of them.
    fn steps(text: &str) -> Vec<toml::Table> {
        let mut all: toml::Table = text.parse().expect("TOML");
        let toml::Value::Array(steps) = all.remove("step").expect("steps") else {
            panic!("steps are a list");
        };
        let mut steps: Vec<toml::Table> =
            steps.into_iter().map(|step| step.try_into().expect("a table")).collect();
        steps
            .iter_mut()
            .for_each(|step| step.retain(|key, _| !["reaches", "shipment"].contains(&key)));
        steps
    }

    #[test]
    fn the_bench_runs_the_steps_that_ship() {
        let shipped = include_str!("../../sagas/order-fulfilment.toml");
        assert_eq!(steps(DEFINITION), steps(shipped));
    }
}
