//! Dead letters as operators know them: groups, corrected copies, and campaigns that replay them.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Campaign, CampaignState, Claim, DeadLetter, Replay, ReplayedOf, ReplayedRow, Settlement,
    StoreError,
};
use crate::saga::Time;

/// The most letters that one deed of an operator concerns.
pub const MAX_LETTERS: usize = 100_000;

/// What operators, and the part of the worker that replays, ask of a store about dead letters.
/// What changes something has its audit row written in the same transaction.
#[async_trait]
pub trait Letters: Send + Sync {
    /// Letters that failed alike, the largest group first, at most `limit` groups.
    async fn groups(
        &self,
        filter: &LetterFilter,
        limit: usize,
    ) -> Result<Vec<LetterGroup>, StoreError>;

    /// How many letters there are.
    async fn count(&self, filter: &LetterFilter) -> Result<u64, StoreError>;

    /// A page of letters in the order in which they came, those after `after`.
    async fn page(
        &self,
        filter: &LetterFilter,
        after: Option<(Time, Uuid)>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError>;

    /// The outstanding replays of these letters.
    async fn outstanding(&self, letters: &[Uuid]) -> Result<Vec<Replay>, StoreError>;

    /// Keeps a corrected copy and closes the original. False, and nothing is written, when the
    /// original is no longer open, or a replay of it is outstanding.
    async fn correct(&self, copy: &DeadLetter, deed: &LetterDeed) -> Result<bool, StoreError>;

    /// Closes open letters of which no replay is outstanding. How many.
    async fn discard(
        &self,
        filter: &LetterFilter,
        limit: usize,
        deed: &LetterDeed,
    ) -> Result<u64, StoreError>;

    /// Makes a campaign of the open letters that match now and have no outstanding replay, oldest
    /// first, at most `limit`. How many these are; for none there is no campaign.
    async fn start(
        &self,
        campaign: &Campaign,
        filter: &LetterFilter,
        limit: usize,
    ) -> Result<u32, StoreError>;

    /// Campaigns, newest first.
    async fn campaigns(
        &self,
        state: Option<CampaignState>,
        limit: usize,
    ) -> Result<Vec<Campaign>, StoreError>;

    async fn campaign(&self, id: Uuid) -> Result<Option<Campaign>, StoreError>;

    /// Stores a campaign's state, why it has that, and its marks, if it is still at the version
    /// that was read. Cancelled, its waiting replays are taken back. False when somebody else was
    /// faster.
    async fn change(
        &self,
        campaign: &Campaign,
        deed: Option<&LetterDeed>,
    ) -> Result<bool, StoreError>;

    /// Claims the next `count` replays of a running campaign that is still at the version that
    /// was read, and moves its pace mark. `None` when somebody else was faster.
    async fn release(
        &self,
        campaign: &Campaign,
        count: u32,
        claim: Claim,
    ) -> Result<Option<Vec<Replay>>, StoreError>;

    /// Takes over replays of running campaigns whose claim ran out, and takes back those of
    /// cancelled ones.
    async fn reclaim(
        &self,
        now: Time,
        claim: Claim,
        limit: usize,
    ) -> Result<Vec<Replay>, StoreError>;

    /// Prolongs all claims of one claimant.
    async fn renew(&self, claim: Claim) -> Result<(), StoreError>;

    /// Writes down what came of replays that are still claimed by `claimant`, closes the letters
    /// whose message went through, and counts all in their campaigns. How many were still claimed.
    async fn settle(
        &self,
        claimant: Uuid,
        settled: &[Settlement],
        now: Time,
    ) -> Result<u64, StoreError>;

    /// How many of the last `last` results of a campaign since a time there are, and how many
    /// of them are failures.
    async fn recent(
        &self,
        campaign: Uuid,
        since: Time,
        last: usize,
    ) -> Result<(u64, u64), StoreError>;

    /// What came of the replays of a campaign, with how many of each.
    async fn outcomes(&self, campaign: Uuid) -> Result<Vec<(String, u64)>, StoreError>;

    /// What came of the replays of one campaign, or of one letter, oldest first. With
    /// `only_failures`, only what failed again.
    async fn replayed(
        &self,
        of: ReplayedOf,
        only_failures: bool,
        limit: usize,
    ) -> Result<Vec<ReplayedRow>, StoreError>;

    /// What operators did to a letter or a campaign, oldest first.
    async fn deeds(&self, subject: Uuid) -> Result<Vec<LetterDeed>, StoreError>;

    /// Deletes up to `limit` letters that were closed at or before a time. How many.
    async fn purge_closed(&self, before: Time, limit: usize) -> Result<u64, StoreError>;

    /// Deletes up to `limit` results of campaigns that were over at or before a time, and those
    /// campaigns of which none is left. How many results. The audit stays.
    async fn purge_results(&self, before: Time, limit: usize) -> Result<u64, StoreError>;
}

/// Which letters. Empty: all that are open.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LetterFilter {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<Uuid>>,
    /// The fingerprint of a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The event's type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub participant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
    /// Last seen at or before, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_before: Option<i64>,
    /// Also those that were dealt with. Never with a deed.
    #[serde(skip)]
    pub also_closed: bool,
}

impl LetterFilter {
    #[must_use]
    pub fn ids(ids: &[Uuid]) -> LetterFilter {
        LetterFilter { ids: Some(ids.to_vec()), ..LetterFilter::default() }
    }

    /// The texts that letters are compared with, in the order in which the statements name them.
    pub(super) fn texts(&self) -> [Option<&str>; 7] {
        [
            &self.group,
            &self.reason,
            &self.kind,
            &self.participant,
            &self.source,
            &self.tenant,
            &self.order_id,
        ]
        .map(|text| text.as_deref())
    }
}

/// Letters that failed alike: same source, reason, type and participant, and an error that is
/// the same but for numbers, ids and quoted words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterGroup {
    pub fingerprint: String,
    pub source: String,
    pub reason: String,
    pub kind: Option<String>,
    pub participant: Option<String>,
    /// The error of one of them.
    pub error: String,
    pub letters: u64,
    /// Those with an outstanding replay.
    pub replaying: u64,
    pub first_seen: Time,
    pub last_seen: Time,
}

/// How a letter was dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    Replayed,
    Discarded,
    /// A copy takes its place.
    Corrected,
}

impl Closed {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Closed::Replayed => "replayed",
            Closed::Discarded => "discarded",
            Closed::Corrected => "corrected",
        }
    }

    pub(super) fn parse(text: &str) -> Result<Closed, StoreError> {
        let all = [Closed::Replayed, Closed::Discarded, Closed::Corrected];
        let found = all.into_iter().find(|closed| closed.as_str() == text);
        found.ok_or(StoreError::Unreadable { what: "how a letter was closed" })
    }
}

/// An operator's deed on a letter or a campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterDeed {
    /// The id of the letter or campaign.
    pub subject: Uuid,
    pub id: Uuid,
    pub at: Time,
    pub actor: String,
    pub verb: String,
    pub reason: String,
}

/// How many hexadecimal digits name a group: a worker never has so many that two meet.
const FINGERPRINT_DIGITS: usize = 12;

impl DeadLetter {
    /// What it has in common with letters that failed alike.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let kind = self.kind.as_deref().unwrap_or_default();
        let participant = self.participant.as_deref().unwrap_or_default();
        let error = essence(&self.error);
        let seed = [&self.source, &self.reason, kind, participant, &error].join("\0");
        let mut name = Uuid::new_v5(&Uuid::NAMESPACE_OID, seed.as_bytes()).simple().to_string();
        name.truncate(FINGERPRINT_DIGITS);
        name
    }
}

/// An error without what differs from message to message: quoted words, and words with digits.
fn essence(error: &str) -> String {
    let mut essence = String::with_capacity(error.len());
    let mut rest = error;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let quoted = match first {
            '\'' | '"' | '`' if !before.is_alphanumeric() => rest[1..].find(first),
            _ => None,
        };
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
        let taken = match quoted {
            Some(end) => end + 2,
            None => rest.find(|c: char| !is_part(c)).unwrap_or(rest.len()).max(first.len_utf8()),
        };
        let (word, others) = rest.split_at(taken);
        let varies = quoted.is_some() || word.chars().any(|c| c.is_ascii_digit());
        essence.push_str(if varies { "#" } else { word });
        before = word.chars().next_back().unwrap_or(' ');
        rest = others;
    }
    essence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_differ_in_what_they_are_about_are_the_same_in_essence() {
        for (one, other) in [
            ("at line 1 column 28", "at line 17 column 3"),
            ("no saga 0802e876-a5e0-5262-a87b-b47e687bfcdd", "no saga 8a0b5a5e-6f6b-4d39-9c5e"),
            ("there is no 'red shoe'", "there is no 'hat'"),
            ("order o-1: \"x\" is bad", "order o-2: \"a b\" is bad"),
        ] {
            assert_eq!(essence(one), essence(other));
        }
        let apart = "the envelope's tenantid is not the order's tenant_id";
        assert_eq!(essence(apart), apart);
        assert_ne!(essence("missing field x"), essence("missing field y"));
        assert_eq!(essence("it's 'a'"), "it's #");
        assert_eq!(essence("é'"), "é'");
    }
}
