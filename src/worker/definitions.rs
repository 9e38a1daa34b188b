//! The published definitions, as this worker knows them now.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::Shutdown;
use crate::broker::{Broker, Topology};
use crate::catalog::{self, Catalog};
use crate::clock::{Backoff, Clock, wait};
use crate::saga::Millis;
use crate::store::{DefinitionRow, Store, StoreError};
use crate::telemetry::Telemetry;

/// How often the worker looks for newly published versions.
const REFRESH: Millis = Millis(10_000);
/// The shortest time between two looks that messages ask for, which anybody can send: to read
/// all definitions costs more than to decide.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// What this worker says of itself when it has no definition to work by.
const DEFINITIONS: &str = "definitions";

#[derive(Clone)]
pub(super) struct Definitions {
    store: Arc<dyn Store>,
    broker: Arc<dyn Broker>,
    telemetry: Arc<Telemetry>,
    current: Arc<watch::Sender<Known>>,
    /// When a message last made this worker look.
    looked: Arc<Mutex<Option<Instant>>>,
}

/// What was read last.
#[derive(Default)]
struct Known {
    catalog: Arc<Catalog>,
    /// Published versions, those that cannot be read included.
    published: usize,
    unreadable: usize,
}

#[derive(Debug, thiserror::Error)]
#[error("no definition is published that this version can read: nothing can start")]
struct NothingPublished;

impl Definitions {
    /// Knows none until the first [`Definitions::refresh`].
    pub fn new(
        store: Arc<dyn Store>,
        broker: Arc<dyn Broker>,
        telemetry: Arc<Telemetry>,
    ) -> Definitions {
        let (current, _) = watch::channel(Known::default());
        telemetry.health.expect(DEFINITIONS);
        let looked = Arc::default();
        Definitions { store, broker, telemetry, current: Arc::new(current), looked }
    }

    pub fn current(&self) -> Arc<Catalog> {
        self.current.borrow().catalog.clone()
    }

    /// Whether every published version can be read. What this worker does not understand may
    /// otherwise be plain to a newer one.
    pub fn is_complete(&self) -> bool {
        self.current.borrow().unreadable == 0
    }

    /// Reads all published definitions.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let read = self.read().await;
        let is_empty = self.current().all().next().is_none();
        let trouble: Option<&dyn std::error::Error> = match &read {
            Err(error) => Some(error),
            Ok(()) if is_empty => Some(&NothingPublished),
            Ok(()) => None,
        };
        self.telemetry.part(DEFINITIONS, trouble);
        read
    }

    async fn read(&self) -> Result<(), StoreError> {
        let rows = self.store.definitions().await?;
        let published = rows.len();
        if published == self.current.borrow().published {
            return Ok(()); // published versions never change, so their number tells
        }
        let (catalog, unreadable) = read(&rows);
        for row in &unreadable {
            self.telemetry.unusable_definition(&row.name, row.version);
        }
        catalog.all().for_each(|loaded| self.telemetry.definition_known(&loaded.definition));
        let unreadable = unreadable.len();
        self.current.send_replace(Known { catalog: Arc::new(catalog), published, unreadable });
        Ok(())
    }

    /// Looks for versions that somebody has published and this worker does not know: before it
    /// says of anything that no definition is for it. Looks for as long as the database is
    /// away, and at most a few times a second.
    pub async fn learn(&self, shutdown: &Shutdown) {
        let asked = Instant::now();
        let mut looked = self.looked.lock().await;
        if looked.is_some_and(|looked| looked > asked) {
            return; // somebody else did, while this one waited
        }
        if let Some(looked) = *looked {
            wait(LOOK_AGAIN.saturating_sub(looked.elapsed())).await;
        }
        *looked = Some(Instant::now());
        let mut backoff = Backoff::default();
        while let Err(error) = self.refresh().await {
            if error.blames_rows() || shutdown.is_abandoned() {
                return;
            }
            backoff.wait().await;
        }
    }

    /// What the broker must have for these definitions.
    pub fn topology(&self) -> Topology {
        topology(&self.current())
    }

    /// Keeps up with what is published, until shutdown. New definitions may need new queues:
    /// these are asked for until they are there.
    pub async fn keep_up(self, clock: Arc<dyn Clock>, shutdown: Shutdown) {
        let mut declared = self.topology(); // by intake, before it takes anything
        let work = async {
            loop {
                let _busy = clock.pause(REFRESH).await;
                let _ = self.refresh().await; // which tells of its trouble; a lane may have learned
                let needed = self.topology();
                if needed == declared {
                    continue;
                }
                match self.broker.declare(&needed).await {
                    Ok(()) => {
                        self.telemetry.part("topology", None);
                        declared = needed;
                    }
                    Err(error) => self.telemetry.part("topology", Some(&error)),
                }
            }
        };
        tokio::select! {
            () = shutdown.stopped() => {}
            () = work => {}
        }
    }
}

/// The queues and bindings that a set of definitions needs.
#[must_use]
pub fn topology(catalog: &Catalog) -> Topology {
    let parts = catalog.topology();
    let orders = parts.start_events.into_iter().chain(parts.cancel_events);
    Topology {
        participants: parts.participants.into_iter().map(|(name, _)| name).collect(),
        orders: orders.collect(),
        facts: parts.facts,
    }
}

/// A catalog of published definitions, and those that this version cannot read.
#[must_use]
pub fn read(rows: &[DefinitionRow]) -> (Catalog, Vec<&DefinitionRow>) {
    let mut unreadable = Vec::new();
    let loaded = rows.iter().filter_map(|row| {
        let loaded = catalog::load(&row.name, &row.content).ok();
        if loaded.is_none() {
            unreadable.push(row);
        }
        loaded
    });
    // The store has one text per version, so no two can conflict.
    let catalog = Catalog::new(loaded.collect::<Vec<_>>()).unwrap_or_default();
    (catalog, unreadable)
}
