//! What a subscription has in hand: shared by the one who polls, the one who receives and the
//! tickets. No IO.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rdkafka::message::OwnedHeaders;
use tokio::sync::Notify;

use super::ledger::{Ledger, Next, Record};
use super::message::incoming_headers;
use crate::broker::{Channel, Incoming, Ticket};

/// Topic and partition.
pub type Place = (String, i32);

/// A message as it was fetched.
pub struct Fetched {
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub body: Bytes,
    pub headers: Option<OwnedHeaders>,
}

/// A delivery: who comes back with another tenure speaks of a time that is over.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub place: Place,
    pub tenure: u64,
    pub number: u64,
}

/// What the group decided, to be answered by the one who polls.
pub enum Rebalance {
    Assigned(Vec<Place>),
    Revoked(Vec<Place>),
}

pub struct Subscription {
    pub channel: Channel,
    prefetch: usize,
    state: Mutex<State>,
    /// There is something to do for the one who polls.
    pub stirred: Notify,
    /// There is something to take, or there will be nothing more.
    pub handed: Notify,
}

#[derive(Default)]
pub struct State {
    partitions: BTreeMap<Place, Partition>,
    ready: VecDeque<(Delivery, Option<u32>, Fetched)>,
    /// Tickets that exist, those of earlier tenures included.
    tickets: usize,
    tenures: u64,
    /// Why there will be nothing more.
    ended: Option<String>,
    /// Commits that failed one after the other, and whether one did since the last was due.
    failed_commits: u32,
    is_resting: bool,
    pub rebalances: VecDeque<Rebalance>,
    /// It is being closed: whatever the group decides is right.
    pub closing: bool,
}

struct Partition {
    tenure: u64,
    /// `None` until the first message, where nothing was ever committed.
    ledger: Option<Ledger>,
    buries: bool,
    waiting: VecDeque<Fetched>,
    /// Of this tenure.
    tickets: usize,
    /// The next message waits for a record to be committed.
    wants_record: bool,
    leaving: bool,
}

impl Subscription {
    pub fn new(channel: Channel, prefetch: u16) -> Arc<Subscription> {
        Arc::new(Subscription {
            channel,
            prefetch: usize::from(prefetch.max(1)),
            state: Mutex::default(),
            stirred: Notify::new(),
            handed: Notify::new(),
        })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what may be handed out, or learns that nothing more will be.
    pub fn take(self: &Arc<Self>, max: usize) -> Result<Vec<Incoming>, String> {
        let mut state = self.state();
        if let Some(why) = &state.ended {
            return Err(why.clone());
        }
        let most = max.max(1).min(state.ready.len());
        let taken: Vec<_> = state.ready.drain(..most).collect();
        state.tickets += taken.len();
        for (delivery, ..) in &taken {
            if let Some(partition) = state.partitions.get_mut(&delivery.place) {
                partition.tickets += 1;
            }
        }
        drop(state);
        Ok(taken
            .into_iter()
            .map(|(delivery, returns, fetched)| self.incoming(delivery, returns, fetched))
            .collect())
    }

    fn incoming(
        self: &Arc<Self>,
        delivery: Delivery,
        returns: Option<u32>,
        fetched: Fetched,
    ) -> Incoming {
        let mut headers = incoming_headers(fetched.headers.as_ref(), &self.channel);
        if let Some(returns) = returns {
            headers.insert("x-delivery-count".to_owned(), returns.to_string());
        }
        let mut out = Out { subscription: self.clone(), delivery: Some(delivery) };
        Incoming {
            channel: self.channel.clone(),
            body: fetched.body,
            headers,
            redelivered: returns.is_some(),
            ticket: Ticket::new(move || out.done()),
        }
    }

    /// The end, for everybody who asks from now on. The first reason counts.
    pub fn end(&self, why: &str) {
        let mut state = self.state();
        state.ended.get_or_insert_with(|| why.to_owned());
        state.ready.clear();
        state.partitions.values_mut().for_each(|partition| partition.waiting.clear());
        drop(state);
        self.handed.notify_one();
        self.stirred.notify_one();
    }

    /// A delivery came back: dealt with, or given up.
    pub fn settle(&self, delivery: &Delivery, is_done: bool) {
        let mut state = self.state();
        state.tickets -= 1;
        let mut given_up = false;
        if let Some(partition) = state.held(delivery) {
            partition.tickets -= 1;
            match (is_done, &mut partition.ledger) {
                (true, Some(ledger)) => drop(ledger.finish(delivery.number)),
                _ => given_up = !partition.leaving,
            }
        }
        drop(state);
        if given_up {
            self.end("a delivery was not acknowledged");
        }
        self.stirred.notify_one();
    }

    /// A message that was delivered too often is where the dead ones are.
    pub fn buried(&self, delivery: &Delivery) {
        if let Some(Partition { ledger: Some(ledger), .. }) = self.state().held(delivery) {
            ledger.finish(delivery.number);
        }
        self.stirred.notify_one();
    }

    /// Hands out as far as the prefetch and the records allow; returns what is to be buried.
    pub fn advance(&self) -> Vec<(Delivery, Fetched)> {
        let mut state = self.state();
        let mut buried = Vec::new();
        let State { partitions, ready, ended, .. } = &mut *state;
        let had = ready.len();
        let mut out: usize = partitions.values().map(Partition::out).sum();
        let open = partitions.iter_mut().filter(|(_, partition)| !partition.leaving);
        for (place, partition) in open {
            let Partition { waiting, ledger: Some(ledger), tenure, wants_record, .. } = partition
            else {
                continue;
            };
            let before = ledger.out();
            *wants_record = false;
            while out + ledger.out() - before < self.prefetch && ended.is_none() {
                let Some(offset) = waiting.front().map(|fetched| fetched.offset) else { break };
                let delivery = |number| Delivery { place: place.clone(), tenure: *tenure, number };
                match ledger.next(offset) {
                    Next::HandOut { number, returns } => {
                        let fetched = waiting.pop_front().expect("it is the front");
                        ready.push_back((delivery(number), returns, fetched));
                    }
                    Next::Skip => drop(waiting.pop_front()),
                    Next::Bury { number } => {
                        let fetched = waiting.pop_front().expect("it is the front");
                        buried.push((delivery(number), fetched));
                    }
                    Next::Wait => break,
                    Next::Commit => {
                        *wants_record = true;
                        break;
                    }
                }
            }
            out = out + ledger.out() - before;
        }
        let more = ready.len() > had;
        drop(state);
        if more {
            self.handed.notify_one();
        }
        buried
    }
}

impl State {
    fn held(&mut self, delivery: &Delivery) -> Option<&mut Partition> {
        let partition = self.partitions.get_mut(&delivery.place)?;
        (partition.tenure == delivery.tenure).then_some(partition)
    }

    pub fn tickets(&self) -> usize {
        self.tickets
    }

    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// The topic is gone: what was dealt with of it says nothing about the next one of its name.
    pub fn forget(&mut self) {
        self.partitions.clear();
        self.ready.clear();
    }

    pub fn waiting(&self) -> usize {
        self.partitions.values().map(|partition| partition.waiting.len()).sum()
    }

    pub fn places(&self) -> Vec<Place> {
        self.partitions.keys().cloned().collect()
    }

    pub fn fetched(&mut self, place: Place, fetched: Fetched) {
        let Some(partition) = self.partitions.get_mut(&place) else { return };
        if partition.leaving || self.ended.is_some() {
            return;
        }
        let (offset, buries) = (fetched.offset, partition.buries);
        partition.ledger.get_or_insert_with(|| Ledger::new(Record::parse(offset, ""), buries));
        partition.waiting.push_back(fetched);
    }

    /// A partition is ours, with what was committed of it, if anything was.
    pub fn assigned(&mut self, place: Place, ledger: Option<Ledger>, buries: bool) {
        self.tenures += 1;
        let partition = Partition {
            tenure: self.tenures,
            ledger,
            buries,
            waiting: VecDeque::new(),
            tickets: 0,
            wants_record: false,
            leaving: false,
        };
        self.partitions.insert(place, partition);
    }

    /// Nothing more is handed out of these.
    pub fn leaving(&mut self, places: &[Place]) {
        for place in places {
            if let Some(partition) = self.partitions.get_mut(place) {
                partition.leaving = true;
                partition.waiting.clear();
            }
        }
        self.ready.retain(|(delivery, ..)| !places.contains(&delivery.place));
    }

    /// Whether all that was handed out of these has come back.
    pub fn are_settled(&self, places: &[Place]) -> bool {
        let held = places.iter().filter_map(|place| self.partitions.get(place));
        held.map(|partition| partition.tickets).sum::<usize>() == 0
    }

    /// They are ours no more; returns what is to be written down of them.
    pub fn left(&mut self, places: &[Place]) -> Vec<(Place, Record)> {
        self.leaving(places);
        let left = places.iter().filter_map(|place| {
            let partition = self.partitions.remove(place)?;
            Some((place.clone(), partition.last_record()?))
        });
        left.collect()
    }

    /// What must be committed now: for messages that wait for it, and with them, or when it is
    /// `due`, for all that was dealt with. After a commit that failed nothing before the next is
    /// due.
    pub fn records(&mut self, due: bool) -> Vec<(Place, Record)> {
        self.is_resting &= !due;
        let is_wanted = |partition: &Partition| partition.wants_record && !partition.leaving;
        if self.is_resting || !(due || self.partitions.values().any(is_wanted)) {
            return Vec::new();
        }
        let mut records = Vec::new();
        for (place, partition) in &mut self.partitions {
            let Some(ledger) = &partition.ledger else { continue };
            let record = match partition.waiting.front() {
                Some(next) if partition.wants_record => ledger.record_for(next.offset),
                _ if ledger.has_news() => ledger.record_on_the_way(),
                _ => continue,
            };
            records.push((place.clone(), record));
        }
        records
    }

    /// What was to be committed is.
    pub fn committed(&mut self, records: Vec<(Place, Record)>) {
        self.failed_commits = 0;
        for (place, record) in records {
            if let Some(Partition { ledger: Some(ledger), .. }) = self.partitions.get_mut(&place)
                && !ledger.is_behind(&record)
            {
                ledger.confirm(record);
            }
        }
    }

    /// No answer, or no good one.
    pub fn commit_failed(&mut self) {
        self.failed_commits += 1;
        self.is_resting = true;
    }

    pub fn failed_commits(&self) -> u32 {
        self.failed_commits
    }
}

impl Partition {
    fn out(&self) -> usize {
        self.ledger.as_ref().map_or(0, Ledger::out)
    }

    fn last_record(&self) -> Option<Record> {
        self.ledger.as_ref()?.last_record()
    }
}

/// A delivery that is out.
struct Out {
    subscription: Arc<Subscription>,
    delivery: Option<Delivery>,
}

impl Out {
    fn done(&mut self) {
        if let Some(delivery) = self.delivery.take() {
            self.subscription.settle(&delivery, true);
        }
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if let Some(delivery) = self.delivery.take() {
            self.subscription.settle(&delivery, false);
        }
    }
}
