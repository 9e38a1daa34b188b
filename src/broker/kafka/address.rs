//! How to reach a Kafka cluster, as its URL says. The URL holds a password: it is never printed.
//!
//! ```text
//! kafka://host:9092,other:9092/               no encryption
//! kafka://user:password@host:9092/            SASL without encryption (PLAIN)
//! kafkas://user:password@host:9093/eu         TLS and SASL; all names begin with "eu."
//!   ?partitions=12&replication=3&retention_days=14      for topics that are made
//!   &sasl.mechanism=SCRAM-SHA-512&ssl.ca.location=…     some of the client's own properties
//! ```

use rdkafka::ClientConfig;
use secrecy::{ExposeSecret, SecretString};

use super::topics::{Names, Settings};

/// Where a cluster listens when the URL names no port.
const DEFAULT_PORT: u16 = 9092;
/// The properties of librdkafka that a URL may set. The others are what our promises rest on.
const OPEN_PROPERTIES: [&str; 5] = [
    "client.rack",
    "group.instance.id",
    "heartbeat.interval.ms",
    // It may not be shorter than a session.
    "max.poll.interval.ms",
    "session.timeout.ms",
];
/// The same, whole families.
const OPEN_FAMILIES: [&str; 3] = ["sasl.", "ssl.", "socket."];
/// How long a prefix may be: topics have names of up to 249 characters.
const MAX_PREFIX: usize = 100;

/// A URL that was understood.
#[derive(Clone)]
pub struct Address {
    pub settings: Settings,
    pub names: Names,
    hosts: String,
    /// Properties of librdkafka, passwords among them.
    properties: Vec<(String, SecretString)>,
}

/// What is wrong with the URL of a broker, without quoting it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the URL of the broker is not like kafka://host:9092/ or kafkas://user:password@host:9093/: {0}"
)]
pub struct InvalidUrl(String);

fn wrong<T>(what: impl Into<String>) -> Result<T, InvalidUrl> {
    Err(InvalidUrl(what.into()))
}

impl Address {
    pub fn new(url: &SecretString) -> Result<Address, InvalidUrl> {
        let url = url.expose_secret();
        let (encrypted, rest) = match (url.strip_prefix("kafka://"), url.strip_prefix("kafkas://"))
        {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return wrong("it begins with neither kafka:// nor kafkas://"),
        };
        if encrypted && !cfg!(feature = "kafka-tls") {
            return wrong("this build has no TLS for Kafka: build it with --features kafka-tls");
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        let plain = |text| unescaped(text).or_else(wrong);
        let mut address = Address {
            settings: Settings::default(),
            names: Names { prefix: prefix(path)? },
            hosts: bootstrap(hosts)?,
            properties: Vec::new(),
        };
        let protocol = match (encrypted, user.is_some()) {
            (false, false) => "plaintext",
            (false, true) => "sasl_plaintext",
            (true, false) => "ssl",
            (true, true) => "sasl_ssl",
        };
        address.property("security.protocol", protocol.to_owned());
        if let Some(user) = user {
            let Some((user, password)) = user.split_once(':') else {
                return wrong("there is a user without a password");
            };
            address.property("sasl.mechanism", "PLAIN".to_owned());
            address.property("sasl.username", plain(user)?);
            address.property("sasl.password", plain(password)?);
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            address.parameter(name, plain(value)?)?;
        }
        address.client_config()?;
        Ok(address)
    }

    /// What every client of this cluster begins with.
    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.hosts);
        for (name, value) in &self.properties {
            config.set(name, value.expose_secret());
        }
        config
    }

    /// Lets librdkafka look at its properties.
    fn client_config(&self) -> Result<(), InvalidUrl> {
        match self.config().create_native_config() {
            Ok(_) => Ok(()),
            // Its own words may quote a value.
            Err(rdkafka::error::KafkaError::ClientConfig(_, _, name, _)) => {
                wrong(format!("the Kafka client does not take the value of '{name}'"))
            }
            Err(_) => wrong("the Kafka client does not take it"),
        }
    }

    /// Sets a property of all clients.
    pub fn property(&mut self, name: &str, value: String) {
        self.properties.push((name.to_owned(), value.into()));
    }

    fn parameter(&mut self, name: &str, value: String) -> Result<(), InvalidUrl> {
        let Settings { partitions, replication, retention_days } = &mut self.settings;
        let range = |expected: &str| InvalidUrl(format!("`{name}` must be {expected}"));
        match name {
            "partitions" => *partitions = number(&value, 1, 1_000).ok_or(range("1 to 1000"))?,
            "replication" => {
                *replication = Some(number(&value, 1, 100).ok_or(range("1 to 100 (copies)"))?);
            }
            "retention_days" => {
                let days = number(&value, 1, 3_650).ok_or(range("1 to 3650 (days)"))?;
                *retention_days = days.into();
            }
            _ if OPEN_PROPERTIES.contains(&name)
                || OPEN_FAMILIES.iter().any(|family| name.starts_with(family)) =>
            {
                self.property(name, value);
            }
            _ => return wrong(format!("`{name}` cannot be set")),
        }
        Ok(())
    }
}

fn number(text: &str, least: u16, most: u16) -> Option<u16> {
    text.parse().ok().filter(|number| (least..=most).contains(number))
}

fn bootstrap(hosts: &str) -> Result<String, InvalidUrl> {
    let with_port = |host: &str| {
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(name, port)| !name.is_empty() && port.parse::<u16>().is_ok());
        match host {
            _ if has_port => Ok(host.to_owned()),
            "" => wrong("it names no host"),
            _ if host.contains(':') && !host.ends_with(']') => wrong("a port is not a number"),
            _ => Ok(format!("{host}:{DEFAULT_PORT}")),
        }
    };
    Ok(hosts.split(',').map(with_port).collect::<Result<Vec<_>, _>>()?.join(","))
}

fn prefix(path: &str) -> Result<String, InvalidUrl> {
    let path = path.trim_end_matches(['/', '.']);
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match path {
        "" => Ok(String::new()),
        _ if path.len() <= MAX_PREFIX && path.chars().all(allowed) => Ok(format!("{path}.")),
        _ => wrong("its path, the prefix of all names, is not of letters, digits, '.', '_', '-'"),
    }
}

/// Without percent-encoding.
pub fn unescaped(text: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let decoded = match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                digit().zip(digit()).and_then(|(high, low)| u8::try_from(high * 16 + low).ok())
            }
            _ => Some(byte),
        };
        bytes.push(decoded.ok_or("a '%' is not followed by two digits")?);
    }
    String::from_utf8(bytes).map_err(|_| "what is percent-encoded is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Result<Address, String> {
        Address::new(&url.to_owned().into()).map_err(|error| error.0)
    }

    #[test]
    fn a_url_names_hosts_user_prefix_and_settings() {
        let plain = address("kafka://one,two:9093").unwrap();
        let config = plain.config();
        assert_eq!(config.get("bootstrap.servers"), Some("one:9092,two:9093"));
        assert_eq!(config.get("security.protocol"), Some("plaintext"));
        assert_eq!((plain.names.prefix.as_str(), plain.settings), ("", Settings::default()));

        let url = "kafka://us%40er:p%3Ass@h:1/eu/?partitions=3&replication=2&retention_days=30\
                   &session.timeout.ms=6000";
        let full = address(url).unwrap();
        let config = full.config();
        assert_eq!(config.get("sasl.username"), Some("us@er"));
        assert_eq!(config.get("sasl.password"), Some("p:ss"));
        assert_eq!(config.get("security.protocol"), Some("sasl_plaintext"));
        assert_eq!(config.get("session.timeout.ms"), Some("6000"));
        assert_eq!(full.names.prefix, "eu.");
        let expected = Settings { partitions: 3, replication: Some(2), retention_days: 30 };
        assert_eq!(full.settings, expected);
    }

    #[test]
    fn what_is_wrong_is_named_and_no_password_is_quoted() {
        for (url, expected) in [
            ("amqp://u:s3cret@h", "neither kafka://"),
            ("kafka://u:s3cret@", "no host"),
            ("kafka://u:s3cret@h:x", "not a number"),
            ("kafka://u:s3cret@h/a%20b", "prefix"),
            ("kafka://u:s3cret%@h", "two digits"),
            ("kafka://s3cret@h", "without a password"),
            ("kafka://u:s3cret@h?partitions=0", "`partitions` must be 1 to 1000"),
            ("kafka://u:s3cret@h?acks=0", "`acks` cannot be set"),
            ("kafka://u:s3cret@h?session.timeout.ms=s3cret", "'session.timeout.ms'"),
        ] {
            let error = address(url).err().expect(url);
            assert!(error.contains(expected), "{url}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[cfg(not(feature = "kafka-tls"))]
    #[test]
    fn a_build_without_tls_says_so() {
        assert!(address("kafkas://h").err().unwrap().contains("--features kafka-tls"));
    }

    #[cfg(feature = "kafka-tls")]
    #[test]
    fn tls_is_one_letter() {
        let protocol =
            |url| address(url).unwrap().config().get("security.protocol").map(str::to_owned);
        assert_eq!(protocol("kafkas://h").as_deref(), Some("ssl"));
        assert_eq!(protocol("kafkas://u:p@h").as_deref(), Some("sasl_ssl"));
    }
}
