//! When something is decided, and whom not to disturb then.

use super::{StepSet, Time};

/// The time of a decision, and what is known about participants by then. It is written with the
/// journal, so that a replay decides the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    pub now: Time,
    /// Steps whose participant does not answer anybody: their give-up clocks stand still.
    pub away: StepSet,
    /// Steps that are not to be begun now: their participant is away, or has enough to do.
    pub barred: StepSet,
}

impl From<Time> for Moment {
    /// With everybody there.
    fn from(now: Time) -> Moment {
        Moment { now, away: StepSet::default(), barred: StepSet::default() }
    }
}
