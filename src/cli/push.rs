//! `order push`: signs orders and pushes them to the doors, as a shop would; and, with many of
//! them at once, measures how fast the doors take them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use comfy_table::{Table, presets};
use hyper::StatusCode;
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::bench::at;
use super::{End, Misuse, participants, print_json};
use crate::client::{Answer, Connection, InvalidTarget, Patience, Target};
use crate::clock::{Clock, SystemClock, wait};
use crate::config::Config;
use crate::fixture::{ScriptedOrder, ShopLedger, generate, orders};
use crate::http::{ACCOUNT, Accounts, ID, Key, SIGNATURE, TIMESTAMP};

/// An answer may take longer than the doors take by default to say that they do not know.
const PATIENCE: Patience =
    Patience { connect: Duration::from_secs(10), answer: Duration::from_secs(30) };
/// How often an order is sent that gets no answer, or one that says to come again.
const ATTEMPTS: usize = 10;
/// The longest pause before the next attempt, whatever the answer asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The pause where the connection broke.
const PAUSE: Duration = Duration::from_secs(1);
/// Orders that may wait to be noted in the ledger, and are noted at once.
const CONFIRMED: usize = 500;
/// How many refusals are told one by one.
const TOLD: usize = 20;

#[derive(Debug, Args)]
pub(super) struct Push {
    /// Orders, one JSON object a line, as for `order submit`; `-` for standard input. Made up
    /// where absent.
    #[arg(conflicts_with_all = ["count", "seed"])]
    file: Option<PathBuf>,
    /// Where the doors are, such as https://makegood.example:9443.
    #[arg(long)]
    url: String,
    /// The accounts with whose keys to sign, by each order's tenant; as configured otherwise.
    #[arg(long, value_name = "FILE")]
    accounts: Option<PathBuf>,
    /// The certificate (PEM) of an authority that this machine does not know.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// How many orders to make up.
    #[arg(long, default_value_t = 100)]
    count: u64,
    /// Made-up orders are the same for the same seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Connections, each with one order under way.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=2000))]
    at_once: u16,
    /// Where the shop's ledger is kept, for `audit`; as configured otherwise.
    #[arg(long, value_name = "DIR")]
    ledgers: Option<PathBuf>,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

/// An order, ready to be signed.
struct Ready {
    order_id: String,
    account: String,
    key: Key,
    body: Bytes,
}

/// What became of one order.
enum Became {
    New,
    Known,
    Refused(String),
}

#[derive(Debug, Default, Serialize)]
struct Result {
    /// Taken in, and told so after they were stored.
    new: u64,
    /// Taken in before.
    known: u64,
    refused: u64,
    seconds: f64,
    pushes_per_second: f64,
    latency_p50_ms: Option<f64>,
    latency_p99_ms: Option<f64>,
}

impl Push {
    /// The doors.
    fn target(&self) -> anyhow::Result<Target> {
        let url = &self.url;
        Target::new(url, self.ca.as_deref(), PATIENCE).map_err(|error| match (error, &self.ca) {
            (error @ InvalidTarget::Url, _) => Misuse(format!("--url {url}: {error}")).into(),
            (error @ InvalidTarget::Ca(_), Some(ca)) => {
                Misuse(format!("--ca {}: {error}", ca.display())).into()
            }
            (error, _) => error.into(),
        })
    }

    pub async fn run(self, config: &Config) -> anyhow::Result<End> {
        let orders = match &self.file {
            Some(path) => participants::read("FILE", path)?,
            None => generate(self.count, self.seed).collect(),
        };
        let ready = Arc::new(self.ready(config, orders)?);
        let clock = SystemClock::default();
        let mut ledger = ShopLedger::open(self.ledgers.as_ref().unwrap_or(&config.ledgers))?;
        let target = Arc::new(self.target()?);
        drop(target.connect().await?); // nobody there is an error at once
        let progress = ProgressBar::new(ready.len() as u64);
        let next = Arc::new(AtomicUsize::new(0));
        let began = Instant::now();
        let mut shops = JoinSet::new();
        let (became, mut becoming) = mpsc::channel(CONFIRMED);
        for _ in 0..usize::from(self.at_once).min(ready.len()) {
            let shop = (target.clone(), ready.clone(), next.clone());
            shops.spawn(push_some(shop, became.clone()));
        }
        drop(became);
        let mut result = Result::default();
        let mut latencies = Vec::with_capacity(ready.len());
        let mut batch = Vec::new();
        while becoming.recv_many(&mut batch, CONFIRMED).await > 0 {
            progress.inc(batch.len() as u64);
            let mut confirmed = Vec::with_capacity(batch.len());
            for (index, became, latency) in batch.drain(..) {
                let Ready { account, order_id, .. } = &ready[index];
                latencies.push(latency);
                match became {
                    Became::New => result.new += 1,
                    Became::Known => result.known += 1,
                    Became::Refused(why) => {
                        result.refused += 1;
                        if result.refused <= TOLD as u64 {
                            progress.suspend(|| eprintln!("{why}"));
                        }
                        continue;
                    }
                }
                confirmed.push((account.clone(), order_id.clone()));
            }
            ledger.note(confirmed, clock.now())?;
        }
        while let Some(ended) = shops.join_next().await {
            ended?;
        }
        progress.finish_and_clear();
        latencies.sort_unstable();
        let quantile = |share| Some(at(&latencies, share)?.as_secs_f64() * 1_000.0);
        result.seconds = began.elapsed().as_secs_f64();
        result.pushes_per_second = latencies.len() as f64 / result.seconds;
        (result.latency_p50_ms, result.latency_p99_ms) = (quantile(0.50), quantile(0.99));
        result.show(self.json)
    }

    /// Finds the key of each order's tenant.
    fn ready(&self, config: &Config, orders: Vec<ScriptedOrder>) -> anyhow::Result<Vec<Ready>> {
        let path = self.accounts.as_ref().or(config.accounts.as_ref()).ok_or_else(|| {
            let how = "give --accounts FILE, or a line accounts = \"…\" in makegood.toml";
            Misuse(format!("whose keys are to sign? {how}"))
        })?;
        let accounts = Accounts::open(path).map_err(|e| Misuse(format!("--accounts: {e}")))?;
        let ready = |order: ScriptedOrder| {
            if order.event.as_deref().is_some_and(|event| event != orders::ORDER_CREATED) {
                let problem = "is told by another event; the doors take order.created";
                return Err(Misuse(format!("order {} {problem}", order.order_id)).into());
            }
            let tenant = &order.tenant_id;
            let missing = || {
                let line = "[[shop]] tenant = …";
                Misuse(format!("{}: there is no {line} for '{tenant}'", path.display()))
            };
            Ok(Ready {
                key: accounts.key_of_shop(tenant).ok_or_else(missing)?,
                order_id: order.order_id,
                account: order.tenant_id,
                body: Bytes::from(order.payload.get().to_owned()),
            })
        };
        orders.into_iter().map(ready).collect()
    }
}

type Shop = (Arc<Target>, Arc<Vec<Ready>>, Arc<AtomicUsize>);

/// Which order, what became of it, and how long that took.
type Pushed = (usize, Became, Duration);

/// Pushes orders one after the other, over a connection of its own, while there are any.
async fn push_some((target, orders, next): Shop, became: mpsc::Sender<Pushed>) {
    let clock = SystemClock::default();
    let mut connection = None;
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(order) = orders.get(index) else { return };
        let began = Instant::now();
        let one = push(&target, &mut connection, &clock, order).await;
        let _ = became.send((index, one, began.elapsed())).await; // who counts has given up
    }
}

/// Pushes one order until there is an answer to it. The same content again does no harm.
async fn push(
    target: &Target,
    connection: &mut Option<Connection>,
    clock: &SystemClock,
    order: &Ready,
) -> Became {
    let id = format!("msg_{}", Uuid::now_v7().simple());
    let mut why = String::new();
    for _ in 0..ATTEMPTS {
        let pause = match attempt(target, connection, clock, order, &id).await {
            Ok(answer) => match answer.status {
                StatusCode::CREATED => return Became::New,
                StatusCode::OK => return Became::Known,
                status => {
                    why = told(&order.order_id, status, &answer.body);
                    let Some(pause) = answer.retry_after else { return Became::Refused(why) };
                    pause
                }
            },
            Err(error) => {
                why = format!("order {}: {error:#}", order.order_id);
                *connection = None;
                PAUSE
            }
        };
        wait(pause.min(LONGEST_PAUSE)).await;
    }
    Became::Refused(why)
}

async fn attempt(
    target: &Target,
    connection: &mut Option<Connection>,
    clock: &SystemClock,
    order: &Ready,
    id: &str,
) -> anyhow::Result<Answer> {
    let open = match connection {
        Some(open) => open,
        None => connection.insert(target.connect().await?),
    };
    let timestamp = clock.now().0 / 1_000;
    let signature = order.key.sign(id, timestamp, &order.body);
    let timestamp = timestamp.to_string();
    let mut headers =
        vec![(ID, id), (TIMESTAMP, timestamp.as_str()), (SIGNATURE, signature.as_str())];
    headers.push(("content-type", "application/json"));
    if order.account.is_ascii() {
        headers.push((ACCOUNT, order.account.as_str())); // else all keys are tried
    }
    Ok(open.post("/v1/orders", &headers, order.body.clone()).await?)
}

/// A refusal, for a human.
fn told(order_id: &str, status: StatusCode, body: &Bytes) -> String {
    #[derive(Deserialize)]
    struct Problem {
        r#type: String,
        title: String,
        detail: Option<String>,
    }
    let status = status.as_u16();
    match serde_json::from_slice(body) {
        Ok(Problem { r#type, title, detail }) => {
            let detail = detail.map_or(String::new(), |detail| format!(": {detail}"));
            format!("order {order_id}: {status} {} ({title}{detail})", r#type)
        }
        Err(_) => format!("order {order_id}: {status}"),
    }
}

impl Result {
    fn show(&self, as_json: bool) -> anyhow::Result<End> {
        if as_json {
            print_json(self)?;
        } else {
            let mut table = Table::new();
            table.load_style(presets::NOTHING);
            let milliseconds =
                |ms: Option<f64>| ms.map_or("-".to_owned(), |ms| format!("{ms:.1} ms"));
            for (name, value) in [
                ("new", self.new.to_string()),
                ("taken in before", self.known.to_string()),
                ("refused", self.refused.to_string()),
                ("pushes/s", format!("{:.0}", self.pushes_per_second)),
                ("push to receipt, p50", milliseconds(self.latency_p50_ms)),
                ("push to receipt, p99", milliseconds(self.latency_p99_ms)),
            ] {
                table.add_row([name.to_owned(), value]);
            }
            println!("{}", table.trim_fmt());
        }
        Ok(if self.refused > 0 { End::Bad } else { End::Good })
    }
}
