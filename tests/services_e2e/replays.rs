//! Dead letters by the hundreds that go through again, while workers are killed.

use std::time::Duration;

use serde_json::Value;

use crate::instance::shared;
use crate::orders::mixed;
use crate::process::until;
use crate::stage::Stage;

const ORDERS: usize = 300;
/// Letters a second: the campaign takes some seconds, in which workers die.
const RATE: &str = "50";
/// Replays after which a worker is killed, each time.
const KILLED_AFTER: [i64; 2] = [40, 150];
/// For letters to be written down, and to be replayed again that a dead worker had in hand.
const SOON: Duration = Duration::from_secs(90);
/// Seconds by which every letter is through: no parcel is delivered before.
const DELIVERED: i64 = 80;

const OPEN: &str = "SELECT count(*) FROM dead_letter WHERE closed IS NULL";
const REPLAYED: &str = "SELECT count(*) FROM replayed";

async fn json(stage: &Stage, arguments: &[&str]) -> Value {
    serde_json::from_str(&stage.succeed(arguments).await).expect("JSON")
}

/// Orders that came before anybody had published their definition.
pub async fn a_campaign_survives_its_workers_and_nothing_happens_twice() {
    let mut stage = Stage::unmigrated("replays", shared("postgres"), shared("rabbitmq")).await;
    let empty = tempfile::tempdir().expect("a folder");
    let empty = empty.path().to_str().expect("a name in ASCII");
    stage.succeed(&["migrate", "--sagas", empty]).await;
    stage.cast(mixed("replays", ORDERS, DELIVERED));
    let mut first = stage.worker("first");
    first.trouble("definitions", "no definition is published").await;
    stage.submit(1).await;
    let orders = i64::try_from(ORDERS).expect("few");
    until("a letter for each order", SOON, async || stage.number(OPEN).await == Some(orders)).await;

    stage.migrate().await;
    let listed = json(&stage, &["dead", "list", "--json"]).await;
    assert_eq!(listed["letters"], orders);
    let groups = listed["groups"].as_array().expect("groups");
    assert_eq!(groups.len(), 1, "{listed:#}");
    assert_eq!(
        (&groups[0]["reason"], &groups[0]["letters"]),
        (&"unknown-saga".into(), &orders.into())
    );
    let group = groups[0]["group"].as_str().expect("text");
    let rehearsed =
        json(&stage, &["dead", "replay", "--group", group, "--rehearse", "--json"]).await;
    assert_eq!(rehearsed["outcomes"], serde_json::json!({ "started": orders }));
    assert_eq!(stage.number(OPEN).await, Some(orders));

    let _participants = stage.participants();
    let mut second = stage.ready_worker("second").await;
    let replay = ["dead", "replay", "--group", group, "--rate", RATE];
    let how = ["--no-wait", "--json", "--reason", "the definition is published"];
    let started = json(&stage, &[&replay[..], &how[..]].concat()).await;
    assert_eq!(started["letters"], orders);
    let campaign = started["campaign"].as_str().expect("an id").to_owned();
    let [once, twice] = KILLED_AFTER;
    let replayed = async |count: i64| {
        until(&format!("{count} letters replayed"), SOON, async || {
            stage.number(REPLAYED).await.is_some_and(|replayed| replayed >= count)
        })
        .await;
    };
    replayed(once).await;
    first.process.kill();
    let _third = stage.worker("third");
    replayed(twice).await;
    second.process.kill();
    replayed(orders).await;

    let mut shown = Value::Null;
    until("the campaign is done", SOON, async || {
        shown = json(&stage, &["dead", "campaign", "show", &campaign, "--json"]).await;
        shown["campaign"]["state"] == "done"
    })
    .await;
    let outcomes = &shown["campaign"]["outcomes"];
    let count = |outcome: &str| outcomes[outcome].as_i64().unwrap_or(0);
    // What a killed worker had committed and not written down came once more, and was known.
    assert_eq!(count("started") + count("duplicate"), orders, "{shown:#}");
    assert_eq!(shown["failures"], Value::Array(Vec::new()));
    assert_eq!(stage.number("SELECT count(*) FROM replay").await, Some(0));
    assert_eq!(stage.number(OPEN).await, Some(0));
    stage.ends_well(0).await;
}
