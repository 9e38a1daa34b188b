//! A definition as a picture: a Mermaid flowchart, the same text for the same definition.

use std::fmt::Write as _;

use crate::saga::{Definition, Notice, OrderState, Step, Work};

/// Draws what runs after what, who does it, the point of no return, and what undoes what.
///
/// Compensations hang on dashed lines; the pivot has a thick border; obligations are cylinders
/// (they are there before the first step); waits for facts are drawn as asymmetric flags.
/// Notices hang on dotted lines, each on the steps after which it is sent.
#[must_use]
pub fn mermaid(definition: &Definition) -> String {
    let mut out = String::from("flowchart LR\n");
    let mut write = |line: String| writeln!(out, "  {line}").expect("a string takes any line");
    write(format!("start((\"{}\"))", definition.starts_on()));
    for (index, step) in definition.steps().iter().enumerate() {
        write(node(index, step));
        if let Some(undo) = &step.compensation {
            write(format!("u{index}[/\"{}<br/>{}\"/]", undo.command, undo.participant));
        }
    }
    for (index, step) in definition.steps().iter().enumerate() {
        if step.after.is_empty() {
            write(format!("start --> s{index}"));
        }
        for before in step.after.iter() {
            write(format!("s{before} --> s{index}"));
        }
        if step.compensation.is_some() {
            write(format!("s{index} -. undone by .-> u{index}"));
        }
    }
    for (index, notice) in definition.notices().iter().enumerate() {
        let Notice { on, participant, command, .. } = notice;
        write(format!("n{index}>\"{command}<br/>{participant}\"]"));
        for step in told_after(definition, *on) {
            write(format!("s{step} -. {} .-> n{index}", on.as_str()));
        }
    }
    write("classDef pivot stroke-width:4px".to_owned());
    write("classDef undo stroke-dasharray:5 5".to_owned());
    for (index, step) in definition.steps().iter().enumerate() {
        if step.pivot {
            write(format!("class s{index} pivot"));
        }
        if step.compensation.is_some() {
            write(format!("class u{index} undo"));
        }
    }
    out
}

/// The steps after which an order is in a state; of one that is cancelled, those that are undone
/// last.
fn told_after(definition: &Definition, state: OrderState) -> Vec<usize> {
    let all = 0..definition.steps().len();
    match state {
        OrderState::Completed => {
            let is_last = |step: &usize| {
                !definition.steps().iter().any(|other| other.after.contains(*step))
                    && definition.steps()[*step].work != Work::Obligation
            };
            all.filter(is_last).collect()
        }
        OrderState::Cancelled => {
            let undo = |step: usize| definition.steps()[step].compensation.as_ref();
            let is_waited_for = |step: usize| {
                all.clone().any(|other| undo(other).is_some_and(|undo| undo.after.contains(step)))
            };
            all.clone().filter(|step| undo(*step).is_some() && !is_waited_for(*step)).collect()
        }
        milestone => definition.reaching(milestone).iter().collect(),
    }
}

fn node(index: usize, step: &Step) -> String {
    let pivot = if step.pivot { "<br/>point of no return" } else { "" };
    let name = &step.name;
    match &step.work {
        Work::Obligation => format!("s{index}[(\"{name}<br/>true from the start\")]"),
        Work::Command { participant, command, .. } => {
            format!("s{index}[\"{name}<br/>{participant}: {command}{pivot}\"]")
        }
        Work::Facts { completes_on, fails_on, .. } => {
            let fails = fails_on.as_ref().map_or(String::new(), |fact| format!("<br/>not {fact}"));
            format!("s{index}>\"{name}<br/>{}{fails}{pivot}\"]", completes_on.join(" or "))
        }
    }
}
