//! The watch: one worker at a time looks at what is stored, for the gauges.
//!
//! Whoever has the duty looks; the others show no gauges of what is stored, so that nobody adds up
//! the same sagas twice and the database answers once, however many workers there are and however
//! often each is scraped. Every question is answered from an index that holds only what is asked
//! for (`store::watch`): it costs as much as there is under way, and no more with a million sagas
//! that have ended. What by step, code and currency is at risk stands in the sagas' own bytes and
//! in their orders, so those sagas are read, up to a bound; beyond it the gauges are lower bounds,
//! and say so.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::Shutdown;
use super::definitions::Definitions;
use crate::catalog::Catalog;
use crate::clock::{Clock, wait};
use crate::order::Order;
use crate::saga::{Millis, step_label};
use crate::store::{Store, StoreError, Stored};
use crate::telemetry::{Telemetry, Watched};

const DUTY: &str = "watch";
/// The shortest time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// A look is followed by a rest of at least so many times what it took: whatever it costs, the
/// database does something else nineteen twentieths of the time.
const REST: u32 = 19;
/// The longest time between two looks, which the duty has to outlast.
const LOOK_WITHIN: Duration = Duration::from_secs(60);
/// How long the duty is taken for, and how long what was seen is shown.
const DUTY_LASTS: Millis = Millis(90_000);
/// The most sagas at risk that are read at each look: some megabytes of orders. A thousand orders
/// that need a person are no longer looked at one by one.
const MOST_READ: usize = 1_000;

pub(super) struct Watch {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub telemetry: Arc<Telemetry>,
    pub definitions: Definitions,
}

impl Watch {
    /// Looks now and then, until shutdown; gives the duty up then, for another worker to take.
    pub async fn run(self, shutdown: Shutdown) {
        let me = Uuid::new_v4();
        tokio::select! {
            () = shutdown.stopped() => {}
            () = self.look_on(me) => {}
        }
        self.telemetry.unwatched();
        let now = self.clock.now();
        // Where this fails it ends by itself.
        let _ = self.store.watch().take_duty(DUTY, me, now, now).await;
    }

    async fn look_on(&self, me: Uuid) {
        let mut seen_at = None;
        loop {
            let began = Instant::now();
            match self.look(me).await {
                Ok(Some(seen)) => {
                    seen_at = Some(seen.at);
                    self.telemetry.watched(&seen);
                }
                Ok(None) => self.telemetry.unwatched(),
                // A moment without the database is no reason to know nothing any more.
                Err(_) if seen_at.is_some_and(|at| self.clock.now() - at < DUTY_LASTS) => {}
                Err(_) => self.telemetry.unwatched(),
            }
            wait((began.elapsed() * REST).clamp(LOOK_EVERY, LOOK_WITHIN)).await;
        }
    }

    /// What there is to see; `None` where another worker watches.
    async fn look(&self, me: Uuid) -> Result<Option<Watched>, StoreError> {
        let now = self.clock.now();
        let store = self.store.watch();
        if !store.take_duty(DUTY, me, now, now + DUTY_LASTS).await? {
            return Ok(None);
        }
        let began = Instant::now();
        let standing = store.standing().await?;
        let sagas = match standing.at_risk {
            0 => Vec::new(),
            _ => store.at_risk(MOST_READ).await?,
        };
        let mut seen = Watched {
            at: now,
            active: standing.active,
            oldest: standing.oldest,
            needs_person: standing.attention,
            at_risk: standing.at_risk,
            unread: standing.at_risk.saturating_sub(sagas.len() as u64),
            next_due: standing.next_due,
            outbox: standing.outbox,
            outbox_oldest: standing.outbox_oldest,
            dead_letters: standing.dead_letters,
            ..Watched::default()
        };
        let catalog = self.definitions.current();
        every_step(&catalog, &mut seen);
        sagas.iter().for_each(|stored| add(&catalog, stored, &mut seen));
        seen.took = began.elapsed();
        Ok(Some(seen))
    }
}

/// A step of which nothing is in doubt is shown as well: no step is forgotten.
fn every_step(catalog: &Catalog, seen: &mut Watched) {
    for definition in catalog.all().map(|loaded| &loaded.definition) {
        for step in definition.steps() {
            seen.in_doubt.insert((definition.name().to_owned(), step.name.clone()), 0);
        }
    }
}

/// Adds one saga at risk.
fn add(catalog: &Catalog, stored: &Stored, seen: &mut Watched) {
    let Stored { saga, order, .. } = stored;
    let loaded = catalog.get(&order.definition, order.definition_version);
    if let Some(loaded) = loaded {
        let definition = &loaded.definition;
        let name = |step| (definition.name().to_owned(), step_label(definition, step).to_owned());
        for attention in &saga.attention {
            let (definition, step) = name(attention.step);
            *seen.attention.entry((definition, step, attention.code.as_str())).or_default() += 1;
        }
        for step in (0..saga.steps.len()).filter(|step| saga.doubt(*step).is_some()) {
            *seen.in_doubt.entry(name(Some(step))).or_default() += 1;
        }
    }
    // It was checked when it came in.
    if let Ok(Order { currency, loan, .. }) = Order::parse(&order.payload) {
        *seen.value_at_risk.entry(currency).or_default() += i128::from(loan.amount_minor);
    }
    if loaded.is_none() {
        seen.unread += 1;
    }
}

#[cfg(test)]
mod tests;
