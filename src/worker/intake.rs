//! Intake: takes messages from one channel, understands them, sends them to their lanes.
//!
//! It acknowledges nothing itself but what means nothing to anybody. When the broker is away
//! it tries again, with jittered backoff, for ever.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::definitions::Definitions;
use super::delivery::Delivery;
use super::inputs::{Read, read};
use super::lane::Lanes;
use super::{Backoff, Options, Shutdown};
use crate::broker::{Broker, BrokerError, Channel, Consumer};
use crate::clock::Clock;
use crate::store::{DeadLetter, Store};
use crate::telemetry::Telemetry;

/// How many messages are taken from a channel at once.
const MAX_RECEIVE: usize = 500;
/// How many unusable messages may wait to be written down.
const BURIAL_QUEUE: usize = 500;

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
}

impl Intake {
    /// Runs until shutdown. The consumer is handed back, to be kept until what it delivered
    /// has been acknowledged.
    pub async fn run(self, shutdown: Shutdown) -> Option<Box<dyn Consumer>> {
        let mut consumer = None;
        tokio::select! {
            () = shutdown.stopped() => {}
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
                    let error = self.drain(slot.insert(consumer)).await;
                    self.telemetry.part(self.part, Some(&error));
                }
                Err(error) => self.telemetry.part(self.part, Some(&error)),
            }
            *slot = None;
            backoff.wait().await;
        }
    }

    async fn subscribe(&self) -> Result<Box<dyn Consumer>, BrokerError> {
        self.broker.declare(&self.definitions.topology()).await?;
        self.broker.consume(&self.channel, self.options.prefetch).await
    }

    /// Takes messages until the subscription ends; returns why it did.
    async fn drain(&self, consumer: &mut Box<dyn Consumer>) -> BrokerError {
        let channel = self.part;
        loop {
            let received = match consumer.receive(MAX_RECEIVE).await {
                Ok(received) => received,
                Err(error) => return error,
            };
            self.telemetry.received(channel, received.len());
            let catalog = self.definitions.current();
            let now = self.clock.now();
            for incoming in received {
                match read(incoming, &catalog, self.options.max_message_bytes, now) {
                    Read::Items(items) => {
                        for item in items {
                            self.lanes.send(item).await;
                        }
                    }
                    Read::Irrelevant(delivery) => {
                        self.telemetry.ignored("irrelevant");
                        delivery.finish();
                    }
                    Read::Dead { delivery, reason, error } => {
                        let burial = Burial { delivery, reason, error };
                        let _ = self.burial.send(burial).await;
                    }
                }
            }
        }
    }
}

/// A message that cannot be processed, on its way to the dead letters.
pub(super) struct Burial {
    delivery: Arc<Delivery>,
    reason: &'static str,
    error: String,
}

pub(super) fn burial_channel() -> (mpsc::Sender<Burial>, mpsc::Receiver<Burial>) {
    mpsc::channel(BURIAL_QUEUE)
}

/// Writes dead letters, as many at once as have gathered, and acknowledges them after commit.
pub(super) async fn bury(
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    telemetry: Arc<Telemetry>,
    shutdown: Shutdown,
    mut queue: mpsc::Receiver<Burial>,
) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, BURIAL_QUEUE).await > 0 {
        let now = clock.now();
        let letter = |burial: &Burial| burial.delivery.letter(burial.reason, &burial.error, now);
        let letters: Vec<DeadLetter> = batch.iter().map(letter).collect();
        let mut backoff = Backoff::default();
        let buried = loop {
            match store.bury(&letters).await {
                Ok(()) => break true,
                Err(_) if shutdown.is_abandoned() => break false,
                Err(error) => {
                    telemetry.part("dead-letters", Some(&error));
                    backoff.wait().await;
                }
            }
        };
        for (burial, letter) in batch.drain(..).zip(&letters).filter(|_| buried) {
            telemetry.dead_letter(burial.reason, &letter.source, &burial.error);
            burial.delivery.finish();
        }
        telemetry.part("dead-letters", None);
    }
}
