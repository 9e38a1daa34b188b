//! A mirror for each type of the core that is stored, in which serde sees its fields. They
//! belong to one format, and never change once released.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::saga::{
    Announcement, Attention, AttentionCode, CancelState, Cause, CommandId, Direction, Effect,
    EventId, Fact, FactSeen, Forward, Input, OrderState, Origin, Outcome, Phase, ProbeState, Reply,
    Resolution, Saga, SagaId, Status, StepState, Time, Verb, Wait, WhyRefused,
};

/// A module for `#[serde(with)]` on a collection of something that has a mirror.
macro_rules! collection {
    ($name:ident, $item:ty, $mirror:literal, $read:ty, $write:ty) => {
        pub(super) mod $name {
            use super::*;

            #[derive(Serialize)]
            struct Written<'a>(#[serde(with = $mirror)] &'a $item);

            #[derive(Deserialize)]
            struct Read(#[serde(with = $mirror)] $item);

            pub(in super::super) fn serialize<S: Serializer>(
                all: &$write,
                to: S,
            ) -> Result<S::Ok, S::Error> {
                to.collect_seq(all.iter().map(Written))
            }

            pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
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
        pub(super) mod $name {
            use super::*;

            #[derive(Serialize)]
            struct Written<'a>(#[serde(with = $mirror)] &'a $item);

            #[derive(Deserialize)]
            struct Read(#[serde(with = $mirror)] $item);

            pub(in super::super) fn serialize<S: Serializer>(
                value: &Option<$item>,
                to: S,
            ) -> Result<S::Ok, S::Error> {
                value.as_ref().map(Written).serialize(to)
            }

            pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
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
pub(super) struct SagaMirror {
    #[serde(skip, default = "no_id")]
    id: SagaId,
    #[serde(with = "StatusMirror")]
    status: Status,
    #[serde(with = "OrderStateMirror")]
    reached: OrderState,
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
pub(super) fn no_id() -> SagaId {
    SagaId(Uuid::nil())
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Time")]
pub(super) struct TimeMirror(i64);

#[derive(Serialize, Deserialize)]
#[serde(remote = "CommandId")]
pub(super) struct CommandIdMirror(Uuid);

#[derive(Serialize, Deserialize)]
#[serde(remote = "EventId")]
pub(super) struct EventIdMirror(Uuid);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Status")]
pub(super) enum StatusMirror {
    Created,
    Running,
    Compensating,
    Completed,
    Compensated,
    Abandoned,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "OrderState")]
pub(super) enum OrderStateMirror {
    Pending,
    Confirmed,
    Fulfilling,
    Completed,
    Cancelled,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Cause")]
pub(super) enum CauseMirror {
    Cancel,
    Rejected { step: usize, code: Box<str> },
    InDoubt { step: usize },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "CancelState")]
pub(super) enum CancelStateMirror {
    None,
    Waiting,
    Accepted,
    Refused,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "StepState")]
pub(super) struct StepStateMirror {
    #[serde(with = "PhaseMirror")]
    phase: Phase,
    #[serde(with = "TimeMirror")]
    since: Time,
    generation: u16,
    undo: u16,
    unsettled: Vec<u16>,
    data: Option<Box<str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Phase")]
pub(super) enum PhaseMirror {
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
    Undone,
    Skipped,
    Held {
        #[serde(with = "TimeMirror")]
        look_at: Time,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Forward")]
pub(super) enum ForwardMirror {
    Done,
    Unknown,
    DoneLate,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Wait")]
pub(super) struct WaitMirror {
    attempt: u16,
    postponed: bool,
    #[serde(with = "maybe_time")]
    resend_at: Option<Time>,
    #[serde(with = "maybe_time")]
    give_up_at: Option<Time>,
    #[serde(with = "maybe_time")]
    deadline_at: Option<Time>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Fact")]
pub(super) struct FactMirror {
    kind: Box<str>,
    #[serde(with = "EventIdMirror")]
    event: EventId,
    #[serde(with = "TimeMirror")]
    at: Time,
    early: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Attention")]
pub(super) struct AttentionMirror {
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
pub(super) enum OriginMirror {
    Clock,
    Decision,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "AttentionCode")]
pub(super) enum AttentionCodeMirror {
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
    Held,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Input")]
pub(super) enum InputMirror {
    Start,
    Reply(#[serde(with = "ReplyMirror")] Reply),
    Probed {
        #[serde(with = "CommandIdMirror")]
        command: CommandId,
        from: Option<Box<str>>,
        #[serde(with = "ProbeStateMirror")]
        state: ProbeState,
        data: Option<Box<str>>,
    },
    Fact(#[serde(with = "FactSeenMirror")] FactSeen),
    Clock,
    Cancel,
    Operator(#[serde(with = "VerbMirror")] Verb),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Verb")]
pub(super) enum VerbMirror {
    Retry {
        step: usize,
    },
    Resolve {
        step: usize,
        #[serde(with = "ResolutionMirror")]
        resolution: Resolution,
    },
    Skip {
        step: usize,
    },
    Hold,
    Release,
    Clear {
        step: Option<usize>,
        #[serde(with = "AttentionCodeMirror")]
        code: AttentionCode,
    },
    Abandon,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Resolution")]
pub(super) enum ResolutionMirror {
    Success { data: Option<Box<str>> },
    Rejected { code: Box<str> },
    NothingToDo,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Reply")]
pub(super) struct ReplyMirror {
    #[serde(with = "CommandIdMirror")]
    command: CommandId,
    from: Option<Box<str>>,
    #[serde(with = "OutcomeMirror")]
    outcome: Outcome,
    data: Option<Box<str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Outcome")]
pub(super) enum OutcomeMirror {
    Success,
    Rejected { code: Box<str> },
    Retry,
    Refused { code: Box<str> },
    NothingToDo,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ProbeState")]
pub(super) enum ProbeStateMirror {
    Applied,
    NotApplied,
    Unknown,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "FactSeen")]
pub(super) struct FactSeenMirror {
    kind: Box<str>,
    #[serde(with = "EventIdMirror")]
    event: EventId,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Effect")]
pub(super) enum EffectMirror {
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
    Notify {
        notice: usize,
    },
    LateSuccess {
        step: usize,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Direction")]
pub(super) enum DirectionMirror {
    Forward,
    Compensate,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Announcement")]
pub(super) enum AnnouncementMirror {
    Reached(#[serde(with = "OrderStateMirror")] OrderState),
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
    Abandoned,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "WhyRefused")]
pub(super) enum WhyRefusedMirror {
    PastPivot,
    TooLate,
}
