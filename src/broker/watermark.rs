//! Which deliveries of a subscription are dealt with: they finish in any order, and the broker
//! is told of all up to the first that has not.
//!
//! Serves RabbitMQ's delivery tags (acknowledged with `multiple`) and anything else that counts
//! deliveries upwards without gaps. Nothing is sent from here.

use std::collections::BTreeSet;

/// Numbers count from `first` without gaps; each is finished once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watermark {
    /// Everything below is finished.
    next: u64,
    /// What finished beyond the first gap. Bounded by the prefetch of the subscription.
    beyond: BTreeSet<u64>,
}

impl Watermark {
    #[must_use]
    pub fn starting_at(first: u64) -> Watermark {
        Watermark { next: first, beyond: BTreeSet::new() }
    }

    /// Takes note of a finished delivery. Answers with the highest number up to which all are
    /// finished, if that has risen. A repeated number changes nothing.
    pub fn finish(&mut self, number: u64) -> Option<u64> {
        if number != self.next {
            if number > self.next {
                self.beyond.insert(number);
            }
            return None;
        }
        self.next += 1;
        while self.beyond.first() == Some(&self.next) {
            self.beyond.pop_first();
            self.next += 1;
        }
        Some(self.next - 1)
    }

    /// The highest number that is finished although something before it is not.
    #[must_use]
    pub fn highest_beyond(&self) -> Option<u64> {
        self.beyond.last().copied()
    }

    /// What is unfinished before the highest finished number, in ascending order.
    pub fn gaps(&self) -> impl Iterator<Item = u64> {
        let end = self.highest_beyond().unwrap_or(self.next);
        (self.next..end).filter(|number| !self.beyond.contains(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rises_only_when_the_first_gap_is_closed() {
        let mut mark = Watermark::starting_at(1);
        assert_eq!(mark.finish(3), None);
        assert_eq!(mark.finish(2), None);
        assert_eq!(mark.highest_beyond(), Some(3));
        assert_eq!(mark.gaps().collect::<Vec<_>>(), [1]);
        assert_eq!(mark.finish(1), Some(3));
        assert_eq!(mark.finish(2), None, "repeated");
        assert_eq!(mark.finish(4), Some(4));
        assert_eq!((mark.highest_beyond(), mark.gaps().count()), (None, 0));
    }

    proptest! {
        #[test]
        fn never_passes_what_is_unfinished(
            order in Just((1..=60_u64).collect::<Vec<_>>()).prop_shuffle(),
            taken in 0..=60_usize,
        ) {
            let mut mark = Watermark::starting_at(1);
            let mut risen = 0;
            for (done, number) in order[..taken].iter().enumerate() {
                let finished = &order[..=done];
                let expected = (1..).take_while(|n| finished.contains(n)).last().unwrap_or(0);
                let answer = mark.finish(*number);
                prop_assert_eq!(answer, (expected > risen).then_some(expected));
                risen = expected;
            }
            let highest = order[..taken].iter().copied().max().unwrap_or(0);
            let missing: Vec<u64> = (1..highest).filter(|n| !order[..taken].contains(n)).collect();
            prop_assert_eq!(mark.gaps().collect::<Vec<_>>(), missing);
            prop_assert_eq!(mark.highest_beyond(), (highest > risen).then_some(highest));
        }
    }
}
