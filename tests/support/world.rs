//! Participants that keep their contract over a network that does not: each applies a command
//! once, repeats its first answer, and refuses a command whose compensation came first. They
//! keep their own books, so that the saga's idea of the world can be compared with the world.

use std::collections::{HashMap, HashSet};

use makegood::saga::{
    Attention, AttentionCode, CommandId, Definition, Direction, Effect, EventId, FactSeen, Input,
    Outcome, Phase, ProbeState, Reply, Saga, SagaId, Status, Time, Verb, Work, decide,
};

use super::rules::Watch;

/// A saga that needs more inputs than this to come to rest goes round in circles.
const MAX_INPUTS_TO_REST: usize = 5_000;

/// What becomes of one message, and what a participant that sees it for the first time says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    Succeed,
    Reject,
    /// A compensation comes too late. A forward command is rejected instead.
    Refuse,
    Retry,
    /// The message never arrives.
    LoseMessage,
    /// It arrives and is acted upon; the answer never comes back.
    LoseReply,
    /// The answer arrives twice.
    Twice,
    /// The answer stays under way until [`World::let_go`].
    HoldReply,
    /// A compensation that finds nothing is not remembered, against the contract: the command
    /// that it was for is applied if it comes later.
    Forget,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// `target` is the forward generation that a compensation undoes.
    Command {
        step: usize,
        direction: Direction,
        generation: u16,
        target: u16,
    },
    Probe {
        step: usize,
        generation: u16,
    },
    Answer(Input),
}

pub struct World<'a> {
    pub definition: &'a Definition,
    pub saga: Saga,
    pub now: Time,
    pub wire: Vec<Message>,
    pub held: Vec<Message>,
    watch: Watch<'a>,
    events: u64,
    /// The participants' books: the first final answer to each id, what is applied (step,
    /// generation), what was undone again, and what will never be applied.
    answers: HashMap<(usize, Direction, u16), Outcome>,
    applied: HashSet<(usize, u16)>,
    undone: HashSet<(usize, u16)>,
    tombstones: HashSet<(usize, u16)>,
    /// What should have been there and was forgotten.
    forgotten: HashSet<(usize, u16)>,
    /// The commands of which the saga was told that they were applied.
    told: HashSet<CommandId>,
}

impl<'a> World<'a> {
    pub fn new(definition: &'a Definition) -> World<'a> {
        let saga = Saga::created(definition, SagaId::of("acme", "o-1", definition.name()));
        let obligations = definition.steps().iter().enumerate();
        let obligations = obligations.filter(|(_, step)| step.work == Work::Obligation);
        World {
            definition,
            watch: Watch::new(definition, &saga),
            saga,
            now: Time(1_000_000),
            wire: Vec::new(),
            held: Vec::new(),
            events: 0,
            answers: HashMap::new(),
            applied: obligations.map(|(step, _)| (step, 0)).collect(),
            undone: HashSet::new(),
            tombstones: HashSet::new(),
            forgotten: HashSet::new(),
            told: HashSet::new(),
        }
    }

    /// Hands an input to the core, checks the rules, and puts the effects on the wire.
    pub fn happen(&mut self, input: Input) -> Result<(), String> {
        let made = decide(self.definition, &self.saga, &input, self.now);
        self.watch.check(&self.saga, &input, self.now, &made)?;
        match &input {
            Input::Reply(Reply { command, outcome: Outcome::Success, .. })
            | Input::Probed { command, state: ProbeState::Applied, .. } => {
                self.told.insert(*command);
            }
            _ => {}
        }
        for effect in &made.effects {
            match *effect {
                Effect::Send { step, direction, generation, .. } => {
                    let target = made.saga.steps[step].generation;
                    self.wire.push(Message::Command { step, direction, generation, target });
                }
                Effect::Probe { step, generation } => {
                    self.wire.push(Message::Probe { step, generation });
                }
                Effect::Announce(_) | Effect::Notify { .. } | Effect::LateSuccess { .. } => {}
            }
        }
        self.saga = made.saga;
        Ok(())
    }

    /// Time goes on to the saga's next clock, which fires.
    pub fn tick(&mut self) -> Result<(), String> {
        self.now = self.now.max(self.saga.next_clock().unwrap_or(self.now));
        self.happen(Input::Clock)
    }

    pub fn fact(&mut self, kind: &str) -> Result<(), String> {
        self.events += 1;
        let event = EventId::of("world", &self.events.to_string());
        self.happen(Input::Fact(FactSeen { kind: kind.into(), event }))
    }

    /// Takes a message off the wire and carries it to where it goes.
    pub fn deliver(&mut self, place: usize, act: Act) -> Result<(), String> {
        let message = self.wire.remove(place);
        if act == Act::LoseMessage {
            return Ok(());
        }
        let answer = match message {
            Message::Answer(input) => {
                if act == Act::Twice {
                    self.happen(input.clone())?;
                }
                return self.happen(input);
            }
            Message::Probe { step, generation } => {
                let command = self.id(step, Direction::Forward, generation);
                let state = match (act, self.applied.contains(&(step, generation))) {
                    (Act::Retry | Act::Reject, _) => ProbeState::Unknown,
                    (_, true) => ProbeState::Applied,
                    (_, false) => ProbeState::NotApplied,
                };
                Input::Probed { command, from: None, state, data: None }
            }
            Message::Command { step, direction, generation, target } => {
                let outcome = match direction {
                    Direction::Forward => self.perform(step, generation, act),
                    Direction::Compensate => self.undo(step, generation, target, act),
                };
                let command = self.id(step, direction, generation);
                let participant = self.definition.steps()[step].command(direction);
                let from = participant.map(|(name, _)| name.into());
                Input::Reply(Reply { command, from, outcome, data: None })
            }
        };
        match act {
            Act::LoseReply => {}
            Act::HoldReply => self.held.push(Message::Answer(answer)),
            Act::Twice => {
                self.wire.extend([Message::Answer(answer.clone()), Message::Answer(answer)])
            }
            _ => self.wire.push(Message::Answer(answer)),
        }
        Ok(())
    }

    pub fn let_go(&mut self) {
        self.wire.append(&mut self.held);
    }

    /// The participant does a step, once per id.
    fn perform(&mut self, step: usize, generation: u16, act: Act) -> Outcome {
        let key = (step, Direction::Forward, generation);
        if let Some(first) = self.answers.get(&key) {
            return first.clone();
        }
        let outcome = match act {
            _ if self.tombstones.contains(&(step, generation)) => {
                Outcome::Refused { code: "UNDONE_BEFORE".into() }
            }
            Act::Retry => return Outcome::Retry,
            Act::Reject | Act::Refuse => Outcome::Rejected { code: "NO".into() },
            _ => {
                self.applied.insert((step, generation));
                Outcome::Success
            }
        };
        self.answers.insert(key, outcome.clone());
        outcome
    }

    /// The participant undoes what it did of a step up to generation `target`, once per id.
    fn undo(&mut self, step: usize, generation: u16, target: u16, act: Act) -> Outcome {
        let key = (step, Direction::Compensate, generation);
        if let Some(first) = self.answers.get(&key) {
            return first.clone();
        }
        let stands: Vec<(usize, u16)> =
            (0..=target).map(|g| (step, g)).filter(|key| self.is_live(key)).collect();
        let outcome = match act {
            Act::Retry => return Outcome::Retry,
            Act::Reject => Outcome::Rejected { code: "NOT_NOW".into() },
            Act::Refuse if !stands.is_empty() => Outcome::Refused { code: "TOO_LATE".into() },
            Act::Forget if stands.is_empty() => {
                self.forgotten.extend((1..=target).map(|g| (step, g)));
                Outcome::NothingToDo
            }
            _ => {
                self.tombstones.extend((1..=target).map(|g| (step, g)));
                let found = !stands.is_empty();
                self.undone.extend(stands);
                if found { Outcome::Success } else { Outcome::NothingToDo }
            }
        };
        self.answers.insert(key, outcome.clone());
        outcome
    }

    fn is_live(&self, key: &(usize, u16)) -> bool {
        self.applied.contains(key) && !self.undone.contains(key)
    }

    fn id(&self, step: usize, direction: Direction, generation: u16) -> CommandId {
        let name = &self.definition.steps()[step].name;
        CommandId::of(self.saga.id, name, direction, generation)
    }

    /// The network heals and everybody is obliging, until nothing happens any more.
    pub fn heal(&mut self) -> Result<(), String> {
        self.let_go();
        self.happen(Input::Operator(Verb::Release))?;
        for _ in 0..MAX_INPUTS_TO_REST {
            if !self.wire.is_empty() {
                self.deliver(0, Act::Succeed)?;
            } else if let Some(fact) = self.awaited_fact() {
                self.fact(&fact)?;
            } else if self.saga.next_clock().is_some() {
                self.tick()?;
            } else {
                return self.judge();
            }
        }
        Err(format!("broken rule: a healed saga comes to rest\n{:#?}", self.saga))
    }

    fn awaited_fact(&self) -> Option<String> {
        let steps = self.definition.steps().iter().zip(&self.saga.steps);
        steps.into_iter().find_map(|(step, state)| match (&step.work, &state.phase) {
            (Work::Facts { completes_on, .. }, Phase::Awaiting { .. }) => {
                Some(completes_on[0].clone())
            }
            _ => None,
        })
    }

    /// Compares the saga at rest with the participants' books.
    fn judge(&self) -> Result<(), String> {
        let calm = self.saga.attention.is_empty();
        self.rule(self.saga.status.is_final() || !calm, "a saga at rest has ended, or attention")?;
        self.watch.replays_to(&self.saga)?;
        for (step, state) in self.saga.steps.iter().enumerate() {
            // Nobody can know of what was applied against the contract without a word.
            let unheard = |g: u16| {
                let id = self.id(step, Direction::Forward, g);
                self.forgotten.contains(&(step, g)) && !self.told.contains(&id)
            };
            let stands = |g: &u16| self.is_live(&(step, *g)) && !unheard(*g);
            let live: Vec<u16> = (0..=state.generation).filter(stands).collect();
            use AttentionCode::{CompensationRefused, LateSuccess};
            let called = |a: &Attention| {
                a.step == Some(step) && matches!(a.code, LateSuccess | CompensationRefused)
            };
            if live.iter().any(|g| self.forgotten.contains(&(step, *g)))
                && self.saga.attention.iter().any(called)
            {
                continue;
            }
            let has_effect = !matches!(self.definition.steps()[step].work, Work::Facts { .. });
            match self.saga.status {
                Status::Completed if has_effect => {
                    self.rule(live == [state.generation], "completed: each step applied once")?;
                }
                Status::Compensated => {
                    self.rule(live.is_empty(), "compensated: nothing is left applied")?;
                }
                _ => {}
            }
        }
        let pivots = self.definition.pivots();
        let crossed = self.saga.facts.iter().any(|fact| {
            pivots.iter().any(|pivot| self.definition.steps()[pivot].completes_on(&fact.kind))
        });
        self.rule(
            !(crossed && self.saga.status == Status::Compensated && calm),
            "all undone although the pivot's fact was seen: somebody must look",
        )
    }

    fn rule(&self, holds: bool, words: &str) -> Result<(), String> {
        if holds {
            return Ok(());
        }
        Err(format!(
            "broken rule: {words}\n{:#?}\napplied {:?}, undone {:?}",
            self.saga, self.applied, self.undone
        ))
    }
}
