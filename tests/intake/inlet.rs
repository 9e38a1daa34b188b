//! The memory broker with a second opening, through which a test pushes any bytes and any
//! headers, and learns when the worker has acknowledged them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use makegood::broker::memory::MemoryBroker;
use makegood::broker::{
    Broker, BrokerError, Channel, Consumer, Incoming, Outgoing, PublishError, Ticket, Topology,
};
use makegood::clock::SystemClock;
use tokio::sync::{Mutex, mpsc, oneshot};

type Opening = Arc<Mutex<mpsc::UnboundedReceiver<Incoming>>>;

pub struct Inlet {
    /// While it is set, nobody can subscribe to replies.
    pub replies_are_away: AtomicBool,
    /// How often somebody tried all the same.
    pub refused: AtomicUsize,
    /// How many subscriptions were given up.
    pub given_up: Arc<AtomicUsize>,
    memory: MemoryBroker,
    senders: HashMap<Channel, mpsc::UnboundedSender<Incoming>>,
    openings: HashMap<Channel, Opening>,
}

impl Inlet {
    pub fn new() -> Inlet {
        let (mut senders, mut openings) = (HashMap::new(), HashMap::new());
        for channel in [Channel::Orders, Channel::Facts, Channel::Replies] {
            let (sender, receiver) = mpsc::unbounded_channel();
            senders.insert(channel.clone(), sender);
            openings.insert(channel, Arc::new(Mutex::new(receiver)));
        }
        let memory = MemoryBroker::new(Arc::new(SystemClock::default()));
        let (replies_are_away, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
        let given_up = Arc::default();
        Inlet { replies_are_away, refused, given_up, memory, senders, openings }
    }

    /// Delivers one message. The receiver hears of its acknowledgement, or, with an error,
    /// that it was let go without one.
    pub fn push(
        &self,
        channel: Channel,
        body: Vec<u8>,
        headers: BTreeMap<String, String>,
        redelivered: bool,
    ) -> oneshot::Receiver<()> {
        let (acknowledged, receiver) = oneshot::channel();
        let ticket = Ticket::new(move || {
            let _ = acknowledged.send(()); // a test that has given up does not listen
        });
        let sender = &self.senders[&channel];
        let body = body.into();
        let incoming = Incoming { channel, body, headers, redelivered, ticket };
        sender.send(incoming).expect("the broker keeps the other end");
        receiver
    }
}

#[async_trait]
impl Broker for Inlet {
    async fn declare(&self, topology: &Topology) -> Result<(), BrokerError> {
        self.memory.declare(topology).await
    }

    async fn consume(
        &self,
        channel: &Channel,
        prefetch: u16,
    ) -> Result<Box<dyn Consumer>, BrokerError> {
        if *channel == Channel::Replies && self.replies_are_away.load(Ordering::Relaxed) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(BrokerError::Unavailable { during: "a test", source: None });
        }
        let memory = self.memory.consume(channel, prefetch).await?;
        Ok(match self.openings.get(channel) {
            Some(opening) => {
                let (opening, given_up) = (opening.clone(), self.given_up.clone());
                Box::new(Merged { memory, opening, given_up })
            }
            None => memory,
        })
    }

    async fn publish(&self, messages: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        self.memory.publish(messages).await
    }

    async fn close(&self) {
        self.memory.close().await;
    }
}

struct Merged {
    memory: Box<dyn Consumer>,
    opening: Opening,
    given_up: Arc<AtomicUsize>,
}

impl Drop for Merged {
    fn drop(&mut self) {
        self.given_up.fetch_add(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Consumer for Merged {
    async fn receive(&mut self, max: usize) -> Result<Vec<Incoming>, BrokerError> {
        let mut opening = self.opening.lock().await;
        tokio::select! {
            received = self.memory.receive(max) => received,
            Some(pushed) = opening.recv() => Ok(vec![pushed]),
        }
    }
}
