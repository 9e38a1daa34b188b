//! Somebody wants the order cancelled.

use super::*;

/// Before the pivot: compensate, including what is still under way.
#[test]
fn before_the_pivot_compensates() {
    let order = order();
    Run::start(&order)
        .reply("reserve", SUCCESS)
        .cancel()
        .sends(&["undo insure", "undo pick"])
        .undo("pick", NOTHING)
        .sends(&["undo paid", "undo reserve"])
        .undone(&["paid", "reserve", "insure"])
        .is(Status::Compensated);
}

/// After the pivot: refused, with the reason.
#[test]
fn after_the_pivot_is_refused() {
    let order = order();
    let refused = Announcement::CancelRefused { why: WhyRefused::PastPivot };
    let run = Run::start(&order).succeed(&["reserve", "insure", "pick", "ship"]);
    run.cancel().says(refused.clone()).sends(&[]).is(Status::Running);
    let run = Run::start(&order).succeed(&["reserve", "insure", "pick", "ship", "bill"]);
    run.cancel().says(refused).is(Status::Completed);
}

/// While the pivot is under way: its answer decides.
#[test]
fn during_the_pivot_waits_for_its_answer() {
    let order = order();
    let asked = || {
        let run = Run::start(&order).succeed(&["reserve", "insure", "pick"]);
        run.cancel().sends(&[]).is(Status::Running)
    };
    asked()
        .reply("ship", SUCCESS)
        .says(Announcement::CancelRefused { why: WhyRefused::PastPivot })
        .sends(&["bill"]);
    let run = asked().reply("ship", no("FULL")).sends(&["undo insure", "undo pick"]);
    assert_eq!(run.saga.cancel, CancelState::Accepted);
}

/// Twice is once: nothing is said again, and what was answered can be read in the saga.
#[test]
fn repeated_changes_nothing() {
    let order = order();
    let run = Run::start(&order).cancel().cancel().ignored(Ignored::Duplicate);
    assert_eq!(run.saga.cancel, CancelState::Accepted);
    let past = Run::start(&order).succeed(&["reserve", "insure", "pick", "ship"]);
    let run = past.cancel().cancel().ignored(Ignored::Duplicate);
    assert_eq!(run.saga.cancel, CancelState::Refused);
}

/// While the saga is undone for another reason: noted, so that whoever asked hears of it
/// should the saga go on after all.
#[test]
fn while_compensating_is_noted_and_told_when_the_saga_resumes() {
    let parcel = parcel();
    Run::start(&parcel)
        .succeed(&["reserve", "pick"])
        .reply("insure", no("TOO_RISKY"))
        .cancel()
        .verdict(Verdict::Applied)
        .fact("parcel.scanned")
        .undo("pick", too_late())
        .says(Announcement::CancelRefused { why: WhyRefused::TooLate })
        .is(Status::Running);
}
