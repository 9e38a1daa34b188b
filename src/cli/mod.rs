//! The command line: arguments in, wiring, results out. No logic of its own.
//!
//! Exit status: 0 done; 1 done, and the result is bad (a failed check, a finding, an order not
//! accounted for) or the work failed; 2 the arguments or the configuration are wrong.

#[macro_use]
mod print;

mod audit;
mod bench;
mod contract;
mod dashboards;
mod dead;
mod definitions;
mod dev;
mod open;
mod operator_token;
mod order;
mod participant;
mod participants;
mod push;
#[cfg(feature = "kafka")]
mod registration;
mod service;
mod signals;
mod simulated;
mod summary;
mod verbs;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigError, LogFormat};

/// Makes paid orders good: drives each through inventory, warehouse, courier and loan, and
/// undoes what was done when a step cannot be.
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true)]
struct Arguments {
    /// Configuration file; makegood.toml is read where it exists.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets a configuration key, such as `lanes=4`; wins over file and environment.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    #[command(subcommand)]
    command: Command,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    let key = key.trim();
    let is_key = !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    is_key.then(|| (key.to_owned(), value.to_owned())).ok_or("must be KEY=VALUE".to_owned())
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything here, without any service, in simulated time.
    Dev(dev::Dev),
    /// Create or upgrade the tables, and publish the definitions in sagas/.
    Migrate(service::Migrate),
    /// Take orders over and make them good, until SIGTERM.
    Worker(service::Run),
    /// Simulate inventory, warehouse, courier and loan on the configured broker.
    Participants(participants::Participants),
    /// Check somebody's service against the participant contract.
    #[command(subcommand)]
    Participant(participant::Participant),
    /// Measure sagas per second.
    Bench(bench::Bench),
    /// Look at orders, submit them, and put them right.
    #[command(subcommand)]
    Order(order::Order),
    /// What is an order doing, what does it wait for, and what would be undone?
    Explain(order::Explain),
    /// Look at messages that could not be processed; replay, correct and discard them.
    #[command(subcommand)]
    Dead(dead::Dead),
    /// Make a token for the operators' API.
    OperatorToken(operator_token::OperatorToken),
    /// Compare the participants' ledgers with the sagas.
    Audit(audit::Audit),
    /// Print what others build against: AsyncAPI, OpenAPI, JSON Schemas.
    Contract(contract::Contract),
    /// Write dashboards for Grafana: three of all workers, and one for each definition.
    Dashboards(dashboards::Dashboards),
    /// Check, test, draw and publish saga definitions.
    #[command(subcommand)]
    Saga(definitions::Saga),
}

/// What a command ends with.
enum End {
    Good,
    /// It worked, and what it found is not good.
    Bad,
}

pub fn main() -> ExitCode {
    let arguments = Arguments::parse(); // exits with 2 on wrong arguments
    // A simulation is a chain of small steps, each waiting for the one before: handing them
    // from thread to thread would cost more than the steps.
    let mut runtime = match arguments.command {
        Command::Dev(_) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let ended = match runtime.enable_all().build() {
        Ok(runtime) => runtime.block_on(run(arguments)),
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(End::Good) => ExitCode::SUCCESS,
        Ok(End::Bad) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            let misused = error.is::<ConfigError>() || error.is::<Misuse>();
            ExitCode::from(if misused { 2 } else { 1 })
        }
    }
}

/// Arguments that clap cannot see are wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misuse(String);

async fn run(arguments: Arguments) -> anyhow::Result<End> {
    let config = Config::load(arguments.config.as_deref(), &arguments.settings)?;
    match arguments.command {
        Command::Dev(command) => command.run(config).await,
        Command::Audit(command) => command.run(&config).await,
        Command::Migrate(command) => command.run(&config).await,
        Command::Worker(command) => command.run(config).await,
        Command::Participants(command) => command.run(config).await,
        Command::Participant(command) => command.run(&config).await,
        Command::Bench(command) => command.run(config).await,
        Command::Order(command) => command.run(&config).await,
        Command::Explain(command) => command.run(&config).await,
        Command::Contract(command) => command.run(&config).await,
        Command::Dead(command) => command.run(&config).await,
        Command::Dashboards(command) => command.run(),
        Command::OperatorToken(command) => command.run(),
        Command::Saga(command) => command.run(&config).await,
    }
}

/// Starts logging as configured.
fn log(config: &Config) {
    crate::telemetry::init_logging(config.log_format == LogFormat::Json, &config.log);
}

/// Prints a value as one JSON document.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}
