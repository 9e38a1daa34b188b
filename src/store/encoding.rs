//! The bytes in which sagas and journal entries are stored.
//!
//! The core's types know no wire format. Here each of them has a mirror that serde fills in
//! (`remote`): a field added to the core does not compile until it is stored as well. The
//! bytes are postcard's, with varints and no names, behind one byte that names the format, so
//! that a later format can be told apart. A mirror therefore never changes once released:
//! fields and variants are only added under a new format. No SQL here.

mod mirror;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{JournalRow, StoreError};
use crate::saga::{Effect, Input, Moment, Saga, SagaId, Status, StepSet, Time};
use mirror::{InputMirror, SagaMirror, effects};

/// The first byte of everything written here.
const FORMAT: u8 = 1;

/// The state of a saga, without its id, which every row has already.
pub(super) fn saga_to_bytes(saga: &Saga) -> Vec<u8> {
    #[derive(Serialize)]
    struct Whole<'a>(#[serde(with = "SagaMirror")] &'a Saga);
    to_bytes(&Whole(saga))
}

/// # Errors
/// [`StoreError::Unreadable`].
pub(super) fn saga_from_bytes(id: SagaId, bytes: &[u8]) -> Result<Saga, StoreError> {
    #[derive(Deserialize)]
    struct Whole(#[serde(with = "SagaMirror")] Saga);
    let Whole(saga) = from_bytes(bytes, "saga state")?;
    Ok(Saga { id, ..saga })
}

/// What a journal row says beside its version and time.
pub(super) fn entry_to_bytes(row: &JournalRow) -> Vec<u8> {
    #[derive(Serialize)]
    struct Entry<'a>(
        #[serde(with = "InputMirror")] &'a Input,
        #[serde(serialize_with = "effects::serialize")] &'a [Effect],
        u64,
        u64,
    );
    let Moment { away, barred, .. } = row.moment;
    to_bytes(&Entry(&row.input, &row.effects, away.bits(), barred.bits()))
}

/// # Errors
/// [`StoreError::Unreadable`].
pub(super) fn entry_from_bytes(
    version: u32,
    now: Time,
    bytes: &[u8],
) -> Result<JournalRow, StoreError> {
    #[derive(Deserialize)]
    struct Entry(
        #[serde(with = "InputMirror")] Input,
        #[serde(deserialize_with = "effects::deserialize")] Vec<Effect>,
        u64,
        u64,
    );
    let Entry(input, effects, away, barred) = from_bytes(bytes, "journal entry")?;
    let (away, barred) = (StepSet::from_bits(away), StepSet::from_bits(barred));
    Ok(JournalRow { version, moment: Moment { now, away, barred }, input, effects })
}

/// The number under which a status stands in its column.
pub(super) fn status_to_number(status: Status) -> i16 {
    match status {
        Status::Created => 0,
        Status::Running => 1,
        Status::Compensating => 2,
        Status::Completed => 3,
        Status::Compensated => 4,
        Status::Abandoned => 5,
    }
}

/// # Errors
/// [`StoreError::Unreadable`].
pub(super) fn status_from_number(number: i16) -> Result<Status, StoreError> {
    Status::ALL
        .into_iter()
        .find(|status| status_to_number(*status) == number)
        .ok_or(StoreError::Unreadable { what: "saga status" })
}

fn to_bytes(value: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(value, vec![FORMAT]).expect("a growing buffer takes plain values")
}

fn from_bytes<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, StoreError> {
    let unreadable = || StoreError::Unreadable { what };
    let (&FORMAT, rest) = bytes.split_first().ok_or_else(unreadable)? else {
        return Err(unreadable());
    };
    match postcard::take_from_bytes(rest) {
        Ok((value, [])) => Ok(value),
        _ => Err(unreadable()),
    }
}

#[cfg(test)]
mod tests;
