//! Campaigns that replay letters: started, looked at, paused, resumed, cancelled.

use std::collections::BTreeMap;

use serde::Serialize;
use uuid::Uuid;

use super::{By, LetterError, count, deed};
use crate::clock::rfc3339;
use crate::saga::Time;
use crate::store::{
    Campaign, CampaignState, LetterFilter, MAX_LETTERS, Plan, ReplayedOf, Store, StoreError,
};

/// Failures of a campaign that are told one by one.
const MAX_FAILURES: usize = 1_000;
/// How often a campaign that changes meanwhile is looked at again.
const ATTEMPTS: usize = 10;

/// What a new campaign is for.
#[derive(Debug, Clone, Serialize)]
pub struct Started {
    pub campaign: Uuid,
    pub letters: u32,
    /// Letters that match, and that another campaign has under way.
    pub already_replaying: u64,
}

/// Makes a campaign of the open letters that match now. Workers do the rest. The same `key` again
/// is the same campaign.
///
/// # Errors
/// When none matches.
pub async fn start(
    store: &dyn Store,
    plan: Plan,
    key: Option<Uuid>,
    by: By<'_>,
) -> Result<Started, LetterError> {
    let id = key.unwrap_or_else(Uuid::now_v7);
    if let Some(made) = store.letters().campaign(id).await? {
        return Ok(Started { campaign: id, letters: made.total, already_replaying: 0 });
    }
    let matching = count(store, &plan.filter).await?;
    let now = store.now().await?;
    let filter = plan.filter.clone();
    let campaign = Campaign {
        id,
        version: 1,
        state: CampaignState::Running,
        why: None,
        plan,
        actor: by.actor.to_owned(),
        reason: by.reason.to_owned(),
        total: 0,
        released: 0,
        settled: 0,
        failed: 0,
        base: 0,
        paced_at: Time(0),
        judged_from: now,
        started_at: now,
        changed_at: now,
    };
    match store.letters().start(&campaign, &filter, MAX_LETTERS).await? {
        0 => Err(LetterError::NothingMatches),
        letters => Ok(Started {
            campaign: campaign.id,
            letters,
            already_replaying: matching.saturating_sub(u64::from(letters)),
        }),
    }
}

/// A campaign as it stands.
#[derive(Debug, Clone, Serialize)]
pub struct CampaignView {
    pub campaign: Uuid,
    /// `running`, `paused`, `stopped` (too much failed), `cancelled` or `done`.
    pub state: &'static str,
    /// Why it was stopped.
    pub why: Option<String>,
    pub letters: u32,
    /// Not handed to a worker yet.
    pub waiting: u32,
    /// In a worker's hands.
    pub under_way: u32,
    /// Of how many it is known what came of them.
    pub settled: u32,
    /// How many of those came to which outcome.
    pub outcomes: BTreeMap<String, u64>,
    pub filter: LetterFilter,
    pub ramp: Vec<u32>,
    pub rate_per_second: u32,
    pub stop_percent: u8,
    pub stop_from: u32,
    pub actor: String,
    pub reason: String,
    pub started_at: String,
    pub changed_at: String,
}

/// A letter that failed again.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    pub letter: Uuid,
    pub reason: String,
    pub error: String,
    pub at: String,
}

/// A campaign, and the first of what failed again in it.
///
/// # Errors
/// When there is none of that id.
pub async fn campaign(
    store: &dyn Store,
    id: Uuid,
) -> Result<(CampaignView, Vec<Failure>), LetterError> {
    let campaign = found(store, id).await?;
    let of = ReplayedOf::Campaign(id);
    let failures = store.letters().replayed(of, true, MAX_FAILURES).await?;
    let failure = |row: crate::store::ReplayedRow| Failure {
        letter: row.letter,
        reason: row.reason,
        error: row.error,
        at: rfc3339(row.at),
    };
    Ok((view(store, campaign).await?, failures.into_iter().map(failure).collect()))
}

/// Campaigns, newest first.
///
/// # Errors
/// When the store cannot be read.
pub async fn campaigns(
    store: &dyn Store,
    state: Option<CampaignState>,
    limit: usize,
) -> Result<Vec<CampaignView>, StoreError> {
    let mut views = Vec::new();
    for campaign in store.letters().campaigns(state, limit).await? {
        views.push(view(store, campaign).await?);
    }
    Ok(views)
}

async fn view(store: &dyn Store, campaign: Campaign) -> Result<CampaignView, StoreError> {
    let outcomes = store.letters().outcomes(campaign.id).await?;
    let Campaign { id, state, why, plan, total, released, settled, .. } = campaign;
    Ok(CampaignView {
        campaign: id,
        state: state.as_str(),
        why,
        letters: total,
        waiting: total.saturating_sub(released),
        under_way: released.saturating_sub(settled),
        settled,
        outcomes: outcomes.into_iter().collect(),
        filter: plan.filter,
        ramp: plan.ramp,
        rate_per_second: plan.rate,
        stop_percent: plan.stop_percent,
        stop_from: plan.stop_from,
        actor: campaign.actor,
        reason: campaign.reason,
        started_at: rfc3339(campaign.started_at),
        changed_at: rfc3339(campaign.changed_at),
    })
}

async fn found(store: &dyn Store, id: Uuid) -> Result<Campaign, LetterError> {
    store.letters().campaign(id).await?.ok_or(LetterError::NoSuchCampaign(id))
}

/// Lets nothing more go until it is resumed. What is in a worker's hands is finished.
///
/// # Errors
/// When it does not run.
pub async fn pause(
    store: &dyn Store,
    id: Uuid,
    dry_run: bool,
    by: By<'_>,
) -> Result<CampaignView, LetterError> {
    let hint = "only one that runs can be paused";
    let change = Turn { verb: "pause", from: &[CampaignState::Running], hint };
    turn(store, id, &change, dry_run, by, |campaign, _| {
        campaign.state = CampaignState::Paused;
    })
    .await
}

/// Goes on with a campaign that was paused, or that stopped, from the foot of its ramp.
///
/// # Errors
/// When it runs, or is over.
pub async fn resume(
    store: &dyn Store,
    id: Uuid,
    dry_run: bool,
    by: By<'_>,
) -> Result<CampaignView, LetterError> {
    let hint = "only one that is paused or stopped can be resumed; start another for what failed";
    let from = &[CampaignState::Paused, CampaignState::Stopped];
    let change = Turn { verb: "resume", from, hint };
    turn(store, id, &change, dry_run, by, |campaign, now| {
        campaign.state = CampaignState::Running;
        campaign.why = None;
        campaign.base = campaign.released;
        campaign.judged_from = now;
    })
    .await
}

/// Ends a campaign. Letters that were not handed to a worker yet stay as they are.
///
/// # Errors
/// When it is over.
pub async fn cancel(
    store: &dyn Store,
    id: Uuid,
    dry_run: bool,
    by: By<'_>,
) -> Result<CampaignView, LetterError> {
    let from = &[CampaignState::Running, CampaignState::Paused, CampaignState::Stopped];
    let change = Turn { verb: "cancel", from, hint: "it is over" };
    turn(store, id, &change, dry_run, by, |campaign, _| {
        campaign.state = CampaignState::Cancelled;
        campaign.why = None;
    })
    .await
}

/// A change of state: from which states it is possible, and what is said where it is not.
struct Turn {
    verb: &'static str,
    from: &'static [CampaignState],
    hint: &'static str,
}

async fn turn(
    store: &dyn Store,
    id: Uuid,
    turn: &Turn,
    dry_run: bool,
    by: By<'_>,
    change: impl Fn(&mut Campaign, Time),
) -> Result<CampaignView, LetterError> {
    for _ in 0..ATTEMPTS {
        let mut campaign = found(store, id).await?;
        if !turn.from.contains(&campaign.state) {
            let (state, hint) = (campaign.state.as_str(), turn.hint);
            return Err(LetterError::CampaignIs { campaign: id, state, hint });
        }
        let deed = deed(store, id, turn.verb, by).await?;
        campaign.changed_at = deed.at;
        change(&mut campaign, deed.at);
        if dry_run || store.letters().change(&campaign, Some(&deed)).await? {
            return Ok(view(store, campaign).await?);
        }
    }
    Err(LetterError::Busy)
}
