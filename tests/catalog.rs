//! The catalog from outside: every definition in `sagas/` loads and passes its own tests, every
//! mistake in a file is told with its place, and a failing inline test shows what happened.

use std::fs;
use std::path::PathBuf;

use makegood::catalog::{Catalog, CatalogErrors, LoadedDefinition, load, mermaid, run};
use makegood::saga::{Millis, Work};

/// Every file in `sagas/`, with its name.
fn saga_files() -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sagas");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        (
            path.file_name().unwrap().to_string_lossy().into_owned(),
            fs::read_to_string(&path).unwrap(),
        )
    };
    let files: Vec<_> = paths.into_iter().map(read).collect();
    assert!(files.len() >= 2, "sagas/ has lost its files");
    files
}

fn shipped(name: &str) -> LoadedDefinition {
    let file = format!("{name}.toml");
    let (_, text) = saga_files().into_iter().find(|(found, _)| *found == file).unwrap();
    load(&file, &text).unwrap()
}

#[test]
fn every_shipped_definition_loads_and_passes_its_own_tests() {
    for (file, text) in saga_files() {
        let loaded =
            load(&file, &text).unwrap_or_else(|errors| panic!("{}", errors.to_fancy(false)));
        let runs = run(&loaded);
        assert!(!runs.is_empty(), "{file} has no tests");
        let failed: Vec<String> =
            runs.iter().filter(|run| !run.passed).map(|run| run.to_text()).collect();
        assert!(failed.is_empty(), "{file}:\n{}", failed.join("\n"));
    }
}

/// A definition without mistakes; the cases below put one in.
const GOOD: &str = r#"
name = "parcel"
version = 1
starts_on = "order.created"
cancels_on = "order.cancel-requested"

[[step]]
name = "paid"
compensation = { command = "loan.reverse" }

[[step]]
name = "book"
participant = "courier"
command = "courier.book"
compensation = { command = "courier.cancel" }
needs = ["ship_to"]

[[step]]
name = "handed-over"
after = ["book"]
await = ["parcel.scanned"]
pivot = true
deadline = "14d"

[[step]]
name = "thank"
after = ["handed-over"]
participant = "mailing"
command = "mailing.thank"

[[test]]
name = "all goes well"
when = []
then = ["ends completed"]
"#;

/// What is wrong with `GOOD` once `from` is replaced by `to`.
fn broken(from: &str, to: &str) -> CatalogErrors {
    assert!(GOOD.contains(from), "the case replaces nothing: {from}");
    match load("parcel.toml", &GOOD.replacen(from, to, 1)) {
        Ok(_) => panic!("accepted: {to}"),
        Err(errors) => errors,
    }
}

/// One mistake: its code, its step, and words of the line that is shown.
fn check(from: &str, to: &str, code: &str, step: Option<&str>, shows: &str) {
    let errors = broken(from, to);
    let found: Vec<String> = errors.problems.iter().map(|p| format!("{} {p}", p.code)).collect();
    let full = format!("makegood::definition::{code}");
    let problem = errors.problems.iter().find(|problem| problem.code == full);
    let problem = problem.unwrap_or_else(|| panic!("no {full} among {found:?}"));
    assert_eq!(problem.step.as_deref(), step, "{found:?}");
    assert_eq!(errors.problems.len(), 1, "one mistake is told once: {found:?}");
    assert!(!problem.help.is_empty());
    let text = GOOD.replacen(from, to, 1);
    let (line, _) = errors.position(problem);
    let line = text.lines().nth(line - 1).unwrap_or_default();
    assert!(line.contains(shows), "points at '{line}' instead of '{shows}'");
    let fancy = errors.to_fancy(false);
    assert!(fancy.contains("parcel.toml") && fancy.contains(&full), "{fancy}");
    assert!(fancy.contains(shows), "the line is shown:\n{fancy}");
}

#[test]
fn the_good_file_is_good() {
    let loaded = load("parcel.toml", GOOD).unwrap();
    assert!(run(&loaded)[0].passed);
}

#[test]
fn every_flaw_of_a_definition_is_told_where_it_is() {
    let book = Some("book");
    check("after = [\"book\"]", "after = [\"bok\"]", "unknown-step", Some("handed-over"), "bok");
    check("name = \"thank\"", "name = \"book\"", "name-twice", book, "name = \"book\"");
    check(
        "command = \"courier.book\"",
        "command = \"courier.book\"\nafter = [\"thank\"]",
        "cycle",
        book,
        "after",
    );
    check(
        "compensation = { command = \"courier.cancel\" }\n",
        "",
        "missing-compensation",
        book,
        "command = \"courier.book\"",
    );
    check(
        "command = \"mailing.thank\"",
        "command = \"mailing.thank\"\ncompensation = { command = \"mailing.sorry\" }",
        "compensation-past-pivot",
        Some("thank"),
        "mailing.sorry",
    );
    check(
        "name = \"thank\"\nafter = [\"handed-over\"]",
        "name = \"thank\"\npivot = true\ncompensation = { command = \"mailing.sorry\" }",
        "compensation-of-pivot",
        Some("thank"),
        "compensation",
    );
    check(
        "command = \"mailing.thank\"",
        "command = \"mailing.thank\"\npivot = true",
        "pivot-after-pivot",
        Some("thank"),
        "pivot",
    );
    check(
        "name = \"paid\"",
        "name = \"paid\"\npivot = true",
        "pivot-is-obligation",
        Some("paid"),
        "pivot",
    );
    check(
        "name = \"paid\"",
        "name = \"paid\"\nafter = [\"book\"]",
        "obligation-waits",
        Some("paid"),
        "after",
    );
    check("deadline = \"14d\"\n", "", "facts-without-deadline", Some("handed-over"), "await");
    check(
        "{ command = \"loan.reverse\" }",
        "{ command = \"loan.reverse\", after = [\"paid\"] }",
        "compensation-cycle",
        Some("paid"),
        "compensation",
    );
    check(
        "{ command = \"loan.reverse\" }",
        "{ command = \"loan.reverse\", after = [\"pay\"] }",
        "unknown-step",
        Some("paid"),
        "\"pay\"",
    );
}

#[test]
fn every_misuse_of_a_key_is_told_where_it_is() {
    let book = Some("book");
    let command = "command = \"courier.book\"";
    let with = |extra: &str| format!("{command}\n{extra}");
    check(command, &with("giveup = \"5m\""), "unknown-key", book, "giveup");
    check(command, &with("shipment = { id = \"n\" }"), "missing-key", book, "shipment");
    check(command, &with("shipment = \"n\""), "type", book, "shipment");
    check(command, &with("attempts = 2"), "misplaced-key", book, "attempts");
    let scan = "await = [\"parcel.scanned\"]";
    let wait = |more: &str| format!("{scan}\n{more}");
    let step = Some("handed-over");
    check(scan, &wait("attempts = 2"), "attempts", step, "attempts");
    let failing = "fails_on = \"parcel.lost\"\nattempts = ";
    check(scan, &wait(&format!("{failing}0")), "attempts", step, "attempts");
    check(scan, &wait(&format!("{failing}11")), "attempts", step, "attempts");
    check(
        scan,
        &wait("shipment = { id = \"n\", courier = \"c\" }"),
        "misplaced-key",
        step,
        "shipment",
    );
    check(command, &with("give_up = \"5 fortnights\""), "duration", book, "fortnights");
    check(command, &with("give_up = \"400d\""), "duration", book, "400d");
    check(command, &with("give_up = \"0s\""), "duration", book, "0s");
    check(command, &with("give_up = 5"), "type", book, "give_up = 5");
    check(command, &with("resend = { factor = 0.5 }"), "resend", book, "factor");
    check(command, &with("resend = { jitter = 1.5 }"), "resend", book, "jitter");
    check(command, &with("resend = { initial = \"1h\", max = \"1m\" }"), "resend", book, "max");
    check(command, &with("resend = { every = \"1m\" }"), "unknown-key", book, "every");
    check(command, "command = \"courier.book.v1\"", "name", book, "courier.book.v1");
    check(command, "command = \"book\"", "name", book, "\"book\"");
    check(command, &with("fails_on = \"a.b\""), "misplaced-key", book, "fails_on");
    check("participant = \"courier\"\n", "", "missing-key", book, "[[step]]");
    check(command, "", "missing-key", book, "[[step]]");
    let pivot = "pivot = true";
    let at = Some("handed-over");
    check(pivot, "pivot = true\ngive_up = \"1m\"", "misplaced-key", at, "give_up");
    check(pivot, "pivot = true\nprobe = true", "misplaced-key", at, "probe");
    check(pivot, "pivot = true\ncommand = \"a.b\"", "misplaced-key", at, "command");
    check(pivot, "pivot = true\nfails_on = \"parcel.scanned\"", "event-twice", at, "await");
    check(pivot, "pivot = \"yes\"", "type", at, "yes");
    check("await = [\"parcel.scanned\"]", "await = []", "event-count", at, "await");
    check(
        "{ command = \"loan.reverse\" }",
        "{ command = \"loan.reverse\", probe = true }",
        "unknown-key",
        Some("paid"),
        "probe",
    );
    check("compensation = { command = \"loan.reverse\" }", "", "empty-step", Some("paid"), "paid");
    check("name = \"parcel\"", "name = \"Parcel!\"", "name", None, "Parcel!");
    check("version = 1", "version = 0", "version", None, "version = 0");
    check("version = 1\n", "version = 1\nauthor = \"me\"\n", "unknown-key", None, "author");
    check("starts_on = \"order.created\"", "starts_on = \"order\"", "name", None, "starts_on");
}

#[test]
fn every_line_of_a_test_that_cannot_be_meant_is_told() {
    for line in [
        "bok silent",
        "book sleeps",
        "paid silent",
        "fact parcel.lost",
        "handed-over rejected NO",
        "compensation of thank silent",
        "probe of book applied",
        "cancel requested whenever",
        "3 moons pass",
        "handed-over silent once",
    ] {
        let to = format!("when = [\"{line}\"]");
        check("when = []", &to, "test-line", None, line);
    }
    check("when = []", "when = [\"1d pass\", \"2d pass\"]", "test-line", None, "2d pass");
    for line in ["ends well", "sent courier.bok", "attention LATE", "attention REJECTED at bok"] {
        let to = format!("then = [\"{line}\"]");
        check("then = [\"ends completed\"]", &to, "test-line", None, line);
    }
    check("then = [\"ends completed\"]", "then = []", "test-line", None, "then");
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once_in_the_order_of_its_lines() {
    let text = GOOD
        .replace("version = 1", "version = 0")
        .replace("after = [\"book\"]", "after = [\"bok\"]")
        .replace("command = \"mailing.thank\"", "command = \"thank\"\ncolour = \"blue\"");
    let errors = load("parcel.toml", &text).unwrap_err();
    let codes: Vec<&str> =
        errors.problems.iter().map(|p| p.code.rsplit("::").next().unwrap()).collect();
    assert_eq!(codes, ["version", "unknown-step", "name", "unknown-key"]);
}

#[test]
fn problems_as_json_have_place_code_and_help() {
    let errors = broken("after = [\"book\"]", "after = [\"bok\"]");
    let [problem] = &errors.to_json()[..] else { panic!("one problem") };
    assert_eq!(problem["file"], "parcel.toml");
    assert_eq!(problem["line"], 20);
    assert_eq!(problem["column"], 10);
    assert_eq!(problem["step"], "handed-over");
    assert_eq!(problem["code"], "makegood::definition::unknown-step");
    assert!(problem["help"].as_str().unwrap().contains("did you mean 'book'"));
}

#[test]
fn what_a_file_leaves_out_has_its_default() {
    let loaded = load("parcel.toml", GOOD).unwrap();
    let book = &loaded.definition.steps()[1];
    let Work::Command { resend, give_up, probe, .. } = &book.work else { panic!("a command") };
    assert_eq!((resend.initial, resend.max), (Millis::SECOND.times(10), Millis::MINUTE.times(2)));
    assert_eq!((resend.factor, resend.jitter), (2.0, 0.2));
    assert_eq!((*give_up, *probe), (Millis::HOUR, false));
    let undo = book.compensation.as_ref().unwrap();
    assert_eq!(undo.participant, "courier", "who did it undoes it");
    assert_eq!(undo.needs, Some(vec!["ship_to".to_owned()]), "and needs to see no more");
    assert_eq!((undo.resend, undo.give_up), (*resend, *give_up));
    let reverse = loaded.definition.steps()[0].compensation.as_ref().unwrap();
    assert_eq!(reverse.participant, "loan", "the command's first word");
}

#[test]
fn a_failing_inline_test_shows_the_run_and_marks_what_did_not_hold() {
    let text = GOOD
        .replace("when = []", "when = [\"book rejected FULL\"]")
        .replace("\"ends completed\"", "\"sent loan.reverse\", \"ends completed\"");
    let runs = run(&load("parcel.toml", &text).unwrap());
    let [test] = &runs[..] else { panic!("one test") };
    assert!(!test.passed);
    assert!(test.expectations[0].held && !test.expectations[1].held);
    assert_eq!(test.expectations[1].instead, "compensated");
    let shown = test.to_text();
    assert!(shown.contains("book rejected FULL"), "{shown}");
    assert!(shown.contains("-> send loan.reverse"), "{shown}");
    assert!(shown.contains("FAIL ends completed"), "{shown}");
    assert_eq!(serde_json::to_value(test).unwrap()["passed"], false);
}

#[test]
fn an_expectation_of_each_kind_can_fail() {
    for then in [
        "sent loan.reverse",
        "never sent courier.book",
        "sent mailing.thank before courier.book",
        "ends compensated",
        "stays running",
        "attention EARLY_FACT",
        "cancel refused",
    ] {
        let text = GOOD.replace("ends completed", then);
        assert!(!run(&load("parcel.toml", &text).unwrap())[0].passed, "held: {then}");
    }
    let early = GOOD
        .replace("when = []", "when = [\"handed-over silent\"]")
        .replace("ends completed", "no attention");
    assert!(!run(&load("parcel.toml", &early).unwrap())[0].passed, "a deadline has passed");
}

#[test]
fn a_test_that_never_ends_fails_instead_of_hanging() {
    let text = GOOD.replace("when = []", "when = [\"thank silent\", \"365d pass\"]");
    let text = text.replace("ends completed", "stays running");
    let runs = run(&load("parcel.toml", &text).unwrap());
    assert!(runs[0].expectations[0].instead.contains("no end"), "{}", runs[0].status);
}

#[test]
fn the_diagram_shows_pivot_participants_and_compensations_and_never_changes() {
    let definition = shipped("holiday-package").definition;
    let drawn = mermaid(&definition);
    assert_eq!(drawn, mermaid(&definition));
    assert!(drawn.starts_with("flowchart LR\n"));
    for part in [
        "airline: airline.issue-ticket<br/>point of no return",
        "class s4 pivot",
        "-. undone by .->",
        "loan.reverse",
        "s1 --> s4",
        "true from the start",
    ] {
        assert!(drawn.contains(part), "{part} is missing:\n{drawn}");
    }
}

#[test]
fn a_catalog_starts_the_newest_version_and_still_knows_the_old_ones() {
    let version = |version: u32, from: &str, to: &str| {
        let text = GOOD.replace("version = 1", &format!("version = {version}")).replace(from, to);
        load("parcel.toml", &text).unwrap()
    };
    let one = version(1, "", "");
    let two = version(2, "parcel.scanned", "parcel.collected");
    let catalog = Catalog::new([two, one.clone(), one]).unwrap();
    assert_eq!(catalog.all().count(), 2);
    assert_eq!(catalog.newest("parcel").unwrap().definition.version(), 2);
    let started: Vec<u32> =
        catalog.starting_on("order.created").iter().map(|d| d.definition.version()).collect();
    assert_eq!(started, [2]);
    assert!(catalog.get("parcel", 1).is_some() && catalog.get("parcel", 3).is_none());
    assert_eq!(catalog.awaiting("parcel.scanned"), ["parcel"], "version 1 is still in flight");
    assert_eq!(catalog.awaiting("parcel.collected"), ["parcel"]);
    assert_eq!(catalog.cancelled_by("order.cancel-requested"), ["parcel"]);
    assert!(catalog.starting_on("parcel.scanned").is_empty());
    let topology = catalog.topology();
    let courier =
        ("courier".to_owned(), vec!["courier.book".to_owned(), "courier.cancel".to_owned()]);
    assert_eq!(topology.participants[0], courier);
    assert_eq!(topology.facts, ["parcel.collected", "parcel.scanned"]);
    assert_eq!(topology.start_events, ["order.created"]);
}

#[test]
fn one_version_with_two_texts_is_refused() {
    let other = GOOD.replace("14d", "15d");
    let both = [load("a.toml", GOOD).unwrap(), load("b.toml", &other).unwrap()];
    assert!(Catalog::new(both).is_err());
}
