//! Rehearsing a replay over all letters of a filter, in portions.

use std::collections::BTreeMap;

use serde::Serialize;
use uuid::Uuid;

use super::LetterError;
use crate::operate::definitions;
use crate::store::{LetterFilter, MAX_LETTERS, Outcome, Store};
use crate::worker::{Foretold, Rehearsal};

/// Letters that are read and rehearsed at once.
const PORTION: usize = 500;
/// Different failures, and compensations, that are told one by one.
const MAX_TOLD: usize = 100;

/// What a replay would do now.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Rehearsed {
    pub letters: u64,
    /// How many letters come to which outcome.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Why letters would be dead again: the first hundred different reasons and errors.
    pub failures: Vec<Again>,
    /// Letters that would make their saga undo what was done: the first hundred.
    pub compensating: Vec<Uuid>,
}

/// Letters that would be dead again, all for the same reason.
#[derive(Debug, Clone, Serialize)]
pub struct Again {
    pub reason: String,
    pub error: String,
    pub letters: u64,
    /// One of them.
    pub such_as: Uuid,
}

impl Rehearsed {
    fn note(&mut self, foretold: Foretold) {
        self.letters += 1;
        *self.outcomes.entry(foretold.outcome.as_str()).or_default() += 1;
        let Foretold { letter, outcome, reason, error } = foretold;
        match outcome {
            Outcome::Failed => {
                let is_same = |known: &&mut Again| known.reason == reason && known.error == error;
                if let Some(known) = self.failures.iter_mut().find(is_same) {
                    known.letters += 1;
                } else if self.failures.len() < MAX_TOLD {
                    self.failures.push(Again { reason, error, letters: 1, such_as: letter });
                }
            }
            Outcome::Compensating if self.compensating.len() < MAX_TOLD => {
                self.compensating.push(letter);
            }
            _ => {}
        }
    }
}

/// Runs the open letters that match through the pure core, against the sagas as they are now.
/// `progress` is told how many are done. Nothing is stored and nothing is sent.
///
/// # Errors
/// When the store cannot be read.
pub async fn rehearse(
    store: &dyn Store,
    filter: &LetterFilter,
    max_message_bytes: usize,
    mut progress: impl FnMut(u64),
) -> Result<Rehearsed, LetterError> {
    let catalog = definitions(store).await?;
    let mut rehearsal = Rehearsal::new(&catalog, max_message_bytes);
    let mut rehearsed = Rehearsed::default();
    let mut after = None;
    while rehearsed.letters < MAX_LETTERS as u64 {
        let letters = store.letters().page(filter, after, PORTION).await?;
        let Some(last) = letters.last() else { break };
        after = Some((last.first_seen, last.id));
        let now = store.now().await?;
        let needs = rehearsal.needs(&letters, now);
        let stored = store.load(&needs.sagas).await?;
        let parked = store.parked(&needs.orders).await?;
        for foretold in rehearsal.perform(&letters, stored, &parked, now) {
            rehearsed.note(foretold);
        }
        progress(rehearsed.letters);
    }
    Ok(rehearsed)
}
