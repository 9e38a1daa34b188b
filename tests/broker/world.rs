//! Where a case runs: a broker under a name of its own, and the words that the cases use.

use std::collections::BTreeMap;
use std::env;
use std::sync::{Arc, OnceLock};

use makegood::broker::amqp::{AmqpBroker, AmqpOptions};
use makegood::broker::memory::MemoryBroker;
use makegood::broker::topology::{Layout, Names};
use makegood::broker::{
    Broker, Channel, Consumer, DEFAULT_MAX_MESSAGE_BYTES, Event, Incoming, Outgoing, Topology,
    envelope,
};
use makegood::clock::SystemClock;

pub struct World {
    memory: Option<Arc<dyn Broker>>,
    url: Option<String>,
    pub names: Names,
    /// Why the case could not run after all.
    pub skipped: Arc<OnceLock<String>>,
    /// Whether the case restarts RabbitMQ, and must not meet others.
    pub restarts: bool,
}

impl World {
    pub fn memory() -> Result<World, String> {
        let broker: Arc<dyn Broker> = Arc::new(MemoryBroker::new(Arc::new(SystemClock::default())));
        Ok(World { memory: Some(broker), ..World::alone()? })
    }

    pub fn amqp() -> Result<World, String> {
        let url = env::var("MAKEGOOD_TEST_AMQP")
            .map_err(|_| "MAKEGOOD_TEST_AMQP holds no URL of a RabbitMQ".to_owned())?;
        Ok(World { url: Some(url), ..World::alone()? })
    }

    pub fn restarting() -> Result<World, String> {
        Ok(World { restarts: true, ..World::amqp()? })
    }

    /// Without any broker.
    pub fn alone() -> Result<World, String> {
        let names = Names { prefix: format!("test-{}.", uuid::Uuid::new_v4().simple()) };
        Ok(World { memory: None, url: None, names, skipped: Arc::default(), restarts: false })
    }

    /// A broker with everything declared.
    pub async fn broker(&self) -> Arc<dyn Broker> {
        let broker = self.undeclared();
        broker.declare(&topology()).await.expect("declared");
        broker
    }

    pub fn undeclared(&self) -> Arc<dyn Broker> {
        match &self.memory {
            Some(memory) => memory.clone(),
            None => self.at(self.url()),
        }
    }

    pub fn at(&self, url: &str) -> Arc<dyn Broker> {
        Arc::new(AmqpBroker::new(self.options(url)).expect("a URL"))
    }

    fn options(&self, url: &str) -> AmqpOptions {
        AmqpOptions {
            url: url.to_owned().into(),
            connection_name: "makegood test".to_owned(),
            prefix: self.names.prefix.clone(),
        }
    }

    pub fn url(&self) -> &str {
        self.url.as_deref().expect("a case for RabbitMQ")
    }

    /// Closes the broker, so that all it had is back in the queues, and gives another one.
    pub async fn fresh(&self, broker: Arc<dyn Broker>) -> Arc<dyn Broker> {
        match &self.memory {
            Some(memory) => memory.clone(),
            None => {
                broker.close().await;
                self.broker().await
            }
        }
    }

    pub fn cleanup(&self) -> Cleanup {
        Cleanup { url: self.url.clone(), layout: self.names.layout(&topology()) }
    }
}

/// Deletes what a case declared on RabbitMQ.
pub struct Cleanup {
    url: Option<String>,
    layout: Layout,
}

impl Cleanup {
    pub async fn run(self) {
        let Some(url) = self.url else { return };
        let admin = admin(&url).await;
        for queue in self.layout.queues {
            let _ = admin.queue_delete(queue.name.as_str().into(), Default::default()).await;
        }
        for (exchange, _) in self.layout.exchanges {
            let _ = admin.exchange_delete(exchange.as_str().into(), Default::default()).await;
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

/// Everything that is in a queue, told by a message published behind it.
pub async fn left(broker: &Arc<dyn Broker>, channel: Channel) -> Vec<Incoming> {
    publish(broker, &[outgoing(channel.clone(), "last", "order.created.v1")]).await;
    let mut consumer = broker.consume(&channel, 1_000).await.expect("a consumer");
    let mut left = Vec::new();
    loop {
        let taken = take(&mut consumer, 1).await;
        if id(&taken[0]) == "last" {
            done(taken);
            return left;
        }
        left.extend(taken);
    }
}
