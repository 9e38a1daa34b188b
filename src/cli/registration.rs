//! `contract subjects` and `contract register`: the schemas of all messages, in a schema registry.

use clap::Args;
use serde::Serialize;

use super::{End, Misuse, open, print_json};
use crate::broker::kafka::registry::{NoId, Record};
use crate::config::Config;
use crate::telemetry::chain;

#[derive(Debug, Args)]
pub(super) struct Register {
    /// Print what became of each as JSON.
    #[arg(long)]
    json: bool,
}

/// What became of one schema.
#[derive(Serialize)]
struct Registered {
    subject: String,
    id: Option<u32>,
    error: Option<String>,
}

impl Register {
    pub async fn run(&self, config: &Config) -> anyhow::Result<End> {
        let registry = open::registry(config.schema_registry()?)?;
        let mut all = Vec::new();
        for record in Record::ALL {
            let registered = registry.register(record).await;
            // Whoever does not answer for one does not answer for the others.
            if let Err(error @ NoId::Unanswered(_)) = registered {
                return Err(error.into());
            }
            let (subject, error) = (record.subject(), registered.as_ref().err());
            let error = error.map(|error| chain(error));
            all.push(Registered { subject, id: registered.ok(), error });
        }
        let is_good = all.iter().all(|registered| registered.error.is_none());
        if self.json {
            print_json(&all)?;
        } else {
            all.iter().for_each(tell);
        }
        Ok(if is_good { End::Good } else { End::Bad })
    }
}

fn tell(registered: &Registered) {
    match registered {
        Registered { subject, id: Some(id), .. } => println!("{subject:36} id {id}"),
        Registered { subject, error, .. } => {
            println!("{subject:36} {}", error.as_deref().unwrap_or_default());
        }
    }
}

/// Prints the schema of a subject, or all subjects.
pub(super) fn print(subject: Option<&str>) -> Result<(), Misuse> {
    let Some(subject) = subject else {
        Record::ALL.iter().for_each(|record| println!("{}", record.subject()));
        return Ok(());
    };
    let record = Record::ALL.into_iter().find(|record| record.subject() == subject);
    let known = || Record::ALL.map(Record::subject).join(", ");
    let unknown =
        || Misuse(format!("there is no subject '{subject}', expected one of {}", known()));
    println!("{}", record.ok_or_else(unknown)?.schema());
    Ok(())
}
