//! Intake: takes messages from one channel, understands them, sends them to their lanes.
//!
//! It acknowledges nothing itself but what means nothing to anybody. When the broker is away
//! it tries again, with jittered backoff, for ever.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::burial::Burial;
use super::definitions::Definitions;
use super::inputs::{Read, read};
use super::lanes::Lanes;
use super::subscription::subscribe;
use super::{Options, Shutdown};
use crate::broker::{Broker, BrokerError, Channel, Consumer};
use crate::clock::{Backoff, Clock};
use crate::telemetry::Telemetry;

/// How many messages are taken from a channel at once.
const MAX_RECEIVE: usize = 500;

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
        let Intake { broker, telemetry, channel, .. } = self;
        let topology = self.definitions.topology();
        subscribe(&**broker, telemetry, topology, channel, self.options.prefetch).await
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
                        self.lanes.send(items).await;
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
