//! `migrate` and `worker`: what runs in production.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;

use super::definitions::publish_files;
use super::{End, log, open, signals};
use crate::clock::{Busy, SystemClock};
use crate::config::Config;
use crate::http;
use crate::telemetry::Telemetry;
use crate::worker::{Worker, shutdown};

#[derive(Debug, Args)]
pub(super) struct Migrate {
    /// Definitions to publish, besides the tables; none to publish nothing.
    #[arg(long, value_name = "DIR", default_value = "sagas")]
    sagas: PathBuf,
}

impl Migrate {
    pub async fn run(self, config: &Config) -> anyhow::Result<End> {
        let store = open::store(config, Arc::new(SystemClock::default())).await?;
        store.migrate().await?;
        println!("tables: up to date");
        let mut files: Vec<PathBuf> = match std::fs::read_dir(&self.sagas) {
            Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
            Err(_) => Vec::new(),
        };
        files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        files.sort();
        publish_files(&*store, &files).await
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
        let served = tokio::spawn(http::serve(listener, telemetry.clone(), shutdown.clone()));
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
        worker.run(shutdown, Busy::default()).await?;
        store.close().await;
        obeyed.abort();
        served.abort();
        tracing::info!("worker stopped");
        Ok(End::Good)
    }
}
