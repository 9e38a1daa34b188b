//! Four eyes: verbs that one person may ask for, and another must agree to.

use std::collections::BTreeSet;

use serde::Serialize;
use uuid::Uuid;

use super::verbs::{Answer, By, Deed, Mode, perform};
use super::{Ask, OperateError};
use crate::clock::rfc3339;
use crate::store::{RequestRow, Store};

/// Instead of a verb's name: every verb that sends a command, or settles without one what a
/// participant was asked to do.
pub const MONEY_AND_GOODS: &str = "money-and-goods";
/// What is read at once of what waits for a second person.
pub const MAX_REQUESTS: usize = 1_000;

/// Which verbs need a second person: names of verbs, or [`MONEY_AND_GOODS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy(pub BTreeSet<String>);

impl Policy {
    /// Reads `abandon,resolve`, `money-and-goods` or `none`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Policy> {
        let names: BTreeSet<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        if names.len() == 1 && names.contains("none") {
            return Some(Policy(BTreeSet::new()));
        }
        let is_known =
            |name: &String| name == MONEY_AND_GOODS || Ask::VERBS.contains(&name.as_str());
        names.iter().all(is_known).then_some(Policy(names))
    }

    fn applies(&self, ask: &Ask, rehearsed: &[Deed]) -> bool {
        let settles = matches!(ask, Ask::Resolve { .. } | Ask::Skip { .. } | Ask::Abandon {});
        let moves = || settles || rehearsed.iter().any(|deed| !deed.commands.is_empty());
        self.0.contains(ask.verb()) || (self.0.contains(MONEY_AND_GOODS) && moves())
    }
}

/// What came of asking.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    Deeds(Vec<Deed>),
    /// Another person must agree first; this is what would be done now.
    Waits {
        request: Box<Request>,
        would: Vec<Deed>,
    },
}

/// What waits for a second person.
#[derive(Debug, Clone, Serialize)]
pub struct Request {
    pub id: Uuid,
    pub tenant_id: Option<String>,
    pub order_id: String,
    #[serde(flatten)]
    pub ask: Ask,
    pub actor: String,
    pub reason: String,
    /// RFC 3339.
    pub asked_at: String,
}

/// Carries out a verb, or keeps it for a second person where the policy wants one.
///
/// # Errors
/// As [`perform`].
pub async fn ask(
    store: &dyn Store,
    source: &str,
    (order_id, tenant): (&str, Option<&str>),
    ask: &Ask,
    by: &By,
    policy: &Policy,
) -> Result<Outcome, OperateError> {
    let place = (order_id, tenant);
    let would = perform(store, source, place, ask, by, Mode::Rehearse).await?;
    let is_open = would.iter().any(|deed| deed.result == Answer::WouldBeDone);
    if !is_open || !policy.applies(ask, &would) {
        return Ok(Outcome::Deeds(perform(store, source, place, ask, by, Mode::Do).await?));
    }
    let row = RequestRow {
        id: by.key,
        tenant: tenant.map(str::to_owned),
        order_id: order_id.to_owned(),
        detail: serde_json::to_string(ask).expect("names and JSON always serialise"),
        actor: by.actor.clone(),
        reason: by.reason.clone(),
        asked_at: store.now().await?,
    };
    store.keep_request(&row).await?;
    Ok(Outcome::Waits { request: Box::new(read(row)?), would })
}

/// What waits for a second person, oldest first.
///
/// # Errors
/// When the store cannot be read.
pub async fn requests(store: &dyn Store) -> Result<Vec<Request>, OperateError> {
    store.requests(MAX_REQUESTS).await?.into_iter().map(read).collect()
}

/// The second person agrees: it is done, in the name of both.
///
/// # Errors
/// When there is no such request, when the second person is the first, or as [`perform`].
pub async fn approve(
    store: &dyn Store,
    source: &str,
    id: Uuid,
    approver: &str,
    mode: Mode,
) -> Result<Vec<Deed>, OperateError> {
    let request = request(store, id).await?;
    if request.actor.eq_ignore_ascii_case(approver) {
        return Err(OperateError::SamePerson(request.actor));
    }
    let Request { tenant_id, order_id, ask, actor, reason, .. } = request;
    let by = By { actor, reason, key: id, approver: Some(approver.to_owned()) };
    let place = (order_id.as_str(), tenant_id.as_deref());
    let deeds = perform(store, source, place, &ask, &by, mode).await?;
    // What is illegal by now stays, to be withdrawn by somebody who has seen it.
    let is_settled = deeds.iter().all(|deed| deed.result != Answer::Illegal);
    if mode == Mode::Do && is_settled {
        store.drop_request(id).await?;
    }
    Ok(deeds)
}

/// It is not wanted any more.
///
/// # Errors
/// When there is no such request, or the store cannot be used.
pub async fn withdraw(store: &dyn Store, id: Uuid) -> Result<Request, OperateError> {
    let request = request(store, id).await?;
    store.drop_request(id).await?;
    Ok(request)
}

async fn request(store: &dyn Store, id: Uuid) -> Result<Request, OperateError> {
    let found = store.requests(MAX_REQUESTS).await?.into_iter().find(|row| row.id == id);
    read(found.ok_or(OperateError::NoSuchRequest(id))?)
}

fn read(row: RequestRow) -> Result<Request, OperateError> {
    let ask =
        serde_json::from_str(&row.detail).map_err(|_| OperateError::UnreadableRequest(row.id))?;
    Ok(Request {
        id: row.id,
        tenant_id: row.tenant,
        order_id: row.order_id,
        ask,
        actor: row.actor,
        reason: row.reason,
        asked_at: rfc3339(row.asked_at),
    })
}
