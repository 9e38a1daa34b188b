//! Makes exchanges, queues and bindings exist, exactly as [`Layout`] says.

use lapin::options::{
    ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{ErrorKind, ExchangeKind};

use super::line::{Open, RequestError, unavailable};
use crate::broker::BrokerError;
use crate::broker::topology::{Layout, QueueLayout, Routing};

const DURING: &str = "declaring queues";

/// Declares everything that can be: one queue that is different is told at the end, and keeps
/// none of the others from being there.
pub async fn declare(open: &Open, layout: &Layout) -> Result<(), BrokerError> {
    let failed = |error| unavailable(DURING, error);
    let mut channel = open.ask(open.connection.create_channel()).await.map_err(failed)?;
    for (name, routing) in &layout.exchanges {
        let kind = match routing {
            Routing::Topic => ExchangeKind::Topic,
            Routing::Direct => ExchangeKind::Direct,
            Routing::Fanout => ExchangeKind::Fanout,
        };
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let request = channel.exchange_declare(short(name)?, kind, options, FieldTable::default());
        open.ask(request).await.map_err(|error| refused("the exchange", name, error))?;
    }
    let mut mismatch = None;
    for queue in &layout.queues {
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        let request = channel.queue_declare(short(&queue.name)?, options, arguments(queue));
        match open.ask(request).await.map_err(|error| refused("the queue", &queue.name, error)) {
            Ok(_) => {}
            Err(different @ BrokerError::Mismatch { .. }) => {
                mismatch.get_or_insert(different);
                // The broker has closed this one for it.
                channel = open.ask(open.connection.create_channel()).await.map_err(failed)?;
            }
            Err(error) => return Err(error),
        }
    }
    for binding in &layout.bindings {
        let request = channel.queue_bind(
            short(&binding.queue)?,
            short(&binding.exchange)?,
            short(&binding.key)?,
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        open.ask(request).await.map_err(failed)?;
    }
    open.ask(channel.close(200, "declared".into())).await.map_err(failed)?;
    mismatch.map_or(Ok(()), Err)
}

/// Opens a channel on which every message is confirmed.
pub async fn confirming_channel(open: &Open) -> Result<lapin::Channel, RequestError> {
    let channel = open.ask(open.connection.create_channel()).await?;
    open.ask(channel.confirm_select(ConfirmSelectOptions::default())).await?;
    Ok(channel)
}

/// AMQP has room for 255 bytes in a name.
pub fn short(name: &str) -> Result<ShortString, BrokerError> {
    ShortString::try_new(name).map_err(|error| unavailable(DURING, error))
}

fn arguments(queue: &QueueLayout) -> FieldTable {
    let text = |value: &str| AMQPValue::LongString(value.into());
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    // Without a limit of its own a queue has none before RabbitMQ 4, and 20 since.
    arguments
        .insert("x-delivery-limit".into(), AMQPValue::LongLongInt(queue.delivery_limit.into()));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    if let Some(exchange) = &queue.dead_letter_exchange {
        arguments.insert("x-dead-letter-exchange".into(), text(exchange));
        // The default strategy drops the dead letter when the broker stumbles at that moment.
        arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    }
    arguments
}

/// 406 means that it exists and is different: no retry will help.
fn refused(what: &str, name: &str, error: RequestError) -> BrokerError {
    if let RequestError::Broker(broker) = &error
        && let ErrorKind::ProtocolError(protocol) = broker.kind()
        && *protocol.kind() == AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)
    {
        let detail = protocol.get_message().to_string();
        return BrokerError::Mismatch { what: format!("{what} '{name}'"), detail };
    }
    unavailable(DURING, error)
}
