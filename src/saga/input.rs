//! Everything that can happen to a saga, in one closed enum.

use super::{CommandId, EventId, Verb};

/// What happened. Ids and texts were parsed at the border; sizes are bounded there too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The order is paid: the saga begins.
    Start,
    /// A participant answered a command.
    Reply(Reply),
    /// A participant answered a probe: was this command applied?
    Probed {
        command: CommandId,
        /// The participant that says so, where the message tells.
        from: Option<Box<str>>,
        state: ProbeState,
        data: Option<Box<str>>,
    },
    /// Something happened in the world, such as a courier's scan.
    Fact(FactSeen),
    /// Time has passed; whatever is due by now happens.
    Clock,
    /// The shop, or an operator, asks for the order to be cancelled.
    Cancel,
    /// An operator decides.
    Operator(Verb),
}

impl Input {
    /// Its name, for counting and for people.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Input::Start => "start",
            Input::Reply(_) => "reply",
            Input::Probed { .. } => "probe-answer",
            Input::Fact(_) => "fact",
            Input::Clock => "clock",
            Input::Cancel => "cancel",
            Input::Operator(verb) => verb.name(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub command: CommandId,
    /// The participant that says so, where the message tells.
    pub from: Option<Box<str>>,
    pub outcome: Outcome,
    /// What the participant hands to later steps: a JSON text, opaque to the core.
    pub data: Option<Box<str>>,
}

/// A participant's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// A business "no", with a code such as `OUT_OF_STOCK`.
    Rejected {
        code: Box<str>,
    },
    /// A passing trouble: send the same command again later.
    Retry,
    /// A compensation that came too late: the parcel has left.
    Refused {
        code: Box<str>,
    },
    /// A compensation that found nothing to undo.
    NothingToDo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeState {
    Applied,
    NotApplied,
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactSeen {
    /// The fact's name without its major version, such as `shipment.delivered`.
    pub kind: Box<str>,
    pub event: EventId,
}
