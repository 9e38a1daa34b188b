//! Where a case plays: a database and a virtual host (or a prefix) of its own, ledgers, processes of the
//! binary under test, and the verdict at the end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};
use tokio::time::timeout;

use crate::instance::{Instance, data};
#[cfg(feature = "kafka")]
use crate::lag::lag;
use crate::orders::{PACE, Scripted};
use crate::process::{Process, free_port, get, run, until};

/// For all sagas to end: couriers take some ten seconds, the lease of a dead worker's outbox
/// rows thirty and five, and the machine may be busy.
const SETTLING: Duration = Duration::from_secs(120);
/// For a worker to become ready.
pub const READY: Duration = Duration::from_secs(45);
/// For a command to do its work and end.
pub const COMMAND: Duration = Duration::from_secs(60);
/// For a look into a database that may be away.
const LOOK: Duration = Duration::from_secs(2);
/// What is shown of each log when a case fails.
const SHOWN_LINES: usize = 15;

/// All queues of the two shipped definitions that these cases fill.
const QUEUES: [&str; 9] = [
    "makegood.orders",
    "makegood.facts",
    "makegood.replies",
    "makegood.dead",
    "inventory.commands",
    "wms.commands",
    "tms.commands",
    "loan.commands",
    "notifications.commands",
];

/// Sagas at their end, or under attention.
const SETTLED: &str = "SELECT count(*) FROM saga WHERE status IN (3, 4) OR attention";
const TRANSITIONS: &str = "SELECT count(*) FROM saga_journal";
const OUTBOX: &str = "SELECT count(*) FROM outbox";
const LETTERS: &str = "SELECT count(*) FROM dead_letter WHERE closed IS NULL";

pub struct Stage {
    folder: PathBuf,
    store: String,
    pub broker: String,
    orders: Vec<Scripted>,
}

pub struct Worker {
    pub process: Process,
    pub port: u16,
}

impl Stage {
    /// Makes a database and a virtual host named for the case, with tables and definitions.
    pub async fn new(case: &str, database: &Instance, broker: &Instance) -> Stage {
        let stage = Stage::unmigrated(case, database, broker).await;
        stage.migrate().await;
        stage
    }

    pub async fn unmigrated(case: &str, database: &Instance, broker: &Instance) -> Stage {
        let name = format!("{case}_{}_{}", broker.service(), std::process::id());
        let folder = data().join("e2e").join(&name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let server = database.value("POSTGRES");
        let mut admin = PgConnection::connect(server).await.expect("the server");
        let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        admin.execute(sqlx::raw_sql(create)).await.expect("a database");
        let url = match broker.service() {
            // A worker that is killed is missed after the shortest session that there may be.
            "kafka" => format!(
                "kafka://{}/{name}?partitions=4&session.timeout.ms=6000",
                broker.value("KAFKA")
            ),
            _ => virtual_host(broker, &name).await,
        };
        let (store, _) = server.rsplit_once('/').expect("a URL with a database");
        Stage { folder, store: format!("{store}/{name}"), broker: url, orders: Vec::new() }
    }

    pub async fn migrate(&self) {
        let sagas = concat!(env!("CARGO_MANIFEST_DIR"), "/sagas");
        self.succeed(&["migrate", "--sagas", sagas]).await;
    }

    /// The binary with the configuration of this stage.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_makegood"));
        let ours = std::env::vars_os()
            .filter(|(name, _)| name.to_str().is_some_and(|name| name.starts_with("MAKEGOOD_")));
        for (name, _) in ours {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .current_dir(&self.folder)
            .env("MAKEGOOD_STORE", &self.store)
            .env("MAKEGOOD_BROKER", &self.broker)
            .env("MAKEGOOD_LEDGERS", self.folder.join("ledgers"))
            .env("MAKEGOOD_LOG", "info,makegood=debug");
        command
    }

    /// Runs a command that must succeed; returns what it printed.
    pub async fn succeed(&self, arguments: &[&str]) -> String {
        let (status, out, err) = run(self.command(arguments), COMMAND).await;
        assert!(status.success(), "{arguments:?}: {status}: {err}\n{out}");
        out
    }

    /// A worker that logs to a file under this name.
    pub fn worker(&self, name: &str) -> Worker {
        self.worker_with(name, &[])
    }

    pub fn worker_with(&self, name: &str, environment: &[(&str, &str)]) -> Worker {
        let port = free_port();
        let mut command = self.command(&["worker"]);
        command.env("MAKEGOOD_HTTP_LISTEN", format!("127.0.0.1:{port}"));
        command.envs(environment.iter().copied());
        Worker { process: Process::start(command, self.log_file(name)), port }
    }

    pub async fn ready_worker(&self, name: &str) -> Worker {
        let worker = self.worker(name);
        worker.becomes_ready().await;
        worker
    }

    /// Participants that follow the scripts of all orders that [`Stage::cast`] took.
    pub fn participants(&self) -> Process {
        let pace = PACE.to_string();
        let orders = self.folder.join("orders.ndjson");
        let orders = orders.to_str().expect("a name in ASCII");
        let command = self.command(&["participants", "--orders", orders, "--pace", &pace]);
        Process::start(command, self.log_file("participants"))
    }

    fn log_file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// Takes the orders of this case, before participants start.
    pub fn cast(&mut self, orders: Vec<Scripted>) {
        self.orders = orders;
        self.write("orders.ndjson", &self.orders);
    }

    /// Adds orders; participants know no script of theirs.
    pub fn cast_more(&mut self, orders: Vec<Scripted>) {
        self.orders.extend(orders);
    }

    fn write(&self, name: &str, orders: &[Scripted]) -> String {
        let lines: String = orders.iter().map(|order| format!("{}\n", order.line)).collect();
        let path = self.folder.join(name);
        std::fs::write(&path, lines).expect("written");
        path.to_str().expect("a name in ASCII").to_owned()
    }

    /// Submits all orders in so many portions, one after the other.
    pub async fn submit(&self, portions: usize) {
        for number in 0..portions {
            self.submit_portion(number, portions).await;
        }
    }

    /// Submits one portion of so many; they are numbered from 0.
    pub async fn submit_portion(&self, number: usize, portions: usize) {
        let mut all = self.orders.chunks(self.orders.len().div_ceil(portions));
        let Some(portion) = all.nth(number) else { return };
        let file = self.write(&format!("portion-{number}.ndjson"), portion);
        self.succeed(&["order", "submit", &file]).await;
    }

    /// A number out of the database; `None` while it is away.
    pub async fn number(&self, sql: &'static str) -> Option<i64> {
        let look = async {
            let mut connection = PgConnection::connect(&self.store).await.ok()?;
            let number = sqlx::query_scalar(sql).fetch_one(&mut connection).await.ok()?;
            let _ = connection.close().await;
            Some(number)
        };
        timeout(LOOK, look).await.ok().flatten()
    }

    /// The URL of its database.
    pub fn store(&self) -> &str {
        &self.store
    }

    pub async fn connection(&self) -> PgConnection {
        PgConnection::connect(&self.store).await.expect("the database")
    }

    /// Waits until so many transitions are stored; returns how many there are.
    pub async fn transitions(&self, at_least: i64) -> i64 {
        let mut seen = 0;
        until(&format!("{at_least} transitions"), SETTLING, async || {
            seen = self.number(TRANSITIONS).await.unwrap_or(seen);
            seen >= at_least
        })
        .await;
        seen
    }

    pub async fn settled(&self) -> i64 {
        self.number(SETTLED).await.unwrap_or(0)
    }

    /// The verdict: waits until everything is at rest, and looks at all of it.
    pub async fn ends_well(&self, letters: i64) {
        let orders = i64::try_from(self.orders.len()).expect("few");
        let what = format!("{orders} orders at their end");
        until(&what, SETTLING, async || self.settled().await == orders).await;
        until("an empty outbox", SETTLING, async || self.number(OUTBOX).await == Some(0)).await;
        until("empty queues", COMMAND, async || self.waiting().await == Some(0)).await;
        self.each_order_as_scripted().await;
        assert_eq!(self.number(LETTERS).await, Some(letters), "dead letters");
        let (status, report, error) = run(self.command(&["audit", "--json"]), COMMAND).await;
        let report: Value = serde_json::from_str(&report).expect("JSON");
        assert!(status.success(), "{report:#} {error}");
        assert_eq!(report["findings"], Value::Array(Vec::new()));
        assert_eq!(report["sagas"], orders);
        self.logs_are_json();
    }

    async fn each_order_as_scripted(&self) {
        let listed = self.succeed(&["order", "list", "--json", "--limit", "1000"]).await;
        let listed: Value = serde_json::from_str(&listed).expect("JSON");
        let ended: BTreeMap<&str, (&str, bool)> = listed["orders"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|order| {
                let text = |key: &str| order[key].as_str().expect("text");
                let attention = !order["attention"].as_array().expect("a list").is_empty();
                (text("order_id"), (text("status"), attention))
            })
            .collect();
        assert_eq!(ended.len(), self.orders.len(), "orders are lost, or were made up");
        for Scripted { order_id, expected, .. } in &self.orders {
            let expected = (*expected, *expected == "running");
            assert_eq!(ended.get(order_id.as_str()), Some(&expected), "{order_id}");
        }
    }

    /// Messages that wait in queues, or that no group has dealt with; `None` when the broker
    /// cannot be asked.
    pub async fn waiting(&self) -> Option<u32> {
        #[cfg(feature = "kafka")]
        if self.broker.starts_with("kafka") {
            return lag(&self.broker).await;
        }
        let count = async {
            let channel = self.channel().await.ok()?;
            let mut sum = 0;
            for queue in QUEUES {
                let options =
                    lapin::options::QueueDeclareOptions { passive: true, ..Default::default() };
                let queue = channel.queue_declare(queue.into(), options, Default::default());
                sum += queue.await.ok()?.message_count();
            }
            Some(sum)
        };
        timeout(LOOK, count).await.ok().flatten()
    }

    /// A channel to RabbitMQ beside the binary under test.
    pub async fn channel(&self) -> lapin::Result<lapin::Channel> {
        let properties = lapin::ConnectionProperties::default();
        lapin::Connection::connect(&self.broker, properties).await?.create_channel().await
    }

    /// Every line of every log is JSON: no panic, and nothing printed past the log.
    fn logs_are_json(&self) {
        for (name, text) in self.logs() {
            for line in text.lines() {
                let parsed = serde_json::from_str::<Value>(line);
                assert!(parsed.is_ok(), "{name}: {line}");
            }
        }
    }

    fn logs(&self) -> Vec<(String, String)> {
        let Ok(files) = std::fs::read_dir(&self.folder) else { return Vec::new() };
        let paths = files.filter_map(|file| Some(file.ok()?.path()));
        let logs = paths.filter(|path| path.extension().is_some_and(|end| end == "log"));
        logs.filter_map(|path| {
            Some((path.display().to_string(), std::fs::read_to_string(path).ok()?))
        })
        .collect()
    }
}

/// Makes a virtual host of this name; returns its URL.
async fn virtual_host(broker: &Instance, name: &str) -> String {
    let make = format!(
        "rabbit_vhost:add(<<\"{name}\">>, <<\"tests\">>), \
         rabbit_auth_backend_internal:set_permissions(<<\"guest\">>, <<\"{name}\">>, \
         <<\".*\">>, <<\".*\">>, <<\".*\">>, <<\"tests\">>)."
    );
    broker.tell("ctl", &["eval", &make]).await;
    let (vhosts, _) = broker.value("AMQP").rsplit_once('/').expect("a URL with a host");
    format!("{vhosts}/{name}")
}

impl Drop for Stage {
    /// What the processes said last may explain why a case failed.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for (name, text) in self.logs() {
            let telling: Vec<&str> = text.lines().filter(|l| !l.contains("\"DEBUG\"")).collect();
            eprintln!("── the end of {name}");
            for line in &telling[telling.len().saturating_sub(SHOWN_LINES)..] {
                eprintln!("{line}");
            }
        }
    }
}

impl Worker {
    pub async fn becomes_ready(&self) {
        until("a ready worker", READY, async || self.is_ready().await == Some(true)).await;
    }

    /// `None` when it does not answer.
    pub async fn is_ready(&self) -> Option<bool> {
        Some(get(self.port, "/readyz").await?.0 == 200)
    }

    /// Waits until it says that this part has this trouble; returns the whole of it.
    pub async fn trouble(&self, part: &str, what: &str) -> String {
        let mut said = String::new();
        until(&format!("{part}: {what}"), READY, async || {
            said = self.becomes_unready().await.remove(part).unwrap_or_default();
            said.contains(what)
        })
        .await;
        said
    }

    /// Waits until it says that it is not ready; returns the parts that have trouble.
    pub async fn becomes_unready(&self) -> BTreeMap<String, String> {
        let mut answer = None;
        until("a worker that is not ready", READY, async || {
            answer = get(self.port, "/readyz").await.filter(|(status, _)| *status == 503);
            answer.is_some()
        })
        .await;
        let (_, body) = answer.expect("just seen");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(body["ready"], false);
        let parts = body["parts"].as_object().expect("the parts").iter();
        let parts =
            parts.map(|(part, trouble)| (part.clone(), trouble.as_str().expect("text").to_owned()));
        let troubled: BTreeMap<_, _> = parts.filter(|(_, trouble)| trouble != "working").collect();
        assert!(!troubled.is_empty(), "{body}");
        troubled
    }

    /// The sum over all series of this metric whose labels contain `label`.
    pub async fn metric(&self, name: &str, label: &str) -> f64 {
        let Some((200, page)) = get(self.port, "/metrics").await else { return 0.0 };
        let series = page.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
        });
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}
