//! `audit`: compares the participants' ledgers with the sagas.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::{End, open, print_json};
use crate::config::Config;
use crate::fixture::auditor;

#[derive(Debug, Args)]
pub(super) struct Audit {
    /// Where the participants' ledgers are; beside the data, or as configured, otherwise.
    #[arg(long, value_name = "DIR")]
    ledgers: Option<PathBuf>,
    /// Sagas may still be under way, as long as a clock will look at them again.
    #[arg(long)]
    may_wait: bool,
    #[command(flatten)]
    place: open::Place,
    #[arg(long)]
    json: bool,
}

impl Audit {
    pub async fn run(self, config: &Config) -> anyhow::Result<End> {
        let store = self.place.look(config).await?;
        let folder = self.place.folder(config);
        let ledgers = match (self.ledgers, &folder) {
            (Some(ledgers), _) => ledgers,
            (None, Some(folder)) => folder.join("ledgers"),
            (None, None) => config.ledgers.clone(),
        };
        let catalog = crate::operate::definitions(&*store).await?;
        let definition = |name: &str, version: u32| {
            Some(Arc::new(catalog.get(name, version)?.definition.clone()))
        };
        let is_simulated = folder.is_some();
        let now = open::present(&*store, is_simulated).await?;
        // Between two dev runs time stands still: sagas that may wait wait for the next one.
        let clocks_fire = !(is_simulated && self.may_wait);
        let options = auditor::AuditOptions { now, may_wait: self.may_wait, clocks_fire };
        let report = auditor::audit(&*store, &definition, &ledgers, options).await?;
        if self.json {
            print_json(&report)?;
        } else {
            println!("{report}");
        }
        Ok(if report.is_clean() { End::Good } else { End::Bad })
    }
}
