//! Kafka, through librdkafka.
//!
//! # What holds, and why
//! * **Nothing that was confirmed is lost.** All copies in sync have a message before it counts
//!   as published (`acks=all`), and topics keep what comes in for two weeks, or as long as the
//!   URL says ([`topics`]); a topic that would forget earlier is refused ([`declaring`]).
//! * **An offset is committed only when all before it is dealt with**, which is after the
//!   database has it. What was dealt with beyond a gap is written beside the offset
//!   ([`ledger`]), so that it does not come again.
//! * **What comes again says so**, and what was delivered too often goes to `<topic>.dead`:
//!   Kafka counts no deliveries, so we write them down before we hand out.
//! * **A rebalance doubles nothing** as long as what is out of a partition is dealt with within
//!   seconds: the partition is given back after that, with its offsets. A ticket that comes
//!   later is one of an earlier tenure, and moves nothing. What both had in hand is fenced by
//!   the version in the store.
//! * **Whoever falls silent is replaced.** A frozen process is missed after its session. One whose
//!   runtime is stuck still sends heartbeats, from a thread of librdkafka's, which ends the
//!   membership of who does not poll for a minute (`max.poll.interval.ms`): others go on with
//!   its partitions, its tickets move nothing, and it learns of it when it polls again. That, the loss of all brokers, a topic that is gone and a silence in which nobody answers
//!   end the subscription with an error, and the caller begins anew.
//! * **Values may say of which schema they are** ([`registry`]), where that is configured.
//! * **A producer that sends again writes once** (idempotence). There are no transactions:
//!   receivers must recognise repeats anyway, and the store does.
//!
//! # What does not hold
//! Members of a group share partitions, not messages: there is no use in more workers than
//! partitions, and a worker that is killed keeps its own for the session's ten seconds.
//!
//! Calls of librdkafka that block run on threads of their own ([`client`]).

mod address;
mod client;
mod consuming;
mod declaring;
mod ledger;
mod message;
mod polling;
mod publishing;
pub mod registry;
mod subscription;
pub mod topics;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{
    Broker, BrokerError, Channel, Consumer, Outgoing, PublishError, Status, Topology, still_open,
    unpublished,
};
use address::Address;
pub use address::InvalidUrl;
use client::Health;
use consuming::Origin;
use declaring::Declarer;
use publishing::Publisher;
use registry::Registry;

/// For the last commits and for leaving the groups when the broker is closed. What is not
/// committed by then comes again after the restart, and is recognised.
const FAREWELL: Duration = Duration::from_secs(8);

/// How to reach Kafka, and what to be called there.
#[derive(Clone)]
pub struct KafkaOptions {
    /// `kafka://host:9092,other:9092/prefix?partitions=12`: see [`InvalidUrl`] for what is wrong.
    pub url: SecretString,
    /// Shown in the cluster's logs and metrics.
    pub client_id: String,
    /// Put before the names of all topics and groups, before the prefix of the URL.
    pub prefix: String,
}

pub struct KafkaBroker {
    address: Address,
    /// Made when something is to be declared, and anew after it failed.
    declarer: Mutex<Option<Arc<Declarer>>>,
    publisher: Arc<Publisher>,
    /// Where there is one, every value is framed with the id of its schema.
    registry: Option<Registry>,
    consuming: Health,
    /// Turns true when the broker is closed. Each subscription holds a receiver until it has
    /// left its group.
    closing: watch::Sender<bool>,
}

impl KafkaBroker {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// The URL is not one, or has something that this build cannot do.
    pub fn new(options: KafkaOptions) -> Result<KafkaBroker, InvalidUrl> {
        let mut address = Address::new(&options.url)?;
        address.names.prefix.insert_str(0, &options.prefix);
        address.property("client.id", options.client_id);
        let publisher = Publisher::new(address.config(), address.names.clone(), Health::default());
        Ok(KafkaBroker {
            address,
            declarer: Mutex::default(),
            publisher: Arc::new(publisher),
            registry: None,
            consuming: Health::default(),
            closing: watch::Sender::new(false),
        })
    }

    /// The same with values framed by the schemas of this registry.
    #[must_use]
    pub fn framed_by(self, registry: Registry) -> KafkaBroker {
        KafkaBroker { registry: Some(registry), ..self }
    }

    fn declarer(&self) -> Result<Arc<Declarer>, BrokerError> {
        let mut current = self.declarer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(declarer) = &*current {
            return Ok(declarer.clone());
        }
        let declarer = Declarer::new(self.address.config(), self.consuming.clone())?;
        Ok(current.insert(Arc::new(declarer)).clone())
    }

    /// Gives up a declarer that failed: its client may have forgotten where the cluster is.
    fn forget(&self, failed: &Arc<Declarer>) {
        let mut current = self.declarer.lock().unwrap_or_else(PoisonError::into_inner);
        let _failed = current.take_if(|declarer| Arc::ptr_eq(declarer, failed));
    }
}

#[async_trait]
impl Broker for KafkaBroker {
    async fn declare(&self, topology: &Topology) -> Result<(), BrokerError> {
        still_open(&self.closing)?;
        let topics = self.address.names.layout(topology, &self.address.settings);
        let metadata = self.publisher.look(declaring::DURING).await?;
        let declarer = self.declarer()?;
        let declared = declarer.declare(&topics, metadata).await;
        let new = declared.inspect_err(|_| self.forget(&declarer))?;
        let names: Vec<String> = topics.into_iter().map(|topic| topic.name).collect();
        self.publisher.learn(&names, &new).await?;
        match &self.registry {
            Some(registry) => registry.prepare().await,
            None => Ok(()),
        }
    }

    async fn consume(
        &self,
        channel: &Channel,
        prefetch: u16,
    ) -> Result<Box<dyn Consumer>, BrokerError> {
        still_open(&self.closing)?;
        let origin = Origin {
            config: self.address.config(),
            names: self.address.names.clone(),
            health: self.consuming.clone(),
            publisher: self.publisher.clone(),
            closing: self.closing.subscribe(),
        };
        consuming::consume(origin, channel, prefetch).await
    }

    async fn publish(&self, messages: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        if still_open(&self.closing).is_err() {
            return unpublished(messages);
        }
        let schemas = match &self.registry {
            Some(registry) => registry.ids(messages).await,
            None => vec![Ok(None); messages.len()],
        };
        self.publisher.publish(messages, schemas).await
    }

    fn status(&self) -> Status {
        Status { publishing: self.publisher.health().link(), consuming: self.consuming.link() }
    }

    async fn close(&self) {
        self.closing.send_replace(true);
        // Elapsed means that the cluster does not answer; nothing more can be done.
        let _ = timeout(FAREWELL, self.closing.closed()).await;
        self.publisher.close().await;
        self.consuming.lost();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_url_is_refused_without_being_quoted() {
        let options = KafkaOptions {
            url: "kafka://user:s3cret@host:port/".to_owned().into(),
            client_id: String::new(),
            prefix: String::new(),
        };
        let error = KafkaBroker::new(options).err().expect("no port");
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }
}
