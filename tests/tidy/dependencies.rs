//! The README's dependency table and Cargo.toml name the same crates.

use std::collections::BTreeSet;

const HEADING: &str = "## Dependencies";

pub fn explained(manifest: &str, readme: &str) -> Vec<String> {
    let used = used(manifest);
    let listed = listed(readme);
    let missing = used.difference(&listed).map(|name| {
        format!("README.md: `{name}` is in Cargo.toml, and the table under \"{HEADING}\" does not say why")
    });
    let gone = listed.difference(&used).map(|name| {
        format!("README.md: `{name}` is in the table under \"{HEADING}\", but not in Cargo.toml")
    });
    missing.chain(gone).collect()
}

fn used(manifest: &str) -> BTreeSet<String> {
    let manifest: toml::Table = toml::from_str(manifest).expect("cargo has read it, so it parses");
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .iter()
        .filter_map(|section| manifest.get(*section)?.as_table())
        .flat_map(|section| section.keys().cloned())
        .collect()
}

/// The names in backticks in the first column.
fn listed(readme: &str) -> BTreeSet<String> {
    let section = readme.split_once(HEADING).map_or("", |(_, rest)| rest);
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let rows = section.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next());
    rows.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn an_unexplained_and_a_vanished_crate_are_found() {
    let manifest =
        "[dependencies]\na = \"1\"\nb = { version = \"1\" }\n[dev-dependencies]\nc = \"1\"";
    let readme =
        "`c`\n## Dependencies\n| crate | why |\n|---|---|\n| `a`, `d` | `b` |\n## More\n| `b` |";
    let found = explained(manifest, readme);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].contains("`b`") && found[1].contains("`c`") && found[2].contains("`d`"));
    assert!(explained(manifest, "## Dependencies\n| `a`, `b` | x |\n| `c` | y |").is_empty());
}
