//! Opens stores and brokers as the configuration says.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use secrecy::ExposeSecret;

use crate::broker::Broker;
use crate::broker::amqp::{AmqpBroker, AmqpOptions};
use crate::clock::{Clock, SimulatedClock, SystemClock};
use crate::config::Config;
use crate::saga::Time;
use crate::store::Store;
use crate::store::postgres::{PostgresOptions, PostgresStore};
use crate::store::sqlite::SqliteStore;

/// The data folder of `makegood dev`.
pub(super) const DATA: &str = ".makegood";
/// The SQLite file in a data folder.
const FILE: &str = "makegood.db";

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
                let file = folder.join(FILE);
                let clock = Arc::new(SystemClock::default());
                let missing = || {
                    format!("there is no dev run in {}: `makegood dev` makes one", folder.display())
                };
                anyhow::ensure!(file.exists(), missing());
                Ok(Arc::new(SqliteStore::open_read_only(&file, clock).await?))
            }
            None => store(config, Arc::new(SystemClock::default())).await,
        }
    }

    /// Opens it for changing something.
    pub async fn change(&self, config: &Config) -> anyhow::Result<Arc<dyn Store>> {
        match self.folder(config) {
            // Simulated time stands where the journal ends, and a deed there happens then.
            Some(folder) => {
                let clock: Arc<dyn Clock> = match latest(&folder).await? {
                    Time(0) => Arc::new(SystemClock::default()), // no run has begun there
                    now => Arc::new(SimulatedClock::starting_at(now)),
                };
                sqlite(&folder, clock).await
            }
            None => store(config, Arc::new(SystemClock::default())).await,
        }
    }
}

/// Where simulated time goes on in a data folder: the latest time that an earlier run came to.
pub(super) async fn latest(folder: &Path) -> anyhow::Result<Time> {
    if !exists(folder) {
        return Ok(Time::default());
    }
    let clock = Arc::new(SimulatedClock::starting_at(Time::default()));
    let store = sqlite(folder, clock).await?;
    store.migrate().await?;
    let latest = store.latest_time().await?;
    store.close().await;
    Ok(latest.unwrap_or_default())
}

/// The configured store, once it has answered. Its tables are not checked yet.
pub(super) async fn store(
    config: &Config,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Arc<dyn Store>> {
    let store = patient_store(config, clock).await?;
    store.now().await?;
    Ok(store)
}

/// The configured store, which may be away: for whoever waits until it is back.
pub(super) async fn patient_store(
    config: &Config,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Arc<dyn Store>> {
    let url = config.store()?;
    if let Some(folder) = url.expose_secret().strip_prefix("sqlite:") {
        return sqlite(Path::new(folder.trim_start_matches("//")), clock).await;
    }
    let options =
        PostgresOptions { url: url.clone(), max_connections: config.database_connections };
    Ok(Arc::new(PostgresStore::new(options)?))
}

/// Whether a dev run has left something there.
pub(super) fn exists(folder: &Path) -> bool {
    folder.join(FILE).exists()
}

/// "Now" for ages: a dev run lives in simulated time, which stands where its journal ends.
pub(super) async fn present(store: &dyn Store, simulated: bool) -> anyhow::Result<Time> {
    if simulated && let Some(latest) = store.latest_time().await? {
        return Ok(latest);
    }
    Ok(store.now().await?)
}

/// The store in a data folder, made where it is missing.
pub(super) async fn sqlite(folder: &Path, clock: Arc<dyn Clock>) -> anyhow::Result<Arc<dyn Store>> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the data folder {}", folder.display()))?;
    Ok(Arc::new(SqliteStore::open(&folder.join(FILE), clock).await?))
}

/// The configured broker. Connects when first used.
pub(super) fn broker(config: &Config) -> anyhow::Result<Arc<dyn Broker>> {
    let options = AmqpOptions {
        url: config.broker()?.clone(),
        connection_name: format!("makegood {}", config.deployment),
        prefix: String::new(),
    };
    Ok(Arc::new(AmqpBroker::new(options)?))
}
