//! From effects to messages: what goes out, word for word.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::broker::{Channel, Event, Outgoing};
use crate::clock::rfc3339;
use crate::saga::{
    Announcement, CommandId, Definition, Direction, Effect, Notice, Saga, StepSet, Time,
    left_behind,
};
use crate::store::{OrderRow, OutboxKey, OutboxRow};

/// What all messages of one transition have in common.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// `/makegood/<deployment>`.
    pub source: &'a str,
    pub definition: &'a Definition,
    pub order: &'a OrderRow,
    /// The saga after the transition.
    pub saga: &'a Saga,
    /// The version that the transition made.
    pub version: u32,
    pub now: Time,
    /// Until then the messages are left to whoever publishes them right after the commit.
    pub claimed_until: Time,
    /// The id of the event that caused it.
    pub cause: Option<&'a str>,
}

/// A message with the outbox row that stands for it until it is confirmed.
#[derive(Debug, Clone)]
pub struct Posting {
    pub key: OutboxKey,
    pub claimed_until: Time,
    pub message: Outgoing,
}

impl Posting {
    /// The row to store.
    #[must_use]
    pub fn row(&self) -> OutboxRow {
        OutboxRow {
            key: self.key,
            channel: self.message.channel.to_string(),
            message: self.message.event.to_json(),
            claimed_until: self.claimed_until,
        }
    }
}

/// The messages that a transition's effects ask for. `number` continues across the
/// transitions of one change, so that keys stay unique within a version.
#[must_use]
pub fn postings(setting: &Setting<'_>, effects: &[Effect]) -> Vec<Posting> {
    let mut order = None; // parsed only when a command needs it
    let mut postings = Vec::new();
    for (number, effect) in effects.iter().enumerate() {
        let number = u16::try_from(number).unwrap_or(u16::MAX);
        let message = match effect {
            Effect::Send { step, direction, generation, attempt } => {
                let order = order.get_or_insert_with(|| fields(&setting.order.payload));
                command(setting, order, number, (*step, *direction, *generation, *attempt))
            }
            Effect::Probe { step, generation } => probe(setting, number, *step, *generation),
            Effect::Announce(announcement) => Some(announce(setting, number, announcement)),
            Effect::Notify { notice: index } => {
                let order = order.get_or_insert_with(|| fields(&setting.order.payload));
                setting.definition.notices().get(*index).map(|n| notice(setting, order, number, n))
            }
            Effect::LateSuccess { .. } => None,
        };
        if let Some(message) = message {
            let key = OutboxKey { saga: setting.saga.id, version: setting.version, number };
            postings.push(Posting { key, claimed_until: setting.claimed_until, message });
        }
    }
    postings
}

type Fields = BTreeMap<String, Box<RawValue>>;

fn fields(payload: &[u8]) -> Fields {
    serde_json::from_slice(payload).unwrap_or_default()
}

#[derive(Serialize)]
struct CommandData<'a> {
    command_id: Uuid,
    saga_id: Uuid,
    order_id: &'a str,
    tenant_id: &'a str,
    step: &'a str,
    generation: u16,
    direction: &'static str,
    attempt: u16,
    /// Of a compensation: the command that it undoes, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    compensates: Option<Uuid>,
    /// The fields of the order that the definition says this participant needs.
    order: BTreeMap<&'a str, &'a RawValue>,
    /// What earlier steps' participants handed on, by step.
    results: BTreeMap<&'a str, Box<RawValue>>,
}

fn command(
    setting: &Setting<'_>,
    order: &Fields,
    number: u16,
    (index, direction, generation, attempt): (usize, Direction, u16, u16),
) -> Option<Outgoing> {
    let Setting { definition, saga, .. } = *setting;
    let step = &definition.steps()[index];
    let (participant, command) = step.command(direction)?;
    let needs = match (direction, &step.compensation) {
        (Direction::Compensate, Some(undo)) => &undo.needs,
        _ => &step.needs,
    };
    let forward = saga.steps[index].generation;
    let undoes_command = direction == Direction::Compensate && forward > 0;
    let id = CommandId::of(saga.id, &step.name, direction, generation);
    let data = CommandData {
        command_id: id.0,
        saga_id: saga.id.0,
        order_id: &setting.order.order_id,
        tenant_id: &setting.order.tenant,
        step: &step.name,
        generation,
        direction: direction.as_str(),
        attempt,
        compensates: undoes_command
            .then(|| CommandId::of(saga.id, &step.name, Direction::Forward, forward).0),
        order: needed(order, needs.as_deref()),
        results: results(setting, index),
    };
    let channel = Channel::Commands(participant.to_owned());
    Some(outgoing(setting, channel, number, id.0, format!("{command}.v1"), &data))
}

/// A command that nothing waits for, with an id of its own; `step` is `notice.<state>`, which no
/// step is called.
fn notice(setting: &Setting<'_>, order: &Fields, number: u16, notice: &Notice) -> Outgoing {
    let id = CommandId::of_notice(setting.saga.id, notice);
    let data = CommandData {
        command_id: id.0,
        saga_id: setting.saga.id.0,
        order_id: &setting.order.order_id,
        tenant_id: &setting.order.tenant,
        step: &format!("notice.{}", notice.on.as_str()),
        generation: 1,
        direction: Direction::Forward.as_str(),
        attempt: 1,
        compensates: None,
        order: needed(order, notice.needs.as_deref()),
        results: BTreeMap::new(),
    };
    let channel = Channel::Commands(notice.participant.clone());
    outgoing(setting, channel, number, id.0, format!("{}.v1", notice.command), &data)
}

/// The fields of an order that go out: those named, or all that are not told anyway.
fn needed<'a>(order: &'a Fields, needs: Option<&[String]>) -> BTreeMap<&'a str, &'a RawValue> {
    let is_needed = |name: &String| match needs {
        None => !matches!(name.as_str(), "order_id" | "tenant_id"),
        Some(names) => names.contains(name),
    };
    let fields = order.iter().filter(|(name, _)| is_needed(name));
    fields.map(|(name, value)| (name.as_str(), &**value)).collect()
}

/// The results of the step itself and of all that it depends on.
fn results<'a>(setting: &Setting<'a>, index: usize) -> BTreeMap<&'a str, Box<RawValue>> {
    let own: StepSet = std::iter::once(index).collect();
    let steps = setting.definition.ancestors(index).union(own);
    let result = |step: usize| {
        let data = setting.saga.steps[step].data.as_deref()?;
        let raw = RawValue::from_string(data.to_owned()).ok()?;
        Some((setting.definition.steps()[step].name.as_str(), raw))
    };
    steps.iter().filter_map(result).collect()
}

#[derive(Serialize)]
struct ProbeData<'a> {
    command_id: Uuid,
    saga_id: Uuid,
    order_id: &'a str,
    tenant_id: &'a str,
    step: &'a str,
}

fn probe(setting: &Setting<'_>, number: u16, index: usize, generation: u16) -> Option<Outgoing> {
    let step = &setting.definition.steps()[index];
    let (participant, command) = step.command(Direction::Forward)?;
    let saga_id = setting.saga.id;
    let data = ProbeData {
        command_id: CommandId::of(saga_id, &step.name, Direction::Forward, generation).0,
        saga_id: saga_id.0,
        order_id: &setting.order.order_id,
        tenant_id: &setting.order.tenant,
        step: &step.name,
    };
    let id = derived(setting, "probe", number);
    let channel = Channel::Commands(participant.to_owned());
    Some(outgoing(setting, channel, number, id, format!("{command}.status.v1"), &data))
}

#[derive(Serialize)]
struct EventData<'a> {
    order_id: &'a str,
    tenant_id: &'a str,
    saga_id: Uuid,
    definition: &'a str,
    definition_version: u32,
    /// Of the saga: `running`, `compensating`, `completed`, `compensated`.
    status: &'static str,
    /// The shared one: `pending`, `confirmed`, `fulfilling`, `completed`, `cancelled`.
    order_state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    /// What the shop may offer instead of a cancellation that came too late.
    #[serde(skip_serializing_if = "Option::is_none")]
    offer: Option<&'static str>,
    /// Of an abandoned saga: the steps of which something is, or may be, out in the world.
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<Vec<&'a str>>,
}

fn announce(setting: &Setting<'_>, number: u16, announcement: &Announcement) -> Outgoing {
    // Events are about the thing that was ordered: order.created leads to order.completed.
    let entity = setting.definition.starts_on().split('.').next().unwrap_or("order");
    let (kind, step, code) = match announcement {
        Announcement::Reached(state) => (format!("{entity}.{}.v1", state.as_str()), None, None),
        Announcement::CancelRefused { why } => {
            (format!("{entity}.cancel-refused.v1"), None, Some(why.as_str()))
        }
        Announcement::AttentionRaised { step, code } => {
            ("saga.attention-raised.v1".to_owned(), *step, Some(code.as_str()))
        }
        Announcement::AttentionCleared { step, code } => {
            ("saga.attention-cleared.v1".to_owned(), *step, Some(code.as_str()))
        }
        Announcement::Abandoned => ("saga.abandoned.v1".to_owned(), None, None),
    };
    let name = |step: usize| setting.definition.steps()[step].name.as_str();
    let left = || left_behind(setting.definition, setting.saga).iter().map(name).collect();
    let data = EventData {
        order_id: &setting.order.order_id,
        tenant_id: &setting.order.tenant,
        saga_id: setting.saga.id.0,
        definition: setting.definition.name(),
        definition_version: setting.definition.version(),
        status: setting.saga.status.as_str(),
        order_state: setting.saga.reached.as_str(),
        step: step.map(name),
        code,
        offer: matches!(announcement, Announcement::CancelRefused { .. }).then_some("return"),
        left: (*announcement == Announcement::Abandoned).then(left),
    };
    let id = derived(setting, "event", number);
    outgoing(setting, Channel::Events, number, id, kind, &data)
}

/// The id of a message that is not a command: the same whenever it is sent again.
fn derived(setting: &Setting<'_>, what: &str, number: u16) -> Uuid {
    let name = format!("{what}/{}/{number}", setting.version);
    Uuid::new_v5(&setting.saga.id.0, name.as_bytes())
}

fn outgoing(
    setting: &Setting<'_>,
    channel: Channel,
    number: u16,
    id: Uuid,
    kind: String,
    data: &impl Serialize,
) -> Outgoing {
    let data = serde_json::value::to_raw_value(data)
        .expect("data of texts, numbers and raw JSON always serialises");
    let OrderRow { order_id, tenant, traceparent, .. } = setting.order;
    let event = Event {
        specversion: "1.0".to_owned(),
        id: id.to_string(),
        source: setting.source.to_owned(),
        kind,
        subject: Some(order_id.clone()),
        time: Some(rfc3339(setting.now)),
        datacontenttype: Some("application/json".to_owned()),
        dataschema: None,
        tenantid: Some(tenant.clone()),
        sagaid: Some(setting.saga.id.to_string()),
        correlationid: Some(setting.saga.id.to_string()),
        causationid: setting.cause.map(str::to_owned),
        partitionkey: Some(order_id.clone()),
        sequence: Some(format!("{:08}{number:04}", setting.version)),
        traceparent: Some(traceparent.clone()),
        reply_to: None, // everybody's replies
        data: Some(data),
    };
    Outgoing { channel, event }
}
