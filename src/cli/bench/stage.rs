//! The other side of the broker: a feeder, an echo for each participant, and a courier.
//!
//! Participants are an echo in the same process: they answer success at once and keep no
//! ledger, so that the worker, the database and the broker are what is measured. The courier
//! scans a parcel a moment after the dispatch was answered: a delivery that overtook that
//! answer would rightly call for an operator.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::broker::{Broker, Channel, Event, Outgoing, Ticket, envelope};
use crate::clock::wait;
use crate::worker::Shutdown;

/// Messages taken or published at once by the echo and the feeder.
const BATCH: usize = 500;
/// The last command of a saga: it makes room for the next one.
const LAST_COMMAND: &str = "loan.activate.v1";
/// The third command, and the last before the courier: latency is measured until it comes.
const DISPATCH: &str = "tms.dispatch.v1";
/// From a dispatch to the courier's scans.
const SCANS_AFTER: Duration = Duration::from_secs(2);

/// What the feeder and the echo share.
pub(super) struct Stage {
    broker: Arc<dyn Broker>,
    /// One permit per saga that may still be started.
    room: Semaphore,
    /// Distinguishes this run's orders from those of earlier runs on the same database.
    run: String,
    fed: Mutex<HashMap<String, Instant>>,
    latencies: Mutex<Vec<u64>>,
    /// Scans with the time when they are made, in that order.
    scans: Mutex<VecDeque<(Instant, Outgoing)>>,
}

impl Stage {
    pub fn new(broker: Arc<dyn Broker>, in_flight: u64) -> Stage {
        let permits = usize::try_from(in_flight).unwrap_or(Semaphore::MAX_PERMITS);
        Stage {
            broker,
            room: Semaphore::new(permits.clamp(1, Semaphore::MAX_PERMITS)),
            run: uuid::Uuid::now_v7().simple().to_string(),
            fed: Mutex::default(),
            latencies: Mutex::default(),
            scans: Mutex::default(),
        }
    }

    fn fed(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.fed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn latencies(&self) -> MutexGuard<'_, Vec<u64>> {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes orders as fast as there is room for them.
    pub async fn feed(&self, kind: &str, count: u64) -> anyhow::Result<()> {
        let mut next = 0;
        while next < count {
            self.room.acquire().await?.forget();
            let mut free = 1;
            while free < BATCH
                && next + (free as u64) < count
                && let Ok(permit) = self.room.try_acquire()
            {
                permit.forget();
                free += 1;
            }
            let orders = next..next + free as u64;
            next = orders.end;
            let messages: Vec<Outgoing> = orders.map(|n| self.order(kind, n)).collect();
            self.publish(messages).await?;
        }
        Ok(())
    }

    fn order(&self, kind: &str, number: u64) -> Outgoing {
        let order_id = format!("{kind}-{}-{number}", self.run);
        let data = payload(&order_id, number);
        self.fed().insert(order_id.clone(), Instant::now());
        let mut event = Event::new(&order_id, "/bench", "order.created.v1", &data);
        event.subject = Some(order_id);
        event.tenantid = Some("bench".to_owned());
        Outgoing { channel: Channel::Orders, event }
    }

    async fn publish(&self, messages: Vec<Outgoing>) -> anyhow::Result<()> {
        for answer in self.broker.publish(&messages).await {
            answer.context("the bench could not publish")?;
        }
        Ok(())
    }

    /// The answer to a command, and the courier's scans after a dispatch.
    fn answer(&self, participant: &str, command: &Event, messages: &mut Vec<Outgoing>) {
        let order_id = command.subject.clone().unwrap_or_default();
        let waits = order_id.starts_with("waiting");
        let source = format!("/participants/{participant}");
        let data = json!({ "command_id": command.id, "outcome": "success" });
        let kind = format!("{}.replied.v1", command.name());
        let mut reply = Event::new(format!("r-{}", command.id), source, kind, &data);
        reply.sagaid.clone_from(&command.sagaid);
        reply.subject = Some(order_id.clone());
        messages.push(Outgoing { channel: Channel::Replies, event: reply });
        if command.kind == LAST_COMMAND {
            self.room.add_permits(1);
        } else if command.kind == DISPATCH {
            if let Some(fed) = self.fed().remove(&order_id) {
                let micros = u64::try_from(fed.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.latencies().push(micros);
            }
            if waits {
                self.room.add_permits(1);
                return;
            }
            let at = Instant::now() + SCANS_AFTER;
            for kind in ["shipment.in-transit.v1", "shipment.delivered.v1"] {
                let data = json!({ "order_id": order_id, "tenant_id": "bench" });
                let mut scan = Event::new(format!("{kind}-{order_id}"), "/courier", kind, &data);
                scan.subject = Some(order_id.clone());
                scan.tenantid = Some("bench".to_owned());
                let scan = Outgoing { channel: Channel::Facts, event: scan };
                self.scans.lock().unwrap_or_else(PoisonError::into_inner).push_back((at, scan));
            }
        }
    }
}

/// Makes the scans whose time has come, until the bench ends.
pub(super) async fn courier(stage: Arc<Stage>, shutdown: Shutdown) {
    while !shutdown.is_stopping() {
        wait(Duration::from_millis(5)).await;
        let due = {
            let mut scans = stage.scans.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let due = scans.partition_point(|(at, _)| *at <= now);
            scans.drain(..due).map(|(_, scan)| scan).collect::<Vec<_>>()
        };
        for batch in due.chunks(BATCH) {
            if let Err(error) = stage.publish(batch.to_vec()).await {
                tracing::error!(error = %format!("{error:#}"), "the bench's courier failed");
            }
        }
    }
}

/// Answers every command of one participant until the bench ends.
pub(super) async fn echo(stage: Arc<Stage>, participant: String, shutdown: Shutdown) {
    let channel = Channel::Commands(participant.clone());
    let work = async {
        let mut consumer = stage.broker.consume(&channel, 2 * BATCH as u16).await?;
        loop {
            let received = consumer.receive(BATCH).await?;
            let mut messages = Vec::with_capacity(received.len());
            let mut tickets = Vec::with_capacity(received.len());
            for incoming in received {
                if let Ok(event) = envelope::decode(&incoming.body, &incoming.headers, usize::MAX) {
                    stage.answer(&participant, &event, &mut messages);
                }
                tickets.push(incoming.ticket);
            }
            stage.publish(messages).await?;
            tickets.into_iter().for_each(Ticket::done);
        }
    };
    let ended: anyhow::Result<()> = tokio::select! {
        ended = work => ended,
        () = shutdown.stopped() => Ok(()),
    };
    if let Err(error) = ended {
        tracing::error!(participant, error = %format!("{error:#}"), "the bench's echo ended");
    }
}

pub(super) fn payload(order_id: &str, number: u64) -> serde_json::Value {
    json!({
        "order_id": order_id, "tenant_id": "bench", "placed_at": "2026-01-01T00:00:00Z",
        "currency": "EUR",
        "loan": { "loan_id": format!("L-{number}"), "amount_minor": 3871, "installments": 1 },
        "lines": [{ "line_id": "1", "sku": "87285b34", "quantity": 1, "unit_price_minor": 3871 }],
        "ship_to": { "postal_code": "03149", "city": "sao paulo", "region": "SP", "country": "BR" },
    })
}
