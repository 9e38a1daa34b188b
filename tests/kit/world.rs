//! A broker for one case, the service that is checked, and the check.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use makegood::broker::amqp::{AmqpBroker, AmqpOptions};
use makegood::broker::memory::MemoryBroker;
use makegood::broker::topology::{Layout, Names};
use makegood::broker::{Broker, Topology};
use makegood::catalog::{LoadedDefinition, load};
use makegood::clock::SystemClock;
use makegood::fixture::kit::{Check, Material, Options, Report, Restart, Subject, Verdict};
use makegood::fixture::{Broken, Simulation, Timeline};
use makegood::saga::Millis;
use tempfile::TempDir;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

/// For an answer of a service that answers within milliseconds, on a machine that may be busy.
pub const TIMEOUT: Duration = Duration::from_secs(4);
/// For one that does not answer, or late: it is waited for three times as long.
pub const SHORT: Duration = Duration::from_millis(700);
/// The names that definitions give to those who get commands.
const PARTICIPANTS: [&str; 4] = ["inventory", "wms", "tms", "loan"];

pub struct World {
    memory: Option<Arc<dyn Broker>>,
    pub url: Option<String>,
    names: Names,
    pub folder: Arc<TempDir>,
    /// Why the case could not run after all.
    pub skipped: Arc<OnceLock<String>>,
}

impl World {
    pub fn memory() -> Result<World, String> {
        let broker: Arc<dyn Broker> = Arc::new(MemoryBroker::new(Arc::new(SystemClock::default())));
        Ok(World::with(Some(broker), None))
    }

    pub fn amqp() -> Result<World, String> {
        let url = env::var("MAKEGOOD_TEST_AMQP")
            .map_err(|_| "MAKEGOOD_TEST_AMQP holds no URL of a RabbitMQ".to_owned())?;
        Ok(World::with(None, Some(url)))
    }

    fn with(memory: Option<Arc<dyn Broker>>, url: Option<String>) -> World {
        let names = Names { prefix: format!("test-{}.", uuid::Uuid::new_v4().simple()) };
        let folder = Arc::new(tempfile::tempdir().expect("a folder"));
        World { memory, url, names, folder, skipped: Arc::default() }
    }

    pub fn skip(&self, reason: String) {
        eprintln!("skipped: {reason}");
        self.skipped.set(reason).expect("skipped once");
    }

    /// A connection of one's own to the one broker.
    pub fn broker(&self) -> Arc<dyn Broker> {
        if let Some(memory) = &self.memory {
            return memory.clone();
        }
        let options = AmqpOptions {
            url: self.url.clone().expect("RabbitMQ").into(),
            connection_name: "makegood test".to_owned(),
            prefix: self.names.prefix.clone(),
        };
        Arc::new(AmqpBroker::new(options).expect("a URL"))
    }

    /// Plays participants that break the contract like this, or keep it.
    pub async fn service(&self, broken: Option<Broken>) -> Service {
        let broker = self.broker();
        broker.declare(&topology()).await.expect("declared");
        let ledgers = self.folder.path().join("ledgers");
        let service = Service { broker, ledgers, broken, running: Arc::default() };
        service.start().await;
        service
    }

    /// Checks a participant by what the shipped definition sends it.
    pub async fn check(&self, participant: &str, how: How) -> Report {
        let mut subjects = Subject::all(&definition().definition, participant);
        subjects.iter_mut().for_each(|subject| subject.probe = subject.command.is_some());
        self.check_these(participant, subjects, how).await
    }

    pub async fn check_these(&self, participant: &str, subjects: Vec<Subject>, how: How) -> Report {
        let broker = self.broker();
        let check = Check {
            broker: broker.clone(),
            clock: Arc::new(SystemClock::default()),
            participant: participant.to_owned(),
            subjects,
            material: Material::default(),
            options: Options {
                timeout: how.timeout,
                shared_replies: how.shared_replies,
                restart: how.restart,
                progress: Box::new(|_| ()),
            },
        };
        let report = check.run().await.expect("the broker is there");
        if self.memory.is_none() {
            broker.close().await;
        }
        report
    }

    pub fn cleanup(&self) -> Cleanup {
        let layout = self.names.layout(&topology());
        Cleanup { url: self.url.clone(), layout, _folder: Some(self.folder.clone()) }
    }
}

/// How a case checks.
pub struct How {
    pub timeout: Duration,
    pub shared_replies: bool,
    pub restart: Option<Restart>,
}

impl Default for How {
    fn default() -> How {
        How { timeout: TIMEOUT, shared_replies: false, restart: None }
    }
}

/// The shipped definition.
pub fn definition() -> LoadedDefinition {
    let text = include_str!("../../sagas/order-fulfilment.toml");
    load("order-fulfilment.toml", text).expect("it is good")
}

fn topology() -> Topology {
    let participants = PARTICIPANTS.map(str::to_owned).to_vec();
    Topology { participants, ..Topology::default() }
}

/// Simulated participants at work. Clones are the same ones.
#[derive(Clone)]
pub struct Service {
    broker: Arc<dyn Broker>,
    ledgers: PathBuf,
    broken: Option<Broken>,
    running: Arc<Mutex<Option<Playing>>>,
}

/// Tells it to stop, and waits for that.
type Playing = (watch::Sender<bool>, JoinHandle<()>);

impl Service {
    async fn start(&self) {
        let simulation = Simulation {
            broker: self.broker.clone(),
            clock: Arc::new(SystemClock::default()),
            ledgers: self.ledgers.clone(),
            participants: PARTICIPANTS.map(str::to_owned).to_vec(),
            scripts: Arc::default(),
            unheard: Arc::default(),
            options: makegood::fixture::Options {
                timeline: Timeline::default(),
                reply_delay: (Millis(1), Millis(10)),
                broken: self.broken,
                ..makegood::fixture::Options::default()
            },
        };
        let (stop, stopped) = watch::channel(false);
        let ready = simulation.open().expect("ledgers");
        let playing = tokio::spawn(async move { ready.run(stopped).await.expect("ledgers") });
        *self.running.lock().await = Some((stop, playing));
    }

    async fn stop(&self) {
        if let Some((stop, playing)) = self.running.lock().await.take() {
            stop.send(true).expect("it runs");
            playing.await.expect("it ran");
        }
    }

    /// Stops it and starts it again, as `--restart` would.
    pub fn restart(&self) -> Restart {
        let service = self.clone();
        Box::new(move || {
            let service = service.clone();
            Box::pin(async move {
                service.stop().await;
                service.start().await;
                Ok(())
            })
        })
    }

    pub fn ledger(&self, participant: &str) -> PathBuf {
        Path::new(&self.ledgers).join(format!("{participant}.ndjson"))
    }
}

/// Fails unless exactly these rules are broken, and, when none is, unless all were judged that
/// are not named.
pub fn expect(report: &Report, broken: &[&str]) {
    let found: BTreeSet<&str> = report.broken().into_iter().collect();
    let expected: BTreeSet<&str> = broken.iter().copied().collect();
    assert_eq!(found, expected, "{}", report.text(false));
    assert_eq!(report.is_good(), broken.is_empty());
}

/// The names of the rules that could not be judged.
pub fn skipped(report: &Report) -> BTreeSet<&'static str> {
    let findings = report.checked.iter().flat_map(|checked| &checked.findings);
    findings
        .filter(|finding| matches!(finding.verdict, Verdict::Skipped(_)))
        .map(|finding| finding.rule.name)
        .collect()
}

/// Deletes what a case declared on RabbitMQ.
pub struct Cleanup {
    url: Option<String>,
    layout: Layout,
    _folder: Option<Arc<TempDir>>,
}

impl Cleanup {
    pub fn of(url: &str, layout: Layout) -> Cleanup {
        Cleanup { url: Some(url.to_owned()), layout, _folder: None }
    }

    pub async fn run(self) {
        let Some(url) = self.url else { return };
        let properties = lapin::ConnectionProperties::default();
        let connection = lapin::Connection::connect(&url, properties).await.expect("RabbitMQ");
        let admin = connection.create_channel().await.expect("a channel");
        for queue in self.layout.queues {
            let _ = admin.queue_delete(queue.name.as_str().into(), Default::default()).await;
        }
        for (exchange, _) in self.layout.exchanges {
            let _ = admin.exchange_delete(exchange.as_str().into(), Default::default()).await;
        }
    }
}
