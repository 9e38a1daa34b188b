//! A saga as it stands: small enough to be written at every step.

use super::{Definition, EventId, Millis, SagaId, Time};

/// One run of a definition for one order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saga {
    pub id: SagaId,
    pub status: Status,
    /// How far the order is for everybody else. Only ever goes on.
    pub reached: OrderState,
    /// Why the saga compensates, or will as soon as a pivot that is under way has answered.
    pub cause: Option<Cause>,
    pub cancel: CancelState,
    /// One per step of the definition, in its order.
    pub steps: Vec<StepState>,
    /// Facts seen so far: one of a kind, or as many as the attempts after which a step has failed.
    pub facts: Vec<Fact>,
    pub attention: Vec<Attention>,
    pub started_at: Time,
    pub ended_at: Option<Time>,
}

impl Saga {
    /// A saga to which nothing has happened yet.
    #[must_use]
    pub fn created(definition: &Definition, id: SagaId) -> Saga {
        Saga {
            id,
            status: Status::Created,
            reached: OrderState::Pending,
            cause: None,
            cancel: CancelState::None,
            steps: vec![StepState::idle(); definition.steps().len()],
            facts: Vec::new(),
            attention: Vec::new(),
            started_at: Time::default(),
            ended_at: None,
        }
    }

    /// Whether this can be a saga of that definition: every step it speaks of is there.
    #[must_use]
    pub fn fits(&self, definition: &Definition) -> bool {
        let count = definition.steps().len();
        let blamed = match &self.cause {
            Some(Cause::Rejected { step, .. } | Cause::InDoubt { step }) => Some(*step),
            Some(Cause::Cancel) | None => None,
        };
        let mut named = self.attention.iter().filter_map(|a| a.step).chain(blamed);
        self.steps.len() == count && named.all(|step| step < count)
    }

    /// The earliest clock of any step: when [`super::Input::Clock`] is next of use.
    #[must_use]
    pub fn next_clock(&self) -> Option<Time> {
        self.clocks().map(|(_, at)| at).min()
    }

    /// The next clock of each step that has one.
    pub fn clocks(&self) -> impl Iterator<Item = (usize, Time)> {
        let stand_still = self.is_held() || self.status == Status::Abandoned;
        let steps = self.steps.iter().enumerate().filter(move |_| !stand_still);
        steps.filter_map(|(index, step)| Some((index, step.next_clock()?)))
    }

    /// Since when an operator holds it.
    #[must_use]
    pub fn held_since(&self) -> Option<Time> {
        let held = self.attention.iter().find(|attention| attention.code == AttentionCode::Held);
        held.map(|held| held.since)
    }

    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held_since().is_some()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Exists only in memory, before its first transition.
    Created,
    Running,
    Compensating,
    /// All steps are done. Final.
    Completed,
    /// All that was owed is undone. Final.
    Compensated,
    /// An operator has ended it as it stood. Final.
    Abandoned,
}

impl Status {
    pub const ALL: [Status; 6] = [
        Status::Created,
        Status::Running,
        Status::Compensating,
        Status::Completed,
        Status::Compensated,
        Status::Abandoned,
    ];

    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Status::Completed | Status::Compensated | Status::Abandoned)
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Compensating => "compensating",
            Status::Completed => "completed",
            Status::Compensated => "compensated",
            Status::Abandoned => "abandoned",
        }
    }
}

/// The states of an order that the whole company shares, in their order. What a saga does in
/// between, and back again, is nobody else's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OrderState {
    /// Paid, and not yet sure to be had.
    Pending,
    /// The steps that reach it are done: the customer may count on it.
    Confirmed,
    /// Likewise: it is being packed and sent.
    Fulfilling,
    Completed,
    /// All that was owed is undone.
    Cancelled,
}

impl OrderState {
    pub const ALL: [OrderState; 5] = [
        OrderState::Pending,
        OrderState::Confirmed,
        OrderState::Fulfilling,
        OrderState::Completed,
        OrderState::Cancelled,
    ];

    /// Those that steps reach by being done.
    pub const MILESTONES: [OrderState; 2] = [OrderState::Confirmed, OrderState::Fulfilling];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            OrderState::Pending => "pending",
            OrderState::Confirmed => "confirmed",
            OrderState::Fulfilling => "fulfilling",
            OrderState::Completed => "completed",
            OrderState::Cancelled => "cancelled",
        }
    }
}

/// Why a saga turned back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    Cancel,
    Rejected {
        step: usize,
        code: Box<str>,
    },
    /// No final answer within the give-up time.
    InDoubt {
        step: usize,
    },
}

/// What became of the wish to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelState {
    None,
    /// Waits for the answer of a pivot that is under way.
    Waiting,
    Accepted,
    Refused,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepState {
    pub phase: Phase,
    /// When it entered this phase.
    pub since: Time,
    /// How often the step was started; part of the command id. 0: never.
    pub generation: u16,
    /// How often its compensation was started, each with an id of its own.
    pub undo: u16,
    /// The generations that were never answered and whose compensation found nothing: each may
    /// still be applied late.
    pub unsettled: Vec<u16>,
    /// What the participant's success handed to later steps (JSON text).
    pub data: Option<Box<str>>,
}

impl StepState {
    #[must_use]
    pub fn idle() -> StepState {
        StepState {
            phase: Phase::Idle,
            since: Time::default(),
            generation: 0,
            undo: 0,
            unsettled: Vec::new(),
            data: None,
        }
    }

    fn next_clock(&self) -> Option<Time> {
        match &self.phase {
            Phase::Sent(wait) | Phase::Asking(wait) | Phase::Undoing { wait, .. } => wait.next(),
            Phase::Awaiting { deadline_at } => *deadline_at,
            Phase::Held { look_at } => Some(*look_at),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Not started, or to be started again.
    Idle,
    /// Its turn has come, and its participant is away or has enough to do.
    Held {
        /// When it is looked at again.
        look_at: Time,
    },
    /// The command is out, its answer is not in.
    Sent(Wait),
    /// In doubt: no answer within the give-up time, and a probe is out.
    Asking(Wait),
    /// Waits for a fact.
    Awaiting {
        deadline_at: Option<Time>,
    },
    Done,
    /// A business "no", or the fact that says that it failed.
    Failed {
        code: Box<str>,
    },
    /// The compensation is out, its answer is not in.
    Undoing {
        wait: Wait,
        forward: Forward,
        /// The last answer was a final "no": the next attempt needs a new command id,
        /// because a participant repeats its first answer to an id it knows.
        renew: bool,
    },
    /// The compensation was refused after a business failure: an operator must decide.
    Refused {
        code: Box<str>,
    },
    /// Compensated.
    Undone,
    /// An operator let the order go on without it.
    Skipped,
}

impl Phase {
    /// Whether what depends on the step may go on.
    #[must_use]
    pub fn stands(&self) -> bool {
        matches!(self, Phase::Done | Phase::Skipped)
    }

    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Phase::Idle => "idle",
            Phase::Held { .. } => "held",
            Phase::Sent(_) => "sent",
            Phase::Asking(_) => "in-doubt",
            Phase::Awaiting { .. } => "awaiting",
            Phase::Done => "done",
            Phase::Failed { .. } => "failed",
            Phase::Undoing { .. } => "compensating",
            Phase::Refused { .. } => "compensation-refused",
            Phase::Undone => "compensated",
            Phase::Skipped => "skipped",
        }
    }
}

/// What is known of a step's command while its compensation is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// It was done when the compensation was sent.
    Done,
    /// It was never answered.
    Unknown,
    /// Its success arrived after the compensation was sent.
    DoneLate,
}

/// The clocks of something that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wait {
    /// How often it was sent, from 1.
    pub attempt: u16,
    /// The participant has answered this attempt with "later", which counts once: an answer
    /// that comes a thousand times must neither grow the journal nor put off the next attempt.
    pub postponed: bool,
    pub resend_at: Option<Time>,
    pub give_up_at: Option<Time>,
    pub deadline_at: Option<Time>,
}

impl Wait {
    #[must_use]
    pub fn next(&self) -> Option<Time> {
        [self.resend_at, self.give_up_at, self.deadline_at].into_iter().flatten().min()
    }
}

/// A fact that some step waits, or will wait, for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    pub kind: Box<str>,
    pub event: EventId,
    pub at: Time,
    /// It came before it could be true, or tells of a run of a step that is done again since. It
    /// counts for nothing until another event says the same.
    pub early: bool,
}

/// A reason for an operator to look. At most one per (step, code).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attention {
    pub step: Option<usize>,
    pub code: AttentionCode,
    pub since: Time,
    pub origin: Origin,
}

/// What raised an attention: a clock's clears by itself when the step is settled after all,
/// a decision's stays until an operator clears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Clock,
    Decision,
}

/// Stable codes: dashboards, alerts and runbooks are keyed by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttentionCode {
    /// The step's deadline has passed.
    DeadlinePassed,
    /// A step at or past the pivot has no answer within its give-up time.
    InDoubt,
    /// A participant said no past the pivot.
    Rejected,
    /// The fact that fails the step came past the pivot.
    FailedPastPivot,
    /// No answer to a compensation within its give-up time, or it keeps failing.
    CompensationStuck,
    /// A compensation was refused after a business failure.
    CompensationRefused,
    /// A fact is known that cannot be true of what now stands: a delivery before the dispatch,
    /// or the scan of a parcel that was recalled and is sent anew.
    EarlyFact,
    /// The pivot was done after all, by its fact or its participant's word, in a saga whose
    /// goods were taken back all the same.
    GoodsAndMoneyDisagree,
    /// A step succeeded after its compensation had found nothing to undo.
    LateSuccess,
    /// The saga resumed after an obligation had already been undone.
    ObligationUndone,
    /// An operator holds the saga: nothing is sent until it is released.
    Held,
}

impl AttentionCode {
    pub const ALL: [AttentionCode; 11] = [
        AttentionCode::DeadlinePassed,
        AttentionCode::InDoubt,
        AttentionCode::Rejected,
        AttentionCode::FailedPastPivot,
        AttentionCode::CompensationStuck,
        AttentionCode::CompensationRefused,
        AttentionCode::EarlyFact,
        AttentionCode::GoodsAndMoneyDisagree,
        AttentionCode::LateSuccess,
        AttentionCode::ObligationUndone,
        AttentionCode::Held,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            AttentionCode::DeadlinePassed => "DEADLINE_PASSED",
            AttentionCode::InDoubt => "IN_DOUBT",
            AttentionCode::Rejected => "REJECTED",
            AttentionCode::FailedPastPivot => "FAILED_PAST_PIVOT",
            AttentionCode::CompensationStuck => "COMPENSATION_STUCK",
            AttentionCode::CompensationRefused => "COMPENSATION_REFUSED",
            AttentionCode::EarlyFact => "EARLY_FACT",
            AttentionCode::GoodsAndMoneyDisagree => "GOODS_AND_MONEY_DISAGREE",
            AttentionCode::LateSuccess => "LATE_SUCCESS",
            AttentionCode::ObligationUndone => "OBLIGATION_UNDONE",
            AttentionCode::Held => "HELD",
        }
    }
}

/// Adds spans to optional times, for clocks that may be absent.
pub(super) fn after(now: Time, span: Option<Millis>) -> Option<Time> {
    span.map(|span| now + span)
}
