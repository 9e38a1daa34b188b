//! The way to the lanes: all messages about one saga go through the same one.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::inputs::Item;

/// How many messages may wait for a lane; beyond that intake waits, and with it the broker.
const QUEUE: usize = 1_000;

#[derive(Debug, Clone)]
pub(super) struct Lanes(Arc<[mpsc::Sender<Vec<Item>>]>);

impl Lanes {
    pub fn new(count: usize) -> (Lanes, Vec<mpsc::Receiver<Vec<Item>>>) {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..count).map(|_| mpsc::channel(QUEUE)).unzip();
        (Lanes(senders.into()), receivers)
    }

    /// Sends all inputs of one message. Waits while the lane is full. After shutdown they are
    /// dropped: their message was not acknowledged and comes again.
    pub async fn send(&self, items: Vec<Item>) {
        let Some(first) = items.first() else { return };
        let lane = first.saga.share_of(self.0.len());
        let _ = self.0[lane].send(items).await;
    }
}
