//! A step that was undone says that it was done.

use super::*;

fn in_doubt(order: &Definition) -> Run<'_> {
    Run::start(order).reply("insure", no("TOO_RISKY")).undone(&["paid"])
}

/// Of a step whose compensation is out and finds nothing: once more, under a new id.
#[test]
fn during_its_compensation_that_found_nothing_undoes_once_more() {
    let order = order();
    in_doubt(&order)
        .reply("reserve", SUCCESS)
        .sends(&[])
        .undo("reserve", NOTHING)
        .sends(&["undo reserve#2"])
        .undone(&["reserve"])
        .is(Status::Compensated)
        .calm();
}

/// Of a step whose compensation is out and undoes it: that was all.
#[test]
fn during_its_compensation_that_undid_it_is_settled() {
    let order = order();
    in_doubt(&order).reply("reserve", SUCCESS).undone(&["reserve"]).is(Status::Compensated).calm();
}

/// After the end, when the compensation had found nothing: the saga stays ended, the step is
/// undone under a new id, and the attention lasts until that is done.
#[test]
fn after_the_end_is_undone_and_shown_until_then() {
    let order = order();
    in_doubt(&order)
        .undo("reserve", NOTHING)
        .is(Status::Compensated)
        .reply("reserve", SUCCESS)
        .sends(&["undo reserve#2"])
        .is(Status::Compensated)
        .attention(&[("reserve", AttentionCode::LateSuccess)])
        .undone(&["reserve"])
        .is(Status::Compensated)
        .calm();
}

/// Of a step that its participant had rejected: it takes back its word, so it is undone.
#[test]
fn after_a_rejection_is_undone() {
    let order = order();
    Run::start(&order)
        .reply("reserve", no("OUT_OF_STOCK"))
        .undone(&["paid"])
        .reply("reserve", SUCCESS)
        .sends(&["undo reserve"])
        .undone(&["insure", "reserve"])
        .is(Status::Compensated)
        .calm();
}

/// Of a pivot that its participant had rejected: it cannot be undone, while all before it is.
#[test]
fn of_a_rejected_pivot_raises_attention() {
    let order = order();
    Run::start(&order)
        .succeed(&["reserve", "insure", "pick"])
        .reply("ship", no("FULL"))
        .reply("ship", SUCCESS)
        .sends(&[])
        .is(Status::Compensating)
        .attention(&[("ship", AttentionCode::GoodsAndMoneyDisagree)])
        .reply("ship", SUCCESS)
        .ignored(Ignored::Duplicate);
}

/// Of a step that is done again meanwhile: two stand, and only an operator can undo the one.
#[test]
fn of_an_earlier_run_raises_attention() {
    let order = order();
    Run::start(&order)
        .succeed(&["reserve"])
        .cancel()
        .undo("insure", NOTHING)
        .undo("pick", too_late())
        .sends(&["insure#2", "ship"])
        .answer("insure", Direction::Forward, 1, SUCCESS)
        .sends(&[])
        .attention(&[("insure", AttentionCode::LateSuccess)])
        .answer("insure", Direction::Forward, 1, SUCCESS)
        .ignored(Ignored::Stale)
        .succeed(&["insure", "ship", "bill"])
        .is(Status::Completed);
}

/// Of a step whose compensation waits for its turn: nothing is resent any more, and it is
/// undone when its turn comes.
#[test]
fn while_its_compensation_waits_for_its_turn_is_undone_in_order() {
    let order = order();
    Run::start(&order)
        .succeed(&["insure", "reserve"])
        .cancel()
        .sends(&["undo insure", "undo pick"])
        .undone(&["insure"])
        .reply("pick", SUCCESS)
        .pass(Millis(5_000))
        .sends(&[])
        .undone(&["pick"])
        .sends(&["undo paid", "undo reserve"]);
}

/// After the end, when the compensation had undone it: stale.
#[test]
fn of_a_step_that_was_undone_is_stale() {
    let order = order();
    in_doubt(&order).undone(&["reserve"]).reply("reserve", SUCCESS).ignored(Ignored::Stale);
}
