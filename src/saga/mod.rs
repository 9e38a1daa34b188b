//! The pure core: what a saga is and what it does next.
//!
//! [`decide`] takes a definition, a saga, one input and the time, and returns the
//! [`Transition`]: the next saga and the effects that the outside must carry out once that
//! next saga is stored. It is total and synchronous. It reads no clock (time is a
//! parameter), draws no randomness (jitter is a hash of ids), does no IO and knows no wire
//! format; whoever stores or sends something owns its encoding. `tests/tidy.rs` enforces it.
//!
//! One file per input: `start`, `reply`, `probe`, `fact`, `clock`, `cancel`,
//! `verb`. They share two
//! movements: `forward` (start what became ready) and `compensate` (undo what is owed, in
//! order). The rule table that they implement is in the README under "What happens when";
//! `tests/rules` has a test for each row.

mod cancel;
mod clock;
mod compensate;
mod definition;
mod doubt;
mod draft;
mod effect;
mod fact;
mod forward;
mod identity;
mod input;
mod moment;
mod probe;
mod reply;
mod start;
mod state;
mod time;
mod turn;
mod verb;

pub use compensate::owed;
pub use definition::{
    Backoff, Compensation, Definition, MAX_STEPS, Notice, ShipmentFields, Step, StepSet, Work,
};
pub use doubt::{Doubt, step_label};
pub use draft::{Draft, Flaw, FlawKind};
pub use effect::{Announcement, Effect, Ignored, Refusal, Transition, Verdict, WhyRefused};
pub use identity::{CommandId, Direction, EventId, SagaId};
pub use input::{FactSeen, Input, Outcome, ProbeState, Reply};
pub use moment::Moment;
pub use reply::asked;
pub use state::{
    Attention, AttentionCode, CancelState, Cause, Fact, Forward, OrderState, Origin, Phase, Saga,
    Status, StepState, Wait,
};
pub use time::{Millis, Time};
pub use verb::{BY_OPERATOR, Resolution, Verb, left_behind, legal};

use turn::Turn;

/// Decides what `input` means to `saga` at `now`.
///
/// The same arguments always give the same transition, so a journal of (input, moment) replayed
/// through this function gives the stored saga again.
///
/// `now` may be earlier than times in the saga (clocks of different workers differ a little);
/// nothing breaks, a clock merely fires a little later.
#[must_use]
pub fn decide(
    definition: &Definition,
    saga: &Saga,
    input: &Input,
    moment: impl Into<Moment>,
) -> Transition {
    let mut turn = Turn::new(definition, saga, moment.into());
    if !saga.fits(definition) {
        return turn.finish(saga, Verdict::Refused(Refusal::UnreadableSaga));
    }
    let verdict = match (saga.status, input) {
        (Status::Created, Input::Start) => start::start(&mut turn),
        (Status::Created, _) => Verdict::Refused(Refusal::UnknownSaga),
        (_, Input::Start) => Verdict::Ignored(Ignored::Duplicate),
        (Status::Abandoned, Input::Reply(_) | Input::Probed { .. } | Input::Fact(_)) => {
            Verdict::Ignored(Ignored::Stale)
        }
        (_, Input::Reply(reply)) => reply::reply(&mut turn, reply),
        (_, Input::Probed { command, from, state, data }) => {
            probe::probed(&mut turn, (*command, from.as_deref()), *state, data.as_deref())
        }
        (_, Input::Fact(fact)) => fact::fact(&mut turn, fact),
        (_, Input::Clock) => clock::clock(&mut turn),
        (_, Input::Cancel) => cancel::cancel(&mut turn),
        (_, Input::Operator(verb)) => verb::operate(&mut turn, verb),
    };
    turn.finish(saga, verdict)
}
