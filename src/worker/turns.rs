//! Whose turn it is in a lane: inputs, sorted by saga, wait for their round.
//!
//! Mostly all that waits goes together. What was in a batch that did not get through goes in
//! smaller company next time, until the one that is to blame is alone; what does not get
//! through by itself waits behind a pause, and holds up nobody meanwhile. Messages that were
//! delivered again and again go alone from the start: should one of them be what ends this
//! process each time, the others get away before it does.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::batch::Group;

/// Into how many parts a batch goes that did not get through. Each part may cost a timeout of
/// the database, so that few levels are better than few parts.
const PARTS: usize = 8;
/// A message that was given back so often is under suspicion. One worker's crash is nobody's
/// fault, two may be.
const SUSPICIOUS_RETURNS: u32 = 2;
/// How often a group comes at once after it did not get through.
const AT_ONCE: u32 = 2;
/// The pauses after that: they double, from the first to the longest. A row that somebody has
/// locked costs its lane a timeout of some seconds at each attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct Turns {
    now: VecDeque<Group>,
    later: Vec<(Instant, Group)>,
}

impl Turns {
    pub fn add(&mut self, groups: Vec<Group>) {
        self.now.extend(arranged(groups));
    }

    /// The next batch: each saga at most once, and nobody in larger company than it may be.
    /// The sagas that one message starts stay together, so that nobody ever sees half of them.
    pub fn next(&mut self) -> Option<Vec<Group>> {
        let mut batch: Vec<Group> = Vec::with_capacity(self.now.len());
        let mut sagas = HashSet::with_capacity(self.now.len());
        let mut most = usize::MAX;
        while let Some(group) = self.now.front() {
            most = most.min(group.company);
            let is_kin = group.kin.is_some() && group.kin == batch.last().and_then(|g| g.kin);
            if (batch.len() >= most && !is_kin) || !sagas.insert(group.saga) {
                break;
            }
            batch.extend(self.now.pop_front());
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// A batch that did not get through comes again, in parts.
    pub fn split(&mut self, groups: Vec<Group>) {
        let company = (groups.len() / PARTS).max(1);
        for mut group in groups {
            group.company = company;
            self.again(group);
        }
    }

    /// A group comes again: at once, or, when that did not help, behind a pause.
    pub fn again(&mut self, mut group: Group) {
        group.attempts += 1;
        match group.attempts.checked_sub(AT_ONCE + 1) {
            None => self.now.push_back(group),
            Some(doublings) => {
                let pause = FIRST_PAUSE.saturating_mul(1 << doublings.min(16)).min(LONGEST_PAUSE);
                self.later.push((Instant::now() + pause, group));
            }
        }
    }

    /// Waits until somebody's pause is over; without end where nobody waits.
    pub async fn ripen(&mut self) {
        let Some(next) = self.later.iter().map(|(at, _)| *at).min() else {
            return std::future::pending().await;
        };
        crate::clock::wait(next.saturating_duration_since(Instant::now())).await;
        let now = Instant::now().max(next);
        self.now.extend(self.later.extract_if(.., |(at, _)| *at <= now).map(|(_, group)| group));
    }
}

/// Whether all of these are one message's: then nobody else can be to blame.
pub(super) fn is_alone(groups: &[Group]) -> bool {
    let kin = groups.first().and_then(|group| group.kin);
    groups.len() == 1 || (kin.is_some() && groups.iter().all(|group| group.kin == kin))
}

/// Sagas that one message starts side by side, and suspects behind all others, each by itself.
fn arranged(mut groups: Vec<Group>) -> Vec<Group> {
    for group in &mut groups {
        let returns = group.deliveries().map(|delivery| delivery.returns).max();
        if returns.is_some_and(|returns| returns >= SUSPICIOUS_RETURNS) {
            group.company = 1;
        }
    }
    if groups.iter().all(|group| group.kin.is_none() && group.company > 1) {
        return groups;
    }
    let mut families: Vec<Vec<Group>> = Vec::new();
    let mut by_kin = HashMap::new();
    for group in groups {
        let place =
            group.kin.map_or(families.len(), |kin| *by_kin.entry(kin).or_insert(families.len()));
        if place == families.len() {
            families.push(Vec::new());
        }
        families[place].push(group);
    }
    let is_suspect = |family: &Vec<Group>| family.iter().any(|group| group.company == 1);
    let (mut suspects, others): (Vec<_>, Vec<_>) = families.into_iter().partition(is_suspect);
    // In another order after each delivery: what stood behind the culprit once stands before it
    // the next time.
    suspects.sort_by_key(|family| {
        let returns = family[0].deliveries().map(|delivery| delivery.returns).max();
        family[0].saga.0.as_u128().rotate_left(returns.unwrap_or(0).wrapping_mul(11) % 128)
    });
    others.into_iter().chain(suspects).flatten().collect()
}
