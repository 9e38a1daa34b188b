//! A store that is all in memory and can only be read, so that a test can break it.

use async_trait::async_trait;
use makegood::saga::{SagaId, Status, Time};
use makegood::store::{
    AuditedRow, Change, Counts, DeadLetter, DefinitionRow, Filter, JournalRow, Letters, OutboxKey,
    OutboxRow, Published, RequestRow, ScanRow, ShipmentRow, Store, StoreError, Stored, Watch,
    Written,
};
use uuid::Uuid;

/// A store that knows only what an auditor asks.
#[derive(Default)]
pub struct ReadOnly {
    pub sagas: Vec<(Stored, Vec<JournalRow>)>,
    pub outbox: u64,
    pub letters: Vec<DeadLetter>,
}

#[async_trait]
impl Store for ReadOnly {
    async fn list(
        &self,
        _: &Filter,
        after: Option<SagaId>,
        limit: usize,
    ) -> Result<Vec<Stored>, StoreError> {
        let mut page: Vec<Stored> = self.sagas.iter().map(|(stored, _)| stored.clone()).collect();
        page.sort_by_key(|stored| stored.saga.id);
        page.retain(|stored| after.is_none_or(|after| stored.saga.id > after));
        page.truncate(limit.min(2)); // small pages, so that there are several
        Ok(page)
    }

    async fn journal(&self, saga: SagaId) -> Result<Vec<JournalRow>, StoreError> {
        let found = self.sagas.iter().find(|(stored, _)| stored.saga.id == saga);
        Ok(found.map(|(_, journal)| journal.clone()).unwrap_or_default())
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        let of = |status| {
            let sagas = self.sagas.iter().filter(|(stored, _)| stored.saga.status == status);
            (status, sagas.count() as u64)
        };
        let sagas = Status::ALL.into_iter().map(of).collect();
        Ok(Counts { sagas, outbox: self.outbox, ..Counts::default() })
    }

    async fn next_due(&self) -> Result<Option<Time>, StoreError> {
        Ok(self.sagas.iter().filter_map(|(stored, _)| stored.due).min())
    }

    async fn dead_letters(&self, _: usize) -> Result<Vec<DeadLetter>, StoreError> {
        Ok(self.letters.clone())
    }

    fn letters(&self) -> &dyn Letters {
        never()
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        never()
    }
    async fn check(&self) -> Result<(), StoreError> {
        never()
    }
    async fn now(&self) -> Result<Time, StoreError> {
        never()
    }
    async fn publish_definition(&self, _: &DefinitionRow) -> Result<Published, StoreError> {
        never()
    }
    async fn definitions(&self) -> Result<Vec<DefinitionRow>, StoreError> {
        never()
    }
    async fn load(&self, _: &[SagaId]) -> Result<Vec<Stored>, StoreError> {
        never()
    }
    async fn commit(&self, _: &[Change]) -> Result<Vec<Written>, StoreError> {
        never()
    }
    async fn claim_due(&self, _: Time, _: Time, _: usize) -> Result<Vec<SagaId>, StoreError> {
        never()
    }
    async fn reschedule(&self, _: &[(SagaId, u32, Option<Time>)]) -> Result<(), StoreError> {
        never()
    }
    async fn claim_outbox(&self, _: Time, _: Time, _: usize) -> Result<Vec<OutboxRow>, StoreError> {
        never()
    }
    async fn delete_outbox(&self, _: &[(OutboxKey, Time)]) -> Result<(), StoreError> {
        never()
    }
    async fn bury(&self, _: &[DeadLetter]) -> Result<(), StoreError> {
        never()
    }
    async fn parked(&self, _: &[(String, String)]) -> Result<Vec<DeadLetter>, StoreError> {
        never()
    }
    async fn find(&self, _: &str, _: Option<&str>) -> Result<Vec<Stored>, StoreError> {
        never()
    }
    async fn shipment(&self, _: &str, _: &str, _: &str) -> Result<Option<ShipmentRow>, StoreError> {
        never()
    }
    async fn scans(&self, _: SagaId) -> Result<Vec<ScanRow>, StoreError> {
        never()
    }
    async fn deeds(&self, _: SagaId) -> Result<Vec<AuditedRow>, StoreError> {
        never()
    }
    async fn keep_request(&self, _: &RequestRow) -> Result<(), StoreError> {
        never()
    }
    async fn requests(&self, _: usize) -> Result<Vec<RequestRow>, StoreError> {
        never()
    }
    async fn drop_request(&self, _: Uuid) -> Result<(), StoreError> {
        never()
    }
    async fn open_breakers(&self) -> Result<Vec<(String, Time)>, StoreError> {
        never()
    }
    async fn open_breaker(&self, _: &str, _: Time) -> Result<(), StoreError> {
        never()
    }
    async fn close_breaker(&self, _: &str) -> Result<(), StoreError> {
        never()
    }
    async fn latest_time(&self) -> Result<Option<Time>, StoreError> {
        never()
    }
    fn watch(&self) -> &dyn Watch {
        never()
    }
    async fn close(&self) {}
}

fn never<T>() -> T {
    panic!("an auditor only reads what it must, and changes nothing")
}
