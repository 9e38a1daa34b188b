//! What carries messages: the port, its brokers, and the CloudEvents envelope.
//!
//! [`Broker`] is what the rest of the crate knows: channels by name, delivery at least once,
//! confirmed publication. RabbitMQ (`amqp`) and Kafka (`kafka`, a cargo feature) serve
//! production, `memory` the embedded development mode; `tests/broker.rs` holds one conformance
//! suite that all pass. Names of queues, exchanges and topics live in `topology` and
//! `kafka::topics`. No decision is taken here.

pub mod amqp;
pub mod envelope;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod memory;
mod origin;
pub mod topology;
pub mod watermark;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

pub use envelope::{Event, Malformed};
pub use origin::origin;

/// The largest message that is taken in by default, in bytes.
pub const DEFAULT_MAX_MESSAGE_BYTES: usize = 256 * 1024;

#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Makes all queues and bindings exist. Safe to repeat, and by several at once.
    ///
    /// # Errors
    /// [`BrokerError::Mismatch`] when something of that name exists with other properties; all
    /// other queues are there then. [`BrokerError::Schema`] when a schema is refused.
    async fn declare(&self, topology: &Topology) -> Result<(), BrokerError>;

    /// Begins to receive from a channel. At most `prefetch` messages are out unacknowledged.
    async fn consume(
        &self,
        channel: &Channel,
        prefetch: u16,
    ) -> Result<Box<dyn Consumer>, BrokerError>;

    /// Publishes all, streaming the confirms, and answers for each in order. Only `Ok` means
    /// that the broker has it safe in a queue; anything else but [`PublishError::Unheard`] is
    /// unknown or not sent, and is to be sent again under the same id.
    async fn publish(&self, messages: &[Outgoing]) -> Vec<Result<(), PublishError>>;

    /// How the connections are at this moment; costs nothing. What has no connections is
    /// always connected.
    fn status(&self) -> Status {
        Status { publishing: Link::Connected, consuming: Link::Connected }
    }

    /// Closes the connections after what was acknowledged has been sent.
    async fn close(&self);
}

#[async_trait]
pub trait Consumer: Send {
    /// Waits for at least one message and takes what is there, up to `max`.
    ///
    /// # Errors
    /// The subscription has ended (connection lost, queue deleted): everything unacknowledged
    /// comes again, on this or another worker. Declare and consume anew.
    async fn receive(&mut self, max: usize) -> Result<Vec<Incoming>, BrokerError>;
}

/// A message as it came, not yet understood.
#[derive(Debug)]
pub struct Incoming {
    pub channel: Channel,
    pub body: Bytes,
    /// Properties and headers as text, by lower-case name. AMQP properties keep their names
    /// (`content-type`, `message-id`, `type`, `app-id`, …); the routing key is `routing-key`. Kafka
    /// has none of these: there they are taken from the CloudEvents attributes.
    pub headers: BTreeMap<String, String>,
    pub redelivered: bool,
    pub ticket: Ticket,
}

/// The right to acknowledge one delivery. Dropped unused, the message comes again, at the
/// latest when the connection ends.
pub struct Ticket(Option<Box<dyn FnOnce() + Send>>);

impl Ticket {
    pub fn new(acknowledge: impl FnOnce() + Send + 'static) -> Ticket {
        Ticket(Some(Box::new(acknowledge)))
    }

    /// The message is dealt with, durably. Never blocks; the broker may hear of it together
    /// with others.
    pub fn done(mut self) {
        if let Some(acknowledge) = self.0.take() {
            acknowledge();
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket")
    }
}

/// For readiness and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    pub publishing: Link,
    pub consuming: Link,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Connected,
    /// The broker takes nothing in for now (its memory or disk is full); consuming goes on.
    Blocked,
    /// Not used yet, lost or closed. The next call connects.
    Disconnected,
}

/// A message to publish.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub channel: Channel,
    pub event: Event,
}

/// Where messages go and come from, whatever the broker calls it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// In: orders and cancel requests.
    Orders,
    /// In: facts from couriers and warehouses.
    Facts,
    /// In: participants' answers.
    Replies,
    /// Answers to whoever gave this address as the `reply_to` of a command of their own. No
    /// worker consumes it. Whoever does also gets copies of what comes to [`Channel::Replies`]
    /// meanwhile, to see an answer that went astray: the `routing-key` of an answer to this
    /// address is the address. A broker with one place for all answers (a topic, read from its end
    /// in a group of one's own) delivers all of them here, without a `routing-key`.
    ReplyTo(String),
    /// Out: commands to one participant.
    Commands(String),
    /// Out: what the rest of the company may want to know. Nobody has to listen.
    Events,
    /// What the broker itself gave up delivering.
    Dead,
}

/// What a broker with connections says to a call after it was closed.
fn still_open(closing: &watch::Sender<bool>) -> Result<(), BrokerError> {
    match *closing.borrow() {
        true => Err(BrokerError::Unavailable { during: "closing", source: None }),
        false => Ok(()),
    }
}

/// The same of messages.
fn unpublished(messages: &[Outgoing]) -> Vec<Result<(), PublishError>> {
    let closed = PublishError::Unknown("the broker is closed".to_owned());
    vec![Err(closed); messages.len()]
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Channel::Orders => f.write_str("orders"),
            Channel::Facts => f.write_str("facts"),
            Channel::Replies => f.write_str("replies"),
            Channel::ReplyTo(address) => write!(f, "reply-to.{address}"),
            Channel::Commands(participant) => write!(f, "commands.{participant}"),
            Channel::Events => f.write_str("events"),
            Channel::Dead => f.write_str("dead"),
        }
    }
}

impl FromStr for Channel {
    type Err = String;

    fn from_str(text: &str) -> Result<Channel, String> {
        Ok(match text {
            "orders" => Channel::Orders,
            "facts" => Channel::Facts,
            "replies" => Channel::Replies,
            "events" => Channel::Events,
            "dead" => Channel::Dead,
            _ => match text.split_once('.') {
                Some(("commands", participant)) => Channel::Commands(participant.to_owned()),
                Some(("reply-to", address)) => Channel::ReplyTo(address.to_owned()),
                _ => return Err(format!("there is no channel '{text}'")),
            },
        })
    }
}

/// What the definitions in use need: the participants that get commands, and the events that
/// come in. Names without a major version, such as `order.created`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    pub participants: Vec<String>,
    pub orders: Vec<String>,
    pub facts: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("the broker is not available ({during})")]
    Unavailable {
        during: &'static str,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    #[error(
        "{what} exists with other properties than Makegood declares: {detail}. \
         Delete it, or use another virtual host or prefix"
    )]
    Mismatch { what: String, detail: String },
    /// A schema registry refuses a schema of Makegood's. Waiting does not heal it.
    #[error(
        "{0}. Look at the subject's compatibility (what Makegood sends may gain fields: FORWARD), \
         or at who else registers there"
    )]
    Schema(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No queue takes messages of this kind: the topology is damaged.
    #[error("no queue is bound for it")]
    Unroutable,
    /// The broker said no: a queue is full, say.
    #[error("the broker refused it")]
    Refused,
    /// No confirm: it may or may not have arrived.
    #[error("no confirm came: {0}")]
    Unknown(String),
    /// No confirm for a long time, from a broker that does answer otherwise: the queue that it
    /// went to is stuck. It may arrive later.
    #[error("its queue does not confirm")]
    Silent,
    /// An event to which nobody subscribes, or an answer for which nobody waits any more. That
    /// is nobody's fault: there is nothing to send again.
    #[error("nobody waits for it")]
    Unheard,
}
