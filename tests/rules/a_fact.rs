//! Something happened in the world, in time or before it.

use super::*;

/// Before its step is ready: kept, and it counts as soon as the step is.
#[test]
fn before_its_step_counts_later() {
    let parcel = parcel();
    Run::start(&parcel)
        .fact("parcel.scanned")
        .succeed(&["insure", "reserve", "pick"])
        .phase("ship", "done")
        .phase("arrive", "awaiting")
        .calm();
}

/// That belongs behind a pivot which is not even possible yet: attention, and it counts for
/// nothing; money must not move on such a word.
#[test]
fn that_cannot_be_true_yet_raises_attention_and_counts_for_nothing() {
    let parcel = parcel();
    Run::start(&parcel)
        .fact("parcel.delivered")
        .attention(&[("arrive", AttentionCode::EarlyFact)])
        .succeed(&["insure", "reserve", "pick"])
        .phase("ship", "awaiting");
}

/// That overtakes the answer to the command it tells of, because that answer is held back: kept,
/// and it counts as soon as the answer is in. Nobody is called.
#[test]
fn that_overtakes_the_answer_of_its_command_counts_once_that_is_in() {
    let parcel = parcel();
    Run::start(&parcel)
        .succeed(&["insure", "reserve"])
        .fact("parcel.scanned")
        .fact("parcel.delivered")
        .phase("pick", "sent")
        .succeed(&["pick"])
        .phase("arrive", "done")
        .calm();
}

/// That cannot be true yet, while the saga is undone: a parcel that was never sent was not delivered, whatever
/// becomes of the order after that.
#[test]
fn that_cannot_be_true_yet_while_compensating_counts_for_nothing_either() {
    let parcel = parcel();
    Run::start(&parcel)
        .cancel()
        .fact("parcel.delivered")
        .attention(&[("arrive", AttentionCode::EarlyFact)])
        .undo("reserve", too_late())
        .sends(&["pick"])
        .succeed(&["pick"])
        .phase("ship", "awaiting");
}

/// That tells of a parcel which was taken back: attention when another is sent, and only what
/// is seen of that one counts.
#[test]
fn of_an_earlier_run_of_a_step_counts_for_nothing() {
    let parcel = parcel();
    Run::start(&parcel)
        .succeed(&["reserve", "insure", "pick"])
        .cancel()
        .fact("parcel.scanned")
        .undone(&["pick"])
        .undo("reserve", too_late())
        .sends(&["pick#2"])
        .attention(&[
            ("ship", AttentionCode::GoodsAndMoneyDisagree),
            ("ship", AttentionCode::EarlyFact),
        ])
        .succeed(&["pick"])
        .phase("ship", "awaiting")
        .fact("parcel.scanned")
        .phase("ship", "done");
}

/// Such a fact is believed when another event says it again at a time when it can be true.
#[test]
fn that_came_early_is_confirmed_by_another_event() {
    let parcel = parcel();
    Run::start(&parcel)
        .fact("parcel.delivered")
        .succeed(&["insure", "reserve", "pick"])
        .fact("parcel.delivered")
        .sends(&["bill"])
        .attention(&[("arrive", AttentionCode::EarlyFact)]);
}

/// The same event again confirms nothing.
#[test]
fn that_came_early_is_not_confirmed_by_the_same_event() {
    let parcel = parcel();
    let event = EventId::of("courier", "e-1");
    let same = || Input::Fact(FactSeen { kind: "parcel.delivered".into(), event });
    Run::start(&parcel)
        .input(same())
        .succeed(&["insure", "reserve", "pick"])
        .input(same())
        .ignored(Ignored::Duplicate)
        .phase("ship", "awaiting");
}

/// For which a step already waits is not early, even if a step past the pivot knows it too.
#[test]
fn that_a_step_waits_for_is_never_early() {
    let both = load(&ORDER.replace(
        "[[step]]\nname = \"ship\"\nafter = [\"pick\"]",
        "[[step]]\nname = \"look\"\nafter = [\"pick\"]\nawait = [\"world.seen\"]\ndeadline = \"1d\"\n\
         [[step]]\nname = \"look-again\"\nafter = [\"ship\"]\nawait = [\"world.seen\"]\ndeadline = \"1d\"\n\
         [[step]]\nname = \"ship\"\nafter = [\"look\"]",
    ));
    Run::start(&both)
        .succeed(&["reserve", "insure", "pick"])
        .fact("world.seen")
        .sends(&["ship"])
        .calm()
        .reply("ship", SUCCESS)
        .phase("look-again", "done");
}

/// That fails a step past the pivot: attention. If the delivery succeeds at the next
/// attempt, it is done after all.
#[test]
fn that_fails_a_step_past_the_pivot_raises_attention() {
    let parcel = parcel();
    Run::start(&parcel)
        .succeed(&["insure", "reserve", "pick"])
        .fact("parcel.scanned")
        .fact("parcel.lost")
        .sends(&[])
        .attention(&[("arrive", AttentionCode::FailedPastPivot)])
        .fact("parcel.delivered")
        .sends(&["bill"]);
}

/// That fails a step counts only when it was seen as often as the definition grants attempts,
/// each time by another event; what succeeds before that is done, and nobody was called.
#[test]
fn that_fails_a_step_waits_for_the_attempts_after_it() {
    let patient = load(&parcel_text().replace("\"parcel.lost\"", "\"parcel.lost\"\nattempts = 3"));
    let event = EventId::of("courier", "first");
    let first = || Input::Fact(FactSeen { kind: "parcel.lost".into(), event });
    let tried_twice = || {
        Run::start(&patient)
            .succeed(&["insure", "reserve", "pick"])
            .fact("parcel.scanned")
            .input(first())
            .verdict(Verdict::Applied)
            .input(first())
            .ignored(Ignored::Duplicate)
            .fact("parcel.lost")
            .phase("arrive", "awaiting")
            .calm()
            .input(first())
            .ignored(Ignored::Duplicate)
    };
    tried_twice().fact("parcel.delivered").sends(&["bill"]).calm();
    tried_twice()
        .fact("parcel.lost")
        .attention(&[("arrive", AttentionCode::FailedPastPivot)])
        .fact("parcel.lost")
        .ignored(Ignored::Duplicate)
        .fact("parcel.delivered")
        .sends(&["bill"]);
}

/// Attempts that were seen before the step began count as well.
#[test]
fn that_fails_a_step_counts_also_from_before_it_began() {
    let patient = load(&parcel_text().replace("\"parcel.lost\"", "\"parcel.lost\"\nattempts = 2"));
    Run::start(&patient)
        .succeed(&["insure", "reserve", "pick"])
        .fact("parcel.lost")
        .fact("parcel.lost")
        .calm()
        .fact("parcel.scanned")
        .attention(&[("arrive", AttentionCode::FailedPastPivot)]);
}

/// Repeated, or of no interest.
#[test]
fn repeated_or_irrelevant_changes_nothing() {
    let parcel = parcel();
    Run::start(&parcel)
        .fact("parcel.scanned")
        .fact("parcel.scanned")
        .ignored(Ignored::Duplicate)
        .fact("weather.changed")
        .ignored(Ignored::Irrelevant);
}
