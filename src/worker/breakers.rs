//! Whom not to disturb: the breakers of all participants, as this worker knows them.
//!
//! A worker finds out by itself who answers nobody, and who does again; the store tells the
//! others, and whoever starts meanwhile. What a decision is told of it is written with the
//! journal: see [`Moment`].

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Shutdown;
use super::breaker::Breaker;
use crate::clock::{Clock, wait};
use crate::saga::{Definition, Direction, Effect, Input, Moment, Phase, Saga, Time, asked};
use crate::store::{Store, StoreError};
use crate::telemetry::Telemetry;

/// How often it is looked at what the others found out.
const LOOK_EVERY: Duration = Duration::from_secs(2);

pub(super) struct Breakers {
    telemetry: Arc<Telemetry>,
    /// Commands per second, for those that waited.
    release: u32,
    /// Commands per second, for those participants that have a limit.
    limits: BTreeMap<String, u32>,
    known: Mutex<Known>,
    /// Everybody answers, and nobody has a limit: nothing has to be looked up.
    is_calm: AtomicBool,
    changed: Notify,
}

#[derive(Default)]
struct Known {
    breakers: HashMap<String, Breaker>,
    /// What is to be stored: since when each is away, or that it is back.
    unsaved: BTreeMap<String, Option<Time>>,
}

impl Breakers {
    pub fn new(telemetry: Arc<Telemetry>, release: u32, limits: BTreeMap<String, u32>) -> Breakers {
        let is_calm = AtomicBool::new(limits.is_empty());
        let (known, changed) = (Mutex::default(), Notify::new());
        Breakers { telemetry, release, limits, known, is_calm, changed }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self, participant: &str) -> Breaker {
        Breaker::new(self.release, self.limits.get(participant).copied())
    }

    /// What is known at the time of a decision.
    pub fn moment(&self, definition: &Definition, saga: &Saga, now: Time) -> Moment {
        let mut moment = Moment::from(now);
        let held = |step: usize| matches!(saga.steps[step].phase, Phase::Held { .. });
        let waits = (0..saga.steps.len()).any(held);
        if self.is_calm.load(Ordering::Relaxed) && !waits {
            return moment;
        }
        let mut known = self.known();
        for (index, step) in definition.steps().iter().enumerate() {
            let Some((participant, _)) = step.command(Direction::Forward) else { continue };
            let waited = held(index);
            if waited && !known.breakers.contains_key(participant) {
                known.breakers.insert(participant.to_owned(), self.fresh(participant));
            }
            let Some(breaker) = known.breakers.get(participant) else { continue };
            if breaker.stops_clocks(now) {
                moment.away.insert(index);
            }
            if breaker.bars(now, waited) {
                moment.barred.insert(index);
            }
        }
        moment
    }

    /// Learns from a decision who was sent something, who answers, and who does not.
    pub fn note(
        &self,
        definition: &Definition,
        before: &Saga,
        input: &Input,
        effects: &[Effect],
        now: Time,
    ) {
        let participant = |step: usize| definition.steps()[step].command(Direction::Forward);
        for effect in effects {
            let (step, attempt) = match effect {
                Effect::Send { step, direction: Direction::Forward, attempt, .. } => {
                    (*step, *attempt)
                }
                // Asked once more: it has not said what became of the command either.
                Effect::Probe { step, .. } => (*step, 2),
                _ => continue,
            };
            let Some((participant, _)) = participant(step) else { continue };
            let waited = matches!(before.steps[step].phase, Phase::Held { .. });
            match attempt {
                1 => self.sent(participant, waited, now),
                _ if *input == Input::Clock => self.silent(participant, before, now),
                _ => {}
            }
        }
        let (from, command) = match input {
            Input::Reply(reply) => (&reply.from, reply.command),
            Input::Probed { command, from, .. } => (from, *command),
            _ => return,
        };
        if !self.is_calm.load(Ordering::Relaxed)
            && let Some(who) = from.as_deref().or_else(|| asked(definition, before, command))
        {
            self.heard(who, now);
        }
    }

    fn sent(&self, participant: &str, waited: bool, now: Time) {
        if self.is_calm.load(Ordering::Relaxed) && !waited {
            return;
        }
        let fresh = || self.fresh(participant);
        let mut known = self.known();
        let is_of_interest = waited || self.limits.contains_key(participant);
        if is_of_interest || known.breakers.contains_key(participant) {
            known
                .breakers
                .entry(participant.to_owned())
                .or_insert_with(fresh)
                .was_sent(now, waited);
        }
    }

    fn silent(&self, participant: &str, saga: &Saga, now: Time) {
        let fresh = || self.fresh(participant);
        let mut known = self.known();
        let breaker = known.breakers.entry(participant.to_owned()).or_insert_with(fresh);
        self.is_calm.store(false, Ordering::Relaxed);
        if breaker.was_silent(saga.id) {
            breaker.open(now);
            known.unsaved.insert(participant.to_owned(), Some(now));
            self.telemetry.breaker(participant, true);
            self.changed.notify_one();
        }
    }

    fn heard(&self, participant: &str, now: Time) {
        let mut known = self.known();
        let Some(breaker) = known.breakers.get_mut(participant) else { return };
        if breaker.answered(now) {
            known.unsaved.insert(participant.to_owned(), None);
            self.telemetry.breaker(participant, false);
            self.changed.notify_one();
        }
        self.calm_down(&known, now);
    }

    fn calm_down(&self, known: &Known, now: Time) {
        let is_quiet = |b: &Breaker| !b.stops_clocks(now) && !b.has_been_silent();
        let is_calm = self.limits.is_empty() && known.breakers.values().all(is_quiet);
        self.is_calm.store(is_calm, Ordering::Relaxed);
    }

    /// When a saga is next to be looked at: at its next clock, but for a step before which it is
    /// held and could not go on now. That one gets a turn.
    pub fn next_look(&self, definition: &Definition, saga: &Saga, now: Time) -> Option<Time> {
        let next = |(index, at): (usize, Time)| match saga.steps[index].phase {
            Phase::Held { look_at } if look_at <= now => {
                let (participant, _) = definition.steps()[index].command(Direction::Forward)?;
                let jitter = saga.id.0.as_u64_pair().1 ^ now.0.unsigned_abs();
                let (fresh, mut known) = (|| self.fresh(participant), self.known());
                let breaker = known.breakers.entry(participant.to_owned());
                Some(breaker.or_insert_with(fresh).turn(now, jitter))
            }
            _ => Some(at),
        };
        saga.clocks().filter_map(next).min()
    }

    /// Takes over what the store knows. What this worker has yet to store is newer.
    pub async fn learn(&self, store: &dyn Store, now: Time) -> Result<(), StoreError> {
        let stored: BTreeMap<String, Time> = store.open_breakers().await?.into_iter().collect();
        let mut known = self.known();
        let Known { breakers, unsaved } = &mut *known;
        for (participant, at) in &stored {
            let fresh = || self.fresh(participant);
            let breaker = breakers.entry(participant.clone()).or_insert_with(fresh);
            if breaker.away_since().is_none() && !unsaved.contains_key(participant) {
                breaker.open(*at);
                self.telemetry.breaker(participant, true);
            }
        }
        for (participant, breaker) in breakers {
            let is_ours = unsaved.contains_key(participant) || stored.contains_key(participant);
            if !is_ours && breaker.away_since().is_some() {
                breaker.answered(now);
                self.telemetry.breaker(participant, false);
            }
        }
        self.calm_down(&known, now);
        Ok(())
    }

    async fn save(&self, store: &dyn Store) -> Result<(), StoreError> {
        let unsaved = self.known().unsaved.clone();
        for (participant, away_since) in unsaved {
            match away_since {
                Some(at) => store.open_breaker(&participant, at).await?,
                None => store.close_breaker(&participant).await?,
            }
            let mut known = self.known();
            if known.unsaved.get(&participant) == Some(&away_since) {
                known.unsaved.remove(&participant);
            }
        }
        Ok(())
    }

    /// Keeps the store and this worker of one mind. Until shutdown; a store that is away is asked
    /// again at the next look.
    pub async fn keep_up(
        self: Arc<Self>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        shutdown: Shutdown,
    ) {
        loop {
            tokio::select! {
                () = shutdown.stopped() => return,
                () = self.changed.notified() => {}
                () = wait(LOOK_EVERY) => {}
            }
            if self.save(&*store).await.is_ok() {
                let _ = self.learn(&*store, clock.now()).await;
            }
        }
    }
}
