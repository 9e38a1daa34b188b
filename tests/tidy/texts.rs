//! What holds for any file: its name, its opening, its length, and what may not be left in it.

use crate::File;

/// A file that is longer is more than one thing. 400 is the aim.
const MOST_LINES: usize = 500;

/// They say nothing about what is inside, or are another word for something the design names.
const EMPTY_NAMES: [&str; 14] = [
    "util",
    "utils",
    "utility",
    "utilities",
    "helper",
    "helpers",
    "manager",
    "managers",
    "misc",
    "common",
    "job",
    "jobs",
    "task",
    "tasks",
];

/// Put together here, so that this file does not find itself.
const UNFINISHED: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];

const PRIVATE: [&str; 4] =
    [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/"), concat!("/wo", "rk/")];

pub fn opening(file: &File) -> Option<String> {
    (!file.text.trim_start().starts_with("//!")).then(|| {
        format!(
            "{}: open it with //! and a sentence: what lives here, and what never does",
            file.path
        )
    })
}

pub fn length(file: &File) -> Option<String> {
    let lines = file.text.lines().count();
    (lines > MOST_LINES).then(|| {
        format!(
            "{}: {lines} lines, {MOST_LINES} at most: give a part of it a name and a file",
            file.path
        )
    })
}

pub fn name(file: &File) -> Vec<String> {
    let words = file.path.split(['/', '_', '-', '.']);
    let empty = words.filter(|word| EMPTY_NAMES.contains(&word.to_lowercase().as_str()));
    empty
        .map(|word| format!("{}: `{word}` says nothing; name it for what it does", file.path))
        .collect()
}

pub fn unfinished(file: &File) -> Vec<String> {
    let left = |word: &'static str| {
        lines_with(file, word).map(move |line| {
            format!("{}:{line}: {word}: do it now, or file it where work is planned", file.path)
        })
    };
    UNFINISHED.into_iter().flat_map(left).collect()
}

pub fn private_paths(file: &File) -> Vec<String> {
    let found = |path: &'static str| {
        lines_with(file, path).map(move |line| {
            format!(
                "{}:{line}: {path}… exists on one machine only; make it relative, or a setting",
                file.path
            )
        })
    };
    PRIVATE.into_iter().flat_map(found).collect()
}

/// The lines in which `text` begins a word or a path.
fn lines_with<'a>(file: &'a File, text: &'static str) -> impl Iterator<Item = usize> + 'a {
    let begins = move |line: &str| {
        let follows =
            |at: usize| line[..at].ends_with(|c: char| c.is_alphanumeric() || "_.-}$*".contains(c));
        line.match_indices(text).any(|(at, _)| !follows(at))
    };
    file.text.lines().enumerate().filter(move |(_, line)| begins(line)).map(|(index, _)| index + 1)
}

#[test]
fn an_unnamed_file_is_found() {
    for path in ["src/store/utils.rs", "tests/common/mod.rs", "src/lane_manager.rs", "docs/misc.md"]
    {
        assert_eq!(name(&File::new(path, "")).len(), 1, "{path}");
    }
    assert_eq!(name(&File::new("src/worker/lane.rs", "")), [""; 0]);
}

#[test]
fn a_file_without_an_opening_or_with_too_much_is_found() {
    assert!(opening(&File::new("src/x.rs", "use a;\n//! late")).is_some());
    assert!(opening(&File::new("src/x.rs", "//! Here lives x.\nuse a;")).is_none());
    assert!(length(&File::new("src/x.rs", &"\n".repeat(MOST_LINES + 1))).is_some());
    assert!(length(&File::new("src/x.rs", &"\n".repeat(MOST_LINES))).is_none());
}

#[test]
fn what_is_left_over_is_found() {
    let left = format!("a\n// {} later", UNFINISHED[0]);
    assert_eq!(unfinished(&File::new("src/x.rs", &left)).len(), 1);
    assert_eq!(unfinished(&File::new("src/x.rs", "PHOTODOC")).len(), 0);
    let path = format!("a\nopen(\"{}me/x\")\nbuild{}x", PRIVATE[1], PRIVATE[3]);
    assert_eq!(private_paths(&File::new("src/x.rs", &path)).len(), 1);
}
