//! A deadline passes: somebody is called, nothing else.

use super::*;

/// Attention only, and it clears by itself once the step is done after all.
#[test]
fn raises_attention_that_clears_itself() {
    let order = order();
    let bill = order.step_named("bill");
    let code = AttentionCode::DeadlinePassed;
    Run::start(&order)
        .succeed(&["reserve", "insure", "pick", "ship"])
        .pass(Millis::HOUR)
        .attention(&[("bill", AttentionCode::InDoubt), ("bill", code)])
        .reply("bill", SUCCESS)
        .says(Announcement::AttentionCleared { step: bill, code })
        .is(Status::Completed)
        .calm();
}

/// A wait for facts as well.
#[test]
fn of_a_wait_raises_attention_and_the_wait_goes_on() {
    let parcel = parcel();
    Run::start(&parcel)
        .succeed(&["reserve", "insure", "pick"])
        .pass(Millis::DAY.times(15))
        .attention(&[("ship", AttentionCode::DeadlinePassed)])
        .phase("ship", "awaiting")
        .fact("parcel.scanned")
        .phase("ship", "done")
        .calm();
}

/// What a decision raised stays, even when the step is done after all.
#[test]
fn does_not_clear_what_a_decision_raised() {
    let order = order();
    Run::start(&order)
        .succeed(&["reserve", "insure", "pick", "ship"])
        .reply("bill", no("CLOSED"))
        .reply("bill", SUCCESS)
        .is(Status::Completed)
        .attention(&[("bill", AttentionCode::Rejected)]);
}
