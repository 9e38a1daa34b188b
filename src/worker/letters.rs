//! Dead letters as messages: where each belongs, and what it says about itself.

use std::collections::BTreeMap;

use super::inputs::{Meaning, understand};
use super::sweeper;
use crate::broker::{Channel, Event, envelope, origin};
use crate::catalog::Catalog;
use crate::saga::Time;
use crate::store::DeadLetter;

/// The channel to which a message belongs that became a dead letter: the one that it came from,
/// or, where a broker gave it up, the one that it came to the broker by. `None` where nobody
/// knows.
#[must_use]
pub(super) fn destination(source: &str, headers: &BTreeMap<String, String>) -> Option<Channel> {
    if source == sweeper::SOURCE {
        return headers.get("channel")?.parse().ok();
    }
    match source.parse().ok()? {
        Channel::Dead => origin(headers),
        channel => Some(channel),
    }
}

/// Why a letter goes nowhere.
pub(super) const HOMELESS: &str =
    "nobody knows where it belongs: its broker did not say where it came from";

/// Why an event starts nothing.
pub(super) fn unheard(name: &str) -> String {
    format!("no definition starts on, is cancelled by or waits for '{name}'")
}

/// The headers of a letter. None, where they are damaged.
pub(super) fn headers(letter: &DeadLetter) -> BTreeMap<String, String> {
    serde_json::from_str(&letter.headers).unwrap_or_default()
}

/// Whether the worker itself takes in what comes by this channel.
pub(super) fn is_ours(channel: &Channel) -> bool {
    matches!(channel, Channel::Orders | Channel::Facts | Channel::Replies)
}

/// What a letter's message is, as far as it can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Described {
    /// The channel to which a replay takes it, as the broker room prints it.
    pub destination: Option<String>,
    pub kind: Option<String>,
    pub participant: Option<String>,
    pub tenant: Option<String>,
    pub order_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

/// Reads a letter's message as the worker would. Pure.
#[must_use]
pub fn describe(letter: &DeadLetter, catalog: &Catalog, now: Time) -> Described {
    let headers = headers(letter);
    let Some(channel) = destination(&letter.source, &headers) else { return Described::default() };
    let destination = Some(channel.to_string());
    let body = bytes::Bytes::copy_from_slice(&letter.body);
    let decoded = envelope::decode(&body, &headers, usize::MAX).ok();
    let traceparent = decoded.as_ref().and_then(|event| event.traceparent.clone());
    if let Channel::Commands(participant) = channel {
        let Event { kind, subject, tenantid, .. } = match decoded {
            Some(event) => event,
            None => return Described { destination, ..Described::default() },
        };
        return Described {
            destination,
            kind: Some(kind),
            participant: Some(participant),
            tenant: tenantid,
            order_id: subject,
            traceparent,
        };
    }
    let (named, _): (_, Meaning) =
        understand((&channel, &body, &headers), catalog, usize::MAX, now);
    Described {
        destination,
        kind: named.kind,
        participant: named.participant,
        tenant: named.tenant,
        order_id: named.order_id,
        traceparent,
    }
}
