//! What is set aside by a relay: messages for queues that do not confirm, and messages for which
//! the broker breaks the connection. They are tried beside the others, and hold up nobody.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::{MAX_BATCH, Place, Relay, Slip, Waiting, leave, portions};
use crate::broker::{Channel, Outgoing, PublishError};
use crate::store::OutboxKey;

/// Messages under suspicion that are kept in mind. Even one is an accident; beyond this number
/// all are forgotten, and suspected anew when they fail again.
const MAX_SUSPECTS: usize = 1_000;
/// How often at most the sweeper may bring a suspect before it is tried once more, as a power of
/// two: some 64 times 30 seconds are half an hour.
const MAX_SKIPS_LOG2: u32 = 6;

/// What a relay has learned about queues and messages.
#[derive(Debug, Default)]
pub(super) struct Aside(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Channels whose queue does not confirm.
    silent: BTreeSet<Channel>,
    suspects: HashMap<OutboxKey, Suspect>,
}

/// A message for which the connection was lost although it was published alone.
#[derive(Debug, Default)]
struct Suspect {
    failures: u32,
    /// How often it is left alone before it is tried again.
    skips: u32,
}

/// A batch by how it is to be treated.
#[derive(Default)]
pub(super) struct Sorted {
    pub brisk: Vec<Waiting>,
    /// To be tried, but beside the others.
    pub slow: Vec<Waiting>,
    /// Not to be tried now.
    pub left: Vec<Waiting>,
}

impl Aside {
    pub fn sort(&self, batch: impl Iterator<Item = Waiting>) -> Sorted {
        let mut known = self.known();
        let Known { silent, suspects } = &mut *known;
        let mut sorted = Sorted::default();
        for waiting in batch {
            let place = match suspects.get_mut(&waiting.slip.key) {
                Some(suspect) if suspect.skips > 0 => {
                    suspect.skips -= 1;
                    &mut sorted.left
                }
                Some(_) => &mut sorted.slow,
                None if silent.contains(&waiting.message.channel) => &mut sorted.slow,
                None => &mut sorted.brisk,
            };
            place.push(waiting);
        }
        sorted
    }

    /// Learns from the broker's answers.
    pub fn learn(
        &self,
        messages: &[Outgoing],
        slips: &[Slip],
        answers: &[Result<(), PublishError>],
    ) {
        let mut known = self.known();
        for ((message, slip), answer) in messages.iter().zip(slips).zip(answers) {
            // An event that nobody listens to was confirmed all the same.
            let is_confirmed = matches!(answer, Ok(()) | Err(PublishError::Unheard));
            if is_confirmed && !known.silent.is_empty() {
                known.silent.remove(&message.channel);
            }
            if is_confirmed && !known.suspects.is_empty() {
                known.suspects.remove(&slip.key);
            }
        }
        // After the good answers: a queue falls silent in the middle of a batch.
        for (message, answer) in messages.iter().zip(answers) {
            if *answer == Err(PublishError::Silent) {
                known.silent.insert(message.channel.clone());
            }
        }
    }

    /// Leaves this message alone for longer and longer.
    pub fn suspect(&self, key: OutboxKey) {
        let mut known = self.known();
        if known.suspects.len() >= MAX_SUSPECTS {
            known.suspects.clear();
        }
        let suspect = known.suspects.entry(key).or_default();
        suspect.skips = 1 << suspect.failures.min(MAX_SKIPS_LOG2);
        suspect.failures += 1;
    }

    fn is_suspect(&self, waiting: &Waiting) -> bool {
        self.known().suspects.contains_key(&waiting.slip.key)
    }

    fn is_silent(&self, channel: &Channel) -> bool {
        self.known().silent.contains(channel)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Relay {
    /// Tries what was set aside, until nothing comes any more. The word to stop ends it at once:
    /// all of it is in the outbox.
    pub(super) async fn try_again(
        &self,
        mut slow: mpsc::Receiver<Waiting>,
        place: &Place,
        aside: &Aside,
    ) {
        let work = async {
            let mut batch = Vec::new();
            while slow.recv_many(&mut batch, MAX_BATCH).await > 0 {
                let (suspects, others) = batch.drain(..).partition(|w| aside.is_suspect(w));
                self.try_alone(suspects, place, aside).await;
                self.scout(others, place, aside).await;
            }
        };
        tokio::select! {
            () = self.shutdown.stopped() => {}
            () = work => {}
        }
    }

    /// Publishes each by itself, so that it can harm no other.
    async fn try_alone(&self, suspects: Vec<Waiting>, place: &Place, aside: &Aside) {
        for suspect in suspects {
            let left = self.publish(vec![suspect], place, aside).await;
            let is_to_blame = !left.unknown.is_empty() && self.answers().await;
            for waiting in left.unknown.into_iter().chain(left.unroutable) {
                match is_to_blame {
                    true => self.suspect(waiting, place, aside),
                    false => leave(place, waiting),
                }
            }
        }
    }

    /// Publishes one message to each silent queue; the others follow where it was confirmed.
    async fn scout(&self, messages: Vec<Waiting>, place: &Place, aside: &Aside) {
        let mut channels = BTreeSet::new();
        let (scouts, others): (Vec<_>, Vec<_>) =
            messages.into_iter().partition(|w| channels.insert(w.message.channel.clone()));
        if scouts.is_empty() {
            return;
        }
        let left = self.publish(scouts, place, aside).await;
        let (hopeless, hopeful): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|w| aside.is_silent(&w.message.channel));
        let left = left.unknown.into_iter().chain(left.unroutable);
        left.chain(hopeless).for_each(|waiting| leave(place, waiting));
        for portion in portions(hopeful) {
            self.deliver(portion, place, aside).await;
        }
    }
}
