//! What happens in a rehearsal, in words: the trace of a failing inline test.

use std::time::Duration;

use super::rehearsal::TestRun;
use crate::saga::{Announcement, CommandId, Definition, Direction, Effect, Input, Outcome, Saga};

impl TestRun {
    /// The run as a person reads it: what happened, then each expectation with its verdict.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mark = |good| if good { "ok  " } else { "FAIL" };
        let mut text = format!("{} {}\n", mark(self.passed), self.name);
        if self.passed {
            return text;
        }
        for line in &self.trace {
            let offset = humantime::format_duration(Duration::from_millis(line.after_ms));
            text += &format!("     {:<16} {}\n", format!("+{offset}"), line.input);
            for effect in &line.effects {
                text += &format!("     {:<16}   -> {effect}\n", "");
            }
        }
        for judged in &self.expectations {
            text += &format!("  {} {}", mark(judged.held), judged.expectation);
            if !judged.held {
                text += &format!("   (line {}; instead: {})", judged.line, judged.instead);
            }
            text.push('\n');
        }
        text
    }
}

/// An input in the words of a `when` line.
pub(super) fn input(definition: &Definition, saga: &Saga, input: &Input) -> String {
    match input {
        Input::Start => "start".to_owned(),
        Input::Clock => "the clock".to_owned(),
        Input::Cancel => "cancel requested".to_owned(),
        Input::Operator(verb) => match verb.step() {
            Some(step) => format!("{} {}", verb.name(), definition.steps()[step].name),
            None => verb.name().to_owned(),
        },
        Input::Fact(fact) => format!("fact {}", fact.kind),
        Input::Reply(reply) => {
            let answer = match &reply.outcome {
                Outcome::Success => "succeeds".to_owned(),
                Outcome::Rejected { code } => format!("rejected {code}"),
                Outcome::Refused { code } => format!("refused {code}"),
                Outcome::Retry => "retries".to_owned(),
                Outcome::NothingToDo => "finds nothing".to_owned(),
            };
            format!("{} {answer}", whose(definition, saga, reply.command))
        }
        Input::Probed { command, state, .. } => {
            format!("probe of {}: {state:?}", whose(definition, saga, *command))
        }
    }
}

/// The step that a command belongs to.
fn whose(definition: &Definition, saga: &Saga, id: CommandId) -> String {
    for (step, state) in definition.steps().iter().zip(&saga.steps) {
        let is = |direction, newest| {
            (1..=newest).any(|g| CommandId::of(saga.id, &step.name, direction, g) == id)
        };
        if is(Direction::Forward, state.generation) {
            return step.name.clone();
        }
        if is(Direction::Compensate, state.undo) {
            return format!("compensation of {}", step.name);
        }
    }
    "an unknown command".to_owned()
}

/// An attention in the words of a `then` line.
pub(super) fn attention(definition: &Definition, step: Option<usize>, code: &str) -> String {
    match step {
        Some(step) => format!("attention {code} at {}", definition.steps()[step].name),
        None => format!("attention {code}"),
    }
}

/// An effect as a person reads it.
pub(super) fn effect(definition: &Definition, done: &Effect) -> String {
    let name = |step: usize| definition.steps()[step].name.as_str();
    match done {
        Effect::Send { step, direction, generation, attempt } => {
            let command = definition.steps()[*step].command(*direction);
            let command = command.map_or("nothing", |(_, command)| command);
            let again = if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
            let anew =
                if *generation > 1 { format!(", generation {generation}") } else { String::new() };
            format!("send {command}{anew}{again}")
        }
        Effect::Probe { step, .. } => format!("probe {}", name(*step)),
        Effect::Notify { notice } => format!("send {}", definition.notices()[*notice].command),
        Effect::LateSuccess { step } => format!("late success of {}", name(*step)),
        Effect::Announce(announcement) => match announcement {
            Announcement::Reached(state) => format!("announce {}", state.as_str()),
            Announcement::CancelRefused { why } => {
                format!("announce cancel refused: {}", why.as_str())
            }
            Announcement::AttentionRaised { step, code } => {
                attention(definition, *step, code.as_str())
            }
            Announcement::AttentionCleared { step, code } => {
                format!("cleared: {}", attention(definition, *step, code.as_str()))
            }
            Announcement::Abandoned => "announce abandoned".to_owned(),
        },
    }
}
