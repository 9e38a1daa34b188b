//! A saga definition: steps, what each needs first, and what undoes it.
//!
//! [`Definition::new`] is the only way to make one, and it refuses what could never be run
//! safely, so the rest of the core needs no checks. The catalog turns the [`Flaw`]s into
//! messages that show the line.

use std::fmt;

use super::{Direction, Millis};

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

/// A step as it is written down, names not yet resolved.
#[derive(Debug, Clone)]
pub struct Draft {
    pub name: String,
    pub after: Vec<String>,
    pub work: Work,
    /// The compensation, and the names in its explicit `after`.
    pub compensation: Option<(Compensation, Option<Vec<String>>)>,
    pub pivot: bool,
    pub deadline: Option<Millis>,
    pub needs: Option<Vec<String>>,
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
    Facts { completes_on: Vec<String>, fails_on: Option<String> },
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
    name: String,
    version: u32,
    starts_on: String,
    cancels_on: Option<String>,
    steps: Vec<Step>,
    ancestors: Vec<StepSet>,
    pivots: StepSet,
    /// The steps whose compensation names what it waits for.
    explicit: StepSet,
}

/// Why a definition is refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Flaw {
    /// The step it is about, as an index; `None` for the definition as a whole.
    pub step: Option<usize>,
    /// The key of the definition file that shows it best.
    pub key: &'static str,
    pub kind: FlawKind,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FlawKind {
    #[error("a definition needs at least one step")]
    NoSteps,
    #[error("a definition has at most {MAX_STEPS} steps, this one has {0}")]
    TooManySteps(usize),
    #[error("two steps are named '{0}'")]
    NameTwice(String),
    #[error("there is no step '{0}'")]
    UnknownStep(String),
    #[error("the step waits for itself: {0}")]
    Cycle(String),
    #[error("the step can be undone by nothing: before a pivot, a command needs a compensation")]
    MissingCompensation,
    #[error("the step runs after the pivot '{0}', and past a pivot nothing is compensated")]
    CompensationPastPivot(String),
    #[error("a pivot is never compensated")]
    CompensationOfPivot,
    #[error("two pivots on one path: '{0}' comes before this one")]
    PivotAfterPivot(String),
    #[error("an obligation cannot be a pivot: it is done before the saga starts")]
    PivotIsObligation,
    #[error("an obligation is true before the first step and waits for nothing")]
    ObligationWaits,
    #[error("a step waits for facts without a deadline: it could wait for ever unseen")]
    FactsWithoutDeadline,
    #[error("the compensations wait for each other: {0}")]
    CompensationCycle(String),
}

impl Definition {
    /// Resolves names and checks every rule.
    ///
    /// # Errors
    /// All flaws found, in the order of the steps.
    pub fn new(
        name: String,
        version: u32,
        starts_on: String,
        cancels_on: Option<String>,
        drafts: Vec<Draft>,
    ) -> Result<Definition, Vec<Flaw>> {
        let whole = |kind| vec![Flaw { step: None, key: "step", kind }];
        if drafts.is_empty() {
            return Err(whole(FlawKind::NoSteps));
        }
        if drafts.len() > MAX_STEPS {
            return Err(whole(FlawKind::TooManySteps(drafts.len())));
        }
        let mut flaws = Vec::new();
        let names: Vec<String> = drafts.iter().map(|draft| draft.name.clone()).collect();
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) {
                flaws.push(Flaw {
                    step: Some(index),
                    key: "name",
                    kind: FlawKind::NameTwice(name.clone()),
                });
            }
        }
        let names_its_own = |draft: &Draft| matches!(&draft.compensation, Some((_, Some(_))));
        let explicit = (0..drafts.len()).filter(|step| names_its_own(&drafts[*step])).collect();
        let mut steps: Vec<Step> = drafts
            .into_iter()
            .enumerate()
            .map(|(index, draft)| resolve(index, draft, &names, &mut flaws))
            .collect();
        let ancestors = ancestors(&steps, &mut flaws);
        if !flaws.is_empty() {
            return Err(flaws);
        }
        order_compensations(&mut steps, explicit, &ancestors);
        let pivots = (0..steps.len()).filter(|step| steps[*step].pivot).collect();
        let definition =
            Definition { name, version, starts_on, cancels_on, steps, ancestors, pivots, explicit };
        definition.check(&mut flaws);
        if flaws.is_empty() { Ok(definition) } else { Err(flaws) }
    }

    fn check(&self, flaws: &mut Vec<Flaw>) {
        for (index, step) in self.steps.iter().enumerate() {
            let mut flaw = |key, kind| flaws.push(Flaw { step: Some(index), key, kind });
            let pivot_before =
                self.ancestors[index].iter().find(|before| self.steps[*before].pivot);
            let pivot_name = pivot_before.map(|pivot| self.steps[pivot].name.clone());
            match (&step.compensation, pivot_name.clone()) {
                (Some(_), Some(pivot)) => {
                    flaw("compensation", FlawKind::CompensationPastPivot(pivot))
                }
                // An obligation that is called a pivot is told so below, once.
                (Some(_), None) if step.pivot && step.work != Work::Obligation => {
                    flaw("compensation", FlawKind::CompensationOfPivot)
                }
                (None, None) if step.is_command() && !step.pivot => {
                    flaw("command", FlawKind::MissingCompensation);
                }
                _ => {}
            }
            match &step.work {
                Work::Obligation if step.pivot => flaw("pivot", FlawKind::PivotIsObligation),
                Work::Obligation if !step.after.is_empty() => {
                    flaw("after", FlawKind::ObligationWaits)
                }
                Work::Facts { .. } if step.deadline.is_none() => {
                    flaw("await", FlawKind::FactsWithoutDeadline);
                }
                _ => {}
            }
            if let (true, Some(pivot)) = (step.pivot, pivot_name) {
                flaw("pivot", FlawKind::PivotAfterPivot(pivot));
            }
        }
        let waits = |step: usize| {
            self.steps[step].compensation.as_ref().map_or(StepSet::default(), |undo| undo.after)
        };
        if let Some(cycle) = find_cycle(self.steps.len(), waits) {
            let step = Some(cycle[0]);
            let kind = FlawKind::CompensationCycle(path(&self.steps, &cycle));
            flaws.push(Flaw { step, key: "compensation", kind });
        }
    }

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

    #[must_use]
    pub fn pivots(&self) -> StepSet {
        self.pivots
    }

    /// Whether its compensation names what it waits for, instead of all that depend on the step.
    #[must_use]
    pub fn names_what_it_waits_for(&self, step: usize) -> bool {
        self.explicit.contains(step)
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

    /// All participants that get commands or compensations, without repeats.
    #[must_use]
    pub fn participants(&self) -> Vec<&str> {
        let both = [Direction::Forward, Direction::Compensate];
        let mut names: Vec<&str> = self
            .steps
            .iter()
            .flat_map(|step| both.into_iter().filter_map(|way| Some(step.command(way)?.0)))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
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
            Work::Facts { completes_on, fails_on } => {
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

    #[must_use]
    pub fn fails_on(&self, kind: &str) -> bool {
        matches!(&self.work, Work::Facts { fails_on: Some(fact), .. } if fact == kind)
    }
}

fn resolve(index: usize, draft: Draft, names: &[String], flaws: &mut Vec<Flaw>) -> Step {
    let mut set = |wanted: &[String], key| {
        let mut found = StepSet::default();
        for name in wanted {
            match names.iter().position(|known| known == name) {
                Some(step) => found.insert(step),
                None => flaws.push(Flaw {
                    step: Some(index),
                    key,
                    kind: FlawKind::UnknownStep(name.clone()),
                }),
            }
        }
        found
    };
    let after = set(&draft.after, "after");
    let compensation = draft.compensation.map(|(mut undo, explicit)| {
        undo.after = explicit.map_or(StepSet::default(), |names| set(&names, "compensation"));
        undo
    });
    Step {
        name: draft.name,
        after,
        work: draft.work,
        compensation,
        pivot: draft.pivot,
        deadline: draft.deadline,
        needs: draft.needs,
    }
}

/// Everything each step depends on; reports a cycle instead where there is one.
fn ancestors(steps: &[Step], flaws: &mut Vec<Flaw>) -> Vec<StepSet> {
    if let Some(cycle) = find_cycle(steps.len(), |step| steps[step].after) {
        let kind = FlawKind::Cycle(path(steps, &cycle));
        flaws.push(Flaw { step: Some(cycle[0]), key: "after", kind });
        return Vec::new();
    }
    let mut closure: Vec<StepSet> = steps.iter().map(|step| step.after).collect();
    // Each round adds at least one more generation of ancestors; no path is longer than this.
    for _ in 0..steps.len() {
        for step in 0..steps.len() {
            let further = closure[step].iter().map(|before| closure[before]);
            closure[step] = further.fold(closure[step], StepSet::union);
        }
    }
    closure
}

/// A compensation without an explicit order waits for all steps that depend on its own.
fn order_compensations(steps: &mut [Step], explicit: StepSet, ancestors: &[StepSet]) {
    for index in 0..steps.len() {
        let dependents =
            (0..steps.len()).filter(|other| ancestors[*other].contains(index)).collect();
        if let (Some(undo), false) = (&mut steps[index].compensation, explicit.contains(index)) {
            undo.after = dependents;
        }
    }
}

/// The steps of one cycle in the order in which they wait for each other, if there is one.
fn find_cycle(count: usize, waits_for: impl Fn(usize) -> StepSet) -> Option<Vec<usize>> {
    // Peel off what waits for nothing that is left; what cannot be peeled holds a cycle.
    let mut left: StepSet = (0..count).collect();
    loop {
        let kept: StepSet = left.iter().filter(|step| waits_for(*step).intersects(left)).collect();
        if kept == left {
            break;
        }
        left = kept;
    }
    let mut walk = vec![left.iter().next()?];
    loop {
        let next = waits_for(walk[walk.len() - 1]).iter().find(|step| left.contains(*step))?;
        if let Some(start) = walk.iter().position(|step| *step == next) {
            return Some(walk.split_off(start));
        }
        walk.push(next);
    }
}

fn path(steps: &[Step], cycle: &[usize]) -> String {
    let names = cycle.iter().chain(cycle.first()).map(|step| steps[*step].name.as_str());
    names.collect::<Vec<_>>().join(" waits for ")
}
