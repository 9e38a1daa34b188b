//! An operator's verb is carried out: decided like every message, committed like every message,
//! with an audit row in the same transaction.

use serde::Serialize;
use uuid::Uuid;

use super::ask::{Ask, told};
use super::timeline::told as effect_told;
use super::{OperateError, definition_of, definitions, sagas_of};
use crate::catalog::Catalog;
use crate::saga::{
    CancelState, Definition, Effect, Input, Saga, SagaId, Status, Time, Verdict, decide,
    left_behind, legal,
};
use crate::store::{AuditRow, Change, JournalRow, OutboxRow, Store, Stored, Written};
use crate::worker::message::{Setting, postings};
use crate::worker::shipments::Booked;
use crate::worker::{UNCLAIMED, bucket};

/// How often a saga that changes meanwhile is decided again.
const ATTEMPTS: usize = 10;

/// Who asks, and why. The same key again is the same deed, whoever asks.
#[derive(Debug, Clone)]
pub struct By {
    pub actor: String,
    pub reason: String,
    pub key: Uuid,
    /// The second person, where one was needed.
    pub approver: Option<String>,
}

/// Whether it is to be done, or only foretold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Do,
    Rehearse,
}

/// What came of it, for one saga.
#[derive(Debug, Clone, Serialize)]
pub struct Deed {
    pub order_id: String,
    pub tenant_id: String,
    pub saga_id: Uuid,
    pub definition: String,
    pub verb: &'static str,
    pub result: Answer,
    /// Of the saga, after it.
    pub status: &'static str,
    /// The commands that it sends, or would.
    pub commands: Vec<String>,
    /// All that it set off, or would.
    pub effects: Vec<String>,
    /// Of an abandoned saga: the steps of which something is, or may be, out in the world.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub leaves_behind: Vec<String>,
    /// Where it was refused: the verbs that would be taken now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub legal: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    Done,
    /// In a rehearsal: it would be done.
    WouldBeDone,
    /// Under this key it was done before; nothing happened now.
    DoneBefore,
    /// It cannot be done to the saga as it stands.
    Illegal,
    /// A cancellation: it is, or was, undone.
    Accepted,
    /// A cancellation: the answer of a pivot that is under way decides.
    Waiting,
    /// A cancellation: it came too late.
    Refused,
}

/// Carries out a verb on every saga of the order.
///
/// What must be sent is left in the outbox, from where a worker takes it within seconds.
///
/// # Errors
/// When there is no such order, step or code, or the store cannot be used.
pub async fn perform(
    store: &dyn Store,
    source: &str,
    (order_id, tenant): (&str, Option<&str>),
    ask: &Ask,
    by: &By,
    mode: Mode,
) -> Result<Vec<Deed>, OperateError> {
    let catalog = definitions(store).await?;
    let office = Office { store, catalog: &catalog, source, ask, by, mode };
    let mut deeds = Vec::new();
    for stored in sagas_of(store, order_id, tenant).await? {
        deeds.push(office.one(stored).await?);
    }
    Ok(deeds)
}

/// What is the same for every saga that a verb is carried out on.
pub(super) struct Office<'a> {
    pub store: &'a dyn Store,
    pub catalog: &'a Catalog,
    pub source: &'a str,
    pub ask: &'a Ask,
    pub by: &'a By,
    pub mode: Mode,
}

impl Office<'_> {
    pub async fn one(&self, mut stored: Stored) -> Result<Deed, OperateError> {
        let loaded = definition_of(self.catalog, &stored)?;
        let definition = &loaded.definition;
        for _ in 0..ATTEMPTS {
            let now = self.store.now().await?;
            if self.is_known(stored.saga.id).await? {
                return Ok(self.deed(definition, &stored, &stored.saga, Answer::DoneBefore, &[]));
            }
            let course = self.course(definition, &stored, now)?;
            let Some(course) = course else {
                let answer = match self.ask {
                    Ask::Cancel {} => answer_to_cancel(&stored.saga),
                    _ => Answer::Illegal,
                };
                let mut deed = self.deed(definition, &stored, &stored.saga, answer, &[]);
                if answer == Answer::Illegal {
                    deed.legal = verbs(definition, &stored.saga, now);
                }
                return Ok(deed);
            };
            let answer = match (self.mode, self.ask) {
                (Mode::Rehearse, _) => Answer::WouldBeDone,
                (Mode::Do, Ask::Cancel {}) => answer_to_cancel(&course.saga),
                (Mode::Do, _) => Answer::Done,
            };
            let effects: Vec<Effect> =
                course.journal.iter().flat_map(|row| row.effects.clone()).collect();
            let deed = self.deed(definition, &stored, &course.saga, answer, &effects);
            if self.mode == Mode::Rehearse {
                return Ok(deed);
            }
            match self.store.commit(std::slice::from_ref(&course)).await?.first() {
                Some(Written::Committed) => return Ok(deed),
                _ => match self.store.load(&[stored.saga.id]).await?.pop() {
                    Some(newer) => stored = newer,
                    None => break,
                },
            }
        }
        Err(OperateError::Busy)
    }

    async fn is_known(&self, saga: SagaId) -> Result<bool, OperateError> {
        Ok(self.store.deeds(saga).await?.iter().any(|row| row.deed.id == self.by.key))
    }

    /// All that it writes; `None` where it changes nothing or is not legal.
    fn course(
        &self,
        definition: &Definition,
        stored: &Stored,
        now: Time,
    ) -> Result<Option<Change>, OperateError> {
        let (mut saga, mut version) = (stored.saga.clone(), stored.version);
        let (mut journal, mut outbox): (Vec<JournalRow>, Vec<OutboxRow>) = (vec![], vec![]);
        let mut booked = Booked::default();
        for input in self.ask.inputs(definition, &saga, now)? {
            let transition = decide(definition, &saga, &input, now);
            if transition.verdict != Verdict::Applied {
                continue;
            }
            booked.note(definition, &stored.order, &saga, &transition.saga);
            (saga, version) = (transition.saga, version + 1);
            let setting = Setting {
                source: self.source,
                definition,
                order: &stored.order,
                saga: &saga,
                version,
                now,
                claimed_until: UNCLAIMED,
                cause: None,
            };
            outbox.extend(postings(&setting, &transition.effects).iter().map(|post| post.row()));
            journal.push(JournalRow {
                version,
                moment: now.into(),
                input,
                effects: transition.effects,
            });
        }
        if journal.is_empty() {
            return Ok(None);
        }
        Ok(Some(Change {
            due: bucket(saga.next_clock()),
            from_version: stored.version,
            order: None,
            revived: Vec::new(),
            shipments: booked.shipments,
            scans: Vec::new(),
            audit: Some(self.audit(now)),
            saga,
            journal,
            outbox,
        }))
    }

    fn audit(&self, now: Time) -> AuditRow {
        AuditRow {
            id: self.by.key,
            at: now,
            actor: self.by.actor.clone(),
            approver: self.by.approver.clone(),
            verb: self.ask.verb().to_owned(),
            detail: serde_json::to_string(self.ask).expect("names and JSON always serialise"),
            reason: self.by.reason.clone(),
        }
    }

    fn deed(
        &self,
        definition: &Definition,
        stored: &Stored,
        after: &Saga,
        result: Answer,
        effects: &[Effect],
    ) -> Deed {
        let left = left_behind(definition, after);
        let left = left.iter().filter(|_| after.status == Status::Abandoned);
        Deed {
            order_id: stored.order.order_id.clone(),
            tenant_id: stored.order.tenant.clone(),
            saga_id: after.id.0,
            definition: stored.order.definition.clone(),
            verb: self.ask.verb(),
            result,
            status: after.status.as_str(),
            commands: commands(definition, effects),
            effects: effects.iter().map(|effect| effect_told(definition, effect)).collect(),
            leaves_behind: left.map(|step| definition.steps()[step].name.clone()).collect(),
            legal: Vec::new(),
        }
    }
}

/// A wish that is fulfilled anyway is accepted; one that was answered before gets that answer.
fn answer_to_cancel(saga: &Saga) -> Answer {
    match saga.cancel {
        CancelState::None | CancelState::Accepted => Answer::Accepted,
        CancelState::Waiting => Answer::Waiting,
        CancelState::Refused => Answer::Refused,
    }
}

/// A verb that would be taken now, and what it would set off.
#[derive(Debug, Clone, Serialize)]
pub struct LegalVerb {
    /// As a person reads it: `resolve pick as success`.
    pub verb: String,
    /// The commands that it would send.
    pub commands: Vec<String>,
}

/// The commands among effects.
fn commands(definition: &Definition, effects: &[Effect]) -> Vec<String> {
    let sent = effects.iter().filter_map(|effect| match effect {
        Effect::Send { step, direction, .. } => {
            definition.steps()[*step].command(*direction).map(|(_, command)| command.to_owned())
        }
        _ => None,
    });
    sent.collect()
}

pub(super) fn legal_verbs(definition: &Definition, saga: &Saga, now: Time) -> Vec<LegalVerb> {
    let all = legal(definition, saga, now).into_iter();
    all.map(|(input, transition)| LegalVerb {
        verb: match &input {
            Input::Operator(verb) => told(definition, verb),
            other => other.name().to_owned(),
        },
        commands: commands(definition, &transition.effects),
    })
    .collect()
}

fn verbs(definition: &Definition, saga: &Saga, now: Time) -> Vec<String> {
    legal_verbs(definition, saga, now).into_iter().map(|legal| legal.verb).collect()
}
