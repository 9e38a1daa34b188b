//! How a channel is begun to be consumed: what must exist is declared first.

use crate::broker::{Broker, BrokerError, Channel, Consumer, Topology};
use crate::telemetry::Telemetry;

/// The most messages out unacknowledged on the dead-letter queue. They come seldom, and some may
/// be there because their size was what killed a worker: a thousand of those must not meet.
const DEAD_PREFETCH: u16 = 10;

/// Declares, and begins to consume. A participant's queue that is not as it should be is told,
/// and holds up nobody else: what the channel itself needs is looked at without the participants.
pub(super) async fn subscribe(
    broker: &dyn Broker,
    telemetry: &Telemetry,
    topology: Topology,
    channel: &Channel,
    prefetch: u16,
) -> Result<Box<dyn Consumer>, BrokerError> {
    match broker.declare(&topology).await {
        // Also where somebody else could not: nobody may ever declare again.
        Ok(()) => telemetry.part("topology", None),
        Err(error @ BrokerError::Mismatch { .. }) => {
            telemetry.part("topology", Some(&error));
            let ours = Topology { participants: Vec::new(), ..topology };
            broker.declare(&ours).await?;
        }
        Err(error) => return Err(error),
    }
    let most = if *channel == Channel::Dead { DEAD_PREFETCH } else { u16::MAX };
    broker.consume(channel, prefetch.min(most)).await
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;
    use crate::broker::{Outgoing, PublishError};

    /// Knows what it was asked for, and has a participant's queue with other properties.
    #[derive(Default)]
    struct Picky(Mutex<Vec<(Channel, u16)>>);

    #[async_trait]
    impl Broker for Picky {
        async fn declare(&self, topology: &Topology) -> Result<(), BrokerError> {
            if !topology.participants.contains(&"wms".to_owned()) {
                return Ok(());
            }
            let (what, detail) = ("the queue 'wms.commands'".to_owned(), String::new());
            Err(BrokerError::Mismatch { what, detail })
        }

        async fn consume(
            &self,
            channel: &Channel,
            prefetch: u16,
        ) -> Result<Box<dyn Consumer>, BrokerError> {
            self.0.lock().unwrap().push((channel.clone(), prefetch));
            Err(BrokerError::Unavailable { during: "a test", source: None })
        }

        async fn publish(&self, _: &[Outgoing]) -> Vec<Result<(), PublishError>> {
            Vec::new()
        }

        async fn close(&self) {}
    }

    fn with(participant: &str) -> Topology {
        Topology { participants: vec![participant.to_owned()], ..Topology::default() }
    }

    #[tokio::test]
    async fn a_participants_strange_queue_is_told_and_holds_up_nobody() {
        let (broker, telemetry) = (Picky::default(), Telemetry::new());
        let subscribe = async |participant| {
            let channel = Channel::Orders;
            assert!(subscribe(&broker, &telemetry, with(participant), &channel, 7).await.is_err());
            telemetry.health.report().1["topology"].clone()
        };
        assert!(subscribe("wms").await.is_some_and(|said| said.contains("wms.commands")));
        assert_eq!(subscribe("tms").await, None, "mended is said as well");
        assert_eq!(broker.0.lock().unwrap().len(), 2, "it is consumed all the same");
    }

    #[tokio::test]
    async fn the_dead_are_taken_in_few_at_a_time() {
        let (broker, telemetry) = (Picky::default(), Telemetry::new());
        for (channel, expected) in [(Channel::Replies, 1_000), (Channel::Dead, DEAD_PREFETCH)] {
            let topology = with("tms");
            assert!(subscribe(&broker, &telemetry, topology, &channel, 1_000).await.is_err());
            assert_eq!(broker.0.lock().unwrap().pop(), Some((channel, expected)));
        }
    }
}
