//! The store path alone: load, decide, commit, and behind it, as in the worker, deleting of
//! the outbox rows; no message in sight.

use std::sync::Arc;

use tokio::sync::mpsc;
use uuid::Uuid;

use crate::saga::{
    CommandId, Definition, Direction, EventId, FactSeen, Input, Outcome, Phase, Reply, Saga,
    SagaId, Status, Time, decide,
};
use crate::store::{Change, JournalRow, OrderRow, OutboxKey, Store, Stored};
use crate::worker::message::{Setting, postings};

/// Sagas in one batch: what a busy lane takes at once.
const BATCH: u64 = 200;
/// Batches at the same time, as two lanes would make.
const LANES: u64 = 2;

/// Batches of outbox rows that may wait to be deleted; beyond that the lanes wait.
const CONFIRMED: usize = 4;

/// What the store path did.
#[derive(Default)]
pub(super) struct Done {
    pub transitions: u64,
    pub commits: u64,
    pub batches: u64,
}

/// Runs `sagas` sagas of `definition` from start to end, in batches, on two lanes.
pub(super) async fn run(
    store: &Arc<dyn Store>,
    definition: &Arc<Definition>,
    sagas: u64,
    payload: &str,
) -> anyhow::Result<Done> {
    let run = Uuid::now_v7().simple().to_string();
    let (confirm, confirmed) = mpsc::channel(CONFIRMED);
    let tidying = tokio::spawn(tidy_up(store.clone(), confirmed));
    let lane = |lane: u64| {
        let (store, definition) = (store.clone(), definition.clone());
        let confirm = confirm.clone();
        let (run, payload) = (run.clone(), payload.to_owned());
        let numbers = (0..sagas).filter(move |n| n / BATCH % LANES == lane).collect::<Vec<u64>>();
        tokio::spawn(async move {
            let mut done = Done::default();
            for batch in numbers.chunks(BATCH as usize) {
                let orders: Vec<Arc<OrderRow>> = batch
                    .iter()
                    .map(|number| order(&definition, format!("{run}-{number}"), &payload))
                    .collect();
                through(&*store, &definition, &orders, (&confirm, &mut done)).await?;
            }
            anyhow::Ok(done)
        })
    };
    let lanes: Vec<_> = (0..LANES).map(lane).collect();
    drop(confirm);
    let mut sum = Done::default();
    for lane in lanes {
        let done = lane.await??;
        sum.transitions += done.transitions;
        sum.commits += done.commits;
        sum.batches += done.batches;
    }
    sum.commits += tidying.await??;
    Ok(sum)
}

/// Deletes what was sent, as many rows at once as have gathered. Returns how often.
async fn tidy_up(
    store: Arc<dyn Store>,
    mut confirmed: mpsc::Receiver<Vec<(OutboxKey, Time)>>,
) -> anyhow::Result<u64> {
    let mut commits = 0;
    let mut gathered = Vec::new();
    while confirmed.recv_many(&mut gathered, CONFIRMED).await > 0 {
        store.delete_outbox(&gathered.concat()).await?;
        gathered.clear();
        commits += 1;
    }
    Ok(commits)
}

fn order(definition: &Definition, order_id: String, payload: &str) -> Arc<OrderRow> {
    Arc::new(OrderRow {
        saga: SagaId::of("bench", &order_id, definition.name()),
        tenant: "bench".to_owned(),
        order_id,
        definition: definition.name().to_owned(),
        definition_version: definition.version(),
        received_at: Time(0),
        traceparent: "00-00000000000000000000000000000001-0000000000000001-01".to_owned(),
        payload: payload.as_bytes().to_vec(),
    })
}

/// Takes a batch of orders to the end, one input each at a time.
async fn through(
    store: &dyn Store,
    definition: &Definition,
    orders: &[Arc<OrderRow>],
    (confirm, done): (&mpsc::Sender<Vec<(OutboxKey, Time)>>, &mut Done),
) -> anyhow::Result<()> {
    let ids: Vec<SagaId> = orders.iter().map(|order| order.saga).collect();
    let now = store.now().await?;
    loop {
        let mut stored = store.load(&ids).await?;
        if stored.is_empty() {
            let fresh = |order: &Arc<OrderRow>| Stored {
                saga: Saga::created(definition, order.saga),
                version: 0,
                due: None,
                order: order.clone(),
            };
            stored = orders.iter().map(fresh).collect();
        }
        let mut changes = Vec::new();
        let mut sent = Vec::new();
        for stored in stored.into_iter().filter(|stored| stored.saga.status != Status::Completed) {
            let Some(input) = next(definition, &stored.saga) else { continue };
            let transition = decide(definition, &stored.saga, &input, now);
            let version = stored.version + 1;
            let setting = Setting {
                source: "/makegood/bench",
                definition,
                order: &stored.order,
                saga: &transition.saga,
                version,
                now,
                claimed_until: now,
                cause: None,
            };
            let postings = postings(&setting, &transition.effects);
            sent.extend(postings.iter().map(|posting| (posting.key, posting.claimed_until)));
            changes.push(Change {
                from_version: stored.version,
                order: (stored.version == 0).then_some(stored.order),
                journal: vec![JournalRow { version, at: now, input, effects: transition.effects }],
                due: transition.saga.next_clock().map(|_| now),
                saga: transition.saga,
                outbox: postings.iter().map(|posting| posting.row()).collect(),
                revived: Vec::new(),
                audit: None,
            });
        }
        if changes.is_empty() {
            return Ok(());
        }
        store.commit(&changes).await?;
        let _ = confirm.send(sent).await; // where nobody deletes any more, the run has failed
        done.transitions += changes.len() as u64;
        done.commits += 1;
        done.batches += 1;
    }
}

/// What a saga for which all goes well waits for.
fn next(definition: &Definition, saga: &Saga) -> Option<Input> {
    if saga.status == Status::Created {
        return Some(Input::Start);
    }
    saga.steps.iter().enumerate().find_map(|(index, state)| {
        let step = &definition.steps()[index];
        match state.phase {
            Phase::Sent(_) => Some(Input::Reply(Reply {
                command: CommandId::of(saga.id, &step.name, Direction::Forward, state.generation),
                from: None,
                outcome: Outcome::Success,
                data: None,
            })),
            Phase::Awaiting { .. } => {
                let kind = step.facts().next()?;
                Some(Input::Fact(FactSeen { kind: kind.into(), event: EventId::of("bench", kind) }))
            }
            _ => None,
        }
    })
}
