//! An operator decides.

use makegood::saga::{Resolution, Verb, left_behind, legal};

use super::*;

impl Run<'_> {
    fn operate(self, verb: Verb) -> Self {
        self.input(Input::Operator(verb))
    }

    fn retry(self, name: &str) -> Self {
        let step = self.step(name);
        self.operate(Verb::Retry { step })
    }

    fn resolve(self, name: &str, resolution: Resolution) -> Self {
        let step = self.step(name);
        self.operate(Verb::Resolve { step, resolution })
    }

    fn skip(self, name: &str) -> Self {
        let step = self.step(name);
        self.operate(Verb::Skip { step })
    }

    fn clear(self, name: &str, code: AttentionCode) -> Self {
        let step = Some(self.step(name));
        self.operate(Verb::Clear { step, code })
    }

    fn illegal(self) -> Self {
        self.verdict(Verdict::Refused(Refusal::IllegalVerb))
    }

    /// The verbs that would be taken now: `retry pick`, `hold`, `cancel`.
    fn may(self, expected: &[&str]) -> Self {
        let name = |step: usize| self.definition.steps()[step].name.as_str();
        let told = |input: &Input| match input {
            Input::Operator(Verb::Resolve { step, resolution }) => {
                format!("resolve {} {}", name(*step), resolution.as_str())
            }
            Input::Operator(verb) => match verb.step() {
                Some(step) => format!("{} {}", verb.name(), name(step)),
                None => verb.name().to_owned(),
            },
            other => other.name().to_owned(),
        };
        let legal = legal(self.definition, &self.saga, self.now);
        let found: Vec<String> = legal.iter().map(|(input, _)| told(input)).collect();
        assert_eq!(found, expected, "may");
        self
    }
}

fn success() -> Resolution {
    Resolution::Success { data: None }
}

fn rejected() -> Resolution {
    Resolution::Rejected { code: "LOST".into() }
}

/// What is out is sent again at once, under the same id; the clocks go on from there.
#[test]
fn retry_sends_what_is_out_again() {
    let order = order();
    Run::start(&order)
        .retry("reserve")
        .sends(&["reserve again"])
        .pass(Millis::MINUTE)
        .phase("reserve", "sent")
        .succeed(&["reserve"])
        .retry("reserve")
        .illegal()
        .retry("bill")
        .illegal();
}

/// What was rejected past the pivot is done anew under a new id: the participant would repeat
/// its first answer to the old one.
#[test]
fn retry_does_anew_what_was_rejected_past_the_pivot() {
    let order = order();
    Run::start(&order)
        .succeed(&["reserve", "insure", "pick", "ship"])
        .reply("bill", no("LIMIT"))
        .attention(&[("bill", AttentionCode::Rejected)])
        .retry("bill")
        .sends(&["bill#2"])
        .calm()
        .succeed(&["bill"])
        .is(Status::Completed);
}

/// A compensation that was refused is asked for once more, under a new id.
#[test]
fn retry_asks_again_for_a_refused_compensation() {
    let order = order();
    Run::start(&order)
        .succeed(&["reserve", "insure", "pick"])
        .reply("ship", no("NO_COURIER"))
        .undo("pick", too_late())
        .attention(&[("pick", AttentionCode::CompensationRefused)])
        .retry("pick")
        .sends(&["undo pick#2"])
        .calm()
        .undone(&["pick", "reserve", "insure", "paid"])
        .is(Status::Compensated);
}

/// A delivery that failed is waited for once more: what failed it counts no longer.
#[test]
fn retry_waits_again_for_a_fact_that_failed() {
    let parcel = parcel();
    Run::start(&parcel)
        .succeed(&["reserve", "insure", "pick"])
        .fact("parcel.scanned")
        .fact("parcel.lost")
        .attention(&[("arrive", AttentionCode::FailedPastPivot)])
        .retry("arrive")
        .phase("arrive", "awaiting")
        .calm()
        .fact("parcel.lost")
        .attention(&[("arrive", AttentionCode::FailedPastPivot)])
        .retry("arrive")
        .fact("parcel.delivered")
        .sends(&["bill"]);
}

/// The outcome is known from elsewhere: as if the participant had said so.
#[test]
fn resolve_stands_in_for_an_answer() {
    let order = order();
    Run::start(&order)
        .resolve("reserve", success())
        .sends(&["pick"])
        .reply("reserve", SUCCESS)
        .ignored(Ignored::Duplicate)
        .resolve("pick", rejected())
        .sends(&["undo paid", "undo reserve", "undo insure"])
        .resolve("reserve", success())
        .phase("reserve", "compensated")
        .resolve("insure", Resolution::NothingToDo)
        .resolve("pick", success())
        .illegal()
        .undone(&["paid"])
        .is(Status::Compensated);
}

/// A compensation that was refused, and was then done by hand.
#[test]
fn resolve_settles_a_refused_compensation() {
    let order = order();
    Run::start(&order)
        .succeed(&["reserve", "insure", "pick"])
        .reply("ship", no("NO_COURIER"))
        .undo("pick", too_late())
        .resolve("pick", success())
        .calm()
        .undone(&["reserve", "insure", "paid"])
        .is(Status::Compensated);
}

/// The order goes on without a step; what of it was sent is owed all the same.
#[test]
fn skip_goes_on_without_a_step() {
    let order = order();
    Run::start(&order)
        .succeed(&["reserve"])
        .skip("insure")
        .phase("insure", "skipped")
        .skip("bill")
        .succeed(&["pick", "ship"])
        .sends(&[])
        .is(Status::Completed)
        .calm();
    Run::start(&order)
        .skip("reserve")
        .sends(&["pick"])
        .skip("ship")
        .cancel()
        .verdict(Verdict::Applied)
        .says(Announcement::CancelRefused { why: WhyRefused::PastPivot });
    Run::start(&order)
        .skip("reserve")
        .skip("bill")
        .cancel()
        .sends(&["undo insure", "undo pick"])
        .undone(&["pick"])
        .sends(&["undo paid", "undo reserve"])
        .skip("reserve")
        .illegal();
}

/// While it is held nothing is sent and no clock runs; what comes in is taken in. Released, it
/// goes on, and nothing has run out meanwhile.
#[test]
fn hold_stops_everything_but_answers() {
    let order = order();
    let held = Run::start(&order).operate(Verb::Hold);
    let since = held.now;
    let held = held
        .says(Announcement::AttentionRaised { step: None, code: AttentionCode::Held })
        .pass(Millis::DAY)
        .sends(&[])
        .succeed(&["reserve"])
        .phase("reserve", "done")
        .sends(&[])
        .retry("insure")
        .illegal()
        .operate(Verb::Hold)
        .illegal();
    assert_eq!(held.saga.next_clock(), None);
    assert_eq!(held.saga.held_since(), Some(since));
    held.operate(Verb::Release)
        .sends(&["insure again", "pick"])
        .says(Announcement::AttentionCleared { step: None, code: AttentionCode::Held })
        .pass(Millis::MINUTE)
        .is(Status::Running)
        .calm()
        .operate(Verb::Release)
        .illegal();
}

/// Turning back waits for the release as well.
#[test]
fn hold_stops_compensations_too() {
    let order = order();
    Run::start(&order)
        .succeed(&["reserve", "insure"])
        .operate(Verb::Hold)
        .cancel()
        .is(Status::Compensating)
        .sends(&[])
        .operate(Verb::Release)
        .sends(&["undo insure", "undo pick"]);
}

/// Looked at, and nothing to be done yet: the clock that raised it starts anew.
#[test]
fn clear_looks_again_when_the_time_has_passed_once_more() {
    let parcel = parcel();
    Run::start(&parcel)
        .succeed(&["reserve", "insure", "pick"])
        .pass(Millis(15 * Millis::DAY.0))
        .attention(&[("ship", AttentionCode::DeadlinePassed)])
        .clear("ship", AttentionCode::DeadlinePassed)
        .calm()
        .clear("ship", AttentionCode::DeadlinePassed)
        .illegal()
        .pass(Millis(13 * Millis::DAY.0))
        .calm()
        .pass(Millis(2 * Millis::DAY.0))
        .attention(&[("ship", AttentionCode::DeadlinePassed)]);
    let order = order();
    Run::start(&order)
        .succeed(&["reserve", "insure", "pick"])
        .pass(Millis(6 * Millis::MINUTE.0))
        .attention(&[("ship", AttentionCode::InDoubt)])
        .clear("ship", AttentionCode::InDoubt)
        .calm()
        .pass(Millis(6 * Millis::MINUTE.0))
        .attention(&[("ship", AttentionCode::InDoubt)]);
}

/// What is all that is left to tell of an open order is not cleared: it is settled. And a hold
/// is released.
#[test]
fn clear_leaves_nothing_silently_stuck() {
    let order = order();
    Run::start(&order)
        .succeed(&["reserve", "insure", "pick", "ship"])
        .reply("bill", no("LIMIT"))
        .clear("bill", AttentionCode::Rejected)
        .illegal()
        .attention(&[("bill", AttentionCode::Rejected)])
        .operate(Verb::Hold)
        .clear("bill", AttentionCode::Rejected)
        .illegal()
        .operate(Verb::Clear { step: None, code: AttentionCode::Held })
        .illegal();
}

/// The last resort: it ends as it stands, and nothing moves it any more.
#[test]
fn abandon_ends_the_saga_as_it_stands() {
    let order = order();
    let run = Run::start(&order)
        .succeed(&["reserve"])
        .operate(Verb::Abandon)
        .says(Announcement::Abandoned)
        .sends(&[])
        .is(Status::Abandoned)
        .calm()
        .pass(Millis::DAY)
        .sends(&[])
        .reply("pick", SUCCESS)
        .ignored(Ignored::Stale)
        .cancel()
        .says(Announcement::CancelRefused { why: WhyRefused::TooLate })
        .may(&[]);
    let left: Vec<&str> = left_behind(&order, &run.saga)
        .iter()
        .map(|step| order.steps()[step].name.as_str())
        .collect();
    assert_eq!(left, ["paid", "reserve", "insure", "pick"]);
}

/// What may be asked is what would be done.
#[test]
fn legal_verbs_are_those_that_would_be_taken() {
    let order = order();
    Run::start(&order)
        .succeed(&["reserve", "insure", "pick", "ship"])
        .reply("bill", no("LIMIT"))
        .may(&["retry bill", "resolve bill success", "skip bill", "hold", "abandon", "cancel"])
        .operate(Verb::Hold)
        .may(&["resolve bill success", "skip bill", "release", "abandon", "cancel"]);
}

/// A verb that names a step which there is not is refused like any other.
#[test]
fn a_step_that_is_not_there_is_refused() {
    let order = order();
    Run::start(&order).operate(Verb::Skip { step: 99 }).illegal();
}
