//! Pushes in numbers, while the worker behind the door is killed or its database is away.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use makegood::clock::{Clock, SystemClock};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::client::{Answer, Request};
use crate::instance::{Instance, data, shared};
use crate::orders::{Scripted, TENANT, mixed};
use crate::process::{free_port, until};
use crate::stage::{Stage, Worker};

const SECRET: &str = "whsec_YWNtZWFjbWVhY21lYWNtZWFjbWVhY21l";
const ORDERS: usize = 900;
/// Connections at the same time.
const AT_ONCE: usize = 16;
/// After so many receipts the worker is killed.
const KILLED_AFTER: [usize; 3] = [60, 200, 350];
/// For something to be seen.
const SOON: Duration = Duration::from_secs(60);

/// A door that a worker of this stage opens, again and again at the same address.
struct Door {
    address: SocketAddr,
    environment: Vec<(&'static str, String)>,
}

impl Door {
    fn new(case: &str) -> Door {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let accounts = data().join(format!("{case}-{}.toml", std::process::id()));
        write_accounts(&accounts);
        let environment = vec![
            ("MAKEGOOD_PUBLIC_LISTEN", address.to_string()),
            ("MAKEGOOD_ACCOUNTS", accounts.display().to_string()),
            ("MAKEGOOD_HTTP_TIMEOUT_SECONDS", "5".to_owned()),
        ];
        Door { address, environment }
    }

    /// Pushes all orders once more, by the command, which notes them in the shop's ledger.
    async fn push_by_command(&self, stage: &Stage, orders: usize) {
        let url = format!("http://{}", self.address);
        let accounts = &self.environment[1].1;
        let push = ["order", "push", "orders.ndjson", "--url", &url, "--accounts", accounts];
        let said = stage.succeed(&[&push[..], &["--json"]].concat()).await;
        let said: Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!((&said["known"], &said["new"]), (&orders.into(), &0.into()), "{said}");
    }

    async fn open(&self, stage: &Stage) -> Worker {
        let environment: Vec<(&str, &str)> =
            self.environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let worker = stage.worker_with("worker", &environment);
        worker.becomes_ready().await;
        worker
    }
}

fn write_accounts(path: &Path) {
    let shop = format!("[[shop]]\ntenant = '{TENANT}'\nsecrets = ['{SECRET}']\n");
    std::fs::write(path, shop).expect("written");
}

/// The order in a line of the script, signed now.
fn request(order: &Scripted) -> Request {
    let line: Value = serde_json::from_str(&order.line).expect("JSON");
    let body = line["order"].to_string();
    let now = SystemClock::default().now().0 / 1_000;
    let request = Request::new("POST", "/v1/orders", body);
    request.signed(SECRET, &format!("msg_{}", order.order_id), now)
}

/// Pushes one order until it has a receipt.
async fn receipt(door: SocketAddr, order: &Scripted) -> Value {
    loop {
        match request(order).try_send(door).await {
            Some(Answer { status: 200 | 201, body, .. }) => return body,
            Some(Answer { status: 503, .. }) | None => {}
            Some(answer) => panic!("{answer:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await; // the pace of trying again
    }
}

type Receipts = Arc<Mutex<BTreeMap<String, Value>>>;

/// Pushes all orders, some at a time.
async fn push_all(door: SocketAddr, orders: &[Scripted], receipts: &Receipts) {
    let left = Arc::new(Mutex::new(orders.iter().cloned().collect::<VecDeque<_>>()));
    let mut shops = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (left, receipts) = (left.clone(), receipts.clone());
        shops.spawn(async move {
            let next = || left.lock().expect("no panic").pop_front();
            while let Some(order) = next() {
                let receipt = receipt(door, &order).await;
                receipts.lock().expect("no panic").insert(order.order_id, receipt);
            }
        });
    }
    while let Some(pushed) = shops.join_next().await {
        pushed.expect("no panic");
    }
}

/// Whether all of these orders are in the database.
async fn stored(stage: &Stage, orders: &[String]) -> bool {
    let sql = "SELECT count(*) FROM saga_order WHERE order_id = ANY($1)";
    let mut connection = stage.connection().await;
    let found: i64 =
        sqlx::query_scalar(sql).bind(orders).fetch_one(&mut connection).await.expect("a number");
    usize::try_from(found) == Ok(orders.len())
}

pub async fn nothing_acknowledged_is_missing_after_kills_in_mid_load() {
    let mut stage = Stage::new("doors_killed", shared("postgres"), shared("rabbitmq")).await;
    let orders = mixed("pushed", ORDERS, 6);
    stage.cast(orders.clone());
    let door = Door::new("doors-killed");
    let mut worker = door.open(&stage).await;
    let receipts = Receipts::default();
    let acknowledged = || receipts.lock().expect("no panic").len();
    let kills = async {
        for after in KILLED_AFTER {
            until("receipts", SOON, async || acknowledged() >= after).await;
            worker.process.kill();
            let known: Vec<String> = receipts.lock().expect("no panic").keys().cloned().collect();
            assert!(known.len() < ORDERS, "the kill came too late to matter");
            assert!(stored(&stage, &known).await, "a receipt was given for what is not stored");
            worker = door.open(&stage).await;
        }
    };
    tokio::join!(push_all(door.address, &orders, &receipts), kills);
    // The same receipts, by whichever worker.
    let again = Receipts::default();
    push_all(door.address, &orders, &again).await;
    assert_eq!(*again.lock().expect("no panic"), *receipts.lock().expect("no panic"));
    door.push_by_command(&stage, ORDERS).await;
    assert!(!worker.process.log().contains("whsec"), "a secret in the log");
    let _participants = stage.participants();
    stage.ends_well(0).await;
}

pub async fn a_stopped_database_is_told_and_waited_for() {
    let database = Instance::start("postgres", "e2e-doors", &[]).await;
    let mut stage = Stage::new("doors_outage", &database, shared("rabbitmq")).await;
    let orders = mixed("outage", 60, 6);
    stage.cast(orders.clone());
    let door = Door::new("doors-outage");
    let _worker = door.open(&stage).await;
    let receipts = Receipts::default();
    push_all(door.address, &orders[..20], &receipts).await;
    database.tell("stop", &[]).await;
    let away = async || {
        let answer = request(&orders[20]).try_send(door.address).await.expect("an answer");
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.head.contains("retry-after: "), "{answer:?}");
        answer.body["type"] == "/problems/database-away"
    };
    until("it is told that the database is away", SOON, away).await;
    let back = async {
        until("many have asked in vain", SOON, async || {
            request(&orders[21]).try_send(door.address).await.is_some()
        })
        .await;
        database.tell("start", &[]).await;
    };
    tokio::join!(push_all(door.address, &orders, &receipts), back);
    door.push_by_command(&stage, orders.len()).await;
    let _participants = stage.participants();
    stage.ends_well(0).await;
}
