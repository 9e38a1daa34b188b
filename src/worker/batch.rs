//! Deciding a batch in memory: stored sagas and inputs in, changes and messages out.
//!
//! Nothing here waits or fails. The lane loads before and commits after.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use super::breakers::Breakers;
use super::delivery::Delivery;
use super::inputs::{Item, What, reread};
use super::message::{Posting, Setting, postings};
use super::shipments::{Booked, is_current};
use super::timers;
use crate::catalog::{Catalog, LoadedDefinition};
use crate::saga::{self, Ignored, Input, Refusal, Saga, SagaId, Status, Time, Transition, Verdict};
use crate::store::{Change, DeadLetter, JournalRow, OrderRow, Outcome, ScanRow, Stored};
use crate::telemetry::Moved;

/// Why a message is refused that a newer version may understand. Both are stored as reasons of
/// dead letters.
pub(super) const UNREADABLE_SAGA: &str = "unreadable-saga";
pub(super) const UNKNOWN_DEFINITION: &str = "unknown-definition";

/// All inputs of one saga in a batch, in the order in which they came.
pub(super) struct Group {
    pub saga: SagaId,
    pub items: Vec<Item>,
    /// Dead letters as which its messages were parked in an earlier round.
    pub parked: Vec<Uuid>,
    /// The items went in with an earlier round; only what was parked is still to be taken in.
    pub settled: bool,
    /// The message that starts this saga and others; they are stored together or not at all.
    pub kin: Option<usize>,
    /// The most groups, itself included, that it may be decided and stored with.
    pub company: usize,
    /// How often it did not get through.
    pub attempts: u32,
    /// How often somebody else was faster.
    pub lost_races: u32,
    /// Since when it is set aside.
    pub aside_since: Option<Instant>,
}

impl Group {
    fn new(first: Item) -> Group {
        Group {
            saga: first.saga,
            kin: kin(&first),
            items: vec![first],
            parked: Vec::new(),
            settled: false,
            company: usize::MAX,
            attempts: 0,
            lost_races: 0,
            aside_since: None,
        }
    }

    fn push(&mut self, item: Item) {
        self.kin = self.kin.or(kin(&item));
        self.items.push(item);
    }

    /// The messages that it came from.
    pub fn deliveries(&self) -> impl Iterator<Item = &Arc<Delivery>> {
        self.items.iter().filter_map(|item| item.delivery.as_ref())
    }

    /// Tenant and id of the order that starts here, if one does.
    pub fn order(&self) -> Option<(String, String)> {
        self.items.iter().find_map(|item| match &item.what {
            What::Start { order, .. } => Some((order.tenant.clone(), order.order_id.clone())),
            What::Input(_) | What::Scanned(..) => None,
        })
    }

    /// Those of these letters that wait for the order which starts here.
    pub fn parked_among(&self, letters: &[DeadLetter]) -> Vec<DeadLetter> {
        if letters.is_empty() {
            return Vec::new();
        }
        let Some((tenant, order_id)) = self.order() else { return Vec::new() };
        let is_ours = |letter: &&DeadLetter| {
            letter.tenant.as_ref() == Some(&tenant) && letter.order_id.as_ref() == Some(&order_id)
        };
        letters.iter().filter(is_ours).cloned().collect()
    }

    /// Whether this item, refused for that reason, waits for its order: a fact or a cancel
    /// request without a saga.
    pub fn waits_for_order(&self, index: usize, reason: &str) -> bool {
        let item = &self.items[index];
        let names_order = |delivery: &Arc<Delivery>| delivery.order_id.is_some();
        reason == Refusal::UnknownSaga.as_str()
            && !item.what.is_reply()
            && item.delivery.as_ref().is_some_and(names_order)
    }

    /// The items that are still to be decided.
    fn open(&self) -> impl Iterator<Item = (usize, &Item)> {
        self.items.iter().enumerate().filter(|_| !self.settled)
    }

    /// Notes what came of the letters among its items.
    pub fn tell_replays(&self, replayed: &[(usize, Outcome)]) {
        for (index, outcome) in replayed {
            if let Some(delivery) = &self.items[*index].delivery {
                delivery.note(*outcome, "", "");
            }
        }
    }

    /// Every open item, refused for the same reason.
    pub fn refuse_all(
        &self,
        reason: &'static str,
        error: &str,
    ) -> Vec<(usize, &'static str, String)> {
        self.open().map(|(item, _)| item).map(|item| (item, reason, error.to_owned())).collect()
    }
}

/// What the sagas have in common that one message starts.
fn kin(item: &Item) -> Option<usize> {
    let delivery = item.delivery.as_ref()?;
    let starts_several = matches!(item.what, What::Start { .. }) && delivery.inputs() > 1;
    starts_several.then(|| Arc::as_ptr(delivery).addr())
}

/// Sorts a batch by saga, keeping the order of arrival within each.
pub(super) fn group(items: Vec<Item>) -> Vec<Group> {
    let mut places: HashMap<SagaId, usize> = HashMap::with_capacity(items.len());
    let mut groups: Vec<Group> = Vec::new();
    for item in items {
        match places.entry(item.saga) {
            Entry::Occupied(place) => groups[*place.get()].push(item),
            Entry::Vacant(place) => {
                place.insert(groups.len());
                groups.push(Group::new(item));
            }
        }
    }
    groups
}

/// What the decisions on one saga's inputs come to.
#[derive(Default)]
pub(super) struct Decided {
    /// What to store, if anything changed.
    pub change: Option<Change>,
    /// The same messages as in the change's outbox, for the relay.
    pub postings: Vec<Posting>,
    /// Per transition: what became of the saga, for telemetry.
    pub seen: Vec<Moved>,
    /// Items that cannot belong to this saga, with the reason and why.
    pub refused: Vec<(usize, &'static str, String)>,
    pub ignored: Vec<Ignored>,
    /// What came of items that are replayed letters and were not refused.
    pub replayed: Vec<(usize, Outcome)>,
    /// Shipments that were booked.
    pub booked: Booked,
    /// Scans to keep with the saga.
    pub scans: Vec<ScanRow>,
    /// Where a clock was due and nothing came of it: when it is really next due.
    pub reschedule: Option<(SagaId, u32, Option<Time>)>,
    /// A newer version may be able to decide: the reason why this one cannot, and the words.
    pub beyond_us: Option<(&'static str, String)>,
}

/// What all decisions of a batch have in common.
pub(super) struct Desk<'a> {
    pub catalog: &'a Catalog,
    pub source: &'a str,
    pub now: Time,
    /// Until when the relay of this worker has the new outbox rows to itself.
    pub claimed_until: Time,
    pub breakers: &'a Breakers,
}

/// Decides all inputs of one saga, one after the other.
pub(super) fn decide(
    desk: &Desk<'_>,
    group: &Group,
    stored: Option<&Stored>,
    parked: &[DeadLetter],
) -> Decided {
    let mut decided = Decided::default();
    let start = group.items.iter().find_map(|item| match &item.what {
        What::Start { definition, order } => Some((definition.clone(), order.clone())),
        What::Input(_) | What::Scanned(..) => None,
    });
    let (definition, order, from_version, saga, due) = match (stored, start) {
        (Some(stored), _) => {
            let OrderRow { definition, definition_version, .. } = &*stored.order;
            let Some(known) = desk.catalog.get(definition, *definition_version) else {
                let version = definition_version;
                let error = format!("definition {definition} version {version} is not known");
                decided.beyond_us = Some((UNKNOWN_DEFINITION, error));
                return decided;
            };
            if stored.saga.steps.len() != known.definition.steps().len() {
                decided.beyond_us = Some((UNREADABLE_SAGA, OTHER_STEPS.to_owned()));
                return decided;
            }
            (known.clone(), stored.order.clone(), stored.version, stored.saga.clone(), stored.due)
        }
        (None, Some((definition, order))) => {
            let saga = Saga::created(&definition.definition, group.saga);
            (definition, order, 0, saga, None)
        }
        (None, None) => {
            decided.refused = group.refuse_all(Refusal::UnknownSaga.as_str(), NO_SAGA);
            return decided;
        }
    };
    let mut run = Run {
        desk,
        loaded: definition,
        order,
        saga,
        version: from_version,
        journal: Vec::new(),
        decided: &mut decided,
    };
    let revived = run.all(group, parked);
    let Run { loaded, saga, version, journal, order, .. } = run;
    let next = desk.breakers.next_look(&loaded.definition, &saga, desk.now);
    finish(
        &mut decided,
        Written { group, from_version, saga, version, journal, order, due, next, revived },
    );
    decided
}

const NO_SAGA: &str =
    "there is no saga for it: its order was never taken in, or is still on its way";

const OTHER_STEPS: &str = "its stored state has other steps than its definition: it was damaged";

struct Written<'a> {
    group: &'a Group,
    from_version: u32,
    saga: Saga,
    version: u32,
    journal: Vec<JournalRow>,
    order: Arc<OrderRow>,
    due: Option<Time>,
    /// When it is next of use to look at it.
    next: Option<Time>,
    revived: Vec<Uuid>,
}

fn finish(decided: &mut Decided, written: Written<'_>) {
    let Written { group, from_version, saga, version, journal, order, due, next, revived } =
        written;
    let clock_fired = group.open().any(|(_, item)| *item.what.input() == Input::Clock);
    // A parked message that changes nothing any more still leaves the dead letters, and a scan
    // that changes nothing is kept.
    if version == from_version && revived.is_empty() && decided.scans.is_empty() {
        if clock_fired {
            decided.reschedule = Some((saga.id, version, timers::bucket(next)));
        }
        return;
    }
    let due = if clock_fired { timers::bucket(next) } else { timers::lazy_due(due, next) };
    decided.change = Some(Change {
        saga,
        from_version,
        order: (from_version == 0).then_some(order),
        journal,
        due,
        outbox: decided.postings.iter().map(|posting| posting.row()).collect(),
        revived,
        shipments: std::mem::take(&mut decided.booked.shipments),
        scans: std::mem::take(&mut decided.scans),
        audit: None,
    });
}

/// A saga going through its inputs.
struct Run<'a> {
    desk: &'a Desk<'a>,
    loaded: Arc<LoadedDefinition>,
    order: Arc<OrderRow>,
    saga: Saga,
    version: u32,
    journal: Vec<JournalRow>,
    decided: &'a mut Decided,
}

impl Run<'_> {
    /// Takes the start first, then what was parked for this order, then the rest.
    fn all(&mut self, group: &Group, parked: &[DeadLetter]) -> Vec<Uuid> {
        let is_start = |item: &Item| matches!(item.what, What::Start { .. });
        let mut revived = group.parked.clone();
        // A worker may have parked it and died before it could take it in from there.
        let parked_before =
            |item: &&Item| matches!(item.what, What::Input(Input::Fact(_) | Input::Cancel));
        let came_again = group.open().map(|(_, item)| item).filter(parked_before);
        revived.extend(came_again.filter_map(|item| item.delivery.as_ref()?.redelivered_as()));
        for (index, item) in group.open().filter(|(_, item)| is_start(item)) {
            self.one(index, item);
        }
        for letter in parked {
            revived.extend(self.revive(letter));
        }
        for (index, item) in group.open().filter(|(_, item)| !is_start(item)) {
            self.one(index, item);
        }
        revived
    }

    /// Takes in a message that came before the order. Its letter goes in the same commit.
    fn revive(&mut self, letter: &DeadLetter) -> Option<Uuid> {
        let (name, input) = reread(&letter.source, &letter.body, &letter.headers)?;
        let concerns_us = match &input {
            Input::Cancel => self.loaded.definition.cancels_on() == Some(name.as_str()),
            _ => self.loaded.definition.facts().contains(&name.as_str()),
        };
        if !concerns_us {
            return None;
        }
        if let Verdict::Ignored(why) = self.apply(&input, None) {
            self.decided.ignored.push(why);
        }
        Some(letter.id)
    }

    fn one(&mut self, index: usize, item: &Item) {
        if let What::Start { order, .. } = &item.what
            && !same_order(&self.order.payload, &order.payload)
        {
            let error = "an order with this id was taken in before, with other content";
            return self.decided.refused.push((index, "order-differs", error.to_owned()));
        }
        if let What::Scanned(_, scan) = &item.what {
            self.decided.scans.push((**scan).clone());
            if !is_current(&self.loaded.definition, &self.saga, scan) {
                return self.decided.ignored.push(Ignored::Stale);
            }
        }
        let cause = item.delivery.as_ref().and_then(|delivery| delivery.cause.as_deref());
        let before = self.saga.status;
        let outcome = match self.apply(item.what.input(), cause) {
            Verdict::Applied => self.outcome(item, before),
            Verdict::Ignored(why) => {
                self.decided.ignored.push(why);
                Outcome::Duplicate
            }
            Verdict::Refused(why) => {
                let error = format!("saga {} cannot take it", self.saga.id);
                return self.decided.refused.push((index, why.as_str(), error));
            }
        };
        if item.delivery.as_ref().is_some_and(|delivery| delivery.is_replay()) {
            self.decided.replayed.push((index, outcome));
        }
    }

    /// What came of an input that was applied.
    fn outcome(&self, item: &Item, before: Status) -> Outcome {
        let undoes = |status| matches!(status, Status::Compensating | Status::Compensated);
        if matches!(item.what, What::Start { .. }) {
            return Outcome::Started;
        }
        match undoes(self.saga.status) && !undoes(before) {
            true => Outcome::Compensating,
            false => Outcome::Advanced,
        }
    }

    fn apply(&mut self, input: &Input, cause: Option<&str>) -> Verdict {
        let (now, definition) = (self.desk.now, &self.loaded.definition);
        let moment = self.desk.breakers.moment(definition, &self.saga, now);
        let Transition { saga, effects, verdict } =
            saga::decide(definition, &self.saga, input, moment);
        self.desk.breakers.note(definition, &self.saga, input, &effects, now);
        if verdict != Verdict::Applied {
            return verdict;
        }
        self.decided.seen.push(Moved::between(&self.saga, &saga, input, now));
        self.decided.booked.note(&self.loaded.definition, &self.order, &self.saga, &saga);
        self.saga = saga;
        self.version += 1;
        let setting = Setting {
            source: self.desk.source,
            definition: &self.loaded.definition,
            order: &self.order,
            saga: &self.saga,
            version: self.version,
            now,
            claimed_until: self.desk.claimed_until,
            cause,
        };
        self.decided.postings.extend(postings(&setting, &effects));
        self.journal.push(JournalRow {
            version: self.version,
            moment,
            input: input.clone(),
            effects,
        });
        verdict
    }
}

/// Whether two payloads say the same, whatever their spacing and key order.
fn same_order(ours: &[u8], theirs: &[u8]) -> bool {
    let parse = |payload| serde_json::from_slice::<Value>(payload).ok();
    ours == theirs || parse(ours) == parse(theirs)
}
