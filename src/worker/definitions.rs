//! The published definitions, as this worker knows them now.

use std::sync::Arc;

use tokio::sync::watch;

use super::Shutdown;
use crate::broker::{Broker, Topology};
use crate::catalog::{self, Catalog};
use crate::clock::{Backoff, Clock};
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
    current: Arc<watch::Sender<Known>>,
}

/// What was read last.
#[derive(Default)]
struct Known {
    catalog: Arc<Catalog>,
    /// Published versions, those that cannot be read included.
    published: usize,
}

impl Definitions {
    /// Knows none until the first [`Definitions::refresh`].
    pub fn new(
        store: Arc<dyn Store>,
        broker: Arc<dyn Broker>,
        telemetry: Arc<Telemetry>,
    ) -> Definitions {
        let (current, _) = watch::channel(Known::default());
        Definitions { store, broker, telemetry, current: Arc::new(current) }
    }

    pub fn current(&self) -> Arc<Catalog> {
        self.current.borrow().catalog.clone()
    }

    /// Reads all published definitions.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let rows = self.store.definitions().await?;
        let published = rows.len();
        if published == self.current.borrow().published {
            return Ok(()); // published versions never change, so their number tells
        }
        let (catalog, unreadable) = read(&rows);
        for row in unreadable {
            self.telemetry.unusable_definition(&row.name, row.version);
        }
        self.current.send_replace(Known { catalog: Arc::new(catalog), published });
        Ok(())
    }

    /// Looks for versions that a saga needs and this worker does not know, for as long as the
    /// database is away.
    pub async fn learn(&self, shutdown: &Shutdown) {
        let mut backoff = Backoff::default();
        while let Err(error) = self.refresh().await {
            if !error.is_transient() || shutdown.is_abandoned() {
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
                // A database that is away is noticed by others; a lane may have learned.
                let _ = self.refresh().await;
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
