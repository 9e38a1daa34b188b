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
use super::{Options, Shutdown};
use crate::broker::{Broker, BrokerError, Channel, Consumer, Topology};
use crate::clock::{Backoff, Clock};
use crate::telemetry::Telemetry;

/// How many messages are taken from a channel at once.
const MAX_RECEIVE: usize = 500;
/// The most messages out unacknowledged on the dead-letter queue. They come seldom, and some may
/// be there because their size was what killed a worker: a thousand of those must not meet.
const DEAD_PREFETCH: u16 = 10;

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
        let topology = self.definitions.topology();
        match self.broker.declare(&topology).await {
            Ok(()) => self.telemetry.part("topology", None),
            // A participant's queue that is not as it should be is told, and holds up nobody
            // else: what this channel itself needs is looked at without the participants.
            Err(error @ BrokerError::Mismatch { .. }) => {
                self.telemetry.part("topology", Some(&error));
                let ours = Topology { participants: Vec::new(), ..topology };
                self.broker.declare(&ours).await?;
            }
            Err(error) => return Err(error),
        }
        let most = if self.channel == Channel::Dead { DEAD_PREFETCH } else { u16::MAX };
        self.broker.consume(&self.channel, self.options.prefetch.min(most)).await
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use tempfile::TempDir;

    use super::*;
    use crate::broker::{Outgoing, PublishError};
    use crate::clock::SystemClock;
    use crate::store::sqlite::{Durability, SqliteStore};

    /// Has a participant's queue with other properties, and knows who wants how much.
    #[derive(Default)]
    struct Picky {
        declared: Mutex<usize>,
        consumed: Mutex<Vec<(Channel, u16)>>,
    }

    #[async_trait]
    impl Broker for Picky {
        async fn declare(&self, _: &Topology) -> Result<(), BrokerError> {
            let mut declared = self.declared.lock().unwrap();
            *declared += 1;
            let (what, detail) = ("the queue 'wms.commands'".to_owned(), String::new());
            // The second time it is asked without the participants.
            if declared.is_multiple_of(2) {
                Ok(())
            } else {
                Err(BrokerError::Mismatch { what, detail })
            }
        }

        async fn consume(
            &self,
            channel: &Channel,
            prefetch: u16,
        ) -> Result<Box<dyn Consumer>, BrokerError> {
            self.consumed.lock().unwrap().push((channel.clone(), prefetch));
            Err(BrokerError::Unavailable { during: "a test", source: None })
        }

        async fn publish(&self, _: &[Outgoing]) -> Vec<Result<(), PublishError>> {
            Vec::new()
        }

        async fn close(&self) {}
    }

    #[tokio::test]
    async fn a_strange_queue_is_told_and_the_dead_are_taken_in_few_at_a_time() {
        let folder = TempDir::new().unwrap();
        let clock = Arc::new(SystemClock::default());
        let file = folder.path().join("makegood.db");
        let store = SqliteStore::open(&file, clock.clone(), Durability::ProcessCrash);
        let store = Arc::new(store.await.unwrap());
        let (broker, telemetry) = (Arc::new(Picky::default()), Arc::new(Telemetry::new()));
        let (lanes, _queues) = Lanes::new(1);
        let (burial, _graves) = super::super::burial::channel();
        for (channel, part) in super::super::CHANNELS {
            let intake = Intake {
                channel,
                part,
                broker: broker.clone(),
                clock: clock.clone(),
                telemetry: telemetry.clone(),
                definitions: Definitions::new(store.clone(), broker.clone(), telemetry.clone()),
                lanes: lanes.clone(),
                burial: burial.clone(),
                options: Arc::new(Options::default()),
            };
            assert!(intake.subscribe().await.is_err());
        }
        let usual = Options::default().prefetch;
        let expected = [
            (Channel::Orders, usual),
            (Channel::Replies, usual),
            (Channel::Facts, usual),
            (Channel::Dead, DEAD_PREFETCH),
        ];
        assert_eq!(*broker.consumed.lock().unwrap(), expected);
        let (_, parts) = telemetry.health.report();
        assert!(parts["topology"].as_ref().is_some_and(|said| said.contains("wms.commands")));
    }
}
