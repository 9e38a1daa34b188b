//! The language of the inline tests of a definition file: parse, never run.
//!
//! A test says what the outside does (`when`) and what must come of it (`then`). Everything
//! that no `when` line mentions goes well by itself: participants answer success, compensations
//! succeed, and the first fact of every waiting step arrives.
//!
//! ```text
//! when:  STEP succeeds                       STEP rejected CODE
//!        STEP silent                         STEP retries
//!        compensation of STEP refused CODE   compensation of STEP rejected CODE
//!        compensation of STEP finds nothing  compensation of STEP silent | retries
//!        probe of STEP applied | not-applied | unknown | silent
//!        fact EVENT [after STEP]             cancel requested [after STEP | during STEP]
//!        30d pass
//! then:  sent COMMAND [once]                 never sent COMMAND
//!        sent COMMAND before COMMAND         ends completed | compensated
//!        stays running | compensating        attention CODE [at STEP]
//!        no attention                        cancel refused
//! ```
//!
//! An answer followed by `once` is the first one only; after it all goes well. `silent` is no
//! answer at all, so the step's clocks run; of a step that waits for facts, it is no fact.
//! `rejected EVENT` of a waiting step is the fact that fails it. `30d pass` looks at the saga
//! that long after its start; without it, the test runs until nothing can happen any more.

use std::ops::Range;

use super::keys::{Found, parse_duration};
use super::parse::WrittenTest;
use super::problem::{Problem, did_you_mean};
use crate::saga::{AttentionCode, Definition, Millis, ProbeState, Status, Work};

/// A test that was understood.
#[derive(Debug, Clone)]
pub struct InlineTest {
    pub name: String,
    /// Where the file has its name.
    pub span: Range<usize>,
    pub when: Vec<When>,
    pub then: Vec<Expectation>,
}

/// What the outside does. Steps are indexes into the definition.
#[derive(Debug, Clone, PartialEq)]
pub enum When {
    Step {
        step: usize,
        answer: Answer,
        once: bool,
    },
    Compensation {
        step: usize,
        answer: Answer,
        once: bool,
    },
    /// `None` is no answer.
    Probe {
        step: usize,
        answer: Option<ProbeState>,
    },
    Fact {
        kind: String,
        moment: Moment,
    },
    Cancel {
        moment: Moment,
    },
    Pass(Millis),
}

/// How a participant answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Success,
    Rejected(String),
    Refused(String),
    NothingToDo,
    Retry,
    Silent,
}

/// When something happens by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Moment {
    AtOnce,
    /// As soon as the step's command is out, or its wait begun.
    During(usize),
    After(usize),
}

/// A `then` line, as written and as understood.
#[derive(Debug, Clone)]
pub struct Expectation {
    pub text: String,
    pub span: Range<usize>,
    pub then: Then,
}

/// What must come of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Then {
    Sent { command: String, once: bool },
    NeverSent(String),
    SentBefore(String, String),
    Status(Status),
    Attention { code: AttentionCode, step: Option<usize> },
    NoAttention,
    CancelRefused,
}

const WHEN_HELP: &str = "a 'when' line is one of: STEP succeeds | rejected CODE | silent | \
    retries; compensation of STEP refused CODE | rejected CODE | finds nothing | silent | \
    retries; probe of STEP applied | not-applied | unknown | silent; fact EVENT [after STEP]; \
    cancel requested [after STEP | during STEP]; 30d pass (answers may end in 'once')";
const THEN_HELP: &str = "a 'then' line is one of: sent COMMAND [once]; never sent COMMAND; \
    sent COMMAND before COMMAND; ends completed | compensated; stays running | compensating; \
    attention CODE [at STEP]; no attention; cancel refused";

/// Understands the tests of a definition, or tells of every line that it does not.
pub(super) fn read(
    definition: &Definition,
    written: &[WrittenTest],
) -> Result<Vec<InlineTest>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut tests = Vec::new();
    for test in written {
        let reader = Reader { definition };
        let mut told = |line: &Found<String>, trouble: Trouble| {
            let message = format!("test '{}': {}", test.name.value, trouble.message);
            let code = "makegood::definition::test-line";
            problems.push(Problem::new(code, line.span.clone(), message, trouble.help));
        };
        let mut when = Vec::new();
        for line in &test.when {
            match reader.when(&line.value) {
                Ok(When::Pass(_)) if when.iter().any(|w| matches!(w, When::Pass(_))) => {
                    let help = "a test looks at the saga once: keep the longer span";
                    let message = format!("'{}' is the second such line", line.value);
                    told(line, Trouble::new(message, help));
                }
                Ok(parsed) => when.push(parsed),
                Err(trouble) => told(line, trouble),
            }
        }
        let mut then = Vec::new();
        for line in &test.then {
            match reader.then(&line.value) {
                Ok(parsed) => {
                    let (text, span) = (line.value.clone(), line.span.clone());
                    then.push(Expectation { text, span, then: parsed });
                }
                Err(trouble) => told(line, trouble),
            }
        }
        let (name, span) = (test.name.value.clone(), test.name.span.clone());
        tests.push(InlineTest { name, span, when, then });
    }
    if problems.is_empty() { Ok(tests) } else { Err(problems) }
}

struct Trouble {
    message: String,
    help: String,
}

impl Trouble {
    fn new(message: String, help: impl Into<String>) -> Trouble {
        Trouble { message, help: help.into() }
    }
}

struct Reader<'a> {
    definition: &'a Definition,
}

impl Reader<'_> {
    fn when(&self, line: &str) -> Result<When, Trouble> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["compensation", "of", step, answer @ ..] => {
                let step = self.step(step)?;
                if self.definition.steps()[step].compensation.is_none() {
                    let help = "only steps with a compensation are undone";
                    let message = format!("'{line}': the step has no compensation");
                    return Err(Trouble::new(message, help));
                }
                let (answer, once) = answered(line, answer)?;
                Ok(When::Compensation { step, answer, once })
            }
            ["probe", "of", step, answer] => self.probe(line, step, answer),
            ["fact", kind] => Ok(When::Fact { kind: self.fact(kind)?, moment: Moment::AtOnce }),
            ["fact", kind, "after", step] => {
                let moment = Moment::After(self.step(step)?);
                Ok(When::Fact { kind: self.fact(kind)?, moment })
            }
            ["cancel", "requested", moment @ ..] => self.cancel(line, moment),
            [span, "pass" | "passes"] => match parse_duration(span) {
                Ok(span) => Ok(When::Pass(span)),
                Err((message, help)) => Err(Trouble::new(message, help)),
            },
            [step, answer @ ..] if !answer.is_empty() => {
                let step = self.step(step)?;
                let (answer, once) = answered(line, answer)?;
                self.suits(line, step, &answer)?;
                if once && matches!(self.definition.steps()[step].work, Work::Facts { .. }) {
                    let help = "each wait of a step gets one fact: leave 'once' away";
                    return Err(Trouble::new(format!("'{line}' cannot be meant"), help));
                }
                Ok(When::Step { step, answer, once })
            }
            _ => Err(Trouble::new(format!("'{line}' is not understood"), WHEN_HELP)),
        }
    }

    /// Whether a step of this kind can answer so.
    fn suits(&self, line: &str, step: usize, answer: &Answer) -> Result<(), Trouble> {
        let wrong = |help: &str| Err(Trouble::new(format!("'{line}' cannot happen"), help));
        match (&self.definition.steps()[step].work, answer) {
            (Work::Obligation, _) => {
                wrong("an obligation is true from the start; say what its compensation does")
            }
            (_, Answer::Refused(_) | Answer::NothingToDo) => {
                wrong("only a compensation answers so: compensation of STEP …")
            }
            (Work::Facts { .. }, Answer::Success | Answer::Silent) => Ok(()),
            (Work::Facts { fails_on: Some(fact), .. }, Answer::Rejected(kind)) if kind == fact => {
                Ok(())
            }
            (Work::Facts { .. }, _) => wrong(
                "the step waits for facts: say fact EVENT, STEP silent, or STEP rejected \
                       with the event in its fails_on",
            ),
            _ => Ok(()),
        }
    }

    fn probe(&self, line: &str, step: &str, answer: &str) -> Result<When, Trouble> {
        let step = self.step(step)?;
        if !matches!(self.definition.steps()[step].work, Work::Command { probe: true, .. }) {
            let help = "add probe = true to the step, or remove the line";
            return Err(Trouble::new(format!("'{line}': the step is never probed"), help));
        }
        let answer = match answer {
            "applied" => Some(ProbeState::Applied),
            "not-applied" => Some(ProbeState::NotApplied),
            "unknown" => Some(ProbeState::Unknown),
            "silent" => None,
            _ => return Err(Trouble::new(format!("'{line}' is not understood"), WHEN_HELP)),
        };
        Ok(When::Probe { step, answer })
    }

    fn cancel(&self, line: &str, moment: &[&str]) -> Result<When, Trouble> {
        if self.definition.cancels_on().is_none() {
            let help = "add cancels_on = \"…\" to the definition, or remove the line";
            return Err(Trouble::new("nothing cancels this saga".to_owned(), help));
        }
        let moment = match moment {
            [] => Moment::AtOnce,
            ["after", step] => Moment::After(self.step(step)?),
            ["during", step] => Moment::During(self.step(step)?),
            _ => return Err(Trouble::new(format!("'{line}' is not understood"), WHEN_HELP)),
        };
        Ok(When::Cancel { moment })
    }

    fn then(&self, line: &str) -> Result<Then, Trouble> {
        let words: Vec<&str> = line.split_whitespace().collect();
        Ok(match words.as_slice() {
            ["sent", command] => Then::Sent { command: self.command(command)?, once: false },
            ["sent", command, "once"] => Then::Sent { command: self.command(command)?, once: true },
            ["sent", first, "before", second] => {
                Then::SentBefore(self.command(first)?, self.command(second)?)
            }
            ["never", "sent", command] => Then::NeverSent(self.command(command)?),
            ["ends", "completed"] => Then::Status(Status::Completed),
            ["ends", "compensated"] => Then::Status(Status::Compensated),
            ["stays", "running"] => Then::Status(Status::Running),
            ["stays", "compensating"] => Then::Status(Status::Compensating),
            ["attention", code] => Then::Attention { code: attention(code)?, step: None },
            ["attention", code, "at", step] => {
                Then::Attention { code: attention(code)?, step: Some(self.step(step)?) }
            }
            ["no", "attention"] => Then::NoAttention,
            ["cancel", "refused"] => Then::CancelRefused,
            _ => return Err(Trouble::new(format!("'{line}' is not understood"), THEN_HELP)),
        })
    }

    fn step(&self, name: &str) -> Result<usize, Trouble> {
        let names = || self.definition.steps().iter().map(|step| step.name.as_str());
        self.definition.step_named(name).ok_or_else(|| unknown("step", name, names().collect()))
    }

    fn fact(&self, kind: &str) -> Result<String, Trouble> {
        let known = self.definition.facts();
        if known.contains(&kind) { Ok(kind.to_owned()) } else { Err(unknown("fact", kind, known)) }
    }

    fn command(&self, name: &str) -> Result<String, Trouble> {
        let known: Vec<&str> = self.definition.commands().map(|(_, command)| command).collect();
        if known.contains(&name) {
            Ok(name.to_owned())
        } else {
            Err(unknown("command", name, known))
        }
    }
}

/// An answer, and whether it is given only once.
fn answered(line: &str, words: &[&str]) -> Result<(Answer, bool), Trouble> {
    let (words, once) = match words {
        [words @ .., "once"] => (words, true),
        words => (words, false),
    };
    let answer = match words {
        ["succeeds"] => Answer::Success,
        ["rejected", code] => Answer::Rejected((*code).to_owned()),
        ["refused", code] => Answer::Refused((*code).to_owned()),
        ["finds", "nothing"] => Answer::NothingToDo,
        ["silent"] => Answer::Silent,
        // A participant that never stopped asking for patience would be silent.
        ["retries"] => return Ok((Answer::Retry, true)),
        _ => return Err(Trouble::new(format!("'{line}' is not understood"), WHEN_HELP)),
    };
    Ok((answer, once))
}

fn attention(code: &str) -> Result<AttentionCode, Trouble> {
    let known = || AttentionCode::ALL.into_iter().map(AttentionCode::as_str);
    AttentionCode::ALL
        .into_iter()
        .find(|known| known.as_str() == code)
        .ok_or_else(|| unknown("attention code", code, known().collect()))
}

fn unknown(what: &str, word: &str, known: Vec<&str>) -> Trouble {
    let guess = did_you_mean(word, known.iter().copied());
    Trouble::new(
        format!("there is no {what} '{word}'"),
        format!("{guess}known: {}", known.join(", ")),
    )
}
