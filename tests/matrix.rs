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
        Trouble { name: name.into(), ..Trouble::default() }
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
    use Act::{HoldReply, LoseMessage, LoseReply, Refuse, Reject, Retry, Succeed, Twice};
    use Direction::{Compensate, Forward};
    // Enough silence for every resend before and after the give-up time.
    let never = |act: Act| vec![act; 400];
    let mut all = vec![
        Trouble::named("cancelled before").cancelled(Moment::Before(step)),
        Trouble::named("cancelled during").cancelled(Moment::During(step)),
        Trouble::named("cancelled after").cancelled(Moment::After(step)),
        Trouble { early_facts: true, ..Trouble::named("facts before their time") },
        Trouble { reversed: true, ..Trouble::named("out of order") },
        Trouble { doubled: true, ..Trouble::named("everything twice") },
    ];
    match &definition.steps()[step].work {
        Work::Command { .. } => {
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
                for (told, probe) in [("", None), (", probe knows nothing", Some(Retry))] {
                    let trouble = Trouble::named(format!("{name}{told}")).at(step, Forward, &acts);
                    all.push(Trouble { probe, ..trouble });
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
    if definition.steps()[step].compensation.is_some() {
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
                    let other = &definition.steps()[other].name;
                    let trouble = Trouble::named(format!("compensation {name}, {why} {other}"));
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

/// Runs one cell; gives where the saga stood after the world had healed.
fn meet(definition: &Definition, trouble: &Trouble) -> Result<(Status, bool), String> {
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
    world.heal()?;
    Ok((world.saga.status, !world.saga.attention.is_empty()))
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
    for definition in definitions() {
        for step in 0..definition.steps().len() {
            for trouble in troubles(&definition, step) {
                match meet(&definition, &trouble) {
                    Ok((status, attention)) => {
                        *ends.entry((status.as_str(), attention)).or_default() += 1;
                    }
                    Err(why) => {
                        let step = &definition.steps()[step].name;
                        broken.push(format!(
                            "{} {step}: {}\n{why}",
                            definition.name(),
                            trouble.name
                        ));
                    }
                }
            }
        }
    }
    assert!(broken.is_empty(), "{} cells broke a rule; the first:\n{}", broken.len(), broken[0]);
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
            meet(definition, &trouble).unwrap()
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
