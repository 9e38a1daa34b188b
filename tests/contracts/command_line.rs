//! `makegood contract`: the same files as in the project, wherever the binary is.

use std::collections::BTreeSet;
use std::path::Path;

use crate::command::Place;
use crate::schemas::{docs, names};

/// The files in a folder and in those below it, by their path from it.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        match path.is_dir() {
            true => found.extend(files(&path).into_iter().map(|file| format!("{name}/{file}"))),
            false => drop(found.insert(name)),
        }
    }
    found
}

pub fn it_prints_the_files() {
    let place = Place::new();
    let file = |name: &str| std::fs::read_to_string(docs().join(name)).expect("it is there");
    let printed = |arguments: &[&str]| place.makegood(arguments).exits(0).stdout;
    for name in ["asyncapi", "openapi"] {
        assert_eq!(printed(&["contract", name]), file(&format!("{name}.yaml")));
    }
    assert_eq!(printed(&["contract", "participants"]), file("participants.md"));
    let list = printed(&["contract"]);
    for name in names() {
        assert_eq!(printed(&["contract", "schemas", &name]), file(&format!("schemas/{name}.json")));
        assert!(list.contains(&format!("  {name} ")), "{name} is not listed: {list}");
    }
    place.makegood(&["contract", "schemas", "ordr"]).exits(2).complains(&["'ordr'", "order, "]);
    place.makegood(&["contract", "--out", "all"]).exits(0).says(&["all/schemas/order.json"]);
    let mut ours = files(&docs());
    // What operators read is no contract.
    let is_for_operators =
        |name: &String| name == "dead-letters.md" || name.starts_with("runbooks/");
    assert!(ours.extract_if(.., is_for_operators).count() > 1, "it is there");
    assert_eq!(files(&place.path("all")), ours);
    for name in ours {
        assert_eq!(place.read(&format!("all/{name}")), file(&name), "{name}");
    }
}
