//! The one who polls: serves a subscription until it ends, and says goodbye.
//!
//! It goes on polling whatever happens to what it fetched, or the group would take it for dead:
//! when enough is waiting it pauses the partitions, and polls all the same.
//!
//! What the group decides is answered here. Partitions that come are read from where their
//! [`Record`] says; those that go are given back when what is out of them has come back, or has
//! had the time to, and their offsets are written down before somebody else reads them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Message};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::{oneshot, watch};

use super::client::{ASK_TIMEOUT, Health, blocking, note};
use super::consuming::{Handle, answer, look};
use super::declaring::knows;
use super::ledger::{Ledger, Record};
use super::message::{DEAD_LETTER_REASON, LIMIT};
use super::publishing::Publisher;
use super::subscription::{Delivery, Fetched, Place, Rebalance, Subscription};
use super::topics::Names;
use crate::broker::{BrokerError, Channel};
use crate::clock::wait;
use crate::telemetry::chain;

/// Messages that are fetched ahead of the prefetch.
const AHEAD: usize = 500;
/// How long nothing is polled while so many wait, before the partitions are paused: what a
/// paused partition has fetched is fetched again.
const HOLD: Duration = Duration::from_millis(250);
/// How often what was dealt with is written down. It is also written with every record that
/// something waits for, and when a partition goes.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// Commits that may fail one after the other, a second apart.
const COMMIT_FAILURES: u32 = 20;
/// How long nothing may be heard before it is asked whether the topic is there and anybody
/// answers.
const LOOK_AFTER: Duration = Duration::from_secs(15);
/// How long what is out may still be dealt with when its partition goes. The group waits.
const LAST_OF_PARTITION: Duration = Duration::from_secs(5);
/// The same when the subscription has ended.
const LAST_TICKETS: Duration = Duration::from_secs(5);
/// Between two attempts to bury a message.
const BURY_AGAIN: Duration = Duration::from_secs(1);
/// Messages taken from the client at once.
const TAKEN_AT_ONCE: usize = 200;

pub struct Poller {
    pub handle: Handle,
    pub subscription: Arc<Subscription>,
    pub health: Health,
    pub publisher: Arc<Publisher>,
    pub names: Names,
    /// The topic that is asked for.
    pub looked_for: String,
    pub closing: watch::Receiver<bool>,
}

/// What waits for something.
struct Under {
    /// Records of partitions that are about to be ours.
    arriving: Option<Reading>,
    /// Partitions that go when what is out has come back, or when the time is up.
    leaving: Option<Vec<Place>>,
    time_to_leave: Option<BoxFuture<'static, ()>>,
    /// At most one at a time, so that none overtakes a later one.
    commit: Option<Committing>,
    /// A question whether anybody is there.
    asking: Option<BoxFuture<'static, Result<(), BrokerError>>>,
    /// The subscription has ended, or the consumer is gone; this is how long its tickets have.
    going: Option<BoxFuture<'static, ()>>,
    /// The cluster has said that the topic is not there.
    is_missing: bool,
    is_paused: bool,
    has_heard: bool,
    commit_due: bool,
}

type Committing = BoxFuture<'static, (Vec<(Place, Record)>, KafkaResult<()>)>;
type Reading = BoxFuture<'static, (Vec<Place>, KafkaResult<TopicPartitionList>)>;

impl Poller {
    pub async fn run(self, mut dropped: oneshot::Receiver<()>) {
        let mut under = Under {
            arriving: None,
            leaving: None,
            time_to_leave: None,
            commit: None,
            asking: None,
            going: None,
            is_missing: false,
            is_paused: false,
            has_heard: true,
            commit_due: false,
        };
        let client = self.handle.client().clone();
        let mut closing = self.closing.clone();
        let (mut tick, mut silence) = (Box::pin(wait(COMMIT_EVERY)), Box::pin(wait(LOOK_AFTER)));
        let mut hold: Option<BoxFuture<'static, ()>> = None;
        loop {
            self.step(&mut under);
            if under.going.is_none() && self.subscription.state().has_ended() {
                under.going = Some(Box::pin(wait(LAST_TICKETS)));
            }
            let is_gone = under.going.is_some();
            if is_gone && self.subscription.state().tickets() == 0 {
                break;
            }
            let is_full = !under.is_paused && self.subscription.state().waiting() >= AHEAD;
            hold = is_full.then(|| hold.take().unwrap_or_else(|| Box::pin(wait(HOLD))));
            tokio::select! {
                () = closed(&mut closing) => break,
                _ = &mut dropped, if !is_gone => self.subscription.end("the consumer is gone"),
                () = of(&mut under.going) => break,
                () = self.subscription.stirred.notified() => {}
                () = &mut tick => {
                    tick = Box::pin(wait(COMMIT_EVERY));
                    under.commit_due = true;
                }
                () = of(&mut hold) => self.pause(&mut under),
                (places, read) = of(&mut under.arriving) => {
                    under.arriving = None;
                    self.arrive(places, read);
                    // What was paused before stays so, and what came is not: all go on, or wait
                    // together again. Also when nothing came: each rebalance ends like this.
                    self.resume(&mut under);
                }
                () = of(&mut under.time_to_leave) => under.time_to_leave = None,
                (records, answer) = of(&mut under.commit) => {
                    under.commit = None;
                    self.committed(records, answer, &mut under);
                }
                answered = of(&mut under.asking) => {
                    under.asking = None;
                    self.answered(answered, &mut under);
                }
                () = &mut silence => {
                    silence = Box::pin(wait(LOOK_AFTER));
                    self.ask_after_silence(&mut under);
                }
                fetched = client.recv(), if !is_full => {
                    under.has_heard = true;
                    self.receive(fetched, &mut under);
                    for _ in 1..TAKEN_AT_ONCE {
                        match client.recv().now_or_never() {
                            Some(fetched) => self.receive(fetched, &mut under),
                            None => break,
                        }
                    }
                }
            }
        }
        drop(client);
        self.farewell(under).await;
    }

    /// Whatever can be done now.
    fn step(&self, under: &mut Under) {
        let rebalances = std::mem::take(&mut self.subscription.state().rebalances);
        for rebalance in rebalances {
            match rebalance {
                Rebalance::Assigned(places) => under.arriving = Some(self.read(places)),
                Rebalance::Revoked(places) => {
                    self.subscription.state().leaving(&places);
                    under.leaving = Some(places);
                    // They also go when their topic is deleted. An offset of it that was written
                    // down after that would be taken for one of the next topic of its name.
                    under.is_missing = true;
                    self.ask(under);
                    under.time_to_leave = Some(Box::pin(wait(LAST_OF_PARTITION)));
                }
            }
        }
        let may_leave = under.leaving.as_ref().is_some_and(|places| {
            under.time_to_leave.is_none() || self.subscription.state().are_settled(places)
        });
        if may_leave && under.commit.is_none() && under.asking.is_none() {
            self.leave(under);
        }
        for (delivery, fetched) in self.subscription.advance() {
            self.bury(delivery, fetched);
        }
        if self.is_recorded() && under.commit.is_none() {
            let records = self.subscription.state().records(under.commit_due);
            under.commit_due = false;
            under.commit = self.commit(records);
        }
        let is_drained = self.subscription.state().waiting() < AHEAD / 2;
        if under.is_paused && is_drained && under.going.is_none() {
            self.resume(under);
        }
    }

    fn is_recorded(&self) -> bool {
        Names::has_group(&self.subscription.channel)
    }

    fn receive(&self, fetched: KafkaResult<BorrowedMessage<'_>>, under: &mut Under) {
        match fetched {
            Ok(message) => {
                let place = (message.topic().to_owned(), message.partition());
                let fetched = Fetched {
                    offset: message.offset(),
                    key: message.key().map(<[u8]>::to_vec),
                    body: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
                    headers: message.headers().map(rdkafka::message::BorrowedHeaders::detach),
                };
                self.subscription.state().fetched(place, fetched);
            }
            Err(error) => {
                note(&self.health, &error, &chain(&error));
                if ends(&error) {
                    self.end(&error);
                } else if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
                    // For a moment that is so whenever the only connection is made anew.
                    self.ask(under);
                } else if is_missing(&error) {
                    // So it is for a moment after the topic was made, and from when it is deleted.
                    under.is_missing = true;
                    self.ask(under);
                }
            }
        }
    }

    fn end(&self, error: &dyn std::error::Error) {
        self.subscription.end(&chain(error));
    }

    fn pause(&self, under: &mut Under) {
        under.is_paused = true;
        let _ = self.handle.client().pause(&list(self.subscription.state().places()));
    }

    fn resume(&self, under: &mut Under) {
        under.is_paused = false;
        let _ = self.handle.client().resume(&list(self.subscription.state().places()));
    }

    fn ask_after_silence(&self, under: &mut Under) {
        if !under.has_heard {
            self.ask(under);
        }
        under.has_heard = false;
    }

    /// Asks whether the topic is there.
    fn ask(&self, under: &mut Under) {
        let (client, topic) = (self.handle.client().clone(), self.looked_for.clone());
        let health = self.health.clone();
        let question = async move { look(&client, &topic, &health).await.map(drop) };
        under.asking.get_or_insert_with(|| Box::pin(question));
    }

    fn answered(&self, answered: Result<(), BrokerError>, under: &mut Under) {
        let is_missing = std::mem::take(&mut under.is_missing);
        if let Err(error) = answered {
            self.end(&error);
            if is_missing {
                self.subscription.state().forget();
            }
        }
    }

    fn read(&self, places: Vec<Place>) -> Reading {
        let (client, asked) = (self.handle.client().clone(), list(places.iter().cloned()));
        Box::pin(async move {
            if places.is_empty() {
                return (places, Ok(asked));
            }
            let committed = blocking(move || client.committed_offsets(asked, ASK_TIMEOUT));
            (places, committed.await)
        })
    }

    /// Partitions are ours, and read from where their records say.
    fn arrive(&self, places: Vec<Place>, read: KafkaResult<TopicPartitionList>) {
        let buries = self.subscription.channel != Channel::Dead;
        let read = read.and_then(|read| {
            read.elements().iter().try_for_each(|element| element.error())?;
            Ok(read)
        });
        let read = match read {
            Ok(read) => read,
            Err(error) => {
                // The group waits for an answer all the same.
                answer(&**self.handle.client(), true, &list(places));
                return self.end(&error);
            }
        };
        let mut begin = TopicPartitionList::new();
        for element in read.elements() {
            let place = (element.topic().to_owned(), element.partition());
            let (from, ledger) = match element.offset() {
                Offset::Offset(offset) => {
                    let record = Record::parse(offset, element.metadata());
                    (Offset::Offset(offset), Some(Ledger::new(record, buries)))
                }
                _ => (Offset::Beginning, None),
            };
            if begin.add_partition_offset(&place.0, place.1, from).is_ok() {
                self.subscription.state().assigned(place, ledger, buries);
            }
        }
        answer(&**self.handle.client(), true, &begin);
    }

    /// Gives partitions back. The commit is on its way to the group's coordinator before the
    /// word that they are free.
    fn leave(&self, under: &mut Under) {
        let Some(places) = under.leaving.take() else { return };
        under.time_to_leave = None;
        let records = self.subscription.state().left(&places);
        if let Some(records) = offsets(&records) {
            let _ = self.handle.client().commit(&records, CommitMode::Async);
        }
        answer(&**self.handle.client(), false, &list(places));
    }

    /// Commits on a thread of its own: only so is the answer told.
    fn commit(&self, records: Vec<(Place, Record)>) -> Option<Committing> {
        let offsets = offsets(&records)?;
        let client = self.handle.client().clone();
        Some(Box::pin(async move {
            let answer = blocking(move || client.commit(&offsets, CommitMode::Sync)).await;
            (records, answer)
        }))
    }

    fn committed(&self, records: Vec<(Place, Record)>, answer: KafkaResult<()>, under: &mut Under) {
        let mut state = self.subscription.state();
        let Err(error) = answer else { return state.committed(records) };
        if is_missing(&error) {
            under.is_missing = true;
            self.ask(under);
        }
        state.commit_failed();
        let failed = state.failed_commits();
        drop(state);
        if failed > COMMIT_FAILURES {
            self.end(&error);
        }
    }

    /// Publishes it to where the dead ones are, however long that takes, and goes past it then.
    fn bury(&self, delivery: Delivery, fetched: Fetched) {
        let (publisher, subscription) = (self.publisher.clone(), self.subscription.clone());
        let topic = self.names.dead(&delivery.place.0);
        let mut closing = self.closing.clone();
        tokio::spawn(async move {
            let from = format!("{}/{}", delivery.place.1, fetched.offset);
            let headers = fetched.headers.unwrap_or_default();
            let headers = headers
                .insert(Header { key: DEAD_LETTER_REASON, value: Some(LIMIT) })
                .insert(Header { key: "dead-letter-topic", value: Some(&delivery.place.0) })
                .insert(Header { key: "dead-letter-offset", value: Some(&from) });
            let key = fetched.key.as_deref();
            while publisher.bury(&topic, key, &fetched.body, headers.clone()).await.is_err() {
                tokio::select! {
                    () = wait(BURY_AGAIN) => {}
                    () = closed(&mut closing) => return,
                }
            }
            subscription.buried(&delivery);
        });
    }

    /// Answers what the group may wait for, writes down the rest, and leaves the group. The
    /// thread does it to the end also when nobody waits for it.
    async fn farewell(self, under: Under) {
        self.subscription.end("the subscription is over");
        let Poller { handle, subscription, looked_for, .. } = self;
        let is_recorded = Names::has_group(&subscription.channel);
        let Under { arriving, leaving, commit, .. } = under;
        if let Some(under_way) = commit {
            // The last one says the same and more.
            drop(under_way.await);
        }
        let arriving = match arriving {
            Some(reading) => Some(reading.await.0),
            None => None,
        };
        let client = handle.into_client();
        blocking(move || {
            let mut records = Vec::new();
            {
                let mut state = subscription.state();
                let places = state.places();
                records.extend(state.left(&places));
                state.closing = true;
            }
            let is_there = || {
                let found = client.fetch_metadata(Some(&looked_for), ASK_TIMEOUT);
                found.is_ok_and(|found| knows(&found, std::slice::from_ref(&looked_for)))
            };
            if let Some(offsets) = offsets(&records).filter(|_| is_recorded && is_there()) {
                let _ = client.commit(&offsets, CommitMode::Sync);
            }
            let unanswered = std::mem::take(&mut subscription.state().rebalances);
            for rebalance in unanswered {
                match rebalance {
                    Rebalance::Assigned(places) => answer(&*client, true, &list(places)),
                    Rebalance::Revoked(places) => answer(&*client, false, &list(places)),
                }
            }
            if let Some(places) = arriving {
                answer(&*client, true, &list(places));
            }
            if let Some(places) = leaving {
                answer(&*client, false, &list(places));
            }
            drop(client);
        })
        .await;
    }
}

/// Waits for what there may be to wait for.
async fn of<T>(slot: &mut Option<BoxFuture<'static, T>>) -> T {
    match slot {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn closed(closing: &mut watch::Receiver<bool>) {
    if closing.wait_for(|closing| *closing).await.is_err() {
        // The broker was dropped, and not closed: its subscriptions go on.
        std::future::pending::<()>().await;
    }
}

/// Whether a new subscription is needed, or a person. What the client mends itself goes on.
fn ends(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{
        Authentication, Fatal, GroupAuthorizationFailed, PollExceeded, SaslAuthenticationFailed,
        TopicAuthorizationFailed, UnknownGroup,
    };
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || matches!(
            error.rdkafka_error_code(),
            Some(
                Authentication
                    | Fatal
                    | GroupAuthorizationFailed
                    | PollExceeded
                    | SaslAuthenticationFailed
                    | TopicAuthorizationFailed
                    | UnknownGroup
            )
        )
}

fn is_missing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
    let code = error.rdkafka_error_code();
    matches!(code, Some(UnknownPartition | UnknownTopic | UnknownTopicOrPartition))
}

fn list(places: impl IntoIterator<Item = Place>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in places {
        list.add_partition(&topic, partition);
    }
    list
}

/// What is committed: offsets with their records. `None` when there are none.
fn offsets(records: &[(Place, Record)]) -> Option<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for ((topic, partition), record) in records {
        let mut element = list.add_partition(topic, *partition);
        element.set_offset(Offset::Offset(record.offset)).ok()?;
        element.set_metadata(record.text());
    }
    (!records.is_empty()).then_some(list)
}
