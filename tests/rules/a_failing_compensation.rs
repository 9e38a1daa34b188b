//! A compensation gets no answer, or a "no".

use super::*;

/// No answer: resent under the same id; attention after the give-up time; the others go on.
#[test]
fn without_an_answer_is_resent_and_raises_attention() {
    let order = order();
    let run = Run::start(&order)
        .succeed(&["reserve", "insure", "pick"])
        .reply("ship", no("FULL"))
        .undone(&["insure"])
        .pass(Millis(10_000))
        .sends(&["undo pick again"])
        .pass(Millis::MINUTE.times(5))
        .attention(&[("pick", AttentionCode::CompensationStuck)]);
    run.undone(&["pick"]).sends(&["undo paid", "undo reserve"]).calm();
}

/// While nobody looked: nothing can be said of it yet, so nobody is called.
#[test]
fn while_nobody_looked_is_resent_and_calls_nobody() {
    let order = order();
    Run::start(&order)
        .reply("insure", no("TOO_RISKY"))
        .undone(&["paid"])
        .away(Millis::MINUTE.times(6))
        .sends(&["undo reserve again"])
        .calm()
        .pass(Millis::MINUTE.times(5))
        .attention(&[("reserve", AttentionCode::CompensationStuck)]);
}

/// `retry`: the same id again.
#[test]
fn with_a_passing_trouble_keeps_its_id() {
    let order = order();
    Run::start(&order)
        .reply("insure", no("TOO_RISKY"))
        .undo("paid", Outcome::Retry)
        .undo("paid", Outcome::Retry)
        .ignored(Ignored::Duplicate)
        .undone(&["reserve"])
        .pass(Millis(15_000))
        .sends(&["undo paid again"]);
}

/// `rejected`: a participant repeats its first answer to an id it knows, so the next attempt
/// has a new one; a repeated "no" does not postpone it.
#[test]
fn with_a_final_no_is_tried_under_a_new_id() {
    let order = order();
    let run = Run::start(&order)
        .reply("insure", no("TOO_RISKY"))
        .undone(&["paid"])
        .undo("reserve", no("LOCKED"))
        .undo("reserve", no("LOCKED"))
        .ignored(Ignored::Duplicate)
        .pass(Millis(10_000))
        .sends(&["undo reserve#2 again"]);
    run.undone(&["reserve"]).is(Status::Compensated);
}
