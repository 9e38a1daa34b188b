//! `contract`: what is published for those who build against Makegood, as it is in `docs/`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};

use super::{End, Misuse};
use crate::config::Config;

macro_rules! schemas {
    ($($name:literal)*) => {
        [$(($name, include_str!(concat!("../../docs/schemas/", $name, ".json")))),*]
    };
}

const ASYNCAPI: &str = include_str!("../../docs/asyncapi.yaml");
const OPENAPI: &str = include_str!("../../docs/openapi.yaml");
const PARTICIPANTS: &str = include_str!("../../docs/participants.md");
/// By name; they refer to each other as files in one folder.
const SCHEMAS: [(&str, &str); 22] = schemas! {
    "cancel" "cancellation" "cloudevent" "command" "envelope" "fact"
    "order" "order-cancel-refused" "order-cancel-requested" "order-created" "order-reached"
    "order-view" "probe" "probe-reply" "problem" "readiness" "receipt" "reply" "saga-abandoned"
    "saga-attention"
    "shipment-status" "values"
};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Contract {
    #[command(subcommand)]
    which: Option<Which>,
    /// Write all of it into this folder, as files that refer to each other.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Which {
    /// AsyncAPI 3.0: channels and messages, on RabbitMQ and on Kafka.
    Asyncapi,
    /// OpenAPI 3.1: the doors for shops and couriers, health and metrics.
    Openapi,
    /// JSON Schemas (2020-12) of all messages; their names, or the one of this name.
    Schemas { name: Option<String> },
    /// What a participant promises, in words (Markdown).
    Participants,
    /// The subjects of a schema registry; or the schema as it is registered under the one of this
    /// name, in one document.
    #[cfg(feature = "kafka")]
    Subjects { name: Option<String> },
    /// Register all of these in the configured schema registry: for who lets no program do that
    /// by itself (`?register=false`).
    #[cfg(feature = "kafka")]
    Register(super::registration::Register),
}

impl Contract {
    #[cfg_attr(not(feature = "kafka"), expect(unused_variables))] // only a registry needs it
    pub async fn run(&self, config: &Config) -> anyhow::Result<End> {
        match (&self.which, &self.out) {
            (_, Some(folder)) => write_all(folder)?,
            (Some(Which::Asyncapi), _) => print!("{ASYNCAPI}"),
            (Some(Which::Openapi), _) => print!("{OPENAPI}"),
            (Some(Which::Participants), _) => print!("{PARTICIPANTS}"),
            (Some(Which::Schemas { name: Some(name) }), _) => print!("{}", schema(name)?),
            (Some(Which::Schemas { name: None }), _) => list_schemas(""),
            #[cfg(feature = "kafka")]
            (Some(Which::Subjects { name }), _) => super::registration::print(name.as_deref())?,
            #[cfg(feature = "kafka")]
            (Some(Which::Register(register)), _) => return register.run(config).await,
            (None, None) => list(),
        }
        Ok(End::Good)
    }
}

fn schema(name: &str) -> Result<&'static str, Misuse> {
    let name = name.strip_suffix(".json").unwrap_or(name);
    SCHEMAS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text).ok_or_else(|| {
        let known: Vec<&str> = SCHEMAS.iter().map(|(name, _)| *name).collect();
        Misuse(format!("there is no schema '{name}', expected one of {}", known.join(", ")))
    })
}

fn list() {
    println!("asyncapi       AsyncAPI 3.0: channels and messages, on RabbitMQ and on Kafka");
    println!("openapi        OpenAPI 3.1: the doors for shops and couriers, health and metrics");
    println!("participants   what a participant promises, in words");
    println!("schemas        JSON Schemas (2020-12):");
    list_schemas("  ");
    println!("\nAll of it, as files that refer to each other: contract --out DIR");
}

fn list_schemas(indent: &str) {
    let width = SCHEMAS.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, text) in SCHEMAS {
        println!("{indent}{name:width$}  {}", title(text));
    }
}

fn title(schema: &str) -> String {
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap_or_default();
    schema["title"].as_str().unwrap_or_default().to_owned()
}

fn write_all(folder: &Path) -> anyhow::Result<()> {
    let texts =
        [("asyncapi.yaml", ASYNCAPI), ("openapi.yaml", OPENAPI), ("participants.md", PARTICIPANTS)];
    let texts = texts.map(|(name, text)| (name.to_owned(), text)).into_iter();
    let schemas = SCHEMAS.map(|(name, text)| (format!("schemas/{name}.json"), text));
    let schemas_folder = folder.join("schemas");
    std::fs::create_dir_all(&schemas_folder)
        .with_context(|| format!("--out: cannot make {}", schemas_folder.display()))?;
    for (name, text) in texts.chain(schemas) {
        let path = folder.join(name);
        std::fs::write(&path, text)
            .with_context(|| format!("--out: cannot write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}
