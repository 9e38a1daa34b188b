//! Sagas, orders, changes and letters to write, and short ways to write them.

use std::sync::Arc;

use makegood::saga::{
    Attention, AttentionCode, CancelState, CommandId, Direction, Effect, Input, OrderState, Origin,
    Outcome, Phase, Reply, Saga, SagaId, Status, StepState, Time, Wait,
};
use makegood::store::{
    AuditRow, Change, DeadLetter, JournalRow, OrderRow, OutboxKey, OutboxRow, RequestRow, Store,
    Stored, Written,
};
use uuid::Uuid;

pub const TENANT: &str = "acme";
pub const DEFINITION: &str = "order-fulfilment";
/// When everything happens unless a case says otherwise.
pub const NOW: Time = Time(1_764_000_000_000);

pub fn later(seconds: i64) -> Time {
    Time(NOW.0 + seconds * 1_000)
}

pub fn order(tenant: &str, order_id: &str) -> Arc<OrderRow> {
    Arc::new(OrderRow {
        saga: SagaId::of(tenant, order_id, DEFINITION),
        tenant: tenant.to_owned(),
        order_id: order_id.to_owned(),
        definition: DEFINITION.to_owned(),
        definition_version: 3,
        received_at: NOW,
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
        payload: br#"{"order_id":"1"}"#.to_vec(),
    })
}

/// The start of a saga for `order`: version 1, with one message to send.
pub fn start_of(order: Arc<OrderRow>) -> Change {
    let wait = Wait {
        attempt: 1,
        resend_at: Some(later(10)),
        give_up_at: Some(later(300)),
        ..Wait::default()
    };
    let sent = StepState {
        phase: Phase::Sent(wait),
        since: NOW,
        generation: 1,
        undo: 0,
        unsettled: Vec::new(),
        data: Some(r#"{"a":1}"#.into()),
    };
    let saga = Saga {
        id: order.saga,
        status: Status::Running,
        reached: OrderState::Pending,
        cause: None,
        cancel: CancelState::None,
        steps: vec![sent, StepState::idle()],
        facts: Vec::new(),
        attention: Vec::new(),
        started_at: NOW,
        ended_at: None,
    };
    let effect = Effect::Send { step: 0, direction: Direction::Forward, generation: 1, attempt: 1 };
    let journal =
        JournalRow { version: 1, moment: NOW.into(), input: Input::Start, effects: vec![effect] };
    Change {
        outbox: vec![message(saga.id, 1, 0)],
        saga,
        from_version: 0,
        order: Some(order),
        journal: vec![journal],
        due: Some(later(10)),
        revived: Vec::new(),
        shipments: Vec::new(),
        scans: Vec::new(),
        audit: None,
    }
}

pub fn start(order_id: &str) -> Change {
    start_of(order(TENANT, order_id))
}

/// One more transition of what was loaded, with one message to send.
pub fn step(stored: &Stored) -> Change {
    let version = stored.version + 1;
    let mut saga = stored.saga.clone();
    saga.steps[0].generation += 1;
    let reply = Reply {
        command: CommandId(Uuid::from_u128(7)),
        from: Some("inventory".into()),
        outcome: Outcome::Success,
        data: None,
    };
    let at = later(i64::from(version));
    let journal =
        JournalRow { version, moment: at.into(), input: Input::Reply(reply), effects: Vec::new() };
    Change {
        outbox: vec![message(saga.id, version, 0)],
        saga,
        from_version: stored.version,
        order: None,
        journal: vec![journal],
        due: stored.due,
        revived: Vec::new(),
        shipments: Vec::new(),
        scans: Vec::new(),
        audit: None,
    }
}

/// A message that is free to be claimed from `NOW` on.
pub fn message(saga: SagaId, version: u32, number: u16) -> OutboxRow {
    OutboxRow {
        key: OutboxKey { saga, version, number },
        channel: "commands.inventory".to_owned(),
        message: br#"{"specversion":"1.0"}"#.to_vec(),
        claimed_until: NOW,
    }
}

pub fn attention() -> Attention {
    Attention {
        step: Some(1),
        code: AttentionCode::DeadlinePassed,
        since: NOW,
        origin: Origin::Clock,
    }
}

pub fn deed(id: u128) -> AuditRow {
    AuditRow {
        id: Uuid::from_u128(id),
        at: NOW,
        actor: "ana".to_owned(),
        approver: Some("bo".to_owned()),
        verb: "retry".to_owned(),
        detail: r#"{"verb":"retry","step":"pick"}"#.to_owned(),
        reason: "the WMS is back".to_owned(),
    }
}

pub fn request(id: u128, asked_at: Time) -> RequestRow {
    RequestRow {
        id: Uuid::from_u128(id),
        tenant: (id == 1).then(|| TENANT.to_owned()),
        order_id: "o-1".to_owned(),
        detail: r#"{"verb":"abandon"}"#.to_owned(),
        actor: "ana".to_owned(),
        reason: "it cannot be found".to_owned(),
        asked_at,
    }
}

pub fn letter(id: u128, order_id: &str) -> DeadLetter {
    DeadLetter {
        id: Uuid::from_u128(id),
        source: "facts".to_owned(),
        reason: DeadLetter::UNKNOWN_ORDER.to_owned(),
        error: "no such order".to_owned(),
        body: vec![0, 159, 146, 150],
        headers: r#"{"content-type":"application/json"}"#.to_owned(),
        tenant: Some(TENANT.to_owned()),
        order_id: Some(order_id.to_owned()),
        first_seen: NOW,
        last_seen: NOW,
        attempts: 1,
        kind: None,
        participant: None,
        corrects: None,
        closed: None,
    }
}

/// Commits one change that must win.
pub async fn write(store: &dyn Store, change: Change) {
    assert_eq!(store.commit(&[change]).await.unwrap(), [Written::Committed]);
}

/// Commits the starts of these orders and returns their sagas, in order.
pub async fn write_starts(store: &dyn Store, orders: &[&str]) -> Vec<SagaId> {
    let batch: Vec<Change> = orders.iter().map(|order_id| start(order_id)).collect();
    let written = store.commit(&batch).await.unwrap();
    assert!(written.iter().all(|written| *written == Written::Committed));
    batch.iter().map(|change| change.saga.id).collect()
}

pub async fn load_one(store: &dyn Store, saga: SagaId) -> Stored {
    let mut stored = store.load(&[saga]).await.unwrap();
    assert_eq!(stored.len(), 1);
    stored.remove(0)
}

/// All rows that are free at `now`, without taking them.
pub async fn outbox_keys(store: &dyn Store, now: Time) -> Vec<OutboxKey> {
    let rows = store.claim_outbox(now, now, 10_000).await.unwrap();
    rows.iter().map(|row| row.key).collect()
}
