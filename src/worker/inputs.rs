//! From messages to inputs: what a message means, or why it means nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::delivery::{Delivery, Named};
use super::letters::destination;
use crate::broker::{Channel, Event, Incoming, envelope};
use crate::catalog::{Catalog, LoadedDefinition};
use crate::clock::Busy;
use crate::order::{Order, is_id};
use crate::saga::{CommandId, EventId, FactSeen, Input, Outcome, ProbeState, Reply, SagaId, Time};
use crate::store::{OrderRow, ScanRow};

/// The largest result that a participant may hand to later steps, in bytes: it lives in the
/// saga's row, which is written at every step.
pub const MAX_RESULT_BYTES: usize = 4 * 1024;
/// The longest code of a participant's "no", in bytes.
pub const MAX_CODE_BYTES: usize = 128;

/// An input on its way to the lane of its saga.
#[derive(Debug)]
pub(super) struct Item {
    pub saga: SagaId,
    pub what: What,
    /// The message it came from; none for a clock.
    pub delivery: Option<Arc<Delivery>>,
    /// Keeps simulated time from going on until this is dropped, dealt with.
    pub _busy: Busy,
}

#[derive(Debug)]
pub(super) enum What {
    Start {
        definition: Arc<LoadedDefinition>,
        order: Arc<OrderRow>,
    },
    Input(Input),
    /// A fact, and the scan by which it became known, to be kept.
    Scanned(Input, Arc<ScanRow>),
}

impl What {
    pub fn input(&self) -> &Input {
        match self {
            What::Start { .. } => &Input::Start,
            What::Input(input) | What::Scanned(input, _) => input,
        }
    }

    /// Whether it is an answer to something that a saga sent.
    pub fn is_reply(&self) -> bool {
        matches!(self, What::Input(Input::Reply(_) | Input::Probed { .. }))
    }
}

/// What became of a message.
pub(super) enum Read {
    /// At least one.
    Items(Vec<Item>),
    /// It cannot be processed.
    Dead { delivery: Arc<Delivery>, reason: &'static str, error: String },
    /// An event for which none of these definitions is there: given back whole, to be read
    /// again by whoever knows more of them.
    Unheard { incoming: Incoming, name: String },
}

/// What a message means to sagas.
pub(super) enum Meaning {
    /// At least one.
    Inputs(Inputs),
    /// An event of this name, for which none of these definitions is there.
    Unheard(String),
    /// Nothing: the reason code of its dead letter, and why, for a human.
    Unusable { reason: &'static str, error: String },
}

/// A message that means nothing: the reason code of its dead letter, and why, for a human.
struct Unusable {
    reason: &'static str,
    error: String,
}

/// The dead letter, or the acknowledgement, for an event that no definition is for.
pub(super) fn unheard(incoming: Incoming) -> Arc<Delivery> {
    let event = envelope::decode(&incoming.body, &incoming.headers, usize::MAX);
    let named = event.as_ref().map(Named::by).unwrap_or_default();
    Delivery::new(incoming, 1, named)
}

fn unusable(reason: &'static str, error: impl Into<String>) -> Unusable {
    Unusable { reason, error: error.into() }
}

/// Understands one message. Pure but for making the shared [`Delivery`].
pub(super) fn read(incoming: Incoming, catalog: &Catalog, max_bytes: usize, now: Time) -> Read {
    let Incoming { channel, body, headers, .. } = &incoming;
    let (named, meaning) = understand((channel, body, headers), catalog, max_bytes, now);
    match meaning {
        Meaning::Unheard(name) => Read::Unheard { incoming, name },
        Meaning::Inputs(inputs) => {
            let delivery = Delivery::new(incoming, inputs.len(), named);
            // The message itself keeps time until it is acknowledged.
            Read::Items(items(inputs, &delivery, Busy::default))
        }
        Meaning::Unusable { reason, error } => {
            Read::Dead { delivery: Delivery::new(incoming, 1, named), reason, error }
        }
    }
}

/// The inputs of one message, on their way.
pub(super) fn items(
    inputs: Inputs,
    delivery: &Arc<Delivery>,
    busy: impl Fn() -> Busy,
) -> Vec<Item> {
    let item = |(saga, what)| Item { saga, what, delivery: Some(delivery.clone()), _busy: busy() };
    inputs.into_iter().map(item).collect()
}

/// A message as it came: its channel, body and headers.
pub(super) type Message<'a> = (&'a Channel, &'a bytes::Bytes, &'a BTreeMap<String, String>);

/// What a message says about itself, and what it means. Pure.
pub(super) fn understand(
    (channel, body, headers): Message<'_>,
    catalog: &Catalog,
    max_bytes: usize,
    now: Time,
) -> (Named, Meaning) {
    let decoded = envelope::decode(body, headers, max_bytes);
    if *channel == Channel::Dead {
        let error = "the broker gave up delivering it".to_owned();
        let reason = match headers.get("x-first-death-reason").map(String::as_str) {
            Some("delivery_limit") => "delivery-limit",
            _ => "dead-lettered-by-broker",
        };
        let mut named = decoded.as_ref().map(Named::by).unwrap_or_default();
        named.participant = match destination(&channel.to_string(), headers) {
            Some(Channel::Commands(participant)) => Some(participant),
            Some(Channel::Replies) => decoded.ok().and_then(|event| participant(&event.source)),
            _ => None,
        };
        return (named, Meaning::Unusable { reason, error });
    }
    let event = match decoded {
        Ok(event) => event,
        Err(malformed) => {
            let (reason, error) = (malformed.reason, malformed.detail);
            return (Named::default(), Meaning::Unusable { reason, error });
        }
    };
    let mut named = Named::by(&event);
    let understood = match channel {
        Channel::Orders => order_event(&event, catalog, now, &mut named),
        Channel::Facts => fact(&event, catalog, &mut named),
        _ => {
            named.participant = participant(&event.source);
            reply(&event, headers).map(|item| vec![item])
        }
    };
    let meaning = match understood {
        Ok(inputs) if inputs.is_empty() => Meaning::Unheard(event.name().to_owned()),
        Ok(inputs) => Meaning::Inputs(inputs),
        Err(Unusable { reason, error }) => Meaning::Unusable { reason, error },
    };
    (named, meaning)
}

/// The input that a parked message stands for, to one saga. `None` when it means nothing.
pub(super) fn reread(source: &str, body: &[u8], headers: &str) -> Option<(String, Input)> {
    let headers = serde_json::from_str(headers).ok()?;
    let channel = destination(source, &headers)?;
    let body = bytes::Bytes::copy_from_slice(body);
    let event = envelope::decode(&body, &headers, usize::MAX).ok()?;
    let name = event.name().to_owned();
    let input = match channel {
        Channel::Orders => Input::Cancel,
        Channel::Facts => Input::Fact(seen(&event)),
        _ => return None,
    };
    Some((name, input))
}

/// Empty when no definition is for it.
pub(super) type Inputs = Vec<(SagaId, What)>;

fn order_event(
    event: &Event,
    catalog: &Catalog,
    now: Time,
    named: &mut Named,
) -> Result<Inputs, Unusable> {
    let name = event.name();
    let starting = catalog.starting_on(name);
    if !starting.is_empty() {
        return start(event, starting, now, named);
    }
    let cancelled = catalog.cancelled_by(name);
    if cancelled.is_empty() {
        return Ok(Vec::new());
    }
    let (tenant, order_id) = about(event, named)?;
    Ok(cancels(&tenant, &order_id, cancelled))
}

/// The request to cancel an order, for its sagas under these definitions.
pub(super) fn cancels(tenant: &str, order_id: &str, definitions: &[String]) -> Inputs {
    let sagas = definitions.iter().map(|definition| SagaId::of(tenant, order_id, definition));
    sagas.map(|saga| (saga, What::Input(Input::Cancel))).collect()
}

fn start(
    event: &Event,
    starting: &[Arc<LoadedDefinition>],
    now: Time,
    named: &mut Named,
) -> Result<Inputs, Unusable> {
    let payload = event.data.as_ref().map_or("", |data| data.get());
    let order = Order::parse(payload.as_bytes()).map_err(|e| unusable(e.reason, e.to_string()))?;
    named.tenant = Some(order.tenant_id.clone());
    named.order_id = Some(order.order_id.clone());
    if event.tenantid.as_ref().is_some_and(|tenant| *tenant != order.tenant_id) {
        let error = "the envelope's tenantid is not the order's tenant_id";
        return Err(unusable("wrong-schema", error));
    }
    Ok(starts(&order, event.traceparent.as_deref(), starting, now))
}

/// The sagas that an order starts.
pub(super) fn starts(
    order: &Order,
    trace: Option<&str>,
    starting: &[Arc<LoadedDefinition>],
    now: Time,
) -> Inputs {
    let start = |loaded: &Arc<LoadedDefinition>| {
        let definition = &loaded.definition;
        let saga = SagaId::of(&order.tenant_id, &order.order_id, definition.name());
        let row = OrderRow {
            saga,
            tenant: order.tenant_id.clone(),
            order_id: order.order_id.clone(),
            definition: definition.name().to_owned(),
            definition_version: definition.version(),
            received_at: now,
            traceparent: trace.map_or_else(|| traceparent(saga), str::to_owned),
            payload: order.payload.clone(),
        };
        (saga, What::Start { definition: loaded.clone(), order: Arc::new(row) })
    };
    starting.iter().map(start).collect()
}

/// A trace for an order that came without one: the saga is the trace.
fn traceparent(saga: SagaId) -> String {
    let (high, _) = Uuid::new_v5(&saga.0, b"root span").as_u64_pair();
    format!("00-{}-{high:016x}-01", saga.0.simple())
}

fn fact(event: &Event, catalog: &Catalog, named: &mut Named) -> Result<Inputs, Unusable> {
    let waiting = catalog.awaiting(event.name());
    if waiting.is_empty() {
        return Ok(Vec::new());
    }
    let (tenant, order_id) = about(event, named)?;
    Ok(tells(&tenant, &order_id, &seen(event), waiting))
}

/// A fact about an order, for its sagas under these definitions.
pub(super) fn tells(
    tenant: &str,
    order_id: &str,
    seen: &FactSeen,
    definitions: &[String],
) -> Inputs {
    let to = |definition: &String| {
        (SagaId::of(tenant, order_id, definition), What::Input(Input::Fact(seen.clone())))
    };
    definitions.iter().map(to).collect()
}

fn seen(event: &Event) -> FactSeen {
    FactSeen { kind: event.name().into(), event: EventId::of(&event.source, &event.id) }
}

/// Which order an event is about: tenant and order id, from the data or else the envelope.
fn about(event: &Event, named: &mut Named) -> Result<(String, String), Unusable> {
    #[derive(Deserialize)]
    struct About {
        tenant_id: Option<String>,
        order_id: Option<String>,
    }
    let data = event.data.as_ref().map_or("{}", |data| data.get());
    let About { tenant_id, order_id } = parsed_unquoted(data)
        .map_err(|error| unusable("wrong-schema", format!("in its data: {error}")))?;
    if let (Some(said), Some(tenant)) = (&event.tenantid, &tenant_id)
        && said != tenant
    {
        let error = "the envelope's tenantid is not the tenant_id of its data";
        return Err(unusable("wrong-schema", error));
    }
    let tenant = tenant_id.or_else(|| event.tenantid.clone());
    let order_id = order_id.or_else(|| event.subject.clone());
    match (tenant, order_id) {
        (Some(tenant), Some(order_id)) if is_id(&tenant) && is_id(&order_id) => {
            named.tenant = Some(tenant.clone());
            named.order_id = Some(order_id.clone());
            Ok((tenant, order_id))
        }
        (Some(_), Some(_)) => {
            // No order has such ids, and no index would take them.
            Err(unusable("wrong-schema", "its tenant_id or order_id can be none"))
        }
        _ => Err(unusable(
            "wrong-schema",
            "it does not say which order it is about: tenant_id and order_id are needed",
        )),
    }
}

/// Parses the data of an event. The error tells where, and which field is missing, but not what
/// stands there instead: the parser's own words may quote a customer.
fn parsed_unquoted<'a, T: Deserialize<'a>>(data: &'a str) -> Result<T, String> {
    serde_json::from_str(data).map_err(|error| {
        let (text, line, column) = (error.to_string(), error.line(), error.column());
        match text.starts_with("missing field") {
            true => text,
            false => format!("not as expected at line {line} column {column}"),
        }
    })
}

#[derive(Deserialize)]
struct ReplyData {
    command_id: Uuid,
    saga_id: Option<Uuid>,
    outcome: Option<String>,
    state: Option<String>,
    code: Option<String>,
    data: Option<Box<RawValue>>,
}

fn reply(event: &Event, headers: &BTreeMap<String, String>) -> Result<(SagaId, What), Unusable> {
    let data = event.data.as_ref().map_or("", |data| data.get());
    let reply: ReplyData = parsed_unquoted(data)
        .map_err(|error| unusable("wrong-schema", format!("in the reply's data: {error}")))?;
    let named = [
        event.sagaid.as_deref(),
        event.correlationid.as_deref(),
        headers.get("correlation-id").map(String::as_str),
    ];
    let saga = named.into_iter().flatten().find_map(|id| id.parse().ok()).or(reply.saga_id);
    let Some(saga) = saga else {
        let error = "it does not say which saga it is for: sagaid or correlation-id is needed";
        return Err(unusable("wrong-schema", error));
    };
    let data: Option<Box<str>> =
        reply.data.filter(|data| data.get() != "null").map(|data| data.get().into());
    if data.as_ref().is_some_and(|data| data.len() > MAX_RESULT_BYTES) {
        let error = format!("its result has more than {MAX_RESULT_BYTES} bytes");
        return Err(unusable("oversized", error));
    }
    let command = CommandId(reply.command_id);
    let from = participant(&event.source);
    let from = from.map(Into::into);
    let input = match (reply.outcome, reply.state) {
        (Some(outcome), None) => {
            let outcome = parse_outcome(&outcome, reply.code)?;
            Input::Reply(Reply { command, from, outcome, data })
        }
        (None, Some(state)) => Input::Probed { command, from, state: parse_state(&state)?, data },
        _ => {
            let error = "a reply has an outcome, an answer to a probe has a state";
            return Err(unusable("wrong-schema", error));
        }
    };
    Ok((SagaId(saga), What::Input(input)))
}

/// The participant that a source such as `/participants/wms` names: its last segment. The name
/// has to be the one under which the definition sends it commands, or its answers are dead
/// letters (`wrong-participant`): what one participant did is never believed of another.
fn participant(source: &str) -> Option<String> {
    source.rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned)
}

fn parse_outcome(outcome: &str, code: Option<String>) -> Result<Outcome, Unusable> {
    let code = code.unwrap_or_else(|| "UNSPECIFIED".to_owned());
    if code.len() > MAX_CODE_BYTES || code.chars().any(char::is_control) {
        let error = format!("its code has more than {MAX_CODE_BYTES} bytes or control characters");
        return Err(unusable("wrong-schema", error));
    }
    Ok(match outcome {
        "success" => Outcome::Success,
        "rejected" => Outcome::Rejected { code: code.into() },
        "retry" => Outcome::Retry,
        "refused" => Outcome::Refused { code: code.into() },
        "nothing_to_do" => Outcome::NothingToDo,
        _ => {
            let error = "outcome must be success, rejected, retry, refused or nothing_to_do";
            return Err(unusable("wrong-schema", error));
        }
    })
}

fn parse_state(state: &str) -> Result<ProbeState, Unusable> {
    match state {
        "applied" => Ok(ProbeState::Applied),
        "not_applied" => Ok(ProbeState::NotApplied),
        "unknown" => Ok(ProbeState::Unknown),
        _ => Err(unusable("wrong-schema", "state must be applied, not_applied or unknown")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_data_is_told_without_quoting_it() {
        let error = |data| parsed_unquoted::<ReplyData>(data).err().expect("no reply");
        let quoted = error("{\"command_id\": 5511987654321, \"outcome\": \"success\"}");
        assert!(!quoted.contains("551"), "{quoted}");
        assert!(quoted.contains("line 1 column 28"), "{quoted}");
        assert!(error("{}").contains("missing field `command_id`"));
    }
}
