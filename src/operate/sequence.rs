//! What happened to one order as a Mermaid sequence diagram.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::ask::told as verb_told;
use super::explain::span;
use super::timeline::{GAP, Sent, answer, told};
use super::{OperateError, definition_of, definitions, sagas_of};
use crate::saga::{Definition, Direction, Effect, Input, ProbeState, Reply, SagaId, Time};
use crate::store::{JournalRow, Store};

/// How Makegood itself is called in a diagram.
const US: &str = "makegood";
/// Who says what nobody was asked for.
const WORLD: &str = "world";

/// The diagrams of an order's sagas, in the order in which `explain` tells of them.
///
/// # Errors
/// When there is no such order, or the store cannot be read.
pub async fn diagrams(
    store: &dyn Store,
    order_id: &str,
    tenant: Option<&str>,
) -> Result<Vec<String>, OperateError> {
    let catalog = definitions(store).await?;
    let mut diagrams = Vec::new();
    for stored in sagas_of(store, order_id, tenant).await? {
        let loaded = definition_of(&catalog, &stored)?;
        let journal = store.journal(stored.saga.id).await?;
        diagrams.push(diagram(&loaded.definition, stored.saga.id, &journal));
    }
    Ok(diagrams)
}

fn diagram(definition: &Definition, saga: SagaId, journal: &[JournalRow]) -> String {
    let mut sent = Sent::default();
    let mut lines = Vec::new();
    let mut last: Option<Time> = None;
    for row in journal {
        let quiet = last.replace(row.at()).map(|last| row.at() - last);
        if let Some(quiet) = quiet.filter(|quiet| *quiet >= GAP) {
            lines.push(format!("Note over {US}: {} later", span(quiet)));
        }
        lines.extend(came_in(definition, &row.input, &sent));
        row.effects.iter().for_each(|effect| sent.note(definition, saga, effect));
        lines.extend(row.effects.iter().map(|effect| went_out(definition, effect)));
    }
    let mut text = "sequenceDiagram\n".to_owned();
    for actor in actors(definition, &lines) {
        let _ = writeln!(text, "    participant {actor}");
    }
    for line in lines {
        let _ = writeln!(text, "    {line}");
    }
    text
}

/// Those that the lines speak of: the outside first, then us, then participants.
fn actors<'a>(definition: &'a Definition, lines: &[String]) -> Vec<&'a str> {
    let ways = [Direction::Forward, Direction::Compensate];
    let steps = definition.steps().iter();
    let asked = steps.flat_map(|step| ways.into_iter().filter_map(|way| step.command(way)));
    let told = definition.notices().iter().map(|notice| notice.participant.as_str());
    let all: BTreeSet<&str> = asked.map(|(participant, _)| participant).chain(told).collect();
    let is_spoken_of = |actor: &&str| {
        let (from, to) = (format!("{actor}-"), format!(">>{actor}:"));
        lines.iter().any(|line| line.starts_with(&from) || line.contains(&to))
    };
    [WORLD, US].into_iter().chain(all).filter(|actor| *actor == US || is_spoken_of(actor)).collect()
}

fn came_in(definition: &Definition, input: &Input, sent: &Sent) -> Option<String> {
    let said = |participant: &str, words: String| format!("{participant}-->>{US}: {words}");
    Some(match input {
        Input::Start => format!("{WORLD}->>{US}: the order is paid"),
        Input::Fact(fact) => format!("{WORLD}->>{US}: {}", plain(&fact.kind)),
        Input::Cancel => format!("{WORLD}->>{US}: cancel"),
        Input::Operator(verb) => {
            format!("Note over {US}: operator: {}", plain(&verb_told(definition, verb)))
        }
        Input::Clock => return None,
        Input::Reply(Reply { command, outcome, .. }) => {
            let (participant, command) = sent.whose(*command)?;
            said(participant, format!("{command}: {}", plain(&answer(outcome))))
        }
        Input::Probed { command, state, .. } => {
            let (participant, command) = sent.whose(*command)?;
            let words = match state {
                ProbeState::Applied => "was applied",
                ProbeState::NotApplied => "was not applied",
                ProbeState::Unknown => "is not known",
            };
            said(participant, format!("{command} {words}"))
        }
    })
}

fn went_out(definition: &Definition, effect: &Effect) -> String {
    let sent = match effect {
        Effect::Send { step, direction, attempt, .. } => {
            let again = if *attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
            definition.steps()[*step]
                .command(*direction)
                .map(|(to, command)| format!("{US}->>{to}: {command}{again}"))
        }
        Effect::Probe { step, .. } => definition.steps()[*step]
            .command(Direction::Forward)
            .map(|(to, command)| format!("{US}->>{to}: what became of {command}?")),
        Effect::Notify { notice } => {
            let notice = &definition.notices()[*notice];
            Some(format!("{US}-){}: {}", notice.participant, notice.command))
        }
        Effect::Announce(_) | Effect::LateSuccess { .. } => None,
    };
    sent.unwrap_or_else(|| format!("Note over {US}: {}", plain(&told(definition, effect))))
}

/// A text that came from outside, without what Mermaid would read as its own.
fn plain(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || " .,:-_'()".contains(c);
    text.chars().map(|c| if is_plain(c) { c } else { ' ' }).collect()
}
