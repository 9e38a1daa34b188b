//! RabbitMQ, over AMQP 0-9-1.
//!
//! Two connections ([`line`]), each made on first use: one publishes, the other declares and
//! consumes. Nothing recovers behind anybody's back: after a failure the caller declares,
//! consumes or publishes again, and the next call connects. lapin logs a returned message with
//! its body, and connections in detail: whoever sets up logging must keep `lapin` quiet.

mod consuming;
mod declaring;
mod line;
mod message;
mod publishing;

use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use tokio::sync::watch;
use tokio::time::timeout;

use super::topology::Names;
use super::{
    Broker, BrokerError, Channel, Consumer, Outgoing, PublishError, Status, Topology, still_open,
    unpublished,
};
pub use line::InvalidUrl;
use line::{Address, Line};
use publishing::Publisher;

/// For sending the last acknowledgements when the broker is closed. They are small; what is
/// not out by then comes again after the restart, and is recognised.
const LAST_ACKNOWLEDGEMENTS: Duration = Duration::from_secs(5);

/// How to reach RabbitMQ, and what to be called there.
#[derive(Clone)]
pub struct AmqpOptions {
    /// `amqp://user:password@host:port/vhost`, or `amqps://` for TLS with the system's
    /// certificates.
    pub url: SecretString,
    /// Shown in RabbitMQ's management beside each connection.
    pub connection_name: String,
    /// Put before the names of all queues and exchanges; see [`Names::prefix`].
    pub prefix: String,
}

pub struct AmqpBroker {
    names: Names,
    publisher: Publisher,
    consuming: Line,
    /// Turns true when the broker is closed. Each subscription holds a receiver until its last
    /// acknowledgement is out.
    closing: watch::Sender<bool>,
}

impl AmqpBroker {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// The URL is not one.
    pub fn new(options: AmqpOptions) -> Result<AmqpBroker, InvalidUrl> {
        let address = Address::new(options.url)?;
        let line = |what| Line::new(format!("{} {what}", options.connection_name), address.clone());
        let names = Names { prefix: options.prefix };
        Ok(AmqpBroker {
            publisher: Publisher::new(line("publishing"), names.clone()),
            consuming: line("consuming"),
            closing: watch::Sender::new(false),
            names,
        })
    }
}

#[async_trait]
impl Broker for AmqpBroker {
    async fn declare(&self, topology: &Topology) -> Result<(), BrokerError> {
        still_open(&self.closing)?;
        let open = self.consuming.open().await?;
        declaring::declare(&open, &self.names.layout(topology)).await
    }

    async fn consume(
        &self,
        channel: &Channel,
        prefetch: u16,
    ) -> Result<Box<dyn Consumer>, BrokerError> {
        still_open(&self.closing)?;
        let open = self.consuming.open().await?;
        let closing = self.closing.subscribe();
        consuming::consume(&open, &self.names, channel, prefetch, closing).await
    }

    async fn publish(&self, messages: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        if still_open(&self.closing).is_err() {
            return unpublished(messages);
        }
        self.publisher.publish(messages).await
    }

    fn status(&self) -> Status {
        Status { publishing: self.publisher.link(), consuming: self.consuming.link() }
    }

    async fn close(&self) {
        self.closing.send_replace(true);
        // Elapsed means that the broker does not take them; nothing more can be done.
        let _ = timeout(LAST_ACKNOWLEDGEMENTS, self.closing.closed()).await;
        tokio::join!(self.publisher.close(), self.consuming.close());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_url_is_refused_without_being_quoted() {
        let options = AmqpOptions {
            url: "http://user:s3cret@host".to_owned().into(),
            connection_name: String::new(),
            prefix: String::new(),
        };
        let error = AmqpBroker::new(options).err().expect("not an AMQP URL");
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }
}
