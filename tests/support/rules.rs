//! The rules that hold after every single decision, whatever comes in: they are checked against
//! the transition alone, and no liar outside can break them.

use std::collections::HashSet;

use makegood::saga::{
    Announcement, Cause, Definition, Direction, Effect, FactSeen, Input, Millis, OrderState, Phase,
    Saga, Status, StepSet, Time, Transition, Verdict, Work, decide,
};

/// A clock that is looked at later than this shows that nobody looked.
const LATE: Millis = Millis::MINUTE;

/// Watches one saga from its first transition on.
pub struct Watch<'a> {
    definition: &'a Definition,
    /// Every (step, direction, generation) that ever went out.
    sent: HashSet<(usize, Direction, u16)>,
    /// The forward generations for which a compensation went out.
    undone: HashSet<(usize, u16)>,
    /// The facts that a waiting step may believe: each came when it could be true of the runs
    /// that now stand of the commands before the step.
    believable: HashSet<(usize, String)>,
    /// The states of the order that were announced, and the notices that went with them.
    told: Vec<OrderState>,
    journal: Vec<(Input, Time)>,
    first: Saga,
}

impl<'a> Watch<'a> {
    pub fn new(definition: &'a Definition, first: &Saga) -> Watch<'a> {
        Watch {
            definition,
            sent: HashSet::new(),
            undone: HashSet::new(),
            believable: HashSet::new(),
            told: Vec::new(),
            journal: Vec::new(),
            first: first.clone(),
        }
    }

    /// Checks one decision; a broken rule comes back in words.
    pub fn check(
        &mut self,
        before: &Saga,
        input: &Input,
        now: Time,
        transition: &Transition,
    ) -> Result<(), String> {
        self.journal.push((input.clone(), now));
        let after = &transition.saga;
        if let Input::Fact(seen) = input {
            self.note_fact(before, seen);
        }
        let outcome = self
            .traceless_unless_applied(before, transition)
            .and_then(|()| self.final_is_final(before, after))
            .and_then(|()| self.sends_are_in_order(before, transition))
            .and_then(|()| match input {
                // What an operator knows is no fact that came in.
                Input::Operator(_) => Ok(()),
                _ => self.facts_are_believed_in_time(before, after),
            })
            .and_then(|()| self.nobody_is_given_up_unseen(before, input, now, after))
            .and_then(|()| self.ends_are_earned(before, after))
            .and_then(|()| self.states_are_told_once(transition))
            .and_then(|()| self.never_silently_stuck(after));
        outcome.map_err(|rule| {
            format!(
                "{rule}\n  input {input:?} at {}\n  before {before:#?}\n  after {after:#?}\n  \
                     effects {:#?}",
                now.0, transition.effects
            )
        })
    }

    /// The journal, replayed from the start, gives the saga as it stands.
    pub fn replays_to(&self, saga: &Saga) -> Result<(), String> {
        let again = self.journal.iter().fold(self.first.clone(), |saga, (input, now)| {
            decide(self.definition, &saga, input, *now).saga
        });
        if again == *saga { Ok(()) } else { Err("the replayed saga is another".to_owned()) }
    }

    fn traceless_unless_applied(&self, before: &Saga, made: &Transition) -> Result<(), String> {
        let unchanged = made.saga == *before && made.effects.is_empty();
        match made.verdict {
            Verdict::Applied => rule(!unchanged, "applied, yet nothing changed"),
            _ => rule(unchanged, "what is ignored or refused leaves no trace"),
        }
    }

    fn final_is_final(&self, before: &Saga, after: &Saga) -> Result<(), String> {
        rule(
            !before.status.is_final()
                || (after.status == before.status && after.ended_at == before.ended_at),
            "an ended saga stays ended as it is",
        )?;
        rule(
            after.status != Status::Created || before.status == Status::Created,
            "a saga that was started stays started",
        )
    }

    fn sends_are_in_order(&mut self, before: &Saga, made: &Transition) -> Result<(), String> {
        if made.saga.is_held() {
            let sends = made.effects.iter().any(|effect| matches!(effect, Effect::Send { .. }));
            self.note_unsent(&made.saga);
            return rule(!sends, "nothing is sent while it is held");
        }
        for effect in &made.effects {
            let Effect::Send { step, direction, generation, .. } = *effect else { continue };
            let state = &made.saga.steps[step];
            let newest = match direction {
                Direction::Forward => state.generation,
                Direction::Compensate => state.undo,
            };
            rule(generation == newest && generation > 0, "only the newest generation is sent")?;
            let new = self.sent.insert((step, direction, generation));
            let known = generation == 1 || self.sent.contains(&(step, direction, generation - 1));
            rule(known, "generations are counted without gaps")?;
            match direction {
                Direction::Forward => {
                    rule(
                        !self.undone.contains(&(step, generation)),
                        "what was compensated runs again under a new id only",
                    )?;
                    // A clock may resend a command and turn the saga back in one decision.
                    let back = made.saga.status == Status::Compensating
                        && (new || before.status == Status::Compensating);
                    rule(!back, "nothing goes forward while all goes back")?;
                    if new {
                        self.forward_may_begin(step, &made.saga)?;
                    }
                    if new && generation > 1 {
                        let told = witnesses(self.definition, step);
                        self.believable.retain(|(step, _)| !told.contains(*step));
                    }
                }
                Direction::Compensate => {
                    self.undone.insert((step, state.generation));
                    if new {
                        self.compensation_may_begin(step, before, &made.saga)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What begins while it is held goes out when it is released.
    fn note_unsent(&mut self, saga: &Saga) {
        for (step, state) in saga.steps.iter().enumerate() {
            let ways =
                [(Direction::Forward, state.generation), (Direction::Compensate, state.undo)];
            for (direction, newest) in ways {
                self.sent.extend((1..newest).map(|generation| (step, direction, generation)));
            }
        }
    }

    fn forward_may_begin(&self, step: usize, after: &Saga) -> Result<(), String> {
        let needed = self.definition.ancestors(step);
        let done = needed.iter().all(|before| after.steps[before].phase.stands());
        rule(done, "a step begins when all that it depends on, directly or not, is done")
    }

    /// A fact that belongs behind a pivot can be true once all that leads to that pivot was sent,
    /// or when some step waits for it by now.
    fn note_fact(&mut self, before: &Saga, seen: &FactSeen) {
        let kind = &*seen.kind;
        if before.facts.iter().any(|fact| *fact.kind == *kind && fact.event == seen.event) {
            return; // it says nothing new
        }
        let steps = self.definition.steps();
        let cares = |step: &usize| steps[*step].facts().any(|fact| fact == kind);
        let waits = |step: &usize| matches!(before.steps[*step].phase, Phase::Awaiting { .. });
        let awaited = (0..steps.len()).filter(cares).any(|step| waits(&step));
        let was_sent = |step: usize| {
            !steps[step].is_command() || self.sent.contains(&(step, Direction::Forward, 1))
        };
        let possible = |step: &usize| {
            let mut before = self.definition.ancestors(*step).iter();
            before.all(|pivot| {
                !steps[pivot].pivot || self.definition.ancestors(pivot).iter().all(was_sent)
            })
        };
        let credible: Vec<usize> =
            (0..steps.len()).filter(cares).filter(|step| awaited || possible(step)).collect();
        self.believable.extend(credible.into_iter().map(|step| (step, kind.to_owned())));
    }

    fn facts_are_believed_in_time(&self, before: &Saga, after: &Saga) -> Result<(), String> {
        for (index, step) in self.definition.steps().iter().enumerate() {
            let Work::Facts { completes_on, .. } = &step.work else { continue };
            let believable = |kind: &str| self.believable.contains(&(index, kind.to_owned()));
            let told = match (&before.steps[index].phase, &after.steps[index].phase) {
                (Phase::Done, Phase::Done) | (Phase::Failed { .. }, Phase::Failed { .. }) => true,
                (_, Phase::Done) => completes_on.iter().any(|kind| believable(kind)),
                (_, Phase::Failed { code }) => believable(code),
                _ => true,
            };
            rule(told, "a step believes no fact that was not yet, or is no longer, true of it")?;
        }
        Ok(())
    }

    fn nobody_is_given_up_unseen(
        &self,
        before: &Saga,
        input: &Input,
        now: Time,
        after: &Saga,
    ) -> Result<(), String> {
        let given_up = match &after.cause {
            Some(Cause::InDoubt { step }) if before.cause.is_none() => *step,
            _ => return Ok(()),
        };
        let late = match &before.steps[given_up].phase {
            Phase::Sent(wait) | Phase::Asking(wait) => wait.next().map(|due| now - due),
            _ => None,
        };
        rule(
            *input != Input::Clock || late.is_some_and(|late| late <= LATE),
            "nobody is given up by a clock at which nobody looked in time",
        )
    }

    fn compensation_may_begin(
        &self,
        step: usize,
        before: &Saga,
        after: &Saga,
    ) -> Result<(), String> {
        if matches!(before.steps[step].phase, Phase::Undoing { .. }) {
            return Ok(()); // it had begun: once more under a new id
        }
        let pivots = self.definition.pivots();
        let beyond = pivots.iter().any(|pivot| {
            let phase = &after.steps[pivot].phase;
            phase.stands() || matches!(phase, Phase::Sent(_) | Phase::Asking(_))
        });
        rule(!beyond, "nothing is undone once a pivot is done, or may be done")?;
        let late = matches!(before.steps[step].phase, Phase::Undone | Phase::Failed { .. });
        let undo = self.definition.steps()[step].compensation.as_ref();
        let order = undo.map_or(StepSet::default(), |undo| undo.after);
        rule(
            late || !order.iter().any(|first| owes(self.definition, after, first)),
            "compensations keep their order",
        )
    }

    fn ends_are_earned(&self, before: &Saga, after: &Saga) -> Result<(), String> {
        let steps = || 0..after.steps.len();
        match after.status {
            Status::Completed => rule(
                steps().all(|step| after.steps[step].phase.stands()),
                "completed means that every step is done",
            ),
            Status::Compensated if !before.status.is_final() => rule(
                !steps().any(|step| owes(self.definition, after, step)),
                "compensated means that nothing is owed",
            ),
            _ => Ok(()),
        }
    }

    /// Everybody hears of each state of the order once, in their order, and only when it is true;
    /// its notices go with it.
    fn states_are_told_once(&mut self, made: &Transition) -> Result<(), String> {
        let saga = &made.saga;
        let mut owed: Vec<usize> = Vec::new();
        for effect in &made.effects {
            match effect {
                Effect::Announce(Announcement::Reached(state)) => {
                    let rises = self.told.last().is_none_or(|last| last < state);
                    rule(rises, "a state of the order is told once, and none before it after it")?;
                    self.told.push(*state);
                    let steps = self.definition.steps().iter().zip(&saga.steps);
                    let mut reaching = steps.filter(|(step, _)| step.reaches == Some(*state));
                    let is_true = match state {
                        OrderState::Pending => false,
                        OrderState::Completed => saga.status == Status::Completed,
                        OrderState::Cancelled => saga.status == Status::Compensated,
                        _ => reaching.all(|(_, is)| is.phase.stands()),
                    };
                    rule(is_true, "what is told of the order is true")?;
                    let notices = self.definition.notices().iter().enumerate();
                    owed.extend(notices.filter(|(_, n)| n.on == *state).map(|(index, _)| index));
                }
                Effect::Notify { notice } => {
                    let due = owed.iter().position(|index| index == notice);
                    rule(due.is_some(), "a notice goes with its state")?;
                    due.map(|due| owed.remove(due));
                }
                _ => {}
            }
        }
        rule(owed.is_empty(), "no notice is forgotten")?;
        let last = self.told.last().copied().unwrap_or(OrderState::Pending);
        rule(saga.reached == last, "the saga knows what was told of its order")?;
        let end = match saga.status {
            Status::Completed => Some(OrderState::Completed),
            Status::Compensated => Some(OrderState::Cancelled),
            _ => None,
        };
        rule(end.is_none_or(|end| end == last), "the end is told")
    }

    fn never_silently_stuck(&self, saga: &Saga) -> Result<(), String> {
        let mut seen = HashSet::new();
        let unique = saga.attention.iter().all(|a| seen.insert((a.step, a.code)));
        rule(unique, "one attention per step and code")?;
        let alive = saga.next_clock().is_some() || !saga.attention.is_empty();
        let open = matches!(saga.status, Status::Running | Status::Compensating);
        rule(!open || alive, "an open saga has a clock, or somebody's attention")
    }
}

/// Whether something of a step is, or may be, out in the world.
pub fn owes(definition: &Definition, saga: &Saga, step: usize) -> bool {
    let settled = matches!(
        saga.steps[step].phase,
        Phase::Idle | Phase::Awaiting { .. } | Phase::Failed { .. } | Phase::Undone
    ) || (saga.steps[step].phase == Phase::Skipped
        && saga.steps[step].generation == 0);
    definition.steps()[step].compensation.is_some() && !settled
}

/// The steps whose facts tell of what a command did: they wait behind it, with no other command
/// in between.
fn witnesses(definition: &Definition, command: usize) -> StepSet {
    let mut told = StepSet::default();
    let behind: StepSet = std::iter::once(command).collect();
    for _ in definition.steps() {
        for (index, step) in definition.steps().iter().enumerate() {
            let waits = matches!(step.work, Work::Facts { .. });
            if waits && step.after.intersects(behind.union(told)) {
                told.insert(index);
            }
        }
    }
    told
}

fn rule(holds: bool, words: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("broken rule: {words}")) }
}
