//! The entrance for callers who wait for an answer, such as an HTTP request.
//!
//! What is handed in goes through the same lanes and the same commits as what the broker
//! delivers, so that many calls at once share one commit. The answer comes after the commit.
//! What is refused is no dead letter: the caller knows. Nothing here knows HTTP.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::Shutdown;
use super::batch::{Decided, Group};
use super::definitions::Definitions;
use super::delivery::{Delivery, Named};
use super::inputs::{Inputs, Item, What, cancels, starts, tells};
use super::lanes::Lanes;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::order::Order;
use crate::saga::{CancelState, EventId, FactSeen, Input, OrderState, SagaId, Time};
use crate::store::{Change, ScanRow, ShipmentRow, Stored};
use crate::telemetry::Telemetry;

/// How many calls may wait to be taken in: what a lane takes at once, twice. Whoever comes when
/// they are as many is told so at once, instead of waiting where nobody sees it.
const QUEUE: usize = 1_000;
/// How many are taken in at once.
const MAX_TAKEN: usize = 500;
/// The events that calls stand for.
const ORDER_CREATED: &str = "order.created";
const CANCEL_REQUESTED: &str = "order.cancel-requested";

/// Where calls are handed in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Entrance(mpsc::Sender<Visit>);

/// The worker's end of it.
#[derive(Debug)]
pub struct Reception(mpsc::Receiver<Visit>);

/// An entrance and the reception behind it.
#[must_use]
pub fn entrance() -> (Entrance, Reception) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Entrance(sender), Reception(receiver))
}

/// What is asked for.
#[derive(Debug)]
pub enum Call {
    /// Take over an order.
    Order { order: Order, traceparent: Option<String> },
    /// Cancel it.
    Cancel { tenant: String, order_id: String },
    /// Take note of a scan, which stands for a fact such as `shipment.delivered`.
    Scan { shipment: ShipmentRow, fact: &'static str, scan: ScanRow },
}

#[derive(Debug)]
struct Visit {
    call: Call,
    answer: oneshot::Sender<Vec<Settled>>,
}

/// What became of a call in one of the sagas that it is for. All of it is stored by now.
#[derive(Debug, Clone)]
pub struct Settled {
    pub saga: SagaId,
    pub fate: Fate,
}

#[derive(Debug, Clone)]
pub enum Fate {
    Stored {
        /// This call began the saga.
        is_new: bool,
        /// When its order came in first.
        received_at: Time,
        reached: OrderState,
        cancel: CancelState,
        is_past_pivot: bool,
    },
    /// Nothing was stored. The reason is what a dead letter would say: `order-differs`,
    /// `unknown-saga`, `store-rejected`, ….
    Refused { reason: &'static str },
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    #[error("too much is waiting: nothing was taken in")]
    Full,
    #[error("the worker is stopping: nothing was taken in")]
    Stopping,
    #[error("it was taken in and let go: whether it was stored is not known")]
    LetGo,
}

impl Entrance {
    /// Hands in a call and waits for what becomes of it: an entry for each saga that it is for,
    /// none when no definition is for it. Given up half-way, the call goes on by itself; the
    /// same again does no harm.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub async fn call(&self, call: Call) -> Result<Vec<Settled>, Unanswered> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(Visit { call, answer }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Unanswered::Full,
            mpsc::error::TrySendError::Closed(_) => Unanswered::Stopping,
        })?;
        answered.await.map_err(|_| Unanswered::LetGo)
    }
}

/// The event that a pushed order stands for: derived from its saga, so that it has the same id
/// whenever the order is pushed again.
#[must_use]
pub fn order_event_id(saga: SagaId) -> Uuid {
    Uuid::new_v5(&saga.0, ORDER_CREATED.as_bytes())
}

/// The source and id under which a courier's report is known, as if it had come in as an event.
#[must_use]
pub fn scan_event_id(courier: &str, id: &str) -> EventId {
    EventId::of(&format!("/couriers/{courier}"), id)
}

/// Takes calls in and sends them to their lanes.
pub(super) struct Usher {
    pub reception: Reception,
    pub definitions: Definitions,
    pub lanes: Lanes,
    pub clock: Arc<dyn Clock>,
    pub telemetry: Arc<Telemetry>,
    pub shutdown: Shutdown,
}

impl Usher {
    /// Runs until shutdown, or until there is no entrance any more.
    pub async fn run(mut self) {
        let mut visits = Vec::new();
        loop {
            let taken = tokio::select! {
                taken = self.reception.0.recv_many(&mut visits, MAX_TAKEN) => taken,
                () = self.shutdown.stopped() => 0,
            };
            if taken == 0 {
                return;
            }
            self.telemetry.received("http", taken);
            let mut catalog = self.definitions.current();
            let mut has_looked = false;
            for visit in visits.drain(..) {
                let mut inputs = self.inputs(&visit.call, &catalog);
                if inputs.is_empty() && !has_looked {
                    // A definition published a moment ago may be the one that it is for.
                    self.definitions.learn(&self.shutdown).await;
                    catalog = self.definitions.current();
                    has_looked = true;
                    inputs = self.inputs(&visit.call, &catalog);
                }
                self.send(visit, inputs).await;
            }
        }
    }

    fn inputs(&self, call: &Call, catalog: &Catalog) -> Inputs {
        match call {
            Call::Order { order, traceparent } => {
                let starting = catalog.starting_on(ORDER_CREATED);
                starts(order, traceparent.as_deref(), starting, self.clock.now())
            }
            Call::Cancel { tenant, order_id } => {
                cancels(tenant, order_id, catalog.cancelled_by(CANCEL_REQUESTED))
            }
            Call::Scan { shipment, fact, scan } => {
                let event = scan_event_id(&scan.courier, &scan.id);
                let seen = FactSeen { kind: (*fact).into(), event };
                let ShipmentRow { tenant, order_id, .. } = shipment;
                let mut inputs = tells(tenant, order_id, &seen, catalog.awaiting(fact));
                inputs.retain(|(saga, _)| *saga != shipment.saga);
                let row = Arc::new(scan.clone());
                inputs.push((shipment.saga, What::Scanned(Input::Fact(seen), row)));
                inputs
            }
        }
    }

    async fn send(&self, visit: Visit, inputs: Inputs) {
        let Visit { call, answer } = visit;
        if inputs.is_empty() {
            let _ = answer.send(Vec::new()); // who has gone does not listen
            return;
        }
        let (tenant, order_id, id) = match call {
            Call::Order { order, .. } => {
                let cause = order_event_id(inputs[0].0).to_string();
                (order.tenant_id, order.order_id, Some(cause))
            }
            Call::Cancel { tenant, order_id } => (tenant, order_id, None),
            Call::Scan { shipment, scan, .. } => {
                (shipment.tenant, shipment.order_id, Some(scan.id))
            }
        };
        let (tenant, order_id) = (Some(tenant), Some(order_id));
        let named = Named { id, tenant, order_id, ..Named::default() };
        let delivery = Delivery::of_call(answer, inputs.len(), named);
        let item = |(saga, what)| Item {
            saga,
            what,
            delivery: Some(delivery.clone()),
            _busy: self.clock.busy(),
        };
        self.lanes.send(inputs.into_iter().map(item).collect()).await;
    }
}

/// Tells the callers in a group what became of their calls. `change` is what was committed.
pub(super) fn tell(
    group: &Group,
    decided: &Decided,
    before: Option<&Stored>,
    change: Option<&Change>,
    catalog: &Catalog,
) {
    let mut is_new = change.is_some_and(|change| change.from_version == 0);
    for (index, item) in group.items.iter().enumerate() {
        let starts = matches!(item.what, What::Start { .. });
        let refused = decided.refused.iter().find(|(refused, ..)| *refused == index);
        // The first of several equal orders is the one that began the saga.
        let began = is_new && starts && refused.is_none();
        is_new &= !began;
        let Some(delivery) = item.delivery.as_ref().filter(|delivery| delivery.is_call()) else {
            continue;
        };
        let fate = match refused {
            Some((_, reason, _)) => Fate::Refused { reason },
            None => match fate(began, before, change, catalog) {
                Some(fate) => fate,
                None => continue,
            },
        };
        delivery.tell(Settled { saga: group.saga, fate });
    }
}

fn fate(
    is_new: bool,
    before: Option<&Stored>,
    change: Option<&Change>,
    catalog: &Catalog,
) -> Option<Fate> {
    let saga = change.map(|change| &change.saga).or(before.map(|stored| &stored.saga))?;
    let order = before.map(|stored| &stored.order).or(change.and_then(|c| c.order.as_ref()))?;
    let loaded = catalog.get(&order.definition, order.definition_version);
    let is_past_pivot = loaded.is_some_and(|loaded| {
        let mut pivots = loaded.definition.pivots().iter();
        pivots.any(|pivot| saga.steps.get(pivot).is_some_and(|step| step.phase.stands()))
    });
    let (received_at, reached, cancel) = (order.received_at, saga.reached, saga.cancel);
    Some(Fate::Stored { is_new, received_at, reached, cancel, is_past_pivot })
}
