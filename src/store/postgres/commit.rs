//! A batch of changes in one statement: one round trip, one fsync.
//!
//! The fenced update and the insert of new sagas find out who won; everything else is written
//! only for those. Rows are touched in the order of the saga id, so two batches cannot wait
//! for each other in a circle.

use std::collections::HashSet;

use uuid::Uuid;

use super::connection::Connections;
use super::deeds::Audit;
use super::error::lost_to_another;
use super::shipments::{Scans, Shipments};
use crate::saga::SagaId;
use crate::store::rows::{signed, small};
use crate::store::{Change, OrderRow, StoreError, Written, encoding};

const DURING: &str = "committing";

/// How often a batch that lost to another transaction (deadlock, serialization failure) is
/// sent again before the worker has to load and decide anew.
const RETRIES: u32 = 3;

const COMMIT: &str = "
WITH change AS (
    SELECT * FROM UNNEST($1::uuid[], $2::int[], $3::int[], $4::smallint[], $5::bool[],
                         $6::bigint[], $7::bytea[], $51::bool[], $52::bigint[])
        AS c (saga_id, from_version, version, status, attention, due, state, at_risk, started)
), updated AS (
    UPDATE saga s
    SET version = c.version, status = c.status, attention = c.attention, due = c.due,
        state = c.state, at_risk = c.at_risk
    FROM change c
    WHERE s.saga_id = c.saga_id AND s.version = c.from_version AND c.from_version > 0
    RETURNING s.saga_id
), created AS (
    INSERT INTO saga (saga_id, version, status, attention, due, state, at_risk, started)
    SELECT saga_id, version, status, attention, due, state, at_risk, started
    FROM change WHERE from_version = 0
    ON CONFLICT DO NOTHING
    RETURNING saga_id
), won AS (
    SELECT saga_id FROM updated UNION ALL SELECT saga_id FROM created
), ordered AS (
    INSERT INTO saga_order (saga_id, tenant, order_id, definition, definition_version,
                            received_at, traceparent, payload)
    SELECT o.*
    FROM UNNEST($8::uuid[], $9::text[], $10::text[], $11::text[], $12::int[], $13::bigint[],
                $14::text[], $15::bytea[])
        AS o (saga_id, tenant, order_id, definition, definition_version, received_at,
              traceparent, payload)
    JOIN won USING (saga_id)
), journaled AS (
    INSERT INTO saga_journal (saga_id, version, at, entry)
    SELECT j.*
    FROM UNNEST($16::uuid[], $17::int[], $18::bigint[], $19::bytea[])
        AS j (saga_id, version, at, entry)
    JOIN won USING (saga_id)
), sent AS (
    INSERT INTO outbox (saga_id, version, number, claimed_until, channel, message)
    SELECT m.*
    FROM UNNEST($20::uuid[], $21::int[], $22::smallint[], $23::bigint[], $24::text[],
                $25::bytea[])
        AS m (saga_id, version, number, claimed_until, channel, message)
    JOIN won USING (saga_id)
), revived AS (
    DELETE FROM dead_letter d
    USING UNNEST($26::uuid[], $27::uuid[]) AS r (saga_id, id) JOIN won USING (saga_id)
    WHERE d.id = r.id
), audited AS (
    INSERT INTO operator_audit (saga_id, id, version, at, actor, verb, reason, approver, detail)
    SELECT a.*
    FROM UNNEST($28::uuid[], $29::uuid[], $30::int[], $31::bigint[], $32::text[], $33::text[],
                $34::text[], $35::text[], $36::text[])
        AS a (saga_id, id, version, at, actor, verb, reason, approver, detail)
    JOIN won USING (saga_id)
    ON CONFLICT DO NOTHING
), shipped AS (
    INSERT INTO shipment (tenant, courier, shipment_id, saga_id, order_id)
    SELECT p.*
    FROM UNNEST($37::text[], $38::text[], $39::text[], $40::uuid[], $41::text[])
        AS p (tenant, courier, shipment_id, saga_id, order_id)
    JOIN won USING (saga_id)
    ON CONFLICT DO NOTHING
), scanned AS (
    INSERT INTO scan (saga_id, courier, id, shipment_id, status, happened_at, latitude, longitude,
                      received_at)
    SELECT n.*
    FROM UNNEST($42::uuid[], $43::text[], $44::text[], $45::text[], $46::text[], $47::bigint[],
                $48::float8[], $49::float8[], $50::bigint[])
        AS n (saga_id, courier, id, shipment_id, status, happened_at, latitude, longitude,
              received_at)
    JOIN won USING (saga_id)
    ON CONFLICT DO NOTHING
)
SELECT coalesce(array_agg(saga_id), '{}') FROM won";

pub(super) async fn commit(
    connections: &Connections,
    batch: &[Change],
) -> Result<Vec<Written>, StoreError> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let columns = Columns::of(batch)?;
    let mut retries = 0;
    let won = loop {
        match columns.send(connections).await {
            Err(error) if lost_to_another(&error) && retries < RETRIES => retries += 1,
            answer => break answer?,
        }
    };
    let written = |change: &Change| match won.contains(&change.saga.id.0) {
        true => Written::Committed,
        false => Written::LostRace,
    };
    Ok(batch.iter().map(written).collect())
}

/// The batch by column, in the order of the saga id.
#[derive(Default)]
struct Columns<'a> {
    sagas: Sagas,
    orders: Orders<'a>,
    journal: Journal,
    outbox: Outbox<'a>,
    revived: Revived,
    audit: Audit<'a>,
    shipments: Shipments<'a>,
    scans: Scans<'a>,
}

#[derive(Default)]
struct Sagas {
    id: Vec<Uuid>,
    from_version: Vec<i32>,
    version: Vec<i32>,
    status: Vec<i16>,
    attention: Vec<bool>,
    due: Vec<Option<i64>>,
    state: Vec<Vec<u8>>,
    at_risk: Vec<bool>,
    started: Vec<i64>,
}

#[derive(Default)]
struct Orders<'a> {
    saga: Vec<Uuid>,
    tenant: Vec<&'a str>,
    order_id: Vec<&'a str>,
    definition: Vec<&'a str>,
    definition_version: Vec<i32>,
    received_at: Vec<i64>,
    traceparent: Vec<&'a str>,
    payload: Vec<&'a [u8]>,
}

#[derive(Default)]
struct Journal {
    saga: Vec<Uuid>,
    version: Vec<i32>,
    at: Vec<i64>,
    entry: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Outbox<'a> {
    saga: Vec<Uuid>,
    version: Vec<i32>,
    number: Vec<i16>,
    claimed_until: Vec<i64>,
    channel: Vec<&'a str>,
    message: Vec<&'a [u8]>,
}

#[derive(Default)]
struct Revived {
    saga: Vec<Uuid>,
    letter: Vec<Uuid>,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a [Change]) -> Result<Columns<'a>, StoreError> {
        let mut sorted: Vec<&Change> = batch.iter().collect();
        sorted.sort_unstable_by_key(|change| change.saga.id);
        let mut columns = Columns::default();
        for change in sorted {
            columns.add(change)?;
        }
        Ok(columns)
    }

    fn add(&mut self, change: &'a Change) -> Result<(), StoreError> {
        let id = change.saga.id.0;
        let version = signed(change.version(), DURING)?;
        self.sagas.id.push(id);
        self.sagas.from_version.push(signed(change.from_version, DURING)?);
        self.sagas.version.push(version);
        self.sagas.status.push(encoding::status_to_number(change.saga.status));
        self.sagas.attention.push(!change.saga.attention.is_empty());
        self.sagas.due.push(change.due.map(|due| due.0));
        self.sagas.state.push(encoding::saga_to_bytes(&change.saga));
        self.sagas.at_risk.push(change.saga.is_at_risk());
        self.sagas.started.push(change.saga.started_at.0);
        if let Some(order) = change.new_order(DURING)? {
            self.add_order(order)?;
        }
        for row in &change.journal {
            self.journal.saga.push(id);
            self.journal.version.push(signed(row.version, DURING)?);
            self.journal.at.push(row.at().0);
            self.journal.entry.push(encoding::entry_to_bytes(row));
        }
        for row in &change.outbox {
            self.outbox.saga.push(id);
            self.outbox.version.push(signed(row.key.version, DURING)?);
            self.outbox.number.push(small(row.key.number, DURING)?);
            self.outbox.claimed_until.push(row.claimed_until.0);
            self.outbox.channel.push(&row.channel);
            self.outbox.message.push(&row.message);
        }
        for letter in &change.revived {
            self.revived.saga.push(id);
            self.revived.letter.push(*letter);
        }
        change.shipments.iter().for_each(|row| self.shipments.add(row));
        change.scans.iter().for_each(|row| self.scans.add(row));
        if let Some(row) = &change.audit {
            self.audit.add(id, version, row);
        }
        Ok(())
    }

    fn add_order(&mut self, order: &'a OrderRow) -> Result<(), StoreError> {
        let SagaId(id) = order.saga;
        self.orders.saga.push(id);
        self.orders.tenant.push(&order.tenant);
        self.orders.order_id.push(&order.order_id);
        self.orders.definition.push(&order.definition);
        self.orders.definition_version.push(signed(order.definition_version, DURING)?);
        self.orders.received_at.push(order.received_at.0);
        self.orders.traceparent.push(&order.traceparent);
        self.orders.payload.push(&order.payload);
        Ok(())
    }

    /// Returns the sagas that were written.
    async fn send(&self, connections: &Connections) -> Result<HashSet<Uuid>, StoreError> {
        let Columns { sagas, orders, journal, outbox, revived, audit, shipments, scans } = self;
        let query = sqlx::query_as::<_, (Vec<Uuid>,)>(COMMIT)
            .bind(&sagas.id)
            .bind(&sagas.from_version)
            .bind(&sagas.version)
            .bind(&sagas.status)
            .bind(&sagas.attention)
            .bind(&sagas.due)
            .bind(&sagas.state)
            .bind(&orders.saga)
            .bind(&orders.tenant)
            .bind(&orders.order_id)
            .bind(&orders.definition)
            .bind(&orders.definition_version)
            .bind(&orders.received_at)
            .bind(&orders.traceparent)
            .bind(&orders.payload)
            .bind(&journal.saga)
            .bind(&journal.version)
            .bind(&journal.at)
            .bind(&journal.entry)
            .bind(&outbox.saga)
            .bind(&outbox.version)
            .bind(&outbox.number)
            .bind(&outbox.claimed_until)
            .bind(&outbox.channel)
            .bind(&outbox.message)
            .bind(&revived.saga)
            .bind(&revived.letter)
            .bind(&audit.saga)
            .bind(&audit.id)
            .bind(&audit.version)
            .bind(&audit.at)
            .bind(&audit.actor)
            .bind(&audit.verb)
            .bind(&audit.reason)
            .bind(&audit.approver)
            .bind(&audit.detail)
            .bind(&shipments.tenant)
            .bind(&shipments.courier)
            .bind(&shipments.shipment_id)
            .bind(&shipments.saga)
            .bind(&shipments.order_id)
            .bind(&scans.saga)
            .bind(&scans.courier)
            .bind(&scans.id)
            .bind(&scans.shipment_id)
            .bind(&scans.status)
            .bind(&scans.happened_at)
            .bind(&scans.latitude)
            .bind(&scans.longitude)
            .bind(&scans.received_at)
            .bind(&sagas.at_risk)
            .bind(&sagas.started);
        let rows = connections.rows(DURING, query).await?;
        Ok(rows.into_iter().flat_map(|(won,)| won).collect())
    }
}
