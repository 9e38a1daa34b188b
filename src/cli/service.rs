//! `migrate` and `worker`: what runs in production.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;

use super::definitions::{publish, publish_files};
use super::{End, Misuse, log, open, signals};
use crate::clock::{Busy, SystemClock};
use crate::config::Config;
use crate::http;
use crate::telemetry::Telemetry;
use crate::worker::{Worker, shutdown};

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
        let mut served = tokio::spawn(http::serve(listener, telemetry.clone(), shutdown.clone()));
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
            ran = worker.run(shutdown, Busy::default()) => ran?,
            // Without metrics and health nobody would see what becomes of the worker.
            ended = &mut served => {
                ended.context("the HTTP server broke")?.context("the HTTP server broke")?;
                anyhow::bail!("the HTTP server ended");
            }
        }
        store.close().await;
        obeyed.abort();
        served.abort();
        tracing::info!("worker stopped");
        Ok(End::Good)
    }
}
