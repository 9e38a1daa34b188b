//! `makegood order push` at the door, with and without TLS.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use makegood::http::Certificate;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{OTHER, World};

async fn push(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_makegood"));
    let ours = std::env::vars().filter(|(name, _)| name.starts_with("MAKEGOOD_"));
    for (name, _) in ours {
        command.env_remove(name);
    }
    command.args(["order", "push", "--count", "20", "--json"]).args(arguments);
    let ledgers = tempfile::tempdir().unwrap();
    command.current_dir(ledgers.path());
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

fn told(output: &Output) -> (Option<i32>, Value, String) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let counts: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), counts, said)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_are_pushed_once_and_known_the_second_time() {
    let world = World::new().await;
    let url = format!("http://{}", world.address);
    let accounts = world.accounts();
    let good = ["--url", &url, "--accounts", text(&accounts)];
    let (code, counts, said) = told(&push(&good).await);
    assert_eq!(
        (code, &counts["new"], &counts["refused"]),
        (Some(0), &20.into(), &0.into()),
        "{said}"
    );
    assert!(counts["latency_p99_ms"].is_number() && counts["pushes_per_second"].is_number());
    let (code, counts, said) = told(&push(&good).await);
    assert_eq!((code, &counts["known"]), (Some(0), &20.into()), "{said}");
    assert_eq!(world.written().await, (20, 0));

    // With another's key, and without any.
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.toml");
    std::fs::write(&wrong, format!("[[shop]]\ntenant = 'demo'\nsecrets = ['{OTHER}']\n")).unwrap();
    let (code, counts, said) = told(&push(&["--url", &url, "--accounts", text(&wrong)]).await);
    assert_eq!((code, &counts["refused"]), (Some(1), &20.into()));
    assert!(said.contains("401 /problems/bad-signature") && !said.contains("whsec"), "{said}");
    std::fs::write(&wrong, format!("[[shop]]\ntenant = 'x'\nsecrets = ['{OTHER}']\n")).unwrap();
    let (code, _, said) = told(&push(&["--url", &url, "--accounts", text(&wrong)]).await);
    assert_eq!(code, Some(2));
    assert!(said.contains("there is no [[shop]] tenant = … for 'demo'"), "{said}");
    let (code, _, said) = told(&push(&["--url", &url]).await);
    assert_eq!(code, Some(2), "{said}");
    let (code, _, said) = told(&push(&["--url", "ftp://x", "--accounts", text(&accounts)]).await);
    assert_eq!(code, Some(2), "{said}");
    world.stop().await;
}

/// A certificate for `localhost` with its key, in these files.
fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (chain, key) = (folder.join("chain.pem"), folder.join("key.pem"));
    std::fs::write(&chain, cert.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    (chain, key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_certificate_the_door_speaks_tls_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = certificate(folder.path());
    let world = World::secured(Certificate::open(&chain, &key).unwrap()).await;
    let accounts = world.accounts();
    let url = format!("https://localhost:{}", world.address.port());
    let good = ["--url", &url, "--accounts", text(&accounts), "--ca", text(&chain)];
    let (code, counts, said) = told(&push(&good).await);
    assert_eq!((code, &counts["new"]), (Some(0), &20.into()), "{said}");
    // A shop that does not know the authority does not trust it, and plain HTTP gets nowhere.
    let (code, _, said) = told(&push(&good[..4]).await);
    assert!(code == Some(1) && said.contains("cannot connect"), "{said}");
    let mut plain = TcpStream::connect(world.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await; // at most a TLS alert
    assert!(!answer.starts_with(b"HTTP"));
    assert_eq!(world.written().await, (20, 0));
    world.stop().await;
}

#[test]
fn a_certificate_that_cannot_be_used_is_named_and_never_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = certificate(folder.path());
    let other = tempfile::tempdir().unwrap();
    let (_, other_key) = certificate(other.path());
    let error = |chain: &Path, key: &Path| Certificate::open(chain, key).err().unwrap().to_string();
    assert!(error(&key, &key).ends_with("key.pem: holds no certificate (PEM: BEGIN CERTIFICATE)"));
    assert!(error(&chain, &chain).contains("chain.pem: holds no private key"));
    assert!(error(&chain, &other_key).ends_with("key.pem: is not the key of the certificate"));
    assert!(error(Path::new("none.pem"), &key).starts_with("none.pem: "));
}
