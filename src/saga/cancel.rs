//! Somebody asks for the order to be cancelled.

use super::turn::Turn;
use super::{CancelState, Cause, Ignored, Status, Verdict, WhyRefused};

pub(super) fn cancel(turn: &mut Turn<'_>) -> Verdict {
    // A repeated request cannot be told from a second one; its answer stands in the saga.
    if turn.saga.cancel != CancelState::None {
        return Verdict::Ignored(Ignored::Duplicate);
    }
    match turn.saga.status {
        // It has been undone anyway: the wish is fulfilled.
        Status::Compensated => Verdict::Ignored(Ignored::Duplicate),
        // It is being undone. Should it resume after all, whoever asked must hear of it.
        Status::Compensating => {
            turn.saga.cancel = CancelState::Accepted;
            Verdict::Applied
        }
        Status::Completed => {
            turn.refuse_cancel(WhyRefused::PastPivot);
            Verdict::Applied
        }
        Status::Abandoned => {
            turn.refuse_cancel(WhyRefused::TooLate);
            Verdict::Applied
        }
        Status::Created | Status::Running => {
            if turn.is_past_pivot() {
                turn.refuse_cancel(WhyRefused::PastPivot);
            } else if turn.pivot_under_way() {
                turn.saga.cancel = CancelState::Waiting;
                turn.turn_back(Cause::Cancel);
            } else {
                turn.saga.cancel = CancelState::Accepted;
                turn.turn_back(Cause::Cancel);
            }
            Verdict::Applied
        }
    }
}
