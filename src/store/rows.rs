//! Columns, as both databases hand them out, to the port's types. No SQL here.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    AuditRow, AuditedRow, Campaign, CampaignState, Closed, Counts, DeadLetter, DefinitionRow,
    JournalRow, LetterDeed, LetterGroup, OrderRow, OutboxKey, OutboxRow, Replay, ReplayedRow,
    RequestRow, ScanRow, ShipmentRow, Standing, StoreError, Stored, encoding,
};
use crate::saga::{SagaId, Time};

/// saga_id, version, due, state, then of the order: tenant, order_id, definition,
/// definition_version, received_at, traceparent, payload.
pub(super) type StoredColumns =
    (Uuid, i32, Option<i64>, Vec<u8>, String, String, String, i32, i64, String, Vec<u8>);

/// saga_id, version, due, state.
pub(super) type SagaColumns = (Uuid, i32, Option<i64>, Vec<u8>);

/// saga_id, tenant, order_id, definition, definition_version, received_at, traceparent, payload.
pub(super) type OrderColumns = (Uuid, String, String, String, i32, i64, String, Vec<u8>);

/// version, at, entry.
pub(super) type JournalColumns = (i32, i64, Vec<u8>);

/// saga_id, version, number, claimed_until, channel, message.
pub(super) type OutboxColumns = (Uuid, i32, i16, i64, String, Vec<u8>);

/// name, version, content, published_at.
pub(super) type DefinitionColumns = (String, i32, String, i64);

/// id, source, reason, error, body, headers, tenant, order_id, first_seen, last_seen, attempts,
/// kind, participant, corrects, closed, closed_at.
pub(super) type DeadLetterColumns = (
    Uuid,
    String,
    String,
    String,
    Vec<u8>,
    String,
    Option<String>,
    Option<String>,
    i64,
    i64,
    i32,
    Option<String>,
    Option<String>,
    Option<Uuid>,
    Option<String>,
    Option<i64>,
);

/// fingerprint, source, reason, kind, participant, error, letters, replaying, first_seen,
/// last_seen.
pub(super) type GroupColumns =
    (String, String, String, Option<String>, Option<String>, String, i64, i64, i64, i64);

/// id, version, state, why, plan, actor, reason, total, released, settled, failed, base,
/// paced_at, judged_from, started_at, changed_at.
pub(super) type CampaignColumns = (
    Uuid,
    i32,
    String,
    Option<String>,
    String,
    String,
    String,
    i32,
    i32,
    i32,
    i32,
    i32,
    i64,
    i64,
    i64,
    i64,
);

/// letter_id, campaign, claims.
pub(super) type ReplayColumns = (Uuid, Uuid, i32);

/// campaign, letter_id, outcome, reason, error, at.
pub(super) type ReplayedColumns = (Uuid, Uuid, String, String, String, i64);

/// subject, id, at, actor, verb, reason.
pub(super) type DeedColumns = (Uuid, Uuid, i64, String, String, String);

/// tenant, courier, shipment_id, saga_id, order_id.
pub(super) type ShipmentColumns = (String, String, String, Uuid, String);

/// saga_id, courier, id, shipment_id, status, happened_at, latitude, longitude, received_at.
pub(super) type ScanColumns =
    (Uuid, String, String, String, String, i64, Option<f64>, Option<f64>, i64);

/// version, id, at, actor, approver, verb, detail, reason.
pub(super) type AuditColumns = (i32, Uuid, i64, String, Option<String>, String, String, String);

/// id, tenant, order_id, detail, actor, reason, asked_at.
pub(super) type RequestColumns = (Uuid, Option<String>, String, String, String, String, i64);

/// What is counted ("saga", "attention", "outbox", "dead_letter"), the status where it is sagas,
/// and how many.
pub(super) type CountColumns = (String, Option<i16>, i64);

/// What is looked at ("active", "attention", "at_risk", "due", "outbox", "outbox_oldest",
/// "dead_letter"), the status or the reason of these, how many, and a time.
pub(super) type StandingColumns = (String, Option<i16>, Option<String>, i64, Option<i64>);

/// A row's columns become what the port promises.
pub(super) trait FromColumns: Sized {
    type Columns;

    /// # Errors
    /// [`StoreError::Unreadable`].
    fn from_columns(columns: Self::Columns) -> Result<Self, StoreError>;
}

/// # Errors
/// [`StoreError::Unreadable`] at the first row that is damaged.
pub(super) fn all<T: FromColumns>(rows: Vec<T::Columns>) -> Result<Vec<T>, StoreError> {
    rows.into_iter().map(T::from_columns).collect()
}

impl FromColumns for Stored {
    type Columns = StoredColumns;

    fn from_columns(columns: StoredColumns) -> Result<Stored, StoreError> {
        let (id, version, due, state, tenant, order_id, definition, ..) = columns;
        let (.., definition_version, received_at, traceparent, payload) = columns;
        let order = (
            id,
            tenant,
            order_id,
            definition,
            definition_version,
            received_at,
            traceparent,
            payload,
        );
        stored((id, version, due, state), Arc::new(OrderRow::from_columns(order)?))
    }
}

/// A saga's row and its order's, put together.
///
/// # Errors
/// [`StoreError::Unreadable`].
pub(super) fn stored(columns: SagaColumns, order: Arc<OrderRow>) -> Result<Stored, StoreError> {
    let (id, version, due, state) = columns;
    Ok(Stored {
        saga: encoding::saga_from_bytes(SagaId(id), &state)?,
        version: unsigned(version)?,
        due: due.map(Time),
        order,
    })
}

impl FromColumns for OrderRow {
    type Columns = OrderColumns;

    fn from_columns(columns: OrderColumns) -> Result<OrderRow, StoreError> {
        let (id, tenant, order_id, definition, ..) = columns;
        let (.., definition_version, received_at, traceparent, payload) = columns;
        Ok(OrderRow {
            saga: SagaId(id),
            tenant,
            order_id,
            definition,
            definition_version: unsigned(definition_version)?,
            received_at: Time(received_at),
            traceparent,
            payload,
        })
    }
}

impl FromColumns for JournalRow {
    type Columns = JournalColumns;

    fn from_columns((version, at, entry): JournalColumns) -> Result<JournalRow, StoreError> {
        encoding::entry_from_bytes(unsigned(version)?, Time(at), &entry)
    }
}

impl FromColumns for OutboxRow {
    type Columns = OutboxColumns;

    fn from_columns(columns: OutboxColumns) -> Result<OutboxRow, StoreError> {
        let (saga, version, number, claimed_until, channel, message) = columns;
        let number = u16::try_from(number).map_err(|_| UNREADABLE_NUMBER)?;
        let key = OutboxKey { saga: SagaId(saga), version: unsigned(version)?, number };
        Ok(OutboxRow { key, channel, message, claimed_until: Time(claimed_until) })
    }
}

impl FromColumns for DefinitionRow {
    type Columns = DefinitionColumns;

    fn from_columns(columns: DefinitionColumns) -> Result<DefinitionRow, StoreError> {
        let (name, version, content, published_at) = columns;
        Ok(DefinitionRow {
            name,
            version: unsigned(version)?,
            content,
            published_at: Time(published_at),
        })
    }
}

impl FromColumns for DeadLetter {
    type Columns = DeadLetterColumns;

    fn from_columns(columns: DeadLetterColumns) -> Result<DeadLetter, StoreError> {
        let (id, source, reason, error, body, headers, tenant, order_id, ..) = columns;
        let (.., first_seen, last_seen, attempts, kind, participant, corrects, closed, closed_at) =
            columns;
        let closed = closed.zip(closed_at);
        let closed = closed.map(|(how, at)| Closed::parse(&how).map(|how| (how, Time(at))));
        Ok(DeadLetter {
            id,
            source,
            reason,
            error,
            body,
            headers,
            tenant,
            order_id,
            first_seen: Time(first_seen),
            last_seen: Time(last_seen),
            attempts: unsigned(attempts)?,
            kind,
            participant,
            corrects,
            closed: closed.transpose()?,
        })
    }
}

impl FromColumns for LetterGroup {
    type Columns = GroupColumns;

    fn from_columns(columns: GroupColumns) -> Result<LetterGroup, StoreError> {
        let (fingerprint, source, reason, kind, participant, ..) = columns;
        let (.., error, letters, replaying, first_seen, last_seen) = columns;
        Ok(LetterGroup {
            fingerprint,
            source,
            reason,
            kind,
            participant,
            error,
            letters: counted(letters)?,
            replaying: counted(replaying)?,
            first_seen: Time(first_seen),
            last_seen: Time(last_seen),
        })
    }
}

impl FromColumns for Campaign {
    type Columns = CampaignColumns;

    fn from_columns(columns: CampaignColumns) -> Result<Campaign, StoreError> {
        let (id, version, state, why, plan, actor, reason, ..) = columns;
        let (.., total, released, settled, failed, base, paced, judged, started, changed) = columns;
        let unreadable = StoreError::Unreadable { what: "a campaign" };
        let Some(state) = CampaignState::parse(&state) else { return Err(unreadable) };
        let Ok(plan) = serde_json::from_str(&plan) else { return Err(unreadable) };
        Ok(Campaign {
            id,
            version: unsigned(version)?,
            state,
            why,
            plan,
            actor,
            reason,
            total: unsigned(total)?,
            released: unsigned(released)?,
            settled: unsigned(settled)?,
            failed: unsigned(failed)?,
            base: unsigned(base)?,
            paced_at: Time(paced),
            judged_from: Time(judged),
            started_at: Time(started),
            changed_at: Time(changed),
        })
    }
}

impl FromColumns for Replay {
    type Columns = ReplayColumns;

    fn from_columns((letter, campaign, claims): ReplayColumns) -> Result<Replay, StoreError> {
        Ok(Replay { letter, campaign, claims: unsigned(claims)? })
    }
}

impl FromColumns for ReplayedRow {
    type Columns = ReplayedColumns;

    fn from_columns(columns: ReplayedColumns) -> Result<ReplayedRow, StoreError> {
        let (campaign, letter, outcome, reason, error, at) = columns;
        Ok(ReplayedRow { campaign, letter, outcome, reason, error, at: Time(at) })
    }
}

impl FromColumns for LetterDeed {
    type Columns = DeedColumns;

    fn from_columns(columns: DeedColumns) -> Result<LetterDeed, StoreError> {
        let (subject, id, at, actor, verb, reason) = columns;
        Ok(LetterDeed { subject, id, at: Time(at), actor, verb, reason })
    }
}

impl FromColumns for ShipmentRow {
    type Columns = ShipmentColumns;

    fn from_columns(columns: ShipmentColumns) -> Result<ShipmentRow, StoreError> {
        let (tenant, courier, shipment_id, saga, order_id) = columns;
        Ok(ShipmentRow { tenant, courier, shipment_id, saga: SagaId(saga), order_id })
    }
}

impl FromColumns for ScanRow {
    type Columns = ScanColumns;

    fn from_columns(columns: ScanColumns) -> Result<ScanRow, StoreError> {
        let (saga, courier, id, shipment_id, status, happened_at, ..) = columns;
        let (.., latitude, longitude, received_at) = columns;
        Ok(ScanRow {
            saga: SagaId(saga),
            courier,
            id,
            shipment_id,
            status,
            happened_at: Time(happened_at),
            location: latitude.zip(longitude),
            received_at: Time(received_at),
        })
    }
}

impl FromColumns for AuditedRow {
    type Columns = AuditColumns;

    fn from_columns(columns: AuditColumns) -> Result<AuditedRow, StoreError> {
        let (version, id, at, actor, approver, verb, detail, reason) = columns;
        let deed = AuditRow { id, at: Time(at), actor, approver, verb, detail, reason };
        Ok(AuditedRow { version: unsigned(version)?, deed })
    }
}

impl FromColumns for RequestRow {
    type Columns = RequestColumns;

    fn from_columns(columns: RequestColumns) -> Result<RequestRow, StoreError> {
        let (id, tenant, order_id, detail, actor, reason, asked_at) = columns;
        let asked_at = Time(asked_at);
        Ok(RequestRow { id, tenant, order_id, detail, actor, reason, asked_at })
    }
}

/// # Errors
/// [`StoreError::Unreadable`].
pub(super) fn counts(rows: Vec<CountColumns>) -> Result<Counts, StoreError> {
    let mut counts = Counts::default();
    for (what, status, count) in rows {
        let count = counted(count)?;
        match (what.as_str(), status) {
            ("saga", Some(status)) => {
                counts.sagas.push((encoding::status_from_number(status)?, count));
            }
            ("attention", _) => counts.attention = count,
            ("outbox", _) => counts.outbox = count,
            ("dead_letter", _) => counts.dead_letters = count,
            _ => return Err(StoreError::Unreadable { what: "a count" }),
        }
    }
    Ok(counts)
}

/// # Errors
/// [`StoreError::Unreadable`].
pub(super) fn standing(rows: Vec<StandingColumns>) -> Result<Standing, StoreError> {
    let mut standing = Standing::default();
    for (what, status, name, number, at) in rows {
        let number = u64::try_from(number).map_err(|_| UNREADABLE_NUMBER)?;
        let at = at.map(Time);
        match (what.as_str(), status, name) {
            ("active", Some(status), _) => {
                standing.active.push((encoding::status_from_number(status)?, number));
                standing.oldest = standing.oldest.into_iter().chain(at).min();
            }
            ("attention", ..) => standing.attention = number,
            ("at_risk", ..) => standing.at_risk = number,
            ("due", ..) => standing.next_due = at,
            ("outbox", ..) => standing.outbox = number,
            ("outbox_oldest", ..) => standing.outbox_oldest = at,
            ("dead_letter", _, Some(reason)) => standing.dead_letters.push((reason, number)),
            _ => return Err(StoreError::Unreadable { what: "what stands" }),
        }
    }
    Ok(standing)
}

const UNREADABLE_NUMBER: StoreError = StoreError::Unreadable { what: "a negative number" };

/// # Errors
/// [`StoreError::Unreadable`].
pub(super) fn counted(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| UNREADABLE_NUMBER)
}

fn unsigned(number: i32) -> Result<u32, StoreError> {
    u32::try_from(number).map_err(|_| UNREADABLE_NUMBER)
}

/// A number for a column of 32 bits.
///
/// # Errors
/// [`StoreError::Rejected`]: it does not fit.
pub(super) fn signed(number: u32, during: &'static str) -> Result<i32, StoreError> {
    i32::try_from(number).map_err(|error| StoreError::Rejected { during, source: error.into() })
}

/// An outbox row's number, for a column of 16 bits.
///
/// # Errors
/// [`StoreError::Rejected`]: it does not fit.
pub(super) fn small(number: u16, during: &'static str) -> Result<i16, StoreError> {
    i16::try_from(number).map_err(|error| StoreError::Rejected { during, source: error.into() })
}

/// How a campaign goes about it, as text.
pub(super) fn plan(campaign: &Campaign) -> String {
    serde_json::to_string(&campaign.plan).expect("texts, numbers and ids always serialise")
}

/// A limit for SQL.
pub(super) fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
