//! The bytes in which sagas and journal entries are stored.
//!
//! The core's types know no wire format. Here each of them has a mirror that serde fills in
//! (`remote`): a field added to the core does not compile until it is stored as well. The
//! bytes are postcard's, with varints and no names, behind one byte that names the format, so
//! that a later format can be told apart. A mirror therefore never changes once released:
//! fields and variants are only added under a new format. No SQL here.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::StoreError;
use crate::saga::{
    Announcement, Attention, AttentionCode, CancelState, Cause, CommandId, Direction, Effect,
    EventId, Fact, FactSeen, Forward, Input, Origin, Outcome, Phase, ProbeState, Reply, Saga,
    SagaId, Status, StepState, Time, Wait, WhyRefused,
};

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
pub(super) fn entry_to_bytes(input: &Input, effects: &[Effect]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Entry<'a>(
        #[serde(with = "InputMirror")] &'a Input,
        #[serde(serialize_with = "effects::serialize")] &'a [Effect],
    );
    to_bytes(&Entry(input, effects))
}

/// # Errors
/// [`StoreError::Unreadable`].
pub(super) fn entry_from_bytes(bytes: &[u8]) -> Result<(Input, Vec<Effect>), StoreError> {
    #[derive(Deserialize)]
    struct Entry(
        #[serde(with = "InputMirror")] Input,
        #[serde(deserialize_with = "effects::deserialize")] Vec<Effect>,
    );
    let Entry(input, effects) = from_bytes(bytes, "journal entry")?;
    Ok((input, effects))
}

/// The number under which a status stands in its column.
pub(super) fn status_to_number(status: Status) -> i16 {
    match status {
        Status::Created => 0,
        Status::Running => 1,
        Status::Compensating => 2,
        Status::Completed => 3,
        Status::Compensated => 4,
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

/// A module for `#[serde(with)]` on a collection of something that has a mirror.
macro_rules! collection {
    ($name:ident, $item:ty, $mirror:literal, $read:ty, $write:ty) => {
        mod $name {
            use super::*;

            #[derive(Serialize)]
            struct Written<'a>(#[serde(with = $mirror)] &'a $item);

            #[derive(Deserialize)]
            struct Read(#[serde(with = $mirror)] $item);

            pub(super) fn serialize<S: Serializer>(all: &$write, to: S) -> Result<S::Ok, S::Error> {
                to.collect_seq(all.iter().map(Written))
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(
                from: D,
            ) -> Result<$read, D::Error> {
                let all = Vec::<Read>::deserialize(from)?;
                Ok(all.into_iter().map(|Read(item)| item).collect())
            }
        }
    };
}

collection!(steps, StepState, "StepStateMirror", Vec<StepState>, [StepState]);
collection!(facts, Fact, "FactMirror", Vec<Fact>, [Fact]);
collection!(attentions, Attention, "AttentionMirror", Vec<Attention>, [Attention]);
collection!(effects, Effect, "EffectMirror", Vec<Effect>, [Effect]);

/// A module for `#[serde(with)]` on an option of something that has a mirror.
macro_rules! optional {
    ($name:ident, $item:ty, $mirror:literal) => {
        mod $name {
            use super::*;

            #[derive(Serialize)]
            struct Written<'a>(#[serde(with = $mirror)] &'a $item);

            #[derive(Deserialize)]
            struct Read(#[serde(with = $mirror)] $item);

            pub(super) fn serialize<S: Serializer>(
                value: &Option<$item>,
                to: S,
            ) -> Result<S::Ok, S::Error> {
                value.as_ref().map(Written).serialize(to)
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(
                from: D,
            ) -> Result<Option<$item>, D::Error> {
                Ok(Option::<Read>::deserialize(from)?.map(|Read(item)| item))
            }
        }
    };
}

optional!(maybe_time, Time, "TimeMirror");
optional!(maybe_cause, Cause, "CauseMirror");

#[derive(Serialize, Deserialize)]
#[serde(remote = "Saga")]
struct SagaMirror {
    #[serde(skip, default = "no_id")]
    id: SagaId,
    #[serde(with = "StatusMirror")]
    status: Status,
    #[serde(with = "maybe_cause")]
    cause: Option<Cause>,
    #[serde(with = "CancelStateMirror")]
    cancel: CancelState,
    #[serde(with = "steps")]
    steps: Vec<StepState>,
    #[serde(with = "facts")]
    facts: Vec<Fact>,
    #[serde(with = "attentions")]
    attention: Vec<Attention>,
    #[serde(with = "TimeMirror")]
    started_at: Time,
    #[serde(with = "maybe_time")]
    ended_at: Option<Time>,
}

/// Stands in for the id until the reader puts in the row's.
fn no_id() -> SagaId {
    SagaId(Uuid::nil())
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Time")]
struct TimeMirror(i64);

#[derive(Serialize, Deserialize)]
#[serde(remote = "CommandId")]
struct CommandIdMirror(Uuid);

#[derive(Serialize, Deserialize)]
#[serde(remote = "EventId")]
struct EventIdMirror(Uuid);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Status")]
enum StatusMirror {
    Created,
    Running,
    Compensating,
    Completed,
    Compensated,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Cause")]
enum CauseMirror {
    Cancel,
    Rejected { step: usize, code: Box<str> },
    InDoubt { step: usize },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "CancelState")]
enum CancelStateMirror {
    None,
    Waiting,
    Accepted,
    Refused,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "StepState")]
struct StepStateMirror {
    #[serde(with = "PhaseMirror")]
    phase: Phase,
    #[serde(with = "TimeMirror")]
    since: Time,
    generation: u16,
    undo: u16,
    data: Option<Box<str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Phase")]
enum PhaseMirror {
    Idle,
    Sent(#[serde(with = "WaitMirror")] Wait),
    Asking(#[serde(with = "WaitMirror")] Wait),
    Awaiting {
        #[serde(with = "maybe_time")]
        deadline_at: Option<Time>,
    },
    Done,
    Failed {
        code: Box<str>,
    },
    Undoing {
        #[serde(with = "WaitMirror")]
        wait: Wait,
        #[serde(with = "ForwardMirror")]
        forward: Forward,
        renew: bool,
    },
    Refused {
        code: Box<str>,
    },
    Undone {
        settled: bool,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Forward")]
enum ForwardMirror {
    Done,
    Unknown,
    DoneLate,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Wait")]
struct WaitMirror {
    attempt: u16,
    #[serde(with = "maybe_time")]
    resend_at: Option<Time>,
    #[serde(with = "maybe_time")]
    give_up_at: Option<Time>,
    #[serde(with = "maybe_time")]
    deadline_at: Option<Time>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Fact")]
struct FactMirror {
    kind: Box<str>,
    #[serde(with = "EventIdMirror")]
    event: EventId,
    #[serde(with = "TimeMirror")]
    at: Time,
    early: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Attention")]
struct AttentionMirror {
    step: Option<usize>,
    #[serde(with = "AttentionCodeMirror")]
    code: AttentionCode,
    #[serde(with = "TimeMirror")]
    since: Time,
    #[serde(with = "OriginMirror")]
    origin: Origin,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Origin")]
enum OriginMirror {
    Clock,
    Decision,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "AttentionCode")]
enum AttentionCodeMirror {
    DeadlinePassed,
    InDoubt,
    Rejected,
    FailedPastPivot,
    CompensationStuck,
    CompensationRefused,
    EarlyFact,
    GoodsAndMoneyDisagree,
    LateSuccess,
    ObligationUndone,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Input")]
enum InputMirror {
    Start,
    Reply(#[serde(with = "ReplyMirror")] Reply),
    Probed {
        #[serde(with = "CommandIdMirror")]
        command: CommandId,
        #[serde(with = "ProbeStateMirror")]
        state: ProbeState,
        data: Option<Box<str>>,
    },
    Fact(#[serde(with = "FactSeenMirror")] FactSeen),
    Clock,
    Cancel,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Reply")]
struct ReplyMirror {
    #[serde(with = "CommandIdMirror")]
    command: CommandId,
    from: Option<Box<str>>,
    #[serde(with = "OutcomeMirror")]
    outcome: Outcome,
    data: Option<Box<str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Outcome")]
enum OutcomeMirror {
    Success,
    Rejected { code: Box<str> },
    Retry,
    Refused { code: Box<str> },
    NothingToDo,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ProbeState")]
enum ProbeStateMirror {
    Applied,
    NotApplied,
    Unknown,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "FactSeen")]
struct FactSeenMirror {
    kind: Box<str>,
    #[serde(with = "EventIdMirror")]
    event: EventId,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Effect")]
enum EffectMirror {
    Send {
        step: usize,
        #[serde(with = "DirectionMirror")]
        direction: Direction,
        generation: u16,
        attempt: u16,
    },
    Probe {
        step: usize,
        generation: u16,
    },
    Announce(#[serde(with = "AnnouncementMirror")] Announcement),
    LateSuccess {
        step: usize,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Direction")]
enum DirectionMirror {
    Forward,
    Compensate,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Announcement")]
enum AnnouncementMirror {
    Completed,
    Cancelled,
    CancelRefused {
        #[serde(with = "WhyRefusedMirror")]
        why: WhyRefused,
    },
    AttentionRaised {
        step: Option<usize>,
        #[serde(with = "AttentionCodeMirror")]
        code: AttentionCode,
    },
    AttentionCleared {
        step: Option<usize>,
        #[serde(with = "AttentionCodeMirror")]
        code: AttentionCode,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "WhyRefused")]
enum WhyRefusedMirror {
    PastPivot,
    TooLate,
}

#[cfg(test)]
mod tests;
