//! `audit`: compares the participants' ledgers with the sagas.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::{End, open, print_json};
use crate::clock::wait;
use crate::config::Config;
use crate::fixture::auditor::{self, AuditOptions, AuditReport, Rule};
use crate::saga::Time;

/// How often a running system is looked at before what was found is told. Ledgers and sagas are
/// read one after the other, and what is on its way between the two looks like a finding.
const LOOKS: u32 = 3;
/// Between two looks: far longer than a message is on its way.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);

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

/// What to do about findings that may be none: the audit cannot know what was meant.
fn advice(report: &AuditReport, options: AuditOptions, folder: Option<&Path>) -> Vec<String> {
    let found = |rule| report.findings.iter().any(|finding| finding.rule == rule);
    let mut advice = Vec::new();
    if found(Rule::Stuck) && !options.may_wait {
        advice.push("Orders that are still under way are fine with --may-wait.".to_owned());
    }
    if let (true, Some(folder)) = (found(Rule::Outbox), folder) {
        advice.push(format!(
            "What an operator's verb wrote goes out with the next `makegood dev --data {}`.",
            folder.display()
        ));
    }
    advice
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
        // Between two dev runs time stands still: sagas that may wait wait for the next one.
        let clocks_fire = !(is_simulated && self.may_wait);
        let mut options = AuditOptions { now: Time(0), may_wait: self.may_wait, clocks_fire };
        let mut report: Option<AuditReport> = None;
        for look in 1..=LOOKS {
            options.now = open::present(&*store, is_simulated).await?;
            let mut latest = auditor::audit(&*store, &definition, &ledgers, options).await?;
            if let Some(earlier) = &report {
                latest.keep_what_was_found_before(earlier);
            }
            let is_told = latest.is_clean() || is_simulated || look == LOOKS;
            let found = latest.findings.len();
            report = Some(latest);
            if is_told {
                break;
            }
            eprintln!("found {found}: looking again, for what was only on its way");
            wait(BETWEEN_LOOKS).await;
        }
        let report = report.unwrap_or_default();
        if self.json {
            print_json(&report)?;
        } else {
            println!("{report}");
            for advice in advice(&report, options, folder.as_deref()) {
                println!("{advice}");
            }
        }
        Ok(if report.is_clean() { End::Good } else { End::Bad })
    }
}
