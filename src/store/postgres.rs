//! The store in PostgreSQL.
//!
//! Every method is one statement in autocommit, so no transaction stays open across a round
//! trip: a worker that dies, or is cancelled, at any moment leaves none behind, and a batch
//! costs one round trip and one fsync. `connection` holds the rules about connections and
//! time, `commit` the one big statement, `load`, `read` and `queue` the smaller ones, `schema`
//! the tables, `error` what an error means. No decision is taken here.

mod breakers;
mod campaigns;
mod commit;
mod connection;
mod deeds;
mod error;
mod letters;
mod load;
mod queue;
mod read;
mod schema;
mod shipments;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use secrecy::SecretString;
use sqlx::postgres::PgConnectOptions;

use uuid::Uuid;

use super::{
    AuditedRow, Change, Counts, DeadLetter, DefinitionRow, Filter, JournalRow, Letters, OutboxKey,
    OutboxRow, Published, RequestRow, ScanRow, ShipmentRow, Standing, Store, StoreError, Stored,
    Watch, Written,
};
use crate::saga::{SagaId, Time};
use connection::Connections;
use load::Orders;

/// Where the database is and how much of it to use.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database?sslmode=…`
    pub url: SecretString,
    pub max_connections: u32,
}

/// Deleted outbox rows after which their room is made free: some 20 MB of messages.
const VACUUM_AFTER: u64 = 20_000;

pub struct PostgresStore {
    connections: Arc<Connections>,
    orders: Orders,
    /// Outbox rows deleted since the last vacuum.
    deleted: AtomicU64,
    /// For connections of their own: migrations. Holds the password, so nothing here is `Debug`.
    options: PgConnectOptions,
}

impl PostgresStore {
    /// Opens the store. Connects when it is first used, so that the database may be away.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] for a URL that is none.
    pub fn new(options: PostgresOptions) -> Result<PostgresStore, StoreError> {
        let connect = connection::options(&options.url)?;
        let connections = Arc::new(Connections::new(connect.clone(), options.max_connections));
        Ok(PostgresStore {
            connections,
            orders: Orders::default(),
            deleted: AtomicU64::new(0),
            options: connect,
        })
    }

    /// Opens the store once the database has answered.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when nobody answers, [`StoreError::Rejected`] for a URL that
    /// is none.
    pub async fn connect(options: PostgresOptions) -> Result<PostgresStore, StoreError> {
        let store = PostgresStore::new(options)?;
        connection::separate(&store.options).await?;
        Ok(store)
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn migrate(&self) -> Result<(), StoreError> {
        schema::migrate(&self.options).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        schema::check(&self.connections).await
    }

    async fn now(&self) -> Result<Time, StoreError> {
        read::now(&self.connections).await
    }

    async fn publish_definition(&self, row: &DefinitionRow) -> Result<Published, StoreError> {
        read::publish_definition(&self.connections, row).await
    }

    async fn definitions(&self) -> Result<Vec<DefinitionRow>, StoreError> {
        read::definitions(&self.connections).await
    }

    async fn load(&self, ids: &[SagaId]) -> Result<Vec<Stored>, StoreError> {
        load::load(&self.connections, &self.orders, ids).await
    }

    async fn commit(&self, batch: &[Change]) -> Result<Vec<Written>, StoreError> {
        let written = commit::commit(&self.connections, batch).await?;
        self.orders.follow(batch, &written);
        Ok(written)
    }

    async fn claim_due(
        &self,
        now: Time,
        until: Time,
        limit: usize,
    ) -> Result<Vec<SagaId>, StoreError> {
        queue::claim_due(&self.connections, now, until, limit).await
    }

    async fn next_due(&self) -> Result<Option<Time>, StoreError> {
        queue::next_due(&self.connections).await
    }

    async fn reschedule(&self, sagas: &[(SagaId, u32, Option<Time>)]) -> Result<(), StoreError> {
        queue::reschedule(&self.connections, sagas).await
    }

    async fn claim_outbox(
        &self,
        now: Time,
        until: Time,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        queue::claim_outbox(&self.connections, now, until, limit).await
    }

    async fn delete_outbox(&self, rows: &[(OutboxKey, Time)]) -> Result<(), StoreError> {
        let deleted = queue::delete_outbox(&self.connections, rows).await?;
        if self.deleted.fetch_add(deleted, Ordering::Relaxed) + deleted >= VACUUM_AFTER {
            self.deleted.store(0, Ordering::Relaxed);
            let connections = self.connections.clone();
            tokio::spawn(async move { queue::vacuum_outbox(&connections).await });
        }
        Ok(())
    }

    async fn bury(&self, letters: &[DeadLetter]) -> Result<(), StoreError> {
        letters::bury(&self.connections, letters).await
    }

    async fn parked(&self, orders: &[(String, String)]) -> Result<Vec<DeadLetter>, StoreError> {
        letters::parked(&self.connections, orders).await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        letters::newest(&self.connections, limit).await
    }

    fn letters(&self) -> &dyn Letters {
        self
    }

    async fn find(&self, order_id: &str, tenant: Option<&str>) -> Result<Vec<Stored>, StoreError> {
        read::find(&self.connections, order_id, tenant).await
    }

    async fn shipment(
        &self,
        tenant: &str,
        courier: &str,
        shipment_id: &str,
    ) -> Result<Option<ShipmentRow>, StoreError> {
        shipments::shipment(&self.connections, (tenant, courier, shipment_id)).await
    }

    async fn scans(&self, saga: SagaId) -> Result<Vec<ScanRow>, StoreError> {
        shipments::scans(&self.connections, saga).await
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<SagaId>,
        limit: usize,
    ) -> Result<Vec<Stored>, StoreError> {
        read::list(&self.connections, filter, after, limit).await
    }

    async fn journal(&self, saga: SagaId) -> Result<Vec<JournalRow>, StoreError> {
        read::journal(&self.connections, saga).await
    }

    async fn latest_time(&self) -> Result<Option<Time>, StoreError> {
        read::latest_time(&self.connections).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        read::counts(&self.connections).await
    }

    fn watch(&self) -> &dyn Watch {
        self
    }

    async fn deeds(&self, saga: SagaId) -> Result<Vec<AuditedRow>, StoreError> {
        deeds::deeds(&self.connections, saga).await
    }

    async fn keep_request(&self, row: &RequestRow) -> Result<(), StoreError> {
        deeds::keep_request(&self.connections, row).await
    }

    async fn requests(&self, limit: usize) -> Result<Vec<RequestRow>, StoreError> {
        deeds::requests(&self.connections, limit).await
    }

    async fn drop_request(&self, id: Uuid) -> Result<(), StoreError> {
        deeds::drop_request(&self.connections, id).await
    }

    async fn open_breakers(&self) -> Result<Vec<(String, Time)>, StoreError> {
        breakers::open_breakers(&self.connections).await
    }

    async fn open_breaker(&self, participant: &str, at: Time) -> Result<(), StoreError> {
        breakers::open_breaker(&self.connections, participant, at).await
    }

    async fn close_breaker(&self, participant: &str) -> Result<(), StoreError> {
        breakers::close_breaker(&self.connections, participant).await
    }

    async fn close(&self) {
        self.connections.close().await;
    }
}

#[async_trait]
impl Watch for PostgresStore {
    async fn take_duty(
        &self,
        name: &'static str,
        holder: Uuid,
        now: Time,
        until: Time,
    ) -> Result<bool, StoreError> {
        watch::take_duty(&self.connections, name, holder, now, until).await
    }

    async fn standing(&self) -> Result<Standing, StoreError> {
        watch::standing(&self.connections).await
    }

    async fn at_risk(&self, limit: usize) -> Result<Vec<Stored>, StoreError> {
        watch::at_risk(&self.connections, limit).await
    }
}
