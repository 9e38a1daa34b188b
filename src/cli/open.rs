//! Opens stores and brokers as the configuration says.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};

use super::Misuse;
use crate::broker::Broker;
use crate::broker::amqp::{AmqpBroker, AmqpOptions};
#[cfg(feature = "kafka")]
use crate::broker::kafka::registry::Registry;
#[cfg(feature = "kafka")]
use crate::broker::kafka::{KafkaBroker, KafkaOptions};
use crate::clock::{Clock, SimulatedClock, SystemClock};
use crate::config::Config;
use crate::saga::Time;
use crate::store::Store;
use crate::store::postgres::{PostgresOptions, PostgresStore};
use crate::store::sqlite::{Durability, SqliteStore};

/// The data folder of `makegood dev`.
pub(super) const DATA: &str = ".makegood";
/// The SQLite file in a data folder.
const FILE: &str = "makegood.db";
/// What is said to who looks where there is nothing to look at.
const NOWHERE: &str = "which orders? There is no dev run in .makegood (`makegood dev` makes one, \
                       --data names another folder), and `store` is not set: give \
                       MAKEGOOD_STORE=postgres://… or a line store = \"postgres://…\" in makegood.toml";
/// How the URL of a SQLite store begins.
const SQLITE: &str = "sqlite:";

/// Which store a command that looks at orders means.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// The data folder of a `makegood dev` run, instead of the configured store.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

impl Place {
    /// The folder of a dev run that is meant: named, or, where no store is configured, the
    /// default one.
    pub fn folder(&self, config: &Config) -> Option<PathBuf> {
        let default = || exists(Path::new(DATA)).then(|| PathBuf::from(DATA));
        match (&self.data, &config.store) {
            (Some(data), _) => Some(data.clone()),
            (None, Some(_)) => None,
            (None, None) => default(),
        }
    }

    /// Opens it for looking. Works beside a dev run that is going.
    pub async fn look(&self, config: &Config) -> anyhow::Result<Arc<dyn Store>> {
        match self.folder(config) {
            Some(folder) => {
                holds_dev_run(&folder)?;
                let clock = Arc::new(SystemClock::default());
                Ok(Arc::new(SqliteStore::open_read_only(&folder.join(FILE), clock).await?))
            }
            None if config.store.is_none() => Err(Misuse(NOWHERE.to_owned()).into()),
            None => store_to_look(config).await,
        }
    }

    /// Opens it for changing something. In the folder of a dev run that happens at the
    /// simulated time at which the run ended, not years before or after it.
    pub async fn change(&self, config: &Config) -> anyhow::Result<Arc<dyn Store>> {
        let machine = || Arc::new(SystemClock::default());
        match self.folder(config) {
            Some(folder) => {
                holds_dev_run(&folder)?;
                let clock: Arc<dyn Clock> = match latest(&folder).await? {
                    Some(now) => Arc::new(SimulatedClock::starting_at(now)),
                    None => machine(),
                };
                sqlite(&folder, clock, Durability::PowerCut).await
            }
            None => store(config, machine()).await,
        }
    }
}

/// The configured store, once it has answered. Its tables are not checked yet.
pub(super) async fn store(
    config: &Config,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Arc<dyn Store>> {
    match postgres(config)? {
        Some(options) => Ok(Arc::new(PostgresStore::connect(options).await?)),
        None => sqlite_of(config, clock).await,
    }
}

/// The configured store, for looking: nothing is made, and a worker may be at it.
pub(super) async fn store_to_look(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    let clock = Arc::new(SystemClock::default());
    let Some(folder) = sqlite_folder(config)? else { return store(config, clock).await };
    let missing = || format!("there is no store in {}: run `makegood migrate`", folder.display());
    exists(&folder).then_some(()).ok_or_else(|| Misuse(missing()))?;
    Ok(Arc::new(SqliteStore::open_read_only(&folder.join(FILE), clock).await?))
}

/// The configured store, for a worker: a database that is not there yet is waited for.
pub(super) async fn store_to_wait_for(
    config: &Config,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Arc<dyn Store>> {
    match postgres(config)? {
        Some(options) => Ok(Arc::new(PostgresStore::new(options)?)),
        None => sqlite_of(config, clock).await,
    }
}

/// How to reach PostgreSQL, where the store is one.
fn postgres(config: &Config) -> anyhow::Result<Option<PostgresOptions>> {
    if sqlite_folder(config)?.is_some() {
        return Ok(None);
    }
    let (url, max_connections) = (config.store()?.clone(), config.database_connections);
    let options = PostgresOptions { url, max_connections };
    let wrong = "`store` must be a URL such as postgres://user:password@host:5432/database";
    PostgresStore::new(options.clone()).map_err(|_| Misuse(format!("configuration: {wrong}")))?;
    Ok(Some(options))
}

/// The folder of the store, where it is SQLite.
fn sqlite_folder(config: &Config) -> anyhow::Result<Option<PathBuf>> {
    let folder = config.store()?.expose_secret().strip_prefix(SQLITE);
    Ok(folder.map(|folder| PathBuf::from(folder.trim_start_matches("//"))))
}

async fn sqlite_of(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<Arc<dyn Store>> {
    let folder = sqlite_folder(config)?.unwrap_or_default();
    sqlite(&folder, clock, Durability::PowerCut).await
}

fn holds_dev_run(folder: &Path) -> anyhow::Result<()> {
    let missing =
        || format!("there is no dev run in {}: `makegood dev` makes one", folder.display());
    exists(folder).then_some(()).ok_or_else(|| Misuse(missing()).into())
}

/// Whether a dev run has left something there.
pub(super) fn exists(folder: &Path) -> bool {
    folder.join(FILE).exists()
}

/// The time at which the dev runs in a folder have arrived, if there were any.
pub(super) async fn latest(folder: &Path) -> anyhow::Result<Option<Time>> {
    if !exists(folder) {
        return Ok(None);
    }
    let clock = Arc::new(SimulatedClock::starting_at(Time::default()));
    let store = sqlite(folder, clock, Durability::PowerCut).await?;
    store.migrate().await?;
    let latest = store.latest_time().await?;
    store.close().await;
    Ok(latest)
}

/// "Now" for ages: a dev run lives in simulated time, which stands where its journal ends.
pub(super) async fn present(store: &dyn Store, simulated: bool) -> anyhow::Result<Time> {
    if simulated && let Some(latest) = store.latest_time().await? {
        return Ok(latest);
    }
    Ok(store.now().await?)
}

/// The store in a data folder, made where it is missing.
pub(super) async fn sqlite(
    folder: &Path,
    clock: Arc<dyn Clock>,
    durability: Durability,
) -> anyhow::Result<Arc<dyn Store>> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the data folder {}", folder.display()))?;
    Ok(Arc::new(SqliteStore::open(&folder.join(FILE), clock, durability).await?))
}

/// The configured broker. Connects when first used.
pub(super) fn broker(config: &Config) -> anyhow::Result<Arc<dyn Broker>> {
    let url = config.broker()?.clone();
    let connection_name = format!("makegood {}", config.deployment);
    if url.expose_secret().starts_with("kafka") {
        return kafka(config, url, connection_name);
    }
    let options = AmqpOptions { url, connection_name, prefix: String::new() };
    let wrong = "`broker` must be a URL such as amqp://user:password@host:5672/%2f";
    let broker = AmqpBroker::new(options).map_err(|_| Misuse(format!("configuration: {wrong}")))?;
    Ok(Arc::new(broker))
}

#[cfg(feature = "kafka")]
fn kafka(config: &Config, url: SecretString, client_id: String) -> anyhow::Result<Arc<dyn Broker>> {
    let options = KafkaOptions { url, client_id, prefix: String::new() };
    let broker = KafkaBroker::new(options)
        .map_err(|error| Misuse(format!("configuration: `broker`: {error}")))?;
    Ok(match &config.schema_registry {
        Some(url) => Arc::new(broker.framed_by(registry(url)?)),
        None => Arc::new(broker),
    })
}

#[cfg(feature = "kafka")]
pub(super) fn registry(url: &SecretString) -> anyhow::Result<Registry> {
    let misused = |error| Misuse(format!("configuration: `schema_registry`: {error}"));
    Ok(Registry::new(url).map_err(misused)?)
}

#[cfg(not(feature = "kafka"))]
fn kafka(_: &Config, _: SecretString, _: String) -> anyhow::Result<Arc<dyn Broker>> {
    let missing = "configuration: `broker` is a Kafka, and this build has no Kafka: build it with \
                   --features kafka, or use an amqp:// URL";
    Err(Misuse(missing.to_owned()).into())
}
