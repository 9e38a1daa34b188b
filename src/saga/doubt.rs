//! What is in doubt, and what is at risk: asked by operators and by those who watch.

use super::{Definition, Forward, Phase, Saga, Status, Wait};

/// Why nobody knows whether a step, or its compensation, took place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Doubt {
    /// Its participant is asked, and has not said.
    Asked,
    /// The command was given up, and is sent on and on: a pivot, or past it.
    SentOn,
    /// The command was given up, and what it did will be undone.
    ToBeUndone,
    /// The compensation of a command that was never answered is out.
    BeingUndone,
    /// The compensation was given up, and is sent on and on.
    UndoUnanswered,
}

impl Saga {
    /// Whether it is unknown if this step took place, and why.
    #[must_use]
    pub fn doubt(&self, step: usize) -> Option<Doubt> {
        let has_given_up = |wait: &Wait| wait.give_up_at.is_none();
        match &self.steps.get(step)?.phase {
            Phase::Asking(_) => Some(Doubt::Asked),
            Phase::Sent(wait) if has_given_up(wait) && self.status == Status::Running => {
                Some(Doubt::SentOn)
            }
            Phase::Sent(wait) if has_given_up(wait) => Some(Doubt::ToBeUndone),
            Phase::Undoing { forward: Forward::Unknown, .. } => Some(Doubt::BeingUndone),
            Phase::Undoing { wait, .. } if has_given_up(wait) => Some(Doubt::UndoUnanswered),
            _ => None,
        }
    }

    /// Whether its money is at risk: a person is called, or it is unknown what took place. What
    /// an operator has abandoned is settled elsewhere.
    #[must_use]
    pub fn is_at_risk(&self) -> bool {
        let is_in_doubt = || (0..self.steps.len()).any(|step| self.doubt(step).is_some());
        self.status != Status::Abandoned && (!self.attention.is_empty() || is_in_doubt())
    }
}

/// The name of a step in what is told of a saga; `-` for the saga as a whole.
#[must_use]
pub fn step_label(definition: &Definition, step: Option<usize>) -> &str {
    step.and_then(|step| definition.steps().get(step)).map_or("-", |step| &step.name)
}
