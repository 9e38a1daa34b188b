//! Bad input has a reason: the fuzz targets' corpora, replayed. A file is called
//! `<what it is>.<the reason that it is refused for>`, or `.good`.

#[path = "corpus/targets.rs"]
mod targets;

use std::fs;
use std::path::Path;

/// A corpus is hand-picked: fewer inputs than this say that some were lost.
const FEWEST: usize = 10;

#[test]
fn messages_are_read_or_have_a_reason() {
    replay("envelope", targets::envelope);
}

#[test]
fn orders_are_taken_or_have_a_reason() {
    replay("order", targets::order);
}

#[test]
fn signatures_are_believed_or_have_a_reason() {
    replay("signature", targets::signature);
}

#[test]
fn definitions_are_good_or_have_a_reason() {
    replay("definition", targets::definition);
}

fn replay(corpus: &str, target: fn(&[u8]) -> Result<(), &'static str>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(corpus);
    let mut replayed = 0;
    for entry in fs::read_dir(&folder).expect("the corpus is there") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let (_, expected) = name.rsplit_once('.').expect("<what it is>.<reason>");
        let found = target(&fs::read(&path).expect("it can be read"));
        assert_eq!(found.err().unwrap_or("good"), expected, "{corpus}/{name}");
        replayed += 1;
    }
    assert!(replayed >= FEWEST, "{corpus} has {replayed} inputs");
}
