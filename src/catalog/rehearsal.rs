//! Runs the inline tests of a definition: the pure core in virtual time, against an outside
//! that does what the test's `when` lines say and is obliging otherwise.

use std::collections::BTreeMap;

use serde::Serialize;

use super::inline_test::{Answer, Expectation, InlineTest, Moment, Then, When};
use super::{LoadedDefinition, narrate};
use crate::saga::{
    CancelState, CommandId, Definition, Direction, Effect, EventId, FactSeen, Input, Millis,
    Outcome, Phase, Reply, Saga, SagaId, Status, Time, Transition, Verdict, Work, decide,
};

/// How long a simulated participant takes: shorter than any sensible resend.
const ANSWER_TIME: Millis = Millis(5);
/// How long the world takes to bring a fact about: long enough to cancel or fail in between.
const FACT_TIME: Millis = Millis::HOUR;
/// A month of silence is some thousands of resends; what needs more than this many decisions
/// goes round in circles, or passes more time than a test should.
const MAX_DECISIONS: usize = 20_000;

/// What became of one inline test.
#[derive(Debug, Clone, Serialize)]
pub struct TestRun {
    pub name: String,
    /// The line of the file that has the test's name, from 1.
    pub line: usize,
    pub passed: bool,
    pub expectations: Vec<Judged>,
    /// The whole run, one entry for each decision.
    pub trace: Vec<TraceLine>,
    /// Where the saga stood at the end.
    pub status: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub struct Judged {
    pub expectation: String,
    pub line: usize,
    pub held: bool,
    /// What was so instead; empty where it held.
    pub instead: String,
}

/// One decision of a run.
#[derive(Debug, Clone, Serialize)]
pub struct TraceLine {
    /// Since the saga's start.
    pub after_ms: u64,
    pub input: String,
    pub effects: Vec<String>,
}

/// Runs every inline test of a definition.
#[must_use]
pub fn run(loaded: &LoadedDefinition) -> Vec<TestRun> {
    loaded.tests.iter().map(|test| run_one(loaded, test)).collect()
}

fn run_one(loaded: &LoadedDefinition, test: &InlineTest) -> TestRun {
    let mut stage = Stage::new(&loaded.definition, test);
    stage.play();
    let line_of = |at: usize| loaded.text[..at].matches('\n').count() + 1;
    let judge = |expectation: &Expectation| {
        let instead = stage.instead(&expectation.then);
        let held = instead.is_none();
        let (line, text) = (line_of(expectation.span.start), expectation.text.clone());
        Judged { expectation: text, line, held, instead: instead.unwrap_or_default() }
    };
    let expectations: Vec<Judged> = test.then.iter().map(judge).collect();
    TestRun {
        name: test.name.clone(),
        line: line_of(test.span.start),
        passed: expectations.iter().all(|judged| judged.held),
        expectations,
        status: stage.saga.status.as_str(),
        trace: stage.trace,
    }
}

/// One run: the saga, and what is on its way to it.
struct Stage<'a> {
    definition: &'a Definition,
    saga: Saga,
    now: Time,
    /// What will happen, by time and then in the order in which it was foreseen.
    ahead: BTreeMap<(Time, u64), Coming>,
    foreseen: u64,
    /// The answers that the test prescribes and that are still to be given.
    script: Vec<When>,
    horizon: Option<Time>,
    /// Of commands, each id once.
    ids: Vec<(usize, Direction, u16)>,
    /// The commands and notices that went out, in their order.
    sent: Vec<String>,
    trace: Vec<TraceLine>,
}

struct Coming {
    input: Input,
    /// It only comes about if this step still waits for it: a parcel that was called back is
    /// scanned by nobody, unless the test says so.
    only_for: Option<usize>,
}

impl<'a> Stage<'a> {
    fn new(definition: &'a Definition, test: &InlineTest) -> Stage<'a> {
        let id = SagaId::of("test", &test.name, definition.name());
        let horizon = test.when.iter().find_map(|when| match when {
            When::Pass(span) => Some(Time::default() + *span),
            _ => None,
        });
        Stage {
            definition,
            saga: Saga::created(definition, id),
            now: Time::default(),
            ahead: BTreeMap::new(),
            foreseen: 0,
            script: test.when.clone(),
            horizon,
            ids: Vec::new(),
            sent: Vec::new(),
            trace: Vec::new(),
        }
    }

    fn play(&mut self) {
        self.happen(Input::Start);
        while self.trace.len() < MAX_DECISIONS && !self.is_at_rest() {
            let event = self.ahead.first_key_value().map(|(key, _)| *key);
            let clock = self.saga.next_clock();
            let next = event.map(|(at, _)| at).into_iter().chain(clock).min();
            let Some(next) = next else { break };
            if self.horizon.is_some_and(|horizon| next > horizon) {
                break;
            }
            self.now = self.now.max(next);
            match event.filter(|(at, _)| *at <= self.now).and_then(|key| self.ahead.remove(&key)) {
                None => self.happen(Input::Clock),
                Some(Coming { input, only_for: None }) => self.happen(input),
                Some(Coming { input, only_for: Some(step) }) => {
                    if matches!(self.saga.steps[step].phase, Phase::Awaiting { .. }) {
                        self.happen(input);
                    }
                }
            }
        }
    }

    /// Nothing more can come of it: nothing is on its way, somebody was called, and all that is
    /// left is asking again. With a horizon, the test wants to see the asking.
    fn is_at_rest(&self) -> bool {
        let only_resends = self.saga.steps.iter().all(|step| match &step.phase {
            Phase::Sent(wait) | Phase::Asking(wait) | Phase::Undoing { wait, .. } => {
                wait.give_up_at.is_none() && wait.deadline_at.is_none()
            }
            Phase::Awaiting { deadline_at } => deadline_at.is_none(),
            _ => true,
        });
        let called = !self.saga.attention.is_empty();
        self.horizon.is_none() && self.ahead.is_empty() && called && only_resends
    }

    fn happen(&mut self, input: Input) {
        let before = self.saga.clone();
        let transition = decide(self.definition, &self.saga, &input, self.now);
        self.note(&input, &transition);
        let Transition { saga, effects, .. } = transition;
        self.saga = saga;
        for effect in effects {
            match effect {
                Effect::Send { step, direction, generation, .. } => {
                    self.note_sent(step, direction, generation);
                    self.answer(step, direction, generation);
                }
                Effect::Probe { step, generation } => self.answer_probe(step, generation),
                Effect::Notify { notice } => {
                    self.sent.push(self.definition.notices()[notice].command.clone());
                }
                Effect::Announce(_) | Effect::LateSuccess { .. } => {}
            }
        }
        self.look_around(&before, input == Input::Start);
    }

    /// A resend carries the id of what was sent before, and is not counted.
    fn note_sent(&mut self, step: usize, direction: Direction, generation: u16) {
        let command = (step, direction, generation);
        if !self.ids.contains(&command) {
            self.ids.push(command);
            let name = self.definition.steps()[step].command(direction);
            self.sent.extend(name.map(|(_, name)| name.to_owned()));
        }
    }

    /// Has a participant answer a command as the script says, or well.
    fn answer(&mut self, step: usize, direction: Direction, generation: u16) {
        let wanted = |when: &When| match when {
            When::Step { step: s, .. } => *s == step && direction == Direction::Forward,
            When::Compensation { step: s, .. } => *s == step && direction == Direction::Compensate,
            _ => false,
        };
        let answer = match self.script.iter().position(wanted) {
            None => Answer::Success,
            Some(place) => match self.script[place].clone() {
                When::Step { answer, once, .. } | When::Compensation { answer, once, .. } => {
                    if once {
                        self.script.remove(place);
                    }
                    answer
                }
                _ => Answer::Success,
            },
        };
        let outcome = match answer {
            Answer::Silent => return,
            Answer::Success => Outcome::Success,
            Answer::Rejected(code) => Outcome::Rejected { code: code.into() },
            Answer::Refused(code) => Outcome::Refused { code: code.into() },
            Answer::NothingToDo => Outcome::NothingToDo,
            Answer::Retry => Outcome::Retry,
        };
        let name = &self.definition.steps()[step].name;
        let command = CommandId::of(self.saga.id, name, direction, generation);
        self.foresee(ANSWER_TIME, Input::Reply(Reply { command, from: None, outcome, data: None }));
    }

    fn answer_probe(&mut self, step: usize, generation: u16) {
        let answer = self.script.iter().find_map(|when| match when {
            When::Probe { step: s, answer } if *s == step => Some(*answer),
            _ => None,
        });
        if let Some(Some(state)) = answer {
            let name = &self.definition.steps()[step].name;
            let command = CommandId::of(self.saga.id, name, Direction::Forward, generation);
            self.foresee(ANSWER_TIME, Input::Probed { command, from: None, state, data: None });
        }
    }

    /// What the world does by itself after a decision: facts for steps that began to wait, and
    /// what the script ties to a moment.
    fn look_around(&mut self, before: &Saga, started: bool) {
        for step in 0..self.saga.steps.len() {
            let (was, is) = (&before.steps[step].phase, &self.saga.steps[step].phase);
            let waits = |phase: &Phase| matches!(phase, Phase::Awaiting { .. });
            if waits(is) && !waits(was) {
                self.bring_fact(step);
            }
        }
        let saga = self.saga.clone();
        let done = |saga: &Saga, step: usize| saga.steps[step].phase == Phase::Done;
        let begun = |saga: &Saga, step: usize| saga.steps[step].phase != Phase::Idle;
        let due = |moment: &Moment| match *moment {
            Moment::AtOnce => started,
            Moment::During(step) => begun(&saga, step) && !begun(before, step),
            Moment::After(step) => done(&saga, step) && !done(before, step),
        };
        let comes = |when: &When| matches!(when, When::Fact { moment, .. } | When::Cancel { moment } if due(moment));
        // Each comes about once, also where its moment comes again because a step is redone.
        let (now, later) = std::mem::take(&mut self.script).into_iter().partition(comes);
        self.script = later;
        let now: Vec<When> = now;
        for when in now {
            match when {
                When::Fact { kind, .. } => self.foresee_fact(Millis(1), &kind, None),
                _ => self.foresee(Millis(1), Input::Cancel),
            }
        }
    }

    /// The fact that a step waits for: the first of those that complete it, or what the script
    /// has for it instead.
    fn bring_fact(&mut self, step: usize) {
        let Work::Facts { completes_on, .. } = &self.definition.steps()[step].work else { return };
        let scripted = self.script.iter().find_map(|when| match when {
            When::Step { step: s, answer, .. } if *s == step => Some(answer.clone()),
            _ => None,
        });
        match scripted {
            Some(Answer::Silent) => {}
            Some(Answer::Rejected(fact)) => {
                let attempts = self.definition.steps()[step].attempts(&fact).unwrap_or(1);
                for attempt in (1..).take(attempts) {
                    self.foresee_fact(FACT_TIME.times(attempt), &fact, Some(step));
                }
            }
            _ => self.foresee_fact(FACT_TIME, &completes_on[0].clone(), Some(step)),
        }
    }

    fn foresee_fact(&mut self, after: Millis, kind: &str, only_for: Option<usize>) {
        let event = EventId::of("test", &self.foreseen.to_string()); // a new one each time
        self.come(after, Input::Fact(FactSeen { kind: kind.into(), event }), only_for);
    }

    fn foresee(&mut self, after: Millis, input: Input) {
        self.come(after, input, None);
    }

    fn come(&mut self, after: Millis, input: Input, only_for: Option<usize>) {
        self.foreseen += 1;
        self.ahead.insert((self.now + after, self.foreseen), Coming { input, only_for });
    }

    /// Why an expectation did not hold; `None` where it did.
    fn instead(&self, then: &Then) -> Option<String> {
        if self.trace.len() >= MAX_DECISIONS {
            return Some(format!("no end after {MAX_DECISIONS} decisions; let less time pass"));
        }
        let count = |command: &str| self.sent.iter().filter(|sent| *sent == command).count();
        let first = |command: &str| self.sent.iter().position(|sent| sent == command);
        let unless = |held: bool, instead: String| (!held).then_some(instead);
        match then {
            Then::Sent { command, once: false } => {
                unless(count(command) > 0, format!("sent: {}", listed(&self.sent)))
            }
            Then::Sent { command, once: true } => {
                unless(count(command) == 1, format!("sent {} times", count(command)))
            }
            Then::NeverSent(command) => {
                unless(count(command) == 0, format!("sent {} times", count(command)))
            }
            Then::SentBefore(one, other) => {
                let held = matches!((first(one), first(other)), (Some(a), Some(b)) if a < b);
                unless(held, format!("sent: {}", listed(&self.sent)))
            }
            Then::Status(status) => {
                unless(self.saga.status == *status, self.saga.status.as_str().to_owned())
            }
            Then::Attention { code, step } => {
                let fits = |a: &crate::saga::Attention| {
                    a.code == *code && (step.is_none() || a.step == *step)
                };
                unless(self.saga.attention.iter().any(fits), self.attention())
            }
            Then::NoAttention => unless(self.saga.attention.is_empty(), self.attention()),
            Then::CancelRefused => {
                let instead = match self.saga.cancel {
                    CancelState::None => "nobody asked, or the wish was fulfilled anyway",
                    CancelState::Waiting => "it waits for the pivot",
                    CancelState::Accepted => "it was accepted",
                    CancelState::Refused => return None,
                };
                Some(instead.to_owned())
            }
        }
    }

    fn attention(&self) -> String {
        let shown = self.saga.attention.iter().map(|attention| {
            narrate::attention(self.definition, attention.step, attention.code.as_str())
        });
        let all: Vec<String> = shown.collect();
        if all.is_empty() { "no attention".to_owned() } else { all.join(", ") }
    }

    fn note(&mut self, input: &Input, transition: &Transition) {
        let effects =
            transition.effects.iter().map(|effect| narrate::effect(self.definition, effect));
        let mut effects: Vec<String> = effects.collect();
        match transition.verdict {
            Verdict::Applied => {}
            Verdict::Ignored(why) => effects.push(format!("ignored: {}", why.as_str())),
            Verdict::Refused(why) => effects.push(format!("refused: {}", why.as_str())),
        }
        if transition.saga.status != self.saga.status && self.saga.status != Status::Created {
            effects.push(format!("now {}", transition.saga.status.as_str()));
        }
        let input = narrate::input(self.definition, &transition.saga, input);
        let after_ms = (self.now - Time::default()).0;
        self.trace.push(TraceLine { after_ms, input, effects });
    }
}

fn listed(sent: &[String]) -> String {
    if sent.is_empty() { "nothing".to_owned() } else { sent.join(", ") }
}
