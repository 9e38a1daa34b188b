//! The published definitions, as this worker knows them now.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Backoff, Shutdown};
use crate::broker::{Broker, Topology};
use crate::catalog::{self, Catalog};
use crate::clock::Clock;
use crate::saga::Millis;
use crate::store::{DefinitionRow, Store, StoreError};
use crate::telemetry::Telemetry;

/// How often the worker looks for newly published versions.
const REFRESH: Millis = Millis(10_000);

#[derive(Clone)]
pub(super) struct Definitions {
    store: Arc<dyn Store>,
    broker: Arc<dyn Broker>,
    telemetry: Arc<Telemetry>,
    current: Arc<watch::Sender<Arc<Catalog>>>,
}

impl Definitions {
    /// Knows none until the first [`Definitions::refresh`].
    pub fn new(
        store: Arc<dyn Store>,
        broker: Arc<dyn Broker>,
        telemetry: Arc<Telemetry>,
    ) -> Definitions {
        let (current, _) = watch::channel(Arc::new(Catalog::default()));
        Definitions { store, broker, telemetry, current: Arc::new(current) }
    }

    pub fn current(&self) -> Arc<Catalog> {
        self.current.borrow().clone()
    }

    /// Reads all published definitions. True when there are new ones.
    pub async fn refresh(&self) -> Result<bool, StoreError> {
        let rows = self.store.definitions().await?;
        if rows.len() == self.current().all().count() {
            return Ok(false); // published versions never change, so their number tells
        }
        let (catalog, unreadable) = read(&rows);
        for row in unreadable {
            self.telemetry.unusable_definition(&row.name, row.version);
        }
        self.current.send_replace(Arc::new(catalog));
        Ok(true)
    }

    /// Looks whether a version that a saga needs has been published. True when it has.
    pub async fn learn(&self, name: &str, version: u32) -> bool {
        let mut backoff = Backoff::default();
        while let Err(error) = self.refresh().await {
            if !error.is_transient() {
                return false;
            }
            backoff.wait().await;
        }
        self.current().get(name, version).is_some()
    }

    /// What the broker must have for these definitions.
    pub fn topology(&self) -> Topology {
        topology(&self.current())
    }

    /// Keeps up with what is published, until shutdown. New definitions may need new queues.
    pub async fn keep_up(self, clock: Arc<dyn Clock>, shutdown: Shutdown) {
        let work = async {
            let mut owed = false; // new definitions whose queues could not be declared yet
            loop {
                let _busy = clock.pause(REFRESH).await;
                owed |= matches!(self.refresh().await, Ok(true));
                if owed {
                    let declared = self.broker.declare(&self.topology()).await;
                    let error = declared.as_ref().err().map(|e| e as &dyn std::error::Error);
                    self.telemetry.part("topology", error);
                    owed = declared.is_err();
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
