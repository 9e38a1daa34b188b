//! Publishing with confirms: the messages of a batch go out one behind the other, and their
//! confirms are taken in as they come.
//!
//! Success is one thing only: the broker's `ack` for a message that it did not return; so all
//! are published as mandatory. Which confirm carries a returned message says nothing, though:
//! lapin hands it to whichever confirm it settles next, and a broker that acknowledges many at
//! once makes that any of them. So each batch has a channel to itself, and a returned message is
//! told by what it says it is.
//!
//! One queue may not confirm while the others do. What the others confirmed counts, and the
//! connection, which others publish on as well, is kept while the broker answers on it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::message::BasicReturnMessage;
use lapin::options::BasicPublishOptions;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::ShortString;
use lapin::{Confirmation, ErrorKind};
use tokio::time::timeout;

use super::declaring::confirming_channel;
use super::line::{Line, Open};
use super::message::properties;
use crate::broker::topology::{Names, Route};
use crate::broker::{Channel, Link, Outgoing, PublishError};
use crate::telemetry::chain;

/// Messages of one batch that wait for their confirm. RabbitMQ reaches its full speed at some
/// hundreds; more would only fill memory.
const IN_FLIGHT: usize = 1_000;
/// Longest time without any confirm while some are waited for. Beyond it nothing is known.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(15);
/// Channels kept for the next batches; as many as are ever published at the same time.
const IDLE_CHANNELS: usize = 16;
/// Channels that wait for silent queues before the connection is made anew to be rid of them:
/// RabbitMQ closes none while its queue is silent, and a connection has room for 2,047.
const MAX_STUCK: usize = 200;

pub struct Publisher {
    line: Line,
    names: Names,
    idle: Mutex<Vec<lapin::Channel>>,
    stuck: AtomicUsize,
    reply_to: ShortString,
}

/// What a returned message says it is: id, exchange and routing key.
type Identity = (String, String, String);

impl Publisher {
    pub fn new(line: Line, names: Names) -> Publisher {
        let reply_to = ShortString::try_new(names.replies()).unwrap_or_default();
        Publisher { line, names, idle: Mutex::default(), stuck: AtomicUsize::default(), reply_to }
    }

    pub fn link(&self) -> Link {
        self.line.link()
    }

    pub async fn close(&self) {
        // The connection first: a channel that is dropped says goodbye, and a connection that
        // ends meanwhile is an error to lapin's log.
        self.line.close().await;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub async fn publish(&self, messages: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        use PublishError::{Unheard, Unroutable};
        if messages.is_empty() {
            return Vec::new();
        }
        let nothing_sent = |error: PublishError| vec![Err(error); messages.len()];
        let open = match self.line.open().await {
            Ok(open) => open,
            Err(error) => return nothing_sent(unknown(&error)),
        };
        if self.line.link() == Link::Blocked {
            // What is sent now would wait in the socket and arrive after all, again and again
            // for as long as the broker's memory is full.
            return nothing_sent(PublishError::Refused);
        }
        let channel = match self.channel(&open).await {
            Ok(channel) => channel,
            Err(error) => return nothing_sent(unknown(&error)),
        };
        let answers = self.stream(&open, &channel, messages).await;
        // Where a confirm is missing it may still come. And a channel that was refused goes on
        // refusing, at RabbitMQ 3.10, after the limit of the queue was raised.
        if answers.iter().all(|answer| matches!(answer, Ok(()) | Err(Unroutable | Unheard))) {
            self.keep(channel);
        }
        answers
    }

    /// A channel on which nothing is under way.
    async fn channel(&self, open: &Open) -> Result<lapin::Channel, impl std::error::Error + use<>> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match idle {
                Some(channel) if channel.status().connected() => return Ok(channel),
                Some(_) => {} // of a lost connection
                None => return confirming_channel(open).await,
            }
        }
    }

    async fn stream(
        &self,
        open: &Open,
        channel: &lapin::Channel,
        messages: &[Outgoing],
    ) -> Vec<Result<(), PublishError>> {
        let mut returned = HashSet::new();
        let mut answers: Vec<Option<Result<(), PublishError>>> = vec![None; messages.len()];
        let send = async |(index, message)| (index, self.send(channel, message).await);
        let mut waiting = messages.iter().enumerate();
        let mut confirms: FuturesUnordered<_> =
            waiting.by_ref().take(IN_FLIGHT).map(send).collect();
        while let Ok(Some((index, confirm))) = timeout(CONFIRM_TIMEOUT, confirms.next()).await {
            let Settled { answer, carries } = confirm;
            answers[index] = Some(answer);
            returned.extend(carries.map(identity));
            confirms.extend(waiting.next().map(send));
        }
        drop(confirms);
        if answers.iter().any(Option::is_none) {
            let late = self.late(open).await;
            let unanswered = answers.iter_mut().filter(|answer| answer.is_none());
            unanswered.for_each(|answer| *answer = Some(Err(late.clone())));
        }
        let mut answers: Vec<Result<(), PublishError>> = answers.into_iter().flatten().collect();
        if !returned.is_empty() {
            self.take_back(messages, &mut answers, &returned);
        }
        answers
    }

    /// Why some confirms did not come in time: told by whether the broker opens another channel on
    /// the same connection. One that does not even do that loses the connection for it. (It is not
    /// asked to close this one: RabbitMQ would wait for the silent queue as well.)
    async fn late(&self, open: &Open) -> PublishError {
        if self.line.link() == Link::Blocked {
            // It reads nothing from this connection now, and takes these in later.
            return PublishError::Unknown("the broker takes nothing in for now".to_owned());
        }
        match confirming_channel(open).await {
            Ok(channel) => {
                if self.stuck.fetch_add(1, Ordering::Relaxed) + 1 < MAX_STUCK {
                    self.keep(channel);
                } else {
                    self.stuck.store(0, Ordering::Relaxed);
                    open.cut();
                }
                PublishError::Silent
            }
            Err(error) => unknown(&error),
        }
    }

    /// Keeps a channel on which nothing is under way for the next batch.
    fn keep(&self, channel: lapin::Channel) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_CHANNELS {
            idle.push(channel);
        }
    }

    /// Sends one message and waits for its confirm.
    async fn send(
        &self,
        channel: &lapin::Channel,
        Outgoing { channel: destination, event }: &Outgoing,
    ) -> Settled {
        let Route { exchange, key } = self.names.route(destination, event);
        let (Ok(exchange), Ok(key)) = (ShortString::try_new(exchange), ShortString::try_new(key))
        else {
            return Settled::by(Err(PublishError::Refused)); // no broker can ever take such a name
        };
        let is_command = matches!(destination, Channel::Commands(_));
        let own = event.reply_to.as_deref().and_then(|to| ShortString::try_new(to).ok());
        let reply_to = own.as_ref().or(is_command.then_some(&self.reply_to));
        let properties = properties(event, reply_to);
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let confirm =
            channel.basic_publish(exchange, key, options, &event.to_json(), properties).await;
        let confirm = match confirm {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        match confirm {
            Ok(Confirmation::Ack(returned)) => {
                Settled { answer: Ok(()), carries: returned.map(Box::new) }
            }
            Ok(Confirmation::Nack(returned)) => {
                let answer = Err(PublishError::Refused);
                Settled { answer, carries: returned.map(Box::new) }
            }
            Ok(Confirmation::NotRequested) => {
                let why = "the channel does not confirm".to_owned();
                Settled::by(Err(PublishError::Unknown(why)))
            }
            Err(error) if is_missing(&error) => Settled::by(Err(PublishError::Unroutable)),
            Err(error) => Settled::by(Err(unknown(&error))),
        }
    }

    fn take_back(
        &self,
        messages: &[Outgoing],
        answers: &mut [Result<(), PublishError>],
        returned: &HashSet<Identity>,
    ) {
        // Not every message that was returned has been handed out by lapin if the connection was
        // lost before their confirms: then no good answer can be trusted. Where it was not, a
        // returned message has been confirmed at once, whatever other queues do.
        let complete =
            !answers.iter().any(|answer| matches!(answer, Err(PublishError::Unknown(_))));
        for (message, answer) in messages.iter().zip(answers) {
            if answer.is_err() {
                continue;
            }
            let Route { exchange, key } = self.names.route(&message.channel, &message.event);
            if returned.contains(&(message.event.id.clone(), exchange, key)) {
                *answer = Err(match &message.channel {
                    Channel::Events => PublishError::Unheard,
                    Channel::ReplyTo(address) if address != self.reply_to.as_str() => {
                        PublishError::Unheard
                    }
                    _ => PublishError::Unroutable,
                });
            } else if !complete {
                *answer = Err(PublishError::Unknown("others of its batch came back".to_owned()));
            }
        }
    }
}

/// What came of one message.
struct Settled {
    answer: Result<(), PublishError>,
    /// A message that the broker returned: this one or another.
    carries: Option<Box<BasicReturnMessage>>,
}

impl Settled {
    fn by(answer: Result<(), PublishError>) -> Settled {
        Settled { answer, carries: None }
    }
}

fn identity(returned: Box<BasicReturnMessage>) -> Identity {
    let delivery = returned.delivery;
    let id = delivery.properties.message_id().as_ref().map_or("", ShortString::as_str).to_owned();
    (id, delivery.exchange.into(), delivery.routing_key.into())
}

/// 404: the exchange itself is gone. Nothing that was not confirmed has arrived anywhere.
fn is_missing(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(protocol)
        if *protocol.kind() == AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND))
}

fn unknown(error: &dyn std::error::Error) -> PublishError {
    PublishError::Unknown(chain(error))
}
