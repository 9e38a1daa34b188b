//! Campaigns that replay dead letters, their replays, and what comes of these.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::LetterFilter;
use crate::saga::Time;

/// Letters that are replayed together: at most so many at once at first, and so many a second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Campaign {
    pub id: Uuid,
    /// Counts what was decided about it, and fences whoever decides.
    pub version: u32,
    pub state: CampaignState,
    /// Why it was stopped.
    pub why: Option<String>,
    pub plan: Plan,
    pub actor: String,
    pub reason: String,
    /// How many letters it is for; they are fixed when it is made.
    pub total: u32,
    /// How many were handed to a worker.
    pub released: u32,
    /// Of how many it is known what came of them.
    pub settled: u32,
    /// How many of these are dead letters again.
    pub failed: u32,
    /// How many were released when its ramp began, at its start or when it was resumed.
    pub base: u32,
    /// Up to when its rate is used up.
    pub paced_at: Time,
    /// Results from before do not stop it.
    pub judged_from: Time,
    pub started_at: Time,
    pub changed_at: Time,
}

/// How a campaign goes about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Which letters were asked for.
    pub filter: LetterFilter,
    /// Waves of so many letters, each after all of the one before are settled.
    pub ramp: Vec<u32>,
    /// Letters a second, on all workers together.
    pub rate: u32,
    /// It stops when more than this share of its latest results, in percent, are failures …
    pub stop_percent: u8,
    /// … once there are so many results.
    pub stop_from: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CampaignState {
    Running,
    /// By an operator.
    Paused,
    /// By itself: too much failed.
    Stopped,
    Cancelled,
    Done,
}

impl CampaignState {
    pub const ALL: [CampaignState; 5] = [
        CampaignState::Running,
        CampaignState::Paused,
        CampaignState::Stopped,
        CampaignState::Cancelled,
        CampaignState::Done,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            CampaignState::Running => "running",
            CampaignState::Paused => "paused",
            CampaignState::Stopped => "stopped",
            CampaignState::Cancelled => "cancelled",
            CampaignState::Done => "done",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<CampaignState> {
        CampaignState::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// Who has replays in hand, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub by: Uuid,
    pub until: Time,
}

/// An outstanding replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replay {
    pub letter: Uuid,
    pub campaign: Uuid,
    /// How often somebody had it in hand.
    pub claims: u32,
}

/// What came of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    pub letter: Uuid,
    pub outcome: Outcome,
    /// Of a failure: the reason code, and what was wrong.
    pub reason: String,
    pub error: String,
}

impl Settlement {
    /// Nothing was changed by it.
    #[must_use]
    pub fn duplicate(letter: Uuid) -> Settlement {
        let (reason, error) = (String::new(), String::new());
        Settlement { letter, outcome: Outcome::Duplicate, reason, error }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayedOf {
    Campaign(Uuid),
    Letter(Uuid),
}

/// What came of a replay, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayedRow {
    pub campaign: Uuid,
    pub letter: Uuid,
    pub outcome: String,
    pub reason: String,
    pub error: String,
    pub at: Time,
}

/// What came, or would come, of a letter's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was taken in before, or nothing waits for it any more.
    Duplicate,
    /// No definition waits for such a fact.
    Irrelevant,
    /// It is for a participant or a subscriber, and was published again.
    Published,
    /// Its order has still not come: it goes on waiting among the dead letters.
    Parked,
    /// Its saga took it in.
    Advanced,
    /// It started a saga.
    Started,
    /// Its saga took it in, and undoes what was done from there on.
    Compensating,
    /// It was taken in with its order, or dealt with otherwise, before its replay began.
    Gone,
    /// It is a dead letter again.
    Failed,
}

impl Outcome {
    pub const ALL: [Outcome; 9] = [
        Outcome::Advanced,
        Outcome::Started,
        Outcome::Compensating,
        Outcome::Duplicate,
        Outcome::Irrelevant,
        Outcome::Published,
        Outcome::Parked,
        Outcome::Gone,
        Outcome::Failed,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Duplicate => "duplicate",
            Outcome::Irrelevant => "irrelevant",
            Outcome::Published => "published",
            Outcome::Parked => "parked",
            Outcome::Advanced => "advanced",
            Outcome::Started => "started",
            Outcome::Compensating => "compensating",
            Outcome::Gone => "gone",
            Outcome::Failed => "failed",
        }
    }

    /// Whether the letter is dealt with.
    #[must_use]
    pub fn closes(self) -> bool {
        !matches!(self, Outcome::Parked | Outcome::Gone | Outcome::Failed)
    }
}
