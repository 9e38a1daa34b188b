//! The order reaches a state that the whole company shares.

use super::*;

/// A state is reached when all steps that name it are done, and told once; the notices on it go
/// with it, and nothing waits for them.
#[test]
fn a_state_is_told_when_all_its_steps_are_done() {
    let order = told();
    Run::start(&order)
        .tells(&[])
        .reply("reserve", SUCCESS)
        .tells(&[])
        .reply("insure", SUCCESS)
        .tells(&["confirmed", "mail.confirmed"])
        .reply("pick", SUCCESS)
        .sends(&["ship"])
        .tells(&["fulfilling"])
        .succeed(&["ship"])
        .reply("bill", SUCCESS)
        .tells(&["completed", "mail.completed"])
        .is(Status::Completed);
}

/// What comes first counts first: an order that is being sent needs no confirmation any more.
#[test]
fn a_state_that_is_overtaken_is_never_told() {
    let order = told();
    Run::start(&order)
        .reply("reserve", SUCCESS)
        .reply("pick", SUCCESS)
        .tells(&["fulfilling"])
        .reply("insure", SUCCESS)
        .tells(&[]);
}

/// An order that turns back after it was confirmed is cancelled in the end, and the customer is
/// told so.
#[test]
fn an_order_that_is_undone_is_cancelled() {
    let order = told();
    Run::start(&order)
        .succeed(&["reserve", "insure"])
        .reply("pick", no("BROKEN"))
        .tells(&[])
        .undone(&["reserve", "insure"])
        .undo("paid", SUCCESS)
        .tells(&["cancelled", "mail.cancelled"])
        .is(Status::Compensated);
}

/// A step that is done again tells nothing again.
#[test]
fn what_is_done_again_is_not_told_again() {
    let order = told();
    Run::start(&order)
        .succeed(&["reserve", "insure"])
        .cancel()
        .is(Status::Compensating)
        .undo("insure", SUCCESS)
        .undo("pick", Outcome::Refused { code: "TOO_LATE".into() })
        .is(Status::Running)
        .sends(&["insure#2", "ship"])
        .tells(&["fulfilling"])
        .reply("insure", SUCCESS)
        .tells(&[]);
}

/// The answer to a notice is no stranger, and changes nothing, whatever it says.
#[test]
fn the_answer_to_a_notice_is_of_no_concern() {
    let order = told();
    let run = Run::start(&order).succeed(&["reserve", "insure"]);
    let command = CommandId::of_notice(run.saga.id, &order.notices()[0]);
    let answer = |outcome| Input::Reply(Reply { command, from: None, outcome, data: None });
    let run = run.input(answer(SUCCESS));
    assert_eq!(run.verdict, Verdict::Ignored(Ignored::Irrelevant));
    let run = run.input(answer(no("NO_ADDRESS")));
    assert_eq!(run.verdict, Verdict::Ignored(Ignored::Irrelevant));
}
