//! What happens when: one test for each rule that the core decides by, in the order of the
//! table under "What happens when". Every test tells one story with the steps of a small order:
//!
//! ```text
//! paid (obligation) · reserve ─► pick ─► ship (pivot) ─► bill
//!                     insure ──────────────────────────┘     (insure runs beside reserve)
//! ```
//! Variants replace `ship` by a wait for `parcel.scanned` (`parcel()`), or let participants be
//! probed (`probed()`).

mod a_cancel_request;
mod a_deadline;
mod a_fact;
mod a_failing_compensation;
mod a_late_success;
mod a_milestone;
mod a_participant_that_is_away;
mod a_refused_compensation;
mod a_reply;
mod an_operators_verb;
mod no_reply;
mod the_pivots_fact_while_compensating;
mod what_does_not_belong;

use makegood::catalog;
use makegood::saga::{
    Announcement, Attention, AttentionCode, CancelState, Cause, CommandId, Definition, Direction,
    Effect, EventId, FactSeen, Ignored, Input, Millis, OrderState, Origin, Outcome, ProbeState,
    Refusal, Reply, Saga, SagaId, Status, Time, Verdict, WhyRefused, decide,
};

const ORDER: &str = r#"
name = "order"
version = 1
starts_on = "order.created"
cancels_on = "order.cancel-requested"
[[step]]
name = "paid"
compensation = { command = "loan.reverse", after = ["pick"] }
[[step]]
name = "reserve"
participant = "stock"
command = "stock.reserve"
compensation = { command = "stock.release" }
resend = { initial = "10s", factor = 2.0, max = "1m", jitter = 0.0 }
give_up = "5m"
deadline = "15m"
[[step]]
name = "insure"
participant = "insurer"
command = "insurer.insure"
compensation = { command = "insurer.cancel" }
resend = { initial = "10s", factor = 2.0, max = "1m", jitter = 0.0 }
give_up = "2h"
[[step]]
name = "pick"
after = ["reserve"]
participant = "warehouse"
command = "warehouse.pick"
compensation = { command = "warehouse.unpick" }
resend = { initial = "10s", factor = 2.0, max = "1m", jitter = 0.0 }
give_up = "5m"
[[step]]
name = "ship"
after = ["pick"]
participant = "courier"
command = "courier.ship"
pivot = true
resend = { initial = "10s", factor = 2.0, max = "1m", jitter = 0.0 }
give_up = "5m"
[[step]]
name = "bill"
after = ["ship", "insure"]
participant = "loan"
command = "loan.activate"
resend = { initial = "10s", factor = 2.0, max = "1m", jitter = 0.0 }
give_up = "5m"
deadline = "1h"
"#;

fn load(text: &str) -> Definition {
    catalog::load("order.toml", text)
        .unwrap_or_else(|errors| panic!("{}", errors.to_fancy(false)))
        .definition
}

fn order() -> Definition {
    load(ORDER)
}

/// The pivot is a scan of the parcel, and a later step waits for its delivery.
fn parcel() -> Definition {
    load(&parcel_text())
}

fn parcel_text() -> String {
    let scan =
        "await = [\"parcel.scanned\", \"parcel.delivered\"]\npivot = true\ndeadline = \"14d\"\n";
    let from = ORDER.find("participant = \"courier\"").unwrap();
    let to = ORDER[from..].find("[[step]]").unwrap() + from;
    let arrive = "[[step]]\nname = \"arrive\"\nafter = [\"ship\"]\nawait = [\"parcel.delivered\"]\n\
                  fails_on = \"parcel.lost\"\ndeadline = \"45d\"\n";
    let text = format!("{}{scan}{arrive}{}", &ORDER[..from], &ORDER[to..]);
    text.replace("after = [\"ship\", \"insure\"]", "after = [\"arrive\", \"insure\"]")
}

/// Everybody is told when stock and insurance are there, and when the goods are picked; the
/// customer is told of the first, and of the end.
fn told() -> Definition {
    let reaches = |text: String, step: &str, state: &str| {
        let name = format!("name = \"{step}\"\n");
        text.replace(&name, &format!("{name}reaches = \"{state}\"\n"))
    };
    let text = reaches(ORDER.to_owned(), "reserve", "confirmed");
    let text = reaches(text, "insure", "confirmed");
    let text = reaches(text, "pick", "fulfilling");
    let notice = |on: &str| {
        format!("[[notice]]\non = \"{on}\"\nparticipant = \"mail\"\ncommand = \"mail.{on}\"\n")
    };
    load(&[text, notice("confirmed"), notice("completed"), notice("cancelled")].concat())
}

/// Every participant can be asked what became of a command.
fn probed() -> Definition {
    load(&ORDER.replace("give_up = \"5m\"", "give_up = \"5m\"\nprobe = true"))
}

/// One saga, told step by step. Commands that go out are written down as `>` lines.
struct Run<'a> {
    definition: &'a Definition,
    saga: Saga,
    now: Time,
    effects: Vec<Effect>,
    verdict: Verdict,
    events: u32,
}

impl<'a> Run<'a> {
    fn start(definition: &'a Definition) -> Run<'a> {
        let saga = Saga::created(definition, SagaId::of("acme", "o-1", definition.name()));
        let verdict = Verdict::Applied;
        Run { definition, saga, now: Time(0), effects: vec![], verdict, events: 0 }
            .input(Input::Start)
    }

    fn input(mut self, input: Input) -> Self {
        let made = decide(self.definition, &self.saga, &input, self.now);
        (self.saga, self.effects, self.verdict) = (made.saga, made.effects, made.verdict);
        self
    }

    fn step(&self, name: &str) -> usize {
        self.definition.step_named(name).unwrap()
    }

    fn answer(self, name: &str, direction: Direction, generation: u16, outcome: Outcome) -> Self {
        let command = CommandId::of(self.saga.id, name, direction, generation);
        self.input(Input::Reply(Reply { command, from: None, outcome, data: None }))
    }

    /// The participant answers the newest command of a step.
    fn reply(self, name: &str, outcome: Outcome) -> Self {
        let generation = self.saga.steps[self.step(name)].generation;
        self.answer(name, Direction::Forward, generation, outcome)
    }

    /// The participant answers the newest compensation of a step.
    fn undo(self, name: &str, outcome: Outcome) -> Self {
        let generation = self.saga.steps[self.step(name)].undo;
        self.answer(name, Direction::Compensate, generation, outcome)
    }

    fn succeed(self, names: &[&str]) -> Self {
        names.iter().fold(self, |run, name| run.reply(name, Outcome::Success))
    }

    fn undone(self, names: &[&str]) -> Self {
        names.iter().fold(self, |run, name| run.undo(name, Outcome::Success))
    }

    fn probe(self, name: &str, state: ProbeState) -> Self {
        let generation = self.saga.steps[self.step(name)].generation;
        let command = CommandId::of(self.saga.id, name, Direction::Forward, generation);
        self.input(Input::Probed { command, from: None, state, data: None })
    }

    /// A new event each time.
    fn fact(mut self, kind: &str) -> Self {
        self.events += 1;
        let event = EventId::of("courier", &self.events.to_string());
        self.input(Input::Fact(FactSeen { kind: kind.into(), event }))
    }

    fn cancel(self) -> Self {
        self.input(Input::Cancel)
    }

    /// Time passes, clock by clock; the effects of all of them are kept.
    fn pass(mut self, span: Millis) -> Self {
        let until = self.now + span;
        let mut effects = Vec::new();
        while let Some(at) = self.saga.next_clock().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self = self.input(Input::Clock);
            effects.append(&mut self.effects);
        }
        (self.now, self.effects) = (until, effects);
        self
    }

    /// Time passes and nobody looks; then the clock is looked at, once.
    fn away(mut self, span: Millis) -> Self {
        self.now = self.now + span;
        self.input(Input::Clock)
    }

    /// What the last input sent: `pick`, `undo pick`, `?pick` for a probe; a generation after
    /// the first as `pick#2`, a resend as `pick again`.
    fn sends(self, expected: &[&str]) -> Self {
        assert_eq!(self.sent(), expected, "sent");
        self
    }

    fn sent(&self) -> Vec<String> {
        let name = |step: usize| self.definition.steps()[step].name.as_str();
        let told = |effect: &Effect| match *effect {
            Effect::Send { step, direction, generation, attempt } => Some(format!(
                "{}{}{}{}",
                if direction == Direction::Compensate { "undo " } else { "" },
                name(step),
                if generation > 1 { format!("#{generation}") } else { String::new() },
                if attempt > 1 { " again" } else { "" },
            )),
            Effect::Probe { step, .. } => Some(format!("?{}", name(step))),
            _ => None,
        };
        self.effects.iter().filter_map(told).collect()
    }

    fn says(self, announcement: Announcement) -> Self {
        assert!(self.effects.contains(&Effect::Announce(announcement)), "{:?}", self.effects);
        self
    }

    /// What the last input told others of the order, notices among it.
    fn tells(self, expected: &[&str]) -> Self {
        let told = |effect: &Effect| match effect {
            Effect::Announce(Announcement::Reached(state)) => Some(state.as_str()),
            Effect::Notify { notice } => Some(&*self.definition.notices()[*notice].command),
            _ => None,
        };
        let found: Vec<&str> = self.effects.iter().filter_map(told).collect();
        assert_eq!(found, expected, "told");
        self
    }

    fn is(self, status: Status) -> Self {
        assert_eq!(self.saga.status, status);
        self
    }

    fn phase(self, name: &str, phase: &str) -> Self {
        assert_eq!(self.saga.steps[self.step(name)].phase.as_str(), phase, "{name}");
        self
    }

    fn attention(self, expected: &[(&str, AttentionCode)]) -> Self {
        let expected: Vec<_> =
            expected.iter().map(|(name, code)| (Some(self.step(name)), *code)).collect();
        let found: Vec<_> = self.saga.attention.iter().map(|a| (a.step, a.code)).collect();
        assert_eq!(found, expected, "attention");
        self
    }

    fn calm(self) -> Self {
        self.attention(&[])
    }

    fn verdict(self, verdict: Verdict) -> Self {
        assert_eq!(self.verdict, verdict);
        self
    }

    fn ignored(self, why: Ignored) -> Self {
        self.verdict(Verdict::Ignored(why))
    }
}

fn no(code: &str) -> Outcome {
    Outcome::Rejected { code: code.into() }
}

fn too_late() -> Outcome {
    Outcome::Refused { code: "TOO_LATE".into() }
}

const SUCCESS: Outcome = Outcome::Success;
const NOTHING: Outcome = Outcome::NothingToDo;
