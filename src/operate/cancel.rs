//! An operator cancels an order: the same input as the shop's request.

use serde::Serialize;
use uuid::Uuid;

use super::{OperateError, definition_of, definitions, sagas_of};
use crate::saga::{CancelState, Input, Saga, Time, Verdict, decide};
use crate::store::{AuditRow, Change, JournalRow, Store, Stored, Written};
use crate::worker::message::{Setting, postings};
use crate::worker::{UNCLAIMED, bucket};

/// How often a saga that changes meanwhile is decided again.
const ATTEMPTS: usize = 10;

/// What came of it, per saga of the order.
#[derive(Debug, Clone, Serialize)]
pub struct Cancelled {
    pub order_id: String,
    pub saga_id: Uuid,
    pub definition: String,
    /// `accepted`, `refused`, `waiting` (for the answer of a pivot that is under way) or
    /// `unchanged` (it is being compensated anyway, or has ended so). Whoever asks again is told
    /// what was answered before.
    pub result: &'static str,
    pub status: &'static str,
}

/// Asks every saga of the order to be cancelled. What must be sent is left in the outbox, from
/// where a worker takes it within seconds.
///
/// # Errors
/// When there is no such order, or the store cannot be used.
pub async fn cancel(
    store: &dyn Store,
    source: &str,
    (order_id, tenant): (&str, Option<&str>),
    (actor, reason): (&str, &str),
) -> Result<Vec<Cancelled>, OperateError> {
    let mut results = Vec::new();
    for stored in sagas_of(store, order_id, tenant).await? {
        results.push(one(store, source, stored, (actor, reason)).await?);
    }
    Ok(results)
}

async fn one(
    store: &dyn Store,
    source: &str,
    mut stored: Stored,
    by: (&str, &str),
) -> Result<Cancelled, OperateError> {
    let catalog = definitions(store).await?;
    let loaded = definition_of(&catalog, &stored)?;
    let definition = &loaded.definition;
    for _ in 0..ATTEMPTS {
        let now = store.now().await?;
        let transition = decide(definition, &stored.saga, &Input::Cancel, now);
        if transition.verdict != Verdict::Applied {
            return Ok(result(&stored, &stored.saga, answer(stored.saga.cancel)));
        }
        let version = stored.version + 1;
        let setting = Setting {
            source,
            definition,
            order: &stored.order,
            saga: &transition.saga,
            version,
            now,
            claimed_until: UNCLAIMED,
            cause: None,
        };
        let outbox = postings(&setting, &transition.effects);
        let journal =
            JournalRow { version, at: now, input: Input::Cancel, effects: transition.effects };
        let change = Change {
            saga: transition.saga.clone(),
            from_version: stored.version,
            order: None,
            journal: vec![journal],
            due: bucket(transition.saga.next_clock()),
            outbox: outbox.iter().map(|posting| posting.row()).collect(),
            revived: Vec::new(),
            shipments: Vec::new(),
            scans: Vec::new(),
            audit: Some(audit_row(&stored, by, now)),
        };
        match store.commit(std::slice::from_ref(&change)).await?.first() {
            Some(Written::Committed) => {
                return Ok(result(&stored, &transition.saga, answer(transition.saga.cancel)));
            }
            _ => match store.load(&[stored.saga.id]).await?.pop() {
                Some(newer) => stored = newer,
                None => break,
            },
        }
    }
    Err(OperateError::Busy)
}

fn answer(cancel: CancelState) -> &'static str {
    match cancel {
        CancelState::None => "unchanged",
        CancelState::Waiting => "waiting",
        CancelState::Accepted => "accepted",
        CancelState::Refused => "refused",
    }
}

fn audit_row(stored: &Stored, (actor, reason): (&str, &str), now: Time) -> AuditRow {
    let name = format!("cancel/{}", stored.version);
    AuditRow {
        id: Uuid::new_v5(&stored.saga.id.0, name.as_bytes()),
        at: now,
        actor: actor.to_owned(),
        verb: "cancel".to_owned(),
        reason: reason.to_owned(),
    }
}

fn result(stored: &Stored, saga: &Saga, result: &'static str) -> Cancelled {
    Cancelled {
        order_id: stored.order.order_id.clone(),
        saga_id: saga.id.0,
        definition: stored.order.definition.clone(),
        result,
        status: saga.status.as_str(),
    }
}
