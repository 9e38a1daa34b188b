//! A broker inside the process, for development and for tests of the worker.
//!
//! It keeps the promises of [`Broker`] as RabbitMQ does, delivery limit and dead-letter queue
//! included, and hands messages over as the same bytes. Nothing is durable. While a queue holds
//! a message, waiting or unacknowledged, simulated time stands still. A receiver that wants to
//! wait for simulated time must therefore acknowledge first.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use super::envelope::STRUCTURED;
use super::topology::DELIVERY_LIMIT;
use super::{
    Broker, BrokerError, Channel, Consumer, Event, Incoming, Link, Outgoing, PublishError, Status,
    Ticket, Topology,
};
use crate::clock::{Busy, Clock};

/// Most messages in one queue; more are refused, and their publisher has to wait, as it has to
/// when RabbitMQ runs out of memory. At 1 kB each this is 250 MB, and 2.5 times the largest
/// simulation that is run in development.
pub const MAX_QUEUED: usize = 250_000;

pub struct MemoryBroker {
    exchange: RwLock<Exchange>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Exchange {
    queues: HashMap<Channel, Arc<Queue>>,
    /// One queue per subscriber of events, for as long as it listens.
    subscribers: Vec<Weak<Queue>>,
    /// By address, the queues of those who listen to answers of their own.
    askers: HashMap<String, Weak<Queue>>,
    closed: bool,
}

impl MemoryBroker {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> MemoryBroker {
        MemoryBroker { exchange: RwLock::new(Exchange::default()), clock }
    }

    fn send(&self, exchange: &Exchange, outgoing: &Outgoing) -> Result<(), PublishError> {
        if exchange.closed {
            return Err(PublishError::Unknown("the broker is closed".to_owned()));
        }
        let message = || Message::of(&outgoing.event);
        if outgoing.channel == Channel::Events {
            let subscribers: Vec<_> =
                exchange.subscribers.iter().filter_map(Weak::upgrade).collect();
            if subscribers.is_empty() {
                return Err(PublishError::Unheard);
            }
            return subscribers.iter().try_for_each(|queue| queue.push(message()));
        }
        if let Channel::ReplyTo(address) = &outgoing.channel {
            let asker = exchange.askers.get(address).and_then(Weak::upgrade);
            return asker.ok_or(PublishError::Unheard)?.push(message().addressed_to(address));
        }
        let queue = exchange.queues.get(&outgoing.channel).ok_or(PublishError::Unroutable)?;
        if outgoing.channel == Channel::Replies {
            let askers = exchange.askers.values().filter_map(Weak::upgrade);
            askers.for_each(|asker| drop(asker.push(message()))); // a copy too many is none
        }
        queue.push(message())
    }
}

#[async_trait]
impl Broker for MemoryBroker {
    async fn declare(&self, topology: &Topology) -> Result<(), BrokerError> {
        let mut exchange = self.exchange.write().unwrap_or_else(PoisonError::into_inner);
        let dead = exchange
            .queues
            .entry(Channel::Dead)
            .or_insert_with(|| Queue::new(&self.clock, None))
            .clone();
        let commands = topology.participants.iter().cloned().map(Channel::Commands);
        for channel in
            [Channel::Orders, Channel::Facts, Channel::Replies].into_iter().chain(commands)
        {
            let queue = || Queue::new(&self.clock, Some(dead.clone()));
            exchange.queues.entry(channel).or_insert_with(queue);
        }
        Ok(())
    }

    async fn consume(
        &self,
        channel: &Channel,
        prefetch: u16,
    ) -> Result<Box<dyn Consumer>, BrokerError> {
        let mut exchange = self.exchange.write().unwrap_or_else(PoisonError::into_inner);
        let queue = match channel {
            Channel::Events => {
                let queue = Queue::new(&self.clock, None);
                exchange.subscribers.retain(|subscriber| subscriber.strong_count() > 0);
                exchange.subscribers.push(Arc::downgrade(&queue));
                Some(queue)
            }
            Channel::ReplyTo(address) => {
                let queue = Queue::new(&self.clock, None);
                exchange.askers.retain(|_, asker| asker.strong_count() > 0);
                exchange.askers.insert(address.clone(), Arc::downgrade(&queue));
                Some(queue)
            }
            _ => exchange.queues.get(channel).cloned(),
        };
        match queue {
            Some(queue) if !exchange.closed => Ok(Box::new(MemoryConsumer {
                channel: channel.clone(),
                queue,
                prefetch: usize::from(prefetch.max(1)),
                out: Arc::new(AtomicUsize::new(0)),
            })),
            _ => Err(ended()),
        }
    }

    async fn publish(&self, messages: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        let exchange = self.exchange.read().unwrap_or_else(PoisonError::into_inner);
        messages.iter().map(|outgoing| self.send(&exchange, outgoing)).collect()
    }

    fn status(&self) -> Status {
        let closed = self.exchange.read().unwrap_or_else(PoisonError::into_inner).closed;
        let link = if closed { Link::Disconnected } else { Link::Connected };
        Status { publishing: link, consuming: link }
    }

    async fn close(&self) {
        let mut exchange = self.exchange.write().unwrap_or_else(PoisonError::into_inner);
        exchange.closed = true;
        let own = exchange.subscribers.iter().chain(exchange.askers.values());
        for queue in exchange.queues.values().cloned().chain(own.filter_map(Weak::upgrade)) {
            queue.close();
        }
    }
}

fn ended() -> BrokerError {
    BrokerError::Unavailable { during: "consuming", source: None }
}

/// A message as a broker carries it.
#[derive(Clone)]
struct Message {
    body: Bytes,
    headers: Arc<BTreeMap<String, String>>,
    /// How often it was handed out and came back.
    returned: u32,
}

impl Message {
    fn of(event: &Event) -> Message {
        let optional = [
            ("correlation-id", &event.sagaid),
            ("traceparent", &event.traceparent),
            ("reply-to", &event.reply_to),
        ];
        let headers = [
            ("content-type", STRUCTURED),
            ("message-id", event.id.as_str()),
            ("type", event.kind.as_str()),
            ("routing-key", event.kind.as_str()),
        ]
        .into_iter()
        .chain(optional.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        Message { body: event.to_json().into(), headers: Arc::new(headers), returned: 0 }
    }

    fn addressed_to(mut self, address: &str) -> Message {
        let headers = Arc::make_mut(&mut self.headers);
        headers.insert("routing-key".to_owned(), address.to_owned());
        self
    }
}

struct Queue {
    state: Mutex<QueueState>,
    /// Something may be taken that could not be before, or the queue was closed.
    changed: Notify,
    clock: Arc<dyn Clock>,
    /// Takes what was delivered too often. The last resort has none, and keeps trying.
    dead: Option<Arc<Queue>>,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<Message>,
    unacknowledged: usize,
    /// Held while there is any message: one for the whole queue, so that it costs nothing.
    busy: Option<Busy>,
    closed: bool,
}

impl Queue {
    fn new(clock: &Arc<dyn Clock>, dead: Option<Arc<Queue>>) -> Arc<Queue> {
        let state = Mutex::new(QueueState::default());
        Arc::new(Queue { state, changed: Notify::new(), clock: clock.clone(), dead })
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, message: Message) -> Result<(), PublishError> {
        let mut state = self.state();
        if state.waiting.len() >= MAX_QUEUED {
            return Err(PublishError::Refused);
        }
        state.waiting.push_back(message);
        state.busy.get_or_insert_with(|| self.clock.busy());
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    fn take(&self, most: usize) -> Result<Vec<Message>, BrokerError> {
        let mut state = self.state();
        if state.closed {
            return Err(ended());
        }
        let most = most.min(state.waiting.len());
        state.unacknowledged += most;
        Ok(state.waiting.drain(..most).collect())
    }

    /// Ends a delivery; what was not acknowledged comes again, or is dead.
    fn settle(&self, unacknowledged: Option<Message>) {
        let mut state = self.state();
        state.unacknowledged -= 1;
        let mut beyond_limit = None;
        if let Some(mut message) = unacknowledged {
            message.returned = message.returned.saturating_add(1);
            if self.dead.is_some() && message.returned > DELIVERY_LIMIT {
                beyond_limit = Some(message);
            } else {
                state.waiting.push_front(message);
            }
        }
        let idle = state.unacknowledged == 0 && state.waiting.is_empty() && !state.closed;
        let busy = if idle { state.busy.take() } else { None };
        drop(state);
        if let (Some(mut message), Some(dead)) = (beyond_limit, &self.dead) {
            message.returned = 0;
            // A full dead-letter queue gives the message back, as it does at RabbitMQ.
            if dead.push(message.clone()).is_err() {
                let mut state = self.state();
                state.waiting.push_front(message);
                state.busy.get_or_insert_with(|| self.clock.busy());
            }
        }
        drop(busy); // only now: the dead letter holds time as well
        self.changed.notify_waiters();
    }

    fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.busy = None;
        drop(state);
        self.changed.notify_waiters();
    }
}

struct MemoryConsumer {
    channel: Channel,
    queue: Arc<Queue>,
    prefetch: usize,
    /// Deliveries that are neither acknowledged nor given back.
    out: Arc<AtomicUsize>,
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn receive(&mut self, max: usize) -> Result<Vec<Incoming>, BrokerError> {
        loop {
            let mut changed = std::pin::pin!(self.queue.changed.notified());
            changed.as_mut().enable(); // before the look, so that no change is missed
            let room = self.prefetch - self.out.load(Ordering::Acquire);
            let messages = self.queue.take(room.min(max.max(1)))?;
            if !messages.is_empty() {
                self.out.fetch_add(messages.len(), Ordering::AcqRel);
                return Ok(messages.into_iter().map(|message| self.deliver(message)).collect());
            }
            changed.await;
        }
    }
}

impl MemoryConsumer {
    fn deliver(&self, message: Message) -> Incoming {
        let (body, headers) = (message.body.clone(), (*message.headers).clone());
        let redelivered = message.returned > 0;
        let mut delivery =
            Delivery { queue: self.queue.clone(), out: self.out.clone(), message: Some(message) };
        let ticket = Ticket::new(move || delivery.acknowledge());
        Incoming { channel: self.channel.clone(), body, headers, redelivered, ticket }
    }
}

/// What a ticket holds on to: dropped with its message still inside, the message comes again.
struct Delivery {
    queue: Arc<Queue>,
    out: Arc<AtomicUsize>,
    message: Option<Message>,
}

impl Delivery {
    fn acknowledge(&mut self) {
        self.message = None;
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.out.fetch_sub(1, Ordering::AcqRel);
        self.queue.settle(self.message.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    use crate::clock::{SimulatedClock, SystemClock};
    use crate::saga::Time;

    fn outgoing(number: usize) -> Outgoing {
        let event = Event::new(number.to_string(), "/test", "order.created.v1", &[(); 0]);
        Outgoing { channel: Channel::Orders, event }
    }

    #[tokio::test]
    async fn simulated_time_stands_still_while_a_message_is_on_its_way() {
        let clock = SimulatedClock::starting_at(Time(0));
        let broker = MemoryBroker::new(Arc::new(clock.clone()));
        broker.declare(&Topology::default()).await.unwrap();
        let (at, held) = (Time(1_000), clock.busy());
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { drop(clock.sleep_until(at, held).await) }
        });
        broker.publish(&[outgoing(1)]).await[0].clone().unwrap();
        let mut consumer = broker.consume(&Channel::Orders, 10).await.unwrap();
        let received = consumer.receive(10).await.unwrap();
        let mut running = Box::pin(clock.run(|_| {}));
        for _ in 0..100 {
            assert!((&mut running).now_or_never().is_none(), "the message is out");
            tokio::task::yield_now().await;
        }
        assert_eq!(clock.now(), Time(0));
        received.into_iter().for_each(|incoming| incoming.ticket.done());
        running.await;
        sleeper.await.unwrap();
        assert_eq!(clock.now(), at);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_takes_again_once_there_is_room() {
        let broker = MemoryBroker::new(Arc::new(SystemClock::default()));
        broker.declare(&Topology::default()).await.unwrap();
        let batch = vec![outgoing(1); 1_000];
        for _ in 0..MAX_QUEUED / batch.len() {
            assert!(broker.publish(&batch).await.iter().all(Result::is_ok));
        }
        assert_eq!(broker.publish(&batch[..1]).await, [Err(PublishError::Refused)]);
        let mut consumer = broker.consume(&Channel::Orders, 1).await.unwrap();
        let received = consumer.receive(1).await.unwrap();
        received.into_iter().for_each(|incoming| incoming.ticket.done());
        assert_eq!(broker.publish(&batch[..1]).await, [Ok(())]);
    }

    #[tokio::test]
    async fn a_closed_broker_ends_its_consumers() {
        let broker = MemoryBroker::new(Arc::new(SystemClock::default()));
        broker.declare(&Topology::default()).await.unwrap();
        let mut consumer = broker.consume(&Channel::Orders, 1).await.unwrap();
        let (received, ()) = tokio::join!(consumer.receive(1), broker.close());
        assert!(received.is_err());
        assert!(matches!(broker.publish(&[outgoing(1)]).await[0], Err(PublishError::Unknown(_))));
        assert_eq!(broker.status().publishing, Link::Disconnected);
    }
}
