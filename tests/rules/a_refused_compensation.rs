//! A compensation comes too late.

use super::*;

/// After a cancel request: the step stands, the saga goes on, and what was undone meanwhile
/// runs again as a new generation.
#[test]
fn after_a_cancel_request_resumes_and_redoes() {
    let order = order();
    Run::start(&order)
        .succeed(&["reserve", "insure"])
        .cancel()
        .undone(&["insure"])
        .undo("pick", too_late())
        .says(Announcement::CancelRefused { why: WhyRefused::TooLate })
        .sends(&["insure#2", "ship"])
        .is(Status::Running)
        .succeed(&["ship", "insure", "bill"])
        .is(Status::Completed)
        .calm();
}

/// A compensation that is still out when the saga resumes is awaited, then the step redone.
#[test]
fn resumes_while_another_compensation_is_out() {
    let order = order();
    Run::start(&order)
        .succeed(&["reserve", "insure"])
        .cancel()
        .undo("pick", too_late())
        .sends(&["ship"])
        .phase("insure", "compensating")
        .undone(&["insure"])
        .sends(&["insure#2"]);
}

/// A step runs again only when all that it depends on has, directly or not: also the wait for a
/// fact that tells of a step which is done again.
#[test]
fn resumes_and_redoes_in_order() {
    let checked = load(&ORDER.replace(
        "[[step]]\nname = \"pick\"\nafter = [\"reserve\"]",
        "[[step]]\nname = \"check\"\nafter = [\"reserve\"]\nawait = [\"stock.checked\"]\n\
         deadline = \"1d\"\n[[step]]\nname = \"pick\"\nafter = [\"check\"]",
    ));
    Run::start(&checked)
        .succeed(&["reserve", "insure"])
        .fact("stock.checked")
        .sends(&["pick"])
        .cancel()
        .undone(&["pick", "reserve"])
        .undo("insure", too_late())
        .sends(&["reserve#2"])
        .attention(&[("check", AttentionCode::EarlyFact)])
        .succeed(&["reserve"])
        .sends(&[])
        .phase("check", "awaiting")
        .fact("stock.checked")
        .sends(&["pick#2"]);
}

/// The same where an explicit order had the first step undone before the second was refused.
#[test]
fn resumes_and_redoes_what_a_step_that_stands_depends_on_first() {
    let order = load(&ORDER.replace("\"stock.release\" }", "\"stock.release\", after = [] }"));
    Run::start(&order)
        .succeed(&["reserve", "insure"])
        .cancel()
        .undone(&["reserve"])
        .undo("pick", too_late())
        .sends(&["reserve#2"])
        .succeed(&["reserve"])
        .sends(&["ship"]);
}

/// An obligation that was already undone cannot be redone: an operator is called.
#[test]
fn after_the_obligation_was_undone_raises_attention() {
    let order = load(&ORDER.replace(", after = [\"pick\"] }", ", after = [] }"));
    Run::start(&order)
        .succeed(&["reserve", "insure"])
        .cancel()
        .undone(&["paid"])
        .undo("pick", too_late())
        .is(Status::Running)
        .attention(&[("paid", AttentionCode::ObligationUndone)]);
}

/// After a business failure: an operator decides; the others go on being undone.
#[test]
fn after_a_business_failure_raises_attention() {
    let order = order();
    Run::start(&order)
        .succeed(&["reserve", "insure", "pick"])
        .reply("ship", no("NO_COURIER"))
        .undo("pick", too_late())
        .attention(&[("pick", AttentionCode::CompensationRefused)])
        .undone(&["insure"])
        .is(Status::Compensating);
}

/// A step that failed while the request to cancel was carried out is a business failure too:
/// going on would only turn back again.
#[test]
fn after_a_cancel_request_and_a_failure_raises_attention() {
    let parallel = load(&ORDER.replace(
        "[[step]]\nname = \"ship\"",
        "[[step]]\nname = \"wrap\"\nparticipant = \"stock\"\ncommand = \"stock.wrap\"\n\
         compensation = { command = \"stock.unwrap\", after = [\"reserve\"] }\n[[step]]\nname = \"ship\"",
    ));
    Run::start(&parallel)
        .succeed(&["reserve", "insure"])
        .cancel()
        .reply("wrap", no("NO_PAPER"))
        .undo("pick", too_late())
        .sends(&[])
        .is(Status::Compensating)
        .attention(&[("pick", AttentionCode::CompensationRefused)]);
}
