//! A saga's journal as a timeline: what happened, and what was done about it.

use serde::Serialize;

use super::explain::span;
use super::{OperateError, definition_of, definitions, sagas_of};
use crate::clock::rfc3339;
use crate::saga::{
    Announcement, CommandId, Definition, Direction, Effect, Input, Millis, OrderState, Outcome,
    ProbeState, Reply, SagaId, Time,
};
use crate::store::{AuditRow, AuditedRow, JournalRow, Store};

/// One transition, told.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    pub version: u32,
    /// RFC 3339.
    pub at: String,
    pub happened: String,
    /// The operator who did it, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// For how long nothing had happened before, where that was long: 1 h or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet_before: Option<String>,
    pub done: Vec<String>,
}

/// Silence that is worth showing.
pub(super) const GAP: Millis = Millis::HOUR;

/// The timelines of an order's sagas, in the order in which `explain` tells of them.
///
/// # Errors
/// When there is no such order, or the store cannot be read.
pub async fn timelines(
    store: &dyn Store,
    order_id: &str,
    tenant: Option<&str>,
) -> Result<Vec<Vec<Entry>>, OperateError> {
    let catalog = definitions(store).await?;
    let mut timelines = Vec::new();
    for stored in sagas_of(store, order_id, tenant).await? {
        let loaded = definition_of(&catalog, &stored)?;
        let journal = store.journal(stored.saga.id).await?;
        let deeds = store.deeds(stored.saga.id).await?;
        timelines.push(timeline(&loaded.definition, stored.saga.id, &journal, &deeds));
    }
    Ok(timelines)
}

/// Tells a journal, oldest first.
fn timeline(
    definition: &Definition,
    saga: SagaId,
    journal: &[JournalRow],
    deeds: &[AuditedRow],
) -> Vec<Entry> {
    let mut sent = Sent::default();
    let mut last: Option<Time> = None;
    journal
        .iter()
        .map(|row| {
            let quiet = last.replace(row.at()).map(|last| row.at() - last);
            let deed = deeds.iter().find(|deed| deed.version == row.version);
            let happened = happened(definition, &row.input, &sent);
            row.effects.iter().for_each(|effect| sent.note(definition, saga, effect));
            Entry {
                version: row.version,
                at: rfc3339(row.at()),
                happened,
                by: deed.map(|AuditedRow { deed, .. }| signature(deed)),
                quiet_before: quiet.filter(|quiet| *quiet >= GAP).map(span),
                done: row.effects.iter().map(|effect| told(definition, effect)).collect(),
            }
        })
        .collect()
}

fn signature(deed: &AuditRow) -> String {
    match &deed.approver {
        Some(approver) => format!("{} and {approver}: {}", deed.actor, deed.reason),
        None => format!("{}: {}", deed.actor, deed.reason),
    }
}

/// The commands sent so far, so that a reply can be named by what it answers.
#[derive(Default)]
pub(super) struct Sent(Vec<(CommandId, String, String)>);

impl Sent {
    pub fn note(&mut self, definition: &Definition, saga: SagaId, effect: &Effect) {
        let (step, direction, generation) = match effect {
            Effect::Send { step, direction, generation, .. } => (*step, *direction, *generation),
            Effect::Probe { step, generation } => (*step, Direction::Forward, *generation),
            _ => return,
        };
        let Some(step) = definition.steps().get(step) else { return };
        let id = CommandId::of(saga, &step.name, direction, generation);
        if let Some((participant, command)) = step.command(direction)
            && self.whose(id).is_none()
        {
            self.0.push((id, participant.to_owned(), command.to_owned()));
        }
    }

    /// The participant that got it, and what the command is called.
    pub fn whose(&self, id: CommandId) -> Option<(&str, &str)> {
        let (_, participant, command) = self.0.iter().find(|(known, ..)| *known == id)?;
        Some((participant, command))
    }

    fn name(&self, id: CommandId) -> &str {
        self.whose(id).map_or("a command", |(_, command)| command)
    }
}

/// A participant's answer as a person reads it.
pub(super) fn answer(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Success => "success".to_owned(),
        Outcome::Rejected { code } => format!("rejected, {code}"),
        Outcome::Retry => "try again later".to_owned(),
        Outcome::Refused { code } => format!("refused, {code}"),
        Outcome::NothingToDo => "nothing to do".to_owned(),
    }
}

fn happened(definition: &Definition, input: &Input, sent: &Sent) -> String {
    match input {
        Input::Start => "the order is paid".to_owned(),
        Input::Reply(Reply { command, outcome, .. }) => {
            format!("{}: {}", sent.name(*command), answer(outcome))
        }
        Input::Probed { command, state, .. } => {
            let state = match state {
                ProbeState::Applied => "was applied",
                ProbeState::NotApplied => "was not applied",
                ProbeState::Unknown => "is not known there",
            };
            format!("{} {state}", sent.name(*command))
        }
        Input::Fact(fact) => fact.kind.to_string(),
        Input::Clock => "a clock fired".to_owned(),
        Input::Cancel => "cancellation requested".to_owned(),
        Input::Operator(verb) => super::ask::told(definition, verb),
    }
}

/// An effect as a person reads it.
pub(super) fn told(definition: &Definition, effect: &Effect) -> String {
    let step_at = |step: usize| definition.steps().get(step);
    let name = |step: usize| step_at(step).map_or("an unknown step", |step| &step.name);
    let about = |step: &Option<usize>| step.map_or("the saga", name).to_owned();
    match effect {
        Effect::Send { step, direction, attempt, .. } => {
            let command = step_at(*step).and_then(|step| step.command(*direction));
            let command = command.map_or("an unknown command", |(_, command)| command);
            match attempt {
                1 => format!("sent {command}"),
                _ => format!("sent {command} again (attempt {attempt})"),
            }
        }
        Effect::Probe { step, .. } => format!("asked what became of {}", name(*step)),
        Effect::Announce(Announcement::Reached(OrderState::Cancelled)) => {
            "all undone: compensated, and the order is cancelled".to_owned()
        }
        Effect::Announce(Announcement::Reached(state)) => {
            format!("the order is {}", state.as_str())
        }
        Effect::Notify { notice } => {
            let notice = definition.notices().get(*notice);
            let command = notice.map_or("an unknown notice", |notice| &notice.command);
            format!("sent {command}, which nothing waits for")
        }
        Effect::Announce(Announcement::CancelRefused { why }) => {
            format!("cancellation refused: {}", why.as_str())
        }
        Effect::Announce(Announcement::AttentionRaised { step, code }) => {
            format!("attention raised at {}: {}", about(step), code.as_str())
        }
        Effect::Announce(Announcement::AttentionCleared { step, code }) => {
            format!("attention cleared at {}: {}", about(step), code.as_str())
        }
        Effect::Announce(Announcement::Abandoned) => "ended as it stands".to_owned(),
        Effect::LateSuccess { step } => format!("late success of {}", name(*step)),
    }
}
