//! Configuration: defaults < file < environment < flags, validated once.
//!
//! The file is `makegood.toml` (or `--config FILE`); the environment has `MAKEGOOD_<KEY>` for
//! every key. Unknown keys are refused. URLs hold passwords and are never printed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::broker::DEFAULT_MAX_MESSAGE_BYTES;
use crate::http;
use crate::operate::Policy;
use crate::order::is_id;
use crate::telemetry::is_log_filter;
use crate::worker;

/// The file that is read where it exists and no other is named.
const DEFAULT_FILE: &str = "makegood.toml";
/// Connections for all that is not a lane: relays, sweeper, timers, dead letters, intake and the
/// counting. A part that waits for a turn longer than a few seconds takes the database for away.
const SPARE_CONNECTIONS: u32 = 6;
/// Only the project's own tests and their scripts read these.
const OF_THE_TESTS: &str = "MAKEGOOD_TEST_";
/// What the deserializer cannot say about a value that it refuses.
const EXPECTED: [(&str, &str); 3] = [
    ("http_listen", "an address and a port, such as 127.0.0.1:9600"),
    ("public_listen", "an address and a port, such as 0.0.0.0:9443"),
    ("log_format", "json or text"),
];

/// Settings of a worker and of everything that works beside it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `postgres://…` for production, or `sqlite:DIR`.
    pub store: Option<SecretString>,
    /// `amqp://user:password@host:5672/vhost` (RabbitMQ) or
    /// `kafka://host:9092,other:9092/prefix?partitions=12&replication=3&retention_days=14`; with
    /// an `s`, over TLS. Kafka's URL may have a `user:password@` and properties of its client.
    pub broker: Option<SecretString>,
    /// Frames every value on Kafka with the id of its schema in this registry:
    /// `http://host:8081/`, `https://user:password@host/path?register=false`.
    pub schema_registry: Option<SecretString>,
    /// Where /metrics, /healthz and /readyz listen.
    pub http_listen: SocketAddr,
    /// Where shops and couriers push to; not at all where it is not set.
    pub public_listen: Option<SocketAddr>,
    /// The file of their accounts and keys.
    pub accounts: Option<PathBuf>,
    /// For HTTP over TLS on `public_listen`: a chain of certificates (PEM), and its key.
    pub http_tls_certificate: Option<PathBuf>,
    pub http_tls_key: Option<PathBuf>,
    /// How long a signed request may take, its body included, in seconds.
    pub http_timeout_seconds: u64,
    /// Signed requests at the same time, 1 to 10,000.
    pub http_in_flight: usize,
    /// The file of operators and the hashes of their tokens: who may use the API at
    /// `http_listen`. Not set: there is no API.
    pub operators: Option<PathBuf>,
    /// Verbs of operators that need a second person: their names, or `money-and-goods` for all
    /// that send a command, or settle one without its participant. Separated by commas.
    pub second_person: String,
    /// Names this installation in the CloudEvents source `/makegood/<deployment>`.
    pub deployment: String,
    /// Parallel processors, 1 to 64.
    pub lanes: usize,
    /// The most inputs in one transaction, 1 to 500.
    pub max_batch: usize,
    /// Messages out unacknowledged per channel, 1 to 65,535.
    pub prefetch: u16,
    /// The largest message that is taken in, in bytes.
    pub max_message_bytes: usize,
    /// How long what is in flight may take after SIGTERM, in seconds.
    pub drain_seconds: u64,
    /// Orders per second and participant, 1 to 10,000, that go on when it is back and that were
    /// held while it was away.
    pub release_per_second: u32,
    /// Commands per second that a participant gets from each worker, such as `wms=50,tms=20`.
    pub participant_limits: String,
    /// Connections to the database: one for each lane, [`SPARE_CONNECTIONS`], 100 at most.
    pub database_connections: u32,
    /// Where the simulated shop and participants keep their ledgers: not where `dev` does, whose
    /// shop has emitted the same made-up orders to somebody else.
    pub ledgers: PathBuf,
    /// `json` for machines, `text` for people.
    pub log_format: LogFormat,
    /// A filter such as `info` or `makegood=debug,info`.
    pub log: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Json,
    Text,
}

impl Default for Config {
    fn default() -> Config {
        let worker = worker::Options::default();
        Config {
            store: None,
            broker: None,
            schema_registry: None,
            http_listen: SocketAddr::from(([127, 0, 0, 1], 9600)),
            public_listen: None,
            accounts: None,
            http_tls_certificate: None,
            http_tls_key: None,
            http_timeout_seconds: 10,
            operators: None,
            release_per_second: 50,
            participant_limits: String::new(),
            second_person: "abandon".to_owned(),
            http_in_flight: 512, // with the largest bodies allowed by default: 128 MiB
            deployment: "default".to_owned(),
            lanes: worker.lanes,
            max_batch: worker.max_batch,
            prefetch: worker.prefetch,
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
            drain_seconds: worker.drain.as_secs(),
            database_connections: 10,
            ledgers: PathBuf::from(".makegood/services"),
            log_format: LogFormat::Json,
            log: "info".to_owned(),
        }
    }
}

/// What is wrong with the configuration: which key, and what it expects.
#[derive(Debug, thiserror::Error)]
#[error("configuration: {0}")]
pub struct ConfigError(String);

impl Config {
    /// Reads and validates. `overrides` are flags: (key, value) pairs that win over all.
    ///
    /// # Errors
    /// The first key that is unknown or has a value it cannot have.
    pub fn load(
        file: Option<&Path>,
        overrides: &[(String, String)],
    ) -> Result<Config, ConfigError> {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Config::read(file, variables, overrides)
    }

    fn read(
        file: Option<&Path>,
        variables: impl Iterator<Item = (String, String)>,
        overrides: &[(String, String)],
    ) -> Result<Config, ConfigError> {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        let source = config::File::from(path).format(config::FileFormat::Toml);
        let mut builder = config::Config::builder()
            .add_source(source.required(file.is_some()))
            .add_source(environment(variables));
        for (key, value) in overrides {
            builder = builder
                .set_override(key, value.clone())
                .map_err(|error| ConfigError(error.to_string()))?;
        }
        let loaded: Config = builder
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(|error| ConfigError(explain(&error)))?;
        loaded.check()?;
        Ok(loaded)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let expect = |good: bool, key: &str, expected: &str| {
            if good { Ok(()) } else { Err(ConfigError(format!("`{key}` must be {expected}"))) }
        };
        let begins = |url: &Option<SecretString>, schemes: &[&str]| {
            let url = url.as_ref().map(ExposeSecret::expose_secret);
            url.is_none_or(|url| schemes.iter().any(|scheme| url.starts_with(scheme)))
        };
        let stores = ["postgres://", "postgresql://", "sqlite:"];
        let expected = "a URL that begins with postgres:// or sqlite:";
        expect(begins(&self.store, &stores), "store", expected)?;
        let brokers = ["amqp://", "amqps://", "kafka://", "kafkas://"];
        let expected = "a URL that begins with amqp://, amqps://, kafka:// or kafkas://";
        expect(begins(&self.broker, &brokers), "broker", expected)?;
        let registries = ["http://", "https://"];
        let expected = "a URL that begins with http:// or https://";
        expect(begins(&self.schema_registry, &registries), "schema_registry", expected)?;
        let is_framed = self.schema_registry.is_none() || begins(&self.broker, &["kafka"]);
        let expected = "left out where `broker` is no Kafka: nothing is framed there";
        expect(is_framed, "schema_registry", expected)?;
        let deployment = &self.deployment;
        let is_name = (1..=64).contains(&deployment.len())
            && deployment.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        expect(is_name, "deployment", "1 to 64 letters, digits and dashes")?;
        expect(is_log_filter(&self.log), "log", "a filter such as info or makegood=debug,info")?;
        expect((1..=64).contains(&self.lanes), "lanes", "1 to 64")?;
        expect((1..=500).contains(&self.max_batch), "max_batch", "1 to 500")?;
        expect(self.prefetch >= 1, "prefetch", "1 to 65535")?;
        expect(
            (1_024..=16 * 1024 * 1024).contains(&self.max_message_bytes),
            "max_message_bytes",
            "1024 to 16777216 (bytes)",
        )?;
        let rate = 1..=10_000;
        let expected = "1 to 10000 (per second)";
        expect(rate.contains(&self.release_per_second), "release_per_second", expected)?;
        let expected = "participants with commands per second (1 to 10000), such as wms=50,tms=20";
        let are_good = limits(&self.participant_limits).is_some();
        expect(are_good, "participant_limits", expected)?;
        let expected = "none, or verbs such as abandon,resolve, or money-and-goods";
        expect(Policy::parse(&self.second_person).is_some(), "second_person", expected)?;
        let (seconds, requests) = (self.http_timeout_seconds, self.http_in_flight);
        expect((1..=300).contains(&seconds), "http_timeout_seconds", "1 to 300 (seconds)")?;
        expect((1..=10_000).contains(&requests), "http_in_flight", "1 to 10000 (requests)")?;
        let expected = "a file, where `public_listen` is set: it says who may sign";
        expect(self.accounts.is_some() || self.public_listen.is_none(), "accounts", expected)?;
        let has_both = self.http_tls_certificate.is_some() == self.http_tls_key.is_some();
        expect(has_both, "http_tls_key", "set together with `http_tls_certificate`")?;
        expect((1..=600).contains(&self.drain_seconds), "drain_seconds", "1 to 600 (seconds)")?;
        let least = u32::try_from(self.lanes).unwrap_or(u32::MAX).saturating_add(SPARE_CONNECTIONS);
        expect(
            (least..=100).contains(&self.database_connections),
            "database_connections",
            &format!("{least} (`lanes` and {SPARE_CONNECTIONS}) to 100"),
        )
    }

    /// The store's URL.
    ///
    /// # Errors
    /// When it is not set.
    pub fn store(&self) -> Result<&SecretString, ConfigError> {
        let missing = "`store` is not set: give MAKEGOOD_STORE=postgres://… or a line \
                       store = \"postgres://…\" in makegood.toml";
        self.store.as_ref().ok_or_else(|| ConfigError(missing.to_owned()))
    }

    /// The broker's URL.
    ///
    /// # Errors
    /// When it is not set.
    pub fn broker(&self) -> Result<&SecretString, ConfigError> {
        let missing = "`broker` is not set: give MAKEGOOD_BROKER=amqp://… (or kafka://…) or a \
                       line broker = \"amqp://…\" in makegood.toml";
        self.broker.as_ref().ok_or_else(|| ConfigError(missing.to_owned()))
    }

    /// The schema registry's URL.
    ///
    /// # Errors
    /// When it is not set.
    pub fn schema_registry(&self) -> Result<&SecretString, ConfigError> {
        let missing = "`schema_registry` is not set: give MAKEGOOD_SCHEMA_REGISTRY=http://… or a \
                       line schema_registry = \"http://…\" in makegood.toml";
        self.schema_registry.as_ref().ok_or_else(|| ConfigError(missing.to_owned()))
    }

    /// The bounds of the doors for shops and couriers.
    #[must_use]
    pub fn doors(&self) -> http::Bounds {
        http::Bounds {
            max_body_bytes: self.max_message_bytes,
            timeout: Duration::from_secs(self.http_timeout_seconds),
            in_flight: self.http_in_flight,
        }
    }

    /// Which verbs need a second person.
    #[must_use]
    pub fn second_person(&self) -> Policy {
        Policy::parse(&self.second_person).expect("it was checked")
    }

    /// What the worker needs of it.
    #[must_use]
    pub fn worker(&self) -> worker::Options {
        worker::Options {
            source: format!("/makegood/{}", self.deployment),
            lanes: self.lanes,
            max_batch: self.max_batch,
            prefetch: self.prefetch,
            max_message_bytes: self.max_message_bytes,
            drain: Duration::from_secs(self.drain_seconds),
            release_per_second: self.release_per_second,
            limits: limits(&self.participant_limits).expect("they were checked"),
            ..worker::Options::default()
        }
    }
}

/// Reads `wms=50,tms=20`; nothing is no limits.
fn limits(text: &str) -> Option<BTreeMap<String, u32>> {
    let limit = |pair: &str| {
        let (participant, rate) = pair.split_once('=')?;
        let (participant, rate) = (participant.trim(), rate.trim().parse().ok()?);
        let is_good = is_id(participant) && (1..=10_000).contains(&rate);
        is_good.then(|| (participant.to_owned(), rate))
    };
    match text.trim() {
        "" => Some(BTreeMap::new()),
        text => text.split(',').map(limit).collect(),
    }
}

/// `MAKEGOOD_<KEY>` variables. One that is set to nothing is not set: so is what a script wanted
/// to fill with the output of a command that failed.
fn environment(variables: impl Iterator<Item = (String, String)>) -> config::Environment {
    let ours = |(name, _): &(String, String)| {
        name.starts_with("MAKEGOOD_") && !name.starts_with(OF_THE_TESTS)
    };
    let variables = variables.filter(ours).collect();
    config::Environment::with_prefix("MAKEGOOD").ignore_empty(true).source(Some(variables))
}

/// The library's message, without values that may be secrets.
fn explain(error: &config::ConfigError) -> String {
    use config::ConfigError as E;
    match error {
        E::Type { key: Some(key), expected, .. } => format!("`{key}` must be {expected}"),
        E::At { error, key: Some(key), .. } => {
            match EXPECTED.iter().find(|(expecting, _)| expecting == key) {
                Some((_, expected)) => format!("`{key}` must be {expected}"),
                None => format!("`{key}`: {}", explain(error)),
            }
        }
        E::FileParse { uri, cause } => {
            format!("{} is not TOML: {}", uri.as_deref().unwrap_or("the file"), unquoted(&**cause))
        }
        other => other.to_string(),
    }
}

/// Where and what, without the line itself that the parser quotes: it may hold a password.
fn unquoted(cause: &dyn std::error::Error) -> String {
    let text = cause.to_string();
    let told = |line: &&str| !line.contains('|') && !line.trim().is_empty();
    text.lines().filter(told).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a file, with nothing but these variables in the environment.
    fn load_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("makegood.toml");
        std::fs::write(&file, text).expect("written");
        let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        Config::read(Some(&file), variables, &[]).map_err(|error| error.to_string())
    }

    fn load(text: &str) -> Result<Config, String> {
        load_with(text, &[])
    }

    #[test]
    fn the_environment_wins_and_what_is_set_to_nothing_is_not_set() {
        let lanes = |variables| load_with("lanes = 1", variables).map(|config| config.lanes);
        assert_eq!(lanes(&[("MAKEGOOD_LANES", "2"), ("LANES", "64")]), Ok(2));
        assert_eq!(lanes(&[("MAKEGOOD_LANES", ""), ("MAKEGOOD_TEST_TOOLS", "x")]), Ok(1));
        assert!(lanes(&[("MAKEGOOD_TOOLS", "x")]).unwrap_err().contains("tools"));
    }

    #[test]
    fn a_bad_configuration_names_the_key_and_what_it_expects() {
        assert_eq!(load("lanes = 0").unwrap_err(), "configuration: `lanes` must be 1 to 64");
        assert_eq!(
            load("store = 'mysql://x'").unwrap_err(),
            "configuration: `store` must be a URL that begins with postgres:// or sqlite:"
        );
        let error = load("schema_registry = 'http://h'\nbroker = 'amqp://h'").unwrap_err();
        assert!(error.contains("`schema_registry` must be left out"), "{error}");
        assert!(load("schema_registry = 'http://h'\nbroker = 'kafka://h'").is_ok());
        let error = load("lames = 2").unwrap_err();
        assert!(error.contains("lames") && error.contains("lanes"), "{error}");
        let error = load("lanes = 'many'").unwrap_err();
        assert!(error.contains("lanes") && error.contains("integer"), "{error}");
        assert_eq!(
            load("log_format = 'xml'").unwrap_err(),
            "configuration: `log_format` must be json or text"
        );
        assert_eq!(
            load("http_listen = 'everywhere'").unwrap_err(),
            "configuration: `http_listen` must be an address and a port, such as 127.0.0.1:9600"
        );
        assert_eq!(
            load("lanes = 64\ndatabase_connections = 8").unwrap_err(),
            "configuration: `database_connections` must be 70 (`lanes` and 6) to 100"
        );
    }

    #[test]
    fn secrets_are_not_printed() {
        let config = load("store = 'postgres://u:hunter2@h/d'").expect("good");
        assert!(!format!("{config:?}").contains("hunter2"));
        let error = load("store = 'mysql://u:hunter2@h/d'").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
        let error = load("lanes = 2\nstore = 'postgres://u:hunter2@h/d\n").unwrap_err();
        assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
    }
}
