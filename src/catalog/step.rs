//! One `[[step]]` of a definition file: a command, a wait for facts, or an obligation.

use std::collections::HashMap;
use std::ops::Range;

use toml::de::DeTable;

use super::keys::{Found, Keys};
use super::names;
use super::problem::Problem;
use crate::saga::{
    Backoff, Compensation, Draft, Millis, OrderState, ShipmentFields, StepSet, Work,
};

/// A participant that answers at all answers within seconds; ten leave it room to be busy.
const RESEND_INITIAL: Millis = Millis(10_000);
/// Twice as patient each time, so that an outage of an hour costs dozens of resends, not 360.
const RESEND_FACTOR: f64 = 2.0;
/// A recovered participant is noticed within two minutes.
const RESEND_MAX: Millis = Millis(120_000);
/// A fifth more or less keeps thousands of sagas from resending in step.
const RESEND_JITTER: f64 = 0.2;
/// An hour outlasts a restart or a deployment of the participant, which is no reason to undo.
const GIVE_UP: Millis = Millis::HOUR;
/// A step that hangs on more events than this is several steps.
const MAX_EVENTS: usize = 16;
/// A courier who comes more often than this has moved in. Each time stands in the saga's row.
const MAX_ATTEMPTS: u16 = 10;

const COMMAND: &[&str] = &[
    "name",
    "after",
    "participant",
    "command",
    "compensation",
    "pivot",
    "resend",
    "give_up",
    "probe",
    "deadline",
    "needs",
    "reaches",
    "shipment",
];
const AWAIT: &[&str] =
    &["name", "after", "await", "fails_on", "attempts", "pivot", "deadline", "reaches"];
const OBLIGATION: &[&str] = &["name", "after", "pivot", "compensation"];
const COMPENSATION: &[&str] = &["participant", "command", "after", "resend", "give_up", "needs"];

/// A step as read, with the places in the file that a later check may want to show.
pub(super) struct WrittenStep {
    pub draft: Draft,
    pub problems: Vec<Problem>,
    header: Range<usize>,
    keys: HashMap<String, Range<usize>>,
    /// The place of each step name in `after` and in the compensation's `after`.
    references: HashMap<(&'static str, String), Range<usize>>,
}

impl WrittenStep {
    /// Where the file shows what a check says about `key`, or about `name` within it.
    pub fn span(&self, key: &'static str, name: Option<&str>) -> Range<usize> {
        let reference = name.and_then(|name| self.references.get(&(key, name.to_owned())));
        let written = reference.or_else(|| self.keys.get(key)).or_else(|| self.keys.get("name"));
        written.unwrap_or(&self.header).clone()
    }
}

/// Reads a step. A step with problems still has a draft, so that others can refer to it.
pub(super) fn read(table: &DeTable<'_>, header: Range<usize>) -> WrittenStep {
    let mut keys = Keys::new(table, header.clone(), None);
    let name = names::plain(&mut keys, "name");
    keys.step = name.as_ref().map(|name| name.value.clone());
    if !keys.has("name") {
        keys.missing("name", "give the step a name, such as name = \"reserve\"");
    }
    let kind = kind_of(&mut keys);
    let mut references = HashMap::new();
    let after = step_names(&mut keys, "after", "after", &mut references);
    let (resend, give_up) = patience(&mut keys, default_backoff(), GIVE_UP);
    let needs = fields(&mut keys);
    let work = match kind {
        Kind::Await => facts(&mut keys),
        Kind::Obligation => Work::Obligation,
        Kind::Command => command(&mut keys, resend, give_up),
    };
    let compensation = if kind != Kind::Await && keys.has("compensation") {
        compensation(&mut keys, &work, (resend, give_up), &needs, &mut references)
    } else {
        None
    };
    let draft = Draft {
        name: name.map_or(String::new(), |name| name.value),
        after: after.unwrap_or_default(),
        work,
        compensation,
        pivot: keys.flag("pivot").unwrap_or(false),
        deadline: keys.duration("deadline"),
        needs,
        reaches: milestone(&mut keys),
        shipment: if kind == Kind::Command { shipment(&mut keys) } else { None },
    };
    let spans = table.keys().map(|key| (key.get_ref().to_string(), key.span())).collect();
    WrittenStep { draft, problems: keys.problems, header, keys: spans, references }
}

/// How far the order has come once the step is done.
fn milestone(keys: &mut Keys<'_>) -> Option<OrderState> {
    names::state(keys, "reaches", &OrderState::MILESTONES)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Command,
    Await,
    Obligation,
}

/// What sort of step this is, judged by its keys; refuses the keys of another sort.
fn kind_of(keys: &mut Keys<'_>) -> Kind {
    let (kind, name, allowed) = if keys.has("await") {
        (Kind::Await, "a step that waits for facts", AWAIT)
    } else if keys.has("command") || keys.has("participant") {
        (Kind::Command, "a step that sends a command", COMMAND)
    } else {
        (Kind::Obligation, "an obligation (a step without command or await)", OBLIGATION)
    };
    let all: Vec<&str> = COMMAND.iter().chain(AWAIT).copied().collect();
    let misplaced: Vec<&str> =
        all.into_iter().filter(|key| !allowed.contains(key) && keys.has(key)).collect();
    for key in &misplaced {
        let message = format!("'{key}' makes no sense for {name}");
        let help = match (*key, kind) {
            ("command" | "participant", Kind::Await) => {
                "a step either sends a command or waits for facts: make two steps of it".to_owned()
            }
            ("compensation", Kind::Await) => {
                "put the compensation on the step whose command brought the fact about".to_owned()
            }
            ("fails_on" | "attempts", _) => "remove it, or add await = [\"…\"]".to_owned(),
            _ => format!("remove it; the keys of {name} are: {}", allowed.join(", ")),
        };
        let code = "makegood::definition::misplaced-key";
        keys.problem(Problem::new(code, keys.span_of(key), message, help));
    }
    let mut known: Vec<&str> = allowed.to_vec();
    known.extend(&misplaced);
    keys.only(&known);
    if kind == Kind::Obligation && !keys.has("compensation") {
        let help = "add participant and command, or await, or (for something that is already \
                    true when the saga starts) a compensation";
        let message = "the step does nothing: it has no command, no await and no compensation";
        let code = "makegood::definition::empty-step";
        keys.problem(Problem::new(code, keys.span_of("name"), message, help));
    }
    kind
}

fn command(keys: &mut Keys<'_>, resend: Backoff, give_up: Millis) -> Work {
    for (key, help) in [
        ("participant", "name who does it, such as participant = \"inventory\""),
        ("command", "name what is asked for, such as command = \"inventory.reserve\""),
    ] {
        if !keys.has(key) {
            keys.missing(key, help);
        }
    }
    let probe = keys.flag("probe").unwrap_or(false);
    let participant = names::plain(keys, "participant").map_or(String::new(), |found| found.value);
    let command = names::dotted(keys, "command").map_or(String::new(), |found| found.value);
    Work::Command { participant, command, resend, give_up, probe }
}

fn facts(keys: &mut Keys<'_>) -> Work {
    let fails_on = names::dotted(keys, "fails_on");
    let mut completes_on: Vec<String> = Vec::new();
    let events = keys.texts("await").unwrap_or(Found { value: Vec::new(), span: 0..0 });
    let count = events.value.len();
    if count == 0 && keys.has("await") || count > MAX_EVENTS {
        let message = format!("'await' has {count} events, it may have 1 to {MAX_EVENTS}");
        let help = "name the events of which any one completes the step";
        let code = "makegood::definition::event-count";
        keys.problem(Problem::new(code, keys.span_of("await"), message, help));
    }
    for event in events.value {
        if !names::check_dotted(keys, "await", &event) {
            continue;
        }
        let twice = completes_on.contains(&event.value);
        let both = fails_on.as_ref().is_some_and(|fact| fact.value == event.value);
        if twice || both {
            let message = match both {
                true => format!("'{}' both completes and fails the step", event.value),
                false => format!("'{}' is awaited twice", event.value),
            };
            let help = "an event means one thing to a step: remove it from one place";
            let code = "makegood::definition::event-twice";
            keys.problem(Problem::new(code, event.span, message, help));
        } else {
            completes_on.push(event.value);
        }
    }
    let attempts = attempts(keys, fails_on.is_some());
    Work::Facts { completes_on, fails_on: fails_on.map(|fact| fact.value), attempts }
}

/// How often the fact that fails the step has to be seen before it counts.
fn attempts(keys: &mut Keys<'_>, fails: bool) -> u16 {
    let Some(found) = keys.integer("attempts") else { return 1 };
    let attempts = u16::try_from(found.value).unwrap_or(0);
    let code = "makegood::definition::attempts";
    if !fails {
        let message = "'attempts' counts how often the step fails, and it fails on nothing";
        let help = "remove it, or add fails_on = \"…\"";
        keys.problem(Problem::new(code, found.span, message, help));
    } else if !(1..=MAX_ATTEMPTS).contains(&attempts) {
        let message = format!("'attempts' must be a whole number from 1 to {MAX_ATTEMPTS}");
        let help = "3 lets a courier come three times before somebody has to look";
        keys.problem(Problem::new(code, found.span, message, help));
    }
    attempts
}

/// The fields of the result that name the shipment which the step booked.
fn shipment(step: &mut Keys<'_>) -> Option<ShipmentFields> {
    if !step.has("shipment") {
        return None;
    }
    let mut keys = step.table("shipment")?;
    keys.only(&["id", "courier"]);
    let mut field = |key: &str| {
        if !keys.has(key) {
            keys.missing(key, "write shipment = { id = \"shipment_id\", courier = \"courier\" }");
        }
        keys.text(key).map(|found| found.value)
    };
    let (id, courier) = (field("id"), field("courier"));
    step.problems.append(&mut keys.problems);
    Some(ShipmentFields { id: id?, courier: courier? })
}

type Undo = (Compensation, Option<Vec<String>>);

fn compensation(
    step: &mut Keys<'_>,
    work: &Work,
    (resend, give_up): (Backoff, Millis),
    step_needs: &Option<Vec<String>>,
    references: &mut HashMap<(&'static str, String), Range<usize>>,
) -> Option<Undo> {
    let mut keys = step.table("compensation")?;
    keys.only(COMPENSATION);
    if !keys.has("command") {
        keys.missing("command", "name what undoes the step: { command = \"inventory.release\" }");
    }
    let command = names::dotted(&mut keys, "command").map_or(String::new(), |found| found.value);
    let explicit = names::plain(&mut keys, "participant").map(|found| found.value);
    // Without a word on it, whoever did the step undoes it; an obligation was done by nobody,
    // so its compensation goes to whom its command names.
    let participant = explicit.unwrap_or_else(|| match work {
        Work::Command { participant, .. } => participant.clone(),
        _ => command.split('.').next().unwrap_or_default().to_owned(),
    });
    let after = step_names(&mut keys, "after", "compensation", references);
    let (resend, give_up) = patience(&mut keys, resend, give_up);
    // To undo something nobody needs to see more of the order than to do it.
    let needs = fields(&mut keys).or_else(|| step_needs.clone());
    step.problems.append(&mut keys.problems);
    let after_set = StepSet::default();
    let undo = Compensation { participant, command, after: after_set, resend, give_up, needs };
    Some((undo, after))
}

/// The step names in a key, with the places where they are written.
fn step_names(
    keys: &mut Keys<'_>,
    key: &str,
    filed_under: &'static str,
    references: &mut HashMap<(&'static str, String), Range<usize>>,
) -> Option<Vec<String>> {
    let names = keys.texts(key)?.value;
    for name in &names {
        references.insert((filed_under, name.value.clone()), name.span.clone());
    }
    Some(names.into_iter().map(|name| name.value).collect())
}

/// The fields of the order that a participant gets.
pub(super) fn fields(keys: &mut Keys<'_>) -> Option<Vec<String>> {
    keys.texts("needs").map(|names| names.value.into_iter().map(|name| name.value).collect())
}

fn default_backoff() -> Backoff {
    Backoff {
        initial: RESEND_INITIAL,
        factor: RESEND_FACTOR,
        max: RESEND_MAX,
        jitter: RESEND_JITTER,
    }
}

/// How often to ask again, and when to stop believing in an answer.
fn patience(keys: &mut Keys<'_>, backoff: Backoff, give_up: Millis) -> (Backoff, Millis) {
    let resend = if keys.has("resend") { resend(keys, backoff) } else { backoff };
    (resend, keys.duration("give_up").unwrap_or(give_up))
}

fn resend(step: &mut Keys<'_>, default: Backoff) -> Backoff {
    let Some(mut keys) = step.table("resend") else { return default };
    keys.only(&["initial", "factor", "max", "jitter"]);
    let initial = keys.duration("initial").unwrap_or(default.initial);
    let factor = keys.number("factor");
    let jitter = keys.number("jitter");
    // A long first wait without a word on the longest means: never shorter than the first.
    let max = keys.duration("max").unwrap_or(default.max.max(initial));
    let mut bound = |key: &str, holds: bool, message: &str, help: &str| {
        if !holds {
            let span = keys.span_of(key);
            keys.problem(Problem::new("makegood::definition::resend", span, message, help));
        }
    };
    let factor = factor.map_or(default.factor, |found| found.value);
    let jitter = jitter.map_or(default.jitter, |found| found.value);
    let grows = factor.is_finite() && factor >= 1.0;
    bound("factor", grows, "'factor' must be 1 or more", "2.0 doubles the wait every time");
    let share = (0.0..=1.0).contains(&jitter);
    bound("jitter", share, "'jitter' must be between 0 and 1", "0.2 is a fifth more or less");
    let ordered = max >= initial;
    bound("max", ordered, "'max' is shorter than 'initial'", "the wait only grows: raise max");
    step.problems.append(&mut keys.problems);
    Backoff { initial, factor, max, jitter }
}
