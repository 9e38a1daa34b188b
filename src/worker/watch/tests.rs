//! What a look sees, and whose turn it is to look.

use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::broker::memory::MemoryBroker;
use crate::clock::SimulatedClock;
use crate::saga::{
    Attention, AttentionCode, Input, Origin, Phase, Saga, SagaId, Status, Time, Wait, decide,
};
use crate::store::sqlite::{Durability, SqliteStore};
use crate::store::{Change, DefinitionRow, JournalRow, OrderRow};

const SHIPPED: &str = include_str!("../../../sagas/order-fulfilment.toml");
const BEGIN: Time = Time(1_764_000_000_000);

struct World {
    store: Arc<SqliteStore>,
    definitions: Definitions,
    _folder: TempDir,
}

impl World {
    async fn new() -> World {
        let folder = TempDir::new().unwrap();
        let clock = Arc::new(SimulatedClock::starting_at(BEGIN));
        let file = folder.path().join("store");
        let store = SqliteStore::open(&file, clock, Durability::ProcessCrash).await.unwrap();
        let store = Arc::new(store);
        store.migrate().await.unwrap();
        let row = DefinitionRow {
            name: "order-fulfilment".to_owned(),
            version: 1,
            content: SHIPPED.to_owned(),
            published_at: BEGIN,
        };
        store.publish_definition(&row).await.unwrap();
        let broker = Arc::new(MemoryBroker::new(Arc::new(SimulatedClock::starting_at(BEGIN))));
        let definitions = Definitions::new(store.clone(), broker, Arc::new(Telemetry::new()));
        definitions.refresh().await.unwrap();
        World { store, definitions, _folder: folder }
    }

    fn watch(&self, now: Time) -> Watch {
        Watch {
            store: self.store.clone(),
            clock: Arc::new(SimulatedClock::starting_at(now)),
            telemetry: Arc::new(Telemetry::new()),
            definitions: self.definitions.clone(),
        }
    }

    /// An order that has just begun, after `change`.
    async fn write(&self, order_id: &str, money: (&str, i64), change: impl FnOnce(&mut Saga)) {
        let catalog = self.definitions.current();
        let definition = &catalog.get("order-fulfilment", 1).unwrap().definition;
        let id = SagaId::of("acme", order_id, definition.name());
        let begun = decide(definition, &Saga::created(definition, id), &Input::Start, BEGIN);
        let mut saga = begun.saga;
        change(&mut saga);
        let (currency, amount_minor) = money;
        let payload = serde_json::json!({
            "tenant_id": "acme", "order_id": order_id, "currency": currency,
            "loan": { "loan_id": "L", "amount_minor": amount_minor },
            "lines": [{ "sku": "A", "quantity": 1 }],
        });
        let order = OrderRow {
            saga: id,
            tenant: "acme".to_owned(),
            order_id: order_id.to_owned(),
            definition: definition.name().to_owned(),
            definition_version: 1,
            received_at: BEGIN,
            traceparent: String::new(),
            payload: payload.to_string().into_bytes(),
        };
        let journal = vec![JournalRow {
            version: 1,
            moment: BEGIN.into(),
            input: Input::Start,
            effects: Vec::new(),
        }];
        let written = Change {
            saga,
            from_version: 0,
            order: Some(Arc::new(order)),
            journal,
            due: None,
            outbox: Vec::new(),
            revived: Vec::new(),
            shipments: Vec::new(),
            scans: Vec::new(),
            audit: None,
        };
        self.store.commit(&[written]).await.unwrap();
    }
}

fn called(step: usize, code: AttentionCode) -> Attention {
    Attention { step: Some(step), code, since: BEGIN, origin: Origin::Clock }
}

#[tokio::test]
async fn what_is_at_risk_is_told_by_step_code_and_currency() {
    let world = World::new().await;
    world.write("fine", ("EUR", 700), |_| {}).await;
    let overdue = |saga: &mut Saga| {
        saga.attention = vec![called(1, AttentionCode::DeadlinePassed)];
    };
    world.write("overdue", ("EUR", 5_000), overdue).await;
    let doubted = |saga: &mut Saga| {
        saga.steps[1].phase = Phase::Sent(Wait::default()); // given up, and sent on
        saga.attention =
            vec![called(1, AttentionCode::DeadlinePassed), called(1, AttentionCode::InDoubt)];
    };
    world.write("doubted", ("BRL", 9_900), doubted).await;
    let ended = |saga: &mut Saga| saga.status = Status::Completed;
    world.write("ended", ("EUR", 800), ended).await;
    let watch = world.watch(BEGIN + Millis::MINUTE);
    let seen = watch.look(Uuid::from_u128(1)).await.unwrap().expect("it is alone");
    assert_eq!(seen.active, [(Status::Running, 3)]);
    assert_eq!((seen.at_risk, seen.unread, seen.needs_person), (2, 0, 2));
    let amounts: Vec<(&str, i128)> =
        seen.value_at_risk.iter().map(|(currency, amount)| (currency.as_str(), *amount)).collect();
    assert_eq!(amounts, [("BRL", 9_900), ("EUR", 5_000)]);
    let step = |step: &str| ("order-fulfilment".to_owned(), step.to_owned());
    assert_eq!(seen.in_doubt[&step("reserve")], 1);
    assert_eq!(seen.in_doubt[&step("activate-loan")], 0, "no step is forgotten");
    let attention = |code: AttentionCode| {
        let (definition, step) = step("reserve");
        seen.attention.get(&(definition, step, code.as_str())).copied()
    };
    assert_eq!(attention(AttentionCode::DeadlinePassed), Some(2));
    assert_eq!(attention(AttentionCode::InDoubt), Some(1));
    assert_eq!(attention(AttentionCode::Held), None);
    watch.telemetry.watched(&seen);
    let page = watch.telemetry.render();
    assert!(page.contains("oldest_unfinished_saga_age_seconds 60\n"), "{page}");
}

#[tokio::test]
async fn one_worker_looks_and_another_takes_over_when_it_is_gone() {
    let world = World::new().await;
    let [ours, theirs] = [1, 2].map(Uuid::from_u128);
    assert!(world.watch(BEGIN).look(ours).await.unwrap().is_some());
    assert!(world.watch(BEGIN).look(theirs).await.unwrap().is_none());
    let later = BEGIN + DUTY_LASTS;
    assert!(world.watch(later).look(theirs).await.unwrap().is_some(), "nobody kept it");
    assert!(world.watch(later).look(ours).await.unwrap().is_none());
}

#[tokio::test]
async fn who_stops_gives_the_duty_up_and_shows_nothing_any_more() {
    let world = World::new().await;
    let watch = world.watch(BEGIN);
    let telemetry = watch.telemetry.clone();
    let (stopper, shutdown) = super::super::shutdown();
    let running = tokio::spawn(watch.run(shutdown));
    while !telemetry.render().contains("_at_risk") {
        tokio::task::yield_now().await;
    }
    stopper.drain();
    running.await.unwrap();
    assert!(!telemetry.render().contains("_at_risk"));
    let taken = world.watch(BEGIN).look(Uuid::from_u128(2)).await.unwrap();
    assert!(taken.is_some(), "nobody waits for its end");
}
