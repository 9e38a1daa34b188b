//! A relay before a broker that misbehaves on purpose.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::broker::{Channel, Consumer, Event, Status, Topology};
use crate::clock::SystemClock;
use crate::saga::SagaId;
use crate::store::sqlite::{Durability, SqliteStore};
use crate::worker::message::Posting;
use crate::worker::shutdown::{Stopper, shutdown};

const PATIENCE: Duration = Duration::from_secs(30);
const POISON: &str = "poison";

/// Answers each batch by what it was told about channels and messages.
struct Moody {
    mood: Mutex<Mood>,
    /// A batch with messages for a silent queue is answered only when the test lets it.
    patience: Semaphore,
}

#[derive(Default)]
struct Mood {
    answers: BTreeMap<Channel, PublishError>,
    /// Whether the connection breaks for the poison, and with it for its whole batch.
    breaks: bool,
    /// The size of each batch, in messages and in bytes.
    batches: Vec<(usize, usize)>,
    /// How often each message was published, whatever the answer.
    published: BTreeMap<String, usize>,
}

impl Moody {
    fn mood(&self) -> std::sync::MutexGuard<'_, Mood> {
        self.mood.lock().unwrap()
    }

    /// And whether some queue is silent about it.
    fn answer(&self, messages: &[Outgoing]) -> (Vec<Result<(), PublishError>>, bool) {
        let mut mood = self.mood();
        mood.batches.push((messages.len(), messages.iter().map(bytes_of).sum()));
        for message in messages {
            *mood.published.entry(message.event.id.clone()).or_default() += 1;
        }
        if mood.breaks && messages.iter().any(|message| message.event.id == POISON) {
            let broken = Err(PublishError::Unknown("the connection broke".to_owned()));
            return (vec![broken; messages.len()], false);
        }
        let answer = |message: &Outgoing| mood.answers.get(&message.channel).cloned();
        let answers: Vec<Result<(), PublishError>> =
            messages.iter().map(|message| answer(message).map_or(Ok(()), Err)).collect();
        let is_silent = answers.contains(&Err(PublishError::Silent));
        (answers, is_silent)
    }

    fn times(&self, id: &str) -> usize {
        self.mood().published.get(id).copied().unwrap_or(0)
    }
}

#[async_trait]
impl Broker for Moody {
    async fn declare(&self, _: &Topology) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn consume(&self, _: &Channel, _: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        Err(BrokerError::Unavailable { during: "a test", source: None })
    }

    async fn publish(&self, messages: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        let (answers, is_silent) = self.answer(messages);
        if is_silent {
            self.patience.acquire().await.unwrap().forget();
        }
        answers
    }

    fn status(&self) -> Status {
        Status { publishing: Link::Connected, consuming: Link::Connected }
    }

    async fn close(&self) {}
}

struct World {
    broker: Arc<Moody>,
    telemetry: Arc<Telemetry>,
    handle: RelayHandle,
    confirmed: mpsc::Receiver<Confirmed>,
    relays: Vec<JoinHandle<()>>,
    _stopper: Stopper,
    _folder: TempDir,
}

impl World {
    /// With so many relays, which begin when the first messages are there.
    async fn new(mood: Mood, relays: usize, first: Vec<Posted>) -> World {
        let folder = TempDir::new().unwrap();
        let clock = Arc::new(SystemClock::default());
        let file = folder.path().join("makegood.db");
        let store =
            SqliteStore::open(&file, clock.clone(), Durability::ProcessCrash).await.unwrap();
        let broker = Arc::new(Moody { mood: Mutex::new(mood), patience: Semaphore::new(0) });
        let telemetry = Arc::new(Telemetry::new());
        let definitions = Definitions::new(Arc::new(store), broker.clone(), telemetry.clone());
        let (stopper, shutdown) = shutdown();
        let (confirmed, receiver) = mpsc::channel(10_000);
        let (handle, queues) = Relay::channels(relays);
        for posted in first {
            handle.send(posted).await;
        }
        let relay = |queue| {
            let relay = Relay {
                broker: broker.clone(),
                clock: clock.clone(),
                definitions: definitions.clone(),
                telemetry: telemetry.clone(),
                shutdown: shutdown.clone(),
                confirmed: confirmed.clone(),
            };
            tokio::spawn(relay.run(queue))
        };
        let relays = queues.into_iter().map(relay).collect();
        let (broker, telemetry) = (broker.clone(), telemetry.clone());
        World {
            broker,
            telemetry,
            handle,
            confirmed: receiver,
            relays,
            _stopper: stopper,
            _folder: folder,
        }
    }

    async fn confirmed(&mut self, count: usize) -> Vec<(OutboxKey, Time)> {
        let mut rows = Vec::new();
        while rows.len() < count {
            let confirmed = timeout(PATIENCE, self.confirmed.recv()).await;
            rows.push(confirmed.expect("in time").expect("a relay").0);
        }
        rows
    }

    async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let looks = async {
            while !is_so() {
                crate::clock::wait(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, looks).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    /// Nothing more comes than what was counted.
    async fn ends(mut self) {
        drop(self.handle);
        for relay in self.relays {
            timeout(PATIENCE, relay).await.expect("it ends").expect("no panic");
        }
        assert!(self.confirmed.try_recv().is_err(), "one more was confirmed");
    }
}

fn posted(number: u16, channel: Channel, id: &str, bytes: usize) -> Posted {
    let key = OutboxKey { saga: SagaId::of("acme", "o-1", "d"), version: 1, number };
    let event = Event::new(id, "/test", "a.b.v1", &"x".repeat(bytes));
    let message = Outgoing { channel, event };
    Posted { posting: Posting { key, claimed_until: Time(1), message }, busy: Busy::default() }
}

fn to(participant: &str, number: u16) -> Posted {
    posted(number, Channel::Commands(participant.to_owned()), &number.to_string(), 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_breaks_the_connection_keeps_none_of_the_others() {
    let mut first: Vec<Posted> = (0..100).map(|number| to("wms", number)).collect();
    let poison = || posted(100, Channel::Commands("wms".to_owned()), POISON, 1);
    first.insert(50, poison());
    let mood = Mood { breaks: true, ..Mood::default() };
    let mut world = World::new(mood, 1, first).await;
    let rows = world.confirmed(100).await;
    assert!(rows.iter().all(|(key, _)| key.number < 100));
    world.until("the poison is given up", || !world.handle.is_in_trouble()).await;
    let metrics = world.telemetry.render();
    assert!(metrics.contains("publish_failures_total{reason=\"breaks-connection\"} 1"));
    // Its own half of half of … was tried, and the whole six times: nothing without end.
    let tried = world.broker.times(POISON);
    assert!((11..=15).contains(&tried), "{tried} times");

    // The sweeper brings it again: it is left alone once, then tried by itself, then left alone
    // for longer, and the others do not notice.
    for (round, expected) in [0, 1, 1, 1, 2, 2, 2, 2, 2, 3].into_iter().enumerate() {
        world.handle.send(poison()).await;
        let number = 200 + u16::try_from(round).unwrap();
        world.handle.send(to("wms", number)).await;
        assert_eq!(world.confirmed(1).await[0].0.number, number);
        let still = || world.broker.times(POISON) == tried + expected && !world.knows_poison();
        world.until("the poison is out of memory", still).await;
        assert_eq!(world.broker.times(&number.to_string()), 1);
    }
    // Until it is taken after all.
    world.broker.mood().breaks = false;
    for _ in 0..9 {
        world.handle.send(poison()).await;
        world.until("the poison is out of memory", || !world.knows_poison()).await;
    }
    assert_eq!(world.confirmed(1).await[0].0.number, 100);
    world.ends().await;
}

impl World {
    fn knows_poison(&self) -> bool {
        let key = posted(100, Channel::Events, POISON, 1).posting.key;
        self.handle.holds(key)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_does_not_confirm_holds_up_no_other() {
    let wms = Channel::Commands("wms".to_owned());
    let silent = BTreeMap::from([(wms.clone(), PublishError::Silent)]);
    let first = vec![to("wms", 1), to("loan", 2), to("wms", 3), to("loan", 4)];
    let mut world = World::new(Mood { answers: silent, ..Mood::default() }, 1, first).await;
    let numbers = |rows: Vec<(OutboxKey, Time)>| -> Vec<u16> {
        rows.into_iter().map(|(key, _)| key.number).collect()
    };
    world.broker.patience.add_permits(1);
    assert_eq!(numbers(world.confirmed(2).await), [2, 4]);
    let batches = world.broker.mood().batches.len();
    assert_eq!(batches, 1, "nothing is sent again to be confirmed once more");
    // The next ones to it are tried beside the others, which do not wait for that.
    let others = [to("wms", 5), to("loan", 6), to("wms", 7)];
    for posted in others {
        world.handle.send(posted).await;
    }
    assert_eq!(numbers(world.confirmed(1).await), [6]);
    world.broker.patience.add_permits(10);
    world.until("none in memory", || world.handle.is_empty()).await;
    assert!(!world.handle.is_in_trouble());
    let metrics = world.telemetry.render();
    assert!(metrics.contains("publish_failures_total{reason=\"silent\"}"), "{metrics}");
    // It is heard again, and the sweeper brings what was left.
    world.broker.mood().answers.clear();
    for number in [1, 3, 5, 7] {
        world.handle.send(to("wms", number)).await;
    }
    let mut found = numbers(world.confirmed(4).await);
    found.sort_unstable();
    assert_eq!(found, [1, 3, 5, 7]);
    world.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_in_memory_is_not_taken_in_twice_and_has_the_newest_claim() {
    let again = |claimed_until| {
        let mut posted = to("wms", 1);
        posted.posting.claimed_until = Time(claimed_until);
        posted
    };
    let mut world = World::new(Mood::default(), 1, vec![again(5), again(9), again(7)]).await;
    let rows = world.confirmed(1).await;
    assert_eq!((rows[0].1, world.broker.times("1")), (Time(9), 1));
    // Once it is out, it may come again.
    world.handle.send(again(11)).await;
    assert_eq!(world.confirmed(1).await[0].1, Time(11));
    world.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_go_out_in_several_portions() {
    const BYTES: usize = 1024 * 1024;
    let large = |number| posted(number, Channel::Events, &number.to_string(), BYTES);
    let mut world = World::new(Mood::default(), 1, (0..20).map(large).collect()).await;
    world.confirmed(20).await;
    let batches = world.broker.mood().batches.clone();
    assert!(batches.iter().all(|(_, bytes)| *bytes <= MAX_BATCH_BYTES), "{batches:?}");
    assert!(batches.len() <= 4, "{batches:?}");
    world.ends().await;
}

/// Events stood behind a silent queue, and nobody listens to them: that they come back is a
/// confirm like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_nobody_hears_do_not_stay_set_aside() {
    let event = |number: u16| posted(number, Channel::Events, &number.to_string(), 1);
    let silent = BTreeMap::from([(Channel::Events, PublishError::Silent)]);
    let mood = Mood { answers: silent, ..Mood::default() };
    let mut world = World::new(mood, 1, vec![event(1)]).await;
    world.until("the first is out", || world.broker.times("1") == 1).await;
    for number in 2..=4 {
        world.handle.send(event(number)).await;
    }
    world.broker.mood().answers = BTreeMap::from([(Channel::Events, PublishError::Unheard)]);
    world.broker.patience.add_permits(10);
    world.confirmed(3).await;
    world.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_nobody_hears_is_done_with_and_counted() {
    let unheard = BTreeMap::from([(Channel::Events, PublishError::Unheard)]);
    let first = vec![posted(1, Channel::Events, "1", 1), to("wms", 2)];
    let mut world = World::new(Mood { answers: unheard, ..Mood::default() }, 1, first).await;
    world.confirmed(2).await;
    assert!(world.telemetry.render().contains("events_unheard_total 1"));
    world.ends().await;
}

#[tokio::test]
async fn one_relays_success_does_not_hide_another_ones_trouble() {
    let (handle, queues) = Relay::channels(2);
    let [first, second] = [&queues[0].place, &queues[1].place];
    let said = |place: &Place, trouble: Option<&str>| {
        let mut said = None;
        let trouble = trouble.map(|why| PublishError::Unknown(why.to_owned()));
        place.report(trouble, |trouble| said = trouble.cloned());
        said
    };
    assert!(said(first, Some("a reset")).is_some() && handle.is_in_trouble());
    assert!(said(second, None).is_some() && handle.is_in_trouble(), "the first one's");
    assert!(said(first, None).is_none() && !handle.is_in_trouble());
}
