//! Dead letters, for whoever is on call: which there are and why, and what can be done.
//!
//! A replay is a campaign: its letters are fixed when it is made, it goes on by itself on the
//! workers, and it stops by itself when too much fails. Nothing here sends anything.

mod campaign;
mod correct;
mod rehearse;
mod view;

use uuid::Uuid;

pub use campaign::{
    CampaignView, Failure, Started, campaign, campaigns, cancel, pause, resume, start,
};
pub use correct::{Change, Correction, correct};
pub use rehearse::{Again, Rehearsed, rehearse};
pub use view::{Event, GroupView, LetterSummary, LetterView, body, escaped, groups, letters, show};

use crate::store::{DeadLetter, LetterDeed, LetterFilter, Letters, MAX_LETTERS, Store, StoreError};

/// Who does something, and why.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    pub actor: &'a str,
    pub reason: &'a str,
}

#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    #[error("there is no dead letter {0}: `makegood dead list --each` shows those that there are")]
    NoSuchLetter(Uuid),
    #[error("the dead letter {letter} was {how} on {at}: `makegood dead show {letter}` tells more")]
    Closed { letter: Uuid, how: &'static str, at: String },
    #[error(
        "a replay of the dead letter {letter} is under way: wait for it, or \
         `makegood dead campaign cancel {campaign}` first"
    )]
    Replaying { letter: Uuid, campaign: Uuid },
    #[error("no open dead letter matches: `makegood dead list` shows those that there are")]
    NothingMatches,
    #[error("there is no campaign {0}: `makegood dead campaign list` shows those that there are")]
    NoSuchCampaign(Uuid),
    #[error("the campaign {campaign} is {state}: {hint}")]
    CampaignIs { campaign: Uuid, state: &'static str, hint: &'static str },
    #[error("the corrected copy would be dead again ({reason}): {error}")]
    StillDead { reason: String, error: String },
    #[error("the corrected copy says the same as the original: nothing would change")]
    Unchanged,
    #[error("the corrected copy holds card data: Makegood keeps none")]
    CardData,
    #[error("it changed under every attempt; try again")]
    Busy,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The open letters with these ids.
///
/// # Errors
/// When one of them is not there, is closed, or is being replayed.
pub async fn open(store: &dyn Store, ids: &[Uuid]) -> Result<Vec<DeadLetter>, LetterError> {
    let filter = LetterFilter { also_closed: true, ..LetterFilter::ids(ids) };
    let found = store.letters().page(&filter, None, ids.len()).await?;
    for id in ids {
        let letter = found.iter().find(|letter| letter.id == *id);
        let letter = letter.ok_or(LetterError::NoSuchLetter(*id))?;
        if let Some((how, at)) = letter.closed {
            let (how, at) = (how.as_str(), crate::clock::rfc3339(at));
            return Err(LetterError::Closed { letter: *id, how, at });
        }
    }
    match store.letters().outstanding(ids).await?.first() {
        Some(replay) => {
            let (letter, campaign) = (replay.letter, replay.campaign);
            Err(LetterError::Replaying { letter, campaign })
        }
        None => Ok(found),
    }
}

/// How many open letters match. Those that are named must be there.
///
/// # Errors
/// When none matches, or as [`open`].
pub async fn count(store: &dyn Store, filter: &LetterFilter) -> Result<u64, LetterError> {
    if let Some(ids) = &filter.ids {
        open(store, ids).await?;
    }
    match store.letters().count(filter).await? {
        0 => Err(LetterError::NothingMatches),
        count => Ok(count),
    }
}

/// Closes open letters for good; they are kept for some weeks more. Returns how many. Those of
/// which a replay is under way are left alone.
///
/// # Errors
/// As [`count`].
pub async fn discard(
    store: &dyn Store,
    filter: &LetterFilter,
    by: By<'_>,
) -> Result<u64, LetterError> {
    count(store, filter).await?;
    let deed = deed(store, Uuid::nil(), "discard", by).await?;
    Ok(store.letters().discard(filter, MAX_LETTERS, &deed).await?)
}

/// The verb of a correction.
const EDIT: &str = "edit";

async fn deed(
    store: &dyn Store,
    subject: Uuid,
    verb: &str,
    by: By<'_>,
) -> Result<LetterDeed, StoreError> {
    Ok(LetterDeed {
        subject,
        id: Uuid::now_v7(),
        at: store.now().await?,
        actor: by.actor.to_owned(),
        verb: verb.to_owned(),
        reason: by.reason.to_owned(),
    })
}

/// One letter, open or not.
async fn any(letters: &dyn Letters, id: Uuid) -> Result<DeadLetter, LetterError> {
    let filter = LetterFilter { also_closed: true, ..LetterFilter::ids(&[id]) };
    letters.page(&filter, None, 1).await?.pop().ok_or(LetterError::NoSuchLetter(id))
}
