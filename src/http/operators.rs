//! Who may use the operators' API: names and the hashes of their tokens, from a file.
//!
//! ```toml
//! [[operator]]
//! name = "ana"
//! tokens = ["<SHA-256 of a token, in hex>"]   # two while one replaces the other
//! may = "act"                                 # or "look"
//! ```
//!
//! `makegood operator-token` makes a token and its hash. The file is read at every request, of
//! which there are few: who is taken out of it is out at once.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::digest::CtOutput;
use sha2::{Digest, Sha256};

/// The largest file, in bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// The most tokens of one operator: the new one and the old one.
const MAX_TOKENS: usize = 2;

/// Somebody who may ask, or act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    pub name: String,
    pub may_act: bool,
}

/// An operator with the hashes of the tokens.
type Holder = (Operator, Vec<[u8; 32]>);

/// The file of operators.
#[derive(Debug, Clone)]
pub struct Operators(PathBuf);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    operator: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    tokens: Vec<String>,
    #[serde(default)]
    may: May,
}

#[derive(Deserialize, Default, PartialEq)]
#[serde(rename_all = "lowercase")]
enum May {
    Look,
    #[default]
    Act,
}

/// What is wrong with the file. It holds hashes only, and is not quoted all the same.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct OperatorsError {
    path: PathBuf,
    problem: String,
}

impl Operators {
    /// Reads the file once, so that a bad one is known at the start.
    ///
    /// # Errors
    /// When it cannot be read, or is not as expected.
    pub fn open(path: &Path) -> Result<Operators, OperatorsError> {
        let operators = Operators(path.to_owned());
        operators.read().map(|_| operators)
    }

    /// Who has this token. Every hash is looked at, each in the same time.
    ///
    /// # Errors
    /// The file cannot be read any more.
    pub fn holder(&self, token: &str) -> Result<Option<Operator>, OperatorsError> {
        let given = CtOutput::<Sha256>::new(Sha256::digest(token.as_bytes()));
        let mut found = None;
        for (operator, hashes) in self.read()? {
            for hash in hashes {
                if CtOutput::<Sha256>::new(hash.into()) == given {
                    found = Some(operator.clone());
                }
            }
        }
        Ok(found)
    }

    fn read(&self) -> Result<Vec<Holder>, OperatorsError> {
        let told = |problem: String| OperatorsError { path: self.0.clone(), problem };
        let size = std::fs::metadata(&self.0).map_err(|error| told(error.to_string()))?.len();
        if size > MAX_FILE_BYTES {
            return Err(told(format!("has {size} bytes, at most {MAX_FILE_BYTES} are read")));
        }
        let text = std::fs::read_to_string(&self.0).map_err(|error| told(error.to_string()))?;
        let File { operator } = toml::from_str(&text).map_err(|error: toml::de::Error| {
            let before = error.span().map_or("", |span| &text[..span.start]);
            told(format!("line {}: {}", 1 + before.matches('\n').count(), error.message()))
        })?;
        operator.into_iter().map(|entry| understood(entry).map_err(told)).collect()
    }
}

fn understood(entry: Entry) -> Result<Holder, String> {
    let Entry { name, tokens, may } = entry;
    let is_name = (1..=64).contains(&name.len()) && !name.chars().any(char::is_control);
    if !is_name {
        return Err("an operator's `name` has 1 to 64 characters".to_owned());
    }
    let hashes: Option<Vec<[u8; 32]>> = tokens.iter().map(|token| hash(token)).collect();
    let hashes = hashes.filter(|hashes| (1..=MAX_TOKENS).contains(&hashes.len()));
    let expected = format!("`tokens` of {name} must be 1 to {MAX_TOKENS} SHA-256 hashes in hex");
    Ok((Operator { name, may_act: may == May::Act }, hashes.ok_or(expected)?))
}

fn hash(hex: &str) -> Option<[u8; 32]> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = hex.as_bytes().chunks(2).map(byte).collect();
    bytes.filter(|_| hex.len() == 64)?.try_into().ok()
}

/// The hash of a token as the file has it.
#[must_use]
pub fn token_hash(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("operators.toml");
        std::fs::write(&path, text).expect("written");
        (folder, path)
    }

    fn entry(name: &str, token: &str, more: &str) -> String {
        let hash = token_hash(token);
        format!("[[operator]]\nname = '{name}'\ntokens = ['{hash}']\n{more}\n")
    }

    #[test]
    fn a_token_names_its_holder_for_as_long_as_it_is_there() {
        let both = [entry("ana", "one", ""), entry("bo", "two", "may = 'look'")].concat();
        let (_folder, path) = file(&both);
        let operators = Operators::open(&path).expect("good");
        let holder = |token| operators.holder(token).expect("readable");
        assert_eq!(holder("one"), Some(Operator { name: "ana".to_owned(), may_act: true }));
        assert_eq!(holder("two"), Some(Operator { name: "bo".to_owned(), may_act: false }));
        assert_eq!(holder("three"), None);
        assert_eq!(holder(""), None);
        std::fs::write(&path, entry("bo", "two", "")).expect("written");
        assert_eq!(holder("one"), None, "she is out at once");
        std::fs::write(&path, "[[operator]").expect("written");
        assert!(operators.holder("two").is_err(), "nobody is let in by a file that is bad");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, words) in [
            ("[[operator]\n", "line 1"),
            ("[[operator]]\nname = 'ana'\n", "missing field `tokens`"),
            ("[[operator]]\nname = 'ana'\ntokens = ['xyz']\n", "SHA-256 hashes in hex"),
            ("[[operator]]\nname = ''\ntokens = []\n", "1 to 64 characters"),
            ("[[operator]]\nname = 'ana'\ntokens = []\n", "1 to 2 SHA-256"),
            ("[[operators]]\n", "unknown field `operators`"),
        ] {
            let (_folder, path) = file(text);
            let error = Operators::open(&path).map(drop).expect_err("it is bad").to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
