//! The store path alone: load, decide, commit, and behind it, as in the worker, deleting of
//! the outbox rows; no message in sight.

use std::collections::VecDeque;
use std::sync::Arc;

use indicatif::ProgressBar;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};
use uuid::Uuid;

use crate::saga::{
    CommandId, Definition, Direction, EventId, FactSeen, Input, Outcome, Phase, Reply, Saga,
    SagaId, Status, Time, decide,
};
use crate::store::{Change, JournalRow, OrderRow, OutboxKey, Store, Stored};
use crate::worker::message::{Setting, postings};

/// Batches of outbox rows that may wait to be deleted; beyond that the lanes wait.
const CONFIRMED: usize = 4;

/// What is run, as the worker would be configured.
#[derive(Clone)]
pub(super) struct Course {
    pub store: Arc<dyn Store>,
    pub definition: Arc<Definition>,
    pub payload: Arc<str>,
    pub lanes: usize,
    pub max_batch: usize,
}

/// How far sagas are taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// To their end.
    Done,
    /// Until they wait for a courier.
    Waiting,
}

/// What the store path did.
#[derive(Default)]
pub(super) struct Done {
    pub transitions: u64,
    pub commits: u64,
    /// What each batch took, from its load to its commit.
    pub batches: Vec<Duration>,
}

impl Course {
    /// Runs `sagas` sagas, `in_flight` of them at the same time: each lane takes a batch of them
    /// one input further, and then the next batch.
    pub async fn run(
        &self,
        (sagas, in_flight): (u64, u64),
        until: Until,
        progress: &ProgressBar,
    ) -> anyhow::Result<Done> {
        let run = Uuid::now_v7().simple().to_string();
        let (confirm, confirmed) = mpsc::channel(CONFIRMED);
        let tidying = tokio::spawn(tidy_up(self.store.clone(), confirmed));
        let lanes: Vec<_> = (0..self.lanes as u64)
            .map(|lane| {
                let mine = (0..sagas).filter(|number| number % self.lanes as u64 == lane);
                let orders = mine.map(|number| format!("{run}-{number}")).collect();
                let in_flight = in_flight.div_ceil(self.lanes as u64);
                let (course, confirm) = (self.clone(), confirm.clone());
                let progress = progress.clone();
                let lane = Lane { course, until, confirm, progress, done: Done::default() };
                tokio::spawn(lane.run(orders, in_flight as usize))
            })
            .collect();
        drop(confirm);
        let mut sum = Done::default();
        for lane in lanes {
            let done = lane.await??;
            sum.transitions += done.transitions;
            sum.commits += done.commits;
            sum.batches.extend(done.batches);
        }
        sum.commits += tidying.await??;
        Ok(sum)
    }

    fn order(&self, order_id: String) -> Arc<OrderRow> {
        Arc::new(OrderRow {
            saga: SagaId::of("bench", &order_id, self.definition.name()),
            tenant: "bench".to_owned(),
            order_id,
            definition: self.definition.name().to_owned(),
            definition_version: self.definition.version(),
            received_at: Time(0),
            traceparent: "00-00000000000000000000000000000001-0000000000000001-01".to_owned(),
            payload: self.payload.as_bytes().to_vec(),
        })
    }
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

struct Lane {
    course: Course,
    until: Until,
    confirm: mpsc::Sender<Vec<(OutboxKey, Time)>>,
    progress: ProgressBar,
    done: Done,
}

impl Lane {
    async fn run(mut self, orders: Vec<String>, in_flight: usize) -> anyhow::Result<Done> {
        let max_batch = self.course.max_batch.min(in_flight).max(1);
        let batches = orders.chunks(max_batch).map(<[String]>::to_vec).collect::<Vec<_>>();
        let mut fresh = batches.into_iter();
        let mut under_way = VecDeque::new();
        loop {
            while under_way.len() < in_flight.div_ceil(max_batch)
                && let Some(batch) = fresh.next()
            {
                let batch: Vec<Arc<OrderRow>> =
                    batch.into_iter().map(|order_id| self.course.order(order_id)).collect();
                under_way.push_back(batch);
            }
            let Some(batch) = under_way.pop_front() else { return Ok(self.done) };
            let began = Instant::now();
            if self.one_further(&batch).await? {
                self.done.batches.push(began.elapsed());
                under_way.push_back(batch);
            } else {
                self.progress.inc(batch.len() as u64);
            }
        }
    }

    /// Takes a batch one input further. False: it is where it was to be taken.
    async fn one_further(&mut self, orders: &[Arc<OrderRow>]) -> anyhow::Result<bool> {
        let Course { store, definition, .. } = &self.course;
        let ids: Vec<SagaId> = orders.iter().map(|order| order.saga).collect();
        let now = store.now().await?;
        let mut stored = store.load(&ids).await?;
        if stored.is_empty() {
            stored = orders.iter().map(|order| fresh(definition, order)).collect();
        }
        let mut changes = Vec::with_capacity(stored.len());
        let mut sent = Vec::new();
        for stored in stored.into_iter().filter(|stored| stored.saga.status != Status::Completed) {
            let Some(input) = next(definition, &stored.saga, self.until) else { continue };
            let (change, rows) = change(definition, stored, input, now);
            changes.push(change);
            sent.extend(rows);
        }
        if changes.is_empty() {
            return Ok(false);
        }
        store.commit(&changes).await?;
        let _ = self.confirm.send(sent).await; // where nobody deletes any more, the run has failed
        self.done.transitions += changes.len() as u64;
        self.done.commits += 1;
        Ok(true)
    }
}

fn fresh(definition: &Definition, order: &Arc<OrderRow>) -> Stored {
    Stored {
        saga: Saga::created(definition, order.saga),
        version: 0,
        due: None,
        order: order.clone(),
    }
}

/// One decision, as a lane of the worker makes it, and the outbox rows it leaves.
fn change(
    definition: &Definition,
    stored: Stored,
    input: Input,
    now: Time,
) -> (Change, Vec<(OutboxKey, Time)>) {
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
    let rows = postings.iter().map(|posting| (posting.key, posting.claimed_until)).collect();
    let change = Change {
        from_version: stored.version,
        order: (stored.version == 0).then_some(stored.order),
        journal: vec![JournalRow {
            version,
            moment: now.into(),
            input,
            effects: transition.effects,
        }],
        due: transition.saga.next_clock().map(|_| stored.due.unwrap_or(now)),
        saga: transition.saga,
        outbox: postings.iter().map(|posting| posting.row()).collect(),
        revived: Vec::new(),
        shipments: Vec::new(),
        scans: Vec::new(),
        audit: None,
    };
    (change, rows)
}

/// What a saga for which all goes well waits for.
fn next(definition: &Definition, saga: &Saga, until: Until) -> Option<Input> {
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
            Phase::Awaiting { .. } if until == Until::Done => {
                let kind = step.facts().next()?;
                Some(Input::Fact(FactSeen { kind: kind.into(), event: EventId::of("bench", kind) }))
            }
            _ => None,
        }
    })
}
