//! A worker's start: what it waits for, and what ends it.

use std::fs;
use std::time::Duration;

use sqlx::{Connection, Executor};

use crate::instance::{Instance, shared};
use crate::orders::mixed;
use crate::process::{free_port, get, run, until};
use crate::stage::{COMMAND, Stage};

/// For a start that fails to fail.
const FAILED: Duration = Duration::from_secs(20);
/// This one role needs a password, in the server's file of rules.
const RULE: &str = "host all locked 127.0.0.1/32 scram-sha-256";

pub async fn a_worker_waits_for_what_is_not_there_yet(service: &'static str) {
    let database = Instance::start("postgres", &format!("late-{service}"), &[]).await;
    let broker = Instance::start(service, "e2e-late", &[]).await;
    let mut stage = Stage::new("late", &database, &broker).await;
    stage.cast(mixed("late", 20, 5));
    tokio::join!(database.tell("stop", &[]), broker.tell("stop", &[]));

    let mut worker = stage.worker("worker");
    let troubled = worker.becomes_unready().await;
    assert!(troubled.contains_key("database"), "{troubled:?}");
    assert_eq!(get(worker.port, "/healthz").await.expect("an answer").0, 200);
    database.tell("start", &[]).await;
    // The database is there and the broker is not.
    until("only the broker is missing", COMMAND, async || {
        let troubled = worker.becomes_unready().await;
        troubled.contains_key("orders") && !troubled.contains_key("database")
    })
    .await;
    broker.tell("start", &[]).await;
    worker.becomes_ready().await;
    assert!(worker.process.has_ended().is_none());
    let _participants = stage.participants();
    stage.submit(1).await;
    stage.ends_well(0).await;
}

pub async fn tables_that_are_missing_end_the_start() {
    let stage = Stage::unmigrated("no_tables", shared("postgres"), shared("rabbitmq")).await;
    let mut command = stage.command(&["worker"]);
    let port = free_port();
    command.env("MAKEGOOD_HTTP_LISTEN", format!("127.0.0.1:{port}"));
    let (status, _, said) = run(command, FAILED).await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("run `makegood migrate`"), "{said}");
    let (status, _, said) = run(stage.command(&["participants"]), FAILED).await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("run `makegood migrate`"), "{said}");
}

pub async fn a_wrong_password_is_named_and_not_printed() {
    let database = shared("postgres");
    let stage = Stage::new("password", database, shared("rabbitmq")).await;
    let rules = database.folder().join("data/pg_hba.conf");
    let others = fs::read_to_string(&rules).expect("the server's rules");
    if !others.contains(RULE) {
        fs::write(&rules, format!("{RULE}\n{others}")).expect("written");
    }
    let mut admin = stage.connection().await;
    let role = "DROP ROLE IF EXISTS locked; CREATE ROLE locked LOGIN PASSWORD 'right';
        SELECT pg_reload_conf()";
    admin.execute(role).await.expect("a role");
    admin.close().await.expect("closed");

    let (_, place) = stage.store().split_once('@').expect("a URL with a user");
    let wrong = format!("postgres://locked:s3cret-one@{place}");
    let worker = stage.worker_with("database", &[("MAKEGOOD_STORE", &wrong)]);
    let why = worker.trouble("database", "password authentication failed").await;
    assert!(!format!("{why}{}", worker.process.log()).contains("s3cret"), "{why}");
    let mut command = stage.command(&["order", "list"]);
    command.env("MAKEGOOD_STORE", &wrong);
    let (status, _, said) = run(command, FAILED).await;
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("password authentication failed") && !said.contains("s3cret"), "{said}");

    let wrong = stage.broker.replace("guest:guest@", "guest:s3cret-two@");
    let worker = stage.worker_with("broker", &[("MAKEGOOD_BROKER", &wrong)]);
    let why = worker.trouble("orders", "ACCESS_REFUSED").await;
    assert!(!format!("{why}{}", worker.process.log()).contains("s3cret"), "{why}");
}
