//! The auditor finds nothing in a clean world, and in a broken one it names exactly the rule
//! that was broken. The world is small: four orders driven through `decide`, with ledgers
//! written beside them, and a store that only knows how to be read.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use makegood::fixture::auditor::{AuditOptions, AuditReport, Rule, audit};
use makegood::fixture::ledger::{
    CommandEntry, Effect as Deed, Entry, Ledger, Movement, OrderEntry, Outcome as Said, ScanEntry,
    Way,
};
use makegood::saga::{
    Backoff, CommandId, Compensation, Definition, Direction, Draft, Effect, EventId, FactSeen,
    Input, Millis, Outcome, Reply, Saga, SagaId, Status, Time, Verdict, Work, decide,
};
use makegood::store::{
    Change, Counts, DeadLetter, DefinitionRow, Filter, JournalRow, OrderRow, OutboxKey, OutboxRow,
    Published, Store, StoreError, Stored, Written,
};
use uuid::Uuid;

const SKU: &str = "SKU-1";
const AMOUNT: i64 = 4_990;

/// Runs the audit on a world that `break_it` has had its hands on.
fn audited(break_it: impl FnOnce(&mut World)) -> AuditReport {
    let mut world = World::new();
    break_it(&mut world);
    world.audit()
}

/// The one rule that is broken; fails when there are several.
fn broken_rule(break_it: impl FnOnce(&mut World)) -> Rule {
    let report = audited(break_it);
    let mut rules: Vec<Rule> = report.findings.iter().map(|finding| finding.rule).collect();
    rules.dedup();
    assert_eq!(rules.len(), 1, "{report}");
    rules[0]
}

#[test]
fn a_clean_world_passes() {
    let report = audited(|_| ());
    assert!(report.is_clean(), "{report}");
    assert_eq!(
        (report.sagas, report.completed, report.compensated, report.unfinished),
        (4, 1, 2, 1)
    );
    assert_eq!((report.applied, report.undone), (10, 5));
    assert!(report.to_string().starts_with("audit passed: 4 sagas"), "{report}");
}

#[test]
fn a_command_that_took_effect_twice() {
    let rule = broken_rule(|world| world.repeat("inventory", COMPLETED, |_| ()));
    assert_eq!(rule, Rule::AppliedTwice);
}

#[test]
fn a_second_generation_while_the_first_stands() {
    let rule = broken_rule(|world| {
        world.repeat("wms", COMPLETED, |again| {
            again.command_id = Uuid::from_u128(7);
            again.generation = 2;
        });
    });
    assert_eq!(rule, Rule::AppliedTwice);
}

#[test]
fn an_effect_that_was_never_undone() {
    let rule = broken_rule(|world| world.forget("inventory", COMPENSATED, Way::Compensate));
    assert_eq!(rule, Rule::NotMadeGood);
}

#[test]
fn an_obligation_that_was_forgotten() {
    let rule = broken_rule(|world| world.forget("loan", COMPENSATED, Way::Compensate));
    assert_eq!(rule, Rule::NotMadeGood);
}

#[test]
fn a_compensation_of_something_that_never_was() {
    let rule = broken_rule(|world| world.forget("inventory", COMPENSATED, Way::Forward));
    assert_eq!(rule, Rule::UnfoundedCompensation);
}

#[test]
fn a_command_applied_after_its_compensation() {
    let rule = broken_rule(|world| {
        let forward = CommandId::of(world.saga(IN_DOUBT), "reserve", Direction::Forward, 1).0;
        let mut late = world.entry("inventory", COMPLETED, Way::Forward).clone();
        late.command_id = forward;
        late.saga_id = world.saga(IN_DOUBT).0;
        late.order_id = IN_DOUBT.to_owned();
        world.ledger("inventory").push(Entry::Command(late));
    });
    assert_eq!(rule, Rule::UnfoundedCompensation);
}

#[test]
fn money_back_before_the_goods_are_safe() {
    let rule = broken_rule(|world| {
        let early = world.entry("wms", COMPENSATED, Way::Compensate).at_ms - 1;
        world.entry("loan", COMPENSATED, Way::Compensate).at_ms = early;
    });
    assert_eq!(rule, Rule::CompensationOrder);
}

#[test]
fn a_compensation_past_the_pivot() {
    let rule = broken_rule(|world| {
        let mut undo = world.entry("tms", COMPENSATED, Way::Compensate).clone();
        undo.compensates = Some(world.entry("tms", ON_ITS_WAY, Way::Forward).command_id);
        undo.command_id = Uuid::from_u128(8);
        undo.saga_id = world.saga(ON_ITS_WAY).0;
        undo.order_id = ON_ITS_WAY.to_owned();
        undo.at_ms = world.now.0 + 1_000;
        world.ledger("tms").push(Entry::Command(undo));
    });
    assert_eq!(rule, Rule::PastPivot);
}

#[test]
fn a_completed_order_that_nobody_dispatched() {
    let rule = broken_rule(|world| world.forget("tms", COMPLETED, Way::Forward));
    assert_eq!(rule, Rule::Incomplete);
}

#[test]
fn less_stock_came_back_than_left() {
    let rule = broken_rule(|world| {
        let effect = &mut world.entry("inventory", COMPENSATED, Way::Compensate).effect;
        *effect = Some(moved(1));
    });
    assert_eq!(rule, Rule::Stock);
}

#[test]
fn another_amount_was_reversed() {
    let rule = broken_rule(|world| {
        let effect = &mut world.entry("loan", COMPENSATED, Way::Compensate).effect;
        *effect = Some(Deed::Reversed { loan_id: format!("L-{COMPENSATED}"), amount_minor: 1 });
    });
    assert_eq!(rule, Rule::Loan);
}

#[test]
fn a_loan_of_an_order_that_was_not_delivered() {
    let rule = broken_rule(|world| {
        let is_delivery =
            |e: &Entry| matches!(e, Entry::Scan(scan) if scan.kind == "shipment.delivered");
        world.ledger("courier-scans").retain(|entry| !is_delivery(entry));
    });
    assert_eq!(rule, Rule::Loan);
}

#[test]
fn a_shipment_that_was_not_called_off() {
    let rule = broken_rule(|world| world.entry("tms", COMPENSATED, Way::Compensate).effect = None);
    assert_eq!(rule, Rule::Transport);
}

#[test]
fn a_key_that_came_with_another_order() {
    let rule = broken_rule(|world| {
        world.repeat("wms", COMPLETED, |again| {
            (again.applied, again.repeated, again.payload_hash) = (false, true, 99);
        });
    });
    assert_eq!(rule, Rule::KeyReused);
}

#[test]
fn a_saga_that_nobody_looks_after() {
    let no_clock = broken_rule(|world| world.stored(ON_ITS_WAY).due = None);
    assert_eq!(no_clock, Rule::Stuck);
    let nobody_told = broken_rule(|world| world.may_wait = false);
    assert_eq!(nobody_told, Rule::Stuck);
}

#[test]
fn a_message_that_was_never_published() {
    assert_eq!(broken_rule(|world| world.store.outbox = 1), Rule::Outbox);
}

#[test]
fn a_clock_that_is_overdue() {
    assert_eq!(broken_rule(|world| world.now = world.now + Millis::DAY.times(99)), Rule::Timer);
}

#[test]
fn a_journal_that_does_not_tell_the_saga() {
    let gap = broken_rule(|world| drop(world.journal(COMPLETED).remove(1)));
    assert_eq!(gap, Rule::Journal);
    let end = broken_rule(|world| drop(world.journal(COMPLETED).pop()));
    assert_eq!(end, Rule::Journal);
    let effects = broken_rule(|world| world.journal(COMPLETED)[0].effects.clear());
    assert_eq!(effects, Rule::Journal);
    let state = broken_rule(|world| world.stored(COMPLETED).saga.steps[1].generation = 9);
    assert_eq!(state, Rule::Journal);
}

#[test]
fn commands_and_orders_without_a_saga() {
    let lost =
        broken_rule(|world| world.store.sagas.retain(|(s, _)| s.order.order_id != COMPLETED));
    assert_eq!(lost, Rule::NoSaga);
    let never_begun = broken_rule(|world| {
        let order = OrderEntry {
            seq: 0,
            at_ms: 0,
            order_id: "unheard-of".into(),
            tenant_id: "acme".into(),
        };
        world.ledger("shop-orders").push(Entry::Order(order));
    });
    assert_eq!(never_begun, Rule::NoSaga);
}

#[test]
fn a_definition_that_is_gone() {
    let rule = broken_rule(|world| {
        let mut order = (*world.stored(COMPLETED).order).clone();
        order.definition_version = 2;
        world.stored(COMPLETED).order = Arc::new(order);
    });
    assert_eq!(rule, Rule::Definition);
}

#[test]
fn a_report_is_json_as_well() {
    let report = audited(|world| world.store.outbox = 3);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["findings"][0]["rule"], "outbox");
    assert_eq!(json["sagas"], 4);
    assert!(report.to_string().contains("FAILED, 1 finding"), "{report}");
}

const COMPLETED: &str = "o-completed";
const COMPENSATED: &str = "o-compensated";
const IN_DOUBT: &str = "o-in-doubt";
const ON_ITS_WAY: &str = "o-on-its-way";

struct World {
    definition: Arc<Definition>,
    store: ReadOnly,
    ledgers: Vec<(&'static str, Vec<Entry>)>,
    now: Time,
    may_wait: bool,
}

impl World {
    fn new() -> World {
        let names = ["inventory", "wms", "tms", "loan", "courier-scans", "shop-orders"];
        let mut world = World {
            definition: Arc::new(definition()),
            store: ReadOnly::default(),
            ledgers: names.into_iter().map(|name| (name, Vec::new())).collect(),
            now: Time(1_000_000),
            may_wait: true,
        };
        world.play(COMPLETED, &[fact("shipment.in-transit"), fact("shipment.delivered")], true);
        world.play(COMPENSATED, &[Input::Cancel], true);
        world.play(IN_DOUBT, &[Input::Cancel], false);
        world.play(ON_ITS_WAY, &[fact("shipment.in-transit")], true);
        world
    }

    /// Drives one order; participants answer every command, but for the first one when
    /// `first_answered` is false.
    fn play(&mut self, order_id: &str, inputs: &[Input], first_answered: bool) {
        let id = SagaId::of("acme", order_id, self.definition.name());
        let mut saga = Saga::created(&self.definition, id);
        let mut journal = Vec::new();
        let mut waiting: VecDeque<Input> = inputs.iter().cloned().collect();
        let mut answers = VecDeque::from([Input::Start]);
        let order = OrderEntry {
            seq: 0,
            at_ms: self.now.0,
            order_id: order_id.to_owned(),
            tenant_id: "acme".to_owned(),
        };
        self.ledger("shop-orders").push(Entry::Order(order));
        while let Some(input) = answers.pop_front().or_else(|| waiting.pop_front()) {
            self.now = self.now + Millis::SECOND;
            if let Input::Fact(fact) = &input {
                self.scan(order_id, &fact.kind);
            }
            let at = self.now; // participants take a while, so time has passed when it is stored
            let transition = decide(&self.definition, &saga, &input, at);
            assert_eq!(transition.verdict, Verdict::Applied, "{input:?}");
            saga = transition.saga;
            for effect in &transition.effects {
                let Effect::Send { step, direction, generation, .. } = *effect else { continue };
                if first_answered || direction == Direction::Compensate {
                    let unknown = !first_answered;
                    answers.extend(self.obey(order_id, id, step, (direction, generation), unknown));
                }
            }
            let version = u32::try_from(journal.len() + 1).unwrap();
            journal.push(JournalRow { version, at, input, effects: transition.effects });
        }
        let version = u32::try_from(journal.len()).unwrap();
        let due = saga.next_clock();
        let order = Arc::new(order_row(order_id, &saga));
        self.store.sagas.push((Stored { saga, version, due, order }, journal));
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

    fn scan(&mut self, order_id: &str, kind: &str) {
        let scan = ScanEntry {
            seq: 0,
            at_ms: self.now.0,
            event_id: Uuid::from_u128(5),
            order_id: order_id.to_owned(),
            tenant_id: "acme".to_owned(),
            shipment_id: format!("SHP-{order_id}"),
            kind: kind.to_owned(),
        };
        self.ledger("courier-scans").push(Entry::Scan(scan));
    }

    fn saga(&self, order_id: &str) -> SagaId {
        SagaId::of("acme", order_id, self.definition.name())
    }

    fn ledger(&mut self, name: &'static str) -> &mut Vec<Entry> {
        let found = self.ledgers.iter_mut().find(|(known, _)| *known == name);
        &mut found.expect("one of the ledgers").1
    }

    fn entry(&mut self, ledger: &'static str, order_id: &str, way: Way) -> &mut CommandEntry {
        let commands = self.ledger(ledger).iter_mut().filter_map(|entry| match entry {
            Entry::Command(entry) => Some(entry),
            _ => None,
        });
        let mut wanted = commands.filter(|e| e.order_id == order_id && e.direction == way);
        wanted.next().expect("the world has such an entry")
    }

    fn forget(&mut self, ledger: &'static str, order_id: &str, way: Way) {
        let id = self.entry(ledger, order_id, way).command_id;
        self.ledger(ledger).retain(|e| !matches!(e, Entry::Command(c) if c.command_id == id));
    }

    /// The first forward command of an order once more, changed a little.
    fn repeat(
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
        found.expect("one of the four orders")
    }

    fn stored(&mut self, order_id: &str) -> &mut Stored {
        &mut self.row(order_id).0
    }

    fn journal(&mut self, order_id: &str) -> &mut Vec<JournalRow> {
        &mut self.row(order_id).1
    }

    fn audit(mut self) -> AuditReport {
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
        let options = AuditOptions { now: self.now, may_wait: self.may_wait };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(audit(&self.store, &find, directory.path(), options)).unwrap()
    }
}

fn fact(kind: &str) -> Input {
    Input::Fact(FactSeen { kind: kind.into(), event: EventId::of("/couriers/simulated", kind) })
}

fn moved(quantity: i64) -> Deed {
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
    };
    let facts = |kinds: &[&str]| Work::Facts {
        completes_on: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        fails_on: None,
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
    let (starts_on, cancels_on) = ("order.created".into(), Some("order.cancel-requested".into()));
    Definition::new("order-fulfilment".into(), 1, starts_on, cancels_on, drafts).unwrap()
}

/// A store that knows only what an auditor asks.
#[derive(Default)]
struct ReadOnly {
    sagas: Vec<(Stored, Vec<JournalRow>)>,
    outbox: u64,
}

#[async_trait]
impl Store for ReadOnly {
    async fn list(
        &self,
        _: &Filter,
        after: Option<SagaId>,
        limit: usize,
    ) -> Result<Vec<Stored>, StoreError> {
        let mut page: Vec<Stored> = self.sagas.iter().map(|(stored, _)| stored.clone()).collect();
        page.sort_by_key(|stored| stored.saga.id);
        page.retain(|stored| after.is_none_or(|after| stored.saga.id > after));
        page.truncate(limit.min(2)); // small pages, so that there are several
        Ok(page)
    }

    async fn journal(&self, saga: SagaId) -> Result<Vec<JournalRow>, StoreError> {
        let found = self.sagas.iter().find(|(stored, _)| stored.saga.id == saga);
        Ok(found.map(|(_, journal)| journal.clone()).unwrap_or_default())
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        let of = |status| {
            let sagas = self.sagas.iter().filter(|(stored, _)| stored.saga.status == status);
            (status, sagas.count() as u64)
        };
        let sagas = Status::ALL.into_iter().map(of).collect();
        Ok(Counts { sagas, outbox: self.outbox, ..Counts::default() })
    }

    async fn next_due(&self) -> Result<Option<Time>, StoreError> {
        Ok(self.sagas.iter().filter_map(|(stored, _)| stored.due).min())
    }

    async fn dead_letters(&self, _: usize) -> Result<Vec<DeadLetter>, StoreError> {
        Ok(Vec::new())
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        never()
    }
    async fn check(&self) -> Result<(), StoreError> {
        never()
    }
    async fn now(&self) -> Result<Time, StoreError> {
        never()
    }
    async fn publish_definition(&self, _: &DefinitionRow) -> Result<Published, StoreError> {
        never()
    }
    async fn definitions(&self) -> Result<Vec<DefinitionRow>, StoreError> {
        never()
    }
    async fn load(&self, _: &[SagaId]) -> Result<Vec<Stored>, StoreError> {
        never()
    }
    async fn commit(&self, _: &[Change]) -> Result<Vec<Written>, StoreError> {
        never()
    }
    async fn claim_due(&self, _: Time, _: Time, _: usize) -> Result<Vec<SagaId>, StoreError> {
        never()
    }
    async fn reschedule(&self, _: &[(SagaId, u32, Option<Time>)]) -> Result<(), StoreError> {
        never()
    }
    async fn claim_outbox(&self, _: Time, _: Time, _: usize) -> Result<Vec<OutboxRow>, StoreError> {
        never()
    }
    async fn delete_outbox(&self, _: &[OutboxKey]) -> Result<(), StoreError> {
        never()
    }
    async fn bury(&self, _: &[DeadLetter]) -> Result<(), StoreError> {
        never()
    }
    async fn parked(&self, _: &[(String, String)]) -> Result<Vec<DeadLetter>, StoreError> {
        never()
    }
    async fn find(&self, _: &str, _: Option<&str>) -> Result<Vec<Stored>, StoreError> {
        never()
    }
    async fn latest_time(&self) -> Result<Option<Time>, StoreError> {
        never()
    }
    async fn close(&self) {}
}

fn never<T>() -> T {
    panic!("an auditor only reads what it must, and changes nothing")
}
