//! A schema registry: under which id it knows the schema of what is published.
//!
//! # What holds, and why
//! * **The subject is the record's name** (Confluent's RecordNameStrategy), such as
//!   `makegood.command.v1`, which is also the schema's title. A topic has several kinds of
//!   messages, so it cannot give the name; and what a command is does not depend on whose topic
//!   it is in. Deployments that share a registry share the subjects.
//! * **A schema is registered once** per process, or only looked up where the URL says
//!   `?register=false`. There are [`Record::ALL`] of them, which bounds what is remembered. An id
//!   never changes its meaning, so nothing is forgotten either: a registry that goes away later
//!   is not missed.
//! * **What has no id is not published.** It waits in the outbox, as while Kafka is away; a part
//!   of Makegood that begins without the registry waits for it and says so.
//! * **A schema that is refused is a person's business**: a worker does not start with it.
//!
//! What comes in is read without the registry: see [`frame`](crate::broker::envelope::frame).

mod address;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hyper::{StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::broker::{BrokerError, Outgoing, PublishError};
use crate::client::{Answer, Unanswered};
use crate::telemetry::chain;
use address::Address;
pub use address::InvalidRegistry;
pub use record::Record;

/// What the API speaks.
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// What is told of a registry's own words, in characters: some list the whole schema.
const MAX_TOLD: usize = 600;
const DURING: &str = "asking the schema registry";

pub struct Registry {
    address: Address,
    known: Mutex<BTreeMap<Record, u32>>,
    /// One asks at a time: several who need the same would register it at once.
    asking: tokio::sync::Mutex<()>,
}

/// Why there is no id.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NoId {
    #[error("the schema registry does not answer")]
    Unanswered(#[source] Arc<Unanswered>),
    #[error("the schema registry answers {status}: {told}")]
    Trouble { status: u16, told: String },
    /// No waiting heals it.
    #[error("the schema registry refuses the schema of {subject} ({status}): {told}")]
    Refused { subject: String, status: u16, told: String },
    #[error(
        "the schema registry has no such schema of {subject}, and by register=false it is not \
         given one: `makegood contract register` registers all of them ({told})"
    )]
    Missing { subject: String, told: String },
}

#[derive(Serialize)]
struct Asked<'a> {
    schema: &'a str,
    #[serde(rename = "schemaType")]
    schema_type: &'static str,
}

impl Registry {
    /// Asks nobody yet. See [`InvalidRegistry`] for the URL.
    ///
    /// # Errors
    /// The URL is not one.
    pub fn new(url: &SecretString) -> Result<Registry, InvalidRegistry> {
        Ok(Registry {
            address: Address::new(url)?,
            known: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        })
    }

    /// Registers a schema, whether or not that is done by itself; returns its id. One that is
    /// registered already has the same id again.
    ///
    /// # Errors
    /// See [`NoId`].
    pub async fn register(&self, record: Record) -> Result<u32, NoId> {
        let _turn = self.asking.lock().await;
        self.ask(record, true).await
    }

    /// Makes sure of all that a worker publishes.
    pub(super) async fn prepare(&self) -> Result<(), BrokerError> {
        for record in Record::ALL.into_iter().filter(|record| record.is_sent_by_workers()) {
            self.id(record).await.map_err(|error| match error {
                NoId::Refused { .. } => BrokerError::Schema(error.to_string()),
                error => BrokerError::Unavailable { during: DURING, source: Some(error.into()) },
            })?;
        }
        Ok(())
    }

    /// The id of each message's schema; `None` of what has none.
    pub(super) async fn ids(
        &self,
        messages: &[Outgoing],
    ) -> Vec<Result<Option<u32>, PublishError>> {
        let records: Vec<Option<Record>> = messages.iter().map(Record::of).collect();
        let mut ids: BTreeMap<Record, Result<u32, PublishError>> = BTreeMap::new();
        let mut unanswered = None;
        for record in records.iter().copied().flatten().collect::<BTreeSet<_>>() {
            let known = self.known().get(&record).copied();
            let id = match (known, &unanswered) {
                (Some(id), _) => Ok(id),
                // It would not answer for this one either.
                (None, Some(error)) => Err(PublishError::clone(error)),
                (None, None) => self.id(record).await.map_err(|error| {
                    let told = PublishError::Unknown(chain(&error));
                    unanswered = matches!(error, NoId::Unanswered(_)).then(|| told.clone());
                    told
                }),
            };
            ids.insert(record, id);
        }
        let id_of = |record: Option<Record>| record.map(|record| ids[&record].clone()).transpose();
        records.into_iter().map(id_of).collect()
    }

    async fn id(&self, record: Record) -> Result<u32, NoId> {
        let known = || self.known().get(&record).copied();
        if let Some(id) = known() {
            return Ok(id);
        }
        let _turn = self.asking.lock().await;
        match known() {
            Some(id) => Ok(id),
            None => self.ask(record, self.address.registers).await,
        }
    }

    async fn ask(&self, record: Record, registers: bool) -> Result<u32, NoId> {
        let asked = self.ask_once(record, registers).await;
        // Another process that registers the same at this moment looks like a conflict as well.
        let id = match asked {
            Err(refused @ NoId::Refused { .. }) if registers => {
                self.ask_once(record, false).await.map_err(|_| refused)?
            }
            asked => asked?,
        };
        self.known().insert(record, id);
        Ok(id)
    }

    /// Registers it, or looks it up.
    async fn ask_once(&self, record: Record, registers: bool) -> Result<u32, NoId> {
        let subject = record.subject();
        let path = match registers {
            true => format!("{}/subjects/{subject}/versions", self.address.path),
            false => format!("{}/subjects/{subject}", self.address.path),
        };
        let asked = Asked { schema: &record.schema(), schema_type: "JSON" };
        let body = Bytes::from(serde_json::to_vec(&asked).expect("two texts are JSON"));
        let answer = self.post(&path, body).await;
        let answer = answer.map_err(|error| NoId::Unanswered(Arc::new(error)))?;
        understood(&answer, subject, registers)
    }

    async fn post(&self, path: &str, body: Bytes) -> Result<Answer, Unanswered> {
        let mut headers = vec![
            (header::CONTENT_TYPE.as_str(), CONTENT_TYPE),
            (header::ACCEPT.as_str(), CONTENT_TYPE),
        ];
        if let Some(authorization) = &self.address.authorization {
            headers.push((header::AUTHORIZATION.as_str(), authorization.expose_secret()));
        }
        self.address.target.connect().await?.post(path, &headers, body).await
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Record, u32>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The id in an answer, or what it says instead.
fn understood(answer: &Answer, subject: String, registers: bool) -> Result<u32, NoId> {
    #[derive(Deserialize)]
    struct Known {
        id: u32,
    }
    #[derive(Deserialize)]
    struct Problem {
        message: String,
    }
    let status = answer.status.as_u16();
    if answer.status.is_success()
        && let Ok(Known { id }) = serde_json::from_slice(&answer.body)
    {
        return Ok(id);
    }
    let told = match serde_json::from_slice(&answer.body) {
        Ok(Problem { message }) => message,
        Err(_) => {
            "nothing that its API knows. Is the URL that of the API, its path included?".into()
        }
    };
    let told: String = told.chars().take(MAX_TOLD).collect();
    Err(match answer.status {
        StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => {
            NoId::Refused { subject, status, told }
        }
        StatusCode::NOT_FOUND if !registers => NoId::Missing { subject, told },
        _ => NoId::Trouble { status, told },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, body: &'static str, registers: bool) -> Result<u32, String> {
        let status = StatusCode::from_u16(status).expect("a status");
        let answer =
            Answer { status, retry_after: None, body: Bytes::from_static(body.as_bytes()) };
        understood(&answer, "makegood.fact.v1".to_owned(), registers).map_err(|e| format!("{e:?}"))
    }

    #[test]
    fn an_answer_is_an_id_or_says_what_to_do() {
        assert_eq!(said(200, "{\"id\":7,\"version\":1}", true), Ok(7));
        let problem = "{\"error_code\":40403,\"message\":\"Schema not found\"}";
        for (status, body, registers, expected) in [
            (409, problem, true, "Refused { subject: \"makegood.fact.v1\", status: 409"),
            (422, problem, false, "Refused"),
            (404, problem, false, "Missing"),
            (404, problem, true, "Trouble { status: 404, told: \"Schema not found\""),
            (401, problem, true, "Trouble { status: 401"),
            (500, problem, false, "Trouble { status: 500"),
            (200, "<html>", true, "its path included?"),
            (200, "{\"id\":-1}", true, "Trouble { status: 200"),
        ] {
            let error = said(status, body, registers).unwrap_err();
            assert!(error.contains(expected), "{status} {body}: {error}");
        }
    }
}
