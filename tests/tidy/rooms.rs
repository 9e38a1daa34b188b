//! Who may know whom: the rooms of the crate, and what may enter each.

use std::collections::BTreeSet;

use crate::File;
use crate::rust::{is_word, lex, words};

/// Each room imports only from those before it.
const ROOMS: [&str; 8] =
    ["saga", "order", "catalog", "store", "broker", "worker", "operate", "http"];

/// Any room but the pure ones may use these; they know none but the pure ones.
const LEAVES: [&str; 3] = ["telemetry", "clock", "client"];

/// No IO, no clocks, nothing of the outside.
const PURE: [&str; 2] = ["saga", "order"];

/// Simulated participants stand outside of the worker, and may not know it.
const FIXTURE_KNOWS: [&str; 7] =
    ["saga", "order", "catalog", "store", "broker", "clock", "telemetry"];

/// They wire the rooms together, and may know all.
const WIRING: [&str; 4] = ["cli", "config", "main", "lib"];

/// What has no place in the core: it is called with the time and answers with effects.
const IMPURE: [&str; 16] = [
    "SystemTime",
    "Instant",
    "rand",
    "fastrand",
    "async",
    "await",
    "tokio",
    "sqlx",
    "rusqlite",
    "lapin",
    "rdkafka",
    "serde",
    "serde_json",
    "futures_util",
    "tracing",
    "prometheus",
];

/// Parts of the standard library that reach outside.
const OUTSIDE: [&str; 6] =
    ["std::fs", "std::env", "std::net", "std::thread", "std::process", "std::io"];

/// An order comes as JSON, and is passed on as it came: that one format is its own.
const ORDERS_FORMAT: [&str; 2] = ["serde", "serde_json"];

/// Libraries that shape the code that uses them, and the rooms that are there to keep them in.
const KEPT_IN: [(&str, &[&str]); 8] = [
    ("sqlx", &["store"]),
    ("rusqlite", &["store"]),
    ("lapin", &["broker"]),
    ("rdkafka", &["broker"]),
    ("axum", &["http"]),
    ("prometheus", &["telemetry"]),
    ("clap", &["cli", "config"]),
    ("anyhow", &["cli", "main"]),
];

fn may_import(room: &str, other: &str) -> bool {
    let rank = |name| ROOMS.iter().position(|room| *room == name);
    if room == other || WIRING.contains(&room) {
        return true;
    }
    match (room, rank(room), rank(other)) {
        ("fixture", ..) => FIXTURE_KNOWS.contains(&other),
        (_, Some(mine), Some(theirs)) => theirs < mine,
        (_, Some(_), None) => LEAVES.contains(&other) && !PURE.contains(&room),
        (leaf, None, _) => LEAVES.contains(&leaf) && PURE.contains(&other),
    }
}

fn is_room(name: &str) -> bool {
    name == "fixture" || ROOMS.contains(&name) || LEAVES.contains(&name) || WIRING.contains(&name)
}

/// `src/store/postgres.rs` and `src/store.rs` are both in the room `store`.
fn room(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    Some(inside.split_once('/').map_or(inside, |(room, _)| room).trim_end_matches(".rs"))
}

pub fn known(file: &File) -> Option<String> {
    let room = room(&file.path)?;
    let say = || {
        format!(
            "{}: `{room}` is no room of the design. Move it into one, or name it in {}",
            file.path, "tests/tidy/rooms.rs with what it may import"
        )
    };
    (!is_room(room)).then(say)
}

pub fn imports(file: &File) -> Vec<String> {
    let Some(room) = room(&file.path) else { return Vec::new() };
    let forbidden = |(line, other): (usize, String)| {
        (is_room(&other) && !may_import(room, &other)).then(|| {
            format!(
                "{}:{line}: {room} may not know {other}. Rooms import in one direction ({}): move \
                 what is needed down, or pass it in from above",
                file.path,
                ROOMS.join(" < ")
            )
        })
    };
    crate_paths(&lex(&file.text).code).into_iter().filter_map(forbidden).collect()
}

/// The first names after `crate::`, each with its line, also those in `crate::{…}`.
fn crate_paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c| is_word(c) || c == '$') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_heads(group).into_iter().map(|name| (line, name))),
            None => found.push((line, rest.chars().take_while(|c| is_word(*c)).collect())),
        }
    }
    found
}

/// The first name of each entry of a `{a::b, c::{d, e}}` whose brace is already open.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut entry) = (1, Vec::new(), String::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && c == ',') {
            heads.push(entry.trim().chars().take_while(|c| is_word(*c)).collect());
            entry.clear();
        } else {
            entry.push(c);
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

pub fn purity(file: &File) -> Vec<String> {
    let Some(room) = room(&file.path).filter(|room| PURE.contains(room)) else {
        return Vec::new();
    };
    let code = lex(&file.text).code;
    let is_banned =
        |word: &str| IMPURE.contains(&word) && !(room == "order" && ORDERS_FORMAT.contains(&word));
    let impure = words(&code).filter(|(_, word)| is_banned(word));
    let outside = code.lines().enumerate().flat_map(|(index, line)| {
        OUTSIDE.into_iter().filter(|path| line.contains(path)).map(move |path| (index + 1, path))
    });
    let say = |(line, word): (usize, &str)| {
        format!(
            "{}:{line}: `{word}` in a pure room. It is called with the time and with ids, and answers with effects; this belongs into store, broker or worker",
            file.path
        )
    };
    impure.chain(outside).map(say).collect()
}

pub fn libraries(file: &File) -> Vec<String> {
    let Some(room) = room(&file.path) else { return Vec::new() };
    let code = lex(&file.text).code;
    let mut found = Vec::new();
    for (library, rooms) in KEPT_IN {
        let uses = |line: &str| {
            line.match_indices(&format!("{library}::"))
                .any(|(at, _)| !line[..at].ends_with(|c| is_word(c) || c == ':'))
        };
        if !rooms.contains(&room) {
            found.extend(code.lines().enumerate().filter(|(_, line)| uses(line)).map(
                |(index, _)| {
                    let home = rooms.join(" or ");
                    format!(
                        "{}:{}: {library} stays in {home}; ask that room instead",
                        file.path,
                        index + 1
                    )
                },
            ));
        }
    }
    found
}

pub fn metric_names(file: &File) -> Vec<String> {
    if !file.path.starts_with("src/") || room(&file.path) == Some("telemetry") {
        return Vec::new();
    }
    let say = |(line, name): &(usize, String)| {
        format!(
            "{}:{line}: metric \"{name}\" is declared outside of src/telemetry: name an event there, and count it",
            file.path
        )
    };
    let lexed = lex(&file.text);
    lexed.strings.iter().filter(|(_, text)| text.starts_with("makegood_")).map(say).collect()
}

/// Dashboards are made in telemetry as well, and ask for what is declared beside them.
fn declares_metrics(file: &File) -> bool {
    room(&file.path) == Some("telemetry") && !file.path.starts_with("src/telemetry/dashboards/")
}

/// Each name stands once in telemetry, outside of its tests.
pub fn repeated_metrics(files: &[File]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for file in files.iter().filter(|file| declares_metrics(file)) {
        let code = file.text.split("#[cfg(test)]").next().unwrap_or_default();
        for (line, name) in lex(code).strings {
            if name.starts_with("makegood_") && !seen.insert(name.clone()) {
                found.push(format!("{}:{line}: metric \"{name}\" is declared twice", file.path));
            }
        }
    }
    found
}

/// What a dashboard or an alert asks for and nobody counts: its panel would stay empty, and the
/// alert silent, unseen.
pub fn unknown_metrics(dashboard: &File, files: &[File]) -> Vec<String> {
    let telemetry = files.iter().filter(|file| declares_metrics(file));
    let declared: BTreeSet<String> =
        telemetry.flat_map(|file| lex(&file.text).strings).map(|(_, name)| name).collect();
    let is_known = |name: &str| {
        // A histogram is asked for by its parts.
        let parts = ["_bucket", "_sum", "_count"];
        let of = |part: &&str| name.strip_suffix(*part).is_some_and(|name| declared.contains(name));
        declared.contains(name) || parts.iter().any(of)
    };
    let names = dashboard.text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    names
        .filter(|name| name.starts_with("makegood_") && !is_known(name))
        .map(|name| format!("{}: there is no metric \"{name}\"", dashboard.path))
        .collect()
}

#[test]
fn a_dashboard_that_asks_for_what_nobody_counts_is_found() {
    let metrics = [File::new("src/telemetry/a.rs", "\"makegood_seconds\"")];
    let asks = |text| unknown_metrics(&File::new("grafana/a.json", text), &metrics).len();
    assert_eq!(asks("rate(makegood_seconds_bucket[1m]) + makegood_seconds"), 0);
    assert_eq!(asks("rate(makegood_minutes_bucket[1m])"), 1);
}

#[test]
fn an_import_against_the_direction_is_found() {
    for (path, text) in [
        ("src/saga/reply.rs", "use crate::order::Line;"),
        ("src/order/mod.rs", "fn f(c: &dyn crate::clock::Clock) {}"),
        ("src/store/postgres.rs", "use crate::{saga::Time, worker::{Lane, lane}};"),
        ("src/broker/amqp.rs", "use crate::{\n    saga,\n    http,\n};"),
        ("src/telemetry/mod.rs", "use crate::store::Stored;"),
        ("src/fixture/mod.rs", "use crate::worker::Lane;"),
        ("src/worker/mod.rs", "use crate::cli::Arguments;"),
    ] {
        assert_eq!(imports(&File::new(path, text)).len(), 1, "{path}: {text}");
    }
    for (path, text) in [
        (
            "src/store/sqlite.rs",
            "use crate::saga::Time;\n// not crate::worker\nuse crate::store::X;",
        ),
        ("src/worker/lane.rs", "use crate::{broker, clock::{Busy, Clock}, telemetry as events};"),
        ("src/worker/lane.rs", "pub(crate) fn worker() {}"),
        ("src/cli/dev.rs", "use crate::{fixture, http, worker};"),
        ("src/fixture/auditor.rs", "use crate::store::Store;"),
        ("tests/store.rs", "use crate::anything;"),
    ] {
        assert_eq!(imports(&File::new(path, text)), [""; 0], "{path}: {text}");
    }
}

#[test]
fn an_unknown_room_is_found() {
    assert!(known(&File::new("src/plumbing/mod.rs", "")).is_some());
    assert!(known(&File::new("src/store/postgres/rows.rs", "")).is_none());
    assert!(known(&File::new("src/clock.rs", "")).is_none());
}

#[test]
fn an_impure_core_is_found() {
    let sample = File::new("src/saga/turn.rs", "use std::time::Instant;\nasync fn f() {} // tokio");
    assert_eq!(purity(&sample).len(), 2);
    let sample = File::new("src/order/x.rs", "use serde_json::Value;\nuse std::fs::File;");
    assert_eq!(purity(&sample).len(), 1, "an order is JSON, but no file");
    let sample = File::new("src/saga/x.rs", "use serde::Serialize;\nstd::env::var(\"std::io\")");
    assert_eq!(purity(&sample).len(), 2);
    assert!(purity(&File::new("src/worker/mod.rs", &sample.text)).is_empty());
}

#[test]
fn a_library_outside_of_its_room_is_found() {
    let sample = "use sqlx::PgPool;\nfn f() -> lapin::Result<()> {}\n// axum::Router\nmy_clap::X";
    assert_eq!(libraries(&File::new("src/worker/mod.rs", sample)).len(), 2);
    assert_eq!(libraries(&File::new("src/store/postgres.rs", "use sqlx::PgPool;")).len(), 0);
}

#[test]
fn a_metric_name_outside_of_telemetry_is_found() {
    let sample = "// \"makegood_a\"\nlet name = \"makegood_sagas_total\";";
    assert_eq!(metric_names(&File::new("src/worker/mod.rs", sample)).len(), 1);
    assert_eq!(metric_names(&File::new("src/telemetry/names.rs", sample)).len(), 0);
    let twice = [
        File::new("src/telemetry/a.rs", "\"makegood_a\"\n#[cfg(test)]\n\"makegood_a\""),
        File::new("src/telemetry/b.rs", "\"makegood_b\" \"makegood_a\""),
    ];
    assert_eq!(repeated_metrics(&twice).len(), 1);
}
