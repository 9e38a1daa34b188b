//! `participants` and `order submit`: the outside, simulated, on the real broker.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::ProgressBar;
use tokio::sync::watch;

use super::{End, Misuse, log, open, signals};
use crate::broker::Broker;
use crate::catalog::LoadedDefinition;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, LogFormat};
use crate::fixture::{self, Broken, ScriptedOrder, Scripts, Shop, Simulation, Timeline, orders};
use crate::saga::{Millis, Time};
use crate::telemetry::chain;
use crate::worker::{shutdown, topology};

/// How fast the simulated outside lives: ten days of delivery pass in some forty seconds.
const PACE: f64 = 20_000.0;
/// How long participants think, on the machine's clock.
const REPLY_DELAY_MS: (u64, u64) = (5, 50);
/// The path that stands for standard input.
const STANDARD_INPUT: &str = "-";

#[derive(Debug, Args)]
pub(super) struct Participants {
    /// Orders with scripts, so that some go wrong; without, all goes well.
    #[arg(long, value_name = "FILE", conflicts_with = "count")]
    orders: Option<PathBuf>,
    /// The scripts of this many made-up orders, as `order submit --count` makes them.
    #[arg(long)]
    count: Option<u64>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many times faster than the world the couriers are.
    #[arg(long, default_value_t = PACE, value_parser = pace)]
    pace: f64,
    /// Where the ledgers are kept; as configured otherwise.
    #[arg(long, value_name = "DIR")]
    ledgers: Option<PathBuf>,
    /// Break the participant contract in this way, to see `participant check` find it.
    #[arg(long, value_name = "HOW", value_parser = broken())]
    broken: Option<Broken>,
}

fn broken() -> impl TypedValueParser<Value = Broken> {
    let names = PossibleValuesParser::new(Broken::ALL.map(|(name, _)| name));
    names.try_map(|name| name.parse::<Broken>())
}

fn pace(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(pace) if (1e-3..=1e9).contains(&pace) => Ok(pace),
        _ => Err("must be a number from 0.001 to 1000000000".to_owned()),
    }
}

impl Participants {
    pub async fn run(self, config: Config) -> anyhow::Result<End> {
        log(&config);
        let clock = Arc::new(SystemClock::default());
        let store = open::store_to_look(&config).await?;
        let catalog = crate::operate::definitions(&*store).await?;
        store.close().await;
        if catalog.all().next().is_none() {
            anyhow::bail!("no definition is published: run `makegood migrate` first");
        }
        let orders = match (&self.orders, self.count) {
            (Some(path), _) => read("--orders", path)?,
            (None, Some(count)) => fixture::generate(count, self.seed).collect(),
            (None, None) => Vec::new(),
        };
        if let Some(path) = &self.orders {
            check_names(path, &orders, catalog.all().map(|loaded| &**loaded))?;
        }
        let broker = open::broker(&config)?;
        let topology = topology(&catalog);
        let (stopper, stopping) = shutdown();
        let (stop, stopped) = watch::channel(false);
        let obeyed = tokio::spawn(signals::obey(stopper, config.worker().drain));
        tokio::spawn(async move {
            stopping.stopped().await;
            let _ = stop.send(true);
        });
        // The clock is not simulated here: a broker that is away is waited for.
        let mut stop = stopped.clone();
        tokio::select! {
            () = declare(&*broker, &topology) => {}
            _ = stop.wait_for(|stop| *stop) => return Ok(End::Good),
        }
        let origin = orders.iter().map(|order| order.paid_at).min().unwrap_or(clock.now());
        let slower = |ms: u64| Millis((ms as f64 * self.pace) as u64);
        let simulation = Simulation {
            broker,
            clock: clock.clone(),
            ledgers: self.ledgers.unwrap_or(config.ledgers),
            participants: topology.participants,
            scripts: Arc::new(orders.iter().collect::<Scripts>()),
            unheard: Arc::default(), // a real broker keeps what it confirmed
            options: fixture::Options {
                timeline: Timeline { origin, start: clock.now(), pace: self.pace },
                broken: self.broken,
                reply_delay: (slower(REPLY_DELAY_MS.0), slower(REPLY_DELAY_MS.1)),
                ..fixture::Options::default()
            },
        };
        if let Some(broken) = self.broken {
            tracing::warn!(%broken, "simulated participants break the contract");
        }
        tracing::info!(pace = self.pace, "simulated participants are at work");
        simulation.open()?.run(stopped).await?;
        obeyed.abort();
        Ok(End::Good)
    }
}

async fn declare(broker: &dyn Broker, topology: &crate::broker::Topology) {
    while let Err(error) = broker.declare(topology).await {
        tracing::warn!(error = chain(&error), "the broker is not there yet; trying again");
        crate::clock::wait(Duration::from_secs(1)).await;
    }
}

#[derive(Debug, Args)]
pub(super) struct Submit {
    /// Orders, one JSON object a line, bare or with scripts; `-` for standard input. Made up
    /// where absent.
    #[arg(conflicts_with_all = ["count", "seed"])]
    file: Option<PathBuf>,
    /// How many orders to make up.
    #[arg(long, default_value_t = 100)]
    count: u64,
    /// Made-up orders are the same for the same seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the shop's ledger is kept; as configured otherwise.
    #[arg(long, value_name = "DIR")]
    ledgers: Option<PathBuf>,
    /// How long the broker may confirm nothing before this gives up, such as 10s or 5m.
    #[arg(long, value_name = "TIME", default_value = "1m")]
    patience: humantime::Duration,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

impl Submit {
    pub async fn run(self, config: &Config) -> anyhow::Result<End> {
        // A person watches: only what keeps them waiting.
        let (log_format, filter) = (LogFormat::Text, "makegood=warn".to_owned());
        log(&Config { log_format, log: filter, ..config.clone() });
        let orders = match &self.file {
            Some(path) => read("FILE", path)?,
            None => fixture::generate(self.count, self.seed).collect(),
        };
        let asked = orders.len() as u64;
        let clock = Arc::new(SystemClock::default());
        // Everything was paid by now: all of it goes out at once.
        let latest = orders.iter().map(|order| order.paid_at).max().unwrap_or(Time(0));
        let timeline = Timeline { origin: latest, start: clock.now(), pace: 1.0 };
        let ledgers = self.ledgers.unwrap_or_else(|| config.ledgers.clone());
        let broker = open::broker(config)?;
        let unheard = Arc::default(); // a real broker keeps what it confirmed
        let shop =
            Shop { broker: broker.clone(), clock, ledgers, orders, timeline, fsync: true, unheard };
        let shop = shop.open()?;
        let left = shop.left() as u64;
        let mut emitted = shop.emitted();
        let before = *emitted.borrow();
        let progress = ProgressBar::new(left);
        let (_stop, stopping) = watch::channel(false);
        let mut shop = std::pin::pin!(shop.run(stopping));
        loop {
            tokio::select! {
                ended = &mut shop => break ended?,
                Ok(()) = emitted.changed() => progress.set_position(*emitted.borrow() - before),
                () = crate::clock::wait(*self.patience) => {
                    progress.finish_and_clear();
                    let done = *emitted.borrow() - before;
                    anyhow::bail!(
                        "the broker has confirmed nothing for {}: {done} of {left} orders are \
                         submitted; the same command submits the rest",
                        self.patience
                    );
                }
            }
        }
        progress.finish_and_clear();
        broker.close().await;
        let earlier = asked - left;
        if self.json {
            super::print_json(&serde_json::json!({ "submitted": left, "earlier": earlier }))?;
        } else {
            println!("{left} orders submitted and confirmed by the broker");
            if earlier > 0 {
                println!("{earlier} had been submitted before, as the shop's ledger says");
            }
        }
        Ok(End::Good)
    }
}

/// Reads a file of orders, or standard input; `argument` is where the path was given.
pub(super) fn read(argument: &str, path: &Path) -> anyhow::Result<Vec<ScriptedOrder>> {
    let read: Result<Vec<_>, _> = if path == Path::new(STANDARD_INPUT) {
        orders::read(std::io::stdin().lock(), &name(path)).collect()
    } else {
        let file = std::fs::File::open(path)
            .map_err(|e| Misuse(format!("{argument}: cannot open {}: {e}", path.display())))?;
        orders::read(BufReader::new(file), &name(path)).collect()
    };
    Ok(read.map_err(|error| Misuse(error.to_string()))?)
}

/// Whether the scripts in that file name steps that there are.
pub(super) fn check_names<'a>(
    path: &Path,
    orders: &[ScriptedOrder],
    definitions: impl Iterator<Item = &'a LoadedDefinition>,
) -> Result<(), Misuse> {
    let definitions = definitions.map(|loaded| &loaded.definition);
    orders::check_names(orders, &name(path), definitions).map_err(|e| Misuse(e.to_string()))
}

/// What a file of orders is called in errors.
fn name(path: &Path) -> String {
    match path == Path::new(STANDARD_INPUT) {
        true => "standard input".to_owned(),
        false => path.display().to_string(),
    }
}
