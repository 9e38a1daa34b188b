//! Just enough of Rust's grammar: code without comments and literals, and who declares whom.

use std::collections::BTreeSet;

use crate::File;

/// The code with comments and literals blanked out, and the string literals. Lines stay lines.
pub struct Lexed {
    pub code: String,
    /// Each with its line, from 1.
    pub strings: Vec<(usize, String)>,
}

pub fn lex(text: &str) -> Lexed {
    let chars: Vec<char> = text.chars().collect();
    let mut lexed = Lexed { code: String::new(), strings: Vec::new() };
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => line_comment(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => block_comment(&chars, at),
            '"' => string(&chars, at),
            'r' if !word_before(&chars, at) && raw_string(&chars, at).is_some() => {
                raw_string(&chars, at).expect("just seen")
            }
            '\'' => character(&chars, at),
            _ => at + 1,
        };
        if end == at + 1 {
            lexed.code.push(chars[at]);
        } else {
            let blank: String = chars[at..end].iter().filter(|c| **c == '\n').collect();
            lexed.code.push_str(if blank.is_empty() { " " } else { &blank });
            if matches!(chars[at], '"' | 'r') {
                let literal: String = chars[at..end].iter().collect();
                let content = literal.trim_start_matches('r').trim_matches('#');
                lexed.strings.push((line, content.trim_matches('"').to_owned()));
            }
        }
        line += chars[at..end].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    lexed
}

fn line_comment(chars: &[char], at: usize) -> usize {
    (at..chars.len()).find(|i| chars[*i] == '\n').unwrap_or(chars.len())
}

fn block_comment(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0, at);
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 1),
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 1),
            _ => {}
        }
        i += 1;
        if depth == 0 {
            break;
        }
    }
    i
}

fn string(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

fn raw_string(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let open = at + 1 + hashes;
    (chars.get(open) == Some(&'"')).then(|| {
        let closes =
            |i: &usize| chars[*i] == '"' && chars[i + 1..].iter().take(hashes).all(|c| *c == '#');
        (open + 1..chars.len()).find(closes).map_or(chars.len(), |i| i + 1 + hashes)
    })
}

/// A character literal, or only the quote of a lifetime.
fn character(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => {
            (at + 3..chars.len()).find(|i| chars[*i] == '\'').map_or(at + 1, |i| i + 1)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at + 1,
    }
}

fn word_before(chars: &[char], at: usize) -> bool {
    at > 0 && is_word(chars[at - 1])
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The identifiers and keywords of a piece of code, each with its line, from 1.
pub fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().flat_map(|(index, line)| {
        line.split(|c| !is_word(c))
            .filter(|word| !word.is_empty())
            .map(move |word| (index + 1, word))
    })
}

/// Files that no `mod` line leads to: the compiler never sees them.
pub fn orphans(files: &[File]) -> Vec<String> {
    let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let mut reached: BTreeSet<String> =
        paths.iter().filter(|path| is_root(path)).map(|path| (*path).to_owned()).collect();
    let mut open: Vec<String> = reached.iter().cloned().collect();
    while let Some(path) = open.pop() {
        let file = files.iter().find(|file| file.path == path).expect("only known paths are open");
        for candidate in candidates(file) {
            if paths.contains(candidate.as_str()) && reached.insert(candidate.clone()) {
                open.push(candidate);
            }
        }
    }
    let orphan = |path: &&str| !reached.contains(*path);
    let say =
        |path| format!("{path}: no `mod` line leads here; declare it in its parent, or delete it");
    paths.into_iter().filter(orphan).map(say).collect()
}

/// What cargo compiles by itself.
fn is_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    matches!(
        parts.as_slice(),
        ["build.rs"]
            | ["src", "lib.rs" | "main.rs"]
            | ["src", "bin", _]
            | ["tests" | "benches" | "examples", _]
            | ["tests" | "benches" | "examples", _, "main.rs"]
            | ["fuzz", "fuzz_targets", _]
    )
}

/// Where the modules that a file declares may be.
fn candidates(file: &File) -> Vec<String> {
    let beside = file.path.rsplit_once('/').map_or(".", |(folder, _)| folder);
    let below = module_folder(&file.path);
    let told = file.text.lines().filter_map(|line| {
        let path = line.trim().strip_prefix("#[path = \"")?.strip_suffix("\"]")?;
        Some(format!("{beside}/{path}"))
    });
    let code = lex(&file.text).code;
    let named = declared(&code).into_iter();
    let named =
        named.flat_map(|name| [format!("{below}/{name}.rs"), format!("{below}/{name}/mod.rs")]);
    named.chain(told).collect()
}

fn module_folder(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
    if is_root(path) || name == "mod.rs" {
        folder.to_owned()
    } else {
        format!("{folder}/{}", name.trim_end_matches(".rs"))
    }
}

/// The names in `mod name;` lines.
fn declared(code: &str) -> Vec<&str> {
    let declaration = |line| {
        let (_, name) = str::rsplit_once(line, "mod ")?;
        let name = name.trim().strip_suffix(';')?.trim();
        name.chars().all(is_word).then_some(name)
    };
    code.lines().filter_map(declaration).collect()
}

#[test]
fn comments_and_literals_are_not_code() {
    let lexed =
        lex("a /* b /* c */ d */ e // f\ng(\"h \\\" i\", r#\"j \" k\"#, 'l', '\\'', &'m n) r");
    let words: Vec<(usize, &str)> = words(&lexed.code).collect();
    assert_eq!(words, [(1, "a"), (1, "e"), (2, "g"), (2, "m"), (2, "n"), (2, "r")]);
    assert_eq!(lexed.strings, [(2, "h \\\" i".to_owned()), (2, "j \" k".to_owned())]);
}

#[test]
fn a_file_that_nobody_declares_is_found() {
    let files = [
        File::new("src/lib.rs", "pub mod store;\n// mod lost;\nmod inline { }"),
        File::new("src/store/mod.rs", "#[cfg(test)]\nmod sqlite;"),
        File::new("src/store/sqlite.rs", "pub(crate) mod rows;"),
        File::new("src/store/sqlite/rows.rs", ""),
        File::new("src/lost.rs", ""),
        File::new("tests/store.rs", "mod cases;\n#[path = \"store/told.rs\"]\nmod told;"),
        File::new("tests/store/told.rs", ""),
        File::new("tests/cases/mod.rs", ""),
        File::new("tests/store/unused.rs", ""),
    ];
    let found = orphans(&files);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("src/lost.rs") && found[1].starts_with("tests/store/unused.rs"));
}
