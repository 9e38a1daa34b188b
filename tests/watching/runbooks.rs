//! Runbooks: one for each alert, with the same five headings, and commands that exist.

use std::process::{Command, Stdio};

use crate::alerts::alert_names;
use crate::{names, read};

const FOLDER: &str = "docs/runbooks";
const HEADINGS: [&str; 5] = [
    "## What it means",
    "## Is money, or are goods, at stake?",
    "## What to look at",
    "## What is safe",
    "## What not to do",
];

pub fn there_is_one_for_each_alert() {
    let expected: Vec<String> = alert_names().iter().map(|name| format!("{name}.md")).collect();
    assert_eq!(names(FOLDER, ".md"), expected);
    for name in expected {
        let text = read(&format!("{FOLDER}/{name}"));
        let found: Vec<&str> = text.lines().filter(|line| line.starts_with("## ")).collect();
        assert_eq!(found, HEADINGS, "{name}");
        let title = text.lines().next().unwrap_or_default().trim_start_matches("# ");
        assert_eq!(format!("{title}.md"), name);
        for link in text.split("](").skip(1) {
            let (target, _) = link.split_once(')').expect("a link ends");
            let file = crate::project(FOLDER).join(target);
            assert!(file.is_file(), "{name} leads to {target}, which is not there");
        }
    }
}

/// Every `makegood …` of a runbook is one that the command line takes: with `--help` behind it,
/// it is read as far as that, and not done.
pub fn their_commands_exist() {
    let mut tried = 0;
    for name in names(FOLDER, ".md") {
        for command in commands(&read(&format!("{FOLDER}/{name}"))) {
            let word = |word| match word {
                "…" => "x",
                "ID" => "00000000-0000-0000-0000-000000000001",
                word => word,
            };
            let arguments = command.split_whitespace().map(word);
            let ran = Command::new(env!("CARGO_BIN_EXE_makegood"))
                .args(arguments.skip(1))
                .arg("--help")
                .stdin(Stdio::null())
                .output()
                .expect("the binary starts");
            let said = String::from_utf8_lossy(&ran.stderr);
            assert!(ran.status.success(), "{name}: {command}: {said}");
            tried += 1;
        }
    }
    assert!(tried > 30, "only {tried} commands were found");
}

/// In blocks, and in the text between backticks.
fn commands(text: &str) -> Vec<String> {
    let block = text.lines().map(|line| line.split(['#', '|']).next().unwrap_or_default());
    let inline = text.split('`').skip(1).step_by(2);
    let all = block.chain(inline).map(str::trim);
    all.filter(|part| part.starts_with("makegood ")).map(str::to_owned).collect()
}
