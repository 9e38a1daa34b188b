//! What a transition asks the outside to do.

use super::{AttentionCode, Direction, OrderState, Saga};

/// The result of a decision: the saga as it is from now on, and what must then be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The next saga; equal to the given one unless the verdict is [`Verdict::Applied`].
    pub saga: Saga,
    /// In the order in which they were decided; empty unless applied.
    pub effects: Vec<Effect>,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The saga changed, or effects are to be carried out: store it, with a journal row.
    Applied,
    /// Nothing changes. Counted, and written nowhere: a participant that repeats an answer a
    /// thousand times must not grow the journal a thousandfold.
    Ignored(Ignored),
    /// The input cannot belong to this saga: it becomes a dead letter.
    Refused(Refusal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ignored {
    /// It was already taken into account.
    Duplicate,
    /// The step no longer waits for it.
    Stale,
    /// Nothing waits for it: a fact that no step cares for, the answer to a notice.
    Irrelevant,
    /// A clock fired and nothing was due.
    NothingDue,
}

impl Ignored {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Ignored::Duplicate => "duplicate",
            Ignored::Stale => "stale",
            Ignored::Irrelevant => "irrelevant",
            Ignored::NothingDue => "nothing-due",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The saga was never started.
    UnknownSaga,
    /// No command with this id was ever sent by this saga.
    UnknownCommand,
    /// The reply comes from another participant than the one that was asked.
    WrongParticipant,
    /// The saga cannot be one of this definition: its row is damaged.
    UnreadableSaga,
    /// An operator asked for what cannot be done to the saga as it stands.
    IllegalVerb,
}

impl Refusal {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::UnknownSaga => "unknown-saga",
            Refusal::UnknownCommand => "unknown-command",
            Refusal::WrongParticipant => "wrong-participant",
            Refusal::UnreadableSaga => "unreadable-saga",
            Refusal::IllegalVerb => "illegal-verb",
        }
    }
}

/// One thing to do once the next saga is stored. `step` is an index into the definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send the step's command, or its compensation. `attempt` counts from 1.
    Send { step: usize, direction: Direction, generation: u16, attempt: u16 },
    /// Ask the participant whether the step's command was applied.
    Probe { step: usize, generation: u16 },
    /// Tell the rest of the company.
    Announce(Announcement),
    /// Send a notice: an index into the definition's.
    Notify { notice: usize },
    /// A success arrived for a step that was already being, or had been, compensated.
    LateSuccess { step: usize },
}

/// What others may want to know about the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announcement {
    /// The order is in this state now. Told once for each.
    Reached(OrderState),
    /// The order cannot be cancelled any more; the customer may return it instead.
    CancelRefused {
        why: WhyRefused,
    },
    AttentionRaised {
        step: Option<usize>,
        code: AttentionCode,
    },
    AttentionCleared {
        step: Option<usize>,
        code: AttentionCode,
    },
    /// An operator has ended the saga; what is out in the world stays there.
    Abandoned,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyRefused {
    /// The pivot was done when the request came, or was done while it waited.
    PastPivot,
    /// A participant refused the compensation as too late.
    TooLate,
}

impl WhyRefused {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            WhyRefused::PastPivot => "past-pivot",
            WhyRefused::TooLate => "too-late",
        }
    }
}
