//! Intake: takes messages from one channel, understands them, sends them to their lanes.
//!
//! It acknowledges nothing itself but what means nothing to anybody. When the broker is away
//! it tries again, with jittered backoff, for ever; when the database is away for long it hands
//! back what it took, and takes nothing more until then.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::burial::Burial;
use super::definitions::Definitions;
use super::inputs::{Read, read, unheard};
use super::lanes::Lanes;
use super::subscription::subscribe;
use super::{DATABASE, Options, Shutdown, letters};
use crate::broker::{Broker, BrokerError, Channel, Consumer, Incoming};
use crate::clock::{Backoff, Clock, wait};
use crate::telemetry::Telemetry;

/// How many messages are taken from a channel at once.
const MAX_RECEIVE: usize = 500;
/// In how many parts the time that an outage may last is looked at.
const LOOKS: u32 = 20;

pub(super) struct Intake {
    pub channel: Channel,
    /// Its name among the parts of the worker.
    pub part: &'static str,
    pub broker: Arc<dyn Broker>,
    pub clock: Arc<dyn Clock>,
    pub telemetry: Arc<Telemetry>,
    pub definitions: Definitions,
    pub lanes: Lanes,
    pub burial: mpsc::Sender<Burial>,
    pub options: Arc<Options>,
    pub shutdown: Shutdown,
}

#[derive(Debug, thiserror::Error)]
#[error("the database is away for long: what was taken in is handed back, to come again")]
struct HandedBack;

impl Intake {
    /// Runs until shutdown. The consumer is handed back, to be kept until what it delivered
    /// has been acknowledged.
    pub async fn run(self) -> Option<Box<dyn Consumer>> {
        let mut consumer = None;
        tokio::select! {
            () = self.shutdown.stopped() => {}
            () = self.receive(&mut consumer) => {}
        }
        consumer
    }

    async fn receive(&self, slot: &mut Option<Box<dyn Consumer>>) {
        let mut backoff = Backoff::default();
        loop {
            match self.subscribe().await {
                Ok(consumer) => {
                    self.telemetry.part(self.part, None);
                    backoff.reset();
                    tokio::select! {
                        error = self.drain(slot.insert(consumer)) => {
                            self.telemetry.part(self.part, Some(&error));
                        }
                        () = self.long_outage() => {
                            self.telemetry.part(self.part, Some(&HandedBack));
                            *slot = None;
                            self.outage(false).await;
                        }
                    }
                }
                Err(error) => self.telemetry.part(self.part, Some(&error)),
            }
            *slot = None;
            backoff.wait().await;
        }
    }

    /// Waits until the database has been away for as long as messages may be held for it. A
    /// broker counts a delivery for what it takes back, and gives up after some.
    async fn long_outage(&self) {
        let part = self.options.outage / LOOKS;
        loop {
            self.outage(true).await;
            let mut looks = 0;
            while looks < LOOKS && self.is_database_away() {
                wait(part).await;
                looks += 1;
            }
            if looks == LOOKS {
                return;
            }
        }
    }

    /// Waits until the database is away, or is back.
    async fn outage(&self, is_away: bool) {
        let pace = (self.options.outage / LOOKS).min(Duration::from_secs(1));
        while self.is_database_away() != is_away {
            wait(pace).await;
        }
    }

    fn is_database_away(&self) -> bool {
        self.telemetry.health.has_trouble(|part| part == DATABASE)
    }

    async fn subscribe(&self) -> Result<Box<dyn Consumer>, BrokerError> {
        let Intake { broker, telemetry, channel, .. } = self;
        let topology = self.definitions.topology();
        subscribe(&**broker, telemetry, topology, channel, self.options.prefetch).await
    }

    /// Takes messages until the subscription ends; returns why it did.
    async fn drain(&self, consumer: &mut Box<dyn Consumer>) -> BrokerError {
        let channel = self.part;
        let max_bytes = self.options.max_message_bytes;
        loop {
            let received = match consumer.receive(MAX_RECEIVE).await {
                Ok(received) => received,
                Err(error) => return error,
            };
            self.telemetry.received(channel, received.len());
            let mut catalog = self.definitions.current();
            let mut has_looked = false;
            let now = self.clock.now();
            for incoming in received {
                let mut meaning = read(incoming, &catalog, max_bytes, now);
                if let Read::Unheard { incoming, .. } = meaning {
                    // A definition published a moment ago may be the one that it is for.
                    if !has_looked {
                        self.definitions.learn(&self.shutdown).await;
                        catalog = self.definitions.current();
                        has_looked = true;
                    }
                    meaning = read(incoming, &catalog, max_bytes, now);
                }
                match meaning {
                    Read::Items(items) => self.lanes.send(items).await,
                    Read::Unheard { incoming, name } => self.unheard(incoming, &name).await,
                    Read::Dead { delivery, reason, error } => {
                        let _ = self.burial.send(Burial { delivery, reason, error }).await;
                    }
                }
            }
        }
    }

    /// An event that no definition known here is for. A fact that nobody waits for is nothing;
    /// an order that nobody takes on is a dead letter. Where a newer worker knows more than
    /// this one, neither is said before there was time to replace this one.
    async fn unheard(&self, incoming: Incoming, name: &str) {
        let is_order = incoming.channel == Channel::Orders;
        let delivery = unheard(incoming);
        let error = letters::unheard(name);
        if !self.definitions.is_complete() {
            let burial = Burial { delivery, reason: "unknown-definition", error };
            self.telemetry.set_aside(self.part, burial.reason, &burial.error);
            tokio::spawn(bury_later(
                self.burial.clone(),
                burial,
                self.options.set_aside,
                self.shutdown.clone(),
            ));
        } else if is_order {
            let _ = self.burial.send(Burial { delivery, reason: "unknown-saga", error }).await;
        } else {
            self.telemetry.ignored("irrelevant");
            delivery.finish();
        }
    }
}

/// Keeps a message out, unacknowledged, and buries it in the end. No more of them wait than
/// may be out. The word to stop lets it go, to come again.
async fn bury_later(
    graveyard: mpsc::Sender<Burial>,
    burial: Burial,
    after: Duration,
    shutdown: Shutdown,
) {
    tokio::select! {
        () = shutdown.stopped() => {}
        () = wait(after) => drop(graveyard.send(burial).await),
    }
}
