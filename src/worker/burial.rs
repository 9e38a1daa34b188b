//! Dead letters: written down first, acknowledged after.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Shutdown;
use super::delivery::Delivery;
use crate::clock::{Backoff, Clock};
use crate::store::{DeadLetter, Store};
use crate::telemetry::Telemetry;

/// How many unusable messages may wait to be written down.
const QUEUE: usize = 500;

/// A message that cannot be processed, on its way to the dead letters.
pub(super) struct Burial {
    pub delivery: Arc<Delivery>,
    pub reason: &'static str,
    pub error: String,
}

pub(super) fn channel() -> (mpsc::Sender<Burial>, mpsc::Receiver<Burial>) {
    mpsc::channel(QUEUE)
}

/// Where dead letters are written.
#[derive(Clone)]
pub(super) struct Graveyard {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub telemetry: Arc<Telemetry>,
    pub shutdown: Shutdown,
}

impl Graveyard {
    /// Writes letters, as many at once as have gathered, and acknowledges them after commit.
    /// Runs until nobody sends any more.
    pub async fn run(self, mut queue: mpsc::Receiver<Burial>) {
        let mut batch = Vec::new();
        while queue.recv_many(&mut batch, QUEUE).await > 0 {
            let now = self.clock.now();
            let letter =
                |burial: &Burial| burial.delivery.letter(burial.reason, &burial.error, now);
            let letters: Vec<DeadLetter> = batch.iter().map(letter).collect();
            for letter in &letters {
                self.telemetry.dead_letter(&letter.reason, &letter.source, &letter.error);
            }
            if self.bury(letters).await {
                batch.iter().for_each(|burial| burial.delivery.finish());
            }
            batch.clear();
        }
    }

    /// Writes letters, for as long as that takes. False when the worker was told to stop first:
    /// then nothing of theirs may be acknowledged.
    pub async fn bury(&self, mut letters: Vec<DeadLetter>) -> bool {
        if letters.is_empty() {
            return true;
        }
        let mut backoff = Backoff::default();
        while let Err(error) = self.store.bury(&letters).await {
            if self.shutdown.is_abandoned() {
                return false;
            }
            self.telemetry.part("dead-letters", Some(&error));
            if error.blames_rows() {
                self.lighten(&mut letters).await;
            }
            backoff.wait().await;
        }
        self.telemetry.part("dead-letters", None);
        true
    }

    /// A letter that the database will never take as it is must not keep the others, nor be
    /// lost itself: its raw bytes are kept, and what was read from them is left out.
    async fn lighten(&self, letters: &mut [DeadLetter]) {
        for letter in letters {
            let alone = self.store.bury(std::slice::from_ref(letter)).await;
            if let Err(error) = alone
                && error.blames_rows()
            {
                letter.error = "it could not be stored with what was read from it".to_owned();
                letter.headers = "{}".to_owned();
                letter.tenant = None;
                letter.order_id = None;
            }
        }
    }
}
