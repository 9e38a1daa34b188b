//! Kafka's topics beside the binary under test.

use std::sync::Arc;
use std::time::Duration;

use makegood::broker::kafka::topics::Names;
use makegood::broker::kafka::{KafkaBroker, KafkaOptions};
use makegood::broker::topology::DELIVERY_LIMIT;
use makegood::broker::{Broker, Channel};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::lag::deployment;

/// For a message to be confirmed.
const CONFIRM: Duration = Duration::from_secs(15);

pub struct Topics {
    producer: FutureProducer,
    names: Names,
    url: String,
}

impl Topics {
    pub fn at(url: &str) -> Topics {
        let (config, names) = deployment(url).expect("the URL of a stage");
        Topics { producer: config.create().expect("a producer"), names, url: url.to_owned() }
    }

    pub async fn publish(&self, channel: &Channel, kind: &str, id: &str, body: &[u8]) {
        let topic = self.names.topic(channel).expect("it has one");
        let headers = OwnedHeaders::new()
            .insert(Header { key: "message-id", value: Some(id) })
            .insert(Header { key: "type", value: Some(kind) });
        let record = FutureRecord::<(), _>::to(&topic).payload(body).headers(headers);
        self.producer.send(record, CONFIRM).await.expect("a confirm");
    }

    /// A consumer gets what is among the orders as often as it may, and fails on it each time.
    pub async fn fail_on_orders(&self) {
        let options = KafkaOptions {
            url: self.url.clone().into(),
            client_id: "fails".to_owned(),
            prefix: String::new(),
        };
        let broker: Arc<dyn Broker> = Arc::new(KafkaBroker::new(options).expect("a URL"));
        for _ in 0..=DELIVERY_LIMIT {
            let mut consumer = broker.consume(&Channel::Orders, 1).await.expect("a consumer");
            drop(consumer.receive(1).await.expect("the message"));
        }
        broker.close().await;
    }
}
