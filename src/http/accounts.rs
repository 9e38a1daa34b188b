//! Who may sign: shops and couriers, each with up to two live keys, from a file.
//!
//! ```toml
//! [[shop]]
//! tenant = "acme"
//! secrets = ["whsec_…", "whsec_…"]    # two while one replaces the other
//!
//! [[courier]]
//! name = "jadlog"                     # as the dispatching participant names it
//! tenant = "acme"
//! secrets = ["whsec_…"]
//! ```
//!
//! The file is read again when it changes, so a key is replaced without a restart. A file that
//! is bad is told in the log, and the one before it stays in force. No secret is ever printed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sha2::{Digest, Sha256};
use toml::{Table, Value};

use super::signature::{Claim, Key};
use crate::clock::wait;
use crate::order::{MAX_ID_CHARS, is_id};
use crate::telemetry::Telemetry;

/// How often the file is looked at: a key that leaked must not live for minutes.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The largest file, in bytes: all accounts there may be fit twice.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// The most accounts of each kind.
const MAX_ACCOUNTS: usize = 1_000;
/// The most keys of one account: the new one and the old one.
const MAX_KEYS: usize = 2;
/// How many accounts are tried for a request that names none. Each costs a hash of the body,
/// before anything is known of who sent it.
pub const MAX_TRIED: usize = 8;
/// How a shop and a courier are written, for errors.
const SHOP: &str = "[[shop]] tenant = \"…\", secrets = [\"whsec_…\"]";
const COURIER: &str = "[[courier]] name = \"…\", tenant = \"…\", secrets = [\"whsec_…\"]";

/// Who signed.
#[derive(Debug)]
pub struct Account {
    /// A courier's name, or a shop's tenant.
    pub name: String,
    pub tenant: String,
    keys: Vec<Key>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Shop,
    Courier,
}

/// The accounts in force.
#[derive(Debug)]
pub struct Accounts {
    path: PathBuf,
    current: RwLock<Arc<Book>>,
}

#[derive(Debug, Default)]
struct Book {
    shops: Vec<Arc<Account>>,
    couriers: Vec<Arc<Account>>,
    /// Of the file, to notice a change without keeping its secrets about.
    digest: [u8; 32],
}

/// What is wrong with the file: where, and what is expected there. Never quotes the file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct AccountsError {
    path: PathBuf,
    problem: String,
}

impl Accounts {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, or is not as expected.
    pub fn open(path: &Path) -> Result<Accounts, AccountsError> {
        let text = read(path).map_err(|problem| told(path, problem))?;
        let book = parse(&text).map_err(|problem| told(path, problem))?;
        Ok(Accounts { path: path.to_owned(), current: RwLock::new(Arc::new(book)) })
    }

    /// Reads the file again whenever it has changed. Never ends by itself.
    pub async fn keep_up(&self, telemetry: &Telemetry) {
        let mut complained = None;
        loop {
            wait(LOOK_EVERY).await;
            match self.look() {
                Ok(None) => complained = None,
                Ok(Some(accounts)) => telemetry.accounts_read(accounts),
                Err(error) => {
                    let error = error.to_string();
                    if complained.as_ref() != Some(&error) {
                        telemetry.accounts_refused(&error);
                        complained = Some(error);
                    }
                }
            }
        }
    }

    /// Takes over what the file says now. `None`: nothing new. Else how many accounts there are.
    fn look(&self) -> Result<Option<usize>, AccountsError> {
        let text = read(&self.path).map_err(|problem| told(&self.path, problem))?;
        if digest(&text) == self.book().digest {
            return Ok(None);
        }
        let book = parse(&text).map_err(|problem| told(&self.path, problem))?;
        let accounts = book.shops.len() + book.couriers.len();
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(book);
        Ok(Some(accounts))
    }

    /// The account that signed. `name` is what the request says about that. `None`: nobody did,
    /// or somebody else than it says.
    #[must_use]
    pub fn signer(
        &self,
        role: Role,
        name: Option<&str>,
        claim: &Claim,
        body: &[u8],
    ) -> Option<Arc<Account>> {
        let book = self.book();
        let all = match role {
            Role::Shop => &book.shops,
            Role::Courier => &book.couriers,
        };
        let named = |account: &&Arc<Account>| name.is_none_or(|name| account.name == name);
        let tried: Vec<&Arc<Account>> = all.iter().filter(named).take(MAX_TRIED).collect();
        if tried.is_empty() {
            // A name that nobody has costs what a wrong signature costs.
            let _ = claim.is_by([&Key::default()], body);
        }
        tried.into_iter().find(|account| claim.is_by(&account.keys, body)).cloned()
    }

    /// A key to sign with as a tenant's shop: the first of its list.
    #[must_use]
    pub fn key_of_shop(&self, tenant: &str) -> Option<Key> {
        let book = self.book();
        let shop = book.shops.iter().find(|shop| shop.tenant == tenant)?;
        shop.keys.first().cloned()
    }

    fn book(&self) -> Arc<Book> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn told(path: &Path, problem: String) -> AccountsError {
    AccountsError { path: path.to_owned(), problem }
}

fn read(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_FILE_BYTES {
        return Err(format!("has {size} bytes, at most {MAX_FILE_BYTES} are read"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// Reads by hand what a derived reader would read: its errors quote values, which are secrets.
fn parse(text: &str) -> Result<Book, String> {
    let table: Table = toml::from_str(text).map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        format!("line {line} is not TOML")
    })?;
    if let Some(key) = table.keys().find(|key| !["shop", "courier"].contains(&key.as_str())) {
        return Err(format!("there is no key `{key}` here; expected are {SHOP} and {COURIER}"));
    }
    let shops = list(&table, "shop", SHOP, |table, place| {
        only(table, place, &["tenant", "secrets"], SHOP)?;
        let tenant = id(table, place, "tenant")?;
        Ok(Account { name: tenant.clone(), tenant, keys: keys(table, place)? })
    })?;
    let couriers = list(&table, "courier", COURIER, |table, place| {
        only(table, place, &["name", "tenant", "secrets"], COURIER)?;
        let (name, tenant) = (id(table, place, "name")?, id(table, place, "tenant")?);
        Ok(Account { name, tenant, keys: keys(table, place)? })
    })?;
    Ok(Book { shops, couriers, digest: digest(text) })
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn list(
    table: &Table,
    key: &str,
    form: &str,
    account: impl Fn(&Table, &str) -> Result<Account, String>,
) -> Result<Vec<Arc<Account>>, String> {
    let entries = match table.get(key) {
        None => return Ok(Vec::new()),
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err(format!("`{key}` must be written as {form}")),
    };
    if entries.len() > MAX_ACCOUNTS {
        return Err(format!("has {} `{key}` accounts, at most {MAX_ACCOUNTS}", entries.len()));
    }
    let mut accounts: Vec<Arc<Account>> = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let place = format!("{key} number {}", index + 1);
        let Value::Table(entry) = entry else {
            return Err(format!("{place} must be written as {form}"));
        };
        let account = account(entry, &place)?;
        let is_same =
            |other: &Arc<Account>| other.name == account.name && other.tenant == account.tenant;
        if accounts.iter().any(is_same) {
            return Err(format!("{place} is there already: give that one both keys"));
        }
        accounts.push(Arc::new(account));
    }
    Ok(accounts)
}

fn only(table: &Table, place: &str, known: &[&str], form: &str) -> Result<(), String> {
    match table.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("{place}: there is no key `{key}`; expected is {form}")),
        None => Ok(()),
    }
}

fn id(table: &Table, place: &str, key: &str) -> Result<String, String> {
    match table.get(key) {
        Some(Value::String(id)) if is_id(id) => Ok(id.clone()),
        _ => Err(format!("{place}: `{key}` must be a text of 1 to {MAX_ID_CHARS} characters")),
    }
}

fn keys(table: &Table, place: &str) -> Result<Vec<Key>, String> {
    let expected = || {
        format!(
            "{place}: `secrets` must be a list of 1 to {MAX_KEYS} texts whsec_<base64 of 24 to 64 \
             bytes>"
        )
    };
    let Some(Value::Array(secrets)) = table.get("secrets") else { return Err(expected()) };
    if secrets.is_empty() || secrets.len() > MAX_KEYS {
        return Err(expected());
    }
    let key = |secret: &Value| secret.as_str().and_then(Key::parse).ok_or_else(expected);
    secrets.iter().map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::saga::Time;
    use axum::http::{HeaderMap, HeaderValue};

    const OLD: &str = "whsec_b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xk";
    const NEW: &str = "whsec_bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3";

    fn claim(secret: &str) -> Claim {
        let signature = Key::parse(secret).expect("a key").sign("m", 1_000, b"{}");
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", HeaderValue::from_static("m"));
        headers.insert("webhook-timestamp", HeaderValue::from_static("1000"));
        headers.insert("webhook-signature", signature.parse().expect("a value"));
        Claim::read(&headers, Time(1_000_000)).expect("a claim")
    }

    fn problem(text: &str) -> String {
        parse(text).map(drop).expect_err("it is bad")
    }

    #[test]
    fn a_key_is_replaced_while_both_are_live_and_a_bad_file_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("accounts.toml");
        let shop = |secrets: &str| format!("[[shop]]\ntenant = \"acme\"\nsecrets = [{secrets}]\n");
        std::fs::write(&path, shop(&format!("'{OLD}'"))).expect("written");
        let accounts = Accounts::open(&path).expect("good");
        let signs = |secret| accounts.signer(Role::Shop, None, &claim(secret), b"{}").is_some();
        assert!(signs(OLD) && !signs(NEW));
        std::fs::write(&path, shop(&format!("'{OLD}', '{NEW}'"))).expect("written");
        assert_eq!(accounts.look().expect("good"), Some(1));
        assert!(signs(OLD) && signs(NEW));
        std::fs::write(&path, shop(&format!("'{NEW}', 'whsec_short'"))).expect("written");
        let error = accounts.look().expect_err("a bad key").to_string();
        assert!(error.contains("accounts.toml: shop number 1: `secrets` must be"), "{error}");
        assert!(!error.contains("short") && !error.contains(NEW), "{error}");
        assert!(signs(OLD) && signs(NEW), "the last good file stays in force");
        std::fs::write(&path, shop(&format!("'{NEW}'"))).expect("written");
        assert_eq!(accounts.look().expect("good"), Some(1));
        assert_eq!(accounts.look().expect("good"), None, "nothing new");
        assert!(!signs(OLD) && signs(NEW));
        let printed = format!("{accounts:?}");
        assert!(printed.contains("acme") && !printed.contains("bmV3"), "{printed}");
    }

    #[test]
    fn an_account_signs_for_its_own_role_and_under_its_own_name() {
        let text = format!(
            "[[shop]]\ntenant='acme'\nsecrets=['{OLD}']\n\
             [[courier]]\nname='jadlog'\ntenant='acme'\nsecrets=['{NEW}']\n"
        );
        let accounts = Accounts {
            path: PathBuf::new(),
            current: RwLock::new(Arc::new(parse(&text).expect("good"))),
        };
        let signer = |role, name, secret| accounts.signer(role, name, &claim(secret), b"{}");
        assert!(signer(Role::Shop, Some("acme"), OLD).is_some());
        assert!(signer(Role::Shop, Some("other"), OLD).is_none());
        assert!(signer(Role::Courier, None, OLD).is_none(), "a shop is no courier");
        assert!(signer(Role::Shop, None, NEW).is_none(), "a courier is no shop");
        assert!(signer(Role::Courier, Some("jadlog"), NEW).is_some());
    }

    #[test]
    fn what_is_wrong_is_named_and_never_quoted() {
        let secret = format!("secrets = ['{OLD}']");
        for (text, words) in [
            (format!("[[shop]\n{secret}"), "line 1 is not TOML"),
            (format!("[[shop]]\nsecrets = {OLD}"), "line 2 is not TOML"),
            (format!("[[shops]]\n{secret}"), "there is no key `shops` here"),
            (format!("[shop]\n{secret}"), "`shop` must be written as [[shop]]"),
            (format!("[[shop]]\n{secret}"), "shop number 1: `tenant` must be a text"),
            (format!("[[shop]]\ntenant='a'\nname='b'\n{secret}"), "there is no key `name`"),
            (format!("[[courier]]\ntenant='a'\n{secret}"), "courier number 1: `name` must be"),
            ("[[shop]]\ntenant='a'".to_owned(), "`secrets` must be a list of 1 to 2 texts"),
            (format!("[[shop]]\ntenant='a'\nsecrets='{OLD}'"), "`secrets` must be a list"),
            ("[[shop]]\ntenant='a'\nsecrets=[]".to_owned(), "1 to 2 texts"),
            (format!("[[shop]]\ntenant='a'\nsecrets=['{OLD}','{NEW}','{OLD}']"), "1 to 2 texts"),
            (
                format!("[[shop]]\ntenant='a'\n{secret}\n").repeat(2),
                "shop number 2 is there already",
            ),
        ] {
            let problem = problem(&text);
            assert!(problem.contains(words), "{text}: {problem}");
            assert!(!problem.contains("b2xk") && !problem.contains("bmV3"), "{problem}");
        }
    }
}
