//! A lane: takes all that waits, loads those sagas at once, decides each in memory, commits
//! all in one transaction, and only then acknowledges.
//!
//! A saga goes through the same lane of a worker, so a worker hardly ever races itself. It may
//! race another worker: the store's fencing tells, and the saga is loaded and decided anew. A
//! message that concerns several sagas goes through one lane whole, so that all of them are
//! loaded in one query and stored in one transaction: nobody ever sees half of an order's sagas.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::batch::{Decided, Desk, Group, decide, group};
use super::burial::Graveyard;
use super::definitions::Definitions;
use super::inputs::{Item, What};
use super::relay::{Posted, RelayHandle};
use super::timers::TimerHandle;
use super::{Options, Shutdown};
use crate::clock::{Backoff, Clock};
use crate::saga::{Ignored, Refusal, SagaId, Time};
use crate::store::{Change, DeadLetter, Store, StoreError, Stored, Written};
use crate::telemetry::{Seen, Telemetry};

pub(super) struct Lane {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub telemetry: Arc<Telemetry>,
    pub definitions: Definitions,
    pub relay: RelayHandle,
    pub timers: TimerHandle,
    pub options: Arc<Options>,
    pub graveyard: Graveyard,
    pub shutdown: Shutdown,
}

impl Lane {
    /// Runs until all senders are gone and the queue is empty.
    pub async fn run(self, mut queue: mpsc::Receiver<Vec<Item>>) {
        let max = self.options.max_batch;
        let mut messages = Vec::with_capacity(max);
        while queue.recv_many(&mut messages, max).await > 0 {
            let items: Vec<Item> = messages.drain(..).flatten().collect();
            self.telemetry.batch(items.len());
            let mut groups = group(items);
            // Each round settles every saga but those that another worker changed meanwhile.
            while !groups.is_empty() && !self.shutdown.is_abandoned() {
                groups = self.round(groups).await;
            }
        }
    }

    /// One load, decide, commit. The groups that lost a race come back.
    async fn round(&self, groups: Vec<Group>) -> Vec<Group> {
        let ids: Vec<SagaId> = groups.iter().map(|group| group.saga).collect();
        let Some((stored, unreadable)) = self.load(&ids).await else {
            return Vec::new(); // abandoned: nothing was acknowledged, all of it comes again
        };
        // A repeated order, or one in whose favour this lane looks again: see `adopt`.
        let known = groups.iter().filter(|group| stored.contains_key(&group.saga));
        let parked = self.parked(known).await;
        let mut decided = self.decide(&groups, &stored, &parked).await;
        for (group, decided) in groups.iter().zip(&mut decided) {
            if let Some(error) = unreadable.get(&group.saga) {
                *decided = Decided {
                    refused: group.refuse_all("unreadable-saga", error),
                    ..Decided::default()
                };
            }
        }
        let (changes, index): (Vec<Change>, Vec<usize>) = decided
            .iter_mut()
            .enumerate()
            .filter_map(|(index, decided)| Some((decided.change.take()?, index)))
            .unzip();
        let written = self.commit(&changes).await;
        let outcomes = index.into_iter().zip(written.into_iter().zip(changes)).collect();
        self.settle(groups, decided, outcomes, &stored).await
    }

    /// The stored sagas among these, and those that cannot be read, each with why. `None` when
    /// the worker was told to stop while the database was away.
    async fn load(
        &self,
        ids: &[SagaId],
    ) -> Option<(HashMap<SagaId, Stored>, HashMap<SagaId, String>)> {
        let mut stored = Vec::new();
        let mut unreadable = HashMap::new();
        match self.retried(|| self.store.load(ids)).await {
            Ok(all) => stored = all,
            Err(error) if error.is_transient() => return None,
            // One damaged row must not stall the lane: find it.
            Err(_) => {
                for id in ids {
                    match self.retried(|| self.store.load(std::slice::from_ref(id))).await {
                        Ok(one) => stored.extend(one),
                        Err(error) if error.is_transient() => return None,
                        Err(error) => drop(unreadable.insert(*id, error.to_string())),
                    }
                }
            }
        }
        Some((stored.into_iter().map(|stored| (stored.saga.id, stored)).collect(), unreadable))
    }

    async fn decide(
        &self,
        groups: &[Group],
        stored: &HashMap<SagaId, Stored>,
        parked: &[DeadLetter],
    ) -> Vec<Decided> {
        loop {
            let catalog = self.definitions.current();
            let now = self.clock.now();
            let desk = Desk {
                catalog: &catalog,
                source: &self.options.source,
                now,
                claimed_until: now + super::relay::CLAIM_LEASE,
            };
            let of = |group: &Group| {
                decide(&desk, group, stored.get(&group.saga), &for_group(group, parked))
            };
            let decided: Vec<Decided> = groups.iter().map(of).collect();
            if decided.iter().all(|decided| decided.unknown_definition.is_none()) {
                return decided;
            }
            // A version published a moment ago by somebody else: look it up and decide again.
            self.definitions.learn(&self.shutdown).await;
            if Arc::ptr_eq(&catalog, &self.definitions.current()) {
                return decided;
            }
        }
    }

    /// Messages that came before the orders which start in these groups.
    async fn parked<'a>(&self, groups: impl Iterator<Item = &'a Group>) -> Vec<DeadLetter> {
        let orders: HashSet<(String, String)> = groups.filter_map(order_of).collect();
        if orders.is_empty() {
            return Vec::new();
        }
        let orders: Vec<(String, String)> = orders.into_iter().collect();
        self.retried(|| self.store.parked(&orders)).await.unwrap_or_default()
    }

    /// Commits all changes. A batch that the database refuses for good is split in halves until
    /// the change that cannot be stored is found; the rest is committed.
    async fn commit(&self, changes: &[Change]) -> Vec<Outcome> {
        let mut outcomes: Vec<Option<Outcome>> = changes.iter().map(|_| None).collect();
        let mut ranges: Vec<std::ops::Range<usize>> = Vec::new();
        ranges.push(0..changes.len());
        while let Some(range) = ranges.pop() {
            if range.is_empty() {
                continue;
            }
            let began = tokio::time::Instant::now();
            let batch = &changes[range.clone()];
            match self.retried(|| self.store.commit(batch)).await {
                Ok(written) => {
                    self.telemetry.committed(began.elapsed().as_secs_f64());
                    for (index, written) in range.zip(written) {
                        outcomes[index] = Some(match written {
                            Written::Committed => Outcome::Committed,
                            Written::LostRace => Outcome::LostRace,
                        });
                    }
                }
                Err(error) if error.is_transient() => break, // abandoned: as if nothing was known
                Err(error) if range.len() == 1 => {
                    outcomes[range.start] = Some(Outcome::Poisoned(error.to_string()));
                }
                Err(_) => {
                    let middle = range.start + range.len() / 2;
                    ranges.push(middle..range.end);
                    ranges.push(range.start..middle);
                }
            }
        }
        outcomes.into_iter().map(|outcome| outcome.unwrap_or(Outcome::LostRace)).collect()
    }

    /// Hands on what was committed, buries what was refused, acknowledges both.
    async fn settle(
        &self,
        groups: Vec<Group>,
        decided: Vec<Decided>,
        mut outcomes: HashMap<usize, (Outcome, Change)>,
        stored: &HashMap<SagaId, Stored>,
    ) -> Vec<Group> {
        let now = self.clock.now();
        let mut again = Vec::new();
        let mut letters = Vec::new();
        let mut finished = Vec::new();
        let mut reschedules = Vec::new();
        let mut posted = Vec::new();
        let mut created = HashSet::new();
        for (index, (group, mut decided)) in groups.into_iter().zip(decided).enumerate() {
            let mut refused = std::mem::take(&mut decided.refused);
            match outcomes.remove(&index) {
                Some((Outcome::LostRace, _)) => {
                    self.telemetry.lost_race();
                    again.push(group);
                    continue;
                }
                Some((Outcome::Poisoned(error), _)) => {
                    refused = group.refuse_all("store-rejected", &error);
                    decided.postings.clear(); // not stored, so not sent
                }
                Some((Outcome::Committed, change)) => {
                    self.committed(&change, &decided, stored, now);
                    created.extend((change.from_version == 0).then_some(group.saga));
                }
                None => {}
            }
            if let Some((name, version)) = &decided.unknown_definition {
                let error = format!("definition {name} version {version} is not published");
                refused = group.refuse_all("unknown-definition", &error);
            }
            decided.ignored.iter().for_each(|why: &Ignored| self.telemetry.ignored(why.as_str()));
            reschedules.extend(decided.reschedule);
            letters.extend(refused.iter().filter_map(|refused| self.letter(&group, refused, now)));
            let busy = self.clock.busy();
            posted.extend(
                decided.postings.into_iter().map(|posting| Posted { posting, busy: busy.clone() }),
            );
            finished.push(group);
        }
        if !self.graveyard.bury(letters).await {
            return Vec::new(); // abandoned: nothing is acknowledged
        }
        self.reschedule(&reschedules).await;
        again.extend(self.adopt(&mut finished, stored, &created).await);
        if self.shutdown.is_abandoned() {
            return Vec::new();
        }
        for item in finished.iter().flat_map(|group| &group.items) {
            if let Some(delivery) = &item.delivery {
                delivery.finish();
            }
        }
        for posted in posted {
            self.relay.send(posted).await;
        }
        again
    }

    /// Corrects due times where a clock was looked at and nothing was due.
    async fn reschedule(&self, sagas: &[(SagaId, u32, Option<Time>)]) {
        if sagas.is_empty() {
            return;
        }
        // Refused for good, it is looked at again when the claim runs out.
        let _ = self.retried(|| self.store.reschedule(sagas)).await;
        for due in sagas.iter().filter_map(|(.., due)| *due) {
            self.timers.due(due, self.clock.busy());
        }
    }

    /// Takes out the groups that are to be decided once more because of a parked message. It
    /// was parked while, on another worker, its order was being taken in. Whoever parks looks
    /// afterwards whether the saga has come, and whoever starts a saga looks afterwards whether
    /// something was parked: so at least one of the two sees the other.
    async fn adopt(
        &self,
        finished: &mut Vec<Group>,
        stored: &HashMap<SagaId, Stored>,
        created: &HashSet<SagaId>,
    ) -> Vec<Group> {
        let mut parking = Vec::new();
        for group in finished.iter_mut().filter(|group| !stored.contains_key(&group.saga)) {
            let deliveries = group.items.iter().filter_map(|item| item.delivery.as_ref());
            group.parked = deliveries.filter_map(|delivery| delivery.parked_as()).collect();
            parking.extend((!group.parked.is_empty()).then_some(group.saga));
        }
        let found = match parking.is_empty() {
            true => HashMap::new(),
            false => self.load(&parking).await.unwrap_or_default().0,
        };
        let newcomers = finished.iter().filter(|group| created.contains(&group.saga));
        let letters = self.parked(newcomers).await;
        let concerned = |group: &mut Group| {
            // Its items are in; only the letters are still to be taken in.
            group.settled = created.contains(&group.saga) && !for_group(group, &letters).is_empty();
            group.settled || (!group.parked.is_empty() && found.contains_key(&group.saga))
        };
        finished.extract_if(.., concerned).collect()
    }

    fn committed(
        &self,
        change: &Change,
        decided: &Decided,
        stored: &HashMap<SagaId, Stored>,
        now: Time,
    ) {
        let before = stored.get(&change.saga.id);
        if let Some(due) = change.due
            && before.and_then(|stored| stored.due) != Some(due)
        {
            self.timers.due(due, self.clock.busy());
        }
        let order = change.order.as_ref().or(before.map(|stored| &stored.order));
        let Some(order) = order else { return };
        for (row, (input, status)) in change.journal.iter().zip(&decided.seen) {
            self.telemetry.transition(&Seen {
                definition: &order.definition,
                order: &order.order_id,
                trace: &order.traceparent,
                saga: change.saga.id,
                status: *status,
                started_at: change.saga.started_at,
                input,
                effects: &row.effects,
                at: now,
            });
        }
    }

    /// The dead letter for an item that no saga takes. A fact or cancel request without any
    /// saga is parked until its order comes, and only if none of its sagas exists.
    fn letter(
        &self,
        group: &Group,
        (index, reason, error): &(usize, &'static str, String),
        now: Time,
    ) -> Option<DeadLetter> {
        let item = &group.items[*index];
        let Some(delivery) = &item.delivery else {
            // A clock: no message tells of it, so the log has to.
            self.telemetry.clock_refused(group.saga, reason, error);
            return None;
        };
        let is_unknown = *reason == Refusal::UnknownSaga.as_str();
        let letter = if is_unknown && delivery.order_id.is_some() && !is_reply(&item.what) {
            if !delivery.is_homeless() {
                return None;
            }
            delivery.park(error, now)
        } else {
            delivery.letter(reason, error, now)
        };
        self.telemetry.dead_letter(&letter.reason, &letter.source, error);
        Some(letter)
    }

    /// Does it again, with jittered backoff, for as long as the database is away.
    async fn retried<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut backoff = Backoff::default();
        loop {
            match attempt().await {
                Err(error) if error.is_transient() && !self.shutdown.is_abandoned() => {
                    self.telemetry.part(super::DATABASE, Some(&error));
                    backoff.wait().await;
                }
                result => {
                    self.telemetry.part(super::DATABASE, None);
                    return result;
                }
            }
        }
    }
}

enum Outcome {
    Committed,
    LostRace,
    /// The database will never take it.
    Poisoned(String),
}

fn is_reply(what: &What) -> bool {
    use crate::saga::Input;
    matches!(what, What::Input(Input::Reply(_) | Input::Probed { .. }))
}

fn order_of(group: &Group) -> Option<(String, String)> {
    group.items.iter().find_map(|item| match &item.what {
        What::Start { order, .. } => Some((order.tenant.clone(), order.order_id.clone())),
        What::Input(_) => None,
    })
}

/// The parked messages of a group's order.
fn for_group(group: &Group, parked: &[DeadLetter]) -> Vec<DeadLetter> {
    if parked.is_empty() {
        return Vec::new();
    }
    let Some((tenant, order_id)) = order_of(group) else { return Vec::new() };
    let is_ours = |letter: &&DeadLetter| {
        letter.tenant.as_ref() == Some(&tenant) && letter.order_id.as_ref() == Some(&order_id)
    };
    parked.iter().filter(is_ours).cloned().collect()
}
