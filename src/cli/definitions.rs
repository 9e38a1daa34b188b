//! `saga check|test|graph|publish|list`: for whoever writes definitions.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{End, Misuse, open, print_json};
use crate::catalog::{self, LoadedDefinition};
use crate::clock::rfc3339;
use crate::config::Config;
use crate::store::{DefinitionRow, Published, Store};

/// The largest definition file, in bytes; far above any that a person could read.
const MAX_FILE_BYTES: u64 = 256 * 1024;

#[derive(Debug, Subcommand)]
pub(super) enum Saga {
    /// Check definition files: every rule, every flaw with its line.
    Check(Files),
    /// Run the tests that the files carry; a failing one shows the whole run.
    Test(Files),
    /// Draw a definition as a Mermaid flowchart.
    Graph { file: PathBuf },
    /// Publish definitions: new orders start with the newest version, orders in flight keep theirs.
    Publish {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        place: open::Place,
        /// Print what was published as one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// List what is published.
    List {
        #[command(flatten)]
        place: open::Place,
        /// Print them as JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Files {
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print what was found as one JSON object.
    #[arg(long)]
    json: bool,
}

impl Saga {
    pub async fn run(self, config: &Config) -> anyhow::Result<End> {
        match self {
            Saga::Check(files) => check(&files),
            Saga::Test(files) => test(&files),
            Saga::Graph { file } => {
                let loaded = load(&file)?;
                match loaded {
                    Ok(loaded) => print!("{}", catalog::mermaid(&loaded.definition)),
                    Err(errors) => return flawed(&errors),
                }
                Ok(End::Good)
            }
            Saga::Publish { files, place, json } => {
                let store = place.change(config).await?;
                publish_files(&*store, &files, json).await
            }
            Saga::List { place, json } => list(&*place.look(config).await?, json).await,
        }
    }
}

pub(super) type Loaded = Result<LoadedDefinition, catalog::CatalogErrors>;

pub(super) fn load(path: &Path) -> anyhow::Result<Loaded> {
    let name = path.display().to_string();
    let about = |error| Misuse(format!("cannot read {name}: {error}"));
    let size = std::fs::metadata(path).map_err(about)?.len();
    if size > MAX_FILE_BYTES {
        return Err(Misuse(format!("{name} has more than {MAX_FILE_BYTES} bytes")).into());
    }
    let text = std::fs::read_to_string(path).map_err(about)?;
    Ok(catalog::load(&name, &text))
}

/// Reads all files before anything is said about one: a name that is wrong is the caller's
/// mistake, and no finding.
fn load_all(paths: &[PathBuf]) -> anyhow::Result<Vec<(String, Loaded)>> {
    paths.iter().map(|path| Ok((path.display().to_string(), load(path)?))).collect()
}

pub(super) fn flawed(errors: &catalog::CatalogErrors) -> anyhow::Result<End> {
    eprint!("{}", errors.to_fancy(std::io::stderr().is_terminal()));
    Ok(End::Bad)
}

fn check(arguments: &Files) -> anyhow::Result<End> {
    let mut end = End::Good;
    let mut reports = Vec::new();
    for (name, loaded) in load_all(&arguments.files)? {
        match loaded {
            Ok(loaded) => {
                let definition = &loaded.definition;
                let (steps, tests) = (definition.steps().len(), loaded.tests.len());
                if !arguments.json {
                    let about = format!("{} version {}", definition.name(), definition.version());
                    println!("{name}: {about}: good, {steps} steps, {tests} tests");
                }
            }
            Err(errors) => {
                end = End::Bad;
                if arguments.json {
                    reports.extend(errors.to_json());
                } else {
                    flawed(&errors)?;
                }
            }
        }
    }
    if arguments.json {
        let good = matches!(end, End::Good);
        print_json(&json!({ "good": good, "errors": reports }))?;
    }
    Ok(end)
}

fn test(arguments: &Files) -> anyhow::Result<End> {
    let mut end = End::Good;
    let (mut reports, mut flaws) = (Vec::new(), Vec::new());
    let (mut passed, mut failed) = (0, 0);
    for (name, loaded) in load_all(&arguments.files)? {
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(errors) => {
                end = End::Bad;
                match arguments.json {
                    true => flaws.extend(errors.to_json()),
                    false => _ = flawed(&errors)?,
                }
                continue;
            }
        };
        for run in catalog::run(&loaded) {
            if run.passed {
                passed += 1
            } else {
                failed += 1
            }
            if arguments.json {
                reports.push(json!({ "file": name, "test": run }));
            } else {
                print!("{name}: {}", run.to_text());
            }
        }
    }
    if failed > 0 {
        end = End::Bad;
    }
    if arguments.json {
        let told = json!({ "passed": passed, "failed": failed, "errors": flaws, "tests": reports });
        print_json(&told)?;
    } else {
        println!("{passed} passed, {failed} failed");
    }
    Ok(end)
}

/// Publishes files, all or, where one is flawed, none.
pub(super) async fn publish_files(
    store: &dyn Store,
    files: &[PathBuf],
    json: bool,
) -> anyhow::Result<End> {
    let (mut definitions, mut flaws) = (Vec::new(), Vec::new());
    for (_, loaded) in load_all(files)? {
        match loaded {
            Ok(loaded) => definitions.push(loaded),
            Err(errors) => {
                flaws.extend(errors.to_json());
                if !json {
                    flawed(&errors)?;
                }
            }
        }
    }
    if flaws.is_empty() {
        return publish(store, definitions, json).await;
    }
    if json {
        print_json(&json!({ "definitions": [], "errors": flaws }))?;
    }
    Ok(End::Bad)
}

/// Publishes definitions and says which were new.
pub(super) async fn publish(
    store: &dyn Store,
    definitions: Vec<LoadedDefinition>,
    json: bool,
) -> anyhow::Result<End> {
    let mut published = Vec::new();
    for loaded in definitions {
        let row = row(&loaded, store.now().await?);
        let is_new = store.publish_definition(&row).await? == Published::New;
        if !json {
            let word = if is_new { "published" } else { "already published" };
            println!("{} version {}: {word}", row.name, row.version);
        }
        published.push(json!({ "name": row.name, "version": row.version, "new": is_new }));
    }
    if json {
        print_json(&json!({ "definitions": published, "errors": [] }))?;
    }
    Ok(End::Good)
}

pub(super) fn row(loaded: &LoadedDefinition, now: crate::saga::Time) -> DefinitionRow {
    DefinitionRow {
        name: loaded.definition.name().to_owned(),
        version: loaded.definition.version(),
        content: loaded.text.clone(),
        published_at: now,
    }
}

async fn list(store: &dyn Store, json: bool) -> anyhow::Result<End> {
    let rows = store.definitions().await?;
    if json {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                let published_at = rfc3339(row.published_at);
                json!({ "name": row.name, "version": row.version, "published_at": published_at })
            })
            .collect();
        print_json(&rows)?;
    } else {
        for row in rows {
            println!(
                "{} version {}, published {}",
                row.name,
                row.version,
                rfc3339(row.published_at)
            );
        }
    }
    Ok(End::Good)
}
