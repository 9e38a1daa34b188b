//! `bench`: how many sagas a second, and where the time goes.
//!
//! The real worker over the configured store. Participants are an echo in the same process:
//! they answer success at once and keep no ledger, so that the worker, the database and the
//! broker are what is measured. Its courier scans a parcel a moment after the dispatch was
//! answered: a delivery that overtook that answer would rightly call for an operator.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use comfy_table::{Table, presets};
use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::bench_store;
use super::dev::built_in;
use super::{End, definitions, open, print_json};
use crate::broker::memory::MemoryBroker;
use crate::broker::{Broker, Channel, Event, Outgoing, envelope};
use crate::clock::{Busy, SystemClock, wait};
use crate::config::{Config, LogFormat};
use crate::store::Store;
use crate::telemetry::Telemetry;
use crate::worker::{Shutdown, Worker, shutdown, topology};

/// Messages taken or published at once by the echo and the feeder.
const BATCH: usize = 500;
/// The last command of a saga: it makes room for the next one.
const LAST_COMMAND: &str = "loan.activate.v1";
/// The third command, and the last before the courier: latency is measured until it comes.
const DISPATCH: &str = "tms.dispatch.v1";
/// From a dispatch to the courier's scans.
const SCANS_AFTER: Duration = Duration::from_secs(2);
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
    /// From publishing the order to its third command, in milliseconds.
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
        for loaded in built_in()? {
            store.publish_definition(&definitions::row(&loaded, store.now().await?)).await?;
        }
        let catalog = crate::operate::definitions(&*store).await?;
        if self.through == Through::Store {
            let result = self.store_alone(&store).await?;
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

    async fn store_alone(&self, store: &Arc<dyn Store>) -> anyhow::Result<Result> {
        let loaded = built_in()?.into_iter().next().context("there is a built-in definition")?;
        let definition = Arc::new(loaded.definition);
        let payload = payload("bench", 1).to_string();
        let began = Instant::now();
        let done = bench_store::run(store, &definition, self.sagas, &payload).await?;
        let seconds = began.elapsed().as_secs_f64();
        Ok(Result {
            through: "store",
            sagas: self.sagas,
            in_flight: self.sagas.min(400),
            waiting: 0,
            seconds,
            sagas_per_second: self.sagas as f64 / seconds,
            transitions_per_second: done.transitions as f64 / seconds,
            commits_per_saga: done.commits as f64 / self.sagas as f64,
            average_batch: done.transitions as f64 / done.batches.max(1) as f64,
            latency_p50_ms: None,
            latency_p99_ms: None,
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
        let quantile = |share: f64| {
            let place = (latencies.len() as f64 * share) as usize;
            latencies.get(place).map(|micros| *micros as f64 / 1_000.0)
        };
        let per_saga = |count: u64| count as f64 / self.sagas as f64;
        let batches = (after.batches - before.batches).max(1);
        Ok(Result {
            through: match self.through {
                Through::Store => "store",
                Through::Memory => "memory",
                Through::Broker => "broker",
            },
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

/// What the feeder and the echo share.
struct Stage {
    broker: Arc<dyn Broker>,
    /// One permit per saga that may still be started.
    room: Semaphore,
    /// Distinguishes this run's orders from those of earlier runs on the same database.
    run: String,
    fed: Mutex<HashMap<String, Instant>>,
    latencies: Mutex<Vec<u64>>,
    /// Scans with the time when they are made, in that order.
    scans: Mutex<VecDeque<(Instant, Outgoing)>>,
}

impl Stage {
    fn new(broker: Arc<dyn Broker>, in_flight: u64) -> Stage {
        let permits = usize::try_from(in_flight).unwrap_or(Semaphore::MAX_PERMITS);
        Stage {
            broker,
            room: Semaphore::new(permits.clamp(1, Semaphore::MAX_PERMITS)),
            run: uuid::Uuid::now_v7().simple().to_string(),
            fed: Mutex::default(),
            latencies: Mutex::default(),
            scans: Mutex::default(),
        }
    }

    fn fed(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        self.fed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn latencies(&self) -> std::sync::MutexGuard<'_, Vec<u64>> {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes orders as fast as there is room for them.
    async fn feed(&self, kind: &str, count: u64) -> anyhow::Result<()> {
        let mut next = 0;
        while next < count {
            self.room.acquire().await?.forget();
            let mut free = 1;
            while free < BATCH
                && next + (free as u64) < count
                && let Ok(permit) = self.room.try_acquire()
            {
                permit.forget();
                free += 1;
            }
            let orders = next..next + free as u64;
            next = orders.end;
            let messages: Vec<Outgoing> = orders.map(|n| self.order(kind, n)).collect();
            self.publish(messages).await?;
        }
        Ok(())
    }

    fn order(&self, kind: &str, number: u64) -> Outgoing {
        let order_id = format!("{kind}-{}-{number}", self.run);
        let data = payload(&order_id, number);
        self.fed().insert(order_id.clone(), Instant::now());
        let mut event = Event::new(&order_id, "/bench", "order.created.v1", &data);
        event.subject = Some(order_id);
        event.tenantid = Some("bench".to_owned());
        Outgoing { channel: Channel::Orders, event }
    }

    async fn publish(&self, messages: Vec<Outgoing>) -> anyhow::Result<()> {
        for answer in self.broker.publish(&messages).await {
            answer.context("the bench could not publish")?;
        }
        Ok(())
    }

    /// The answer to a command, and the courier's scans after a dispatch.
    fn answer(&self, participant: &str, command: &Event, messages: &mut Vec<Outgoing>) {
        let order_id = command.subject.clone().unwrap_or_default();
        let waits = order_id.starts_with("waiting");
        let source = format!("/participants/{participant}");
        let data = json!({ "command_id": command.id, "outcome": "success" });
        let kind = format!("{}.replied.v1", command.name());
        let mut reply = Event::new(format!("r-{}", command.id), source, kind, &data);
        reply.sagaid.clone_from(&command.sagaid);
        reply.subject = Some(order_id.clone());
        messages.push(Outgoing { channel: Channel::Replies, event: reply });
        if command.kind == LAST_COMMAND {
            self.room.add_permits(1);
        } else if command.kind == DISPATCH {
            if let Some(fed) = self.fed().remove(&order_id) {
                let micros = u64::try_from(fed.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.latencies().push(micros);
            }
            if waits {
                self.room.add_permits(1);
                return;
            }
            let at = Instant::now() + SCANS_AFTER;
            for kind in ["shipment.in-transit.v1", "shipment.delivered.v1"] {
                let data = json!({ "order_id": order_id, "tenant_id": "bench" });
                let mut scan = Event::new(format!("{kind}-{order_id}"), "/courier", kind, &data);
                scan.subject = Some(order_id.clone());
                scan.tenantid = Some("bench".to_owned());
                let scan = Outgoing { channel: Channel::Facts, event: scan };
                self.scans.lock().unwrap_or_else(PoisonError::into_inner).push_back((at, scan));
            }
        }
    }
}

/// Makes the scans whose time has come, until the bench ends.
async fn courier(stage: Arc<Stage>, shutdown: Shutdown) {
    while !shutdown.is_stopping() {
        wait(Duration::from_millis(5)).await;
        let due = {
            let mut scans = stage.scans.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let due = scans.partition_point(|(at, _)| *at <= now);
            scans.drain(..due).map(|(_, scan)| scan).collect::<Vec<_>>()
        };
        for batch in due.chunks(BATCH) {
            if let Err(error) = stage.publish(batch.to_vec()).await {
                tracing::error!(error = %format!("{error:#}"), "the bench's courier failed");
            }
        }
    }
}

/// Answers every command of one participant until the bench ends.
async fn echo(stage: Arc<Stage>, participant: String, shutdown: Shutdown) {
    let channel = Channel::Commands(participant.clone());
    let work = async {
        let mut consumer = stage.broker.consume(&channel, 2 * BATCH as u16).await?;
        loop {
            let received = consumer.receive(BATCH).await?;
            let mut messages = Vec::with_capacity(received.len());
            let mut tickets = Vec::with_capacity(received.len());
            for incoming in received {
                if let Ok(event) = envelope::decode(&incoming.body, &incoming.headers, usize::MAX) {
                    stage.answer(&participant, &event, &mut messages);
                }
                tickets.push(incoming.ticket);
            }
            stage.publish(messages).await?;
            tickets.into_iter().for_each(crate::broker::Ticket::done);
        }
    };
    let ended: anyhow::Result<()> = tokio::select! {
        ended = work => ended,
        () = shutdown.stopped() => Ok(()),
    };
    if let Err(error) = ended {
        tracing::error!(participant, error = %format!("{error:#}"), "the bench's echo ended");
    }
}

fn payload(order_id: &str, number: u64) -> serde_json::Value {
    json!({
        "order_id": order_id, "tenant_id": "bench", "placed_at": "2026-01-01T00:00:00Z",
        "currency": "EUR",
        "loan": { "loan_id": format!("L-{number}"), "amount_minor": 3871, "installments": 1 },
        "lines": [{ "line_id": "1", "sku": "87285b34", "quantity": 1, "unit_price_minor": 3871 }],
        "ship_to": { "postal_code": "03149", "city": "sao paulo", "region": "SP", "country": "BR" },
    })
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
            ("order to third command, p50", milliseconds(self.latency_p50_ms)),
            ("order to third command, p99", milliseconds(self.latency_p99_ms)),
        ];
        for (name, value) in rows {
            table.add_row([name.to_owned(), value]);
        }
        table
    }
}
