//! A participant does not answer: resends, and the give-up time.

use super::*;

/// The resend clock: the same command id, by a growing backoff up to its longest wait.
#[test]
fn resends_the_same_id_with_a_growing_wait() {
    let order = order();
    Run::start(&order)
        .reply("insure", SUCCESS)
        .pass(Millis(10_000))
        .sends(&["reserve again"])
        .pass(Millis(19_999))
        .sends(&[])
        .pass(Millis(1))
        .sends(&["reserve again"])
        .pass(Millis(40_000))
        .sends(&["reserve again"])
        .pass(Millis(120_000))
        .sends(&["reserve again", "reserve again"]);
}

/// The give-up clock of a compensatable step: it may have happened, so it is undone too.
#[test]
fn gives_up_and_compensates_what_may_have_been_done() {
    let order = order();
    let run = Run::start(&order).reply("insure", SUCCESS).pass(Millis::MINUTE.times(5));
    assert!(run.sent().ends_with(&["undo paid", "undo reserve", "undo insure"].map(str::to_owned)));
    run.undone(&["paid", "insure"])
        .is(Status::Compensating)
        .undo("reserve", NOTHING)
        .is(Status::Compensated)
        .calm();
}

/// We were away, and look at the clocks long after they were due: the answer may be waiting
/// unread, so the command is sent once more, and the give-up time ends as much later.
#[test]
fn while_nobody_looked_gives_nothing_up() {
    let order = order();
    let back = || Run::start(&order).reply("insure", SUCCESS).away(Millis::MINUTE.times(6));
    back().sends(&["reserve again"]).reply("reserve", SUCCESS).sends(&["pick"]).calm();
    back().pass(Millis(299_999)).is(Status::Running).pass(Millis(1)).is(Status::Compensating);
}

/// The same when we come back a moment before the give-up time ends.
#[test]
fn while_nobody_looked_until_a_moment_before_gives_nothing_up() {
    let order = order();
    let back = Run::start(&order).reply("insure", SUCCESS).away(Millis(299_000));
    back.pass(Millis::MINUTE.times(4)).is(Status::Running);
}

/// A worker that lags a little behind its clocks was not away.
#[test]
fn a_clock_that_is_a_little_late_gives_up_as_ever() {
    let order = order();
    let run = Run::start(&order).reply("insure", SUCCESS).pass(Millis(299_999));
    run.away(Millis::MINUTE).is(Status::Compensating);
}

/// With a probe: ask first. It was applied, so the saga goes on.
#[test]
fn in_doubt_is_probed_and_applied_goes_on() {
    let order = probed();
    Run::start(&order)
        .reply("insure", SUCCESS)
        .pass(Millis::MINUTE.times(5))
        .phase("reserve", "in-doubt")
        .probe("reserve", ProbeState::Applied)
        .sends(&["pick"])
        .calm();
}

/// With a probe: it was not applied, yet it may still be on its way, so it is undone too.
#[test]
fn in_doubt_is_probed_and_not_applied_compensates_it_as_well() {
    let order = probed();
    Run::start(&order)
        .reply("insure", SUCCESS)
        .pass(Millis::MINUTE.times(5))
        .probe("reserve", ProbeState::NotApplied)
        .sends(&["undo paid", "undo reserve", "undo insure"]);
}

/// With a probe that says nothing: asked again, and given up after a second give-up time.
#[test]
fn in_doubt_without_an_answer_to_the_probe_compensates_in_the_end() {
    let order = probed();
    Run::start(&order)
        .reply("insure", SUCCESS)
        .pass(Millis::MINUTE.times(5))
        .probe("reserve", ProbeState::Unknown)
        .ignored(Ignored::Stale)
        .pass(Millis::MINUTE.times(5))
        .is(Status::Compensating);
}

/// A pivot in doubt: sent on at the capped wait, attention, and nothing is undone.
#[test]
fn a_pivot_in_doubt_is_sent_on_and_never_compensated() {
    let order = order();
    let run = Run::start(&order)
        .succeed(&["reserve", "insure", "pick"])
        .pass(Millis::HOUR)
        .is(Status::Running)
        .attention(&[("ship", AttentionCode::InDoubt)]);
    assert!(run.sent().iter().all(|sent| sent == "ship again"));
    run.reply("ship", SUCCESS).sends(&["bill"]).calm();
}

/// A retriable step in doubt: the same, and with a probe it is asked after as well.
#[test]
fn a_step_past_the_pivot_in_doubt_is_sent_on() {
    let order = probed();
    Run::start(&order)
        .succeed(&["reserve", "insure", "pick", "ship"])
        .pass(Millis::MINUTE.times(5))
        .attention(&[("bill", AttentionCode::InDoubt)])
        .pass(Millis::MINUTE)
        .sends(&["?bill", "bill again"])
        .probe("bill", ProbeState::NotApplied)
        .sends(&[])
        .probe("bill", ProbeState::Applied)
        .is(Status::Completed)
        .calm();
}

/// In doubt beside a pivot that is under way: the pivot's answer decides.
#[test]
fn in_doubt_beside_a_pivot_under_way_waits_for_its_answer() {
    let order = order();
    let beside = || {
        let run = Run::start(&order).succeed(&["reserve", "pick"]).pass(Millis::HOUR.times(2));
        run.is(Status::Running)
    };
    beside()
        .reply("ship", SUCCESS)
        .attention(&[("insure", AttentionCode::InDoubt)])
        .reply("insure", SUCCESS)
        .calm();
    beside().reply("ship", no("FULL")).sends(&["undo insure", "undo pick"]);
}
