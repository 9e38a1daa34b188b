//! A small clean world: five orders driven through `decide`, with ledgers written beside them.

use std::collections::VecDeque;
use std::sync::Arc;

use makegood::fixture::auditor::{AuditOptions, AuditReport, audit};
use makegood::fixture::ledger::{
    CommandEntry, Effect as Deed, Entry, Ledger, Movement, OrderEntry, Outcome as Said, ScanEntry,
    Way,
};
use makegood::saga::{
    Backoff, CommandId, Compensation, Definition, Direction, Draft, Effect, EventId, FactSeen,
    Input, Millis, Notice, OrderState, Outcome, Reply, Saga, SagaId, Time, Verdict, Work, decide,
};
use makegood::store::{DeadLetter, JournalRow, OrderRow, Stored};
use uuid::Uuid;

use crate::read_only::ReadOnly;

/// The step that activates the loan.
const LOAN: usize = 6;
const SKU: &str = "SKU-1";
const AMOUNT: i64 = 4_990;
pub const COMPLETED: &str = "o-completed";
pub const COMPENSATED: &str = "o-compensated";
pub const IN_DOUBT: &str = "o-in-doubt";
pub const ON_ITS_WAY: &str = "o-on-its-way";
/// Delivered, and the loan core does not answer: an operator was told.
pub const UNANSWERED: &str = "o-unanswered";

/// Who answers in the play of one order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answering {
    All,
    /// The first command is lost, and its compensation finds nothing.
    AllButTheFirst,
    /// The loan core is down.
    AllButTheLoan,
}

pub struct World {
    definition: Arc<Definition>,
    pub store: ReadOnly,
    ledgers: Vec<(&'static str, Vec<Entry>)>,
    pub now: Time,
    pub may_wait: bool,
}

impl World {
    pub fn new() -> World {
        let names = ["inventory", "wms", "tms", "loan", "mail", "courier-scans", "shop-orders"];
        let mut world = World {
            definition: Arc::new(definition()),
            store: ReadOnly::default(),
            ledgers: names.into_iter().map(|name| (name, Vec::new())).collect(),
            now: Time(1_000_000),
            may_wait: true,
        };
        let delivered = [fact("shipment.in-transit"), fact("shipment.delivered")];
        world.play(COMPLETED, &delivered, Answering::All);
        world.play(COMPENSATED, &[Input::Cancel], Answering::All);
        world.play(IN_DOUBT, &[Input::Cancel], Answering::AllButTheFirst);
        world.play(ON_ITS_WAY, &delivered[..1], Answering::All);
        // Clocks ring until somebody is told, and then the command is sent again.
        let in_vain = [&delivered[..], &[Input::Clock, Input::Clock]].concat();
        world.play(UNANSWERED, &in_vain, Answering::AllButTheLoan);
        world
    }

    /// Drives one order.
    fn play(&mut self, order_id: &str, inputs: &[Input], answering: Answering) {
        let id = SagaId::of("acme", order_id, self.definition.name());
        let mut saga = Saga::created(&self.definition, id);
        let mut journal = Vec::new();
        let mut waiting: VecDeque<Input> = inputs.iter().cloned().collect();
        let mut answers = VecDeque::from([Input::Start]);
        self.emit(order_id);
        while let Some(input) = answers.pop_front().or_else(|| waiting.pop_front()) {
            let clock = matches!(input, Input::Clock).then(|| saga.next_clock()).flatten();
            self.now = clock.unwrap_or_default().max(self.now + Millis::SECOND);
            if let Input::Fact(fact) = &input {
                self.scan(order_id, &fact.kind);
            }
            let at = self.now; // participants take a while, so time has passed when it is stored
            let transition = decide(&self.definition, &saga, &input, at);
            assert_eq!(transition.verdict, Verdict::Applied, "{input:?}");
            saga = transition.saga;
            if input == Input::Clock && saga.attention.is_empty() {
                waiting.push_front(Input::Clock); // until somebody is told
            }
            for effect in &transition.effects {
                if let Effect::Notify { notice } = *effect {
                    self.notify(order_id, id, notice);
                }
                let Effect::Send { step, direction, generation, .. } = *effect else { continue };
                let unknown = answering == Answering::AllButTheFirst;
                if !unknown || direction == Direction::Compensate {
                    if answering == Answering::AllButTheLoan && step == LOAN {
                        continue;
                    }
                    answers.extend(self.obey(order_id, id, step, (direction, generation), unknown));
                }
            }
            let version = u32::try_from(journal.len() + 1).unwrap();
            journal.push(JournalRow {
                version,
                moment: at.into(),
                input,
                effects: transition.effects,
            });
        }
        let version = u32::try_from(journal.len()).unwrap();
        let due = saga.next_clock();
        let order = Arc::new(order_row(order_id, &saga));
        self.store.sagas.push((Stored { saga, version, due, order }, journal));
    }

    /// Somebody tells the customer, and writes it down.
    fn notify(&mut self, order_id: &str, saga: SagaId, notice: usize) {
        let notice = &self.definition.notices()[notice];
        let entry = CommandEntry {
            seq: 0,
            at_ms: self.now.0,
            command: notice.command.clone(),
            command_id: CommandId::of_notice(saga, notice).0,
            saga_id: saga.0,
            order_id: order_id.to_owned(),
            tenant_id: "acme".to_owned(),
            step: format!("notice.{}", notice.on.as_str()),
            direction: Way::Forward,
            generation: 1,
            attempt: 1,
            payload_hash: 1,
            compensates: None,
            outcome: Said::Success,
            code: None,
            repeated: false,
            applied: true,
            effect: None,
            data: None,
        };
        self.ledger("mail").push(Entry::Command(entry));
    }

    /// A participant takes a command, writes it down, and answers.
    fn obey(
        &mut self,
        order_id: &str,
        saga: SagaId,
        step: usize,
        (direction, generation): (Direction, u16),
        unknown: bool,
    ) -> Option<Input> {
        let definition = self.definition.clone();
        let step = &definition.steps()[step];
        let (participant, command) = step.command(direction)?;
        let forward = direction == Direction::Forward;
        let id = CommandId::of(saga, &step.name, direction, generation);
        let undoes = CommandId::of(saga, &step.name, Direction::Forward, 1);
        let nothing = unknown && step.is_command();
        self.now = self.now + Millis::SECOND;
        let entry = CommandEntry {
            seq: 0,
            at_ms: self.now.0,
            command: command.to_owned(),
            command_id: id.0,
            saga_id: saga.0,
            order_id: order_id.to_owned(),
            tenant_id: "acme".to_owned(),
            step: step.name.clone(),
            direction: if forward { Way::Forward } else { Way::Compensate },
            generation,
            attempt: 1,
            payload_hash: 1,
            compensates: (!forward && step.is_command()).then_some(undoes.0),
            outcome: if nothing { Said::NothingToDo } else { Said::Success },
            code: None,
            repeated: false,
            applied: !nothing,
            effect: if nothing { None } else { effect(command, order_id) },
            data: None,
        };
        let name = self.ledgers.iter().find(|(name, _)| *name == participant).unwrap().0;
        self.ledger(name).push(Entry::Command(entry));
        let outcome = if nothing { Outcome::NothingToDo } else { Outcome::Success };
        Some(Input::Reply(Reply { command: id, from: None, outcome, data: None }))
    }

    pub fn scan(&mut self, order_id: &str, kind: &str) {
        let scan = ScanEntry {
            seq: 0,
            at_ms: self.now.0,
            event_id: scan_of(order_id, kind),
            order_id: order_id.to_owned(),
            tenant_id: "acme".to_owned(),
            shipment_id: format!("SHP-{order_id}"),
            kind: kind.to_owned(),
        };
        self.ledger("courier-scans").push(Entry::Scan(scan));
    }

    /// An order that the shop emitted and nobody has a saga of.
    pub fn emit(&mut self, order_id: &str) {
        let order = OrderEntry {
            seq: 0,
            at_ms: self.now.0,
            order_id: order_id.to_owned(),
            tenant_id: "acme".to_owned(),
        };
        self.ledger("shop-orders").push(Entry::Order(order));
    }

    pub fn lose_ledger(&mut self, name: &str) {
        self.ledgers.retain(|(known, _)| *known != name);
    }

    pub fn saga(&self, order_id: &str) -> SagaId {
        SagaId::of("acme", order_id, self.definition.name())
    }

    pub fn ledger(&mut self, name: &'static str) -> &mut Vec<Entry> {
        let found = self.ledgers.iter_mut().find(|(known, _)| *known == name);
        &mut found.expect("one of the ledgers").1
    }

    pub fn entry(&mut self, ledger: &'static str, order_id: &str, way: Way) -> &mut CommandEntry {
        let commands = self.ledger(ledger).iter_mut().filter_map(|entry| match entry {
            Entry::Command(entry) => Some(entry),
            _ => None,
        });
        let mut wanted = commands.filter(|e| e.order_id == order_id && e.direction == way);
        wanted.next().expect("the world has such an entry")
    }

    pub fn forget(&mut self, ledger: &'static str, order_id: &str, way: Way) {
        let id = self.entry(ledger, order_id, way).command_id;
        self.ledger(ledger).retain(|e| !matches!(e, Entry::Command(c) if c.command_id == id));
    }

    /// The first forward command of an order once more, changed a little.
    pub fn repeat(
        &mut self,
        ledger: &'static str,
        order_id: &str,
        change: impl FnOnce(&mut CommandEntry),
    ) {
        let mut again = self.entry(ledger, order_id, Way::Forward).clone();
        change(&mut again);
        self.ledger(ledger).push(Entry::Command(again));
    }

    fn row(&mut self, order_id: &str) -> &mut (Stored, Vec<JournalRow>) {
        let found = self.store.sagas.iter_mut().find(|(s, _)| s.order.order_id == order_id);
        found.expect("one of the orders")
    }

    pub fn stored(&mut self, order_id: &str) -> &mut Stored {
        &mut self.row(order_id).0
    }

    pub fn journal(&mut self, order_id: &str) -> &mut Vec<JournalRow> {
        &mut self.row(order_id).1
    }

    pub fn audit(mut self) -> AuditReport {
        let directory = tempfile::tempdir().unwrap();
        for (name, entries) in &mut self.ledgers {
            let mut ledger = Ledger::open(directory.path(), name, false, |_| ()).unwrap();
            ledger.append(entries).unwrap();
        }
        let definition = self.definition.clone();
        let find = move |name: &str, version: u32| {
            let known = name == definition.name() && version == definition.version();
            known.then(|| definition.clone())
        };
        let options = AuditOptions { now: self.now, may_wait: self.may_wait, clocks_fire: true };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(audit(&self.store, &find, directory.path(), options)).unwrap()
    }
}

fn fact(kind: &str) -> Input {
    Input::Fact(FactSeen { kind: kind.into(), event: EventId::of("/couriers/simulated", kind) })
}

/// The id of a scan's event.
pub fn scan_of(order_id: &str, kind: &str) -> Uuid {
    EventId::of(order_id, kind).0
}

/// The dead letter that this message of the outside became.
pub fn letter(event: Uuid, tenant: &str, order_id: &str, reason: &str) -> DeadLetter {
    DeadLetter {
        id: Uuid::from_u128(9),
        source: "orders".to_owned(),
        reason: reason.to_owned(),
        error: "for a reason".to_owned(),
        body: b"{".to_vec(),
        headers: serde_json::json!({ "message-id": event.to_string() }).to_string(),
        tenant: Some(tenant.to_owned()),
        order_id: Some(order_id.to_owned()),
        first_seen: Time(0),
        last_seen: Time(0),
        attempts: 1,
        kind: None,
        participant: None,
        corrects: None,
        closed: None,
    }
}

pub fn moved(quantity: i64) -> Deed {
    Deed::Stock(vec![Movement { sku: SKU.to_owned(), quantity }])
}

fn effect(command: &str, order_id: &str) -> Option<Deed> {
    let (shipment_id, loan_id) = (format!("SHP-{order_id}"), format!("L-{order_id}"));
    Some(match command {
        "inventory.reserve" => moved(-2),
        "inventory.release" => moved(2),
        "tms.dispatch" => Deed::Booked { shipment_id },
        "tms.cancel-shipment" => Deed::CalledOff { shipment_id },
        "loan.activate" => Deed::Activated { loan_id, amount_minor: AMOUNT },
        "loan.reverse" => Deed::Reversed { loan_id, amount_minor: AMOUNT },
        _ => return None,
    })
}

fn order_row(order_id: &str, saga: &Saga) -> OrderRow {
    let payload = serde_json::json!({
        "order_id": order_id,
        "tenant_id": "acme",
        "loan": { "loan_id": format!("L-{order_id}"), "amount_minor": AMOUNT },
        "lines": [{ "line_id": "1", "sku": SKU, "quantity": 2 }],
    });
    OrderRow {
        saga: saga.id,
        tenant: "acme".to_owned(),
        order_id: order_id.to_owned(),
        definition: "order-fulfilment".to_owned(),
        definition_version: 1,
        received_at: saga.started_at,
        traceparent: String::new(),
        payload: payload.to_string().into_bytes(),
    }
}

/// The shipped definition, but for its times.
fn definition() -> Definition {
    let resend = Backoff { initial: Millis::SECOND, factor: 2.0, max: Millis::MINUTE, jitter: 0.0 };
    let command = |participant: &str, command: &str| Work::Command {
        participant: participant.to_owned(),
        command: command.to_owned(),
        resend,
        give_up: Millis::HOUR,
        probe: false,
    };
    let undo = |participant: &str, command: &str| Compensation {
        participant: participant.to_owned(),
        command: command.to_owned(),
        after: Default::default(),
        resend,
        give_up: Millis::HOUR,
        needs: None,
    };
    let step = |name: &str, after: &[&str], work: Work| Draft {
        name: name.to_owned(),
        after: after.iter().map(|name| (*name).to_owned()).collect(),
        work,
        compensation: None,
        pivot: false,
        deadline: Some(Millis::DAY),
        needs: None,
        reaches: None,
        shipment: None,
    };
    let facts = |kinds: &[&str]| Work::Facts {
        completes_on: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        fails_on: None,
        attempts: 1,
    };
    let mut drafts = vec![
        step("financed", &[], Work::Obligation),
        step("reserve", &[], command("inventory", "inventory.reserve")),
        step("pick", &["reserve"], command("wms", "wms.pick")),
        step("dispatch", &["pick"], command("tms", "tms.dispatch")),
        step("hand-over", &["dispatch"], facts(&["shipment.in-transit", "shipment.delivered"])),
        step("deliver", &["hand-over"], facts(&["shipment.delivered"])),
        step("activate-loan", &["deliver"], command("loan", "loan.activate")),
    ];
    let goods = Some(vec!["pick".to_owned(), "dispatch".to_owned()]);
    drafts[0].compensation = Some((undo("loan", "loan.reverse"), goods));
    drafts[1].compensation = Some((undo("inventory", "inventory.release"), None));
    drafts[2].compensation = Some((undo("wms", "wms.cancel-pick"), None));
    drafts[3].compensation = Some((undo("tms", "tms.cancel-shipment"), None));
    drafts[4].pivot = true;
    drafts[1].reaches = Some(OrderState::Confirmed);
    let notice = |on: OrderState| Notice {
        on,
        participant: "mail".to_owned(),
        command: format!("mail.{}", on.as_str()),
        needs: None,
    };
    let notices = vec![notice(OrderState::Confirmed), notice(OrderState::Completed)];
    let (starts_on, cancels_on) = ("order.created".into(), Some("order.cancel-requested".into()));
    Definition::new("order-fulfilment".into(), 1, starts_on, cancels_on, drafts, notices).unwrap()
}
