//! Campaigns that replay dead letters, and what came of it.

use async_trait::async_trait;
use uuid::Uuid;

use super::PostgresStore;
use super::connection::Connections;
use super::letters::{self, filtered, matching, number};
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
impl Letters for PostgresStore {
    async fn groups(
        &self,
        filter: &LetterFilter,
        limit: usize,
    ) -> Result<Vec<LetterGroup>, StoreError> {
        letters::groups(&self.connections, filter, limit).await
    }

    async fn count(&self, filter: &LetterFilter) -> Result<u64, StoreError> {
        letters::count(&self.connections, filter).await
    }

    async fn page(
        &self,
        filter: &LetterFilter,
        after: Option<(Time, Uuid)>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        letters::page(&self.connections, filter, after, limit).await
    }

    async fn outstanding(&self, letters: &[Uuid]) -> Result<Vec<Replay>, StoreError> {
        let query = sqlx::query_as::<_, ReplayColumns>(
            "SELECT letter_id, campaign, claims FROM replay WHERE letter_id = ANY ($1)",
        );
        rows::all(self.connections.rows("looking for replays", query.bind(letters)).await?)
    }

    async fn correct(&self, copy: &DeadLetter, deed: &LetterDeed) -> Result<bool, StoreError> {
        letters::correct(&self.connections, copy, deed).await
    }

    async fn discard(
        &self,
        filter: &LetterFilter,
        limit: usize,
        deed: &LetterDeed,
    ) -> Result<u64, StoreError> {
        letters::discard(&self.connections, filter, limit, deed).await
    }

    async fn start(
        &self,
        campaign: &Campaign,
        filter: &LetterFilter,
        limit: usize,
    ) -> Result<u32, StoreError> {
        start(&self.connections, campaign, filter, limit).await
    }

    async fn campaigns(
        &self,
        state: Option<CampaignState>,
        limit: usize,
    ) -> Result<Vec<Campaign>, StoreError> {
        let query = sqlx::query_as::<_, CampaignColumns>(select_campaigns!(
            "WHERE $1::text IS NULL OR state = $1 ORDER BY id DESC LIMIT $2"
        ));
        let query = query.bind(state.map(CampaignState::as_str)).bind(rows::limit(limit));
        rows::all(self.connections.rows("reading campaigns", query).await?)
    }

    async fn campaign(&self, id: Uuid) -> Result<Option<Campaign>, StoreError> {
        let query = sqlx::query_as::<_, CampaignColumns>(select_campaigns!("WHERE id = $1"));
        let found = self.connections.rows("reading a campaign", query.bind(id)).await?;
        Ok(rows::all(found)?.pop())
    }

    async fn change(
        &self,
        campaign: &Campaign,
        deed: Option<&LetterDeed>,
    ) -> Result<bool, StoreError> {
        change(&self.connections, campaign, deed).await
    }

    async fn release(
        &self,
        campaign: &Campaign,
        count: u32,
        claim: Claim,
    ) -> Result<Option<Vec<Replay>>, StoreError> {
        release(&self.connections, campaign, count, claim).await
    }

    async fn reclaim(
        &self,
        now: Time,
        claim: Claim,
        limit: usize,
    ) -> Result<Vec<Replay>, StoreError> {
        let query = sqlx::query_as::<_, ReplayColumns>(
            "WITH ended AS (
                 DELETE FROM replay r USING campaign c
                 WHERE c.id = r.campaign AND c.state = 'cancelled' AND r.claimed_until <= $1
             ), free AS MATERIALIZED (
                 SELECT r.letter_id FROM replay r JOIN campaign c ON c.id = r.campaign
                 WHERE r.claimed_until <= $1 AND r.claimed_by IS NOT NULL AND c.state = 'running'
                 LIMIT $4 FOR UPDATE OF r SKIP LOCKED
             )
             UPDATE replay r SET claimed_by = $2, claimed_until = $3, claims = claims + 1
             FROM free f WHERE r.letter_id = f.letter_id
             RETURNING r.letter_id, r.campaign, r.claims",
        );
        let query = query.bind(now.0).bind(claim.by).bind(claim.until.0).bind(rows::limit(limit));
        rows::all(self.connections.rows("taking over replays", query).await?)
    }

    async fn renew(&self, claim: Claim) -> Result<(), StoreError> {
        let query = sqlx::query(
            "UPDATE replay SET claimed_until = $2 WHERE claimed_by = $1 AND claimed_until < $2",
        );
        let query = query.bind(claim.by).bind(claim.until.0);
        self.connections.execute("prolonging claims", query).await.map(drop)
    }

    async fn settle(
        &self,
        claimant: Uuid,
        settled: &[Settlement],
        now: Time,
    ) -> Result<u64, StoreError> {
        settle(&self.connections, claimant, settled, now).await
    }

    async fn recent(
        &self,
        campaign: Uuid,
        since: Time,
        last: usize,
    ) -> Result<(u64, u64), StoreError> {
        let query = sqlx::query_as::<_, (i64, i64)>(
            "SELECT count(*), count(*) FILTER (WHERE outcome = 'failed')
             FROM (SELECT outcome FROM replayed WHERE campaign = $1 AND at >= $2
                   ORDER BY at DESC LIMIT $3) latest",
        );
        let query = query.bind(campaign).bind(since.0).bind(rows::limit(last));
        match self.connections.rows("reading the latest results", query).await?[..] {
            [(all, failed)] => Ok((counted(all)?, counted(failed)?)),
            _ => Ok((0, 0)),
        }
    }

    async fn outcomes(&self, campaign: Uuid) -> Result<Vec<(String, u64)>, StoreError> {
        let query = sqlx::query_as::<_, (String, i64)>(
            "SELECT outcome, count(*) FROM replayed WHERE campaign = $1
             GROUP BY outcome ORDER BY outcome",
        );
        let rows = self.connections.rows("counting results", query.bind(campaign)).await?;
        rows.into_iter().map(|(outcome, count)| Ok((outcome, counted(count)?))).collect()
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
                  WHERE campaign = $1 AND (NOT $2 OR outcome = 'failed')
                  ORDER BY at, letter_id LIMIT $3",
                id,
            ),
            ReplayedOf::Letter(id) => (
                "SELECT campaign, letter_id, outcome, reason, error, at FROM replayed
                  WHERE letter_id = $1 AND (NOT $2 OR outcome = 'failed')
                  ORDER BY at, campaign LIMIT $3",
                id,
            ),
        };
        let query = sqlx::query_as::<_, ReplayedColumns>(sql);
        let query = query.bind(id).bind(only_failures).bind(rows::limit(limit));
        rows::all(self.connections.rows("reading results", query).await?)
    }

    async fn deeds(&self, subject: Uuid) -> Result<Vec<LetterDeed>, StoreError> {
        let query = sqlx::query_as::<_, DeedColumns>(
            "SELECT subject, id, at, actor, verb, reason FROM letter_audit
             WHERE subject = $1 ORDER BY at, id",
        );
        rows::all(self.connections.rows("reading the audit", query.bind(subject)).await?)
    }

    async fn purge_closed(&self, before: Time, limit: usize) -> Result<u64, StoreError> {
        letters::purge_closed(&self.connections, before, limit).await
    }

    async fn purge_results(&self, before: Time, limit: usize) -> Result<u64, StoreError> {
        let during = "purging the results of replays";
        let results = sqlx::query(
            "DELETE FROM replayed WHERE (campaign, letter_id) IN (
                 SELECT r.campaign, r.letter_id FROM campaign c JOIN replayed r ON r.campaign = c.id
                 WHERE c.state IN ('done', 'cancelled') AND c.changed_at <= $1 LIMIT $2
             )",
        );
        let results = results.bind(before.0).bind(rows::limit(limit));
        let purged = self.connections.execute(during, results).await?;
        let campaigns = sqlx::query(
            "DELETE FROM campaign c
             WHERE c.state IN ('done', 'cancelled') AND c.changed_at <= $1
               AND NOT EXISTS (SELECT 1 FROM replayed r WHERE r.campaign = c.id)
               AND NOT EXISTS (SELECT 1 FROM replay r WHERE r.campaign = c.id)",
        );
        self.connections.execute(during, campaigns.bind(before.0)).await?;
        Ok(purged)
    }
}

/// A letter that is claimed by another campaign at this very moment goes with that one.
async fn start(
    connections: &Connections,
    campaign: &Campaign,
    filter: &LetterFilter,
    limit: usize,
) -> Result<u32, StoreError> {
    let query = filtered::<(i64,)>(
        concat!(
            "WITH chosen AS MATERIALIZED (
                 SELECT d.id, d.first_seen FROM dead_letter d WHERE ",
            matching!(),
            "      AND NOT EXISTS (SELECT 1 FROM replay r WHERE r.letter_id = d.id)
                 ORDER BY d.first_seen, d.id LIMIT $11
             ), replays AS (
                 INSERT INTO replay (letter_id, campaign, place)
                 SELECT id, $12, row_number() OVER (ORDER BY first_seen, id) FROM chosen
                 ON CONFLICT DO NOTHING
                 RETURNING letter_id
             ), made AS (
                 INSERT INTO campaign (id, version, state, plan, actor, reason, total, released,
                                       settled, failed, base, paced_at, judged_from, started_at,
                                       changed_at)
                 SELECT $12, 1, $13, $14, $15, $16, count(*), 0, 0, 0, 0, $17, $18, $19, $19
                 FROM replays HAVING count(*) > 0
                 RETURNING id
             ), audited AS (
                 INSERT INTO letter_audit (subject, id, at, actor, verb, reason)
                 SELECT id, id, $19, $15, 'replay', $16 FROM made
             )
             SELECT count(*) FROM replays"
        ),
        filter,
    )
    .bind(rows::limit(limit))
    .bind(campaign.id)
    .bind(campaign.state.as_str())
    .bind(rows::plan(campaign))
    .bind(&campaign.actor)
    .bind(&campaign.reason)
    .bind(campaign.paced_at.0)
    .bind(campaign.judged_from.0)
    .bind(campaign.started_at.0);
    let made = number(connections.rows("starting a campaign", query).await?)?;
    u32::try_from(made).map_err(|_| StoreError::Unreadable { what: "a count" })
}

async fn change(
    connections: &Connections,
    campaign: &Campaign,
    deed: Option<&LetterDeed>,
) -> Result<bool, StoreError> {
    let during = "changing a campaign";
    let query = sqlx::query_as::<_, (Uuid,)>(
        "WITH won AS (
             UPDATE campaign
             SET version = version + 1, state = $3, why = $4, base = $5, paced_at = $6,
                 judged_from = $7, changed_at = $8
             WHERE id = $1 AND version = $2
             RETURNING id
         ), taken_back AS (
             DELETE FROM replay r USING won w
             WHERE r.campaign = w.id AND r.claimed_by IS NULL AND $3 = 'cancelled'
         ), audited AS (
             INSERT INTO letter_audit (subject, id, at, actor, verb, reason)
             SELECT id, $9, $13, $10, $11, $12 FROM won WHERE $9 IS NOT NULL
         )
         SELECT id FROM won",
    )
    .bind(campaign.id)
    .bind(signed(campaign.version, during)?)
    .bind(campaign.state.as_str())
    .bind(&campaign.why)
    .bind(signed(campaign.base, during)?)
    .bind(campaign.paced_at.0)
    .bind(campaign.judged_from.0)
    .bind(campaign.changed_at.0)
    .bind(deed.map(|deed| deed.id))
    .bind(deed.map(|deed| &deed.actor))
    .bind(deed.map(|deed| &deed.verb))
    .bind(deed.map(|deed| &deed.reason))
    .bind(deed.map(|deed| deed.at.0));
    Ok(!connections.rows(during, query).await?.is_empty())
}

async fn release(
    connections: &Connections,
    campaign: &Campaign,
    count: u32,
    claim: Claim,
) -> Result<Option<Vec<Replay>>, StoreError> {
    let during = "releasing replays";
    let query = sqlx::query_as::<_, (Vec<Uuid>,)>(
        "WITH won AS MATERIALIZED (
             SELECT id FROM campaign WHERE id = $1 AND version = $2 AND state = 'running'
             FOR UPDATE
         ), next AS MATERIALIZED (
             SELECT r.letter_id FROM replay r JOIN won w ON r.campaign = w.id
             WHERE r.claimed_by IS NULL ORDER BY r.place LIMIT $3
         ), claimed AS (
             UPDATE replay r SET claimed_by = $4, claimed_until = $5, claims = claims + 1
             FROM next n WHERE r.letter_id = n.letter_id
             RETURNING r.letter_id, r.place
         ), paced AS (
             UPDATE campaign c
             SET version = version + 1, paced_at = $6,
                 released = released + (SELECT count(*) FROM claimed)
             FROM won w WHERE c.id = w.id
         )
         SELECT (SELECT coalesce(array_agg(letter_id ORDER BY place), '{}') FROM claimed) FROM won",
    )
    .bind(campaign.id)
    .bind(signed(campaign.version, during)?)
    .bind(i64::from(count))
    .bind(claim.by)
    .bind(claim.until.0)
    .bind(campaign.paced_at.0);
    let won = connections.rows(during, query).await?.pop();
    // What was never claimed before is claimed for the first time.
    let replay = |letter| Replay { letter, campaign: campaign.id, claims: 1 };
    Ok(won.map(|(letters,)| letters.into_iter().map(replay).collect()))
}

async fn settle(
    connections: &Connections,
    claimant: Uuid,
    settled: &[Settlement],
    now: Time,
) -> Result<u64, StoreError> {
    let mut sorted: Vec<&Settlement> = settled.iter().collect();
    sorted.sort_unstable_by_key(|settlement| settlement.letter);
    let letters: Vec<Uuid> = sorted.iter().map(|s| s.letter).collect();
    let outcomes: Vec<&str> = sorted.iter().map(|s| s.outcome.as_str()).collect();
    let closes: Vec<bool> = sorted.iter().map(|s| s.outcome.closes()).collect();
    let reasons: Vec<&str> = sorted.iter().map(|s| s.reason.as_str()).collect();
    let errors: Vec<&str> = sorted.iter().map(|s| s.error.as_str()).collect();
    let query = sqlx::query_as::<_, (i64,)>(
        "WITH settled AS (
             DELETE FROM replay r
             USING UNNEST($1::uuid[], $2::text[], $3::bool[], $4::text[], $5::text[])
                 AS s (letter_id, outcome, closes, reason, error)
             WHERE r.letter_id = s.letter_id AND r.claimed_by = $6
             RETURNING r.campaign, s.*
         ), kept AS (
             INSERT INTO replayed (campaign, letter_id, outcome, reason, error, at)
             SELECT campaign, letter_id, outcome, reason, error, $7 FROM settled
             ON CONFLICT DO NOTHING
         ), closed AS (
             UPDATE dead_letter d SET closed = $8, closed_at = $7 FROM settled s
             WHERE d.id = s.letter_id AND s.closes
         ), counted AS (
             UPDATE campaign c SET settled = c.settled + n.settled, failed = c.failed + n.failed
             FROM (SELECT campaign, count(*) AS settled,
                          count(*) FILTER (WHERE outcome = $9) AS failed
                   FROM settled GROUP BY campaign) n
             WHERE c.id = n.campaign
         )
         SELECT count(*) FROM settled",
    )
    .bind(letters)
    .bind(outcomes)
    .bind(closes)
    .bind(reasons)
    .bind(errors)
    .bind(claimant)
    .bind(now.0)
    .bind(Closed::Replayed.as_str())
    .bind(Outcome::Failed.as_str());
    number(connections.rows("settling replays", query).await?)
}
