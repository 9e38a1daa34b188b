//! What all clients of a cluster share: what librdkafka tells on the side, and calls of it that
//! block, away from the threads of the runtime.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::oneshot;

use crate::broker::{BrokerError, Link};

/// For one question to the cluster and its answer.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// How one kind of connections is.
#[derive(Clone, Default)]
pub struct Health(Arc<HealthState>);

#[derive(Default)]
struct HealthState {
    connected: AtomicBool,
    /// What librdkafka said last. It often knows more than the answer to a call does.
    trouble: Mutex<Option<String>>,
}

impl Health {
    pub fn link(&self) -> Link {
        match self.0.connected.load(Ordering::Relaxed) {
            true => Link::Connected,
            false => Link::Disconnected,
        }
    }

    pub fn works(&self) {
        self.0.connected.store(true, Ordering::Relaxed);
        *self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub fn lost(&self) {
        self.0.connected.store(false, Ordering::Relaxed);
    }

    /// An error with what was said on the side.
    pub fn unavailable(
        &self,
        during: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> BrokerError {
        let source = source.into();
        let source = match self.told() {
            Some(told) => Told { told, source }.into(),
            None => source,
        };
        BrokerError::Unavailable { during, source: Some(source) }
    }

    /// What was said on the side, if anything.
    pub fn told(&self) -> Option<String> {
        self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{told}")]
struct Told {
    told: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Listens to a client that is no consumer.
#[derive(Clone)]
pub struct Listener(pub Health);

impl ClientContext for Listener {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {
        // What matters comes as an error as well; the rest repeats itself every second.
    }

    fn error(&self, error: KafkaError, reason: &str) {
        note(&self.0, &error, reason);
    }
}

/// Takes note of an error that concerns no call.
pub fn note(health: &Health, error: &KafkaError, reason: &str) {
    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
        health.lost();
    } else {
        let mut trouble = health.0.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        *trouble = Some(reason.to_owned());
    }
}

/// Runs what blocks on a thread of its own. Nobody waits for it when the process ends.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (answer, answered) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = answer.send(work());
    });
    answered.await.expect("the thread answers or panics")
}
