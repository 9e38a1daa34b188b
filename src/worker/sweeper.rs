//! The sweeper: claims outbox rows whose lease has run out, its own or a dead worker's, and hands
//! them to the relay, which publishes them under the same ids.

use std::sync::Arc;

use serde_json::json;
use uuid::Uuid;

use super::Shutdown;
use super::message::Posting;
use super::relay::{CLAIM_LEASE, Posted, RelayHandle};
use crate::broker::{Channel, Event, Outgoing};
use crate::clock::{Backoff, Busy, Clock};
use crate::saga::{Millis, Time};
use crate::store::{DeadLetter, OutboxKey, OutboxRow, Store, StoreError};
use crate::telemetry::Telemetry;

/// How often the sweeper looks for rows that were left over.
const SWEEP_EVERY: Millis = Millis(5_000);
/// How many rows the sweeper claims at once.
const SWEEP_LIMIT: usize = 500;
/// Where the dead letter of an unreadable row comes from.
pub(super) const SOURCE: &str = "outbox";

/// Claims rows that were left over and hands them to the relay, until shutdown.
pub(super) struct Sweeper {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub telemetry: Arc<Telemetry>,
    pub relay: RelayHandle,
}

impl Sweeper {
    pub async fn run(self, shutdown: Shutdown, held: Busy) {
        tokio::select! {
            () = shutdown.stopped() => {}
            () = self.sweep(held) => {}
        }
    }

    async fn sweep(&self, held: Busy) {
        let released = self.clock.now() + CLAIM_LEASE + Millis(1);
        let mut busy = held;
        let mut backoff = Backoff::default();
        let mut is_left = None;
        loop {
            // A relay that cannot get rid of what it has needs nothing more.
            if !self.relay.is_in_trouble() {
                match self.claim().await {
                    Ok(claimed) if claimed == SWEEP_LIMIT => continue,
                    Ok(_) => backoff.reset(),
                    Err(error) => {
                        self.telemetry.part("sweeper", Some(&error));
                        backoff.wait().await;
                        continue;
                    }
                }
            }
            self.telemetry.part("sweeper", None);
            let is_left = match is_left {
                Some(is_left) => is_left,
                None => *is_left.insert(self.is_anything_left().await),
            };
            busy = self.rest(busy, is_left.then_some(released)).await;
        }
    }

    /// Waits for the next look. What a crash left behind is still claimed by a worker that is
    /// no more: until its claims are `released`, that is worth waiting for, also in simulated
    /// time. Afterwards time passes for other reasons.
    async fn rest(&self, busy: Busy, released: Option<Time>) -> Busy {
        let now = self.clock.now();
        match released.filter(|released| now < *released) {
            Some(released) => {
                let next = released.min(now + SWEEP_EVERY);
                self.clock.sleep_until(next, busy).await
            }
            None => {
                drop(busy);
                self.clock.pause(SWEEP_EVERY).await
            }
        }
    }

    async fn is_anything_left(&self) -> bool {
        self.store.watch().standing().await.is_ok_and(|standing| standing.outbox > 0)
    }

    async fn claim(&self) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let rows = self.store.claim_outbox(now, now + CLAIM_LEASE, SWEEP_LIMIT).await?;
        let claimed = rows.len();
        for row in rows {
            match posting(&row) {
                Ok(posting) => self.relay.send(Posted { posting, busy: self.clock.busy() }).await,
                Err(error) => self.bury(row, error, now).await?,
            }
        }
        Ok(claimed)
    }

    /// A row that says nothing that could be published is moved to the dead letters: claimed
    /// again and again, nobody would ever hear of it.
    async fn bury(&self, row: OutboxRow, error: String, now: Time) -> Result<(), StoreError> {
        let OutboxRow { key: OutboxKey { saga, version, number }, channel, .. } = &row;
        let participant = match channel.parse() {
            Ok(Channel::Commands(participant)) => Some(participant),
            _ => None,
        };
        let letter = DeadLetter {
            id: Uuid::new_v5(&saga.0, format!("{SOURCE}/{version}/{number}").as_bytes()),
            source: SOURCE.to_owned(),
            reason: "unreadable-message".to_owned(),
            error,
            headers: json!({ "channel": channel, "correlation-id": saga.to_string() }).to_string(),
            body: row.message,
            tenant: None,
            order_id: None,
            kind: None,
            participant,
            corrects: None,
            closed: None,
            first_seen: now,
            last_seen: now,
            attempts: 1,
        };
        self.telemetry.dead_letter(&letter.reason, &letter.source, &letter.error);
        self.store.bury(&[letter]).await?;
        self.store.delete_outbox(&[(row.key, row.claimed_until)]).await
    }
}

/// The message that a row holds, or what is wrong with it: where, and not what, because the
/// parser's own words may quote a customer.
fn posting(row: &OutboxRow) -> Result<Posting, String> {
    let channel = row.channel.parse()?;
    let event: Event = serde_json::from_slice(&row.message).map_err(|error| {
        format!("not an event at line {} column {}", error.line(), error.column())
    })?;
    let OutboxRow { key, claimed_until, .. } = *row;
    Ok(Posting { key, claimed_until, message: Outgoing { channel, event } })
}

#[cfg(test)]
mod tests;
