//! The published definitions, as this worker knows them now.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Backoff, Shutdown};
use crate::broker::{Broker, Topology};
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::saga::Millis;
use crate::store::{Store, StoreError};
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
        if rows.len() == self.current().len() {
            return Ok(false); // published versions never change, so their number tells
        }
        let mut catalog = Catalog::default();
        for row in rows {
            match crate::catalog::load(&row.name, &row.content) {
                Ok(loaded) => catalog.add(loaded),
                Err(_) => self.telemetry.unusable_definition(&row.name, row.version),
            }
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
        self.current().definition(name, version).is_some()
    }

    /// What the broker must have for these definitions.
    pub fn topology(&self) -> Topology {
        topology(&self.current())
    }

    /// Keeps up with what is published, until shutdown. New definitions may need new queues.
    pub async fn keep_up(self, clock: Arc<dyn Clock>, shutdown: Shutdown) {
        let work = async {
            loop {
                let _busy = clock.pause(REFRESH).await;
                if let Ok(true) = self.refresh().await {
                    let declared = self.broker.declare(&self.topology()).await;
                    let error = declared.as_ref().err().map(|e| e as &dyn std::error::Error);
                    self.telemetry.part("topology", error);
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
    Topology {
        participants: catalog.participants(),
        orders: catalog.order_events(),
        facts: catalog.facts(),
    }
}
