//! Saga definitions as their authors write them: TOML files, checked, tested and drawn.
//!
//! [`load`] turns one file into a [`LoadedDefinition`] or tells everything that is wrong with
//! it; [`run`] runs its inline tests; [`mermaid`] draws it; [`Catalog`] holds all definitions a
//! worker knows and answers which of them an event concerns. No IO here: whoever reads files or
//! the store hands in text.

mod graph;
mod inline_test;
mod keys;
mod names;
mod narrate;
mod notice;
mod parse;
mod problem;
mod rehearsal;
mod step;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::saga::Definition;

pub use graph::mermaid;
pub use inline_test::{Answer, Expectation, InlineTest, Moment, Then, When};
pub use problem::{CatalogErrors, Problem};
pub use rehearsal::{Judged, TestRun, TraceLine, run};

/// A definition with what its file says besides.
#[derive(Debug, Clone)]
pub struct LoadedDefinition {
    pub definition: Definition,
    pub tests: Vec<InlineTest>,
    /// The file as it was written: what is published, compared and shown.
    pub text: String,
}

/// Reads a definition file. `name` is the file's name, for messages.
///
/// # Errors
/// Everything that is wrong with the file, each with its place and what to do about it.
pub fn load(name: &str, text: &str) -> Result<LoadedDefinition, CatalogErrors> {
    let told = |problems| CatalogErrors::new(name, text, problems);
    let (definition, written) = parse::parse(text).map_err(told)?;
    let tests = inline_test::read(&definition, &written).map_err(told)?;
    Ok(LoadedDefinition { definition, tests, text: text.to_owned() })
}

/// Two definitions that cannot be in one catalog.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there are two definitions '{name}' version {version} with different texts")]
pub struct ConflictingVersions {
    pub name: String,
    pub version: u32,
}

/// All definitions that a worker knows. Cheap to clone: clones share it.
#[derive(Debug, Clone, Default)]
pub struct Catalog(Arc<Shelves>);

#[derive(Debug, Default)]
struct Shelves {
    by_version: BTreeMap<String, BTreeMap<u32, Arc<LoadedDefinition>>>,
    starting: HashMap<String, Vec<Arc<LoadedDefinition>>>,
    cancelled: HashMap<String, Vec<String>>,
    awaiting: HashMap<String, Vec<String>>,
}

/// What a broker must provide for a set of definitions, as plain names without versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopologyParts {
    /// Each participant with the commands (and compensations) that it gets.
    pub participants: Vec<(String, Vec<String>)>,
    pub start_events: Vec<String>,
    pub cancel_events: Vec<String>,
    pub facts: Vec<String>,
}

impl Catalog {
    /// A catalog of these definitions. The same one twice is the same one.
    ///
    /// # Errors
    /// When one version of a definition has two texts.
    pub fn new(
        definitions: impl IntoIterator<Item = LoadedDefinition>,
    ) -> Result<Catalog, ConflictingVersions> {
        let mut shelves = Shelves::default();
        for loaded in definitions {
            let (name, version) =
                (loaded.definition.name().to_owned(), loaded.definition.version());
            let versions = shelves.by_version.entry(name.clone()).or_default();
            match versions.get(&version) {
                Some(known) if known.text != loaded.text => {
                    return Err(ConflictingVersions { name, version });
                }
                Some(_) => {}
                None => {
                    versions.insert(version, Arc::new(loaded));
                }
            }
        }
        shelves.index();
        Ok(Catalog(Arc::new(shelves)))
    }

    /// All definitions in all versions, by name and version.
    pub fn all(&self) -> impl Iterator<Item = &Arc<LoadedDefinition>> {
        self.0.by_version.values().flat_map(BTreeMap::values)
    }

    #[must_use]
    pub fn get(&self, name: &str, version: u32) -> Option<&Arc<LoadedDefinition>> {
        self.0.by_version.get(name)?.get(&version)
    }

    #[must_use]
    pub fn newest(&self, name: &str) -> Option<&Arc<LoadedDefinition>> {
        self.0.by_version.get(name)?.values().next_back()
    }

    /// The definitions that an event starts, each in its newest version: an older one starts
    /// nothing any more.
    #[must_use]
    pub fn starting_on(&self, event: &str) -> &[Arc<LoadedDefinition>] {
        self.0.starting.get(event).map_or(&[], Vec::as_slice)
    }

    /// The names of the definitions of which some version is cancelled by an event. Names,
    /// because a saga in flight runs under the version that it was started with.
    #[must_use]
    pub fn cancelled_by(&self, event: &str) -> &[String] {
        self.0.cancelled.get(event).map_or(&[], Vec::as_slice)
    }

    /// The names of the definitions of which some version waits for a fact.
    #[must_use]
    pub fn awaiting(&self, fact: &str) -> &[String] {
        self.0.awaiting.get(fact).map_or(&[], Vec::as_slice)
    }

    /// What a broker must provide. Old versions count: their sagas are still in flight.
    #[must_use]
    pub fn topology(&self) -> TopologyParts {
        let mut participants: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (participant, command) in self.all().flat_map(|loaded| loaded.definition.commands()) {
            participants.entry(participant).or_default().insert(command);
        }
        let owned = |names: BTreeSet<&str>| names.into_iter().map(str::to_owned).collect();
        let sorted = |index: &HashMap<String, Vec<String>>| {
            index.keys().cloned().collect::<BTreeSet<_>>().into_iter().collect()
        };
        let starts = self.all().map(|loaded| loaded.definition.starts_on()).collect();
        TopologyParts {
            participants: participants
                .into_iter()
                .map(|(participant, commands)| (participant.to_owned(), owned(commands)))
                .collect(),
            start_events: owned(starts),
            cancel_events: sorted(&self.0.cancelled),
            facts: sorted(&self.0.awaiting),
        }
    }
}

impl Shelves {
    fn index(&mut self) {
        for (name, versions) in &self.by_version {
            let newest = versions.values().next_back();
            if let Some(newest) = newest {
                let event = newest.definition.starts_on().to_owned();
                self.starting.entry(event).or_default().push(Arc::clone(newest));
            }
            for definition in versions.values().map(|loaded| &loaded.definition) {
                if let Some(event) = definition.cancels_on() {
                    add(&mut self.cancelled, event, name);
                }
                for fact in definition.facts() {
                    add(&mut self.awaiting, fact, name);
                }
            }
        }
    }
}

fn add(index: &mut HashMap<String, Vec<String>>, key: &str, name: &str) {
    let names = index.entry(key.to_owned()).or_default();
    if !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}
