//! Prometheus reads what a worker offers while something is wrong: every panel of every dashboard
//! has data, and of all alerts those fire that should.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use lapin::options::ConfirmSelectOptions;
use serde_json::{Value, json};

use crate::instance::{Instance, data, scripts, shared};
use crate::letters::publish;
use crate::orders::{TENANT, mixed, scripted};
use crate::process::{get, until};
use crate::stage::Stage;

/// The first scrape comes five seconds after the start, a look at what is stored every fifteen.
const SCRAPED: Duration = Duration::from_secs(45);
/// What Grafana puts in for a second between two scrapes.
const RATE_INTERVAL: &str = "30s";

pub async fn prometheus_reads_the_metrics() {
    let mut stage = Stage::new("prometheus", shared("postgres"), shared("rabbitmq")).await;
    let mut orders = mixed("scraped", 20, 3);
    orders.push(scripted("lost", 1, json!({ "deliver": "failed" }), "running"));
    stage.cast(orders);
    let _participants = stage.participants();
    let worker = stage.ready_worker("worker").await;
    let target = format!("makegood=127.0.0.1:{}", worker.port);
    let rules = format!("rules={}", at_once().display());
    let prometheus = Instance::start("prometheus", "e2e", &[&target, &rules]).await;
    let channel = stage.channel().await.expect("RabbitMQ");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    publish(&channel, "", "makegood.orders", "nonsense", b"{").await;
    stage.submit(1).await;
    stage.ends_well(1).await;
    for query in [
        "sum(makegood_sagas_finished_total) == 20",
        "sum(makegood_saga_duration_seconds_count) == 20",
        "sum(makegood_sagas_active) == 1",
        "sum(makegood_value_at_risk_minor{currency=\"EUR\"}) > 0",
        "min(makegood_connected) == 1",
        "sum(makegood_commit_duration_seconds_bucket{le=\"+Inf\"}) > 0",
    ] {
        until(query, SCRAPED, async || !ask(&prometheus, query).await.is_empty()).await;
    }
    every_panel_has_data(&prometheus).await;
    those_alerts_fire_that_should(&prometheus).await;
    let (_, page) = get(worker.port, "/metrics").await.expect("an answer");
    // Whose order it is stands in no label: each would be a series of its own for ever.
    assert!(!page.contains("scraped") && !page.contains(TENANT), "{page}");
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

async fn ask(prometheus: &Instance, query: &str) -> Vec<Value> {
    let answer = prometheus.tell("query", &[query]).await;
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    answer["data"]["result"].as_array().cloned().unwrap_or_default()
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The alerts, without the time for which each must hold: that is for promtool's tests. What is
/// left is whether the expressions find what a real worker says.
fn at_once() -> PathBuf {
    let rules = std::fs::read_to_string(project().join("alerts/makegood.yaml")).expect("rules");
    let eager = rules.lines().map(|line| match line.split_once("for: ") {
        Some((before, _)) if before.trim().is_empty() => format!("{before}for: 0s\n"),
        _ => format!("{line}\n"),
    });
    let path = data().join("e2e").join("alerts.yaml");
    std::fs::write(&path, eager.collect::<String>()).expect("written");
    path
}

async fn every_panel_has_data(prometheus: &Instance) {
    let mut asked = 0;
    for entry in std::fs::read_dir(project().join("grafana")).expect("dashboards") {
        let path = entry.expect("dashboards").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a dashboard");
        let dashboard: Value = serde_json::from_str(&text).expect("JSON");
        for panel in dashboard["panels"].as_array().expect("panels") {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let query = target["expr"].as_str().expect("an expression");
                let query = query.replace("$__rate_interval", RATE_INTERVAL);
                let has_data = !ask(prometheus, &query).await.is_empty();
                assert!(has_data, "{}: {}: {query}: no data", path.display(), panel["title"]);
                asked += 1;
            }
        }
    }
    assert!(asked > 100, "only {asked} queries were found");
}

async fn those_alerts_fire_that_should(prometheus: &Instance) {
    let expected =
        BTreeSet::from(["MakegoodDeadLetters", "MakegoodOrdersNeedPerson"].map(String::from));
    let firing = async || -> BTreeSet<String> {
        // One lost order in 21 is more than the objective allows: that burn is no surprise.
        let query = "ALERTS{alertstate=\"firing\", alertname!=\"MakegoodCalledSloBurn\"}";
        let alerts = ask(prometheus, query).await;
        let name = |alert: &Value| alert["metric"]["alertname"].as_str().map(str::to_owned);
        alerts.iter().filter_map(name).collect()
    };
    until("the alerts that should fire, and no other", SCRAPED, async || {
        firing().await == expected
    })
    .await;
}
