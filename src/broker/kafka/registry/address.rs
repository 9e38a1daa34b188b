//! How to reach a schema registry, as its URL says. The URL holds a password: it is never printed.
//!
//! ```text
//! http://registry:8081/                        Confluent, Redpanda, Karapace
//! https://user:password@registry/              with TLS and a user, both percent-encoded
//! http://registry:8080/apis/ccompat/v7         Apicurio's API like Confluent's
//!   ?register=false                            schemas are looked up and never registered
//! ```
//!
//! It is a key of its own and no part of the broker's URL: it is another service, with another
//! user, and so it is configured everywhere (`schema.registry.url`).

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Uri;
use secrecy::{ExposeSecret, SecretString};

use super::super::address::unescaped;
use crate::client::{Patience, Target};

/// Everybody who wants to publish waits for it.
const PATIENCE: Patience =
    Patience { connect: Duration::from_secs(5), answer: Duration::from_secs(10) };

/// A URL that was understood.
pub struct Address {
    pub target: Target,
    /// What the paths of the API begin with; empty, or it ends without a slash.
    pub path: String,
    /// The header that says who asks.
    pub authorization: Option<SecretString>,
    /// Whether a schema that is not there is registered.
    pub registers: bool,
}

/// What is wrong with the URL of a schema registry, without quoting it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the URL of the schema registry is not like http://host:8081/ or https://user:password@host/: {0}"
)]
pub struct InvalidRegistry(String);

fn wrong<T>(what: impl Into<String>) -> Result<T, InvalidRegistry> {
    Err(InvalidRegistry(what.into()))
}

impl Address {
    pub fn new(url: &SecretString) -> Result<Address, InvalidRegistry> {
        let Ok(uri) = url.expose_secret().parse::<Uri>() else { return wrong("it is no URL") };
        let (scheme, authority) = (uri.scheme_str().unwrap_or_default(), uri.authority());
        let authority = authority.map_or("", |authority| authority.as_str());
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let target = match Target::new(&format!("{scheme}://{host}"), None, PATIENCE) {
            Ok(target) => target,
            Err(error) => return wrong(error.to_string()),
        };
        Ok(Address {
            target,
            path: uri.path().trim_end_matches('/').to_owned(),
            authorization: user.map(basic).transpose()?,
            registers: registers(uri.query().unwrap_or_default())?,
        })
    }
}

fn basic(user: &str) -> Result<SecretString, InvalidRegistry> {
    let Some((user, password)) = user.split_once(':') else {
        return wrong("there is a user without a password");
    };
    let plain = |text| unescaped(text).or_else(wrong);
    let credentials = format!("{}:{}", plain(user)?, plain(password)?);
    Ok(format!("Basic {}", STANDARD.encode(credentials)).into())
}

fn registers(query: &str) -> Result<bool, InvalidRegistry> {
    let mut registers = true;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        registers = match pair.split_once('=').unwrap_or((pair, "")) {
            ("register", "true") => true,
            ("register", "false") => false,
            ("register", _) => return wrong("`register` must be true or false"),
            (name, _) => return wrong(format!("`{name}` cannot be set")),
        };
    }
    Ok(registers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Result<Address, String> {
        Address::new(&url.to_owned().into()).map_err(|error| error.0)
    }

    #[test]
    fn a_url_names_path_user_and_whether_to_register() {
        let plain = address("http://registry:8081").unwrap();
        assert_eq!((plain.path.as_str(), plain.registers), ("", true));
        assert!(plain.authorization.is_none());
        let full = "https://us%40er:p%3Ass@registry/apis/ccompat/v7/?register=false";
        let full = address(full).unwrap();
        assert_eq!((full.path.as_str(), full.registers), ("/apis/ccompat/v7", false));
        let authorization = full.authorization.expect("a user");
        assert_eq!(authorization.expose_secret(), "Basic dXNAZXI6cDpzcw==");
    }

    #[test]
    fn what_is_wrong_is_named_and_no_password_is_quoted() {
        for (url, expected) in [
            ("ftp://u:s3cret@h", "http://HOST:PORT or https://HOST"),
            ("http://u:s3cret@h:x", "http://HOST:PORT"),
            ("http://u:s3 cret@h", "no URL"),
            ("http://s3cret@h", "without a password"),
            ("http://u:s3cret%@h", "two digits"),
            ("http://u:s3cret@h?register=no", "`register` must be true or false"),
            ("http://u:s3cret@h?auto=1", "`auto` cannot be set"),
            ("s3cret", "http://HOST:PORT"),
        ] {
            let error = address(url).err().expect(url);
            assert!(error.contains(expected), "{url}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
