//! The play of `dev`: the real worker, a simulated shop and simulated participants on one
//! in-memory broker, and a clock that jumps to the next event whenever everybody waits.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;

use super::summary::each;
use crate::broker::Broker;
use crate::broker::memory::MemoryBroker;
use crate::catalog::Catalog;
use crate::clock::{Clock, SimulatedClock, rfc3339};
use crate::fixture::{self, Away, ScriptedOrder, Scripts, Shop, Simulation, Unheard};
use crate::saga::{Millis, Phase, Status, Time};
use crate::store::{CampaignState, Store, Stored};
use crate::telemetry::Telemetry;
use crate::worker::{self, Worker, shutdown, topology};

/// Nobody else writes to the file: due times are known without looking.
const TIMER_POLL: Millis = Millis::DAY;
/// Participants and couriers act on whole seconds, so that simulated time makes fewer stops.
const GRAIN: Millis = Millis::SECOND;

/// All that a play needs.
pub(super) struct Play<'a> {
    pub store: Arc<dyn Store>,
    pub catalog: &'a Catalog,
    pub clock: SimulatedClock,
    pub ledgers: PathBuf,
    pub orders: Vec<ScriptedOrder>,
    /// The orders of which a killed run may have lost messages.
    pub unheard: Arc<Unheard>,
    /// Who is not there for a while.
    pub away: Vec<Away>,
    /// `timers` says whether the worker's own clocks fire.
    pub worker: worker::Options,
}

/// How a play ended.
pub(super) struct Played {
    /// The simulated time then.
    pub ended: Time,
    /// How many sagas came to their end in it.
    pub finished: u64,
}

impl Play<'_> {
    /// Runs everything until nobody waits for anything.
    pub async fn run(self) -> anyhow::Result<Played> {
        let clock = self.clock.clone();
        let held = clock.busy(); // until everybody is at work
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let broker: Arc<dyn Broker> = Arc::new(MemoryBroker::new(shared.clone()));
        let telemetry = Arc::new(Telemetry::new());
        let topology = topology(self.catalog);
        broker.declare(&topology).await?;
        let progress = progress(self.orders.len() as u64);
        let last_paid = self.orders.iter().map(|order| order.paid_at).max().unwrap_or_default();
        let store = self.store.clone();

        let (stop, stopping) = watch::channel(false);
        let (stopper, shutdown) = shutdown();
        let outside = self.outside(&broker, &shared, topology.participants).open()?;
        let pending = outside.pending();
        let outside = tokio::spawn(outside.run(stopping.clone()));
        let worker = self.worker(&broker, &shared, &telemetry);
        let shop = tokio::spawn(self.shop(&broker, &shared).open()?.run(stopping));
        let worker = tokio::spawn(worker.run(shutdown, held));
        let show = |now| {
            progress.set_position(telemetry.finished());
            progress.set_message(rfc3339(now));
        };
        let mut until = last_paid;
        while let Some(next) = clock.run_until(until, show).await {
            if pending.count() == 0
                && only_resends_are_left(&*store).await?
                && !is_replaying(&*store).await?
            {
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
        Ok(Played { ended, finished: telemetry.finished() })
    }

    fn outside(
        &self,
        broker: &Arc<dyn Broker>,
        clock: &Arc<dyn Clock>,
        participants: Vec<String>,
    ) -> Simulation {
        Simulation {
            broker: broker.clone(),
            clock: clock.clone(),
            ledgers: self.ledgers.clone(),
            participants,
            scripts: Arc::new(self.orders.iter().collect::<Scripts>()),
            unheard: self.unheard.clone(),
            options: fixture::Options {
                grain: GRAIN,
                away: self.away.clone(),
                ..fixture::Options::default()
            },
        }
    }

    fn shop(self, broker: &Arc<dyn Broker>, clock: &Arc<dyn Clock>) -> Shop {
        Shop {
            broker: broker.clone(),
            clock: clock.clone(),
            ledgers: self.ledgers,
            orders: self.orders,
            unheard: self.unheard,
            timeline: fixture::Timeline::default(),
            fsync: false,
        }
    }

    fn worker(
        &self,
        broker: &Arc<dyn Broker>,
        clock: &Arc<dyn Clock>,
        telemetry: &Arc<Telemetry>,
    ) -> Worker {
        Worker {
            store: self.store.clone(),
            broker: broker.clone(),
            clock: clock.clone(),
            telemetry: telemetry.clone(),
            options: worker::Options {
                lanes: 1, // SQLite has one writer
                relays: 1,
                timer_poll: TIMER_POLL,
                ..self.worker.clone()
            },
            system_clock: None,
        }
    }
}

/// Whether nothing more is going to happen: what is sent again to somebody who never answers
/// would be sent for ever, and an operator knows.
async fn only_resends_are_left(store: &dyn Store) -> anyhow::Result<bool> {
    let is_left = |phase: &Phase| match phase {
        Phase::Sent(wait) | Phase::Asking(wait) | Phase::Undoing { wait, .. } => {
            wait.give_up_at.or(wait.deadline_at).is_none()
        }
        Phase::Awaiting { deadline_at } => deadline_at.is_none(),
        Phase::Held { .. } => false,
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

/// Whether dead letters are still to be replayed.
async fn is_replaying(store: &dyn Store) -> anyhow::Result<bool> {
    let running = store.letters().campaigns(Some(CampaignState::Running), 1).await?;
    Ok(!running.is_empty())
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
