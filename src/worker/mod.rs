//! The running pipeline: intake → lane → load → decide → commit → acknowledge → relay.
//!
//! Every part is a small loop with a bounded queue before it, so that trouble anywhere slows
//! down everything before it, back to the broker, and nothing piles up in memory. No SQL, no
//! AMQP: those are the ports' (`store`, `broker`). No rules: those are the core's (`saga`).
//!
//! ```text
//! intake (a loop per channel) ──► lanes (by saga) ──► relay ──► outbox rows deleted
//!   entrance (calls) ───────────────▲                  ▲
//!   timers, replays ────────────────┘                  │
//!   unusable messages ──► burial    sweeper ───────────┘
//! ```

mod backlog;
mod batch;
mod breaker;
mod breakers;
mod burial;
mod definitions;
mod delivery;
mod entrance;
mod inputs;
mod intake;
mod lane;
mod lanes;
mod letters;
pub mod message;
mod rehearsal;
mod relay;
mod replays;
pub mod shipments;
mod shutdown;
mod subscription;
mod sweeper;
mod timers;
mod turns;
mod watch;

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::broker::{Broker, BrokerError, Channel, Consumer, DEFAULT_MAX_MESSAGE_BYTES};
use crate::clock::{Backoff, Busy, Clock, SystemClock};
use crate::saga::Millis;
use crate::store::{Store, StoreError};
use crate::telemetry::Telemetry;

use breakers::Breakers;
use burial::Graveyard;
use definitions::Definitions;
pub use definitions::{read as read_definitions, topology};
use entrance::Usher;
pub use entrance::{
    Call, Entrance, Fate, Reception, Settled, Unanswered, entrance, order_event_id, scan_event_id,
};
use intake::Intake;
use lane::Lane;
use lanes::Lanes;
pub use letters::{Described, describe};
pub use rehearsal::{Foretold, Needs, Rehearsal};
pub use relay::UNCLAIMED;
use relay::{Relay, tidy_up};
use replays::Replays;
pub use shutdown::{Shutdown, Stopper, shutdown};
use sweeper::Sweeper;
pub use timers::bucket;
use timers::{TimerHandle, Timers};
use watch::Watch;

/// What is taken in, and what each is called among the parts of the worker.
const CHANNELS: [(Channel, &str); 4] = [
    (Channel::Orders, "orders"),
    (Channel::Replies, "replies"),
    (Channel::Facts, "facts"),
    (Channel::Dead, "dead"),
];
/// The part that says whether the database can be worked with.
pub const DATABASE: &str = "database";
/// How the parts that publish are called; what follows tells them apart.
const RELAY: &str = "relay";
/// How often the worker's clock is set by the database's.
const CLOCK_EVERY: Millis = Millis(10_000);
/// A correction of the worker's clock by more than this, in milliseconds, is worth a line in
/// the log: clocks drift by less.
const CLOCK_STEP_MS: i64 = 1_000;
/// Confirmed rows that may wait to be deleted.
const CONFIRMED_QUEUE: usize = 4_000;

#[derive(Debug, Clone)]
pub struct Options {
    /// The CloudEvents source of what this worker publishes: `/makegood/<deployment>`.
    pub source: String,
    /// Parallel processors. Measured on two cores beside their database, a third lane makes use
    /// of the time that the others wait for it; a fourth makes the batches of all smaller.
    pub lanes: usize,
    /// Publishers that work at the same time.
    pub relays: usize,
    /// The most inputs in one transaction.
    pub max_batch: usize,
    /// Messages out unacknowledged, per channel: at least two batches, so that the broker can
    /// send while the database writes.
    pub prefetch: u16,
    pub max_message_bytes: usize,
    /// How long what is in flight may take after the word to stop.
    pub drain: Duration,
    /// Whether clocks fire at all. Off only for `makegood dev --until quiet`.
    pub timers: bool,
    /// The longest time between two looks for due sagas.
    pub timer_poll: Millis,
    /// How long a message that this version cannot decide is kept out, for a newer worker to
    /// take when this one is replaced, before it becomes a dead letter.
    pub set_aside: Duration,
    /// How long the database may be away before what was taken in is handed back.
    pub outage: Duration,
    /// Sagas per second that go on, per participant, which were held while it was away.
    pub release_per_second: u32,
    /// Commands per second that a participant gets from this worker, where it has a limit.
    pub limits: BTreeMap<String, u32>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            source: "/makegood/default".to_owned(),
            lanes: 3,
            relays: 2,
            max_batch: 500,
            prefetch: 1_000,
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
            drain: Duration::from_secs(20),
            timers: true,
            timer_poll: Millis::SECOND,
            // Rolling upgrades take minutes; RabbitMQ takes back after 30 what is not
            // acknowledged, and counts a delivery.
            set_aside: Duration::from_secs(600),
            outage: Duration::from_secs(60),
            release_per_second: 50,
            limits: BTreeMap::new(),
        }
    }
}

/// Everything a worker works with.
pub struct Worker {
    pub store: Arc<dyn Store>,
    pub broker: Arc<dyn Broker>,
    pub clock: Arc<dyn Clock>,
    pub telemetry: Arc<Telemetry>,
    pub options: Options,
    /// Set by the database's clock, where this is the clock in use.
    pub system_clock: Option<Arc<SystemClock>>,
}

impl Worker {
    /// Works until `shutdown`, then drains. `held` keeps simulated time still until every part
    /// has begun.
    ///
    /// # Errors
    /// Only what no waiting heals: tables that are missing or of another version, a queue with
    /// other properties, a schema that is refused. A database or broker that is away is waited for.
    pub async fn run(self, shutdown: Shutdown, held: Busy) -> Result<(), StartError> {
        self.run_behind(None, shutdown, held).await
    }

    /// The same behind an entrance, through which others hand in what they want an answer to.
    ///
    /// # Errors
    /// As [`Worker::run`].
    pub async fn run_behind(
        self,
        reception: Option<Reception>,
        shutdown: Shutdown,
        held: Busy,
    ) -> Result<(), StartError> {
        let Worker { store, broker, clock, telemetry, options, system_clock } = self;
        let options = Arc::new(options);
        for part in
            [DATABASE, "timers", "sweeper"].into_iter().chain(CHANNELS.map(|(_, part)| part))
        {
            telemetry.health.expect(part);
        }
        let definitions = Definitions::new(store.clone(), broker.clone(), telemetry.clone());
        prepare(&*store, &definitions, &telemetry, system_clock.as_deref(), &shutdown).await?;
        let topology = definitions.topology();
        let declared = tokio::select! {
            declared = broker.declare(&topology) => declared,
            () = shutdown.stopped() => return Ok(()),
        };
        if let Err(different @ (BrokerError::Mismatch { .. } | BrokerError::Schema(_))) = declared {
            return Err(different.into());
        }
        let breakers =
            Breakers::new(telemetry.clone(), options.release_per_second, options.limits.clone());
        // Who cannot be asked now is asked again in a moment.
        let _ = breakers.learn(&*store, clock.now()).await;
        let breakers = Arc::new(breakers);
        let parts =
            Parts { store, broker, clock, telemetry, options, definitions, breakers, shutdown };
        parts.run(system_clock, reception, held).await;
        Ok(())
    }
}

/// Why a worker cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// Waits for the database, checks its tables, and learns the definitions and the time.
async fn prepare(
    store: &dyn Store,
    definitions: &Definitions,
    telemetry: &Telemetry,
    system_clock: Option<&SystemClock>,
    shutdown: &Shutdown,
) -> Result<(), StoreError> {
    let mut backoff = Backoff::default();
    let ready = async || {
        store.check().await?;
        definitions.refresh().await?;
        match system_clock {
            Some(clock) => correct(clock, store).await.map(drop),
            None => Ok(()),
        }
    };
    while !shutdown.is_stopping() {
        match ready().await {
            Ok(()) => {
                telemetry.part(DATABASE, None);
                return Ok(());
            }
            Err(error) if error.is_transient() => {
                telemetry.part(DATABASE, Some(&error));
                tokio::select! {
                    () = backoff.wait() => {}
                    () = shutdown.stopped() => {}
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

struct Parts {
    store: Arc<dyn Store>,
    broker: Arc<dyn Broker>,
    clock: Arc<dyn Clock>,
    telemetry: Arc<Telemetry>,
    options: Arc<Options>,
    definitions: Definitions,
    breakers: Arc<Breakers>,
    shutdown: Shutdown,
}

impl Parts {
    /// Starts every part, waits for the word to stop, and lets the parts end from the front of
    /// the pipeline to its back: each ends when nobody sends to it any more.
    async fn run(
        self,
        system_clock: Option<Arc<SystemClock>>,
        reception: Option<Reception>,
        held: Busy,
    ) {
        let mut flow = JoinSet::new();
        let (relay_handle, confirmed) = self.start_relays(&mut flow);
        let due_times = TimerHandle::default();
        let (lanes, queues) = Lanes::new(self.options.lanes);
        for queue in queues {
            let lane = Lane {
                store: self.store.clone(),
                clock: self.clock.clone(),
                telemetry: self.telemetry.clone(),
                definitions: self.definitions.clone(),
                relay: relay_handle.clone(),
                timers: due_times.clone(),
                options: self.options.clone(),
                breakers: self.breakers.clone(),
                graveyard: self.graveyard(),
                shutdown: self.shutdown.clone(),
            };
            flow.spawn(lane.run(queue));
        }
        flow.spawn(tidy_up(
            self.store.clone(),
            self.telemetry.clone(),
            self.shutdown.clone(),
            confirmed,
        ));
        let mut consumers = self.start_intake(&lanes, &mut flow, &held);
        if let Some(reception) = reception {
            flow.spawn(self.usher(reception, lanes.clone()).run());
        }
        let timers = Timers::new(
            self.store.clone(),
            self.clock.clone(),
            self.telemetry.clone(),
            lanes,
            due_times,
            self.options.timer_poll,
        );
        flow.spawn(timers.run(self.options.clone(), self.shutdown.clone(), held.clone()));
        let sweeper = Sweeper {
            store: self.store.clone(),
            clock: self.clock.clone(),
            telemetry: self.telemetry.clone(),
            relay: relay_handle,
        };
        flow.spawn(sweeper.run(self.shutdown.clone(), held));
        flow.spawn(self.definitions.clone().keep_up(self.clock.clone(), self.shutdown.clone()));
        let breakers = self.breakers.clone();
        let (store, clock) = (self.store.clone(), self.clock.clone());
        flow.spawn(breakers.keep_up(store, clock, self.shutdown.clone()));
        let watch = Watch {
            store: self.store.clone(),
            clock: self.clock.clone(),
            telemetry: self.telemetry.clone(),
            definitions: self.definitions.clone(),
        };
        flow.spawn(watch.run(self.shutdown.clone()));
        if let Some(system_clock) = system_clock {
            let store = self.store.clone();
            let telemetry = self.telemetry.clone();
            flow.spawn(keep_time(store, system_clock, telemetry, self.shutdown.clone()));
        }
        tokio::select! {
            () = self.shutdown.stopped() => {}
            // Parts end only when told to. A worker that lacks one is better dead than half alive.
            Some(Err(broken)) = flow.join_next() => resume_unwind(broken.into_panic()),
            Some(Err(broken)) = consumers.join_next() => resume_unwind(broken.into_panic()),
        }
        let mut kept = Vec::new();
        while let Some(consumer) = consumers.join_next().await {
            kept.extend(consumer.ok().flatten());
        }
        while flow.join_next().await.is_some() {}
        drop(kept); // only now: what they delivered has been acknowledged
        self.broker.close().await;
    }

    fn usher(&self, reception: Reception, lanes: Lanes) -> Usher {
        Usher {
            reception,
            definitions: self.definitions.clone(),
            lanes,
            clock: self.clock.clone(),
            telemetry: self.telemetry.clone(),
            shutdown: self.shutdown.clone(),
        }
    }

    fn graveyard(&self) -> Graveyard {
        Graveyard {
            store: self.store.clone(),
            clock: self.clock.clone(),
            telemetry: self.telemetry.clone(),
            shutdown: self.shutdown.clone(),
        }
    }

    fn start_relays(
        &self,
        flow: &mut JoinSet<()>,
    ) -> (relay::RelayHandle, tokio::sync::mpsc::Receiver<relay::Confirmed>) {
        let (confirmed, receiver) = tokio::sync::mpsc::channel(CONFIRMED_QUEUE);
        let (handle, queues) = Relay::channels(self.options.relays);
        for queue in queues {
            let relay = Relay {
                broker: self.broker.clone(),
                clock: self.clock.clone(),
                definitions: self.definitions.clone(),
                telemetry: self.telemetry.clone(),
                shutdown: self.shutdown.clone(),
                confirmed: confirmed.clone(),
            };
            flow.spawn(relay.run(queue));
        }
        (handle, receiver)
    }

    fn start_intake(
        &self,
        lanes: &Lanes,
        flow: &mut JoinSet<()>,
        held: &Busy,
    ) -> JoinSet<Option<Box<dyn Consumer>>> {
        let (burial, graves) = burial::channel();
        flow.spawn(self.graveyard().run(graves));
        let replays = Replays {
            store: self.store.clone(),
            broker: self.broker.clone(),
            clock: self.clock.clone(),
            telemetry: self.telemetry.clone(),
            definitions: self.definitions.clone(),
            lanes: lanes.clone(),
            burial: burial.clone(),
            options: self.options.clone(),
            shutdown: self.shutdown.clone(),
        };
        flow.spawn(replays.run(held.clone()));
        let mut consumers = JoinSet::new();
        for (channel, part) in CHANNELS {
            let intake = Intake {
                channel,
                part,
                broker: self.broker.clone(),
                clock: self.clock.clone(),
                telemetry: self.telemetry.clone(),
                definitions: self.definitions.clone(),
                lanes: lanes.clone(),
                burial: burial.clone(),
                options: self.options.clone(),
                shutdown: self.shutdown.clone(),
            };
            consumers.spawn(intake.run());
        }
        consumers
    }
}

/// Whether answers come in, or commands go out, by this part.
fn is_line(part: &str) -> bool {
    let takes_in =
        CHANNELS.iter().any(|(channel, name)| *name == part && !matches!(channel, Channel::Dead));
    takes_in || part.starts_with(RELAY)
}

/// Sets the clock by the database's. By how many milliseconds it went ahead.
async fn correct(clock: &SystemClock, store: &dyn Store) -> Result<i64, StoreError> {
    let asked = clock.now();
    let answer = store.now().await?;
    Ok(clock.correct(answer, asked).unwrap_or(0))
}

/// Sets the clock by the database's now and then.
async fn keep_time(
    store: Arc<dyn Store>,
    clock: Arc<SystemClock>,
    telemetry: Arc<Telemetry>,
    shutdown: Shutdown,
) {
    let work = async {
        loop {
            crate::clock::wait(Duration::from_millis(CLOCK_EVERY.0)).await;
            if let Ok(ahead_ms) = correct(&clock, &*store).await
                && ahead_ms.abs() > CLOCK_STEP_MS
            {
                telemetry.clock_stepped(ahead_ms);
            }
        }
    };
    tokio::select! {
        () = shutdown.stopped() => {}
        () = work => {}
    }
}
