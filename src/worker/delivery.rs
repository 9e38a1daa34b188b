//! A message or call that came in, until everything it caused is stored.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::entrance::Settled;
use crate::broker::{Channel, Event, Incoming, Ticket};
use crate::order;
use crate::saga::{EventId, Time};
use crate::store::{DeadLetter, Outcome, Settlement};

/// Shared by the inputs that one message turned into (an order may start several sagas, a
/// fact may concern several). The message is acknowledged when the last one is dealt with.
#[derive(Debug)]
pub(super) struct Delivery {
    source: String,
    body: bytes::Bytes,
    headers: String,
    /// The event's id, which caused whatever follows.
    pub cause: Option<String>,
    pub tenant: Option<String>,
    pub order_id: Option<String>,
    kind: Option<String>,
    participant: Option<String>,
    /// The letter that is replayed, if it is that.
    replays: Option<Uuid>,
    /// It was delivered before, to this worker or another one.
    is_redelivered: bool,
    /// How often it was delivered before, where the broker counts that.
    pub returns: u32,
    /// Who is told when all is dealt with; taken out by then.
    origin: Mutex<Option<Origin>>,
    /// It has a caller instead of a broker.
    is_call: bool,
    open: AtomicUsize,
    /// How many inputs found no saga to go to.
    homeless: AtomicUsize,
    inputs: usize,
    /// It waits among the dead letters for its order.
    parked: AtomicBool,
}

#[derive(Debug)]
enum Origin {
    /// A broker that hears an acknowledgement.
    Broker(Ticket),
    /// A caller that waits for what became of it, with what is known of that so far.
    Caller(oneshot::Sender<Vec<Settled>>, Vec<Settled>),
    /// Who replays letters, with what is known of this one so far.
    Replay(mpsc::Sender<Settlement>, Option<Settlement>),
}

impl Delivery {
    /// Takes over a message that turned into `inputs` inputs, at least one.
    pub fn new(incoming: Incoming, inputs: usize, named: Named) -> Arc<Delivery> {
        let headers = serde_json::to_string(&incoming.headers).unwrap_or_default();
        let returns = incoming.headers.get("x-delivery-count").and_then(|count| count.parse().ok());
        Arc::new(Delivery {
            source: incoming.channel.to_string(),
            body: incoming.body,
            headers,
            is_redelivered: incoming.redelivered,
            returns: returns.unwrap_or_default(),
            ..Delivery::from(Origin::Broker(incoming.ticket), inputs, named)
        })
    }

    /// Takes over a call that turned into `inputs` inputs, at least one.
    pub fn of_call(
        answer: oneshot::Sender<Vec<Settled>>,
        inputs: usize,
        named: Named,
    ) -> Arc<Delivery> {
        Arc::new(Delivery::from(Origin::Caller(answer, Vec::new()), inputs, named))
    }

    /// Takes over the message of a dead letter that turned into `inputs` inputs, at least one.
    pub fn of_replay(
        letter: &DeadLetter,
        results: mpsc::Sender<Settlement>,
        inputs: usize,
        named: Named,
    ) -> Arc<Delivery> {
        Arc::new(Delivery {
            source: letter.source.clone(),
            body: bytes::Bytes::copy_from_slice(&letter.body),
            headers: letter.headers.clone(),
            replays: Some(letter.id),
            ..Delivery::from(Origin::Replay(results, None), inputs, named)
        })
    }

    fn from(origin: Origin, inputs: usize, named: Named) -> Delivery {
        Delivery {
            source: "http".to_owned(),
            body: bytes::Bytes::new(),
            headers: String::new(),
            cause: named.id,
            tenant: named.tenant.filter(|tenant| is_storable(tenant)),
            order_id: named.order_id.filter(|order_id| is_storable(order_id)),
            kind: named.kind.filter(|kind| is_storable(kind)),
            participant: named.participant.filter(|name| is_storable(name)),
            replays: None,
            is_redelivered: false,
            returns: 0,
            is_call: matches!(origin, Origin::Caller(..)),
            origin: Mutex::new(Some(origin)),
            open: AtomicUsize::new(inputs),
            homeless: AtomicUsize::new(0),
            inputs,
            parked: AtomicBool::new(false),
        }
    }

    /// Whether somebody waits for what becomes of it, and is told instead of a dead letter.
    pub fn is_call(&self) -> bool {
        self.is_call
    }

    /// Whether it is a dead letter that is replayed.
    pub fn is_replay(&self) -> bool {
        self.replays.is_some()
    }

    /// Notes what became of a replayed letter in one saga. Of several, what matters most counts.
    pub fn note(&self, outcome: Outcome, reason: &str, error: &str) {
        if let (Some(letter), Some(Origin::Replay(_, known))) = (self.replays, &mut *self.origin())
            && known.as_ref().is_none_or(|known| known.outcome < outcome)
        {
            let (reason, error) = (reason.to_owned(), error.to_owned());
            *known = Some(Settlement { letter, outcome, reason, error });
        }
    }

    /// Notes what became of it in one saga, for its caller. The first word on a saga counts.
    pub fn tell(&self, settled: Settled) {
        if let Some(Origin::Caller(_, known)) = &mut *self.origin()
            && known.iter().all(|known| known.saga != settled.saga)
        {
            known.push(settled);
        }
    }

    /// One of its inputs is dealt with, durably.
    pub fn finish(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        match self.origin().take() {
            Some(Origin::Broker(ticket)) => ticket.done(),
            Some(Origin::Caller(answer, settled)) => drop(answer.send(settled)),
            Some(Origin::Replay(results, known)) => {
                // Nothing noted: nothing came of it. There is room for as many as are out.
                let known = known.or(self.replays.map(Settlement::duplicate));
                drop(known.map(|known| results.try_send(known)));
            }
            None => {}
        }
    }

    fn origin(&self) -> MutexGuard<'_, Option<Origin>> {
        self.origin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of its inputs has no saga. True for the last one when none of them has: then the
    /// message is parked until its order comes.
    pub fn is_homeless(&self) -> bool {
        self.homeless.fetch_add(1, Ordering::AcqRel) + 1 == self.inputs
    }

    /// The letter in which this message waits for its order.
    pub fn park(&self, error: &str, now: Time) -> DeadLetter {
        self.parked.store(true, Ordering::Release);
        self.note(Outcome::Parked, DeadLetter::UNKNOWN_ORDER, error);
        self.letter(DeadLetter::UNKNOWN_ORDER, error, now)
    }

    /// The id of the letter in which it was parked, if it was.
    pub fn parked_as(&self) -> Option<Uuid> {
        self.parked.load(Ordering::Acquire).then(|| self.letter_id())
    }

    /// The id of the letter in which it may have been parked when it came before.
    pub fn redelivered_as(&self) -> Option<Uuid> {
        self.is_redelivered.then(|| self.letter_id())
    }

    /// The channel that it came from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// How many inputs it turned into.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    fn letter_id(&self) -> Uuid {
        self.replays.unwrap_or_else(|| letter_id(&self.source, &self.body, &self.headers))
    }

    /// The dead letter that this message becomes, or becomes again.
    pub fn letter(&self, reason: &str, error: &str, now: Time) -> DeadLetter {
        if reason != DeadLetter::UNKNOWN_ORDER {
            self.note(Outcome::Failed, reason, error);
        }
        DeadLetter {
            id: self.letter_id(),
            source: self.source.clone(),
            reason: reason.to_owned(),
            // A parser's words may quote the message, and no database takes every character.
            error: self.remarked(error, reason).replace(char::is_control, "\u{fffd}"),
            body: self.kept_body(reason).into_owned(),
            headers: self.headers.clone(),
            tenant: self.tenant.clone(),
            order_id: self.order_id.clone(),
            first_seen: now,
            last_seen: now,
            attempts: 1,
            kind: self.kind.clone(),
            participant: self.participant.clone(),
            corrects: None,
            closed: None,
        }
    }

    /// The raw bytes. An order with card data is refused because nobody may keep that: it is
    /// not kept in the letter either. What waits for its order is taken in as it came.
    fn kept_body(&self, reason: &str) -> Cow<'_, [u8]> {
        let orders = [Channel::Orders, Channel::Dead].map(|channel| channel.to_string());
        match orders.contains(&self.source) && reason != DeadLetter::UNKNOWN_ORDER {
            true => order::masked(&self.body),
            false => Cow::Borrowed(&self.body),
        }
    }

    fn remarked(&self, error: &str, reason: &str) -> String {
        match self.kept_body(reason) {
            Cow::Owned(_) => format!("{error}; what is kept here of the card data is masked"),
            Cow::Borrowed(_) => error.to_owned(),
        }
    }
}

/// Whether a database takes it as text. No order that was taken in has another name, and the
/// message itself is kept as raw bytes.
fn is_storable(name: &str) -> bool {
    !name.contains('\0')
}

/// What a message says about itself, where it could be read.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub id: Option<String>,
    pub tenant: Option<String>,
    pub order_id: Option<String>,
    pub kind: Option<String>,
    pub participant: Option<String>,
}

impl Named {
    /// By its envelope.
    pub fn by(event: &Event) -> Named {
        Named {
            id: Some(event.id.clone()),
            tenant: event.tenantid.clone(),
            order_id: event.subject.clone(),
            kind: Some(event.kind.clone()),
            participant: None,
        }
    }
}

/// The same bytes from the same place are the same letter, so a redelivery makes no second.
fn letter_id(source: &str, body: &[u8], headers: &str) -> Uuid {
    // A message's own id is part of its headers on every broker; redelivery counters are not.
    let named = serde_json::from_str::<serde_json::Value>(headers).ok();
    let id = named.as_ref().and_then(|headers| headers.get("message-id")?.as_str());
    let seed = EventId::of(source, id.unwrap_or_default()).0;
    Uuid::new_v5(&seed, body)
}
