//! What happens when: one test for each rule that the core decides by, in the order of the
//! table under "What happens when". Every test tells one story with the steps of a small order:
//!
//! ```text
//! paid (obligation) · reserve ─► pick ─► ship (pivot) ─► bill
//!                     insure ──────────────────────────┘     (insure runs beside reserve)
//! ```
//! Variants replace `ship` by a wait for `parcel.scanned` (`parcel()`), or let participants be
//! probed (`probed()`).

use makegood::catalog;
use makegood::saga::{
    Announcement, AttentionCode, CancelState, CommandId, Definition, Direction, Effect, EventId,
    FactSeen, Ignored, Input, Millis, Outcome, ProbeState, Refusal, Reply, Saga, SagaId, Status,
    Time, Verdict, WhyRefused, decide,
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
    let scan =
        "await = [\"parcel.scanned\", \"parcel.delivered\"]\npivot = true\ndeadline = \"14d\"\n";
    let from = ORDER.find("participant = \"courier\"").unwrap();
    let to = ORDER[from..].find("[[step]]").unwrap() + from;
    let arrive = "[[step]]\nname = \"arrive\"\nafter = [\"ship\"]\nawait = [\"parcel.delivered\"]\n\
                  fails_on = \"parcel.lost\"\ndeadline = \"45d\"\n";
    let text = format!("{}{scan}{arrive}{}", &ORDER[..from], &ORDER[to..]);
    load(&text.replace("after = [\"ship\", \"insure\"]", "after = [\"arrive\", \"insure\"]"))
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
        self.input(Input::Probed { command, state, data: None })
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

mod a_reply {
    use super::*;

    /// `success`: the step is done; what became ready is sent, in parallel where it can be.
    #[test]
    fn success_sends_what_became_ready() {
        let order = order();
        Run::start(&order)
            .sends(&["reserve", "insure"])
            .reply("reserve", SUCCESS)
            .sends(&["pick"])
            .reply("pick", SUCCESS)
            .sends(&["ship"])
            .reply("ship", SUCCESS)
            .sends(&[])
            .reply("insure", SUCCESS)
            .sends(&["bill"])
            .reply("bill", SUCCESS)
            .is(Status::Completed)
            .says(Announcement::Completed)
            .calm();
    }

    /// `rejected` before the pivot: compensate what was done, not what was rejected.
    #[test]
    fn rejected_before_the_pivot_compensates() {
        let order = order();
        Run::start(&order)
            .succeed(&["insure", "reserve"])
            .reply("pick", no("BROKEN"))
            .sends(&["undo paid", "undo reserve", "undo insure"])
            .is(Status::Compensating)
            .undone(&["paid", "reserve", "insure"])
            .is(Status::Compensated)
            .says(Announcement::Cancelled)
            .calm();
    }

    /// `rejected` after the pivot: attention, and nothing is undone.
    #[test]
    fn rejected_past_the_pivot_raises_attention() {
        let order = order();
        Run::start(&order)
            .succeed(&["reserve", "insure", "pick", "ship"])
            .reply("bill", no("CLOSED"))
            .sends(&[])
            .is(Status::Running)
            .attention(&[("bill", AttentionCode::Rejected)]);
    }

    /// The same for a step beside the pivot that is answered only after it.
    #[test]
    fn rejected_beside_a_pivot_that_is_done_raises_attention() {
        let order = order();
        Run::start(&order)
            .succeed(&["reserve", "pick", "ship"])
            .reply("insure", no("TOO_RISKY"))
            .sends(&[])
            .is(Status::Running)
            .attention(&[("insure", AttentionCode::Rejected)]);
    }

    /// A pivot that is rejected was not passed: all before it is undone.
    #[test]
    fn a_rejected_pivot_compensates() {
        let order = order();
        Run::start(&order)
            .succeed(&["reserve", "insure", "pick"])
            .reply("ship", no("NO_COURIER"))
            .sends(&["undo insure", "undo pick"])
            .undone(&["pick"])
            .sends(&["undo paid", "undo reserve"])
            .undone(&["reserve", "paid", "insure"])
            .is(Status::Compensated);
    }

    /// A "no" beside a pivot that is under way waits for the pivot's answer: done, so an
    /// operator is called.
    #[test]
    fn rejected_while_the_pivot_is_under_way_waits_for_its_answer() {
        let order = order();
        let waiting = || {
            Run::start(&order)
                .succeed(&["reserve", "pick"])
                .reply("insure", no("TOO_RISKY"))
                .sends(&[])
                .is(Status::Running)
        };
        waiting()
            .reply("ship", SUCCESS)
            .sends(&[])
            .is(Status::Running)
            .attention(&[("insure", AttentionCode::Rejected)]);
        waiting().reply("ship", no("FULL")).sends(&["undo pick"]).is(Status::Compensating);
    }

    /// `retry`: the same command id again after the backoff, counted from the answer.
    #[test]
    fn retry_sends_the_same_id_after_the_backoff() {
        let order = order();
        Run::start(&order)
            .reply("insure", SUCCESS)
            .pass(Millis(5_000))
            .reply("reserve", Outcome::Retry)
            .sends(&[])
            .pass(Millis(9_999))
            .sends(&[])
            // Repeated, it neither grows the journal nor puts off the resend.
            .reply("reserve", Outcome::Retry)
            .ignored(Ignored::Duplicate)
            .pass(Millis(1))
            .sends(&["reserve again"])
            .reply("reserve", Outcome::Retry)
            .pass(Millis(20_000))
            .sends(&["reserve again"])
            .reply("reserve", SUCCESS)
            .sends(&["pick"]);
    }
}

mod no_reply {
    use super::*;

    /// The resend clock: the same command id, by a growing backoff up to its longest wait.
    #[test]
    fn resends_the_same_id_with_a_growing_wait() {
        let order = order();
        Run::start(&order)
            .reply("insure", SUCCESS)
            .pass(Millis(10_000))
            .sends(&["reserve again"])
            .pass(Millis(19_999))
            .sends(&[])
            .pass(Millis(1))
            .sends(&["reserve again"])
            .pass(Millis(40_000))
            .sends(&["reserve again"])
            .pass(Millis(120_000))
            .sends(&["reserve again", "reserve again"]);
    }

    /// The give-up clock of a compensatable step: it may have happened, so it is undone too.
    #[test]
    fn gives_up_and_compensates_what_may_have_been_done() {
        let order = order();
        let run = Run::start(&order).reply("insure", SUCCESS).pass(Millis::MINUTE.times(5));
        assert!(
            run.sent().ends_with(&["undo paid", "undo reserve", "undo insure"].map(str::to_owned))
        );
        run.undone(&["paid", "insure"])
            .is(Status::Compensating)
            .undo("reserve", NOTHING)
            .is(Status::Compensated)
            .calm();
    }

    /// With a probe: ask first. It was applied, so the saga goes on.
    #[test]
    fn in_doubt_is_probed_and_applied_goes_on() {
        let order = probed();
        Run::start(&order)
            .reply("insure", SUCCESS)
            .pass(Millis::MINUTE.times(5))
            .phase("reserve", "in-doubt")
            .probe("reserve", ProbeState::Applied)
            .sends(&["pick"])
            .calm();
    }

    /// With a probe: it was not applied, yet it may still be on its way, so it is undone too.
    #[test]
    fn in_doubt_is_probed_and_not_applied_compensates_it_as_well() {
        let order = probed();
        Run::start(&order)
            .reply("insure", SUCCESS)
            .pass(Millis::MINUTE.times(5))
            .probe("reserve", ProbeState::NotApplied)
            .sends(&["undo paid", "undo reserve", "undo insure"]);
    }

    /// With a probe that says nothing: asked again, and given up after a second give-up time.
    #[test]
    fn in_doubt_without_an_answer_to_the_probe_compensates_in_the_end() {
        let order = probed();
        Run::start(&order)
            .reply("insure", SUCCESS)
            .pass(Millis::MINUTE.times(5))
            .probe("reserve", ProbeState::Unknown)
            .ignored(Ignored::Stale)
            .pass(Millis::MINUTE.times(5))
            .is(Status::Compensating);
    }

    /// A pivot in doubt: sent on at the capped wait, attention, and nothing is undone.
    #[test]
    fn a_pivot_in_doubt_is_sent_on_and_never_compensated() {
        let order = order();
        let run = Run::start(&order)
            .succeed(&["reserve", "insure", "pick"])
            .pass(Millis::HOUR)
            .is(Status::Running)
            .attention(&[("ship", AttentionCode::InDoubt)]);
        assert!(run.sent().iter().all(|sent| sent == "ship again"));
        run.reply("ship", SUCCESS).sends(&["bill"]).calm();
    }

    /// A retriable step in doubt: the same, and with a probe it is asked after as well.
    #[test]
    fn a_step_past_the_pivot_in_doubt_is_sent_on() {
        let order = probed();
        Run::start(&order)
            .succeed(&["reserve", "insure", "pick", "ship"])
            .pass(Millis::MINUTE.times(5))
            .attention(&[("bill", AttentionCode::InDoubt)])
            .pass(Millis::MINUTE)
            .sends(&["?bill", "bill again"])
            .probe("bill", ProbeState::NotApplied)
            .sends(&[])
            .probe("bill", ProbeState::Applied)
            .is(Status::Completed)
            .calm();
    }

    /// In doubt beside a pivot that is under way: the pivot's answer decides.
    #[test]
    fn in_doubt_beside_a_pivot_under_way_waits_for_its_answer() {
        let order = order();
        let beside = || {
            let run = Run::start(&order).succeed(&["reserve", "pick"]).pass(Millis::HOUR.times(2));
            run.is(Status::Running)
        };
        beside()
            .reply("ship", SUCCESS)
            .attention(&[("insure", AttentionCode::InDoubt)])
            .reply("insure", SUCCESS)
            .calm();
        beside().reply("ship", no("FULL")).sends(&["undo insure", "undo pick"]);
    }
}

mod a_deadline {
    use super::*;

    /// Attention only, and it clears by itself once the step is done after all.
    #[test]
    fn raises_attention_that_clears_itself() {
        let order = order();
        let bill = order.step_named("bill");
        let code = AttentionCode::DeadlinePassed;
        Run::start(&order)
            .succeed(&["reserve", "insure", "pick", "ship"])
            .pass(Millis::HOUR)
            .attention(&[("bill", AttentionCode::InDoubt), ("bill", code)])
            .reply("bill", SUCCESS)
            .says(Announcement::AttentionCleared { step: bill, code })
            .is(Status::Completed)
            .calm();
    }

    /// A wait for facts as well.
    #[test]
    fn of_a_wait_raises_attention_and_the_wait_goes_on() {
        let parcel = parcel();
        Run::start(&parcel)
            .succeed(&["reserve", "insure", "pick"])
            .pass(Millis::DAY.times(15))
            .attention(&[("ship", AttentionCode::DeadlinePassed)])
            .phase("ship", "awaiting")
            .fact("parcel.scanned")
            .phase("ship", "done")
            .calm();
    }

    /// What a decision raised stays, even when the step is done after all.
    #[test]
    fn does_not_clear_what_a_decision_raised() {
        let order = order();
        Run::start(&order)
            .succeed(&["reserve", "insure", "pick", "ship"])
            .reply("bill", no("CLOSED"))
            .reply("bill", SUCCESS)
            .is(Status::Completed)
            .attention(&[("bill", AttentionCode::Rejected)]);
    }
}

mod a_cancel_request {
    use super::*;

    /// Before the pivot: compensate, including what is still under way.
    #[test]
    fn before_the_pivot_compensates() {
        let order = order();
        Run::start(&order)
            .reply("reserve", SUCCESS)
            .cancel()
            .sends(&["undo insure", "undo pick"])
            .undo("pick", NOTHING)
            .sends(&["undo paid", "undo reserve"])
            .undone(&["paid", "reserve", "insure"])
            .is(Status::Compensated);
    }

    /// After the pivot: refused, with the reason.
    #[test]
    fn after_the_pivot_is_refused() {
        let order = order();
        let refused = Announcement::CancelRefused { why: WhyRefused::PastPivot };
        let run = Run::start(&order).succeed(&["reserve", "insure", "pick", "ship"]);
        run.cancel().says(refused.clone()).sends(&[]).is(Status::Running);
        let run = Run::start(&order).succeed(&["reserve", "insure", "pick", "ship", "bill"]);
        run.cancel().says(refused).is(Status::Completed);
    }

    /// While the pivot is under way: its answer decides.
    #[test]
    fn during_the_pivot_waits_for_its_answer() {
        let order = order();
        let asked = || {
            let run = Run::start(&order).succeed(&["reserve", "insure", "pick"]);
            run.cancel().sends(&[]).is(Status::Running)
        };
        asked()
            .reply("ship", SUCCESS)
            .says(Announcement::CancelRefused { why: WhyRefused::PastPivot })
            .sends(&["bill"]);
        let run = asked().reply("ship", no("FULL")).sends(&["undo insure", "undo pick"]);
        assert_eq!(run.saga.cancel, CancelState::Accepted);
    }

    /// Twice is once.
    #[test]
    fn repeated_changes_nothing() {
        let order = order();
        Run::start(&order).cancel().cancel().ignored(Ignored::Duplicate);
    }

    /// While the saga is undone for another reason: noted, so that whoever asked hears of it
    /// should the saga go on after all.
    #[test]
    fn while_compensating_is_noted_and_told_when_the_saga_resumes() {
        let parcel = parcel();
        Run::start(&parcel)
            .succeed(&["reserve", "pick"])
            .reply("insure", no("TOO_RISKY"))
            .cancel()
            .verdict(Verdict::Applied)
            .fact("parcel.scanned")
            .undo("pick", too_late())
            .says(Announcement::CancelRefused { why: WhyRefused::TooLate })
            .is(Status::Running);
    }
}

mod a_fact {
    use super::*;

    /// Before its step is ready: kept, and it counts as soon as the step is.
    #[test]
    fn before_its_step_counts_later() {
        let parcel = parcel();
        Run::start(&parcel)
            .fact("parcel.scanned")
            .succeed(&["insure", "reserve", "pick"])
            .phase("ship", "done")
            .phase("arrive", "awaiting")
            .calm();
    }

    /// That belongs behind a pivot which is not even possible yet: attention, and it counts for
    /// nothing; money must not move on such a word.
    #[test]
    fn that_cannot_be_true_yet_raises_attention_and_counts_for_nothing() {
        let parcel = parcel();
        Run::start(&parcel)
            .fact("parcel.delivered")
            .attention(&[("arrive", AttentionCode::EarlyFact)])
            .succeed(&["insure", "reserve", "pick"])
            .phase("ship", "awaiting");
    }

    /// Such a fact is believed when another event says it again at a time when it can be true.
    #[test]
    fn that_came_early_is_confirmed_by_another_event() {
        let parcel = parcel();
        Run::start(&parcel)
            .fact("parcel.delivered")
            .succeed(&["insure", "reserve", "pick"])
            .fact("parcel.delivered")
            .sends(&["bill"])
            .attention(&[("arrive", AttentionCode::EarlyFact)]);
    }

    /// The same event again confirms nothing.
    #[test]
    fn that_came_early_is_not_confirmed_by_the_same_event() {
        let parcel = parcel();
        let event = EventId::of("courier", "e-1");
        let same = || Input::Fact(FactSeen { kind: "parcel.delivered".into(), event });
        Run::start(&parcel)
            .input(same())
            .succeed(&["insure", "reserve", "pick"])
            .input(same())
            .ignored(Ignored::Duplicate)
            .phase("ship", "awaiting");
    }

    /// For which a step already waits is not early, even if a step past the pivot knows it too.
    #[test]
    fn that_a_step_waits_for_is_never_early() {
        let both = load(&ORDER.replace(
            "[[step]]\nname = \"ship\"\nafter = [\"pick\"]",
            "[[step]]\nname = \"look\"\nafter = [\"pick\"]\nawait = [\"world.seen\"]\ndeadline = \"1d\"\n\
             [[step]]\nname = \"look-again\"\nafter = [\"ship\"]\nawait = [\"world.seen\"]\ndeadline = \"1d\"\n\
             [[step]]\nname = \"ship\"\nafter = [\"look\"]",
        ));
        Run::start(&both)
            .succeed(&["reserve", "insure", "pick"])
            .fact("world.seen")
            .sends(&["ship"])
            .calm()
            .reply("ship", SUCCESS)
            .phase("look-again", "done");
    }

    /// That fails a step past the pivot: attention. If the delivery succeeds at the next
    /// attempt, it is done after all.
    #[test]
    fn that_fails_a_step_past_the_pivot_raises_attention() {
        let parcel = parcel();
        Run::start(&parcel)
            .succeed(&["insure", "reserve", "pick"])
            .fact("parcel.scanned")
            .fact("parcel.lost")
            .sends(&[])
            .attention(&[("arrive", AttentionCode::FailedPastPivot)])
            .fact("parcel.delivered")
            .sends(&["bill"]);
    }

    /// Repeated, or of no interest.
    #[test]
    fn repeated_or_irrelevant_changes_nothing() {
        let parcel = parcel();
        Run::start(&parcel)
            .fact("parcel.scanned")
            .fact("parcel.scanned")
            .ignored(Ignored::Duplicate)
            .fact("weather.changed")
            .ignored(Ignored::Irrelevant);
    }
}

mod the_pivots_fact_while_compensating {
    use super::*;

    /// Kept; the open compensation is refused: the parcel is on its way, forward.
    #[test]
    fn and_a_refused_compensation_resumes_past_the_pivot() {
        let parcel = parcel();
        Run::start(&parcel)
            .succeed(&["reserve", "pick"])
            .reply("insure", no("TOO_RISKY"))
            .sends(&["undo pick"])
            .fact("parcel.scanned")
            .is(Status::Compensating)
            .undo("pick", too_late())
            .is(Status::Running)
            .phase("ship", "done")
            .attention(&[("insure", AttentionCode::Rejected)]);
    }

    /// The pivot itself had failed by a fact, and another fact says that it was done after all:
    /// a refused compensation then resumes past it, once, instead of to and fro.
    #[test]
    fn that_had_failed_and_a_refused_compensation_resumes_past_the_pivot() {
        let scan = "pivot = true\ndeadline = \"14d\"";
        let from = ORDER.find("participant = \"courier\"").unwrap();
        let to = ORDER[from..].find("[[step]]").unwrap() + from;
        let waits = "await = [\"parcel.scanned\"]\nfails_on = \"parcel.lost\"\n";
        let parcel = load(&format!("{}{waits}{scan}\n{}", &ORDER[..from], &ORDER[to..]));
        Run::start(&parcel)
            .succeed(&["reserve", "pick"])
            .fact("parcel.lost")
            .sends(&["undo insure", "undo pick"])
            .undo("insure", NOTHING)
            .fact("parcel.scanned")
            .undo("pick", too_late())
            .sends(&["insure#2"])
            .is(Status::Running)
            .phase("ship", "done")
            .calm();
    }

    /// The compensation succeeds all the same: goods and money disagree.
    #[test]
    fn and_a_compensation_that_succeeds_raises_attention() {
        let parcel = parcel();
        Run::start(&parcel)
            .succeed(&["reserve", "insure", "pick"])
            .cancel()
            .fact("parcel.scanned")
            .undone(&["pick"])
            .attention(&[("pick", AttentionCode::GoodsAndMoneyDisagree)]);
    }

    /// It comes when only the money is still to go back: no answer can tell of it any more.
    #[test]
    fn when_nothing_can_refuse_any_more_raises_attention_at_the_end() {
        let parcel = parcel();
        Run::start(&parcel)
            .succeed(&["reserve", "insure", "pick"])
            .cancel()
            .undone(&["pick", "reserve", "insure"])
            .fact("parcel.scanned")
            .calm()
            .undone(&["paid"])
            .is(Status::Compensated)
            .attention(&[("ship", AttentionCode::GoodsAndMoneyDisagree)]);
    }

    /// It comes when all is over.
    #[test]
    fn after_the_end_raises_attention() {
        let parcel = parcel();
        let run = Run::start(&parcel).cancel().undone(&["insure", "paid"]).undo("reserve", NOTHING);
        let run = run.is(Status::Compensated).fact("parcel.scanned");
        run.attention(&[("ship", AttentionCode::GoodsAndMoneyDisagree)]);
    }
}

mod a_refused_compensation {
    use super::*;

    /// After a cancel request: the step stands, the saga goes on, and what was undone meanwhile
    /// runs again as a new generation.
    #[test]
    fn after_a_cancel_request_resumes_and_redoes() {
        let order = order();
        Run::start(&order)
            .succeed(&["reserve", "insure"])
            .cancel()
            .undone(&["insure"])
            .undo("pick", too_late())
            .says(Announcement::CancelRefused { why: WhyRefused::TooLate })
            .sends(&["insure#2", "ship"])
            .is(Status::Running)
            .succeed(&["ship", "insure", "bill"])
            .is(Status::Completed)
            .calm();
    }

    /// A compensation that is still out when the saga resumes is awaited, then the step redone.
    #[test]
    fn resumes_while_another_compensation_is_out() {
        let order = order();
        Run::start(&order)
            .succeed(&["reserve", "insure"])
            .cancel()
            .undo("pick", too_late())
            .sends(&["ship"])
            .phase("insure", "compensating")
            .undone(&["insure"])
            .sends(&["insure#2"]);
    }

    /// An obligation that was already undone cannot be redone: an operator is called.
    #[test]
    fn after_the_obligation_was_undone_raises_attention() {
        let order = load(&ORDER.replace(", after = [\"pick\"] }", ", after = [] }"));
        Run::start(&order)
            .succeed(&["reserve", "insure"])
            .cancel()
            .undone(&["paid"])
            .undo("pick", too_late())
            .is(Status::Running)
            .attention(&[("paid", AttentionCode::ObligationUndone)]);
    }

    /// After a business failure: an operator decides; the others go on being undone.
    #[test]
    fn after_a_business_failure_raises_attention() {
        let order = order();
        Run::start(&order)
            .succeed(&["reserve", "insure", "pick"])
            .reply("ship", no("NO_COURIER"))
            .undo("pick", too_late())
            .attention(&[("pick", AttentionCode::CompensationRefused)])
            .undone(&["insure"])
            .is(Status::Compensating);
    }

    /// A step that failed while the request to cancel was carried out is a business failure too:
    /// going on would only turn back again.
    #[test]
    fn after_a_cancel_request_and_a_failure_raises_attention() {
        let parallel = load(&ORDER.replace(
            "[[step]]\nname = \"ship\"",
            "[[step]]\nname = \"wrap\"\nparticipant = \"stock\"\ncommand = \"stock.wrap\"\n\
             compensation = { command = \"stock.unwrap\", after = [\"reserve\"] }\n[[step]]\nname = \"ship\"",
        ));
        Run::start(&parallel)
            .succeed(&["reserve", "insure"])
            .cancel()
            .reply("wrap", no("NO_PAPER"))
            .undo("pick", too_late())
            .sends(&[])
            .is(Status::Compensating)
            .attention(&[("pick", AttentionCode::CompensationRefused)]);
    }
}

mod a_failing_compensation {
    use super::*;

    /// No answer: resent under the same id; attention after the give-up time; the others go on.
    #[test]
    fn without_an_answer_is_resent_and_raises_attention() {
        let order = order();
        let run = Run::start(&order)
            .succeed(&["reserve", "insure", "pick"])
            .reply("ship", no("FULL"))
            .undone(&["insure"])
            .pass(Millis(10_000))
            .sends(&["undo pick again"])
            .pass(Millis::MINUTE.times(5))
            .attention(&[("pick", AttentionCode::CompensationStuck)]);
        run.undone(&["pick"]).sends(&["undo paid", "undo reserve"]).calm();
    }

    /// `retry`: the same id again.
    #[test]
    fn with_a_passing_trouble_keeps_its_id() {
        let order = order();
        Run::start(&order)
            .reply("insure", no("TOO_RISKY"))
            .undo("paid", Outcome::Retry)
            .undo("paid", Outcome::Retry)
            .ignored(Ignored::Duplicate)
            .undone(&["reserve"])
            .pass(Millis(15_000))
            .sends(&["undo paid again"]);
    }

    /// `rejected`: a participant repeats its first answer to an id it knows, so the next attempt
    /// has a new one; a repeated "no" does not postpone it.
    #[test]
    fn with_a_final_no_is_tried_under_a_new_id() {
        let order = order();
        let run = Run::start(&order)
            .reply("insure", no("TOO_RISKY"))
            .undone(&["paid"])
            .undo("reserve", no("LOCKED"))
            .undo("reserve", no("LOCKED"))
            .ignored(Ignored::Duplicate)
            .pass(Millis(10_000))
            .sends(&["undo reserve#2 again"]);
        run.undone(&["reserve"]).is(Status::Compensated);
    }
}

mod a_late_success {
    use super::*;

    fn in_doubt(order: &Definition) -> Run<'_> {
        Run::start(order).reply("insure", no("TOO_RISKY")).undone(&["paid"])
    }

    /// Of a step whose compensation is out and finds nothing: once more, under a new id.
    #[test]
    fn during_its_compensation_that_found_nothing_undoes_once_more() {
        let order = order();
        in_doubt(&order)
            .reply("reserve", SUCCESS)
            .sends(&[])
            .undo("reserve", NOTHING)
            .sends(&["undo reserve#2"])
            .undone(&["reserve"])
            .is(Status::Compensated)
            .calm();
    }

    /// Of a step whose compensation is out and undoes it: that was all.
    #[test]
    fn during_its_compensation_that_undid_it_is_settled() {
        let order = order();
        in_doubt(&order)
            .reply("reserve", SUCCESS)
            .undone(&["reserve"])
            .is(Status::Compensated)
            .calm();
    }

    /// After the end, when the compensation had found nothing: the saga stays ended, the step is
    /// undone under a new id, and the attention lasts until that is done.
    #[test]
    fn after_the_end_is_undone_and_shown_until_then() {
        let order = order();
        in_doubt(&order)
            .undo("reserve", NOTHING)
            .is(Status::Compensated)
            .reply("reserve", SUCCESS)
            .sends(&["undo reserve#2"])
            .is(Status::Compensated)
            .attention(&[("reserve", AttentionCode::LateSuccess)])
            .undone(&["reserve"])
            .is(Status::Compensated)
            .calm();
    }

    /// Of a step that its participant had rejected: it takes back its word, so it is undone.
    #[test]
    fn after_a_rejection_is_undone() {
        let order = order();
        Run::start(&order)
            .reply("reserve", no("OUT_OF_STOCK"))
            .undone(&["paid"])
            .reply("reserve", SUCCESS)
            .sends(&["undo reserve"])
            .undone(&["insure", "reserve"])
            .is(Status::Compensated)
            .calm();
    }

    /// Of a step whose compensation waits for its turn: nothing is resent any more, and it is
    /// undone when its turn comes.
    #[test]
    fn while_its_compensation_waits_for_its_turn_is_undone_in_order() {
        let order = order();
        Run::start(&order)
            .succeed(&["insure", "reserve"])
            .cancel()
            .sends(&["undo insure", "undo pick"])
            .undone(&["insure"])
            .reply("pick", SUCCESS)
            .pass(Millis(5_000))
            .sends(&[])
            .undone(&["pick"])
            .sends(&["undo paid", "undo reserve"]);
    }

    /// After the end, when the compensation had undone it: stale.
    #[test]
    fn of_a_step_that_was_undone_is_stale() {
        let order = order();
        in_doubt(&order).undone(&["reserve"]).reply("reserve", SUCCESS).ignored(Ignored::Stale);
    }
}

mod what_does_not_belong {
    use super::*;

    /// A duplicate, or an answer to a command of an earlier generation: no change.
    #[test]
    fn duplicates_and_stale_replies_change_nothing() {
        let order = order();
        Run::start(&order)
            .succeed(&["reserve", "insure"])
            .reply("reserve", SUCCESS)
            .ignored(Ignored::Duplicate)
            .cancel()
            .undone(&["insure"])
            .undo("pick", too_late())
            .answer("insure", Direction::Forward, 1, no("LATE"))
            .ignored(Ignored::Stale)
            .phase("insure", "sent");
    }

    /// An unknown command, the wrong participant, a saga that was never started: refused, so
    /// that they become dead letters.
    #[test]
    fn strangers_are_refused() {
        let order = order();
        let run = Run::start(&order).answer("reserve", Direction::Forward, 9, SUCCESS);
        let run = run.verdict(Verdict::Refused(Refusal::UnknownCommand));
        let command = CommandId::of(run.saga.id, "reserve", Direction::Forward, 1);
        let from = Some("loan".into());
        run.input(Input::Reply(Reply { command, from, outcome: SUCCESS, data: None }))
            .verdict(Verdict::Refused(Refusal::WrongParticipant));
        let saga = Saga::created(&order, SagaId::of("acme", "o-2", "order"));
        let made = decide(&order, &saga, &Input::Cancel, Time(0));
        assert_eq!(made.verdict, Verdict::Refused(Refusal::UnknownSaga));
    }

    /// A second start, and a clock that fires for nothing.
    #[test]
    fn a_second_start_and_an_idle_clock_change_nothing() {
        let order = order();
        Run::start(&order).input(Input::Start).ignored(Ignored::Duplicate);
        Run::start(&order).input(Input::Clock).ignored(Ignored::NothingDue);
    }
}
