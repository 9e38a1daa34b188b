//! Receiving from a queue, and acknowledging what was dealt with.
//!
//! Tickets come back in any order, and each only drops a number into a mailbox. One spawned
//! settler per subscription takes what has gathered there and acknowledges everything up to the
//! first unfinished delivery with a single frame: the busier it is, the more at a time.
//!
//! A ticket that is dropped unused is *our* trouble. To hand its message back at once would
//! bring it again at once, twenty times within a second, and then it would count as dead. So it
//! stays out, and the subscription ends with an error at the next `receive`: whoever resumes
//! does so at the pace of its own backoff, and gets the message again.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::timeout;

use super::declaring::short;
use super::line::{Open, RequestError, unavailable};
use super::message::headers;
use crate::broker::topology::Names;
use crate::broker::watermark::Watermark;
use crate::broker::{BrokerError, Channel, Consumer, Incoming, Ticket};
use crate::clock::wait;

const DURING: &str = "consuming";
/// Tags taken from the mailbox at once. The mailbox itself holds at most the prefetch.
const SETTLED_AT_ONCE: usize = 4_096;
/// How long nothing may come before it is asked whether the queue still knows of a consumer. One
/// whose queue is deleted just when somebody declares it again may never hear of that, and would
/// wait for ever.
const LOOK_AFTER: Duration = Duration::from_secs(15);
/// How long deliveries that are out may still be acknowledged after their consumer is dropped.
/// Until then what it had not yet handed out is withheld from others.
const LAST_TICKETS: Duration = Duration::from_secs(5);
/// Answers that wait for one who asked and does not read: beyond that the oldest are dropped.
const MAX_ANSWERS: u32 = 10_000;
/// For the last acknowledgements and for closing the channel.
const FAREWELL: Duration = Duration::from_secs(5);

pub async fn consume(
    open: &Arc<Open>,
    names: &Names,
    channel: &Channel,
    prefetch: u16,
    closing: watch::Receiver<bool>,
) -> Result<Box<dyn Consumer>, BrokerError> {
    let failed = |error| unavailable(DURING, error);
    let amqp = open.ask(open.connection.create_channel()).await.map_err(failed)?;
    let qos = BasicQosOptions { global: false };
    open.ask(amqp.basic_qos(prefetch.max(1), qos)).await.map_err(failed)?;
    let name = names.queue(channel).map(|queue| short(&queue)).transpose()?;
    let (shared, queue) = match (channel, name) {
        (Channel::ReplyTo(_), Some(address)) => {
            let (exchange, everybodys) = (short(&names.replies())?, short(&names.replies())?);
            let keys = [address.clone(), everybodys];
            let mut bound = FieldTable::default();
            bound.insert("x-max-length".into(), AMQPValue::LongLongInt(MAX_ANSWERS.into()));
            let queue = queue_of_our_own(open, &amqp, (address, bound), exchange, keys).await;
            (None, queue.map_err(failed)?)
        }
        (_, Some(queue)) => (Some(queue.clone()), queue),
        (_, None) => {
            let (exchange, all) = (short(&names.events())?, ["#".into()]);
            let unnamed = ("".into(), FieldTable::default());
            let queue = queue_of_our_own(open, &amqp, unnamed, exchange, all).await;
            (None, queue.map_err(failed)?)
        }
    };
    let options = BasicConsumeOptions::default();
    let request = amqp.basic_consume(queue, "".into(), options, FieldTable::default());
    let deliveries = open.ask(request).await.map_err(failed)?;

    let (settled, mailbox) = mpsc::unbounded_channel();
    let (alive, dropped) = oneshot::channel();
    tokio::spawn(settle(amqp.clone(), mailbox, dropped, closing));
    Ok(Box::new(AmqpConsumer {
        channel: channel.clone(),
        queue: shared,
        open: Arc::downgrade(open),
        amqp,
        deliveries,
        settled,
        given_up: Arc::new(Notify::new()),
        ended: false,
        _alive: alive,
    }))
}

/// A queue of our own, for as long as this connection lives, with what an exchange gets under
/// these keys. An empty name leaves the name to RabbitMQ.
async fn queue_of_our_own(
    open: &Open,
    amqp: &lapin::Channel,
    (name, arguments): (ShortString, FieldTable),
    exchange: ShortString,
    keys: impl IntoIterator<Item = ShortString>,
) -> Result<ShortString, RequestError> {
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    let queue = open.ask(amqp.queue_declare(name, options, arguments)).await?;
    let name = queue.name().clone();
    for key in keys {
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        let bind = amqp.queue_bind(name.clone(), exchange.clone(), key, options, arguments);
        open.ask(bind).await?;
    }
    Ok(name)
}

struct AmqpConsumer {
    channel: Channel,
    /// Of which others may be consumers, too.
    queue: Option<ShortString>,
    open: Weak<Open>,
    amqp: lapin::Channel,
    deliveries: lapin::Consumer,
    settled: mpsc::UnboundedSender<u64>,
    /// A ticket was dropped unused.
    given_up: Arc<Notify>,
    /// lapin tells of the end once and then says nothing for ever.
    ended: bool,
    /// Tells the settler when the consumer is gone.
    _alive: oneshot::Sender<()>,
}

#[async_trait]
impl Consumer for AmqpConsumer {
    async fn receive(&mut self, max: usize) -> Result<Vec<Incoming>, BrokerError> {
        if self.ended {
            return Err(over());
        }
        let first = loop {
            tokio::select! {
                biased;
                () = self.given_up.notified() => {
                    // Whoever asks again gets the same answer.
                    self.given_up.notify_one();
                    return Err(unavailable(DURING, "a delivery was not acknowledged"));
                }
                delivery = self.deliveries.next() => break delivery,
                () = wait(LOOK_AFTER) => self.look().await.inspect_err(|_| self.ended = true)?,
            }
        };
        let mut received = vec![self.accept(first).inspect_err(|_| self.ended = true)?];
        while received.len() < max {
            match self.deliveries.next().now_or_never() {
                None => break,
                Some(Some(Ok(delivery))) => received.push(self.incoming(delivery)),
                // What came before the end is still handed out.
                Some(_) => {
                    self.ended = true;
                    break;
                }
            }
        }
        Ok(received)
    }
}

impl AmqpConsumer {
    /// Asks whether the queue is there and has a consumer: if it has none, we are none.
    async fn look(&self) -> Result<(), BrokerError> {
        // With deliveries out there is a reason why no more come, and they must not come again
        // for nothing.
        let nothing_is_out = Arc::strong_count(&self.given_up) == 1;
        let (Some(queue), true) = (&self.queue, nothing_is_out) else { return Ok(()) };
        let failed = |error| unavailable(DURING, error);
        let open = self.open.upgrade().ok_or_else(over)?;
        // A channel of its own: asked for a queue that is not there, RabbitMQ closes it.
        let amqp = open.ask(open.connection.create_channel()).await.map_err(failed)?;
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let request = amqp.queue_declare(queue.clone(), options, FieldTable::default());
        let found = open.ask(request).await.map_err(failed)?;
        let _ = open.ask(amqp.close(200, "looked".into())).await;
        if found.consumer_count() == 0 { Err(over()) } else { Ok(()) }
    }

    fn accept(&self, next: Option<lapin::Result<Delivery>>) -> Result<Incoming, BrokerError> {
        match next {
            // What was buffered before the connection was lost cannot be acknowledged any more,
            // and is already on its way to somebody else.
            Some(Ok(delivery)) if self.amqp.status().connected() => Ok(self.incoming(delivery)),
            Some(Err(error)) => Err(unavailable(DURING, error)),
            // The end without an error: the queue was deleted, or the connection closed.
            Some(Ok(_)) | None => Err(over()),
        }
    }

    fn incoming(&self, delivery: Delivery) -> Incoming {
        let headers = headers(&delivery.properties, &delivery.routing_key);
        let mut out = Out {
            tag: Some(delivery.delivery_tag),
            settled: self.settled.clone(),
            given_up: self.given_up.clone(),
        };
        Incoming {
            channel: self.channel.clone(),
            body: Bytes::from(delivery.data),
            headers,
            redelivered: delivery.redelivered,
            ticket: Ticket::new(move || out.done()),
        }
    }
}

fn over() -> BrokerError {
    BrokerError::Unavailable { during: DURING, source: None }
}

/// A delivery that is out.
struct Out {
    tag: Option<u64>,
    settled: mpsc::UnboundedSender<u64>,
    given_up: Arc<Notify>,
}

impl Out {
    fn done(&mut self) {
        if let Some(tag) = self.tag.take() {
            // Without a settler the subscription is over, and the message comes again.
            let _ = self.settled.send(tag);
        }
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if self.tag.is_some() {
            self.given_up.notify_one();
        }
    }
}

/// Acknowledges until the broker is closed or all tickets of a dropped consumer are back, and
/// closes the channel: what is unacknowledged then comes again.
async fn settle(
    amqp: lapin::Channel,
    mut mailbox: mpsc::UnboundedReceiver<u64>,
    mut dropped: oneshot::Receiver<()>,
    mut closing: watch::Receiver<bool>,
) {
    // A channel counts its deliveries from 1, and has this one consumer.
    let mut mark = Watermark::starting_at(1);
    let mut tags = Vec::new();
    let mut last_tickets: BoxFuture<'static, ()> = Box::pin(std::future::pending());
    let (mut is_dropped, mut is_closing) = (false, false);
    loop {
        tokio::select! {
            taken = mailbox.recv_many(&mut tags, SETTLED_AT_ONCE) => {
                if taken == 0 {
                    break;
                }
                let up_to = tags.drain(..).filter_map(|tag| mark.finish(tag)).last();
                let Some(tag) = up_to else { continue };
                let acknowledged = amqp.basic_ack(tag, BasicAckOptions { multiple: true }).await;
                if acknowledged.is_err() {
                    return; // the channel is gone, and with it every delivery tag
                }
            }
            // Closed to new ones; what is in the mailbox is still taken out.
            () = closed(&mut closing), if !is_closing => {
                is_closing = true;
                mailbox.close();
            }
            _ = &mut dropped, if !is_dropped => {
                is_dropped = true;
                last_tickets = Box::pin(wait(LAST_TICKETS));
            }
            () = &mut last_tickets, if is_dropped && !is_closing => {
                is_closing = true;
                mailbox.close();
            }
        }
    }
    let farewell = async {
        if let Some(highest) = mark.highest_beyond() {
            // What is unfinished goes back, as it would when the channel closes, so that one
            // frame acknowledges the rest. An ack for each would be lost: RabbitMQ 3.10 drops
            // what a quorum queue has not yet taken in, beyond some 32, when a channel closes.
            for gap in mark.gaps() {
                amqp.basic_reject(gap, BasicRejectOptions { requeue: true }).await?;
            }
            amqp.basic_ack(highest, BasicAckOptions { multiple: true }).await?;
        }
        amqp.close(200, "consumed".into()).await
    };
    // Whether it succeeds makes no difference any more: what the broker missed comes again.
    let _ = timeout(FAREWELL, farewell).await;
}

async fn closed(closing: &mut watch::Receiver<bool>) {
    if closing.wait_for(|closing| *closing).await.is_err() {
        // The broker was dropped, and not closed: its subscriptions go on.
        std::future::pending::<()>().await;
    }
}
