//! A definition as it is written down, and what is wrong with it: names are resolved, and what
//! could never be run safely is refused. [`Definition::new`] is the only way to make one. The
//! catalog turns the [`Flaw`]s into messages that show the line.

use super::{
    Compensation, Definition, MAX_STEPS, Millis, Notice, OrderState, ShipmentFields, Step, StepSet,
    Work,
};

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
    pub reaches: Option<OrderState>,
    pub shipment: Option<ShipmentFields>,
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
    #[error("no step reaches '{0}', so the notice would never be sent")]
    NoticeNeverSent(&'static str),
    #[error("two notices on '{state}' send the command '{command}'")]
    NoticeTwice { state: &'static str, command: String },
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
        notices: Vec<Notice>,
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
        let witnesses = witnesses(&steps);
        let definition = Definition {
            name,
            version,
            starts_on,
            cancels_on,
            steps,
            ancestors,
            witnesses,
            pivots,
            explicit,
            notices,
        };
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
        self.check_notices(flaws);
        let waits = |step: usize| {
            self.steps[step].compensation.as_ref().map_or(StepSet::default(), |undo| undo.after)
        };
        if let Some(cycle) = find_cycle(self.steps.len(), waits) {
            let step = Some(cycle[0]);
            let kind = FlawKind::CompensationCycle(path(&self.steps, &cycle));
            flaws.push(Flaw { step, key: "compensation", kind });
        }
    }
}

impl Definition {
    fn check_notices(&self, flaws: &mut Vec<Flaw>) {
        let mut flaw = |kind| flaws.push(Flaw { step: None, key: "notice", kind });
        for (index, Notice { on, command, .. }) in self.notices.iter().enumerate() {
            let state = on.as_str();
            if OrderState::MILESTONES.contains(on) && self.reaching(*on).is_empty() {
                flaw(FlawKind::NoticeNeverSent(state));
            }
            let is_same = |other: &Notice| other.on == *on && other.command == *command;
            if self.notices[..index].iter().any(is_same) {
                flaw(FlawKind::NoticeTwice { state, command: command.clone() });
            }
        }
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
        reaches: draft.reaches,
        shipment: draft.shipment,
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

/// The steps that wait for facts behind each step, with no command in between.
fn witnesses(steps: &[Step]) -> Vec<StepSet> {
    let behind = |step: usize| {
        let mut told: StepSet = StepSet::default();
        let mut reach: StepSet = std::iter::once(step).collect();
        // Each round goes at least one wait further; no path is longer than this.
        for _ in 0..steps.len() {
            let waits = |other: &usize| {
                let other = &steps[*other];
                matches!(other.work, Work::Facts { .. }) && other.after.intersects(reach)
            };
            told = (0..steps.len()).filter(waits).collect();
            reach = reach.union(told);
        }
        told
    };
    (0..steps.len()).map(behind).collect()
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
