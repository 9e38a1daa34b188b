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

/// How many bytes of letters are written in one statement. A database may end the connection of
/// who sends it hundreds of megabytes, again and again; most letters are a few kilobytes.
const MAX_BYTES: usize = 8 * 1024 * 1024;

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
        let mut rest = letters.as_mut_slice();
        while !rest.is_empty() {
            let (portion, others) = rest.split_at_mut(fitting(rest));
            if !self.bury_at_once(portion).await {
                return false;
            }
            rest = others;
        }
        true
    }

    async fn bury_at_once(&self, letters: &mut [DeadLetter]) -> bool {
        let mut backoff = Backoff::default();
        while let Err(error) = self.store.bury(letters).await {
            if self.shutdown.is_abandoned() {
                return false;
            }
            self.telemetry.part("dead-letters", Some(&error));
            if error.blames_rows() {
                self.lighten(letters).await;
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
            if alone.is_err_and(|error| error.blames_rows()) {
                letter.error = "it could not be stored with what was read from it".to_owned();
                letter.headers = "{}".to_owned();
                letter.tenant = None;
                letter.order_id = None;
            }
        }
    }
}

/// How many of these letters, at least one, make a statement that is not too large.
fn fitting(letters: &[DeadLetter]) -> usize {
    let mut bytes = 0;
    let fits = |letter: &&DeadLetter| {
        bytes += letter.body.len() + letter.headers.len();
        bytes <= MAX_BYTES
    };
    letters.iter().take_while(fits).count().clamp(1, letters.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::saga::Time;

    #[test]
    fn a_statement_holds_as_many_letters_as_fit_and_at_least_one() {
        let letter = |bytes: usize| DeadLetter {
            id: uuid::Uuid::nil(),
            source: "orders".to_owned(),
            reason: "oversized".to_owned(),
            error: String::new(),
            body: vec![0; bytes],
            headers: String::new(),
            tenant: None,
            order_id: None,
            first_seen: Time(0),
            last_seen: Time(0),
            attempts: 1,
            kind: None,
            participant: None,
            corrects: None,
            closed: None,
        };
        let letters =
            |sizes: &[usize]| sizes.iter().map(|bytes| letter(*bytes)).collect::<Vec<_>>();
        assert_eq!(fitting(&letters(&[1, 2, 3])), 3);
        assert_eq!(fitting(&letters(&[MAX_BYTES, 1, 1])), 1);
        assert_eq!(fitting(&letters(&[1, MAX_BYTES / 2, MAX_BYTES / 2])), 2);
        assert_eq!(fitting(&letters(&[2 * MAX_BYTES, 1])), 1, "or it would never be written");
    }
}
