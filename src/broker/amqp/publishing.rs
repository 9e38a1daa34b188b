//! Publishing with confirms: the messages of a batch go out one behind the other, and their
//! confirms are taken in as they come.
//!
//! Success is one thing only: the broker's `ack` for a message that it did not return. Which
//! confirm carries a returned message says nothing, though: lapin hands it to whichever confirm
//! it settles next, and a broker that acknowledges many at once makes that any of them. So each
//! batch has a channel to itself, and a returned message is told by what it says it is.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
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

/// Messages of one batch that wait for their confirm. RabbitMQ reaches its full speed at some
/// hundreds; more would only fill memory.
const IN_FLIGHT: usize = 1_000;
/// Longest time without any confirm while some are waited for. Beyond it nothing is known.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(15);
/// Channels kept for the next batches; as many as are ever published at the same time.
const IDLE_CHANNELS: usize = 16;

pub struct Publisher {
    line: Line,
    names: Names,
    idle: Mutex<Vec<lapin::Channel>>,
    reply_to: ShortString,
}

/// What a returned message says it is: id, exchange and routing key.
type Identity = (String, String, String);

impl Publisher {
    pub fn new(line: Line, names: Names) -> Publisher {
        let reply_to = ShortString::try_new(names.replies()).unwrap_or_default();
        Publisher { line, names, idle: Mutex::default(), reply_to }
    }

    pub fn link(&self) -> Link {
        self.line.link()
    }

    pub async fn close(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.line.close().await;
    }

    pub async fn publish(&self, messages: &[Outgoing]) -> Vec<Result<(), PublishError>> {
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
        let conclusive =
            !answers.iter().any(|answer| matches!(answer, Err(PublishError::Unknown(_))));
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if conclusive && idle.len() < IDLE_CHANNELS {
            idle.push(channel);
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
        let mut answers = Vec::with_capacity(messages.len());
        let (first, rest) = messages.split_at(messages.len().min(IN_FLIGHT));
        let mut confirms: FuturesOrdered<_> =
            first.iter().map(|message| self.send(channel, message)).collect();
        let mut rest = rest.iter();
        while let Ok(Some(confirm)) = timeout(CONFIRM_TIMEOUT, confirms.next()).await {
            answers.push(confirm.map(|message| returned.extend(message.map(identity))));
            if let Some(message) = rest.next() {
                confirms.push_back(self.send(channel, message));
            }
        }
        drop(confirms);
        if answers.len() < messages.len() {
            if self.line.link() != Link::Blocked {
                open.cut();
            }
            let late = PublishError::Unknown("the broker did not confirm in time".to_owned());
            answers.resize(messages.len(), Err(late));
        }
        if !returned.is_empty() {
            self.take_back(messages, &mut answers, &returned);
        }
        answers
    }

    /// Sends one message and waits for its confirm, which may carry a returned message: this
    /// one or another.
    async fn send(
        &self,
        channel: &lapin::Channel,
        Outgoing { channel: destination, event }: &Outgoing,
    ) -> Result<Option<Box<BasicReturnMessage>>, PublishError> {
        let Route { exchange, key, mandatory } = self.names.route(destination, event);
        let (Ok(exchange), Ok(key)) = (ShortString::try_new(exchange), ShortString::try_new(key))
        else {
            return Err(PublishError::Refused); // no broker can ever take such a name
        };
        let is_command = matches!(destination, Channel::Commands(_));
        let properties = properties(event, is_command.then_some(&self.reply_to));
        let options = BasicPublishOptions { mandatory, ..Default::default() };
        let confirm =
            channel.basic_publish(exchange, key, options, &event.to_json(), properties).await;
        let confirm = match confirm {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        match confirm {
            Ok(Confirmation::Ack(returned)) => Ok(returned.map(Box::new)),
            Ok(Confirmation::Nack(_)) => Err(PublishError::Refused),
            Ok(Confirmation::NotRequested) => {
                Err(PublishError::Unknown("the channel does not confirm".to_owned()))
            }
            Err(error) if is_missing(&error) => Err(PublishError::Unroutable),
            Err(error) => Err(unknown(&error)),
        }
    }

    fn take_back(
        &self,
        messages: &[Outgoing],
        answers: &mut [Result<(), PublishError>],
        returned: &HashSet<Identity>,
    ) {
        // Not every message that was returned has been handed out by lapin if some confirms
        // never came: then no good answer can be trusted.
        let complete =
            !answers.iter().any(|answer| matches!(answer, Err(PublishError::Unknown(_))));
        for (message, answer) in messages.iter().zip(answers) {
            let Route { exchange, key, mandatory } =
                self.names.route(&message.channel, &message.event);
            if answer.is_err() || !mandatory {
                continue;
            }
            if returned.contains(&(message.event.id.clone(), exchange, key)) {
                *answer = Err(PublishError::Unroutable);
            } else if !complete {
                *answer = Err(PublishError::Unknown("others of its batch came back".to_owned()));
            }
        }
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
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    PublishError::Unknown(text)
}
