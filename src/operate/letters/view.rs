//! How letters are shown: in groups, in pages, one with all that is known of it.

use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{EDIT, LetterError, any};
use crate::clock::rfc3339;
use crate::operate::definitions;
use crate::saga::Time;
use crate::store::{DeadLetter, LetterFilter, ReplayedOf, Store, StoreError};
use crate::worker::describe;

/// Replays of one letter that are shown.
const MAX_REPLAYS: usize = 100;
/// Parts of the names of headers whose values are not shown.
const SECRETS: [&str; 6] = ["authorization", "cookie", "secret", "token", "password", "signature"];
const MASK: &str = "***";

/// Letters that failed alike.
#[derive(Debug, Clone, Serialize)]
pub struct GroupView {
    /// Names the group, for `--group`.
    pub group: String,
    pub letters: u64,
    /// Those of which a replay is under way.
    pub replaying: u64,
    pub reason: String,
    /// The event's type, where it could be read.
    pub kind: Option<String>,
    pub participant: Option<String>,
    /// The channel it came from.
    pub source: String,
    /// The error of one of them.
    pub error: String,
    pub first_seen: String,
    pub last_seen: String,
    pub oldest_seconds: u64,
    pub newest_seconds: u64,
}

/// The open letters in groups, the largest first.
///
/// # Errors
/// When the store cannot be read.
pub async fn groups(
    store: &dyn Store,
    filter: &LetterFilter,
    limit: usize,
    now: Time,
) -> Result<Vec<GroupView>, StoreError> {
    let groups = store.letters().groups(filter, limit).await?;
    let view = |group: crate::store::LetterGroup| GroupView {
        group: group.fingerprint,
        letters: group.letters,
        replaying: group.replaying,
        reason: group.reason,
        kind: group.kind,
        participant: group.participant,
        source: group.source,
        error: group.error,
        first_seen: rfc3339(group.first_seen),
        last_seen: rfc3339(group.last_seen),
        oldest_seconds: (now - group.first_seen).0 / 1_000,
        newest_seconds: (now - group.last_seen).0 / 1_000,
    };
    Ok(groups.into_iter().map(view).collect())
}

/// One letter in a list.
#[derive(Debug, Clone, Serialize)]
pub struct LetterSummary {
    pub id: Uuid,
    pub group: String,
    pub reason: String,
    pub error: String,
    pub kind: Option<String>,
    pub participant: Option<String>,
    pub source: String,
    pub tenant_id: Option<String>,
    pub order_id: Option<String>,
    pub attempts: u32,
    pub first_seen: String,
    pub last_seen: String,
    pub corrects: Option<Uuid>,
    /// `open`, `replayed`, `discarded` or `corrected`.
    pub state: &'static str,
}

impl LetterSummary {
    fn of(letter: &DeadLetter) -> LetterSummary {
        LetterSummary {
            id: letter.id,
            group: letter.fingerprint(),
            reason: letter.reason.clone(),
            error: letter.error.clone(),
            kind: letter.kind.clone(),
            participant: letter.participant.clone(),
            source: letter.source.clone(),
            tenant_id: letter.tenant.clone(),
            order_id: letter.order_id.clone(),
            attempts: letter.attempts,
            first_seen: rfc3339(letter.first_seen),
            last_seen: rfc3339(letter.last_seen),
            corrects: letter.corrects,
            state: letter.closed.map_or("open", |(how, _)| how.as_str()),
        }
    }
}

/// A page of letters, oldest first, and the letter after which the next one begins.
///
/// # Errors
/// When the store cannot be read, or there is no letter `after`.
pub async fn letters(
    store: &dyn Store,
    filter: &LetterFilter,
    after: Option<Uuid>,
    limit: usize,
) -> Result<(Vec<LetterSummary>, Option<Uuid>), LetterError> {
    let after = match after {
        Some(id) => Some((any(store.letters(), id).await?.first_seen, id)),
        None => None,
    };
    // One more than is shown says whether there is another page.
    let mut page = store.letters().page(filter, after, limit + 1).await?;
    let is_full = page.len() > limit;
    page.truncate(limit);
    let next = if is_full { page.last().map(|last| last.id) } else { None };
    Ok((page.iter().map(LetterSummary::of).collect(), next))
}

/// A letter with all that is known of it.
#[derive(Debug, Clone, Serialize)]
pub struct LetterView {
    #[serde(flatten)]
    pub summary: LetterSummary,
    pub closed_at: Option<String>,
    /// The channel that a replay takes it to.
    pub destination: Option<String>,
    pub traceparent: Option<String>,
    /// Values of headers that look like secrets are masked.
    pub headers: Map<String, Value>,
    pub body_bytes: usize,
    /// As text; what is not printable is escaped.
    pub body: String,
    /// The campaign that has a replay of it under way.
    pub replaying: Option<Uuid>,
    pub history: Vec<Event>,
}

/// What happened to a letter.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    pub at: String,
    /// `replayed`, or an operator's verb.
    pub what: String,
    pub campaign: Option<Uuid>,
    /// The corrected copy.
    pub copy: Option<Uuid>,
    /// What came of a replay.
    pub outcome: Option<String>,
    pub actor: Option<String>,
    /// An operator's, or why it failed again.
    pub reason: String,
}

/// All about one letter.
///
/// # Errors
/// When there is none of that id.
pub async fn show(store: &dyn Store, id: Uuid) -> Result<LetterView, LetterError> {
    let letter = any(store.letters(), id).await?;
    let described = describe(&letter, &definitions(store).await?, store.now().await?);
    let replaying = store.letters().outstanding(&[id]).await?.first().map(|r| r.campaign);
    let summary = LetterSummary::of(&letter);
    Ok(LetterView {
        summary: LetterSummary {
            kind: summary.kind.or(described.kind),
            participant: summary.participant.or(described.participant),
            ..summary
        },
        closed_at: letter.closed.map(|(_, at)| rfc3339(at)),
        destination: described.destination,
        traceparent: described.traceparent,
        headers: masked(&letter.headers),
        body_bytes: letter.body.len(),
        body: escaped(&letter.body),
        replaying,
        history: history(store, id).await?,
    })
}

/// The raw bytes of a letter's message.
///
/// # Errors
/// When there is none of that id.
pub async fn body(store: &dyn Store, id: Uuid) -> Result<Vec<u8>, LetterError> {
    Ok(any(store.letters(), id).await?.body)
}

async fn history(store: &dyn Store, id: Uuid) -> Result<Vec<Event>, StoreError> {
    let mut events: Vec<(Time, Event)> = Vec::new();
    for row in store.letters().replayed(ReplayedOf::Letter(id), false, MAX_REPLAYS).await? {
        let reason = match row.error.is_empty() {
            true => row.reason,
            false => format!("{}: {}", row.reason, row.error),
        };
        let event = Event {
            at: rfc3339(row.at),
            what: "replayed".to_owned(),
            campaign: Some(row.campaign),
            copy: None,
            outcome: Some(row.outcome),
            actor: None,
            reason,
        };
        events.push((row.at, event));
    }
    for deed in store.letters().deeds(id).await? {
        let event = Event {
            at: rfc3339(deed.at),
            copy: (deed.verb == EDIT).then_some(deed.id),
            what: deed.verb,
            campaign: None,
            outcome: None,
            actor: Some(deed.actor),
            reason: deed.reason,
        };
        events.push((deed.at, event));
    }
    events.sort_by_key(|(at, _)| *at);
    Ok(events.into_iter().map(|(_, event)| event).collect())
}

fn masked(headers: &str) -> Map<String, Value> {
    let mut headers: Map<String, Value> = serde_json::from_str(headers).unwrap_or_default();
    for (name, value) in &mut headers {
        let name = name.to_ascii_lowercase();
        if SECRETS.iter().any(|secret| name.contains(secret)) {
            *value = MASK.into();
        }
    }
    headers
}

/// Bytes as text that no terminal takes for a command: line breaks and tabs stay, whatever else
/// is not printable is escaped.
#[must_use]
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\n' | '\t' => text.push(character),
                c if c.is_control() || is_invisible(c) => text.extend(c.escape_unicode()),
                c => text.push(c),
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

/// Marks that turn or hide text.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_body_reaches_a_terminal_as_a_command() {
        assert_eq!(escaped(b"{\"a\":\n\t1}"), "{\"a\":\n\t1}");
        assert_eq!(escaped(b"\x1b[2Jgone\xff\x00"), "\\u{1b}[2Jgone\\xff\\u{0}");
        assert_eq!(escaped("é\u{202e}".as_bytes()), "é\\u{202e}");
    }

    #[test]
    fn secrets_among_the_headers_are_masked() {
        let headers = r#"{"Authorization":"Bearer x","content-type":"a/b","x-api-token":"t"}"#;
        let masked = masked(headers);
        assert_eq!(masked["Authorization"], MASK);
        assert_eq!(masked["x-api-token"], MASK);
        assert_eq!(masked["content-type"], "a/b");
    }
}
