//! A store in trouble. It counts lost races and, now and then, commits and then says that it
//! could not be reached: what a lost connection looks like to whoever waited for the answer.
//! Or it objects to what a test tells it to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use makegood::saga::{SagaId, Time};
use makegood::store::{
    AuditedRow, Change, Counts, DeadLetter, DefinitionRow, Filter, JournalRow, Letters, OutboxKey,
    OutboxRow, Published, RequestRow, ScanRow, ShipmentRow, Store, StoreError, Stored, Watch,
    Written,
};
use uuid::Uuid;

/// How often others get their turn while a commit is on its way.
const ROUND_TRIP: usize = 100;

/// Asked before each commit; an error is the answer.
pub type BeforeCommit = Box<dyn Fn(&[Change]) -> Result<(), StoreError> + Send + Sync>;
/// Shown what was loaded; what it returns is the answer.
pub type AfterLoad = Box<dyn Fn(Vec<Stored>) -> Result<Vec<Stored>, StoreError> + Send + Sync>;

/// What a store in trouble says.
pub struct Trouble {
    pub before_commit: BeforeCommit,
    pub after_load: AfterLoad,
}

impl Default for Trouble {
    fn default() -> Trouble {
        Trouble { before_commit: Box::new(|_| Ok(())), after_load: Box::new(Ok) }
    }
}

pub struct Forgetful {
    store: Arc<dyn Store>,
    trouble: Trouble,
    looks_for_due: AtomicU64,
    /// Every how many commits; 0: never.
    every: u64,
    commits: AtomicU64,
    lost_races: AtomicU64,
}

impl Forgetful {
    pub fn new(store: Arc<dyn Store>, every: u64) -> Arc<Forgetful> {
        Arc::new(Forgetful { every, ..Forgetful::troubled(store, Trouble::default()) })
    }

    /// Forgets nothing, and objects.
    pub fn troubled(store: Arc<dyn Store>, trouble: Trouble) -> Forgetful {
        let zero = || AtomicU64::new(0);
        let (commits, lost_races, looks_for_due) = (zero(), zero(), zero());
        Forgetful { store, trouble, looks_for_due, every: 0, commits, lost_races }
    }

    /// How often the timers looked for the next due time.
    pub fn looks_for_due(&self) -> u64 {
        self.looks_for_due.load(Ordering::Relaxed)
    }

    /// How many answers were withheld.
    pub fn forgotten(&self) -> u64 {
        self.commits.load(Ordering::Relaxed).checked_div(self.every).unwrap_or(0)
    }

    /// How many changes came too late.
    pub fn lost_races(&self) -> u64 {
        self.lost_races.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Store for Forgetful {
    async fn commit(&self, batch: &[Change]) -> Result<Vec<Written>, StoreError> {
        // A database elsewhere takes a while, in which others get on with the same sagas.
        for _ in 0..ROUND_TRIP {
            tokio::task::yield_now().await;
        }
        (self.trouble.before_commit)(batch)?;
        let written = self.store.commit(batch).await?;
        let lost = written.iter().filter(|written| **written == Written::LostRace).count();
        self.lost_races.fetch_add(lost as u64, Ordering::Relaxed);
        let number = self.commits.fetch_add(1, Ordering::Relaxed) + 1;
        if self.every > 0 && number.is_multiple_of(self.every) {
            let source = "the answer was lost".into();
            return Err(StoreError::Unavailable { during: "committing", source });
        }
        Ok(written)
    }

    fn letters(&self) -> &dyn Letters {
        self.store.letters()
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        self.store.migrate().await
    }
    async fn check(&self) -> Result<(), StoreError> {
        self.store.check().await
    }
    async fn now(&self) -> Result<Time, StoreError> {
        self.store.now().await
    }
    async fn publish_definition(&self, row: &DefinitionRow) -> Result<Published, StoreError> {
        self.store.publish_definition(row).await
    }
    async fn definitions(&self) -> Result<Vec<DefinitionRow>, StoreError> {
        self.store.definitions().await
    }
    async fn load(&self, ids: &[SagaId]) -> Result<Vec<Stored>, StoreError> {
        (self.trouble.after_load)(self.store.load(ids).await?)
    }
    async fn claim_due(
        &self,
        now: Time,
        until: Time,
        limit: usize,
    ) -> Result<Vec<SagaId>, StoreError> {
        self.store.claim_due(now, until, limit).await
    }
    async fn next_due(&self) -> Result<Option<Time>, StoreError> {
        self.looks_for_due.fetch_add(1, Ordering::Relaxed);
        self.store.next_due().await
    }
    async fn reschedule(&self, sagas: &[(SagaId, u32, Option<Time>)]) -> Result<(), StoreError> {
        self.store.reschedule(sagas).await
    }
    async fn claim_outbox(
        &self,
        now: Time,
        until: Time,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        self.store.claim_outbox(now, until, limit).await
    }
    async fn delete_outbox(&self, rows: &[(OutboxKey, Time)]) -> Result<(), StoreError> {
        self.store.delete_outbox(rows).await
    }
    async fn bury(&self, letters: &[DeadLetter]) -> Result<(), StoreError> {
        self.store.bury(letters).await
    }
    async fn parked(&self, orders: &[(String, String)]) -> Result<Vec<DeadLetter>, StoreError> {
        self.store.parked(orders).await
    }
    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        self.store.dead_letters(limit).await
    }
    async fn find(&self, order_id: &str, tenant: Option<&str>) -> Result<Vec<Stored>, StoreError> {
        self.store.find(order_id, tenant).await
    }
    async fn shipment(
        &self,
        tenant: &str,
        courier: &str,
        shipment_id: &str,
    ) -> Result<Option<ShipmentRow>, StoreError> {
        self.store.shipment(tenant, courier, shipment_id).await
    }
    async fn scans(&self, saga: SagaId) -> Result<Vec<ScanRow>, StoreError> {
        self.store.scans(saga).await
    }
    async fn list(
        &self,
        filter: &Filter,
        after: Option<SagaId>,
        limit: usize,
    ) -> Result<Vec<Stored>, StoreError> {
        self.store.list(filter, after, limit).await
    }
    async fn journal(&self, saga: SagaId) -> Result<Vec<JournalRow>, StoreError> {
        self.store.journal(saga).await
    }
    async fn deeds(&self, saga: SagaId) -> Result<Vec<AuditedRow>, StoreError> {
        self.store.deeds(saga).await
    }
    async fn keep_request(&self, row: &RequestRow) -> Result<(), StoreError> {
        self.store.keep_request(row).await
    }
    async fn requests(&self, limit: usize) -> Result<Vec<RequestRow>, StoreError> {
        self.store.requests(limit).await
    }
    async fn drop_request(&self, id: Uuid) -> Result<(), StoreError> {
        self.store.drop_request(id).await
    }
    async fn open_breakers(&self) -> Result<Vec<(String, Time)>, StoreError> {
        self.store.open_breakers().await
    }
    async fn open_breaker(&self, participant: &str, at: Time) -> Result<(), StoreError> {
        self.store.open_breaker(participant, at).await
    }
    async fn close_breaker(&self, participant: &str) -> Result<(), StoreError> {
        self.store.close_breaker(participant).await
    }
    async fn latest_time(&self) -> Result<Option<Time>, StoreError> {
        self.store.latest_time().await
    }
    async fn counts(&self) -> Result<Counts, StoreError> {
        self.store.counts().await
    }
    fn watch(&self) -> &dyn Watch {
        self.store.watch()
    }
    async fn close(&self) {
        self.store.close().await;
    }
}
