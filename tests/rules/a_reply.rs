//! A participant answers a command.

use super::*;

/// `success`: the step is done; what became ready is sent, in parallel where it can be.
#[test]
fn success_sends_what_became_ready() {
    let order = order();
    Run::start(&order)
        .sends(&["reserve", "insure"])
        .reply("reserve", SUCCESS)
        .sends(&["pick"])
        .reply("pick", SUCCESS)
        .sends(&["ship"])
        .reply("ship", SUCCESS)
        .sends(&[])
        .reply("insure", SUCCESS)
        .sends(&["bill"])
        .reply("bill", SUCCESS)
        .is(Status::Completed)
        .says(Announcement::Reached(OrderState::Completed))
        .calm();
}

/// `rejected` before the pivot: compensate what was done, not what was rejected.
#[test]
fn rejected_before_the_pivot_compensates() {
    let order = order();
    Run::start(&order)
        .succeed(&["insure", "reserve"])
        .reply("pick", no("BROKEN"))
        .sends(&["undo paid", "undo reserve", "undo insure"])
        .is(Status::Compensating)
        .undone(&["paid", "reserve", "insure"])
        .is(Status::Compensated)
        .says(Announcement::Reached(OrderState::Cancelled))
        .calm();
}

/// `rejected` after the pivot: attention, and nothing is undone.
#[test]
fn rejected_past_the_pivot_raises_attention() {
    let order = order();
    Run::start(&order)
        .succeed(&["reserve", "insure", "pick", "ship"])
        .reply("bill", no("CLOSED"))
        .sends(&[])
        .is(Status::Running)
        .attention(&[("bill", AttentionCode::Rejected)]);
}

/// The same for a step beside the pivot that is answered only after it.
#[test]
fn rejected_beside_a_pivot_that_is_done_raises_attention() {
    let order = order();
    Run::start(&order)
        .succeed(&["reserve", "pick", "ship"])
        .reply("insure", no("TOO_RISKY"))
        .sends(&[])
        .is(Status::Running)
        .attention(&[("insure", AttentionCode::Rejected)]);
}

/// A pivot that is rejected was not passed: all before it is undone.
#[test]
fn a_rejected_pivot_compensates() {
    let order = order();
    Run::start(&order)
        .succeed(&["reserve", "insure", "pick"])
        .reply("ship", no("NO_COURIER"))
        .sends(&["undo insure", "undo pick"])
        .undone(&["pick"])
        .sends(&["undo paid", "undo reserve"])
        .undone(&["reserve", "paid", "insure"])
        .is(Status::Compensated);
}

/// A "no" beside a pivot that is under way waits for the pivot's answer: done, so an
/// operator is called.
#[test]
fn rejected_while_the_pivot_is_under_way_waits_for_its_answer() {
    let order = order();
    let waiting = || {
        Run::start(&order)
            .succeed(&["reserve", "pick"])
            .reply("insure", no("TOO_RISKY"))
            .sends(&[])
            .is(Status::Running)
    };
    waiting()
        .reply("ship", SUCCESS)
        .sends(&[])
        .is(Status::Running)
        .attention(&[("insure", AttentionCode::Rejected)]);
    waiting().reply("ship", no("FULL")).sends(&["undo pick"]).is(Status::Compensating);
}

/// `retry`: the same command id again after the backoff, counted from the answer.
#[test]
fn retry_sends_the_same_id_after_the_backoff() {
    let order = order();
    Run::start(&order)
        .reply("insure", SUCCESS)
        .pass(Millis(5_000))
        .reply("reserve", Outcome::Retry)
        .sends(&[])
        .pass(Millis(9_999))
        .sends(&[])
        // Repeated, it neither grows the journal nor puts off the resend.
        .reply("reserve", Outcome::Retry)
        .ignored(Ignored::Duplicate)
        .pass(Millis(1))
        .sends(&["reserve again"])
        .reply("reserve", Outcome::Retry)
        .pass(Millis(20_000))
        .sends(&["reserve again"])
        .reply("reserve", SUCCESS)
        .sends(&["pick"]);
}
