//! What waits for the relays in memory: bounded by number and by bytes, each message once.
//!
//! A message may be handed over twice: by the lane that wrote it, and by the sweeper when the
//! broker was away for so long that its claim ran out. The second time only renews the claim.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::message::Posting;
use crate::broker::{Outgoing, PublishError};
use crate::clock::Busy;
use crate::saga::Time;
use crate::store::OutboxKey;

/// How many messages may wait for one relay; beyond that lanes wait, and with them intake.
const MAX_MESSAGES: usize = 4_000;
/// How many bytes may wait for one relay: thousands of usual messages, and some hundreds of
/// those with the largest orders.
const MAX_BYTES: u32 = 64 * 1024 * 1024;

/// A committed message on its way to the relay.
#[derive(Debug)]
pub(super) struct Posted {
    pub posting: Posting,
    /// Keeps simulated time from going on until it is published.
    pub busy: Busy,
}

/// Where messages are handed over. The relays end when all of these are gone.
#[derive(Debug, Clone)]
pub(super) struct RelayHandle {
    entrances: Arc<[Entrance]>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Entrance {
    queue: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
}

/// One relay's end of it.
#[derive(Debug)]
pub(super) struct Queue {
    pub waiting: mpsc::Receiver<Waiting>,
    pub place: Place,
}

/// A relay's place among the others.
#[derive(Debug)]
pub(super) struct Place {
    number: usize,
    shared: Arc<Shared>,
}

/// A message that waits, or is being published.
#[derive(Debug)]
pub(super) struct Waiting {
    pub message: Outgoing,
    pub slip: Slip,
}

/// What stays behind of a message when it is published.
#[derive(Debug)]
pub(super) struct Slip {
    pub key: OutboxKey,
    pub busy: Busy,
    _room: Option<OwnedSemaphorePermit>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Every message in memory, with the newest claim on its outbox row.
    claims: Mutex<HashMap<OutboxKey, Time>>,
    /// What is wrong with each relay, if anything.
    troubles: Mutex<Vec<Option<PublishError>>>,
}

/// A way in for all, and a queue for each of `relays`.
pub(super) fn backlog(relays: usize) -> (RelayHandle, Vec<Queue>) {
    let shared = Arc::new(Shared::default());
    *shared.troubles() = vec![None; relays];
    let pair = |number| {
        let (queue, waiting) = mpsc::channel(MAX_MESSAGES);
        let room = Arc::new(Semaphore::new(MAX_BYTES as usize));
        let place = Place { number, shared: shared.clone() };
        (Entrance { queue, room }, Queue { waiting, place })
    };
    let (entrances, queues): (Vec<_>, Vec<_>) = (0..relays).map(pair).unzip();
    (RelayHandle { entrances: entrances.into(), shared }, queues)
}

impl RelayHandle {
    /// Waits while the relay is behind: that is the back pressure of a broker that is away. A
    /// message that is in memory already is not taken in again.
    pub async fn send(&self, Posted { posting, busy }: Posted) {
        let Posting { key, claimed_until, message } = posting;
        if !self.shared.is_new(key, claimed_until) {
            return;
        }
        let entrance = &self.entrances[key.saga.share_of(self.entrances.len())];
        let bytes = u32::try_from(bytes_of(&message)).unwrap_or(MAX_BYTES).min(MAX_BYTES);
        // Neither is ever closed while there is somebody to send.
        let room = entrance.room.clone().acquire_many_owned(bytes).await.ok();
        let slip = Slip { key, busy, _room: room };
        let _ = entrance.queue.send(Waiting { message, slip }).await;
    }

    /// Whether some relay cannot get rid of what it has.
    pub fn is_in_trouble(&self) -> bool {
        self.shared.troubles().iter().any(Option::is_some)
    }
}

#[cfg(test)]
impl RelayHandle {
    pub fn holds(&self, key: OutboxKey) -> bool {
        self.shared.claims().contains_key(&key)
    }

    pub fn is_empty(&self) -> bool {
        self.shared.claims().is_empty()
    }
}

impl Place {
    /// It is out of memory now. Returns the newest claim on its row.
    pub fn forget(&self, key: OutboxKey) -> Time {
        self.shared.claims().remove(&key).unwrap_or(super::UNCLAIMED)
    }

    /// Notes what is wrong with this relay; `tell` hears what is wrong with all of them: one
    /// relay's success does not hide another one's trouble.
    pub fn report(&self, trouble: Option<PublishError>, tell: impl FnOnce(Option<&PublishError>)) {
        let mut troubles = self.shared.troubles();
        troubles[self.number] = trouble;
        tell(troubles.iter().flatten().next());
    }
}

impl Shared {
    fn is_new(&self, key: OutboxKey, claimed_until: Time) -> bool {
        let mut is_new = false;
        let mut claims = self.claims();
        let claim = claims.entry(key).or_insert_with(|| {
            is_new = true;
            claimed_until
        });
        *claim = claimed_until.max(*claim);
        is_new
    }

    fn claims(&self) -> MutexGuard<'_, HashMap<OutboxKey, Time>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn troubles(&self) -> MutexGuard<'_, Vec<Option<PublishError>>> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Its payload; the attributes of what goes out are small.
pub(super) fn bytes_of(message: &Outgoing) -> usize {
    message.event.data().len()
}
