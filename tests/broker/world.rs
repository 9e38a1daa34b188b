//! Where a case runs: a broker under a name of its own, and the words that the cases use.

use std::collections::BTreeMap;
use std::env;
use std::sync::{Arc, OnceLock};

use makegood::broker::amqp::{AmqpBroker, AmqpOptions};
use makegood::broker::memory::MemoryBroker;
use makegood::broker::topology::Names;
use makegood::broker::{
    Broker, Channel, Consumer, DEFAULT_MAX_MESSAGE_BYTES, Event, Incoming, Outgoing, Topology,
    envelope,
};
use makegood::clock::SystemClock;

pub struct World {
    kind: Kind,
    pub names: Names,
    /// Why the case could not run after all.
    pub skipped: Arc<OnceLock<String>>,
    /// Whether the case restarts the broker, and must not meet others.
    pub restarts: bool,
}

#[derive(Clone)]
enum Kind {
    Memory(Arc<dyn Broker>),
    Amqp(String),
    Kafka(String),
    Alone,
}

impl World {
    pub fn memory() -> Result<World, String> {
        let broker: Arc<dyn Broker> = Arc::new(MemoryBroker::new(Arc::new(SystemClock::default())));
        Ok(World { kind: Kind::Memory(broker), ..World::alone()? })
    }

    pub fn amqp() -> Result<World, String> {
        let url = env::var("MAKEGOOD_TEST_AMQP")
            .map_err(|_| "MAKEGOOD_TEST_AMQP holds no URL of a RabbitMQ".to_owned())?;
        Ok(World { kind: Kind::Amqp(url), ..World::alone()? })
    }

    /// On the shared Kafka.
    pub fn kafka() -> Result<World, String> {
        if cfg!(not(feature = "kafka")) {
            return Err("built without the feature kafka".to_owned());
        }
        let hosts = env::var("MAKEGOOD_TEST_KAFKA")
            .map_err(|_| "MAKEGOOD_TEST_KAFKA holds no HOST:PORT of a Kafka".to_owned())?;
        // Few partitions: each case makes a dozen topics.
        let url = format!("kafka://{hosts}/?partitions=3&session.timeout.ms=6000");
        Ok(World { kind: Kind::Kafka(url), ..World::alone()? })
    }

    pub fn restarting() -> Result<World, String> {
        Ok(World { restarts: true, ..World::amqp()? })
    }

    #[cfg(feature = "kafka")]
    pub fn restarting_kafka() -> Result<World, String> {
        Ok(World { restarts: true, ..World::kafka()? })
    }

    /// Without any broker.
    pub fn alone() -> Result<World, String> {
        let names = Names { prefix: format!("test-{}.", uuid::Uuid::new_v4().simple()) };
        Ok(World { kind: Kind::Alone, names, skipped: Arc::default(), restarts: false })
    }

    pub fn is_kafka(&self) -> bool {
        matches!(self.kind, Kind::Kafka(_))
    }

    /// A broker with everything declared.
    pub async fn broker(&self) -> Arc<dyn Broker> {
        let broker = self.undeclared();
        broker.declare(&topology()).await.expect("declared");
        broker
    }

    pub fn undeclared(&self) -> Arc<dyn Broker> {
        match &self.kind {
            Kind::Memory(memory) => memory.clone(),
            _ => self.at(self.url()),
        }
    }

    /// The broker at this URL, under the names of this world.
    pub fn at(&self, url: &str) -> Arc<dyn Broker> {
        let (connection_name, prefix) = ("makegood test".to_owned(), self.names.prefix.clone());
        if url.starts_with("kafka") {
            return kafka_at(url, connection_name, prefix);
        }
        let options = AmqpOptions { url: url.to_owned().into(), connection_name, prefix };
        Arc::new(AmqpBroker::new(options).expect("a URL"))
    }

    pub fn url(&self) -> &str {
        match &self.kind {
            Kind::Amqp(url) | Kind::Kafka(url) => url,
            _ => panic!("a case for a broker outside"),
        }
    }

    /// Closes the broker, so that all it had is back in the queues, and gives another one.
    pub async fn fresh(&self, broker: Arc<dyn Broker>) -> Arc<dyn Broker> {
        match &self.kind {
            Kind::Memory(memory) => memory.clone(),
            _ => {
                broker.close().await;
                self.broker().await
            }
        }
    }

    /// RabbitMQ 3.10 gives up for good on what moves dead letters where queues go while these
    /// parts of it still start. After a restart they stay, in a RabbitMQ that is the tests' own.
    pub fn cleanup(&self) -> Cleanup {
        let kind = match (&self.kind, self.restarts) {
            (Kind::Amqp(_), true) => Kind::Alone,
            (kind, _) => kind.clone(),
        };
        Cleanup { kind, names: self.names.clone() }
    }
}

#[cfg(feature = "kafka")]
fn kafka_at(url: &str, client_id: String, prefix: String) -> Arc<dyn Broker> {
    use makegood::broker::kafka::{KafkaBroker, KafkaOptions};
    let options = KafkaOptions { url: url.to_owned().into(), client_id, prefix };
    Arc::new(KafkaBroker::new(options).expect("a URL"))
}

#[cfg(not(feature = "kafka"))]
fn kafka_at(_: &str, _: String, _: String) -> Arc<dyn Broker> {
    panic!("built without the feature kafka")
}

/// Deletes what a case declared.
pub struct Cleanup {
    kind: Kind,
    names: Names,
}

impl Cleanup {
    pub async fn run(self) {
        match self.kind {
            Kind::Amqp(url) => {
                let (admin, layout) = (admin(&url).await, self.names.layout(&topology()));
                for queue in layout.queues {
                    let _ =
                        admin.queue_delete(queue.name.as_str().into(), Default::default()).await;
                }
                for (exchange, _) in layout.exchanges {
                    let _ =
                        admin.exchange_delete(exchange.as_str().into(), Default::default()).await;
                }
            }
            #[cfg(feature = "kafka")]
            Kind::Kafka(url) => crate::kafka_only::delete(&url, &self.names.prefix).await,
            _ => {}
        }
    }
}

/// A channel to RabbitMQ beside the broker under test.
pub async fn admin(url: &str) -> lapin::Channel {
    let connection = lapin::Connection::connect(url, lapin::ConnectionProperties::default());
    connection.await.expect("RabbitMQ").create_channel().await.expect("a channel")
}

pub fn topology() -> Topology {
    Topology {
        participants: vec!["inventory".to_owned(), "loan".to_owned()],
        orders: vec!["order.created".to_owned()],
        facts: vec!["shipment.delivered".to_owned()],
    }
}

pub fn order(id: impl std::fmt::Display) -> Outgoing {
    outgoing(Channel::Orders, id, "order.created.v1")
}

pub fn outgoing(channel: Channel, id: impl std::fmt::Display, kind: &str) -> Outgoing {
    let data = BTreeMap::from([("order_id", id.to_string())]);
    Outgoing { channel, event: Event::new(id.to_string(), "/test", kind, &data) }
}

pub async fn publish(broker: &Arc<dyn Broker>, messages: &[Outgoing]) {
    let answers = broker.publish(messages).await;
    assert_eq!(answers, vec![Ok(()); messages.len()]);
}

/// Takes exactly `count` messages, or fails when the subscription ends before.
pub async fn take(consumer: &mut Box<dyn Consumer>, count: usize) -> Vec<Incoming> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.extend(consumer.receive(count - taken.len()).await.expect("a message"));
    }
    assert_eq!(taken.len(), count, "no more than asked for");
    taken
}

pub fn event(incoming: &Incoming) -> Event {
    envelope::decode(&incoming.body, &incoming.headers, DEFAULT_MAX_MESSAGE_BYTES).expect("good")
}

pub fn id(incoming: &Incoming) -> String {
    event(incoming).id
}

pub fn ids(taken: &[Incoming]) -> Vec<String> {
    taken.iter().map(id).collect()
}

pub fn done(taken: Vec<Incoming>) {
    taken.into_iter().for_each(|incoming| incoming.ticket.done());
}

/// Everything that is in a channel, told by messages published behind it: so many that each
/// partition of a topic gets one.
pub async fn left(broker: &Arc<dyn Broker>, channel: Channel) -> Vec<Incoming> {
    const LAST: usize = 64;
    let last = |number| outgoing(channel.clone(), format!("last-{number}"), "order.created.v1");
    publish(broker, &(0..LAST).map(last).collect::<Vec<_>>()).await;
    let mut consumer = broker.consume(&channel, 1_000).await.expect("a consumer");
    let (mut left, mut seen) = (Vec::new(), 0);
    while seen < LAST {
        let taken = take(&mut consumer, 1).await;
        if id(&taken[0]).starts_with("last-") {
            done(taken);
            seen += 1;
        } else {
            left.extend(taken);
        }
    }
    left
}
