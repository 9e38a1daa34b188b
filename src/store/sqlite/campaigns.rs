//! Campaigns that replay dead letters, and what came of it.

use async_trait::async_trait;
use rusqlite::types::Value;
use rusqlite::{Transaction, params, params_from_iter};
use uuid::Uuid;

use super::SqliteStore;
use super::connection::{execute, fetch};
use super::error::Failure;
use super::letters::{self, filtered, hex, matching};
use crate::saga::Time;
use crate::store::rows::{
    self, CampaignColumns, DeedColumns, ReplayColumns, ReplayedColumns, counted, signed,
};
use crate::store::{
    Campaign, CampaignState, Claim, Closed, DeadLetter, LetterDeed, LetterFilter, LetterGroup,
    Letters, Outcome, Replay, ReplayedOf, ReplayedRow, Settlement, StoreError,
};

/// The columns of [`CampaignColumns`], as a static text with what follows.
macro_rules! select_campaigns {
    ($rest:literal) => {
        concat!(
            "SELECT id, version, state, why, plan, actor, reason, total, released, settled, ",
            "failed, base, paced_at, judged_from, started_at, changed_at FROM campaign ",
            $rest
        )
    };
}

#[async_trait]
impl Letters for SqliteStore {
    async fn groups(
        &self,
        filter: &LetterFilter,
        limit: usize,
    ) -> Result<Vec<LetterGroup>, StoreError> {
        self.connection
            .read("grouping dead letters", |connection| letters::groups(connection, filter, limit))
    }

    async fn count(&self, filter: &LetterFilter) -> Result<u64, StoreError> {
        self.connection
            .read("counting dead letters", |connection| letters::count(connection, filter))
    }

    async fn page(
        &self,
        filter: &LetterFilter,
        after: Option<(Time, Uuid)>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        self.connection.read("reading dead letters", |connection| {
            letters::page(connection, filter, after, limit)
        })
    }

    async fn outstanding(&self, letters: &[Uuid]) -> Result<Vec<Replay>, StoreError> {
        self.connection.read("looking for replays", |connection| {
            let replays: Vec<ReplayColumns> = fetch(
                connection,
                "SELECT letter_id, campaign, claims FROM replay
                 WHERE letter_id IN (SELECT unhex(value) FROM json_each(?1))",
                [hex(letters)],
            )?;
            Ok(rows::all(replays)?)
        })
    }

    async fn correct(&self, copy: &DeadLetter, deed: &LetterDeed) -> Result<bool, StoreError> {
        self.connection.write("correcting a dead letter", |transaction| {
            letters::correct(transaction, copy, deed)
        })
    }

    async fn discard(
        &self,
        filter: &LetterFilter,
        limit: usize,
        deed: &LetterDeed,
    ) -> Result<u64, StoreError> {
        self.connection.write("discarding dead letters", |transaction| {
            letters::discard(transaction, filter, limit, deed)
        })
    }

    async fn start(
        &self,
        campaign: &Campaign,
        filter: &LetterFilter,
        limit: usize,
    ) -> Result<u32, StoreError> {
        self.connection
            .write("starting a campaign", |transaction| start(transaction, campaign, filter, limit))
    }

    async fn campaigns(
        &self,
        state: Option<CampaignState>,
        limit: usize,
    ) -> Result<Vec<Campaign>, StoreError> {
        self.connection.read("reading campaigns", |connection| {
            let campaigns: Vec<CampaignColumns> = fetch(
                connection,
                select_campaigns!("WHERE ?1 IS NULL OR state = ?1 ORDER BY id DESC LIMIT ?2"),
                params![state.map(CampaignState::as_str), rows::limit(limit)],
            )?;
            Ok(rows::all(campaigns)?)
        })
    }

    async fn campaign(&self, id: Uuid) -> Result<Option<Campaign>, StoreError> {
        self.connection.read("reading a campaign", |connection| {
            let found: Vec<CampaignColumns> =
                fetch(connection, select_campaigns!("WHERE id = ?1"), [id])?;
            Ok(rows::all(found)?.pop())
        })
    }

    async fn change(
        &self,
        campaign: &Campaign,
        deed: Option<&LetterDeed>,
    ) -> Result<bool, StoreError> {
        self.connection.write(CHANGING, |transaction| change(transaction, campaign, deed))
    }

    async fn release(
        &self,
        campaign: &Campaign,
        count: u32,
        claim: Claim,
    ) -> Result<Option<Vec<Replay>>, StoreError> {
        self.connection.write(RELEASING, |transaction| release(transaction, campaign, count, claim))
    }

    async fn reclaim(
        &self,
        now: Time,
        claim: Claim,
        limit: usize,
    ) -> Result<Vec<Replay>, StoreError> {
        self.connection.write("taking over replays", |transaction| {
            execute(
                transaction,
                "DELETE FROM replay WHERE claimed_until <= ?1
                 AND campaign IN (SELECT id FROM campaign WHERE state = 'cancelled')",
                [now.0],
            )?;
            let replays: Vec<ReplayColumns> = fetch(
                transaction,
                "UPDATE replay SET claimed_by = ?2, claimed_until = ?3, claims = claims + 1
                 WHERE letter_id IN (
                     SELECT letter_id FROM replay
                     WHERE claimed_until <= ?1 AND claimed_by IS NOT NULL
                       AND campaign IN (SELECT id FROM campaign WHERE state = 'running')
                     LIMIT ?4
                 ) RETURNING letter_id, campaign, claims",
                params![now.0, claim.by, claim.until.0, rows::limit(limit)],
            )?;
            Ok(rows::all(replays)?)
        })
    }

    async fn renew(&self, claim: Claim) -> Result<(), StoreError> {
        self.connection.write("prolonging claims", |transaction| {
            execute(
                transaction,
                "UPDATE replay SET claimed_until = ?2
                 WHERE claimed_by = ?1 AND claimed_until < ?2",
                params![claim.by, claim.until.0],
            )?;
            Ok(())
        })
    }

    async fn settle(
        &self,
        claimant: Uuid,
        settled: &[Settlement],
        now: Time,
    ) -> Result<u64, StoreError> {
        self.connection.write("settling replays", |transaction| {
            let mut count = 0;
            for settlement in settled {
                count += u64::from(settle(transaction, claimant, settlement, now)?);
            }
            Ok(count)
        })
    }

    async fn recent(
        &self,
        campaign: Uuid,
        since: Time,
        last: usize,
    ) -> Result<(u64, u64), StoreError> {
        self.connection.read("reading the latest results", |connection| {
            let sql = "SELECT count(*), count(*) FILTER (WHERE outcome = 'failed')
                       FROM (SELECT outcome FROM replayed WHERE campaign = ?1 AND at >= ?2
                             ORDER BY at DESC LIMIT ?3)";
            let values = params![campaign, since.0, rows::limit(last)];
            let (all, failed) = connection
                .prepare_cached(sql)?
                .query_row(values, |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok((counted(all)?, counted(failed)?))
        })
    }

    async fn outcomes(&self, campaign: Uuid) -> Result<Vec<(String, u64)>, StoreError> {
        self.connection.read("counting results", |connection| {
            let outcomes: Vec<(String, i64)> = fetch(
                connection,
                "SELECT outcome, count(*) FROM replayed WHERE campaign = ?1
                 GROUP BY outcome ORDER BY outcome",
                [campaign],
            )?;
            outcomes.into_iter().map(|(outcome, count)| Ok((outcome, counted(count)?))).collect()
        })
    }

    async fn replayed(
        &self,
        of: ReplayedOf,
        only_failures: bool,
        limit: usize,
    ) -> Result<Vec<ReplayedRow>, StoreError> {
        let (sql, id) = match of {
            ReplayedOf::Campaign(id) => (
                "SELECT campaign, letter_id, outcome, reason, error, at FROM replayed
                 WHERE campaign = ?1 AND (NOT ?2 OR outcome = 'failed')
                 ORDER BY at, letter_id LIMIT ?3",
                id,
            ),
            ReplayedOf::Letter(id) => (
                "SELECT campaign, letter_id, outcome, reason, error, at FROM replayed
                 WHERE letter_id = ?1 AND (NOT ?2 OR outcome = 'failed')
                 ORDER BY at, campaign LIMIT ?3",
                id,
            ),
        };
        self.connection.read("reading results", |connection| {
            let results: Vec<ReplayedColumns> =
                fetch(connection, sql, params![id, only_failures, rows::limit(limit)])?;
            Ok(rows::all(results)?)
        })
    }

    async fn deeds(&self, subject: Uuid) -> Result<Vec<LetterDeed>, StoreError> {
        self.connection.read("reading the audit", |connection| {
            let deeds: Vec<DeedColumns> = fetch(
                connection,
                "SELECT subject, id, at, actor, verb, reason FROM letter_audit
                 WHERE subject = ?1 ORDER BY at, id",
                [subject],
            )?;
            Ok(rows::all(deeds)?)
        })
    }

    async fn purge_closed(&self, before: Time, limit: usize) -> Result<u64, StoreError> {
        self.connection.write("purging closed letters", |transaction| {
            letters::purge_closed(transaction, before, limit)
        })
    }

    async fn purge_results(&self, before: Time, limit: usize) -> Result<u64, StoreError> {
        self.connection.write("purging the results of replays", |transaction| {
            let purged = execute(
                transaction,
                "DELETE FROM replayed WHERE (campaign, letter_id) IN (
                     SELECT r.campaign, r.letter_id
                     FROM campaign c JOIN replayed r ON r.campaign = c.id
                     WHERE c.state IN ('done', 'cancelled') AND c.changed_at <= ?1 LIMIT ?2
                 )",
                params![before.0, rows::limit(limit)],
            )?;
            execute(
                transaction,
                "DELETE FROM campaign
                 WHERE state IN ('done', 'cancelled') AND changed_at <= ?1
                   AND NOT EXISTS (SELECT 1 FROM replayed r WHERE r.campaign = campaign.id)
                   AND NOT EXISTS (SELECT 1 FROM replay r WHERE r.campaign = campaign.id)",
                [before.0],
            )?;
            Ok(purged as u64)
        })
    }
}

const CHANGING: &str = "changing a campaign";
const RELEASING: &str = "releasing replays";

fn start(
    transaction: &Transaction<'_>,
    campaign: &Campaign,
    filter: &LetterFilter,
    limit: usize,
) -> Result<u32, Failure> {
    let id = Value::Blob(campaign.id.into_bytes().to_vec());
    let values = filtered(filter, [rows::limit(limit).into(), id]);
    let made = transaction
        .prepare_cached(concat!(
            "INSERT INTO replay (letter_id, campaign, place)
             SELECT id, ?12, row_number() OVER (ORDER BY first_seen, id) FROM (
                 SELECT d.id, d.first_seen FROM dead_letter d WHERE ",
            matching!(),
            "      AND NOT EXISTS (SELECT 1 FROM replay r WHERE r.letter_id = d.id)
                 ORDER BY d.first_seen, d.id LIMIT ?11
             )"
        ))?
        .execute(params_from_iter(values))?;
    let made = u32::try_from(made).map_err(|_| StoreError::Unreadable { what: "a count" })?;
    if made == 0 {
        return Ok(0);
    }
    execute(
        transaction,
        "INSERT INTO campaign (id, version, state, plan, actor, reason, total, released, settled,
                               failed, base, paced_at, judged_from, started_at, changed_at)
         VALUES (?1, 1, ?2, ?3, ?4, ?5, ?6, 0, 0, 0, 0, ?7, ?8, ?9, ?9)",
        params![
            campaign.id,
            campaign.state.as_str(),
            rows::plan(campaign),
            campaign.actor,
            campaign.reason,
            made,
            campaign.paced_at.0,
            campaign.judged_from.0,
            campaign.started_at.0,
        ],
    )?;
    let deed = LetterDeed {
        subject: campaign.id,
        id: campaign.id,
        at: campaign.started_at,
        actor: campaign.actor.clone(),
        verb: "replay".to_owned(),
        reason: campaign.reason.clone(),
    };
    letters::audit(transaction, &deed)?;
    Ok(made)
}

fn change(
    transaction: &Transaction<'_>,
    campaign: &Campaign,
    deed: Option<&LetterDeed>,
) -> Result<bool, Failure> {
    let changed = execute(
        transaction,
        "UPDATE campaign
         SET version = version + 1, state = ?3, why = ?4, base = ?5, paced_at = ?6,
             judged_from = ?7, changed_at = ?8
         WHERE id = ?1 AND version = ?2",
        params![
            campaign.id,
            signed(campaign.version, CHANGING)?,
            campaign.state.as_str(),
            campaign.why,
            signed(campaign.base, CHANGING)?,
            campaign.paced_at.0,
            campaign.judged_from.0,
            campaign.changed_at.0,
        ],
    )?;
    if changed == 0 {
        return Ok(false);
    }
    if campaign.state == CampaignState::Cancelled {
        execute(
            transaction,
            "DELETE FROM replay WHERE campaign = ?1 AND claimed_by IS NULL",
            [campaign.id],
        )?;
    }
    if let Some(deed) = deed {
        letters::audit(transaction, deed)?;
    }
    Ok(true)
}

fn release(
    transaction: &Transaction<'_>,
    campaign: &Campaign,
    count: u32,
    claim: Claim,
) -> Result<Option<Vec<Replay>>, Failure> {
    let won = execute(
        transaction,
        "UPDATE campaign SET version = version + 1, paced_at = ?3
         WHERE id = ?1 AND version = ?2 AND state = 'running'",
        params![campaign.id, signed(campaign.version, RELEASING)?, campaign.paced_at.0],
    )?;
    if won == 0 {
        return Ok(None);
    }
    let next: Vec<ReplayColumns> = fetch(
        transaction,
        "SELECT letter_id, campaign, claims + 1 FROM replay
         WHERE campaign = ?1 AND claimed_by IS NULL ORDER BY place LIMIT ?2",
        params![campaign.id, count],
    )?;
    for (letter, ..) in &next {
        execute(
            transaction,
            "UPDATE replay SET claimed_by = ?2, claimed_until = ?3, claims = claims + 1
             WHERE letter_id = ?1",
            params![letter, claim.by, claim.until.0],
        )?;
    }
    execute(
        transaction,
        "UPDATE campaign SET released = released + ?2 WHERE id = ?1",
        params![campaign.id, rows::limit(next.len())],
    )?;
    Ok(Some(rows::all(next)?))
}

/// Whether it was still claimed.
fn settle(
    transaction: &Transaction<'_>,
    claimant: Uuid,
    settlement: &Settlement,
    now: Time,
) -> Result<bool, Failure> {
    let Settlement { letter, outcome, reason, error } = settlement;
    let ended: Vec<ReplayColumns> = fetch(
        transaction,
        "DELETE FROM replay WHERE letter_id = ?1 AND claimed_by = ?2
         RETURNING letter_id, campaign, claims",
        params![letter, claimant],
    )?;
    let Some((_, campaign, _)) = ended.first() else { return Ok(false) };
    execute(
        transaction,
        "INSERT INTO replayed (campaign, letter_id, outcome, reason, error, at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
        params![campaign, letter, outcome.as_str(), reason, error, now.0],
    )?;
    if outcome.closes() {
        execute(
            transaction,
            "UPDATE dead_letter SET closed = ?2, closed_at = ?3 WHERE id = ?1",
            params![letter, Closed::Replayed.as_str(), now.0],
        )?;
    }
    let failed = *outcome == Outcome::Failed;
    execute(
        transaction,
        "UPDATE campaign SET settled = settled + 1, failed = failed + ?2 WHERE id = ?1",
        params![campaign, failed],
    )?;
    Ok(true)
}
