//! Rehearsing a replay: what each letter's message would do to its sagas, as they are now.
//!
//! The same reading and the same `decide` as in a lane; nothing is stored and nothing is sent.
//! Letters of one saga come one after the other, each on what the ones before would have made.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::mpsc;
use uuid::Uuid;

use super::batch::{Desk, Group, decide, group};
use super::breakers::Breakers;
use super::delivery::Delivery;
use super::inputs::{Inputs, Meaning, items, understand};
use super::letters::{destination, headers, is_ours};
use crate::broker::{Channel, envelope};
use crate::catalog::Catalog;
use crate::clock::Busy;
use crate::saga::{SagaId, Time};
use crate::store::{Change, DeadLetter, Outcome, Stored};

/// What would come of a letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foretold {
    pub letter: Uuid,
    pub outcome: Outcome,
    /// Of a failure: the reason code of the dead letter that it would be again, and why.
    pub reason: String,
    pub error: String,
}

/// What is known and was decided so far.
pub struct Rehearsal<'a> {
    catalog: &'a Catalog,
    max_message_bytes: usize,
    /// Sagas as the letters so far would have left them.
    changed: HashMap<SagaId, Stored>,
    /// Everybody is thought to be there: nobody knows who will be when it is done.
    breakers: Breakers,
}

/// What has to be read before some letters can be rehearsed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    pub sagas: Vec<SagaId>,
    /// Tenant and id of orders that would start, for which letters may be parked.
    pub orders: Vec<(String, String)>,
}

impl<'a> Rehearsal<'a> {
    #[must_use]
    pub fn new(catalog: &'a Catalog, max_message_bytes: usize) -> Rehearsal<'a> {
        let breakers = Breakers::new(Arc::default(), 1, BTreeMap::new());
        Rehearsal { catalog, max_message_bytes, changed: HashMap::new(), breakers }
    }

    /// What must be read for these letters.
    #[must_use]
    pub fn needs(&self, letters: &[DeadLetter], now: Time) -> Needs {
        let mut sagas = HashSet::new();
        let mut orders = HashSet::new();
        for letter in letters {
            let Ok((inputs, delivery)) = self.read(letter, now) else { continue };
            sagas.extend(inputs.iter().map(|(saga, _)| *saga));
            orders.extend(
                group(items(inputs, &delivery, Busy::default)).iter().filter_map(Group::order),
            );
        }
        sagas.retain(|saga| !self.changed.contains_key(saga));
        Needs { sagas: sagas.into_iter().collect(), orders: orders.into_iter().collect() }
    }

    /// What would come of these letters, in order. `stored` and `parked` are what
    /// [`Rehearsal::needs`] asked for.
    pub fn perform(
        &mut self,
        letters: &[DeadLetter],
        stored: Vec<Stored>,
        parked: &[DeadLetter],
        now: Time,
    ) -> Vec<Foretold> {
        let mut stored: HashMap<SagaId, Stored> =
            stored.into_iter().map(|stored| (stored.saga.id, stored)).collect();
        letters.iter().map(|letter| self.one(letter, &mut stored, parked, now)).collect()
    }

    fn one(
        &mut self,
        letter: &DeadLetter,
        stored: &mut HashMap<SagaId, Stored>,
        parked: &[DeadLetter],
        now: Time,
    ) -> Foretold {
        let foretold = |outcome| foretold(letter, outcome, "", "");
        if letter.closed.is_some() {
            return foretold(Outcome::Gone);
        }
        let (inputs, delivery) = match self.read(letter, now) {
            Ok(read) => read,
            Err(foretold) => return foretold,
        };
        let Rehearsal { catalog, ref breakers, .. } = *self;
        let desk = Desk { catalog, source: "/makegood", now, claimed_until: now, breakers };
        let mut worst = None;
        for group in group(items(inputs, &delivery, Busy::default)) {
            let before = self.changed.get(&group.saga).or(stored.get(&group.saga));
            let decided = decide(&desk, &group, before, &group.parked_among(parked));
            let refused = match decided.beyond_us {
                Some((reason, ref error)) => group.refuse_all(reason, error),
                None => decided.refused,
            };
            for (index, reason, error) in refused {
                if !group.waits_for_order(index, reason) {
                    note(&mut worst, self::foretold(letter, Outcome::Failed, reason, &error));
                } else if delivery.is_homeless() {
                    note(&mut worst, foretold(Outcome::Parked));
                }
            }
            for (_, outcome) in decided.replayed {
                note(&mut worst, foretold(outcome));
            }
            if let Some(after) = decided.change.and_then(|change| after(change, before)) {
                stored.remove(&after.saga.id);
                self.changed.insert(after.saga.id, after);
            }
        }
        worst.unwrap_or_else(|| foretold(Outcome::Duplicate))
    }

    /// What the letter's message means, or what comes of it without any saga.
    fn read(&self, letter: &DeadLetter, now: Time) -> Result<(Inputs, Arc<Delivery>), Foretold> {
        let headers = headers(letter);
        let body = bytes::Bytes::copy_from_slice(&letter.body);
        let failed = |reason: &str, error: &str| foretold(letter, Outcome::Failed, reason, error);
        let Some(channel) = destination(&letter.source, &headers) else {
            return Err(failed(&letter.reason, super::letters::HOMELESS));
        };
        if !is_ours(&channel) {
            return Err(match envelope::decode(&body, &headers, usize::MAX) {
                Ok(_) => foretold(letter, Outcome::Published, "", ""),
                Err(bad) => failed(bad.reason, &bad.detail),
            });
        }
        let message = (&channel, &body, &headers);
        let (named, meaning) = understand(message, self.catalog, self.max_message_bytes, now);
        match meaning {
            Meaning::Inputs(inputs) => {
                let (unheard, _) = mpsc::channel(1);
                let delivery = Delivery::of_replay(letter, unheard, inputs.len(), named);
                Ok((inputs, delivery))
            }
            Meaning::Unheard(_) if channel == Channel::Facts => {
                Err(foretold(letter, Outcome::Irrelevant, "", ""))
            }
            Meaning::Unheard(name) => Err(failed("unknown-saga", &super::letters::unheard(&name))),
            Meaning::Unusable { reason, error } => Err(failed(reason, &error)),
        }
    }
}

fn foretold(letter: &DeadLetter, outcome: Outcome, reason: &str, error: &str) -> Foretold {
    let (reason, error) = (reason.to_owned(), error.to_owned());
    Foretold { letter: letter.id, outcome, reason, error }
}

/// Of several sagas, what matters most counts.
fn note(worst: &mut Option<Foretold>, foretold: Foretold) {
    if worst.as_ref().is_none_or(|worst| worst.outcome < foretold.outcome) {
        *worst = Some(foretold);
    }
}

/// A saga as a change would leave it.
fn after(change: Change, before: Option<&Stored>) -> Option<Stored> {
    let version = change.version();
    let order = change.order.or_else(|| before.map(|before| before.order.clone()))?;
    Some(Stored { saga: change.saga, version, due: change.due, order })
}
