//! Random definitions and those of `sagas/`, random troubles: the rules of `support/rules.rs` hold after every
//! decision, and once the world is healed every saga has ended as the participants' books say.

mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{FailurePersistence, FileFailurePersistence, TestRunner};

use makegood::saga::{
    Backoff, CommandId, Compensation, Definition, Direction, Draft, EventId, FactSeen, Input,
    Millis, Notice, OrderState, Outcome, ProbeState, Reply, Saga, SagaId, StepSet, Time, Verb,
    Work, decide, legal,
};
use support::rules::Watch;
use support::world::{Act, World};

/// Random stories per property: some five seconds each in a debug build.
const CASES: u32 = 5_000;
/// Seeds that once failed are kept here, and tried first.
const REGRESSIONS: &str = "tests/properties.regressions";
/// Steps of a random definition: enough for a pivot with two before, two after and two beside.
const MAX_STEPS: usize = 7;
/// Inputs before the world heals.
const MAX_MOVES: usize = 40;

const FACTS: [&str; 3] = ["world.alpha", "world.beta", "world.gamma"];

/// From which one step of a random definition is made.
#[derive(Debug, Clone)]
struct Seed {
    kind: u8,
    after: u8,
    pivot: bool,
    probe: bool,
    undo_after: Option<u8>,
    facts: (usize, usize),
    fails: bool,
    reaches: Option<bool>,
}

fn seed() -> impl Strategy<Value = Seed> {
    (
        0u8..6,
        any::<u8>(),
        prop::bool::weighted(0.25),
        any::<bool>(),
        prop::option::weighted(0.3, any::<u8>()),
        (0usize..3, 0usize..3),
        any::<bool>(),
        prop::option::weighted(0.3, any::<bool>()),
    )
        .prop_map(|(kind, after, pivot, probe, undo_after, facts, fails, reaches)| Seed {
            kind,
            after,
            pivot,
            probe,
            undo_after,
            facts,
            fails,
            reaches,
        })
}

/// A wait between two commands, which is undone together with them, beside a command that can
/// refuse to be: chance alone seldom makes it.
const APPROVED: &str = r#"
name = "approved"
version = 1
starts_on = "a.start"
cancels_on = "a.cancel"
[[step]]
name = "beside"
participant = "p0"
command = "p0.do"
compensation = { command = "p0.undo" }
[[step]]
name = "first"
participant = "p1"
command = "p1.do"
compensation = { command = "p1.undo" }
[[step]]
name = "approval"
after = ["first"]
await = ["first.approved"]
deadline = "1d"
[[step]]
name = "second"
after = ["approval"]
participant = "p2"
command = "p2.do"
compensation = { command = "p2.undo" }
[[step]]
name = "pivot"
after = ["second", "beside"]
await = ["second.approved"]
deadline = "1d"
pivot = true
"#;

/// Any definition, and every other time one of a shape that counts: those in `sagas/`, with a
/// scan that is the pivot and another past it, and [`APPROVED`].
fn definition() -> impl Strategy<Value = Definition> {
    let random = prop::collection::vec(seed(), 1..=MAX_STEPS).prop_map(|seeds| {
        build(&seeds, true).or_else(|| build(&seeds, false)).expect("a valid definition")
    });
    prop_oneof![random, prop::sample::select(known())]
}

fn known() -> Vec<Definition> {
    let order = include_str!("../sagas/order-fulfilment.toml");
    let holiday = include_str!("../sagas/holiday-package.toml");
    let load = |text| makegood::catalog::load("known.toml", text).expect("it loads").definition;
    [order, holiday, APPROVED].map(load).into()
}

/// One of the facts that the definition knows.
fn kind(definition: &Definition, number: usize) -> &str {
    let known = definition.facts();
    if known.is_empty() { FACTS[0] } else { known[number % known.len()] }
}

/// Makes a valid definition of any seeds; only an explicit order of compensations may turn out
/// to go round in a circle, and is left out then.
fn build(seeds: &[Seed], explicit: bool) -> Option<Definition> {
    let mut drafts: Vec<Draft> = Vec::new();
    // The steps at or past a pivot, and the steps that are obligations.
    let (mut past, mut obligations) = (StepSet::default(), StepSet::default());
    for (index, seed) in seeds.iter().enumerate() {
        let picked =
            |mask: u8, count: usize| (0..count).filter(move |step| mask & (1 << step) != 0);
        let obligation = seed.kind == 0;
        let after: Vec<usize> =
            if obligation { vec![] } else { picked(seed.after, index).collect() };
        let beyond = after.iter().any(|step| past.contains(*step));
        let pivot = seed.pivot && !beyond && !obligation;
        if beyond || pivot {
            past.insert(index);
        }
        if obligation {
            obligations.insert(index);
        }
        let resend =
            Backoff { initial: Millis(1_000), factor: 2.0, max: Millis(8_000), jitter: 0.2 };
        let give_up = Millis(10_000);
        let work = match seed.kind {
            0 => Work::Obligation,
            1 => Work::Facts {
                completes_on: vec![FACTS[seed.facts.0].to_owned()],
                fails_on: (seed.fails && seed.facts.0 != seed.facts.1)
                    .then(|| FACTS[seed.facts.1].to_owned()),
                attempts: 1 + u16::try_from(index % 3).expect("small"),
            },
            _ => Work::Command {
                participant: format!("p{}", index % 3),
                command: format!("p{}.do-{index}", index % 3),
                resend,
                give_up,
                probe: seed.probe,
            },
        };
        let undoes = !matches!(work, Work::Facts { .. }) && !beyond && !pivot;
        let undo = Compensation {
            participant: format!("p{}", index % 3),
            command: format!("p{}.undo-{index}", index % 3),
            after: StepSet::default(),
            resend,
            give_up,
            needs: None,
        };
        let name = |step: usize| format!("s{step}");
        let order = seed.undo_after.filter(|_| explicit);
        let order = order.map(|mask| {
            picked(mask, seeds.len()).filter(|other| *other != index).map(name).collect()
        });
        drafts.push(Draft {
            name: name(index),
            after: after.into_iter().map(name).collect(),
            work,
            compensation: undoes.then_some((undo, order)),
            pivot,
            deadline: Some(Millis(60_000)),
            needs: None,
            reaches: seed.reaches.map(|milestone| OrderState::MILESTONES[usize::from(milestone)]),
            shipment: None,
        });
    }
    let reached = |state: &OrderState| {
        !OrderState::MILESTONES.contains(state)
            || drafts.iter().any(|draft| draft.reaches == Some(*state))
    };
    let told = OrderState::ALL[1..].iter().copied().filter(reached);
    let notice = |on: OrderState| Notice {
        on,
        participant: "p0".to_owned(),
        command: "p0.tell".to_owned(),
        needs: None,
    };
    let notices = told.map(notice).collect();
    Definition::new("random".into(), 1, "a.start".into(), Some("a.cancel".into()), drafts, notices)
        .ok()
}

/// One thing that happens. Numbers choose among what is there at the time.
#[derive(Debug, Clone)]
enum Move {
    Deliver(usize, Act),
    Repeat(usize),
    Fact(usize),
    Tick,
    Jump(u64),
    Cancel,
    LetGo,
    Hold,
    Release,
    Retry(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => Just(Act::Succeed),
        1 => Just(Act::Reject),
        3 => Just(Act::Refuse),
        1 => Just(Act::Retry),
        1 => Just(Act::LoseMessage),
        1 => Just(Act::LoseReply),
        1 => Just(Act::Twice),
        1 => Just(Act::HoldReply),
        3 => Just(Act::Forget),
    ]
}

fn a_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        12 => (any::<usize>(), act()).prop_map(|(which, act)| Move::Deliver(which, act)),
        1 => any::<usize>().prop_map(Move::Repeat),
        2 => (0..FACTS.len()).prop_map(Move::Fact),
        3 => Just(Move::Tick),
        1 => (0u64..100_000).prop_map(Move::Jump),
        2 => Just(Move::Cancel),
        1 => Just(Move::LetGo),
        1 => Just(Move::Hold),
        2 => Just(Move::Release),
        1 => any::<usize>().prop_map(Move::Retry),
    ]
}

fn play(world: &mut World<'_>, moves: &[Move]) -> Result<(), String> {
    world.happen(Input::Start)?;
    for a_move in moves {
        match a_move {
            Move::Deliver(..) | Move::Repeat(_) if world.wire.is_empty() => {}
            Move::Deliver(which, act) => world.deliver(which % world.wire.len(), *act)?,
            Move::Repeat(which) => {
                let message = world.wire[which % world.wire.len()].clone();
                world.wire.push(message);
            }
            Move::Fact(number) => world.fact(kind(world.definition, *number))?,
            Move::Tick => world.tick()?,
            Move::Jump(span) => {
                world.now = world.now + Millis(*span);
                world.happen(Input::Clock)?;
            }
            Move::Cancel => world.happen(Input::Cancel)?,
            Move::LetGo => world.let_go(),
            Move::Hold => world.happen(Input::Operator(Verb::Hold))?,
            Move::Release => world.happen(Input::Operator(Verb::Release))?,
            Move::Retry(step) => {
                let step = step % world.saga.steps.len();
                world.happen(Input::Operator(Verb::Retry { step }))?;
            }
        }
    }
    world.heal()
}

/// Something that anybody could send, true or not.
#[derive(Debug, Clone)]
enum Lie {
    Reply {
        step: usize,
        compensate: bool,
        generation: u16,
        outcome: u8,
        from: u8,
    },
    Probed {
        step: usize,
        generation: u16,
        state: u8,
    },
    Fact {
        kind: usize,
        event: u8,
    },
    Clock(i64),
    Cancel,
    Start,
    /// An operator does one of the things that are legal, and may be as wrong as anybody.
    Verb(usize),
}

fn lie() -> impl Strategy<Value = Lie> {
    prop_oneof![
        8 => (0..MAX_STEPS, any::<bool>(), 0u16..4, 0u8..5, 0u8..4).prop_map(
            |(step, compensate, generation, outcome, from)| Lie::Reply {
                step, compensate, generation, outcome, from
            }
        ),
        2 => (0..MAX_STEPS, 0u16..3, 0u8..3).prop_map(|(step, generation, state)| Lie::Probed {
            step, generation, state
        }),
        2 => (0..FACTS.len(), 0u8..4).prop_map(|(kind, event)| Lie::Fact { kind, event }),
        4 => (-5_000i64..70_000).prop_map(Lie::Clock),
        1 => Just(Lie::Cancel),
        1 => Just(Lie::Start),
        2 => any::<usize>().prop_map(Lie::Verb),
    ]
}

fn told(definition: &Definition, saga: &Saga, lie: &Lie, now: &mut Time) -> Input {
    let id = |step: usize, direction, generation| {
        let steps = definition.steps();
        CommandId::of(saga.id, &steps[step % steps.len()].name, direction, generation)
    };
    match *lie {
        Lie::Reply { step, compensate, generation, outcome, from } => {
            let direction = if compensate { Direction::Compensate } else { Direction::Forward };
            let code = || "LIE".into();
            let outcome = match outcome {
                0 => Outcome::Success,
                1 => Outcome::Rejected { code: code() },
                2 => Outcome::Retry,
                3 => Outcome::Refused { code: code() },
                _ => Outcome::NothingToDo,
            };
            let steps = definition.steps();
            let asked = steps[step % steps.len()].command(direction).map(|(name, _)| name.into());
            let from = match from {
                0 => Some("stranger".into()),
                1 => asked,
                _ => None,
            };
            let command = id(step, direction, generation);
            Input::Reply(Reply { command, from, outcome, data: None })
        }
        Lie::Probed { step, generation, state } => {
            let state =
                [ProbeState::Applied, ProbeState::NotApplied, ProbeState::Unknown][state as usize];
            Input::Probed {
                command: id(step, Direction::Forward, generation),
                from: None,
                state,
                data: None,
            }
        }
        Lie::Fact { kind: number, event } => {
            let event = EventId::of("liar", &event.to_string());
            Input::Fact(FactSeen { kind: kind(definition, number).into(), event })
        }
        Lie::Clock(span) => {
            *now = Time(now.0 + span); // clocks of different workers differ: it may go back
            Input::Clock
        }
        Lie::Cancel => Input::Cancel,
        Lie::Start => Input::Start,
        Lie::Verb(number) => {
            let legal = legal(definition, saga, *now);
            match legal.len() {
                0 => Input::Operator(Verb::Abandon),
                count => legal[number % count].0.clone(),
            }
        }
    }
}

fn config() -> ProptestConfig {
    let failure_persistence: Option<Box<dyn FailurePersistence>> =
        Some(Box::new(FileFailurePersistence::Direct(REGRESSIONS)));
    ProptestConfig { cases: CASES, failure_persistence, ..ProptestConfig::default() }
}

/// Participants that keep their contract: whatever is lost, repeated, late or refused, the saga
/// ends as the books say, or somebody was called.
#[test]
fn a_healed_saga_agrees_with_the_world() {
    let ends: RefCell<BTreeMap<(&str, bool), u32>> = RefCell::default();
    let stories = (definition(), prop::collection::vec(a_move(), 0..MAX_MOVES));
    let outcome = TestRunner::new(config()).run(&stories, |(definition, moves)| {
        let mut world = World::new(&definition);
        play(&mut world, &moves).map_err(TestCaseError::fail)?;
        let end = (world.saga.status.as_str(), !world.saga.attention.is_empty());
        *ends.borrow_mut().entry(end).or_default() += 1;
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    let ends = ends.into_inner();
    println!("{CASES} stories by (status, attention): {ends:?}");
    for end in
        [("completed", false), ("compensated", false), ("compensating", true), ("running", true)]
    {
        let count = ends.get(&end).copied().unwrap_or_default();
        assert!(count >= CASES / 200, "too few stories end {end:?}: {ends:?}");
    }
}

/// Participants that lie, on clocks that jump: the saga may end up wrong about the world, but it
/// still never undoes past a pivot, reuses an id, revives, or gets stuck unseen.
#[test]
fn no_liar_breaks_the_rules() {
    let stories = (definition(), prop::collection::vec(lie(), 0..2 * MAX_MOVES));
    let outcome = TestRunner::new(config()).run(&stories, |(definition, lies)| {
        let mut saga = Saga::created(&definition, SagaId::of("acme", "o-1", "random"));
        let mut watch = Watch::new(&definition, &saga);
        let mut now = Time(1_000_000);
        for lie in std::iter::once(&Lie::Start).chain(&lies) {
            let input = told(&definition, &saga, lie, &mut now);
            let made = decide(&definition, &saga, &input, now);
            watch.check(&saga, &input, now, &made).map_err(TestCaseError::fail)?;
            saga = made.saga;
        }
        watch.replays_to(&saga).map_err(TestCaseError::fail)
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
