//! Prometheus reads what a worker offers.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::instance::{Instance, scripts, shared};
use crate::orders::mixed;
use crate::process::{get, until};
use crate::stage::Stage;

/// The first scrape comes five seconds after the start.
const SCRAPED: Duration = Duration::from_secs(30);

pub async fn prometheus_reads_the_metrics() {
    let mut stage = Stage::new("prometheus", shared("postgres"), shared("rabbitmq")).await;
    stage.cast(mixed("scraped", 20, 3));
    let _participants = stage.participants();
    let worker = stage.ready_worker("worker").await;
    let target = format!("makegood=127.0.0.1:{}", worker.port);
    let prometheus = Instance::start("prometheus", "e2e", &[&target]).await;
    stage.submit(1).await;
    stage.ends_well(0).await;
    let ours = format!("instance=\"127.0.0.1:{}\"", worker.port);
    for query in [
        format!("sum(makegood_sagas_finished_total{{{ours}}}) == 20"),
        format!("sum(makegood_saga_duration_seconds_count{{{ours}}}) == 20"),
        format!("sum(makegood_sagas_active{{{ours}}}) == 0"),
        format!("min(makegood_connected{{{ours}}}) == 1"),
        format!("sum(makegood_commit_duration_seconds_bucket{{le=\"+Inf\", {ours}}}) > 0"),
    ] {
        let query = query.as_str();
        until(query, SCRAPED, async || {
            let answer = prometheus.tell("query", &[query]).await;
            let answer: Value = serde_json::from_str(&answer).expect("JSON");
            answer["data"]["result"].as_array().is_some_and(|result| !result.is_empty())
        })
        .await;
    }
    let (_, page) = get(worker.port, "/metrics").await.expect("an answer");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), page).expect("written");
    let checked = Command::new(scripts().expect("they ran").join("prometheus.sh"))
        .args(["promtool", "check", "metrics"])
        .stdin(Stdio::from(file.reopen().expect("readable")))
        .output()
        .expect("promtool runs");
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && said.is_empty(), "{said}");
}
