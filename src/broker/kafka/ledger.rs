//! What was handed out of one partition, and what is remembered of it. No IO.
//!
//! A partition has one number at the broker: the offset up to which all is dealt with. That is
//! too little to know what came before, what was finished beyond a gap, and how often a message
//! was handed out. A committed offset may carry a short text, though, and that is where a
//! [`Record`] of these is kept. It is committed *before* the messages that it covers are handed
//! out, so that whoever takes the partition over, after a crash as well, can believe it.

use std::collections::VecDeque;
use std::fmt::Write;
use std::ops::Range;

use crate::broker::topology::DELIVERY_LIMIT;
use crate::broker::watermark::Watermark;

/// How far ahead of what is handed out a record reaches: one commit for so many messages. After
/// a crash as many may be called redelivered that were not, which costs a look and no more.
const AHEAD: i64 = 1_000;
/// After so many deliveries in a row of the first unfinished message, what may have been out
/// with it is handed out one by one, to learn which of them it is that kills.
const CAUTIOUS: u32 = 3;
/// Longest text of a record, in bytes. Brokers take 4,096 by default.
const MAX_RECORD_BYTES: usize = 3_000;
/// The text of a record begins with it.
const FORMAT: &str = "makegood1";

/// What is known of a partition beside its committed offset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// All before it is dealt with.
    pub offset: i64,
    /// Nothing from here on was ever handed out.
    pub bound: i64,
    /// How often the first message that is not dealt with was handed out.
    pub deliveries: u32,
    /// What is dealt with beyond it.
    pub done: Vec<Range<i64>>,
}

impl Record {
    /// Of a partition nobody has written about.
    fn empty(offset: i64) -> Record {
        Record { offset, bound: offset, ..Record::default() }
    }

    /// Reads what was committed with an offset. What is not understood says nothing.
    pub fn parse(offset: i64, text: &str) -> Record {
        let parsed = || {
            let mut words = text.split(' ');
            (words.next()? == FORMAT).then_some(())?;
            let bound: u32 = words.next()?.parse().ok()?;
            let deliveries = words.next()?.parse().ok()?;
            let range = |word: &str| {
                let (start, length) = word.split_once('+')?;
                let start = offset + i64::from(start.parse::<u32>().ok()?);
                Some(start..start + i64::from(length.parse::<u32>().ok()?))
            };
            let done = words.map(range).collect::<Option<Vec<_>>>()?;
            Some(Record { offset, bound: offset + i64::from(bound), deliveries, done })
        };
        parsed().unwrap_or_else(|| Record::empty(offset))
    }

    /// As it is committed. Of what was finished beyond the gap the first ranges are kept; the
    /// rest comes again.
    pub fn text(&self) -> String {
        let mut text = format!("{FORMAT} {} {}", self.bound - self.offset, self.deliveries);
        for Range { start, end } in &self.done {
            let before = text.len();
            let _ = write!(text, " {}+{}", start - self.offset, end - start);
            if text.len() > MAX_RECORD_BYTES {
                text.truncate(before);
                break;
            }
        }
        text
    }

    fn is_done(&self, offset: i64) -> bool {
        self.done.iter().any(|range| range.contains(&offset))
    }
}

/// What to do with the next message of a partition.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// It is out now, under this number; it may have been out before, so often.
    HandOut { number: u64, returns: Option<u32> },
    /// It was dealt with before.
    Skip,
    /// What is out now comes back first.
    Wait,
    /// The record must be committed that says that it is handed out.
    Commit,
    /// It was delivered too often. It is out now, under this number, to be buried.
    Bury { number: u64 },
}

#[derive(Debug)]
pub struct Ledger {
    /// As it was taken over.
    before: Record,
    /// As the broker has it by now; `None` until something was committed from here.
    confirmed: Option<Record>,
    /// Numbers count what was taken out of the partition, from 0.
    mark: Watermark,
    taken: u64,
    /// The offsets of the numbers from the first that is unfinished.
    window: VecDeque<i64>,
    /// All before it is dealt with.
    offset: i64,
    /// One past the last that was taken out.
    end: i64,
    /// The last resort keeps trying.
    buries: bool,
}

impl Ledger {
    pub fn new(before: Record, buries: bool) -> Ledger {
        let (offset, end) = (before.offset, before.offset);
        let (mark, window) = (Watermark::starting_at(0), VecDeque::new());
        Ledger { before, confirmed: None, mark, taken: 0, window, offset, end, buries }
    }

    /// One for a reader who remembers nothing.
    pub fn unrecorded(offset: i64) -> Ledger {
        let all = Record { bound: i64::MAX, ..Record::empty(offset) };
        Ledger { confirmed: Some(all), ..Ledger::new(Record::empty(offset), false) }
    }

    /// How many were taken out and are not before the mark: what the prefetch bounds.
    pub fn out(&self) -> usize {
        self.window.len()
    }

    /// Decides about the message at this offset; they come in ascending order.
    pub fn next(&mut self, offset: i64) -> Next {
        if self.before.is_done(offset) {
            let number = self.take(offset);
            self.finish(number);
            return Next::Skip;
        }
        let came_before = offset < self.before.bound;
        let is_first = self.offset == self.before.offset && self.window.is_empty();
        let deliveries = if is_first { self.before.deliveries } else { 0 };
        let alone = came_before && self.before.deliveries >= CAUTIOUS;
        if alone && !self.window.is_empty() {
            return Next::Wait;
        }
        if self.buries && came_before && deliveries > DELIVERY_LIMIT {
            return Next::Bury { number: self.take(offset) };
        }
        let is_covered = self.confirmed.as_ref().is_some_and(|record| {
            offset < record.bound && (!alone || record.offset == self.offset)
        });
        if !is_covered {
            return Next::Commit;
        }
        let returns = came_before.then_some(if is_first { deliveries } else { 1 });
        Next::HandOut { number: self.take(offset), returns }
    }

    fn take(&mut self, offset: i64) -> u64 {
        self.window.push_back(offset);
        self.end = offset + 1;
        self.taken += 1;
        self.taken - 1
    }

    /// Takes note of what is dealt with. True when the offset has risen.
    pub fn finish(&mut self, number: u64) -> bool {
        let Some(highest) = self.mark.finish(number) else { return false };
        let unfinished = usize::try_from(self.taken - 1 - highest).expect("they are in memory");
        while self.window.len() > unfinished {
            self.offset = self.window.pop_front().expect("just counted") + 1;
        }
        true
    }

    /// What must be confirmed before the message at `next` is handed out.
    pub fn record_for(&self, next: i64) -> Record {
        let is_alone = next < self.before.bound && self.before.deliveries >= CAUTIOUS;
        let ahead = if is_alone { 1 } else { AHEAD };
        self.record(self.end.max(next) + ahead, true)
    }

    /// What is so now: for whoever takes the partition over when all that is out was given back.
    pub fn record_now(&self) -> Record {
        self.record(self.end, false)
    }

    /// The same, where the broker does not have it yet.
    pub fn last_record(&self) -> Option<Record> {
        let record = self.record_now();
        let is_news = self.taken > 0 && self.confirmed.as_ref() != Some(&record);
        (is_news && record.bound < i64::MAX).then_some(record)
    }

    /// Whether more is dealt with than the broker knows.
    pub fn has_news(&self) -> bool {
        let known = self.confirmed.as_ref().map_or(self.before.offset, |record| record.offset);
        self.offset > known
    }

    /// What covers all that is out: to be committed on the way.
    pub fn record_on_the_way(&self) -> Record {
        let bound = self.confirmed.as_ref().map_or(self.end, |record| record.bound);
        self.record(bound.max(self.end), !self.window.is_empty())
    }

    /// Whether it was taken over after this was written.
    pub fn is_behind(&self, record: &Record) -> bool {
        record.offset > self.offset
    }

    pub fn confirm(&mut self, record: Record) {
        self.confirmed = Some(record);
    }

    fn record(&self, bound: i64, hands_out: bool) -> Record {
        let was_out = hands_out || !self.window.is_empty();
        let earlier = if self.offset == self.before.offset { self.before.deliveries } else { 0 };
        Record {
            offset: self.offset,
            bound: bound.max(self.before.bound).max(self.offset),
            deliveries: earlier + u32::from(was_out),
            done: self.done(),
        }
    }

    /// What was finished here beyond the mark, and what was finished before further on.
    fn done(&self) -> Vec<Range<i64>> {
        let first = self.taken - self.window.len() as u64;
        let gaps: Vec<u64> = self.mark.gaps().collect();
        let highest = self.mark.highest_beyond();
        let here = self.window.iter().zip(first..).filter(|(_, number)| {
            highest.is_some_and(|highest| *number <= highest) && gaps.binary_search(number).is_err()
        });
        let here = here.map(|(offset, _)| *offset..offset + 1);
        let there = self.before.done.iter().map(|range| range.start.max(self.end)..range.end);
        let mut done: Vec<Range<i64>> = Vec::new();
        for range in here.chain(there.filter(|range| !range.is_empty())) {
            match done.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => done.push(range),
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Takes over with what the last one committed, and hands out as far as it is allowed to
    /// without anything finished; returns the ledger with what was handed out.
    fn deliver(before: Record, offsets: Range<i64>) -> (Ledger, Vec<(i64, u64, Option<u32>)>) {
        let mut ledger = Ledger::new(before, true);
        let mut out = Vec::new();
        for offset in offsets {
            loop {
                match ledger.next(offset) {
                    Next::Commit => ledger.confirm(ledger.record_for(offset)),
                    Next::HandOut { number, returns } => {
                        out.push((offset, number, returns));
                        break;
                    }
                    Next::Skip => break,
                    Next::Wait | Next::Bury { .. } => return (ledger, out),
                }
            }
        }
        (ledger, out)
    }

    #[test]
    fn nothing_is_handed_out_before_it_is_written_down() {
        let mut ledger = Ledger::new(Record::parse(100, ""), true);
        assert_eq!(ledger.next(100), Next::Commit);
        let record = ledger.record_for(100);
        assert_eq!((record.bound, record.deliveries), (100 + AHEAD, 1));
        ledger.confirm(record);
        assert_eq!(ledger.next(100), Next::HandOut { number: 0, returns: None });
        assert_eq!(ledger.next(100 + AHEAD), Next::Commit, "and so on further on");
    }

    #[test]
    fn what_was_out_before_a_crash_is_redelivered_and_nothing_else() {
        let (mut ledger, out) = deliver(Record::parse(0, ""), 0..10);
        assert!(out.iter().all(|(_, _, returns)| returns.is_none()));
        out.iter().filter(|(offset, ..)| *offset != 3).for_each(|(_, number, _)| {
            ledger.finish(*number);
        });
        // In good order: exactly this one comes again.
        let record = Record::parse(3, &ledger.record_now().text());
        assert_eq!(record, ledger.record_now());
        let (_, out) = deliver(record, 3..12);
        let again: Vec<_> = out.iter().map(|(offset, _, returns)| (*offset, *returns)).collect();
        assert_eq!(again, [(3, Some(1)), (10, None), (11, None)]);
    }

    #[test]
    fn what_was_done_further_on_stays_done_for_the_one_after_next() {
        let done = vec![5..8, 9..10];
        let before = Record { offset: 0, bound: 10, deliveries: 1, done: done.clone() };
        let (ledger, out) = deliver(before, 0..2);
        assert_eq!(out.len(), 2);
        assert_eq!(ledger.record_now().done, done);
    }

    #[test]
    fn a_message_that_kills_is_found_and_buried_though_others_were_out_with_it() {
        const DEADLY: i64 = 7;
        let (mut record, mut crashes) = (Record::parse(0, ""), 0);
        loop {
            let mut ledger = Ledger::new(record.clone(), true);
            let mut offset = ledger.offset;
            // A crash: of this life only what was committed remains.
            let killed = loop {
                match ledger.next(offset) {
                    Next::Commit => {
                        record = ledger.record_for(offset);
                        ledger.confirm(record.clone());
                    }
                    Next::HandOut { .. } if offset == DEADLY => break true,
                    Next::HandOut { number, .. } => {
                        // Others are only finished when they are alone with it.
                        if crashes >= CAUTIOUS {
                            ledger.finish(number);
                        }
                        offset += 1;
                    }
                    Next::Bury { .. } => break false,
                    other => panic!("{other:?} at {offset}"),
                }
            };
            if !killed {
                assert_eq!(offset, DEADLY);
                break;
            }
            crashes += 1;
        }
        assert!(crashes <= 2 * CAUTIOUS + DELIVERY_LIMIT + 1, "{crashes} crashes");
        assert!(crashes > DELIVERY_LIMIT, "{crashes} crashes");
    }

    #[test]
    fn a_crash_of_an_idle_worker_counts_for_nobody_in_the_end() {
        let mut record = Record::parse(0, "");
        for _ in 0..100 {
            // Nothing comes, so nothing is written.
            let ledger = Ledger::new(record.clone(), true);
            record = Record::parse(ledger.offset, &ledger.before.text());
        }
        assert_eq!(record.deliveries, 0);
    }

    #[test]
    fn a_record_of_many_gaps_is_cut_and_not_refused() {
        let done = (0..10_000).map(|n| 2 * n + 1..2 * n + 2).collect();
        let record = Record { offset: 0, bound: 30_000, deliveries: 2, done };
        let text = record.text();
        assert!(text.len() <= MAX_RECORD_BYTES);
        let read = Record::parse(0, &text);
        assert_eq!((read.bound, read.deliveries), (30_000, 2));
        assert!(read.done.len() > 200 && record.done.starts_with(&read.done));
        assert_eq!(Record::parse(9, "somebody else's"), Record::empty(9));
    }

    proptest! {
        /// Whatever finishes in whatever order: the next one gets all that is unfinished, and
        /// nothing that is finished.
        #[test]
        fn the_next_one_gets_what_is_unfinished(
            order in Just((0..60_u64).collect::<Vec<_>>()).prop_shuffle(),
            finished in 0..=60_usize,
            holes in 1..3_i64,
        ) {
            let mut ledger = Ledger::new(Record::parse(50, ""), true);
            ledger.confirm(ledger.record_for(1_000));
            let offsets: Vec<i64> = (0..60).map(|n| 50 + n * holes).collect();
            for offset in &offsets {
                prop_assert!(matches!(ledger.next(*offset), Next::HandOut { .. }), "all are out");
            }
            for number in &order[..finished] {
                ledger.finish(*number);
            }
            let record = ledger.record_now();
            let left: BTreeSet<i64> =
                order[finished..].iter().map(|n| offsets[*n as usize]).collect();
            let (_, again) = {
                let read = Record::parse(record.offset, &record.text());
                let mut ledger = Ledger::new(read, true);
                let mut again = BTreeSet::new();
                for offset in offsets.iter().filter(|offset| **offset >= record.offset) {
                    if ledger.next(*offset) == Next::Commit {
                        ledger.confirm(ledger.record_for(*offset));
                        let is_out = matches!(ledger.next(*offset), Next::HandOut { .. });
                        prop_assert!(is_out);
                        again.insert(*offset);
                    } else if ledger.window.back() == Some(offset) && !record.is_done(*offset) {
                        again.insert(*offset);
                    }
                }
                (ledger, again)
            };
            prop_assert_eq!(again, left);
        }
    }
}
