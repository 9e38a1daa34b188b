//! A definition file: from text to a definition that can be run, or to all that is wrong.

use std::ops::Range;

use toml::de::DeTable;

use super::keys::{Found, Keys};
use super::names;
use super::notice;
use super::problem::{Problem, did_you_mean};
use super::step::{self, WrittenStep};
use crate::saga::{Definition, Flaw, FlawKind};

/// Sixty-four steps with their tests fit several times over.
const MAX_FILE_BYTES: usize = 256 * 1024;
/// Enough for every fault of every step; more belong into another file.
const MAX_TESTS: usize = 256;

/// An inline test as written, its lines not yet understood.
pub(super) struct WrittenTest {
    pub name: Found<String>,
    pub when: Vec<Found<String>>,
    pub then: Vec<Found<String>>,
}

pub(super) fn parse(text: &str) -> Result<(Definition, Vec<WrittenTest>), Vec<Problem>> {
    if text.len() > MAX_FILE_BYTES {
        let message = format!("the file has {} bytes, more than {MAX_FILE_BYTES}", text.len());
        let help = "split the definition, or move its tests into a later version";
        return Err(vec![Problem::new("makegood::definition::too-large", 0..0, message, help)]);
    }
    let (table, syntax) = DeTable::parse_recoverable(text);
    if !syntax.is_empty() {
        return Err(syntax.iter().map(syntax_problem).collect());
    }
    let mut keys = Keys::new(table.get_ref(), 0..0, None);
    keys.only(&["name", "version", "starts_on", "cancels_on", "step", "notice", "test"]);
    for (key, help) in [
        ("name", "give the definition a name, such as name = \"order-fulfilment\""),
        ("version", "write version = 1"),
        ("starts_on", "name the event that starts a saga: starts_on = \"order.created\""),
    ] {
        if !keys.has(key) {
            keys.missing(key, help);
        }
    }
    let name = names::plain(&mut keys, "name");
    let version = version(&mut keys);
    let starts_on = names::dotted(&mut keys, "starts_on");
    let cancels_on = names::dotted(&mut keys, "cancels_on");
    let mut steps: Vec<WrittenStep> =
        keys.tables("step").into_iter().map(|(table, span)| step::read(table, span)).collect();
    let notices = notice::read_all(&mut keys);
    let tests = tests(&mut keys);

    let mut problems = std::mem::take(&mut keys.problems);
    let sound: Vec<bool> = steps.iter().map(|step| step.problems.is_empty()).collect();
    steps.iter_mut().for_each(|step| problems.append(&mut step.problems));
    let drafts = steps.iter().map(|step| step.draft.clone()).collect();
    let text_of = |found: Option<Found<String>>| found.map_or(String::new(), |found| found.value);
    let cancels_on = cancels_on.map(|found| found.value);
    let made =
        Definition::new(text_of(name), version, text_of(starts_on), cancels_on, drafts, notices);
    let flaws = made.as_ref().err().cloned().unwrap_or_default();
    let headers = [keys.span_of("step"), keys.span_of("notice")];
    let told = flaws.into_iter().filter(|flaw| is_certain(flaw, &sound));
    problems.extend(told.map(|flaw| flaw_problem(&flaw, &steps, &headers)));
    match made {
        Ok(definition) if problems.is_empty() => Ok((definition, tests)),
        _ => Err(problems),
    }
}

fn syntax_problem(error: &toml::de::Error) -> Problem {
    let help = "the file is not TOML here; https://toml.io shows how it is written";
    let span = error.span().unwrap_or(0..0);
    Problem::new("makegood::definition::syntax", span, error.message().trim(), help)
}

fn version(keys: &mut Keys<'_>) -> u32 {
    let Some(found) = keys.integer("version") else { return 0 };
    match u32::try_from(found.value) {
        // The store keeps it as a signed number of 32 bits.
        Ok(version @ 1..=0x7fff_ffff) => version,
        _ => {
            let message = format!("{} cannot be a version", found.value);
            let help = "count versions from 1; every published change gets the next one";
            let code = "makegood::definition::version";
            keys.problem(Problem::new(code, found.span, message, help));
            0
        }
    }
}

fn tests(keys: &mut Keys<'_>) -> Vec<WrittenTest> {
    let tables = keys.tables("test");
    if tables.len() > MAX_TESTS {
        let message = format!("{} tests, more than {MAX_TESTS}", tables.len());
        let help = "keep the tests that tell the rules";
        let span = keys.span_of("test");
        keys.problem(Problem::new("makegood::definition::too-many-tests", span, message, help));
    }
    tables.into_iter().filter_map(|(table, span)| test(keys, table, span)).collect()
}

fn test(file: &mut Keys<'_>, table: &DeTable<'_>, span: Range<usize>) -> Option<WrittenTest> {
    let mut keys = Keys::new(table, span, None);
    keys.only(&["name", "when", "then"]);
    for (key, help) in [
        ("name", "say in a sentence what the test shows"),
        ("then", "say what must come of it: then = [\"ends completed\"]"),
    ] {
        if !keys.has(key) {
            keys.missing(key, help);
        }
    }
    let name = keys.text("name");
    let when = keys.texts("when").map_or(Vec::new(), |lines| lines.value);
    let then = keys.texts("then").map_or(Vec::new(), |lines| lines.value);
    if keys.has("then") && then.is_empty() {
        let span = keys.span_of("then");
        let help = "a test without expectations cannot fail: add one";
        keys.problem(Problem::new("makegood::definition::test-line", span, "no 'then'", help));
    }
    file.problems.append(&mut keys.problems);
    Some(WrittenTest { name: name?, when, then })
}

/// Whether a flaw is one even if other steps could not be read: what is missing in those
/// would otherwise be told twice, in words that lead astray.
fn is_certain(flaw: &Flaw, sound: &[bool]) -> bool {
    match flaw.kind {
        FlawKind::NameTwice(ref name) => !name.is_empty(),
        FlawKind::UnknownStep(_) | FlawKind::Cycle(_) | FlawKind::TooManySteps(_) => true,
        FlawKind::NoSteps => true,
        _ => sound.iter().all(|sound| *sound),
    }
}

/// Shows a flaw where its author can mend it.
fn flaw_problem(
    flaw: &Flaw,
    steps: &[WrittenStep],
    [all_steps, notices]: &[Range<usize>; 2],
) -> Problem {
    let (code, help) = advice(&flaw.kind, steps);
    let step = flaw.step.map(|step| &steps[step]);
    let name = match &flaw.kind {
        FlawKind::UnknownStep(name) => Some(name.as_str()),
        _ => None,
    };
    let span = match step {
        Some(step) => step.span(flaw.key, name),
        None if flaw.key == "notice" => notices.clone(),
        None => all_steps.clone(),
    };
    let step_name = step.map(|step| step.draft.name.as_str()).filter(|name| !name.is_empty());
    Problem::new(code, span, flaw.kind.to_string(), help).in_step(step_name)
}

/// The stable code of a flaw, and what to do about it.
fn advice(kind: &FlawKind, steps: &[WrittenStep]) -> (&'static str, String) {
    let names = || steps.iter().map(|step| step.draft.name.as_str()).filter(|n| !n.is_empty());
    let (code, help) = match kind {
        FlawKind::NoSteps => ("makegood::definition::no-steps", "add a [[step]]"),
        FlawKind::TooManySteps(_) => {
            ("makegood::definition::too-many-steps", "split the definition into two sagas")
        }
        FlawKind::NameTwice(_) => {
            ("makegood::definition::name-twice", "command ids are made from the name: rename one")
        }
        FlawKind::UnknownStep(name) => {
            let known = names().collect::<Vec<_>>().join(", ");
            let help = format!("{}the steps are: {known}", did_you_mean(name, names()));
            return ("makegood::definition::unknown-step", help);
        }
        FlawKind::Cycle(_) => {
            ("makegood::definition::cycle", "remove one name of the circle from its 'after'")
        }
        FlawKind::MissingCompensation => (
            "makegood::definition::missing-compensation",
            "add compensation = { command = \"…\" }, or let the step run after the pivot",
        ),
        FlawKind::CompensationPastPivot(_) => (
            "makegood::definition::compensation-past-pivot",
            "remove the compensation, or move the step before the pivot",
        ),
        FlawKind::CompensationOfPivot => (
            "makegood::definition::compensation-of-pivot",
            "remove the compensation, or make a later step the pivot",
        ),
        FlawKind::PivotAfterPivot(_) => (
            "makegood::definition::pivot-after-pivot",
            "keep the first point of no return; the later step goes forward anyway",
        ),
        FlawKind::PivotIsObligation => {
            ("makegood::definition::pivot-is-obligation", "remove pivot = true")
        }
        FlawKind::ObligationWaits => (
            "makegood::definition::obligation-waits",
            "remove 'after', or add the command that the step was meant to send",
        ),
        FlawKind::FactsWithoutDeadline => (
            "makegood::definition::facts-without-deadline",
            "add deadline = \"14d\" (or whatever is late here): it raises attention, nothing else",
        ),
        FlawKind::CompensationCycle(_) => (
            "makegood::definition::compensation-cycle",
            "remove one name of the circle from a compensation's 'after'",
        ),
        FlawKind::NoticeNeverSent(state) => {
            let help = format!("add reaches = \"{state}\" to the steps after which it is true");
            return ("makegood::definition::notice-never-sent", help);
        }
        FlawKind::NoticeTwice { .. } => {
            ("makegood::definition::notice-twice", "remove one of the two: each is sent once")
        }
    };
    (code, help.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(text: &str) -> Vec<&'static str> {
        parse(text).err().expect("the file is bad").iter().map(|problem| problem.code).collect()
    }

    #[test]
    fn a_file_that_is_no_toml_is_told_where() {
        let problems = parse("name = \n[[step]\n").err().expect("no TOML");
        assert!(problems.iter().all(|p| p.code == "makegood::definition::syntax"), "{problems:?}");
    }

    #[test]
    fn an_empty_file_lacks_everything() {
        assert_eq!(codes("").len(), 4, "name, version, starts_on and a step");
    }

    #[test]
    fn a_file_that_is_too_large_is_not_even_read() {
        let text = "#".repeat(MAX_FILE_BYTES + 1);
        assert_eq!(codes(&text), ["makegood::definition::too-large"]);
    }

    #[test]
    fn drafts_of_unsound_steps_are_no_reason_for_more_complaints() {
        let text = "name='a'\nversion=1\nstarts_on='a.b'\n[[step]]\nname='x'\nafter=['y']\n\
                    [[step]]\nname='y'\nparticipant='p'\n";
        let found = codes(text);
        assert!(!found.contains(&"makegood::definition::unknown-step"), "{found:?}");
    }
}
