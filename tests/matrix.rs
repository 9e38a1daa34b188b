//! The fault matrix: every trouble at every step of every definition in `sagas/`, generated, so
//! that a new step cannot be forgotten. After every decision the rules hold; once the world is
//! healed the saga has ended as the participants' books say, or somebody was called.

mod support;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;

use makegood::catalog;
use makegood::saga::{Definition, Direction, Input, Phase, Status, Work};
use support::world::{Act, Message, World};

/// A run that meets its trouble later than this many deliveries never meets it.
const MAX_DELIVERIES: usize = 500;

/// Silence for more sendings than this lasts beyond every give-up time.
const MAX_SENDS_TO_GIVE_UP: usize = 100;

type Plan = HashMap<(usize, Direction), Vec<Act>>;

/// When the request to cancel comes, seen from one step.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Moment {
    Before(usize),
    During(usize),
    After(usize),
}

/// One cell of the matrix: what becomes of the messages for some steps, one act for each
/// delivery, and whether somebody cancels.
#[derive(Debug, Clone, Default)]
struct Trouble {
    name: String,
    /// The same without what brings it about: of all cells of a kind at least one must be met.
    kind: String,
    plan: Plan,
    cancel: Option<Moment>,
    /// What a probe is answered with: the truth, or nothing that helps.
    probe: Option<Act>,
    /// The fact that fails a step comes instead of one that completes it.
    failing_fact: Option<usize>,
    /// All facts of the definition come at the start, long before their time.
    early_facts: bool,
    /// Answers overtake each other: the last message on the wire is delivered first.
    reversed: bool,
    /// Every message arrives twice.
    doubled: bool,
}

impl Trouble {
    fn named(name: impl Into<String>) -> Trouble {
        let name = name.into();
        Trouble { kind: name.clone(), name, ..Trouble::default() }
    }

    fn because(mut self, why: &str, other: &str) -> Trouble {
        self.name = format!("{}, {why} {other}", self.kind);
        self
    }

    fn at(mut self, step: usize, direction: Direction, acts: &[Act]) -> Trouble {
        self.plan.insert((step, direction), acts.to_vec());
        self
    }

    fn cancelled(mut self, moment: Moment) -> Trouble {
        self.cancel = Some(moment);
        self
    }
}

fn definitions() -> Vec<Definition> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sagas");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let load = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        catalog::load(&path.to_string_lossy(), &text).unwrap().definition
    };
    files.iter().map(load).collect()
}

/// Everything that can go wrong at one step.
fn troubles(definition: &Definition, step: usize) -> Vec<Trouble> {
    use Act::{Forget, HoldReply, LoseMessage, LoseReply, Refuse, Reject, Retry, Succeed, Twice};
    use Direction::{Compensate, Forward};
    let never = |act: Act| vec![act; 4 * MAX_SENDS_TO_GIVE_UP];
    let mut all = vec![
        Trouble::named("cancelled before").cancelled(Moment::Before(step)),
        Trouble::named("cancelled during").cancelled(Moment::During(step)),
        Trouble::named("cancelled after").cancelled(Moment::After(step)),
        Trouble { reversed: true, doubled: true, ..Trouble::named("twice and out of order") },
        Trouble { reversed: true, doubled: true, ..Trouble::named("cancelled, out of order") }
            .cancelled(Moment::During(step)),
        Trouble { doubled: true, ..Trouble::named("everything twice") },
    ];
    if !definition.facts().is_empty() {
        all.push(Trouble { early_facts: true, ..Trouble::named("facts before their time") });
    }
    match &definition.steps()[step].work {
        Work::Command { probe, .. } => {
            for (name, acts) in [
                ("rejected", vec![Reject]),
                ("asks for patience", vec![Retry, Retry]),
                ("lost once", vec![LoseMessage]),
                ("answer lost once", vec![LoseReply]),
                ("answered twice", vec![Twice]),
                ("never arrives", never(LoseMessage)),
                ("done, never answered", never(LoseReply)),
                ("answered late", never(HoldReply)),
            ] {
                all.push(Trouble::named(name).at(step, Forward, &acts));
                if *probe && acts.len() > MAX_SENDS_TO_GIVE_UP {
                    let unknown = Trouble::named(format!("{name}, probe knows nothing"));
                    let unknown = unknown.at(step, Forward, &acts);
                    all.push(Trouble { probe: Some(Retry), ..unknown });
                }
                let cancelled = Trouble::named(format!("{name}, then cancelled"));
                all.push(cancelled.at(step, Forward, &acts).cancelled(Moment::During(step)));
            }
        }
        Work::Facts { fails_on: Some(_), .. } => {
            all.push(Trouble { failing_fact: Some(step), ..Trouble::named("fails by a fact") });
        }
        Work::Facts { .. } | Work::Obligation => {}
    }
    let undone = definition.steps()[step].compensation.is_some();
    if undone && definition.steps()[step].is_command() {
        let trouble = Trouble::named("never arrives, which its compensation does not remember");
        all.push(trouble.at(step, Forward, &never(LoseMessage)).at(step, Compensate, &[Forget]));
    }
    if undone {
        for (name, acts) in [
            ("refused", vec![Refuse]),
            ("rejected, then heals", vec![Reject, Reject, Succeed]),
            ("asks for patience", vec![Retry]),
            ("never arrives, then heals", vec![LoseMessage; 60]),
            ("done, never answered, then heals", vec![LoseReply; 60]),
            ("answered twice", vec![Twice]),
            ("answered late", vec![HoldReply]),
        ] {
            // It is undone because somebody cancels, or because some other step is rejected.
            for other in 0..definition.steps().len() {
                let named = |why: &str| {
                    let trouble = Trouble::named(format!("compensation {name}"));
                    let trouble = trouble.because(why, &definition.steps()[other].name);
                    trouble.at(step, Compensate, &acts)
                };
                all.push(named("cancelled after").cancelled(Moment::After(other)));
                all.push(named("cancelled during").cancelled(Moment::During(other)));
                let turns_back = !definition.is_past_pivot(other) && other != step;
                if definition.steps()[other].is_command() && turns_back {
                    all.push(named("after a rejection of").at(other, Forward, &[Reject]));
                }
            }
        }
    }
    all
}

/// What became of one cell.
struct End {
    /// Where the saga stood after the world had healed, and whether somebody was called.
    stood: (Status, bool),
    /// Whether the trouble came about at all: an act was played at each place for which one was
    /// planned, somebody cancelled, a probe was asked.
    met: bool,
}

fn meet(definition: &Definition, trouble: &Trouble) -> Result<End, String> {
    let (mut probed, mut overtaken) = (false, false);
    let mut world = World::new(definition);
    let mut plan = trouble.plan.clone();
    let mut cancel = trouble.cancel;
    world.happen(Input::Start)?;
    if trouble.early_facts {
        definition.facts().into_iter().try_for_each(|fact| world.fact(fact))?;
    }
    for _ in 0..MAX_DELIVERIES {
        if cancel.is_some_and(|moment| has_come(&world, moment)) {
            cancel = None;
            world.happen(Input::Cancel)?;
        }
        if world.wire.is_empty() {
            if !let_time_pass(&mut world, trouble)? {
                break;
            }
            continue;
        }
        overtaken |= world.wire.len() > 1;
        probed |= matches!(world.wire[0], Message::Probe { .. });
        let place = if trouble.reversed { world.wire.len() - 1 } else { 0 };
        let act = match &world.wire[place] {
            Message::Command { step, direction, .. } => {
                match plan.get_mut(&(*step, *direction)).filter(|acts| !acts.is_empty()) {
                    Some(acts) => acts.remove(0),
                    None if trouble.doubled => Act::Twice,
                    None => Act::Succeed,
                }
            }
            Message::Probe { .. } => trouble.probe.unwrap_or(Act::Succeed),
            Message::Answer(_) if trouble.doubled => Act::Twice,
            Message::Answer(_) => Act::Succeed,
        };
        world.deliver(place, act)?;
    }
    let failing = trouble.failing_fact.and_then(|step| match &definition.steps()[step].work {
        Work::Facts { fails_on, .. } => fails_on.as_deref(),
        _ => None,
    });
    let met = trouble.plan.iter().all(|(place, acts)| plan[place].len() < acts.len())
        && cancel.is_none()
        && (trouble.probe.is_none() || probed)
        && (!trouble.reversed || overtaken)
        && failing.is_none_or(|fact| world.saga.facts.iter().any(|seen| *seen.kind == *fact));
    world.heal()?;
    Ok(End { stood: (world.saga.status, !world.saga.attention.is_empty()), met })
}

fn has_come(world: &World<'_>, moment: Moment) -> bool {
    let phase = |step: usize| &world.saga.steps[step].phase;
    match moment {
        Moment::Before(step) => {
            let mut before = world.definition.steps()[step].after.iter();
            before.all(|other| *phase(other) == Phase::Done)
        }
        Moment::During(step) => *phase(step) != Phase::Idle,
        Moment::After(step) => *phase(step) == Phase::Done,
    }
}

/// Nothing is under way: a fact that is awaited comes, or the next clock fires.
fn let_time_pass(world: &mut World<'_>, trouble: &Trouble) -> Result<bool, String> {
    let waits = |step: usize| matches!(world.saga.steps[step].phase, Phase::Awaiting { .. });
    let waiting = (0..world.saga.steps.len()).find(|step| waits(*step));
    let fact = waiting.and_then(|step| match &world.definition.steps()[step].work {
        Work::Facts { fails_on: Some(fact), .. } if trouble.failing_fact == Some(step) => {
            Some(fact.clone())
        }
        Work::Facts { completes_on, .. } => Some(completes_on[0].clone()),
        _ => None,
    });
    match fact {
        Some(fact) => world.fact(&fact)?,
        None if world.saga.next_clock().is_some() => world.tick()?,
        None => return Ok(false),
    }
    Ok(true)
}

#[test]
fn every_trouble_at_every_step_of_every_definition() {
    let mut ends: BTreeMap<(&str, bool), usize> = BTreeMap::new();
    let mut broken = Vec::new();
    let mut met: BTreeMap<String, bool> = BTreeMap::new();
    for definition in definitions() {
        for step in 0..definition.steps().len() {
            for trouble in troubles(&definition, step) {
                let place = format!("{} {}", definition.name(), definition.steps()[step].name);
                match meet(&definition, &trouble) {
                    Ok(End { stood: (status, attention), met: bit }) => {
                        *ends.entry((status.as_str(), attention)).or_default() += 1;
                        *met.entry(format!("{place}: {}", trouble.kind)).or_default() |= bit;
                    }
                    Err(why) => broken.push(format!("{place}: {}\n{why}", trouble.name)),
                }
            }
        }
    }
    assert!(broken.is_empty(), "{} cells broke a rule; the first:\n{}", broken.len(), broken[0]);
    let missed: Vec<&String> = met.iter().filter(|(_, met)| !**met).map(|(kind, _)| kind).collect();
    assert!(missed.is_empty(), "no cell of these met its trouble: {missed:#?}");
    println!("cells by (status, attention): {ends:?}");
    for end in
        [("completed", false), ("compensated", false), ("compensating", true), ("running", true)]
    {
        assert!(ends.get(&end).is_some_and(|count| *count >= 5), "too few ended {end:?}: {ends:?}");
    }
}

/// A few cells in which not only the rules but the very end is known.
#[test]
fn the_ends_that_the_business_counts_on() {
    let all = definitions();
    let find = |name: &str| all.iter().find(|definition| definition.name() == name).unwrap();
    let end =
        |definition: &Definition, step: &str, direction, acts: &[Act], cancel: Option<&str>| {
            let index = |name: &str| definition.step_named(name).unwrap();
            let mut trouble = Trouble::named(step).at(index(step), direction, acts);
            trouble.cancel = cancel.map(|name| Moment::After(index(name)));
            let End { stood, met } = meet(definition, &trouble).unwrap();
            assert!(met, "{step}: the trouble was not met");
            stood
        };
    use Direction::{Compensate, Forward};
    let order = find("order-fulfilment");
    assert_eq!(end(order, "reserve", Forward, &[Act::Reject], None), (Status::Compensated, false));
    assert_eq!(
        end(order, "pick", Forward, &[Act::LoseMessage; 99], None),
        (Status::Compensated, false)
    );
    assert_eq!(
        end(order, "activate-loan", Forward, &[Act::LoseReply; 99], None),
        (Status::Completed, false)
    );
    assert_eq!(
        end(order, "dispatch", Compensate, &[Act::Refuse], Some("dispatch")),
        (Status::Completed, false)
    );
    let holiday = find("holiday-package");
    assert_eq!(
        end(holiday, "ticket", Forward, &[Act::LoseMessage; 9], None),
        (Status::Completed, false)
    );
    assert_eq!(end(holiday, "hotel", Forward, &[Act::Reject], None), (Status::Compensated, false));
}
