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
use tokio::time::Instant;

use super::batch::{Decided, Desk, Group, UNKNOWN_DEFINITION, UNREADABLE_SAGA, decide, group};
use super::breakers::Breakers;
use super::burial::Graveyard;
use super::definitions::Definitions;
use super::inputs::Item;
use super::relay::{Posted, RelayHandle};
use super::timers::TimerHandle;
use super::turns::{Turns, is_alone};
use super::{Options, Shutdown, entrance};
use crate::catalog::Catalog;
use crate::clock::{Backoff, Clock};
use crate::saga::{Ignored, SagaId, Time};
use crate::store::StoreError::{Blocked, Rejected};
use crate::store::{Change, DeadLetter, Store, StoreError, Stored, Written};
use crate::telemetry::{Seen, Telemetry};

/// How often a group may lose its race, most of these behind a pause, before it is clear that
/// nobody else is in it: a saga that cannot be loaded and cannot be made.
const MAX_LOST_RACES: u32 = 10;
const NEVER_FIRST: &str = "its saga changes each time before it is stored, or is there in part";

/// What was stored and what was decided about it, by the place of its group in the batch.
struct Round {
    stored: HashMap<SagaId, Stored>,
    decided: Vec<Decided>,
    outcomes: HashMap<usize, (Written, Change)>,
}

impl Round {
    /// The database will never take what comes of these.
    fn refused(groups: &[Group], error: &str) -> Round {
        let refused = |group: &Group| Decided {
            refused: group.refuse_all("store-rejected", error),
            ..Decided::default()
        };
        let decided = groups.iter().map(refused).collect();
        Round { stored: HashMap::new(), decided, outcomes: HashMap::new() }
    }
}

/// Sagas that are stored, and why others cannot be read.
type Loaded = (HashMap<SagaId, Stored>, HashMap<SagaId, String>);

pub(super) struct Lane {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub telemetry: Arc<Telemetry>,
    pub definitions: Definitions,
    pub relay: RelayHandle,
    pub timers: TimerHandle,
    pub options: Arc<Options>,
    pub breakers: Arc<Breakers>,
    pub graveyard: Graveyard,
    pub shutdown: Shutdown,
}

impl Lane {
    /// Runs until all senders are gone and the queue is empty. What waits behind a pause then
    /// is let go: it was not acknowledged, so it comes again.
    pub async fn run(self, mut queue: mpsc::Receiver<Vec<Item>>) {
        let max = self.options.max_batch;
        let mut messages = Vec::with_capacity(max);
        let mut turns = Turns::default();
        loop {
            tokio::select! {
                taken = queue.recv_many(&mut messages, max) => {
                    if taken == 0 {
                        return;
                    }
                    let items: Vec<Item> = messages.drain(..).flatten().collect();
                    self.telemetry.batch(items.len());
                    turns.add(group(items));
                }
                () = turns.ripen() => {}
            }
            while let Some(groups) = turns.next() {
                self.round(groups, &mut turns).await;
                if self.shutdown.is_abandoned() {
                    return; // what was not acknowledged comes again
                }
            }
        }
    }

    /// One load, decide, commit, settle. While the database is away it begins anew each time:
    /// a decision is about now, and old by the time it could be stored. A batch in which
    /// something does not get through comes again in parts.
    async fn round(&self, groups: Vec<Group>, turns: &mut Turns) {
        let mut backoff = Backoff::default();
        while !self.shutdown.is_abandoned() {
            match self.attempt(&groups).await {
                Ok(round) => return self.settle(groups, round, turns).await,
                Err(Rejected { source, .. }) if is_alone(&groups) => {
                    let round = Round::refused(&groups, &source.to_string());
                    return self.settle(groups, round, turns).await;
                }
                Err(error) if error.blames_rows() || matches!(error, Blocked { .. }) => {
                    self.telemetry.batch_split(groups.len(), &error);
                    return turns.split(groups);
                }
                Err(error) => {
                    self.telemetry.part(super::DATABASE, Some(&error));
                    backoff.wait().await;
                }
            }
        }
    }

    async fn attempt(&self, groups: &[Group]) -> Result<Round, StoreError> {
        let ids: Vec<SagaId> = groups.iter().map(|group| group.saga).collect();
        let (stored, unreadable) = self.load(&ids).await?;
        // A repeated order, or one in whose favour this lane looks again: see `adopt`.
        let known = groups.iter().filter(|group| stored.contains_key(&group.saga));
        let parked = self.parked(known).await?;
        let mut decided = self.decide(groups, &stored, &parked).await;
        for (group, decided) in groups.iter().zip(&mut decided) {
            if let Some(error) = unreadable.get(&group.saga) {
                let beyond_us = Some((UNREADABLE_SAGA, error.clone()));
                *decided = Decided { beyond_us, ..Decided::default() };
            }
        }
        let (changes, index): (Vec<Change>, Vec<usize>) = decided
            .iter_mut()
            .enumerate()
            .filter_map(|(index, decided)| Some((decided.change.take()?, index)))
            .unzip();
        let written = self.commit(&changes).await?;
        self.telemetry.part(super::DATABASE, None);
        let outcomes = index.into_iter().zip(written.into_iter().zip(changes)).collect();
        Ok(Round { stored, decided, outcomes })
    }

    /// The stored sagas among these, and those that cannot be read, each with why.
    async fn load(&self, ids: &[SagaId]) -> Result<Loaded, StoreError> {
        let mut stored = Vec::new();
        let mut unreadable = HashMap::new();
        match self.store.load(ids).await {
            Ok(all) => stored = all,
            // One damaged row must not stall the lane: find it.
            Err(error) if error.blames_rows() => {
                for id in ids {
                    match self.store.load(std::slice::from_ref(id)).await {
                        Ok(one) => stored.extend(one),
                        Err(error) if error.blames_rows() => {
                            unreadable.insert(*id, error.to_string());
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
        Ok((stored.into_iter().map(|stored| (stored.saga.id, stored)).collect(), unreadable))
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
                breakers: &self.breakers,
            };
            let of = |group: &Group| {
                decide(&desk, group, stored.get(&group.saga), &group.parked_among(parked))
            };
            let decided: Vec<Decided> = groups.iter().map(of).collect();
            let is_unknown =
                |decided: &Decided| matches!(decided.beyond_us, Some((UNKNOWN_DEFINITION, _)));
            if !decided.iter().any(is_unknown) {
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
    async fn parked<'a>(
        &self,
        groups: impl Iterator<Item = &'a Group>,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let orders: HashSet<(String, String)> = groups.filter_map(Group::order).collect();
        if orders.is_empty() {
            return Ok(Vec::new());
        }
        let orders: Vec<(String, String)> = orders.into_iter().collect();
        let blocks = |error: StoreError| match error.blames_rows() {
            // A damaged letter, and no reason to refuse the order.
            true => Blocked { during: "looking for letters", source: error.into() },
            false => error,
        };
        self.store.parked(&orders).await.map_err(blocks)
    }

    async fn commit(&self, changes: &[Change]) -> Result<Vec<Written>, StoreError> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let began = Instant::now();
        let written = self.store.commit(changes).await?;
        self.telemetry.committed(began.elapsed().as_secs_f64());
        Ok(written)
    }

    /// Hands on what was committed, buries what was refused, acknowledges both.
    async fn settle(&self, groups: Vec<Group>, round: Round, turns: &mut Turns) {
        let Round { stored, decided, mut outcomes } = round;
        let now = self.clock.now();
        let catalog = self.definitions.current();
        let mut letters = Vec::new();
        let mut finished = Vec::new();
        let mut reschedules = Vec::new();
        let mut posted = Vec::new();
        let mut created = HashSet::new();
        for (index, (mut group, mut decided)) in groups.into_iter().zip(decided).enumerate() {
            let outcome = outcomes.remove(&index);
            match &outcome {
                Some((Written::LostRace, _)) => {
                    self.telemetry.lost_race();
                    group.lost_races += 1;
                    if group.lost_races < MAX_LOST_RACES {
                        turns.again(group);
                        continue;
                    }
                    decided = Decided {
                        refused: group.refuse_all(UNREADABLE_SAGA, NEVER_FIRST),
                        ..Decided::default()
                    };
                }
                Some((Written::Committed, change)) => {
                    self.committed(change, &decided, &stored, &catalog, now);
                    created.extend((change.from_version == 0).then_some(group.saga));
                }
                None => {}
            }
            if let Some((reason, error)) = &decided.beyond_us {
                if self.sets_aside(&mut group, reason, error) {
                    turns.again(group);
                    continue;
                }
                decided.refused = group.refuse_all(reason, error);
            }
            let change = outcome.as_ref().map(|(_, change)| change);
            entrance::tell(&group, &decided, stored.get(&group.saga), change, &catalog);
            group.tell_replays(&decided.replayed);
            decided.ignored.iter().for_each(|why: &Ignored| self.telemetry.ignored(why.as_str()));
            reschedules.extend(decided.reschedule);
            let letter = |refused| self.letter(&group, refused, now);
            letters.extend(decided.refused.iter().filter_map(letter));
            let busy = self.clock.busy();
            posted.extend(
                decided.postings.into_iter().map(|posting| Posted { posting, busy: busy.clone() }),
            );
            finished.push(group);
        }
        if !self.graveyard.bury(letters).await {
            return; // abandoned: nothing is acknowledged
        }
        self.reschedule(&reschedules).await;
        for group in self.adopt(&mut finished, &stored, &created).await {
            turns.again(group);
        }
        for delivery in finished.iter().flat_map(Group::deliveries) {
            delivery.finish();
        }
        for posted in posted {
            self.relay.send(posted).await;
        }
    }

    /// Whether a group waits for another look: a version that this worker does not know may be
    /// published soon, and another worker may be new enough for a saga that this one cannot
    /// read. It gets the messages when this one is replaced. A clock comes again by itself.
    fn sets_aside(&self, group: &mut Group, reason: &str, error: &str) -> bool {
        // A letter that is replayed is kept anyway, and tells at once.
        let Some(delivery) = group.deliveries().find(|delivery| !delivery.is_replay()) else {
            return false;
        };
        if group.aside_since.is_none() {
            self.telemetry.set_aside(delivery.source(), reason, error);
        }
        group.aside_since.get_or_insert_with(Instant::now).elapsed() < self.options.set_aside
    }

    /// Corrects due times where a clock was looked at and nothing was due. Where that fails it
    /// is looked at again, once the claim runs out.
    async fn reschedule(&self, sagas: &[(SagaId, u32, Option<Time>)]) {
        if sagas.is_empty() || self.store.reschedule(sagas).await.is_err() {
            return;
        }
        for due in sagas.iter().filter_map(|(.., due)| *due) {
            self.timers.due(due, self.clock.busy());
        }
    }

    /// Takes out the groups that are to be decided once more because of a parked message. It
    /// was parked while, on another worker, its order was being taken in. Whoever parks looks
    /// afterwards whether the saga has come, and whoever starts a saga looks afterwards whether
    /// something was parked: so at least one of the two sees the other. Where the look fails
    /// they are decided once more, to look again.
    async fn adopt(
        &self,
        finished: &mut Vec<Group>,
        stored: &HashMap<SagaId, Stored>,
        created: &HashSet<SagaId>,
    ) -> Vec<Group> {
        let mut parking = Vec::new();
        for group in finished.iter_mut().filter(|group| !stored.contains_key(&group.saga)) {
            group.parked = group.deliveries().filter_map(|delivery| delivery.parked_as()).collect();
            parking.extend((!group.parked.is_empty()).then_some(group.saga));
        }
        let found = match parking.is_empty() {
            true => Some(HashMap::new()),
            false => self.load(&parking).await.ok().map(|(found, _)| found),
        };
        let newcomers = finished.iter().filter(|group| created.contains(&group.saga));
        let letters = self.parked(newcomers).await.ok();
        let has_letter = |group: &Group| {
            letters.as_ref().is_none_or(|letters| !group.parked_among(letters).is_empty())
        };
        let has_come = |saga: &SagaId| found.as_ref().is_none_or(|found| found.contains_key(saga));
        let concerned = |group: &mut Group| {
            // Its items are in; only the letters are still to be taken in.
            group.settled = created.contains(&group.saga) && has_letter(group);
            group.settled || (!group.parked.is_empty() && has_come(&group.saga))
        };
        finished.extract_if(.., concerned).collect()
    }

    fn committed(
        &self,
        change: &Change,
        decided: &Decided,
        stored: &HashMap<SagaId, Stored>,
        catalog: &Catalog,
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
        for step in &decided.booked.unnamed {
            self.telemetry.shipment_unnamed(&order.definition, &order.order_id, step);
        }
        // It was decided by this definition, and none is ever taken away.
        let Some(loaded) = catalog.get(&order.definition, order.definition_version) else { return };
        for (row, moved) in change.journal.iter().zip(&decided.seen) {
            self.telemetry.transition(&Seen {
                definition: &loaded.definition,
                order: &order.order_id,
                trace: &order.traceparent,
                saga: change.saga.id,
                started_at: change.saga.started_at,
                moved,
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
        if delivery.is_call() {
            return None; // its caller is told
        }
        let letter = if group.waits_for_order(*index, reason) {
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
}
