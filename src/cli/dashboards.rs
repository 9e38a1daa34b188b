//! `dashboards`: writes Grafana's dashboards, with one for each definition.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::definitions::{flawed, load};
use super::{End, Misuse};
use crate::telemetry::dashboards::{of_definition, of_every_worker};

#[derive(Debug, Args)]
pub(super) struct Dashboards {
    /// The folder to write them into, for Grafana to provision or to import.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Definitions: each gets a dashboard with a row for every step.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Dashboards {
    pub fn run(&self) -> anyhow::Result<End> {
        let mut dashboards = Vec::from(of_every_worker());
        for file in &self.files {
            match load(file)? {
                Ok(loaded) => dashboards.push(of_definition(&loaded.definition)),
                Err(errors) => return flawed(&errors),
            }
        }
        std::fs::create_dir_all(&self.folder)
            .map_err(|error| Misuse(format!("cannot make {}: {error}", self.folder.display())))?;
        for (name, dashboard) in dashboards {
            let path = self.folder.join(name);
            std::fs::write(&path, format!("{dashboard:#}\n"))
                .with_context(|| format!("cannot write {}", path.display()))?;
            println!("{}", path.display());
        }
        Ok(End::Good)
    }
}
