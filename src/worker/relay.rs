//! The relay: publishes what was committed, and deletes its outbox row once confirmed.
//!
//! Right after a commit a lane hands its messages over in memory; the rows in the outbox are
//! what survives if this process does not. The sweeper claims rows whose lease has run out,
//! its own or a dead worker's, and publishes them under the same ids.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Shutdown;
use super::definitions::Definitions;
use super::message::Posting;
use crate::broker::{Broker, Event, Link, Outgoing, PublishError};
use crate::clock::{Backoff, Busy, Clock};
use crate::saga::{Millis, Time};
use crate::store::{OutboxKey, OutboxRow, Store};
use crate::telemetry::Telemetry;

/// How long a row belongs to the worker that wrote or claimed it. Longer than a publication
/// takes, so that rows are rarely sent twice; short, because it delays the rescue of a dead
/// worker's messages.
pub(super) const CLAIM_LEASE: Millis = Millis(30_000);
/// How often the sweeper looks for rows that were left over.
const SWEEP_EVERY: Millis = Millis(5_000);
/// How many rows the sweeper claims at once.
const SWEEP_LIMIT: usize = 500;
/// How many messages are published as one stream of confirms.
const MAX_BATCH: usize = 500;
/// How many messages may wait for the relay; beyond that lanes wait, and with them intake.
const QUEUE: usize = 4_000;

/// A committed message on its way to the relay.
#[derive(Debug)]
pub(super) struct Posted {
    pub posting: Posting,
    /// Keeps simulated time from going on until it is published.
    pub busy: Busy,
}

#[derive(Debug, Clone)]
pub(super) struct RelayHandle(Arc<[mpsc::Sender<Posted>]>);

impl RelayHandle {
    /// Waits while the relay is behind: that is the back pressure of a broker that is away.
    pub async fn send(&self, posted: Posted) {
        let relay = posted.posting.key.saga.share_of(self.0.len());
        let _ = self.0[relay].send(posted).await;
    }
}

pub(super) struct Relay {
    pub broker: Arc<dyn Broker>,
    pub definitions: Definitions,
    pub telemetry: Arc<Telemetry>,
    pub shutdown: Shutdown,
    pub confirmed: mpsc::Sender<Confirmed>,
}

/// A published message's outbox row, with the claim under which it was published.
pub(super) type Confirmed = ((OutboxKey, Time), Busy);

/// What one publication did not get confirmed.
#[derive(Default)]
struct Left {
    /// Nobody knows whether it arrived.
    unknown: Vec<Posted>,
    /// No queue takes it.
    unroutable: Vec<Posted>,
}

impl Relay {
    /// A queue for each of `count` relays.
    pub fn channels(count: usize) -> (RelayHandle, Vec<mpsc::Receiver<Posted>>) {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..count).map(|_| mpsc::channel(QUEUE)).unzip();
        (RelayHandle(senders.into()), receivers)
    }

    /// Runs until all lanes and the sweeper are gone and everything is published.
    pub async fn run(self, mut queue: mpsc::Receiver<Posted>) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while queue.recv_many(&mut batch, MAX_BATCH).await > 0 {
            let mut backoff = Backoff::default();
            let mut left = std::mem::take(&mut batch);
            let mut mended = false;
            while !left.is_empty() && !self.shutdown.is_abandoned() {
                let Left { unknown, unroutable } = self.publish(left).await;
                left = unknown;
                if !left.is_empty() {
                    backoff.wait().await;
                }
                // What no queue takes even after that stays in the outbox, for the sweeper.
                if !unroutable.is_empty() && !mended {
                    mended = self.mend().await;
                    left.extend(unroutable.into_iter().filter(|_| mended));
                }
            }
        }
    }

    /// Somebody deleted a queue or a binding: makes them exist again. True when they do.
    async fn mend(&self) -> bool {
        let declared = self.broker.declare(&self.definitions.topology()).await;
        let error = declared.as_ref().err().map(|e| e as &dyn std::error::Error);
        self.telemetry.part("topology", error);
        declared.is_ok()
    }

    /// Publishes once. What nobody confirmed is to be sent again at once, and all of it while
    /// the broker takes nothing in: then lanes and intake wait as well. What one full queue
    /// refuses stays in the outbox, for the sweeper, so that one participant does not hold up
    /// the others.
    async fn publish(&self, posted: Vec<Posted>) -> Left {
        let split = |Posted { posting: Posting { key, claimed_until, message }, busy }| {
            (message, ((key, claimed_until), busy))
        };
        let (messages, rest): (Vec<Outgoing>, Vec<Confirmed>) =
            posted.into_iter().map(split).unzip();
        let answers = self.broker.publish(&messages).await;
        let is_blocked = self.broker.status().publishing == Link::Blocked;
        let mut left = Left::default();
        let mut trouble = None;
        for ((message, (row, busy)), answer) in messages.into_iter().zip(rest).zip(answers) {
            let posted = |message, busy| {
                let (key, claimed_until) = row;
                Posted { posting: Posting { key, claimed_until, message }, busy }
            };
            match answer {
                Ok(()) => {
                    self.telemetry.published(kind_of(&message));
                    let _ = self.confirmed.send((row, busy)).await;
                }
                Err(PublishError::Unroutable) => {
                    self.telemetry.publish_failed("unroutable", &message.event.kind);
                    left.unroutable.push(posted(message, busy));
                }
                Err(PublishError::Refused) if !is_blocked => {
                    self.telemetry.publish_failed("refused", &message.event.kind);
                }
                Err(error @ (PublishError::Refused | PublishError::Unknown(_))) => {
                    trouble.get_or_insert(error);
                    left.unknown.push(posted(message, busy));
                }
            }
        }
        self.telemetry.part("relay", trouble.as_ref().map(|e| e as &dyn std::error::Error));
        left
    }
}

/// A channel's name without the participant: labels must not grow with the definitions.
fn kind_of(message: &Outgoing) -> &'static str {
    match message.channel {
        crate::broker::Channel::Commands(_) => "commands",
        _ => "events",
    }
}

/// Deletes confirmed rows, as many at once as have gathered.
pub(super) async fn tidy_up(
    store: Arc<dyn Store>,
    telemetry: Arc<Telemetry>,
    shutdown: Shutdown,
    mut confirmed: mpsc::Receiver<Confirmed>,
) {
    let mut batch = Vec::new();
    while confirmed.recv_many(&mut batch, 2 * MAX_BATCH).await > 0 {
        let rows: Vec<(OutboxKey, Time)> = batch.iter().map(|(row, _)| *row).collect();
        let mut backoff = Backoff::default();
        // What is not deleted is published again, which is allowed, and deleted then.
        while let Err(error) = store.delete_outbox(&rows).await {
            telemetry.part("outbox", Some(&error));
            if shutdown.is_abandoned() {
                return;
            }
            backoff.wait().await;
        }
        telemetry.outbox_deleted();
        telemetry.part("outbox", None);
        batch.clear();
    }
}

/// Claims rows that were left over and hands them to the relay, until shutdown.
pub(super) struct Sweeper {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub telemetry: Arc<Telemetry>,
    pub relay: RelayHandle,
}

impl Sweeper {
    pub async fn run(self, shutdown: Shutdown, held: Busy) {
        tokio::select! {
            () = shutdown.stopped() => {}
            () = self.sweep(held) => {}
        }
    }

    async fn sweep(&self, held: Busy) {
        // What a crash left behind is worth waiting for, also in simulated time.
        let left = self.store.counts().await.map_or(0, |counts| counts.outbox);
        let mut busy = if left == 0 {
            held
        } else {
            self.clock.sleep_until(self.clock.now() + CLAIM_LEASE + Millis(1), held).await
        };
        let mut backoff = Backoff::default();
        loop {
            match self.claim().await {
                Ok(claimed) if claimed == SWEEP_LIMIT => continue,
                Ok(_) => backoff.reset(),
                Err(error) => {
                    self.telemetry.part("sweeper", Some(&error));
                    backoff.wait().await;
                    continue;
                }
            }
            self.telemetry.part("sweeper", None);
            drop(busy);
            busy = self.clock.pause(SWEEP_EVERY).await;
        }
    }

    async fn claim(&self) -> Result<usize, crate::store::StoreError> {
        let now = self.clock.now();
        let rows = self.store.claim_outbox(now, now + CLAIM_LEASE, SWEEP_LIMIT).await?;
        let claimed = rows.len();
        for row in rows {
            match posting(row) {
                Ok(posting) => self.relay.send(Posted { posting, busy: self.clock.busy() }).await,
                Err(error) => self.telemetry.publish_failed("unreadable", &error),
            }
        }
        Ok(claimed)
    }
}

fn posting(row: OutboxRow) -> Result<Posting, String> {
    let channel = row.channel.parse()?;
    let event: Event = serde_json::from_slice(&row.message).map_err(|error| error.to_string())?;
    let OutboxRow { key, claimed_until, .. } = row;
    Ok(Posting { key, claimed_until, message: Outgoing { channel, event } })
}

/// The time before which nobody has claimed a row: for rows that the next sweep should take.
pub const UNCLAIMED: Time = Time(0);
