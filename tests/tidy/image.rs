//! The container image is built from what `.dockerignore` lets through, and nothing else.

use crate::File;
use crate::rust::lex;

/// Tests are not in the image's context. Cargo looks for the file of a `[[test]]` table while it
/// reads the manifest, and refuses to build anything without it, unless the path is written there.
pub fn tests_have_paths(manifest: &str) -> Vec<String> {
    let manifest: toml::Table = toml::from_str(manifest).expect("cargo has read it, so it parses");
    let tests = manifest.get("test").and_then(toml::Value::as_array).into_iter().flatten();
    let name = |test: &toml::Value| test.get("name")?.as_str().map(str::to_owned);
    tests
        .filter(|test| test.get("path").is_none())
        .map(|test| {
            let name = name(test).unwrap_or_default();
            format!(
                "Cargo.toml: [[test]] {name} has no path: the image, which has no tests/, could \
                 not be built. Write path = \"tests/{name}.rs\""
            )
        })
        .collect()
}

/// What the library compiles in from outside of `src/` has to be let through.
pub fn includes_are_let_through(file: &File, dockerignore: &str) -> Vec<String> {
    if !file.path.starts_with("src/") {
        return Vec::new();
    }
    let allowed: Vec<&str> =
        dockerignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let lexed = lex(&file.text);
    let outside = lexed.strings.iter().filter_map(|(line, text)| {
        let depth = file.path.matches('/').count();
        let up = text.split('/').take_while(|part| *part == "..").count();
        (up > 0 && up == depth).then(|| (line, text.split('/').nth(up).unwrap_or_default()))
    });
    outside
        .filter(|(_, top)| !allowed.contains(top))
        .map(|(line, top)| {
            format!(
                "{}:{line}: {top}/ is not in the image's context: add !{top} to .dockerignore",
                file.path
            )
        })
        .collect()
}

#[test]
fn a_test_without_a_path_is_found() {
    let manifest = "[[test]]\nname = \"a\"\n[[test]]\nname = \"b\"\npath = \"tests/b.rs\"";
    let found = tests_have_paths(manifest);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("[[test]] a has"));
}

#[test]
fn an_include_that_is_not_let_through_is_found() {
    let file = File::new(
        "src/cli/dev.rs",
        "include_str!(\"../../sagas/a.toml\");\ninclude_str!(\"../../docs/b\");\n\"../dev\"",
    );
    let found = includes_are_let_through(&file, "*\n!src\n!sagas\n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("src/cli/dev.rs:2: docs/"));
}
