//! `migrate` and `worker`: what runs in production.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::definitions::{publish, publish_files};
use super::{End, Misuse, log, open, signals};
use crate::clock::{Busy, Clock, SystemClock};
use crate::config::Config;
use crate::http::{self, Accounts, Certificate, Desk, Doors, Operators};
use crate::store::Store;
use crate::telemetry::Telemetry;
use crate::worker::{Entrance, Shutdown, Worker, entrance, shutdown};

/// For the last answers to leave, after the worker has ended.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct Migrate {
    /// The folder of the definitions to publish; sagas/ where it exists, or else those that
    /// come with Makegood.
    #[arg(long, value_name = "DIR")]
    sagas: Option<PathBuf>,
    /// Print what was published as one JSON object.
    #[arg(long)]
    json: bool,
}

impl Migrate {
    pub async fn run(self, config: &Config) -> anyhow::Result<End> {
        let store = open::store(config, Arc::new(SystemClock::default())).await?;
        store.migrate().await?;
        if !self.json {
            println!("tables: up to date");
        }
        let folder = self.sagas.clone().unwrap_or_else(|| PathBuf::from("sagas"));
        if self.sagas.is_none() && !folder.is_dir() {
            return publish(&*store, super::dev::built_in()?, self.json).await;
        }
        let entries = std::fs::read_dir(&folder)
            .map_err(|error| Misuse(format!("--sagas: {}: {error}", folder.display())))?;
        let mut files: Vec<PathBuf> =
            entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        files.sort();
        publish_files(&*store, &files, self.json).await
    }
}

#[derive(Debug, Args)]
pub(super) struct Run {}

impl Run {
    pub async fn run(self, config: Config) -> anyhow::Result<End> {
        log(&config);
        let system_clock = Arc::new(SystemClock::default());
        let store = open::store_to_wait_for(&config, system_clock.clone()).await?;
        let broker = open::broker(&config)?;
        let telemetry = Arc::new(Telemetry::new());
        let address = config.http_listen;
        let listener = http::bind(address)
            .await
            .with_context(|| format!("`http_listen`: cannot listen on {address}"))?;
        let options = config.worker();
        let (stopper, shutdown) = shutdown();
        let (entrance, reception) = entrance();
        let parts = (store.clone(), system_clock.clone() as Arc<dyn Clock>, telemetry.clone());
        let doors = doors(&config, entrance, parts, &shutdown).await?;
        let desk = desk(&config, &store)?;
        let serving = http::serve(listener, telemetry.clone(), shutdown.clone(), desk);
        let mut served = tokio::spawn(serving);
        let bound = options.drain;
        let obeyed = tokio::spawn(signals::obey(stopper, bound));
        let worker = Worker {
            store: store.clone(),
            broker,
            clock: system_clock.clone(),
            telemetry,
            options,
            system_clock: Some(system_clock),
        };
        tracing::info!(version = env!("CARGO_PKG_VERSION"), %address, "worker starts");
        tokio::select! {
            ran = worker.run_behind(Some(reception), shutdown, Busy::default()) => ran?,
            // Without metrics and health nobody would see what becomes of the worker.
            ended = &mut served => {
                ended.context("the HTTP server broke")?.context("the HTTP server broke")?;
                anyhow::bail!("the HTTP server ended");
            }
        }
        if let Some(doors) = doors {
            // Every caller has its answer by now; whoever does not take it is not waited for.
            let _ = timeout(LAST_ANSWERS, doors).await;
        }
        store.close().await;
        obeyed.abort();
        served.abort();
        tracing::info!("worker stopped");
        Ok(End::Good)
    }
}

/// The operators' API, where operators are configured.
fn desk(config: &Config, store: &Arc<dyn Store>) -> anyhow::Result<Option<Desk>> {
    let Some(path) = &config.operators else { return Ok(None) };
    let operators = Operators::open(path)
        .map_err(|error| Misuse(format!("configuration: `operators`: {error}")))?;
    let (store, source) = (store.clone(), config.worker().source);
    Ok(Some(Desk { store, source, policy: config.second_person(), operators }))
}

type Parts = (Arc<dyn Store>, Arc<dyn Clock>, Arc<Telemetry>);

/// Opens the doors for shops and couriers, where they are configured. They end with the worker.
async fn doors(
    config: &Config,
    entrance: Entrance,
    parts: Parts,
    shutdown: &Shutdown,
) -> anyhow::Result<Option<JoinHandle<()>>> {
    let (Some(address), Some(accounts)) = (config.public_listen, &config.accounts) else {
        return Ok(None);
    };
    let misused = |key: &str, error: &dyn std::error::Error| {
        Misuse(format!("configuration: `{key}`: {error}"))
    };
    let accounts = Accounts::open(accounts).map_err(|error| misused("accounts", &error))?;
    let accounts = Arc::new(accounts);
    let certificate = match (&config.http_tls_certificate, &config.http_tls_key) {
        (Some(chain), Some(key)) => {
            let opened = Certificate::open(chain, key);
            Some(Arc::new(opened.map_err(|error| misused("http_tls_certificate", &error))?))
        }
        _ => None,
    };
    let listener = http::bind(address)
        .await
        .with_context(|| format!("`public_listen`: cannot listen on {address}"))?;
    let telemetry = parts.2.clone();
    let doors = Doors::new(entrance, parts, accounts.clone(), shutdown.clone(), config.doors());
    let scheme = if certificate.is_some() { "https" } else { "http" };
    tracing::info!(%address, scheme, "doors open");
    Ok(Some(tokio::spawn(async move {
        let serving = http::serve_doors(listener, Arc::new(doors), certificate.clone());
        let renewing = async {
            match &certificate {
                Some(certificate) => certificate.keep_up(&telemetry).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = serving => {}
            () = accounts.keep_up(&telemetry) => {}
            () = renewing => {}
        }
    })))
}
