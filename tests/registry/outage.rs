//! The registry goes away in the middle of the work, and comes back.

use std::time::Duration;

use serde_json::json;

use crate::frame;
use crate::instance::{Instance, shared};
use crate::orders::{mixed, scripted};
use crate::process::{run, until};
use crate::stage::Stage;

/// Orders whose parcels arrive while the registry is away, and when: some seconds after the start.
const DURING: (usize, i64) = (20, 12);
/// And those that are under way until it is back.
const BEYOND: (usize, i64) = (40, 40);
/// For orders to come to their end, and for a command.
const SOON: Duration = Duration::from_secs(60);
const COMPLETED: &str = "SELECT count(*) FROM saga WHERE status = 3";

pub async fn a_registry_that_is_away_is_waited_for() {
    let registry = Instance::start("apicurio", "away", &[]).await;
    let mut stage = Stage::new("away", shared("postgres"), shared("kafka")).await;
    frame(&stage, &registry, "");
    let mut orders = vec![scripted("done", 1, json!({}), "completed")];
    orders.extend(mixed("during", DURING.0, DURING.1));
    orders.extend(mixed("beyond", BEYOND.0, BEYOND.1));
    stage.cast(orders);
    let _participants = stage.participants();
    let mut worker = stage.ready_worker("worker").await;
    stage.submit(2).await;
    // By then the participants have told of a fact, and asked for the schema of facts.
    let completed = async |least| stage.number(COMPLETED).await.is_some_and(|n| n >= least);
    until("one at its end", SOON, async || completed(1).await).await;

    // Whoever has asked once does not miss it.
    registry.tell("stop", &[]).await;
    until("more at their end", SOON, async || completed(15).await).await;
    assert_eq!(worker.is_ready().await, Some(true));

    // Whoever begins without it waits, and says for what. Its orders and its outbox wait too.
    worker.process.kill();
    let worker = stage.worker("next");
    let why = worker.trouble("orders", "schema registry does not answer").await;
    assert!(why.contains("Connection refused"), "{why}");
    let too_late =
        run(stage.command(&["order", "cancel", "done-0001", "--reason", "x"]), SOON).await;
    assert!(too_late.1.contains("refused"), "the news of that is what waits: {too_late:?}");
    worker.trouble("relay", "schema registry does not answer").await;
    assert!(worker.process.log().contains("the schema registry does not answer"));

    registry.tell("start", &[]).await;
    worker.becomes_ready().await;
    stage.ends_well(0).await;
}
