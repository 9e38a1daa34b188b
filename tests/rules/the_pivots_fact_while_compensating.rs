//! The parcel left while its order was being undone.

use super::*;

/// Kept; the open compensation is refused: the parcel is on its way, forward.
#[test]
fn and_a_refused_compensation_resumes_past_the_pivot() {
    let parcel = parcel();
    Run::start(&parcel)
        .succeed(&["reserve", "pick"])
        .reply("insure", no("TOO_RISKY"))
        .sends(&["undo pick"])
        .fact("parcel.scanned")
        .is(Status::Compensating)
        .undo("pick", too_late())
        .is(Status::Running)
        .phase("ship", "done")
        .attention(&[("insure", AttentionCode::Rejected)]);
}

/// The same when the refusal comes first: which of the two overtakes the other decides nothing.
#[test]
fn after_a_refused_compensation_resumes_past_the_pivot() {
    let parcel = parcel();
    Run::start(&parcel)
        .succeed(&["reserve", "pick"])
        .reply("insure", no("TOO_RISKY"))
        .undo("pick", too_late())
        .is(Status::Compensating)
        .fact("parcel.scanned")
        .is(Status::Running)
        .phase("ship", "done")
        .attention(&[
            ("pick", AttentionCode::CompensationRefused),
            ("insure", AttentionCode::Rejected),
        ]);
}

/// The pivot itself had failed by a fact, and another fact says that it was done after all:
/// a refused compensation then resumes past it, once, instead of to and fro.
#[test]
fn that_had_failed_and_a_refused_compensation_resumes_past_the_pivot() {
    let scan = "pivot = true\ndeadline = \"14d\"";
    let from = ORDER.find("participant = \"courier\"").unwrap();
    let to = ORDER[from..].find("[[step]]").unwrap() + from;
    let waits = "await = [\"parcel.scanned\"]\nfails_on = \"parcel.lost\"\n";
    let parcel = load(&format!("{}{waits}{scan}\n{}", &ORDER[..from], &ORDER[to..]));
    Run::start(&parcel)
        .succeed(&["reserve", "pick"])
        .fact("parcel.lost")
        .sends(&["undo insure", "undo pick"])
        .undo("insure", NOTHING)
        .fact("parcel.scanned")
        .undo("pick", too_late())
        .sends(&["insure#2"])
        .is(Status::Running)
        .phase("ship", "done")
        .calm();
}

/// The compensation succeeds all the same: goods and money disagree, which is told once.
#[test]
fn and_a_compensation_that_succeeds_raises_attention() {
    let parcel = parcel();
    Run::start(&parcel)
        .succeed(&["reserve", "insure", "pick"])
        .cancel()
        .fact("parcel.scanned")
        .undone(&["pick"])
        .attention(&[("ship", AttentionCode::GoodsAndMoneyDisagree)])
        .undone(&["insure", "paid", "reserve"])
        .fact("parcel.delivered")
        .is(Status::Compensated)
        .attention(&[("ship", AttentionCode::GoodsAndMoneyDisagree)]);
}

/// It comes when only the money is still to go back: no answer can tell of it any more.
#[test]
fn when_nothing_can_refuse_any_more_raises_attention_at_the_end() {
    let parcel = parcel();
    Run::start(&parcel)
        .succeed(&["reserve", "insure", "pick"])
        .cancel()
        .undone(&["pick", "reserve", "insure"])
        .fact("parcel.scanned")
        .calm()
        .undone(&["paid"])
        .is(Status::Compensated)
        .attention(&[("ship", AttentionCode::GoodsAndMoneyDisagree)]);
}

/// It comes when all is over.
#[test]
fn after_the_end_raises_attention() {
    let parcel = parcel();
    let run = Run::start(&parcel).cancel().undone(&["insure", "paid"]).undo("reserve", NOTHING);
    let run = run.is(Status::Compensated).fact("parcel.scanned");
    run.attention(&[("ship", AttentionCode::GoodsAndMoneyDisagree)]);
}
