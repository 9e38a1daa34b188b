//! A saga definition: steps, what each needs first, and what undoes it.
//!
//! It is made from drafts only (`draft`), where what could never be run safely is refused, so
//! that the rest of the core needs no checks.

use std::fmt;

use super::{Direction, Millis, OrderState};

/// The most steps a definition may have: a step set is one machine word.
pub const MAX_STEPS: usize = 64;

/// A set of steps by index.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct StepSet(u64);

impl StepSet {
    #[must_use]
    pub fn contains(self, step: usize) -> bool {
        step < MAX_STEPS && self.0 & (1 << step) != 0
    }

    pub fn insert(&mut self, step: usize) {
        assert!(step < MAX_STEPS, "a definition has at most {MAX_STEPS} steps");
        self.0 |= 1 << step;
    }

    /// As a number, for whoever stores it: step 0 is the lowest bit.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    #[must_use]
    pub fn from_bits(bits: u64) -> StepSet {
        StepSet(bits)
    }

    #[must_use]
    pub fn union(self, other: StepSet) -> StepSet {
        StepSet(self.0 | other.0)
    }

    #[must_use]
    pub fn intersects(self, other: StepSet) -> bool {
        self.0 & other.0 != 0
    }

    #[must_use]
    pub fn is_subset_of(self, other: StepSet) -> bool {
        self.0 & !other.0 == 0
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..MAX_STEPS).filter(move |step| self.contains(*step))
    }
}

impl FromIterator<usize> for StepSet {
    fn from_iter<I: IntoIterator<Item = usize>>(steps: I) -> StepSet {
        let mut set = StepSet::default();
        steps.into_iter().for_each(|step| set.insert(step));
        set
    }
}

impl fmt::Debug for StepSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// How long to wait before sending the same thing again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    pub initial: Millis,
    /// At least 1.
    pub factor: f64,
    pub max: Millis,
    /// The share by which a wait may be shorter or longer, 0 to 1.
    pub jitter: f64,
}

impl Backoff {
    /// The wait after the `attempt`-th sending (from 1). `spread` stands in for randomness.
    #[must_use]
    pub fn wait(&self, attempt: u16, spread: u64) -> Millis {
        let exponent = i32::from(attempt.saturating_sub(1).min(1_000));
        let plain = (self.initial.0 as f64 * self.factor.powi(exponent)).min(self.max.0 as f64);
        let share = (spread >> 11) as f64 / (1u64 << 53) as f64; // 0 ≤ share < 1
        Millis((plain * (1.0 + self.jitter * (2.0 * share - 1.0))) as u64)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub name: String,
    /// The steps that must be done first.
    pub after: StepSet,
    pub work: Work,
    pub compensation: Option<Compensation>,
    pub pivot: bool,
    /// Raises attention when the step is not done this long after it began.
    pub deadline: Option<Millis>,
    /// The fields of the order that the participant gets; all of them where absent.
    pub needs: Option<Vec<String>>,
    /// Once this step is done, and every other that names the same, the order has come so far.
    pub reaches: Option<OrderState>,
    /// Where the step books a shipment: how its result says which.
    pub shipment: Option<ShipmentFields>,
}

/// A command that is sent once when the order reaches a state, and that nothing waits for: it
/// moves neither money nor goods, so it may hold up neither. Somebody tells the customer.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    pub on: OrderState,
    pub participant: String,
    pub command: String,
    /// The fields of the order that the participant gets; all of them where absent.
    pub needs: Option<Vec<String>>,
}

/// The fields of a step's result that name the shipment which it booked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShipmentFields {
    /// The one that has the courier's number for it.
    pub id: String,
    /// The one that has the courier's name.
    pub courier: String,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Nothing: it is already true when the saga starts, and may have to be undone.
    Obligation,
    /// Send a command to a participant.
    Command {
        participant: String,
        command: String,
        resend: Backoff,
        /// Without an answer for this long, the outcome is in doubt.
        give_up: Millis,
        /// Whether the participant can be asked what became of a command.
        probe: bool,
    },
    /// Wait for one of these facts.
    Facts {
        completes_on: Vec<String>,
        fails_on: Option<String>,
        /// How often that has to be seen, each time by another event, before the step has failed.
        attempts: u16,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Compensation {
    pub participant: String,
    pub command: String,
    /// The steps that must owe nothing any more before this is sent. Filled by
    /// [`Definition::new`]: an explicit `after`, or else every step that depends on this one.
    pub after: StepSet,
    pub resend: Backoff,
    /// Without an answer for this long, an operator is called.
    pub give_up: Millis,
    /// The fields of the order that the participant gets; all of them where absent.
    pub needs: Option<Vec<String>>,
}

/// A definition that can be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    pub(super) name: String,
    pub(super) version: u32,
    pub(super) starts_on: String,
    pub(super) cancels_on: Option<String>,
    pub(super) steps: Vec<Step>,
    pub(super) ancestors: Vec<StepSet>,
    pub(super) witnesses: Vec<StepSet>,
    pub(super) pivots: StepSet,
    /// The steps whose compensation names what it waits for.
    pub(super) explicit: StepSet,
    pub(super) notices: Vec<Notice>,
}

impl Definition {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The event that starts a saga, without its major version: `order.created`.
    #[must_use]
    pub fn starts_on(&self) -> &str {
        &self.starts_on
    }

    /// The event that asks for cancellation.
    #[must_use]
    pub fn cancels_on(&self) -> Option<&str> {
        self.cancels_on.as_deref()
    }

    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    #[must_use]
    pub fn step_named(&self, name: &str) -> Option<usize> {
        self.steps.iter().position(|step| step.name == name)
    }

    /// All steps on which this one depends, directly or not.
    #[must_use]
    pub fn ancestors(&self, step: usize) -> StepSet {
        self.ancestors[step]
    }

    /// The steps whose facts tell of what this command did: they wait behind it, with no other
    /// command in between.
    #[must_use]
    pub fn witnesses(&self, command: usize) -> StepSet {
        self.witnesses[command]
    }

    #[must_use]
    pub fn pivots(&self) -> StepSet {
        self.pivots
    }

    /// Whether its compensation names what it waits for, instead of all that depend on the step.
    #[must_use]
    pub fn names_what_it_waits_for(&self, step: usize) -> bool {
        self.explicit.contains(step)
    }

    #[must_use]
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// The steps that must be done for the order to have come so far; none for the states that
    /// an order reaches otherwise.
    #[must_use]
    pub fn reaching(&self, state: OrderState) -> StepSet {
        (0..self.steps.len()).filter(|step| self.steps[*step].reaches == Some(state)).collect()
    }

    /// Whether the step runs after a pivot, so that it can only go forward.
    #[must_use]
    pub fn is_past_pivot(&self, step: usize) -> bool {
        self.ancestors[step].intersects(self.pivots)
    }

    /// All facts that some step waits for or fails on, without repeats.
    #[must_use]
    pub fn facts(&self) -> Vec<&str> {
        let mut kinds: Vec<&str> = self.steps.iter().flat_map(Step::facts).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// Every command that can go out, compensations and notices too, each with the participant
    /// that gets it.
    pub fn commands(&self) -> impl Iterator<Item = (&str, &str)> {
        let both = [Direction::Forward, Direction::Compensate];
        let steps = self.steps.iter();
        let notices = self.notices.iter().map(|n| (n.participant.as_str(), n.command.as_str()));
        steps
            .flat_map(move |step| both.into_iter().filter_map(|way| step.command(way)))
            .chain(notices)
    }
}

impl Step {
    #[must_use]
    pub fn is_command(&self) -> bool {
        matches!(self.work, Work::Command { .. })
    }

    /// The participant and the command that go out in this direction.
    #[must_use]
    pub fn command(&self, direction: Direction) -> Option<(&str, &str)> {
        match (direction, &self.work, &self.compensation) {
            (Direction::Forward, Work::Command { participant, command, .. }, _) => {
                Some((participant, command))
            }
            (Direction::Compensate, _, Some(undo)) => Some((&undo.participant, &undo.command)),
            _ => None,
        }
    }

    /// The facts that complete or fail the step.
    pub fn facts(&self) -> impl Iterator<Item = &str> {
        let (completing, failing) = match &self.work {
            Work::Facts { completes_on, fails_on, .. } => {
                (completes_on.as_slice(), fails_on.as_deref())
            }
            _ => (&[][..], None),
        };
        completing.iter().map(String::as_str).chain(failing)
    }

    #[must_use]
    pub fn completes_on(&self, kind: &str) -> bool {
        matches!(&self.work, Work::Facts { completes_on, .. } if completes_on.iter().any(|k| k == kind))
    }

    /// How often a fact has to be seen before it fails the step; `None` where it does not.
    #[must_use]
    pub fn attempts(&self, kind: &str) -> Option<usize> {
        match &self.work {
            Work::Facts { fails_on: Some(fact), attempts, .. } if fact == kind => {
                Some(usize::from(*attempts))
            }
            _ => None,
        }
    }
}
