//! Replays: takes dead letters out again, at the pace of their campaigns, through all that a
//! message goes through that comes in.
//!
//! What is to be replayed is in the store: a campaign, and a row for each of its letters, whose
//! key is why no letter is out twice. A worker claims some, and what becomes of them is written
//! down with the claim as fence. It may die in between: then the claim runs out and the letter
//! goes through once more, which the state machine takes for the repetition that it is.
//! A campaign's version fences its pace: of several workers one at a time lets letters go.

mod pace;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::burial::Burial;
use super::definitions::Definitions;
use super::delivery::Delivery;
use super::inputs::{Meaning, items, understand};
use super::lanes::Lanes;
use super::letters::{HOMELESS, destination, headers, is_ours, unheard};
use super::{Options, Shutdown};
use crate::broker::{Broker, Channel, Outgoing, PublishError, envelope};
use crate::clock::{Backoff, Busy, Clock};
use crate::saga::{Millis, Time};
use crate::store::{
    Campaign, CampaignState, Claim, DeadLetter, LetterFilter, Outcome, Replay, Settlement, Store,
    StoreError,
};
use crate::telemetry::Telemetry;
use pace::Step;

/// Replays that one worker has in hand at most.
const IN_HAND: usize = 1_000;
/// Results that are written down at once.
const MAX_RESULTS: usize = 500;
/// How often campaigns are looked at while one runs, and while none does.
const PACE: Millis = Millis(200);
const LOOK: Millis = Millis(2_000);
/// How long a claim lasts that is not prolonged: as long as a dead worker's letters wait.
const LEASE: Millis = Millis(30_000);
/// How often claims are prolonged.
const RENEW: std::time::Duration = std::time::Duration::from_secs(10);
/// A letter that was in hand so often, each time until its worker was no more, is not tried again:
/// it may be why. What a broker redelivers has its delivery limit; this is the one of replays.
const CLAIMS: u32 = 3;
const INTERRUPTED: &str = "replay-interrupted";
/// Campaigns that run at the same time; others wait until one of them is done.
const CAMPAIGNS: usize = 20;
/// How long closed letters are kept, and what came of replays.
const KEPT: Millis = Millis(30 * 24 * 3_600_000);
/// How often those that are older are looked for, and how many go at once.
const PURGE: std::time::Duration = std::time::Duration::from_secs(600);
const PURGED: usize = 1_000;

pub(super) struct Replays {
    pub store: Arc<dyn Store>,
    pub broker: Arc<dyn Broker>,
    pub clock: Arc<dyn Clock>,
    pub telemetry: Arc<Telemetry>,
    pub definitions: Definitions,
    pub lanes: Lanes,
    pub burial: mpsc::Sender<Burial>,
    pub options: Arc<Options>,
    pub shutdown: Shutdown,
}

/// What this worker has out.
struct Hand {
    claimant: Uuid,
    results: mpsc::Sender<Settlement>,
    out: usize,
    renewed: Instant,
    purged: Option<Instant>,
    publishing: JoinSet<()>,
}

impl Replays {
    /// Runs until the word to stop; then what is out is waited for, as long as lanes work.
    pub async fn run(self, held: Busy) {
        let (results, mut settled) = mpsc::channel(IN_HAND);
        let mut hand = Hand {
            claimant: Uuid::new_v4(),
            results,
            out: 0,
            renewed: Instant::now(),
            purged: None,
            publishing: JoinSet::new(),
        };
        let shutdown = self.shutdown.clone();
        let mut batch = Vec::with_capacity(MAX_RESULTS);
        let mut pause: Pin<Box<dyn Future<Output = Busy> + Send + '_>> =
            self.clock.sleep_until(self.clock.now(), held);
        loop {
            tokio::select! {
                () = shutdown.stopped() => break,
                _ = settled.recv_many(&mut batch, MAX_RESULTS) => {
                    self.settle(&mut hand, &mut batch).await;
                }
                busy = &mut pause => {
                    let is_active = self.tick(&mut hand).await;
                    pause = match is_active {
                        true => self.clock.sleep_until(self.clock.now() + PACE, busy),
                        false => {
                            drop(busy);
                            self.clock.pause(LOOK)
                        }
                    };
                }
            }
        }
        drop(pause);
        self.finish(hand, settled, batch).await;
    }

    /// Waits for what is in the lanes. What is being published is let go: it is published again.
    async fn finish(
        self,
        mut hand: Hand,
        mut settled: mpsc::Receiver<Settlement>,
        mut batch: Vec<Settlement>,
    ) {
        hand.publishing.shutdown().await;
        let (unheard, _) = mpsc::channel(1);
        hand.results = unheard; // the lanes have the last of the others
        let Replays { store, clock, telemetry, shutdown, lanes, burial, .. } = self;
        drop((lanes, burial));
        while settled.recv_many(&mut batch, MAX_RESULTS).await > 0 && !shutdown.is_abandoned() {
            let written = store.letters().settle(hand.claimant, &batch, clock.now()).await;
            if written.is_ok() {
                batch.iter().for_each(|result| telemetry.replayed(result.outcome.as_str()));
            }
            batch.clear();
        }
    }

    /// Looks after claims and campaigns. Whether there is something to do.
    async fn tick(&self, hand: &mut Hand) -> bool {
        match self.look(hand).await {
            Ok(is_active) => {
                self.telemetry.part("replays", None);
                is_active
            }
            Err(error) => {
                self.telemetry.part("replays", Some(&error));
                hand.out > 0
            }
        }
    }

    async fn look(&self, hand: &mut Hand) -> Result<bool, StoreError> {
        let letters = self.store.letters();
        let now = self.clock.now();
        let claim = Claim { by: hand.claimant, until: now + LEASE };
        if hand.out > 0 && hand.renewed.elapsed() >= RENEW {
            letters.renew(claim).await?;
            hand.renewed = Instant::now();
        }
        if hand.purged.is_none_or(|purged| purged.elapsed() >= PURGE) {
            let before = Time(now.0.saturating_sub_unsigned(KEPT.0));
            let closed = letters.purge_closed(before, PURGED).await?;
            let results = letters.purge_results(before, PURGED).await?;
            if closed.max(results) < PURGED as u64 {
                hand.purged = Some(Instant::now());
            }
        }
        let room = IN_HAND.saturating_sub(hand.out);
        if room > 0 {
            let left = letters.reclaim(now, claim, room).await?;
            self.send(hand, left).await?;
        }
        let running = letters.campaigns(Some(CampaignState::Running), CAMPAIGNS).await?;
        let is_active = hand.out > 0 || !running.is_empty();
        for campaign in running {
            self.drive(hand, campaign, claim).await?;
        }
        Ok(is_active)
    }

    async fn drive(
        &self,
        hand: &mut Hand,
        campaign: Campaign,
        claim: Claim,
    ) -> Result<(), StoreError> {
        let letters = self.store.letters();
        let latest = letters.recent(campaign.id, campaign.judged_from, pace::LATEST).await?;
        let room = u32::try_from(IN_HAND.saturating_sub(hand.out)).unwrap_or(0);
        let now = self.clock.now();
        let state = match pace::next(&campaign, latest, room, now) {
            Step::Wait => return Ok(()),
            Step::Release { count, paced_at } => {
                let campaign = Campaign { paced_at, ..campaign };
                if let Some(released) = letters.release(&campaign, count, claim).await? {
                    self.send(hand, released).await?;
                }
                return Ok(());
            }
            Step::Done => (CampaignState::Done, None),
            Step::Stop { why } => (CampaignState::Stopped, Some(why)),
        };
        let (state, why) = state;
        let ended = Campaign { state, why, changed_at: now, ..campaign };
        if letters.change(&ended, None).await? {
            self.telemetry.campaign_ended(ended.id, state.as_str(), ended.why.as_deref());
        }
        Ok(())
    }

    /// Sends claimed letters on their way.
    async fn send(&self, hand: &mut Hand, replays: Vec<Replay>) -> Result<(), StoreError> {
        if replays.is_empty() {
            return Ok(());
        }
        let ids: Vec<Uuid> = replays.iter().map(|replay| replay.letter).collect();
        let filter = LetterFilter { also_closed: true, ..LetterFilter::ids(&ids) };
        let found = self.store.letters().page(&filter, None, ids.len()).await?;
        let mut found: HashMap<Uuid, DeadLetter> =
            found.into_iter().map(|letter| (letter.id, letter)).collect();
        let mut outgoing = Vec::new();
        hand.out += ids.len();
        for Replay { letter: id, claims, .. } in replays {
            let open = found.remove(&id).filter(|letter| letter.closed.is_none());
            let known = match open {
                Some(_) if claims > CLAIMS => {
                    let error = format!("{CLAIMS} workers ended while they had it in hand");
                    Some(settled(id, Outcome::Failed, INTERRUPTED, &error))
                }
                Some(letter) => self.one(hand, &letter, &mut outgoing).await,
                None => Some(settled(id, Outcome::Gone, "", "")),
            };
            drop(known.map(|known| hand.results.try_send(known)));
        }
        if !outgoing.is_empty() {
            let (broker, results) = (self.broker.clone(), hand.results.clone());
            hand.publishing.spawn(publish(broker, outgoing, results, self.clock.busy()));
        }
        while hand.publishing.try_join_next().is_some() {}
        Ok(())
    }

    /// Sends one on its way, or puts it among what is to be published, or knows already what
    /// comes of it.
    async fn one(
        &self,
        hand: &Hand,
        letter: &DeadLetter,
        outgoing: &mut Vec<(Uuid, Outgoing)>,
    ) -> Option<Settlement> {
        let headers = headers(letter);
        let body = bytes::Bytes::copy_from_slice(&letter.body);
        let Some(channel) = destination(&letter.source, &headers) else {
            return Some(settled(letter.id, Outcome::Failed, &letter.reason, HOMELESS));
        };
        if !is_ours(&channel) {
            return match envelope::decode(&body, &headers, usize::MAX) {
                Ok(event) => {
                    outgoing.push((letter.id, Outgoing { channel, event }));
                    None
                }
                Err(bad) => Some(settled(letter.id, Outcome::Failed, bad.reason, &bad.detail)),
            };
        }
        let (max_bytes, now) = (self.options.max_message_bytes, self.clock.now());
        let message = (&channel, &body, &headers);
        let mut read = understand(message, &self.definitions.current(), max_bytes, now);
        if matches!(read.1, Meaning::Unheard(_)) {
            self.definitions.learn(&self.shutdown).await;
            read = understand(message, &self.definitions.current(), max_bytes, now);
        }
        let (named, meaning) = read;
        let (reason, error) = match meaning {
            Meaning::Inputs(inputs) => {
                let results = hand.results.clone();
                let delivery = Delivery::of_replay(letter, results, inputs.len(), named);
                self.lanes.send(items(inputs, &delivery, || self.clock.busy())).await;
                return None;
            }
            Meaning::Unheard(_) if channel == Channel::Facts && self.definitions.is_complete() => {
                return Some(settled(letter.id, Outcome::Irrelevant, "", ""));
            }
            Meaning::Unheard(name) => ("unknown-saga", unheard(&name)),
            Meaning::Unusable { reason, error } => (reason, error),
        };
        let delivery = Delivery::of_replay(letter, hand.results.clone(), 1, named);
        let _ = self.burial.send(Burial { delivery, reason, error }).await;
        None
    }

    /// Writes results down, for as long as that takes.
    async fn settle(&self, hand: &mut Hand, batch: &mut Vec<Settlement>) {
        let mut backoff = Backoff::default();
        let letters = self.store.letters();
        while let Err(error) = letters.settle(hand.claimant, batch, self.clock.now()).await {
            self.telemetry.part("replays", Some(&error));
            if self.shutdown.is_stopping() || error.blames_rows() {
                break; // their claims run out, and they go through once more
            }
            backoff.wait().await;
        }
        for result in batch.drain(..) {
            self.telemetry.replayed(result.outcome.as_str());
            hand.out = hand.out.saturating_sub(1);
        }
    }
}

fn settled(letter: Uuid, outcome: Outcome, reason: &str, error: &str) -> Settlement {
    Settlement { letter, outcome, reason: reason.to_owned(), error: error.to_owned() }
}

/// Publishes messages that others take in, until the broker has said what came of each.
async fn publish(
    broker: Arc<dyn Broker>,
    mut outgoing: Vec<(Uuid, Outgoing)>,
    results: mpsc::Sender<Settlement>,
    _busy: Busy,
) {
    let mut backoff = Backoff::default();
    loop {
        let messages: Vec<Outgoing> = outgoing.iter().map(|(_, m)| m.clone()).collect();
        let answers = broker.publish(&messages).await;
        let mut unknown = Vec::new();
        for ((letter, message), answer) in outgoing.into_iter().zip(answers) {
            let settlement = match answer {
                Ok(()) | Err(PublishError::Unheard) => settled(letter, Outcome::Published, "", ""),
                Err(PublishError::Unknown(_)) => {
                    unknown.push((letter, message));
                    continue;
                }
                Err(error) => settled(letter, Outcome::Failed, "not-published", &error.to_string()),
            };
            drop(results.try_send(settlement));
        }
        if unknown.is_empty() {
            return;
        }
        outgoing = unknown;
        backoff.wait().await;
    }
}
