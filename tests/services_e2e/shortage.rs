//! RabbitMQ is there and does not do all it should: it is out of memory, a queue is full or does
//! not confirm, a binding is gone. The rest goes on, and what was held back follows.

use std::time::Duration;

use lapin::options::QueueDeclareOptions;

use crate::instance::{Instance, shared};
use crate::orders::mixed;
use crate::process::until;
use crate::stage::{Stage, Worker};

/// For something to be seen in a metric or a table.
const SOON: Duration = Duration::from_secs(60);
/// When parcels arrive, in seconds after the participants began: later than what was left in the
/// outbox when the trouble ended is sent again, half a minute after.
const DELIVERED_AFTER: i64 = 45;

async fn failures(worker: &Worker, reason: &str) -> f64 {
    worker.metric("makegood_publish_failures_total", &format!("reason=\"{reason}\"")).await
}

/// The virtual host of a case.
fn vhost(stage: &Stage) -> &str {
    stage.broker.rsplit_once('/').expect("a URL with a virtual host").1
}

pub async fn a_broker_out_of_memory_is_waited_for() {
    let broker = Instance::start("rabbitmq", "e2e-alarm", &[]).await;
    let mut stage = Stage::new("alarm", shared("postgres"), &broker).await;
    stage.cast(mixed("alarm", 100, DELIVERED_AFTER));
    let worker = stage.ready_worker("worker").await;
    stage.submit(4).await;
    broker.tell("ctl", &["set_vm_memory_high_watermark", "0.0001"]).await;
    // Nobody answers the first commands, so they are due to be sent again.
    worker.trouble("relay", "refused").await;
    // Consuming goes on: nothing but the relay has trouble.
    let troubled = worker.becomes_unready().await;
    assert_eq!(troubled.keys().collect::<Vec<_>>(), ["relay"], "{troubled:?}");
    broker.tell("ctl", &["set_vm_memory_high_watermark", "absolute", "1GiB"]).await;
    worker.becomes_ready().await;
    let _participants = stage.participants();
    stage.ends_well(0).await;
}

pub async fn a_full_queue_keeps_its_messages_in_the_outbox() {
    const ORDERS: i64 = 60;
    let broker = shared("rabbitmq");
    let mut stage = Stage::new("full", shared("postgres"), broker).await;
    stage.cast(mixed("full", 60, DELIVERED_AFTER));
    let worker = stage.ready_worker("worker").await;
    let at_most = ["full", "^inventory[.]commands$", "{\"max-length\":3}", "--apply-to", "queues"];
    let told = [&["-p", vhost(&stage), "set_policy"], &at_most[..]].concat();
    broker.tell("ctl", &told).await;
    // Nobody takes the commands out.
    stage.submit(10).await;
    until("all orders taken in, and most of their commands refused", SOON, async || {
        let taken_in = stage.number("SELECT count(*) FROM saga").await == Some(ORDERS);
        let waiting = stage.number("SELECT count(*) FROM outbox").await.unwrap_or(0);
        taken_in && waiting > ORDERS / 2 && failures(&worker, "refused").await > 0.0
    })
    .await;
    assert_eq!(worker.is_ready().await, Some(true), "one full queue is not the worker's trouble");
    broker.tell("ctl", &["-p", vhost(&stage), "clear_policy", "full"]).await;
    let _participants = stage.participants();
    stage.ends_well(0).await;
}

pub async fn a_queue_that_does_not_confirm_holds_up_no_other() {
    let broker = shared("rabbitmq");
    let mut stage = Stage::new("silent", shared("postgres"), broker).await;
    stage.cast(mixed("silent", 100, 2 * DELIVERED_AFTER));
    let _participants = stage.participants();
    let worker = stage.ready_worker("worker").await;
    // The process that leads the queue stands still; so does a queue without a majority.
    let leader = format!("'{}_wms.commands'", vhost(&stage));
    let leader = &leader;
    let tell = async |what: &str| {
        broker.tell("ctl", &["eval", &format!("sys:{what}({leader}).")]).await;
    };
    tell("suspend").await;
    stage.submit(5).await;
    until("commands that nobody confirms", SOON, async || failures(&worker, "silent").await > 0.0)
        .await;
    // The inventory hears of all orders, and its answers are taken in.
    let answered = "SELECT count(*) FROM saga WHERE version >= 2";
    until("all through their first step", SOON, async || stage.number(answered).await == Some(100))
        .await;
    assert_eq!(worker.is_ready().await, Some(true), "one silent queue is not the worker's trouble");
    tell("resume").await;
    stage.ends_well(0).await;
}

pub async fn a_lost_binding_is_made_again_and_purged_commands_are_sent_again() {
    let mut stage = Stage::new("purged", shared("postgres"), shared("rabbitmq")).await;
    stage.cast(mixed("purged", 100, DELIVERED_AFTER));
    let worker = stage.ready_worker("worker").await;
    let channel = stage.channel().await.expect("RabbitMQ");
    stage.submit(5).await;
    let confirmed = async || worker.metric("makegood_messages_published_total", "commands").await;
    until("all first commands in their queue", SOON, async || confirmed().await >= 100.0).await;
    let purged = channel.queue_purge("inventory.commands".into(), Default::default()).await;
    assert!(purged.expect("purged") >= 100, "nobody has taken any");

    let _participants = stage.participants();
    until("participants that have declared their queues", SOON, async || {
        let look = QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = channel.queue_declare("wms.commands".into(), look, Default::default());
        queue.await.expect("the queue").consumer_count() > 0
    })
    .await;
    let (queue, commands) = ("wms.commands".into(), "makegood.commands".into());
    let unbound = channel.queue_unbind(queue, commands, "wms.#".into(), Default::default());
    unbound.await.expect("unbound");
    until("a command that no queue takes", SOON, async || {
        failures(&worker, "unroutable").await > 0.0
    })
    .await;
    // The exchange itself goes as well.
    let deleted = channel.exchange_delete("makegood.commands".into(), Default::default());
    deleted.await.expect("deleted");
    stage.ends_well(0).await;
    assert_eq!(worker.is_ready().await, Some(true), "no trouble is kept after its end");
}

pub async fn a_queue_with_other_properties_ends_the_start() {
    let stage = Stage::new("strange", shared("postgres"), shared("rabbitmq")).await;
    let channel = stage.channel().await.expect("RabbitMQ");
    let classic = QueueDeclareOptions { durable: true, ..Default::default() };
    let queue = channel.queue_declare("wms.commands".into(), classic, Default::default());
    queue.await.expect("a classic queue");
    let mut worker = stage.worker("worker");
    let status = worker.process.end("a worker that cannot begin", SOON).await;
    let said = worker.process.log();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("'wms.commands' exists with other properties"), "{said}");
}
