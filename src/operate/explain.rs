//! `explain`: what an order is doing, in plain words.

use std::fmt;

use serde::Serialize;
use uuid::Uuid;

use super::verbs::{LegalVerb, legal_verbs};
use super::{OperateError, definition_of, definitions, sagas_of};
use crate::clock::rfc3339;
use crate::saga::{
    Cause, Definition, Direction, Doubt, Millis, Phase, Saga, Status, StepState, Time, Wait, Work,
    owed,
};
use crate::store::{ScanRow, Store, Stored};

/// Everything an operator wants to know first. All times RFC 3339.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    pub order_id: String,
    pub tenant_id: String,
    pub saga_id: Uuid,
    pub definition: String,
    pub definition_version: u32,
    pub version: u32,
    pub status: &'static str,
    /// Why it compensates or was compensated.
    pub cause: Option<String>,
    pub started_at: String,
    pub ended_at: Option<String>,
    pub attention: Vec<AttentionView>,
    pub steps: Vec<StepView>,
    /// What is awaited, from whom, since when.
    pub awaiting: Vec<String>,
    /// Steps of which nobody knows whether they happened, and how that is being found out.
    pub in_doubt: Vec<String>,
    pub next_clock: Option<NextClock>,
    /// The compensations that would be sent if it failed or were cancelled now.
    pub owed_if_it_fails_now: Vec<String>,
    /// Whether the pivot is done, so that it can only go forward.
    pub past_pivot: bool,
    /// What an operator may do now, and the commands that it would send.
    pub possible: Vec<LegalVerb>,
    /// What couriers reported of its parcels, oldest first.
    pub scans: Vec<ScanView>,
    pub trace: String,
}

/// A courier's scan.
#[derive(Debug, Clone, Serialize)]
pub struct ScanView {
    pub courier: String,
    pub shipment_id: String,
    pub status: String,
    /// RFC 3339: when it was scanned, and when that came in.
    pub happened_at: String,
    pub received_at: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct AttentionView {
    pub step: Option<String>,
    pub code: &'static str,
    pub since: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct StepView {
    pub name: String,
    pub state: &'static str,
    pub since: Option<String>,
    pub command: Option<String>,
    pub participant: Option<String>,
    pub attempts: Option<u16>,
    pub result: Option<serde_json::Value>,
}

#[derive(Debug, Clone, Serialize)]
pub struct NextClock {
    pub at: String,
    pub step: String,
    /// What will happen then.
    pub then: &'static str,
}

/// Explains every saga of an order.
///
/// # Errors
/// When there is no such order, or the store cannot be read.
pub async fn explain(
    store: &dyn Store,
    order_id: &str,
    tenant: Option<&str>,
) -> Result<Vec<Explanation>, OperateError> {
    let catalog = definitions(store).await?;
    let now = store.now().await?;
    let mut explained = Vec::new();
    for stored in sagas_of(store, order_id, tenant).await? {
        let loaded = definition_of(&catalog, &stored)?;
        let scans = store.scans(stored.saga.id).await?;
        explained.push(of(&loaded.definition, &stored, &scans, now));
    }
    Ok(explained)
}

fn of(definition: &Definition, stored: &Stored, scans: &[ScanRow], now: Time) -> Explanation {
    let Stored { saga, order, version, .. } = stored;
    let name = |step: usize| definition.steps()[step].name.clone();
    let attention = saga.attention.iter().map(|attention| AttentionView {
        step: attention.step.map(name),
        code: attention.code.as_str(),
        since: rfc3339(attention.since),
    });
    let past_pivot = definition.pivots().iter().any(|pivot| saga.steps[pivot].phase.stands());
    let may_still_fail = !past_pivot && !saga.status.is_final();
    let owed_commands = owed(definition, saga).iter().filter_map(|step| {
        definition.steps()[step].command(Direction::Compensate).map(|(_, c)| c.to_owned())
    });
    Explanation {
        order_id: order.order_id.clone(),
        tenant_id: order.tenant.clone(),
        saga_id: saga.id.0,
        definition: order.definition.clone(),
        definition_version: order.definition_version,
        version: *version,
        status: saga.status.as_str(),
        cause: saga.cause.as_ref().map(|cause| told(definition, cause)),
        started_at: rfc3339(saga.started_at),
        ended_at: saga.ended_at.map(rfc3339),
        attention: attention.collect(),
        steps: (0..saga.steps.len()).map(|step| view(definition, saga, step)).collect(),
        awaiting: (0..saga.steps.len())
            .filter_map(|step| awaited(definition, saga, step))
            .collect(),
        next_clock: next_clock(definition, saga),
        owed_if_it_fails_now: owed_commands.filter(|_| may_still_fail).collect(),
        past_pivot,
        in_doubt: (0..saga.steps.len())
            .filter_map(|step| doubted(definition, saga, step))
            .collect(),
        possible: legal_verbs(definition, saga, now),
        scans: scans.iter().map(scan_view).collect(),
        trace: order.traceparent.clone(),
    }
}

fn scan_view(scan: &ScanRow) -> ScanView {
    ScanView {
        courier: scan.courier.clone(),
        shipment_id: scan.shipment_id.clone(),
        status: scan.status.clone(),
        happened_at: rfc3339(scan.happened_at),
        received_at: rfc3339(scan.received_at),
    }
}

fn doubted(definition: &Definition, saga: &Saga, index: usize) -> Option<String> {
    let found_out = match saga.doubt(index)? {
        Doubt::Asked => "its participant is asked, and has not said",
        Doubt::SentOn => "the command is sent again and again",
        Doubt::ToBeUndone => "its compensation will tell",
        Doubt::BeingUndone => "its compensation is out",
        Doubt::UndoUnanswered => "its compensation is not answered",
    };
    Some(format!("{}: {found_out}", definition.steps()[index].name))
}

fn told(definition: &Definition, cause: &Cause) -> String {
    let name = |step: &usize| definition.steps()[*step].name.as_str();
    match cause {
        Cause::Cancel => "it was cancelled".to_owned(),
        Cause::Rejected { step, code } => format!("{} was rejected: {code}", name(step)),
        Cause::InDoubt { step } => {
            format!("{} is in doubt: no final answer within its give-up time", name(step))
        }
    }
}

fn view(definition: &Definition, saga: &Saga, index: usize) -> StepView {
    let step = &definition.steps()[index];
    let StepState { phase, since, data, .. } = &saga.steps[index];
    let direction = match phase {
        Phase::Undoing { .. } | Phase::Undone | Phase::Refused { .. } => Direction::Compensate,
        _ => Direction::Forward,
    };
    let command = step.command(direction);
    let attempts = match phase {
        Phase::Sent(wait) | Phase::Asking(wait) | Phase::Undoing { wait, .. } => Some(wait.attempt),
        _ => None,
    };
    StepView {
        name: step.name.clone(),
        state: phase.as_str(),
        since: (*phase != Phase::Idle).then(|| rfc3339(*since)),
        command: command.map(|(_, command)| command.to_owned()),
        participant: command.map(|(participant, _)| participant.to_owned()),
        attempts,
        result: data.as_deref().and_then(|data| serde_json::from_str(data).ok()),
    }
}

fn awaited(definition: &Definition, saga: &Saga, index: usize) -> Option<String> {
    let step = &definition.steps()[index];
    let StepState { phase, since, .. } = &saga.steps[index];
    let since = rfc3339(*since);
    let reply = |direction, attempts: u16| {
        let (participant, command) = step.command(direction)?;
        let times = if attempts == 1 { "once".to_owned() } else { format!("{attempts} times") };
        Some(format!("{participant} to answer {command} (sent {times}, since {since})"))
    };
    match phase {
        Phase::Sent(wait) => reply(Direction::Forward, wait.attempt),
        Phase::Asking(_) => {
            let (participant, command) = step.command(Direction::Forward)?;
            Some(format!("{participant} to say whether {command} was applied (since {since})"))
        }
        Phase::Undoing { wait, .. } => reply(Direction::Compensate, wait.attempt),
        Phase::Awaiting { .. } => match &step.work {
            Work::Facts { completes_on, .. } => {
                Some(format!("{} (since {since})", completes_on.join(" or ")))
            }
            _ => None,
        },
        Phase::Failed { code } if saga.status == Status::Running && saga.cause.is_none() => {
            Some(format!("an operator: {} failed with {code}", step.name))
        }
        Phase::Refused { code } => {
            Some(format!("an operator: undoing {} was refused, {code}", step.name))
        }
        Phase::Held { .. } => {
            let (participant, command) = step.command(Direction::Forward)?;
            Some(format!("{participant} to be there for {command} (held since {since})"))
        }
        Phase::Idle | Phase::Done | Phase::Undone | Phase::Skipped | Phase::Failed { .. } => None,
    }
}

fn next_clock(definition: &Definition, saga: &Saga) -> Option<NextClock> {
    let of_wait = |wait: &Wait, gives_up, resends| {
        let clocks = [
            (wait.give_up_at, gives_up),
            (wait.deadline_at, "call an operator: the deadline has passed"),
            (wait.resend_at, resends),
        ];
        clocks.into_iter().filter_map(|(at, then)| Some((at?, then))).min_by_key(|(at, _)| *at)
    };
    let of_step = |(index, state): (usize, &StepState)| {
        let step = &definition.steps()[index];
        let is_forward_only = step.pivot || definition.is_past_pivot(index);
        let (at, then) = match &state.phase {
            Phase::Sent(wait) => {
                let gives_up = match step.work {
                    _ if is_forward_only => "call an operator, and go on sending",
                    Work::Command { probe: true, .. } => "ask whether it was applied",
                    _ => "take it for done, and compensate",
                };
                of_wait(wait, gives_up, "send the command again")?
            }
            Phase::Asking(wait) if is_forward_only => {
                of_wait(wait, "call an operator, and go on sending", "ask again, and send again")?
            }
            Phase::Asking(wait) => of_wait(wait, "take it for done, and compensate", "ask again")?,
            Phase::Undoing { wait, .. } => {
                of_wait(wait, "call an operator, and go on sending", "send the command again")?
            }
            Phase::Awaiting { deadline_at } => {
                ((*deadline_at)?, "call an operator: the deadline has passed")
            }
            Phase::Held { look_at } => (*look_at, "see whether its participant is there"),
            _ => return None,
        };
        Some((at, index, then))
    };
    let next = saga.steps.iter().enumerate().filter_map(of_step).min_by_key(|(at, ..)| *at);
    next.map(|(at, step, then)| NextClock {
        at: rfc3339(at),
        step: definition.steps()[step].name.clone(),
        then,
    })
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Order {} of {} is {}{}.",
            self.order_id,
            self.tenant_id,
            self.status,
            if self.attention.is_empty() { "" } else { " and needs attention" }
        )?;
        writeln!(
            f,
            "  {} version {}, saga {}, {} transitions",
            self.definition, self.definition_version, self.saga_id, self.version
        )?;
        let end = self.ended_at.as_ref().map_or(String::new(), |at| format!(", ended {at}"));
        writeln!(f, "  started {}{end}", self.started_at)?;
        if let Some(cause) = &self.cause {
            let turned = match self.ended_at {
                Some(_) => "was compensated because",
                None => "compensates because",
            };
            writeln!(f, "  {turned} {cause}")?;
        }
        for attention in &self.attention {
            let step = attention.step.as_deref().unwrap_or("the saga");
            writeln!(f, "  attention: {} at {step}, since {}", attention.code, attention.since)?;
        }
        writeln!(f, "\nSteps")?;
        let width = self.steps.iter().map(|step| step.name.len()).max().unwrap_or(0);
        for step in &self.steps {
            let since = step.since.as_ref().map_or(String::new(), |at| format!("since {at}"));
            let command = step.command.as_deref().unwrap_or("");
            let line = format!("  {:width$}  {:20}  {since:30}  {command}", step.name, step.state);
            writeln!(f, "{}", line.trim_end())?;
        }
        if !self.awaiting.is_empty() {
            writeln!(f, "\nIt waits for")?;
            self.awaiting.iter().try_for_each(|awaited| writeln!(f, "  {awaited}"))?;
        }
        if !self.in_doubt.is_empty() {
            writeln!(f, "\nIn doubt")?;
            self.in_doubt.iter().try_for_each(|doubt| writeln!(f, "  {doubt}"))?;
        }
        if !self.scans.is_empty() {
            writeln!(f, "\nScans")?;
            for ScanView { courier, shipment_id, status, happened_at, .. } in &self.scans {
                writeln!(f, "  {happened_at}  {courier} {shipment_id}: {status}")?;
            }
        }
        if let Some(next) = &self.next_clock {
            writeln!(f, "\nNext clock\n  {} for {}: {}", next.at, next.step, next.then)?;
        }
        if self.status == Status::Compensating.as_str() {
            let left = match &self.owed_if_it_fails_now[..] {
                [] => "nothing".to_owned(),
                commands => commands.join(", "),
            };
            writeln!(f, "\nLeft to compensate\n  {left}")?;
        } else if self.status == Status::Running.as_str() {
            writeln!(f, "\nIf it fails or is cancelled now")?;
            if self.past_pivot {
                writeln!(f, "  nothing is undone: it is past its pivot and can only go forward")?;
            } else if self.owed_if_it_fails_now.is_empty() {
                writeln!(f, "  nothing has to be undone")?;
            } else {
                writeln!(f, "  undone by {}", self.owed_if_it_fails_now.join(", "))?;
            }
        }
        if !self.possible.is_empty() {
            writeln!(f, "\nWhat you may do (makegood order …)")?;
        }
        for LegalVerb { verb, commands } in &self.possible {
            match &commands[..] {
                [] => writeln!(f, "  {verb}")?,
                commands => writeln!(f, "  {verb}: sends {}", commands.join(", "))?,
            }
        }
        Ok(())
    }
}

/// A span in words: `3 d 4 h`, `12 s`.
#[must_use]
pub fn span(span: Millis) -> String {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)];
    let mut left = span.0;
    let mut parts = Vec::new();
    for (unit, size) in units {
        if left >= size {
            parts.push(format!("{} {unit}", left / size));
            left %= size;
        }
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() { "0 s".to_owned() } else { parts.join(" ") }
}

/// How long something has lasted.
#[must_use]
pub fn age(since: Time, now: Time) -> String {
    span(now - since)
}
