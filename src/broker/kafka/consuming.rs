//! Beginning to receive from a channel, and the receiver's end of it.
//!
//! Each subscription is a client and a member of its group by itself. What it has in hand is in
//! [`Subscription`]; the one who polls is in [`polling`](super::polling).
//!
//! A ticket that is dropped unused is *our* trouble. To take its message out of the partition
//! again at once would bring it again at once; so, as at RabbitMQ, the subscription ends with an
//! error, and whoever resumes does so at the pace of its own backoff.

use std::sync::Arc;

use async_trait::async_trait;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{
    BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol, StreamConsumer,
};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::sync::{oneshot, watch};

use super::client::{ASK_TIMEOUT, Health, blocking, note};
use super::declaring::knows;
use super::ledger::Ledger;
use super::polling::Poller;
use super::publishing::Publisher;
use super::subscription::{Place, Rebalance, Subscription};
use super::topics::Names;
use crate::broker::{BrokerError, Channel, Consumer, Incoming};

pub const DURING: &str = "consuming";

/// What a consumer is told, unless the URL says otherwise.
const DEFAULTS: [(&str, &str); 5] = [
    // A worker that was killed keeps its partitions for so long; a shorter pause of one that
    // lives must not cost it everything. RabbitMQ's heartbeat is the same.
    ("session.timeout.ms", "10000"),
    ("heartbeat.interval.ms", "2000"),
    // Who does not poll for so long is a zombie that heartbeats: its partitions go, and it is told
    // so when it polls again.
    ("max.poll.interval.ms", "60000"),
    ("socket.timeout.ms", "10000"),
    ("socket.keepalive.enable", "true"),
];
const SETTINGS: [(&str, &str); 8] = [
    // Offsets are committed by hand, with a record; never because they were fetched.
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    // Who comes for the first time, or after the offsets were forgotten, begins at the front.
    ("auto.offset.reset", "earliest"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("allow.auto.create.topics", "false"),
    // What is fetched and not taken, per subscription: 16 MiB.
    ("queued.max.messages.kbytes", "16384"),
    ("topic.metadata.refresh.interval.ms", "30000"),
    ("reconnect.backoff.max.ms", "1000"),
];

pub type Client = StreamConsumer<Context>;

/// The client, which takes a while to say goodbye, and does that on a thread of its own.
pub struct Handle(Option<Arc<Client>>);

impl Handle {
    pub fn client(&self) -> &Arc<Client> {
        self.0.as_ref().expect("it is there until the handle goes")
    }

    pub fn into_client(mut self) -> Arc<Client> {
        self.0.take().expect("it is there until the handle goes")
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            client.context().subscription.state().closing = true;
            std::thread::spawn(move || drop(client));
        }
    }
}

/// What librdkafka calls.
pub struct Context {
    subscription: Arc<Subscription>,
    health: Health,
}

impl ClientContext for Context {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {
        // As for the other clients: what matters comes as an error as well.
    }

    fn error(&self, error: KafkaError, reason: &str) {
        note(&self.health, &error, reason);
    }
}

impl ConsumerContext for Context {
    /// Only takes note: the one who polls reads records first, and lets what is out come back.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let is_assigned = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        let places = places(list);
        let mut state = self.subscription.state();
        if state.closing || (!is_assigned && consumer.assignment_lost()) {
            // Lost: somebody else has them, and nothing can be written down any more.
            state.left(&places);
            drop(state);
            answer(consumer, is_assigned, list);
        } else {
            let rebalance =
                if is_assigned { Rebalance::Assigned(places) } else { Rebalance::Revoked(places) };
            state.rebalances.push_back(rebalance);
        }
        self.subscription.stirred.notify_one();
    }
}

/// Agrees to what the group decided. What is wrong with it comes as an error of the consumer.
pub fn answer<C: ConsumerContext>(
    consumer: &impl rdkafka::consumer::Consumer<C>,
    is_assigned: bool,
    list: &TopicPartitionList,
) {
    let is_cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
    let _ = match (is_assigned, is_cooperative) {
        (true, true) => consumer.incremental_assign(list),
        (false, true) => consumer.incremental_unassign(list),
        (true, false) => consumer.assign(list),
        (false, false) => consumer.unassign(),
    };
}

pub fn places(list: &TopicPartitionList) -> Vec<Place> {
    let place = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
        (element.topic().to_owned(), element.partition())
    };
    list.elements().iter().map(place).collect()
}

/// What a subscription needs of its broker.
pub struct Origin {
    pub config: ClientConfig,
    pub names: Names,
    pub health: Health,
    pub publisher: Arc<Publisher>,
    pub closing: watch::Receiver<bool>,
}

pub async fn consume(
    origin: Origin,
    channel: &Channel,
    prefetch: u16,
) -> Result<Box<dyn Consumer>, BrokerError> {
    let Origin { mut config, names, health, publisher, closing } = origin;
    let failed = |error: KafkaError| health.unavailable(DURING, error);
    for (name, value) in DEFAULTS {
        if config.get(name).is_none() {
            config.set(name, value);
        }
    }
    for (name, value) in SETTINGS {
        config.set(name, value);
    }
    let group = match Names::has_group(channel) {
        true => names.group(channel),
        // It joins none; a name must be given.
        false => format!("{}.{}", names.group(channel), uuid::Uuid::new_v4()),
    };
    config.set("group.id", group);
    let subscription = Subscription::new(channel.clone(), prefetch);
    let context = Context { subscription: subscription.clone(), health: health.clone() };
    let client = Client::from_config_and_context(&config, context).map_err(failed)?;
    let handle = Handle(Some(Arc::new(client)));

    // Some topic that must be there if anything is.
    let topic = names.topic(channel);
    let looked_for = topic.clone().or_else(|| Some(names.dead(&names.topic(&Channel::Orders)?)));
    let looked_for = looked_for.expect("orders have a topic");
    let partitions = look(handle.client(), &looked_for, &health).await?;
    health.works();
    match (Names::has_group(channel), topic) {
        (false, Some(topic)) => {
            from_the_end(&handle, &subscription, &topic, partitions).await.map_err(failed)?;
        }
        (_, Some(topic)) => handle.client().subscribe(&[&topic]).map_err(failed)?,
        (_, None) => handle.client().subscribe(&[&names.dead_letters()]).map_err(failed)?,
    }
    let (alive, dropped) = oneshot::channel();
    let poller = Poller {
        handle,
        subscription: subscription.clone(),
        health: health.clone(),
        publisher,
        names,
        looked_for,
        closing,
    };
    tokio::spawn(poller.run(dropped));
    Ok(Box::new(KafkaConsumer { subscription, health, _alive: alive }))
}

/// Asks for a topic; returns how many partitions it has.
pub async fn look(client: &Arc<Client>, topic: &str, health: &Health) -> Result<i32, BrokerError> {
    let (client, name) = (client.clone(), topic.to_owned());
    let found = blocking(move || client.fetch_metadata(Some(&name), ASK_TIMEOUT));
    let metadata = found.await.map_err(|error| health.unavailable(DURING, error))?;
    if !knows(&metadata, &[topic.to_owned()]) {
        return Err(health.unavailable(DURING, format!("the topic '{topic}' is not there")));
    }
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    Ok(i32::try_from(partitions).unwrap_or(i32::MAX))
}

/// Reads all partitions from where they end now, and for itself alone.
async fn from_the_end(
    handle: &Handle,
    subscription: &Arc<Subscription>,
    topic: &str,
    partitions: i32,
) -> KafkaResult<()> {
    let (client, name) = (handle.client().clone(), topic.to_owned());
    let ends = blocking(move || {
        let end = |partition| client.fetch_watermarks(&name, partition, ASK_TIMEOUT);
        (0..partitions).map(|partition| Ok(end(partition)?.1)).collect::<KafkaResult<Vec<i64>>>()
    });
    let mut list = TopicPartitionList::new();
    for (partition, end) in (0..partitions).zip(ends.await?) {
        list.add_partition_offset(topic, partition, Offset::Offset(end))?;
        let ledger = Ledger::unrecorded(end);
        subscription.state().assigned((topic.to_owned(), partition), Some(ledger), false);
    }
    handle.client().assign(&list)
}

struct KafkaConsumer {
    subscription: Arc<Subscription>,
    health: Health,
    /// Tells the one who polls when the consumer is gone.
    _alive: oneshot::Sender<()>,
}

#[async_trait]
impl Consumer for KafkaConsumer {
    async fn receive(&mut self, max: usize) -> Result<Vec<Incoming>, BrokerError> {
        loop {
            let taken = self.subscription.take(max);
            let taken = taken.map_err(|why| self.health.unavailable(DURING, why))?;
            if !taken.is_empty() {
                // There may be room for more.
                self.subscription.stirred.notify_one();
                return Ok(taken);
            }
            self.subscription.handed.notified().await;
        }
    }
}
