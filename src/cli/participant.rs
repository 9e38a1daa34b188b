//! `participant check`: the participant contract, played against somebody's real service over
//! the configured broker.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use indicatif::ProgressBar;
use serde_json::Value;

use super::{End, Misuse, definitions, dev, log, open, print_json};
use crate::catalog::{self, LoadedDefinition};
use crate::clock::SystemClock;
use crate::config::{Config, LogFormat};
use crate::fixture::kit::{Check, Material, Options, Restart, Subject};
use crate::order::Order;

/// The bounds of `--timeout`: shorter says nothing about a service, longer about nobody's patience.
const TIMEOUT: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(50)..=Duration::from_secs(600);
/// How often the line that tells what is waited for is drawn.
const DRAWN_EVERY: Duration = Duration::from_millis(120);
/// Only these of an order's fields are replaced: they name it.
const IDS: [&str; 2] = ["order_id", "tenant_id"];

#[derive(Debug, Subcommand)]
pub(super) enum Participant {
    /// Play the contract against a service over the configured broker, and judge each rule. The
    /// service does what it is told, for orders that nobody placed; at the end it is told to
    /// undo that.
    Check(Box<Arguments>),
}

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The service, by the name under which definitions send it commands.
    #[arg(long, value_name = "NAME")]
    participant: String,
    /// The definition that says which commands it gets: a file, or the name of one in sagas/ or
    /// of one that comes with Makegood.
    #[arg(long, value_name = "NAME", default_value = "order-fulfilment")]
    definition: String,
    /// Check only this command; without a definition, with the command that undoes it.
    #[arg(long = "command", value_name = "COMMAND[=COMPENSATION]")]
    commands: Vec<String>,
    /// An order that the service can do: the first one in this file of JSON. Its id is replaced by
    /// made-up ones.
    #[arg(long, value_name = "FILE")]
    order: Option<PathBuf>,
    /// What earlier steps handed on, as one JSON object by step.
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// How long each answer may take, such as 500ms or 1m.
    #[arg(long, value_name = "TIME", default_value = "10s")]
    timeout: humantime::Duration,
    /// Ask what became of commands, whatever the definition says.
    #[arg(long, conflicts_with = "no_probe")]
    probe: bool,
    /// Do not ask what became of commands.
    #[arg(long)]
    no_probe: bool,
    /// Start the service anew by this shell command, to see that it remembers.
    #[arg(long, value_name = "COMMAND")]
    restart: Option<String>,
    /// Where answers are taken from.
    #[arg(long, value_enum, default_value_t = Replies::Aside)]
    replies: Replies,
    /// Print every message, as it was.
    #[arg(long)]
    verbose: bool,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Replies {
    /// Only from the address that the commands name: a running worker hears nothing of it.
    Aside,
    /// Also from everybody's replies, for a service that knows no `reply_to`: a running worker
    /// hears its answers too, and makes dead letters of them.
    Shared,
}

impl Participant {
    pub async fn run(self, config: &Config) -> anyhow::Result<End> {
        let Participant::Check(arguments) = self;
        arguments.check(config).await
    }
}

impl Arguments {
    async fn check(self, config: &Config) -> anyhow::Result<End> {
        // A person watches: only what keeps them waiting.
        let (log_format, filter) = (LogFormat::Text, "makegood=warn".to_owned());
        log(&Config { log_format, log: filter, ..config.clone() });
        let timeout = *self.timeout;
        if !TIMEOUT.contains(&timeout) {
            return Err(Misuse("--timeout must be from 50ms to 10m".to_owned()).into());
        }
        let subjects = self.subjects()?;
        let material = self.material()?;
        let broker = open::broker(config)?;
        let progress = ProgressBar::new_spinner();
        progress.enable_steady_tick(DRAWN_EVERY);
        let told = progress.clone();
        let check = Check {
            broker: broker.clone(),
            clock: Arc::new(SystemClock::default()),
            participant: self.participant.clone(),
            subjects,
            material,
            options: Options {
                timeout,
                shared_replies: self.replies == Replies::Shared,
                restart: self.restart.clone().map(restart),
                progress: Box::new(move |what| told.set_message(what)),
            },
        };
        let report = check.run().await;
        progress.finish_and_clear();
        broker.close().await;
        let report = report?;
        match self.json {
            true => print_json(&report.json())?,
            false => print!("{}", report.text(self.verbose)),
        }
        Ok(if report.is_good() { End::Good } else { End::Bad })
    }

    /// What is checked, as the definition says or as it was named.
    fn subjects(&self) -> anyhow::Result<Vec<Subject>> {
        if !is_word(&self.participant) {
            let wanted = "small letters, digits and dashes, as definitions name it";
            return Err(Misuse(format!("--participant: must be {wanted}, such as wms")).into());
        }
        let mut subjects = Vec::new();
        let loaded = self.definition()?;
        let known = Subject::all(&loaded.definition, &self.participant);
        for named in &self.commands {
            let (command, undo) = match named.split_once('=') {
                Some((command, undo)) => (command, Some(undo)),
                None => (named.as_str(), None),
            };
            for name in std::iter::once(command).chain(undo) {
                is_command(name)?;
            }
            match known.iter().find(|subject| undo.is_none() && subject.name() == command) {
                Some(subject) => subjects.push(subject.clone()),
                None => subjects.push(Subject::alone(&self.participant, command, undo)),
            }
        }
        if self.commands.is_empty() {
            subjects = known;
        }
        if subjects.is_empty() {
            let others = loaded.definition.commands().map(|(participant, _)| participant);
            let others = others.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ");
            return Err(Misuse(format!(
                "the definition {} sends nothing to '{}', but to {others}. Name another one with \
                 --definition, or a command with --command {}.COMMAND",
                self.definition, self.participant, self.participant
            ))
            .into());
        }
        for subject in &mut subjects {
            subject.probe = (subject.probe || self.probe) && !self.no_probe;
        }
        Ok(subjects)
    }

    fn definition(&self) -> anyhow::Result<LoadedDefinition> {
        let name = &self.definition;
        let in_sagas = PathBuf::from(format!("sagas/{name}.toml"));
        let file = [PathBuf::from(name), in_sagas].into_iter().find(|path| path.is_file());
        let built_in = || {
            let is_it = |(path, _): &&(&str, &str)| **path == *format!("sagas/{name}.toml");
            dev::BUILT_IN.iter().find(is_it)
        };
        let loaded = match (file, built_in()) {
            (Some(path), _) => definitions::load(&path)?,
            (None, Some((path, text))) => catalog::load(path, text),
            (None, None) => {
                let missing = "is neither a file nor the name of a definition in sagas/";
                return Err(Misuse(format!("--definition: '{name}' {missing}")).into());
            }
        };
        Ok(loaded.map_err(|errors| Misuse(errors.to_fancy(false)))?)
    }

    /// The order that commands are about.
    fn material(&self) -> anyhow::Result<Material> {
        let mut material = Material::default();
        if let Some(path) = &self.order {
            let (tenant, fields) = order(path)?;
            material.tenant = tenant;
            material.order = fields;
        }
        if let Some(path) = &self.results {
            material.results = results(path)?;
        }
        Ok(material)
    }
}

fn is_word(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_command(name: &str) -> Result<(), Misuse> {
    if name.contains('.') && name.split('.').all(is_word) {
        return Ok(());
    }
    let wanted = "such as wms.pick, or wms.pick=wms.cancel-pick with what undoes it";
    Err(Misuse(format!("--command: '{name}' is no command: {wanted}")))
}

/// The tenant and the other fields of the first order in a file.
fn order(path: &Path) -> Result<(String, BTreeMap<String, Value>), Misuse> {
    let name = path.display();
    let wrong = |why: &dyn std::fmt::Display| Misuse(format!("--order: {name}: {why}"));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    // One a line, or one over many lines.
    let mut objects = serde_json::Deserializer::from_str(&text).into_iter();
    let first: Option<Result<BTreeMap<String, Value>, _>> = objects.next();
    let mut fields = first.ok_or_else(|| wrong(&"it has no order"))?.map_err(|e| wrong(&e))?;
    if let Some(Value::Object(order)) = fields.remove("order") {
        fields = order.into_iter().collect(); // beside a script
    }
    let payload = serde_json::to_vec(&fields).map_err(|error| wrong(&error))?;
    let order = Order::parse(&payload).map_err(|error| wrong(&error))?;
    fields.retain(|name, _| !IDS.contains(&name.as_str()));
    Ok((order.tenant_id, fields))
}

fn results(path: &Path) -> Result<BTreeMap<String, Value>, Misuse> {
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Misuse(format!("--results: cannot read {name}: {error}")))?;
    serde_json::from_str(&text)
        .map_err(|error| Misuse(format!("--results: {name} is no JSON object by step: {error}")))
}

/// Runs a shell command to its end. What it prints is not part of the result.
fn restart(command: String) -> Restart {
    Box::new(move || {
        let command = command.clone();
        Box::pin(async move {
            let ran = tokio::task::spawn_blocking(move || {
                let mut shell = std::process::Command::new("sh");
                shell.args(["-c", &command]).stdin(Stdio::null()).stdout(Stdio::null()).status()
            });
            match ran.await {
                Ok(Ok(status)) if status.success() => Ok(()),
                Ok(Ok(status)) => Err(format!("the command of --restart ended with {status}")),
                Ok(Err(error)) => Err(format!("the command of --restart cannot be run: {error}")),
                Err(panic) => Err(panic.to_string()),
            }
        })
    })
}
