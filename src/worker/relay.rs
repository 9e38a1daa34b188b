//! The relay: publishes what was committed, and deletes its outbox row once confirmed.
//!
//! Right after a commit a lane hands its messages over in memory; the rows in the outbox are
//! what survives if this process does not. A message that the relay gives up for now is left in
//! the outbox: the sweeper brings it again when its claim has run out.
//!
//! While the broker is away the relay tries again, and everybody before it waits. But no single
//! message and no single queue may hold up the others: what a queue does not confirm, or the
//! broker breaks the connection for, is set aside and tried beside the rest.

mod aside;

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Shutdown;
use super::backlog::{Place, Queue, Slip, Waiting, backlog, bytes_of};
use super::definitions::Definitions;
use crate::broker::{Broker, BrokerError, Link, Outgoing, PublishError};
use crate::clock::{Backoff, Busy, Clock, from_rfc3339};
use crate::saga::{Millis, Time};
use crate::store::{OutboxKey, Store};
use crate::telemetry::Telemetry;

pub(super) use super::backlog::{Posted, RelayHandle};
use aside::{Aside, Sorted};

/// How long a row belongs to the worker that wrote or claimed it. Longer than a publication
/// usually takes, so that rows are rarely sent twice; short, because it delays the rescue of a
/// dead worker's messages.
pub(super) const CLAIM_LEASE: Millis = Millis(30_000);
/// How many messages are published as one stream of confirms.
const MAX_BATCH: usize = 500;
/// How many bytes at once: what fails is sent again as a whole.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;
/// How often a batch is tried whole before it is suspected to hold a message that breaks the
/// connection. By then some seconds have passed: a broker that restarts may fail it some times
/// although it answers already.
const WHOLE_ATTEMPTS: usize = 6;

/// The time before which nobody has claimed a row: for rows that the next sweep should take.
pub const UNCLAIMED: Time = Time(0);

pub(super) struct Relay {
    pub broker: Arc<dyn Broker>,
    pub clock: Arc<dyn Clock>,
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
    unknown: Vec<Waiting>,
    /// No queue takes it.
    unroutable: Vec<Waiting>,
    /// Why some of it is unknown.
    trouble: Option<PublishError>,
}

impl Relay {
    /// A queue for each of `count` relays.
    pub fn channels(count: usize) -> (RelayHandle, Vec<Queue>) {
        backlog(count)
    }

    /// Runs until all lanes and the sweeper are gone and everything is published.
    pub async fn run(self, queue: Queue) {
        let Queue { waiting, place } = queue;
        let aside = Aside::default();
        let (set_aside, slow) = mpsc::channel(MAX_BATCH);
        tokio::join!(
            self.publish_all(waiting, set_aside, &place, &aside),
            self.try_again(slow, &place, &aside),
        );
    }

    async fn publish_all(
        &self,
        mut waiting: mpsc::Receiver<Waiting>,
        set_aside: mpsc::Sender<Waiting>,
        place: &Place,
        aside: &Aside,
    ) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while waiting.recv_many(&mut batch, MAX_BATCH).await > 0 {
            let Sorted { brisk, slow, left } = aside.sort(batch.drain(..));
            // What finds no room is one more that the sweeper brings again.
            let full = slow.into_iter().filter_map(|slow| set_aside.try_send(slow).err());
            let full = full.map(mpsc::error::TrySendError::into_inner);
            left.into_iter().chain(full).for_each(|left| leave(place, left));
            for portion in portions(brisk) {
                self.deliver(portion, place, aside).await;
            }
        }
    }

    /// Publishes until nothing is unknown any more, or what still is has only itself to blame.
    async fn deliver(&self, portion: Vec<Waiting>, place: &Place, aside: &Aside) {
        let mut backoff = Backoff::default();
        let mut portions = vec![portion];
        let (mut attempts, mut mended) = (0, false);
        while let Some(portion) = portions.pop()
            && !self.shutdown.is_abandoned()
        {
            let whole = portion.len();
            let Left { mut unknown, unroutable, trouble } =
                self.publish(portion, place, aside).await;
            self.report(place, trouble);
            if !unroutable.is_empty() && !mended && self.mend().await {
                mended = true;
                portions.push(unroutable);
            } else {
                // What no queue takes even after that stays in the outbox.
                unroutable.into_iter().for_each(|waiting| leave(place, waiting));
            }
            if unknown.is_empty() {
                continue;
            }
            attempts += 1;
            backoff.wait().await;
            let is_suspect =
                unknown.len() == whole && attempts >= WHOLE_ATTEMPTS && self.answers().await;
            if attempts >= WHOLE_ATTEMPTS && !is_suspect {
                attempts = 0; // the broker is away, which says nothing about a message
            }
            if is_suspect && whole == 1 {
                unknown.into_iter().for_each(|alone| self.suspect(alone, place, aside));
                continue;
            }
            if is_suspect {
                backoff.reset(); // the broker is there
                portions.push(unknown.split_off(whole / 2));
            }
            portions.push(unknown);
        }
        self.report(place, None);
    }

    /// Publishes once. What one full or silent queue does not take is left in the outbox, so that
    /// one participant does not hold up the others.
    async fn publish(&self, portion: Vec<Waiting>, place: &Place, aside: &Aside) -> Left {
        let split = |Waiting { message, slip }| (message, slip);
        let (messages, slips): (Vec<Outgoing>, Vec<Slip>) = portion.into_iter().map(split).unzip();
        let answers = self.broker.publish(&messages).await;
        aside.learn(&messages, &slips, &answers);
        let is_blocked = self.broker.status().publishing == Link::Blocked;
        let mut left = Left::default();
        for ((message, slip), answer) in messages.into_iter().zip(slips).zip(answers) {
            match answer {
                Ok(()) => {
                    let decided = message.event.time.as_deref().and_then(from_rfc3339);
                    let delay = decided.map(|decided| self.clock.now() - decided);
                    self.telemetry.published(kind_of(&message), delay);
                    self.confirm(slip, place).await;
                }
                Err(PublishError::Unheard) => {
                    self.telemetry.event_unheard();
                    self.confirm(slip, place).await;
                }
                Err(PublishError::Unroutable) => {
                    self.telemetry.publish_failed("unroutable", &message.event.kind);
                    left.unroutable.push(Waiting { message, slip });
                }
                Err(PublishError::Silent) => {
                    self.telemetry.publish_failed("silent", &message.event.kind);
                    leave(place, Waiting { message, slip });
                }
                Err(PublishError::Refused) if !is_blocked => {
                    self.telemetry.publish_failed("refused", &message.event.kind);
                    leave(place, Waiting { message, slip });
                }
                Err(error @ (PublishError::Refused | PublishError::Unknown(_))) => {
                    left.trouble.get_or_insert(error);
                    left.unknown.push(Waiting { message, slip });
                }
            }
        }
        left
    }

    async fn confirm(&self, slip: Slip, place: &Place) {
        let claimed_until = place.forget(slip.key);
        let _ = self.confirmed.send(((slip.key, claimed_until), slip.busy)).await;
    }

    /// The broker breaks the connection for this message, and does so for no other.
    fn suspect(&self, waiting: Waiting, place: &Place, aside: &Aside) {
        self.telemetry.publish_failed("breaks-connection", &waiting.message.event.kind);
        aside.suspect(waiting.slip.key);
        leave(place, waiting);
    }

    /// Whether the broker is there for others, and not just short of memory.
    async fn answers(&self) -> bool {
        self.broker.status().publishing != Link::Blocked && self.declare().await.is_ok()
    }

    /// Makes queues and bindings exist again that somebody deleted. True when they do.
    async fn mend(&self) -> bool {
        let declared = self.declare().await;
        let error = declared.as_ref().err().map(|e| e as &dyn std::error::Error);
        self.telemetry.part("topology", error);
        declared.is_ok()
    }

    async fn declare(&self) -> Result<(), BrokerError> {
        self.broker.declare(&self.definitions.topology()).await
    }

    fn report(&self, place: &Place, trouble: Option<PublishError>) {
        place.report(trouble, |trouble| {
            self.telemetry.part("relay", trouble.map(|e| e as &dyn std::error::Error));
        });
    }
}

/// Leaves it in the outbox, for the sweeper.
fn leave(place: &Place, waiting: Waiting) {
    place.forget(waiting.slip.key);
}

/// Divides messages into portions that may be published at once.
fn portions(messages: Vec<Waiting>) -> Vec<Vec<Waiting>> {
    let mut portions: Vec<Vec<Waiting>> = Vec::new();
    let mut room = 0;
    for waiting in messages {
        let bytes = bytes_of(&waiting.message);
        match portions.last_mut() {
            Some(portion) if bytes <= room => portion.push(waiting),
            _ => {
                portions.push(vec![waiting]);
                room = MAX_BATCH_BYTES;
            }
        }
        room = room.saturating_sub(bytes);
    }
    portions
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

#[cfg(test)]
mod tests;
