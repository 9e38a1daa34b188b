//! A corrected copy of a letter: a letter of its own, linked to the original; both are kept.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use uuid::Uuid;

use super::{By, EDIT, LetterError, deed, open};
use crate::operate::definitions;
use crate::order::masked;
use crate::saga::Time;
use crate::store::{DeadLetter, LetterDeed, Outcome, Store};
use crate::worker::{Foretold, Rehearsal, describe};

/// Reason of a corrected copy that was not replayed yet.
const CORRECTED: &str = "corrected";

/// What is to be other than in the original.
#[derive(Debug, Clone, Default)]
pub struct Change {
    pub body: Option<Vec<u8>>,
    /// Headers to set; those without a value are taken out.
    pub headers: Vec<(String, Option<String>)>,
}

/// A corrected copy, and what would come of it.
#[derive(Debug, Clone, Serialize)]
pub struct Correction {
    pub original: Uuid,
    /// Its id. `None` when nothing was written.
    pub copy: Option<Uuid>,
    /// What a replay of it would do now.
    pub outcome: &'static str,
    pub reason: String,
    pub error: String,
}

/// Makes a corrected copy of an open letter, and closes the original. With `dry_run` nothing is
/// written; with `anyway` also a copy is kept that would be dead again.
///
/// # Errors
/// When the letter is not open, the copy says the same, would be dead again, or holds card data.
pub async fn correct(
    store: &dyn Store,
    id: Uuid,
    change: &Change,
    (dry_run, anyway, max_message_bytes): (bool, bool, usize),
    by: By<'_>,
) -> Result<Correction, LetterError> {
    let original = open(store, &[id]).await?.pop().ok_or(LetterError::NoSuchLetter(id))?;
    let now = store.now().await?;
    let catalog = definitions(store).await?;
    let mut copy = changed(&original, change, now)?;
    let described = describe(&copy, &catalog, now);
    copy.kind = described.kind;
    copy.participant = described.participant;
    copy.tenant = described.tenant;
    copy.order_id = described.order_id;
    let mut rehearsal = Rehearsal::new(&catalog, max_message_bytes);
    let letters = std::slice::from_ref(&copy);
    let needs = rehearsal.needs(letters, now);
    let (stored, parked) = (store.load(&needs.sagas).await?, store.parked(&needs.orders).await?);
    let foretold = rehearsal.perform(letters, stored, &parked, now).remove(0);
    let Foretold { outcome, reason, error, .. } = foretold;
    if outcome == Outcome::Failed && !anyway {
        return Err(LetterError::StillDead { reason, error });
    }
    // What waits for its order goes on waiting, and is taken in with it.
    if outcome == Outcome::Parked {
        copy.reason = DeadLetter::UNKNOWN_ORDER.to_owned();
    }
    let outcome = outcome.as_str();
    let correction = |copy| Correction { original: id, copy, outcome, reason, error };
    if dry_run {
        return Ok(correction(None));
    }
    // The deed has the id of the copy: so the original tells of it.
    let deed = LetterDeed { id: copy.id, ..deed(store, id, EDIT, by).await? };
    match store.letters().correct(&copy, &deed).await? {
        true => Ok(correction(Some(copy.id))),
        false => Err(LetterError::Busy),
    }
}

fn changed(original: &DeadLetter, change: &Change, now: Time) -> Result<DeadLetter, LetterError> {
    let body = change.body.clone().unwrap_or_else(|| original.body.clone());
    let mut headers: BTreeMap<String, String> =
        serde_json::from_str(&original.headers).unwrap_or_default();
    for (name, value) in &change.headers {
        match value {
            Some(value) => headers.insert(name.to_ascii_lowercase(), value.clone()),
            None => headers.remove(&name.to_ascii_lowercase()),
        };
    }
    let headers = serde_json::to_string(&headers).unwrap_or_default();
    if body == original.body && headers == original.headers {
        return Err(LetterError::Unchanged);
    }
    if matches!(masked(&body), Cow::Owned(_)) {
        return Err(LetterError::CardData);
    }
    Ok(DeadLetter {
        id: Uuid::now_v7(),
        reason: CORRECTED.to_owned(),
        error: format!("a corrected copy of {}, not replayed yet", original.id),
        body,
        headers,
        first_seen: now,
        last_seen: now,
        attempts: 0,
        corrects: Some(original.id),
        closed: None,
        ..original.clone()
    })
}
