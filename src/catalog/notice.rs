//! One `[[notice]]` of a definition file: whom to tell when the order reaches a state.

use std::ops::Range;

use toml::de::DeTable;

use super::keys::Keys;
use super::problem::Problem;
use super::{names, step};
use crate::saga::{Notice, OrderState};

/// The states on which there is something to tell: every order begins as pending.
const TOLD: [OrderState; 4] =
    [OrderState::Confirmed, OrderState::Fulfilling, OrderState::Completed, OrderState::Cancelled];
/// A few for each state; whoever wants more reads the events.
const MAX_NOTICES: usize = 16;

/// Reads all notices of a file, those without a problem.
pub(super) fn read_all(file: &mut Keys<'_>) -> Vec<Notice> {
    let tables = file.tables("notice");
    if tables.len() > MAX_NOTICES {
        let message = format!("{} notices, more than {MAX_NOTICES}", tables.len());
        let help = "let others bind a queue to the events instead";
        let span = file.span_of("notice");
        file.problem(Problem::new("makegood::definition::too-many-notices", span, message, help));
    }
    tables.into_iter().filter_map(|(table, span)| read(file, table, span)).collect()
}

fn read(file: &mut Keys<'_>, table: &DeTable<'_>, span: Range<usize>) -> Option<Notice> {
    let mut keys = Keys::new(table, span, None);
    keys.only(&["on", "participant", "command", "needs"]);
    for (key, help) in [
        ("on", "name the state that is told: on = \"confirmed\""),
        ("participant", "name who gets the command: participant = \"notifications\""),
        ("command", "name the command: command = \"customer.order-confirmed\""),
    ] {
        if !keys.has(key) {
            keys.missing(key, help);
        }
    }
    let on = names::state(&mut keys, "on", &TOLD);
    let participant = names::plain(&mut keys, "participant");
    let command = names::dotted(&mut keys, "command");
    let needs = step::fields(&mut keys);
    file.problems.append(&mut keys.problems);
    Some(Notice { on: on?, participant: participant?.value, command: command?.value, needs })
}
