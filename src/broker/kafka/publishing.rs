//! Publishing: the messages of a batch go out one behind the other, and each is answered when
//! all copies in sync have it (`acks=all`).
//!
//! The producer is idempotent: what it sends again after a lost answer is written once. That
//! holds within one producer's life only; beyond it the receivers recognise what comes twice, as
//! they must anyway. There are no transactions: nothing here would be safer for them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::metadata::Metadata;
use rdkafka::producer::future_producer::OwnedDeliveryResult;
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer};

use super::client::{ASK_TIMEOUT, Health, Listener, blocking};
use super::declaring::knows;
use super::message::{headers, key};
use super::topics::{MAX_MESSAGE_BYTES, Names};
use crate::broker::envelope::frame::framed;
use crate::broker::{BrokerError, Outgoing, PublishError};
use crate::clock::wait;
use crate::telemetry::chain;

/// Longest time until a message is confirmed, all attempts included. Beyond it nothing is known.
const CONFIRM_TIMEOUT: &str = "15000";
/// How long a message may wait for others to go with it. Relays publish in batches anyway.
const LINGER: &str = "2";
/// How long a topic that is not known may be on its way to the broker that was asked.
const PROPAGATION: &str = "1000";
/// Between two looks for a topic that was just made.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// So many looks: ten seconds.
const LOOKS: u32 = 200;
const DURING: &str = "publishing";

type Client = FutureProducer<Listener>;

pub struct Publisher {
    config: ClientConfig,
    names: Names,
    health: Health,
    current: Mutex<Option<Client>>,
    /// Topics that the producer can use.
    known: Mutex<BTreeSet<String>>,
}

impl Publisher {
    pub fn new(mut config: ClientConfig, names: Names, health: Health) -> Publisher {
        for (name, value) in [
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("linger.ms", LINGER),
            ("delivery.timeout.ms", CONFIRM_TIMEOUT),
            ("topic.metadata.propagation.max.ms", PROPAGATION),
            ("reconnect.backoff.max.ms", "1000"),
            // The same key is in the same partition, also for those who use Java's client.
            ("partitioner", "murmur2_random"),
        ] {
            config.set(name, value);
        }
        config.set("message.max.bytes", MAX_MESSAGE_BYTES.to_string());
        let (current, known) = (Mutex::default(), Mutex::default());
        Publisher { config, names, health, current, known }
    }

    pub fn health(&self) -> &Health {
        &self.health
    }

    pub async fn close(&self) {
        let client = self.current().take();
        // It waits for its thread.
        blocking(|| drop(client)).await;
        self.health.lost();
    }

    fn current(&self) -> MutexGuard<'_, Option<Client>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives up a producer that got no answer. A librdkafka whose whole cluster was away may
    /// forget all of its addresses, and then asks nobody any more.
    fn replace(&self) {
        if let Some(silent) = self.current().take() {
            std::thread::spawn(move || drop(silent));
        }
    }

    fn client(&self) -> Result<Client, KafkaError> {
        // One that has lost track of what was written refuses everything from then on.
        let is_broken = |client: &Client| client.client().fatal_error().is_some();
        if self.current().as_ref().is_some_and(is_broken) {
            self.replace();
        }
        let mut current = self.current();
        if let Some(client) = &*current {
            return Ok(client.clone());
        }
        let listener = Listener(self.health.clone());
        let client = Client::from_config_and_context(&self.config, listener)?;
        self.known().clear();
        Ok(current.insert(client).clone())
    }

    /// Asks what there is. Nobody serves what a client for administration is told on the side, so
    /// that one would not know why it gets no answer: a wrong password, a certificate.
    pub async fn look(&self, during: &'static str) -> Result<Metadata, BrokerError> {
        let failed = |error: KafkaError| {
            self.replace();
            self.health.unavailable(during, error)
        };
        let client = self.client().map_err(failed)?;
        let look = move || client.client().fetch_metadata(None, ASK_TIMEOUT);
        blocking(look).await.map_err(failed)
    }

    /// Waits until these topics can be used, of which some are `new`. A producer that has once
    /// missed one would go on refusing it for minutes.
    pub async fn learn(&self, topics: &[String], new: &[String]) -> Result<(), BrokerError> {
        self.known().retain(|topic| !new.contains(topic));
        if topics.iter().all(|topic| self.known().contains(topic)) {
            return Ok(());
        }
        for _ in 0..LOOKS {
            if knows(&self.look(DURING).await?, topics) {
                self.known().extend(topics.iter().cloned());
                return Ok(());
            }
            wait(LOOK_AGAIN).await;
        }
        Err(self.health.unavailable(DURING, "topics that were made cannot be used"))
    }

    /// `schemas` are the ids that values are framed with, where they are, or why there is none.
    pub async fn publish(
        &self,
        messages: &[Outgoing],
        schemas: Vec<Result<Option<u32>, PublishError>>,
    ) -> Vec<Result<(), PublishError>> {
        let client = match self.client() {
            Ok(client) => client,
            Err(error) => return vec![Err(unknown(&error)); messages.len()],
        };
        let send = |(message, schema): (&Outgoing, Result<_, _>)| {
            self.send(&client, message, schema.map_err(Failure::Known)?)
        };
        let sent: Vec<_> = messages.iter().zip(schemas).map(send).collect();
        let mut answers = join_all(sent.into_iter().map(answered)).await;
        self.explain(client, messages, &mut answers).await;
        answers.into_iter().map(|answer| answer.map_err(|failure| self.told(failure))).collect()
    }

    fn send(
        &self,
        client: &Client,
        message: &Outgoing,
        schema: Option<u32>,
    ) -> Result<DeliveryFuture, Failure> {
        let Some(topic) = self.names.topic(&message.channel) else {
            return Err(Failure::Known(PublishError::Unroutable));
        };
        let event = &message.event;
        let value = match schema {
            Some(schema) => Cow::Owned(framed(schema, event.data().as_bytes())),
            None => Cow::Borrowed(event.data().as_bytes()),
        };
        let record =
            FutureRecord::to(&topic).key(key(event)).payload(&*value).headers(headers(event));
        client.send_result(record).map_err(|(error, _)| failure(&error))
    }

    /// Sends a message as it was to where the dead ones are.
    pub async fn bury(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        body: &[u8],
        headers: OwnedHeaders,
    ) -> Result<(), PublishError> {
        let mut record = FutureRecord::<[u8], [u8]>::to(topic).payload(body).headers(headers);
        record.key = key;
        let sent = match self.client() {
            Ok(client) => client.send_result(record).map_err(|(error, _)| failure(&error)),
            Err(error) => Err(failure(&error)),
        };
        answered(sent).await.map_err(|failure| self.told(failure))
    }

    /// Why some were not confirmed in time: told by whether the cluster answers otherwise. And
    /// what is not known must be looked for.
    async fn explain(
        &self,
        client: Client,
        messages: &[Outgoing],
        answers: &mut [Result<(), Failure>],
    ) {
        if answers.iter().any(Result::is_ok) {
            self.health.works();
        }
        for (message, answer) in messages.iter().zip(&*answers) {
            if *answer == Err(Failure::Known(PublishError::Unroutable))
                && let Some(topic) = self.names.topic(&message.channel)
            {
                self.known().remove(&topic);
            }
        }
        if !answers.contains(&Err(Failure::Late)) {
            return;
        }
        let look = move || client.client().fetch_metadata(Some("makegood"), ASK_TIMEOUT).is_ok();
        if blocking(look).await {
            let late = answers.iter_mut().filter(|answer| **answer == Err(Failure::Late));
            late.for_each(|answer| *answer = Err(Failure::Known(PublishError::Silent)));
        } else {
            self.health.lost();
            self.replace();
        }
    }

    fn told(&self, failure: Failure) -> PublishError {
        match failure {
            Failure::Known(error) => error,
            Failure::Late => {
                let told = self.health.told();
                PublishError::Unknown(told.unwrap_or_else(|| "the cluster is silent".to_owned()))
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Failure {
    Known(PublishError),
    /// No confirm within the time for it.
    Late,
}

async fn answered(sent: Result<DeliveryFuture, Failure>) -> Result<(), Failure> {
    let answer: Result<OwnedDeliveryResult, _> = sent?.await;
    match answer {
        Ok(Ok(_)) => Ok(()),
        Ok(Err((error, _))) => Err(failure(&error)),
        Err(gone) => Err(Failure::Known(unknown(&gone))),
    }
}

fn failure(error: &KafkaError) -> Failure {
    use RDKafkaErrorCode::{
        InvalidMessageSize, MessageSizeTooLarge, MessageTimedOut, TopicAuthorizationFailed,
        UnknownPartition, UnknownTopic, UnknownTopicOrPartition,
    };
    match error.rdkafka_error_code() {
        Some(UnknownTopic | UnknownTopicOrPartition | UnknownPartition) => {
            Failure::Known(PublishError::Unroutable)
        }
        Some(MessageSizeTooLarge | InvalidMessageSize | TopicAuthorizationFailed) => {
            Failure::Known(PublishError::Refused)
        }
        Some(MessageTimedOut) => Failure::Late,
        _ => Failure::Known(unknown(error)),
    }
}

fn unknown(error: &dyn std::error::Error) -> PublishError {
    PublishError::Unknown(chain(error))
}
