//! The contract as it is written, and what the kit sends, against what a worker sends.

use std::collections::BTreeSet;

use std::sync::Arc;

use bytes::Bytes;
use libtest_mimic::{Failed, Trial};
use makegood::broker::Event;
use makegood::catalog::load;
use makegood::clock::{SystemClock, from_rfc3339};
use makegood::fixture::kit::{Case, Material, RULES, Reply, Subject, Wanted, Writer};
use makegood::saga::{
    CommandId, Definition, Direction, Effect, Input, Outcome, Saga, SagaId, Time, decide,
};
use makegood::store::OrderRow;
use makegood::worker::message::{Setting, postings};
use serde_json::{Value, json};

use crate::world::definition;

/// The document that is given to those who write a service.
const CONTRACT: &str = include_str!("../../docs/participants.md");
/// What a picker hands back.
const PICKED: &str = r#"{"parcels":1}"#;

pub fn trials() -> Vec<Trial> {
    let trial = |name: &str, case: fn()| {
        let run = move || -> Result<(), Failed> {
            case();
            Ok(())
        };
        Trial::test(format!("contract::{name}"), run)
    };
    vec![
        trial("its_examples_are_what_a_worker_sends", its_examples_are_what_a_worker_sends),
        trial(
            "every_rule_has_a_section_and_a_line_in_it",
            every_rule_has_a_section_and_a_line_in_it,
        ),
        trial("its_answers_can_be_read", its_answers_can_be_read),
        trial("the_kit_sends_what_a_worker_sends", the_kit_sends_what_a_worker_sends),
    ]
}

/// A worker's words about one order, from its first step to a probe.
struct Words {
    definition: Definition,
    order: OrderRow,
    saga: Saga,
}

impl Words {
    fn new(definition: Definition, order_id: &str, tenant: &str, payload: &Value) -> Words {
        let saga = SagaId::of(tenant, order_id, definition.name());
        let order = OrderRow {
            saga,
            tenant: tenant.to_owned(),
            order_id: order_id.to_owned(),
            definition: definition.name().to_owned(),
            definition_version: definition.version(),
            received_at: now(),
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
            payload: payload.to_string().into(),
        };
        let saga = Saga::created(&definition, saga);
        Words { definition, order, saga }
    }

    fn decide(&mut self, input: &Input) {
        self.saga = decide(&self.definition, &self.saga, input, now()).saga;
    }

    /// The first command of this step was done.
    fn done(&mut self, step: &str, data: Option<&str>) {
        let command = CommandId::of(self.saga.id, step, Direction::Forward, 1);
        let data = data.map(Into::into);
        let outcome = Outcome::Success;
        self.decide(&Input::Reply(makegood::saga::Reply { command, from: None, outcome, data }));
    }

    fn said(&self, effect: Effect) -> Event {
        let setting = Setting {
            source: "/makegood/eu-1",
            definition: &self.definition,
            order: &self.order,
            saga: &self.saga,
            version: 3,
            now: now(),
            claimed_until: now(),
            cause: Some("3f2a1c9e-7d44-4b0c-9a3e-5d1f0f6f2b11"),
        };
        postings(&setting, &[effect]).remove(0).message.event
    }

    fn sends(&self, step: &str, direction: Direction) -> Event {
        let step = self.definition.step_named(step).expect("a step");
        self.said(Effect::Send { step, direction, generation: 1, attempt: 1 })
    }

    fn asks(&self, step: &str) -> Event {
        let step = self.definition.step_named(step).expect("a step");
        self.said(Effect::Probe { step, generation: 1 })
    }
}

fn now() -> Time {
    from_rfc3339("2026-03-02T09:14:07.25Z").expect("RFC 3339")
}

fn payload() -> Value {
    json!({
        "order_id": "o-1001", "tenant_id": "acme", "placed_at": "2026-03-02T09:00:00Z",
        "currency": "EUR", "loan": { "loan_id": "L-77", "amount_minor": 5000 },
        "lines": [{ "line_id": "1", "sku": "A-1", "quantity": 1, "unit_price_minor": 5000 }],
        "ship_to": { "postal_code": "10115", "city": "Berlin", "region": "BE", "country": "DE" },
    })
}

/// All JSON blocks of the document.
fn blocks() -> Vec<Value> {
    let after = CONTRACT.split("```json\n").skip(1);
    let texts = after.map(|rest| rest.split("```").next().expect("a block ends"));
    texts
        .map(|text| serde_json::from_str(text).unwrap_or_else(|e| panic!("{e} in {text}")))
        .collect()
}

fn its_examples_are_what_a_worker_sends() {
    let mut words = Words::new(definition().definition, "o-1001", "acme", &payload());
    words.decide(&Input::Start);
    words.done("reserve", Some(r#"{"warehouse":"BER-2"}"#));
    let pick = words.sends("pick", Direction::Forward);
    words.done("pick", Some(PICKED));
    let cancel = words.sends("pick", Direction::Compensate);
    let probe = words.asks("pick");
    let blocks = blocks();
    for event in [pick, cancel, probe] {
        let sent: Value = serde_json::from_slice(&event.to_json()).expect("JSON");
        assert!(blocks.contains(&sent), "the contract does not show this:\n{sent:#}");
    }
}

fn every_rule_has_a_section_and_a_line_in_it() {
    let headings: Vec<String> = CONTRACT
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|line| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-"))
        .collect();
    let mut names: Vec<&str> = Vec::new();
    for rule in RULES.iter().flat_map(|group| group.iter()) {
        assert!(!names.contains(&rule.name), "{} is there twice", rule.name);
        names.push(rule.name);
        assert!(headings.iter().any(|heading| heading == rule.section), "{}", rule.section);
        assert!(CONTRACT.contains(&format!("| `{}` | ", rule.name)), "{} is not told", rule.name);
    }
}

fn its_answers_can_be_read() {
    let answers =
        blocks().into_iter().filter(|block| block["type"].as_str().is_some_and(is_answer));
    let mut outcomes = Vec::new();
    for answer in answers {
        let read = Reply::read(&Bytes::from(answer.to_string()), &Default::default());
        let reply = read.unwrap_or_else(|why| panic!("{why} in {answer:#}"));
        assert_eq!(reply.event.source, "/participants/wms");
        assert!(reply.command_id.is_some() && reply.saga_id.is_some());
        outcomes.push(reply.outcome.or(reply.state).expect("an outcome or a state"));
    }
    assert_eq!(outcomes, ["success", "rejected", "applied"]);
}

fn is_answer(kind: &str) -> bool {
    kind.ends_with(".replied.v1")
}

/// Data and attributes alike, but for who sends it when, and why.
fn the_kit_sends_what_a_worker_sends() {
    let with_all =
        include_str!("../../sagas/order-fulfilment.toml").replace("needs = [\"lines\"]", "");
    let with_all = load("all.toml", &with_all).expect("it is good").definition;
    for definition in [definition().definition, with_all] {
        let participants: BTreeSet<&str> = definition.commands().map(|(name, _)| name).collect();
        for participant in participants {
            for subject in Subject::all(&definition, participant) {
                alike(&definition, &subject);
            }
        }
    }
}

fn alike(definition: &Definition, subject: &Subject) {
    let material = Material::default();
    let case = Case::new(subject, &material.tenant);
    let mut payload = serde_json::to_value(&material.order).expect("JSON");
    payload["order_id"] = case.order_id.clone().into();
    payload["tenant_id"] = material.tenant.clone().into();
    let mut words = Words::new(definition.clone(), &case.order_id, &material.tenant, &payload);
    words.decide(&Input::Start);
    let before = ["reserve", "pick", "dispatch"].into_iter().take_while(|s| *s != subject.step);
    before.for_each(|step| words.done(step, None));
    let writer =
        Writer { clock: Arc::new(SystemClock::default()), address: "asker".to_owned(), material };
    let own: Value = serde_json::from_str(PICKED).expect("JSON");
    let mut undo = Wanted { undoes: None, ..Wanted::undo(1, 1) };
    if subject.command.is_some() {
        let command = writer.command(subject, &case, &Wanted::forward(1));
        same(&words.sends(&subject.step, Direction::Forward), &command.event);
        same(&words.asks(&subject.step), &writer.probe(subject, &case).event);
        words.done(&subject.step, Some(PICKED));
        undo = Wanted { result: Some(&own), ..Wanted::undo(1, 1) };
    }
    if subject.compensation.is_some() {
        let compensation = writer.command(subject, &case, &undo);
        same(&words.sends(&subject.step, Direction::Compensate), &compensation.event);
    }
}

fn same(worker: &Event, kit: &Event) {
    let comparable = |event: &Event| {
        let mut event = serde_json::to_value(event).expect("JSON");
        let attributes = event.as_object_mut().expect("an object");
        for other in ["source", "time", "traceparent", "causationid", "sequence"] {
            attributes.remove(other);
        }
        if event["type"].as_str().is_some_and(|kind| kind.ends_with(".status.v1")) {
            event["id"] = Value::Null; // of a probe it says nothing
        }
        event
    };
    assert_eq!(comparable(worker), comparable(kit));
}
