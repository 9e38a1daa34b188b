//! What comes in broken, and queues that go missing.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, BasicRejectOptions, ConfirmSelectOptions,
};
use lapin::types::ShortString;
use makegood::broker::Channel;
use serde_json::{Value, json};

use crate::instance::shared;
use crate::orders::{TENANT, mixed, payload};
use crate::process::until;
use crate::stage::Stage;
#[cfg(feature = "kafka")]
use crate::topics::Topics;

/// For letters to be written down.
const SOON: Duration = Duration::from_secs(30);
/// Seconds by which a reply that was lost with its queue has been asked for again: no parcel is
/// delivered before, and no delivery comes too early.
const ASKED_AGAIN: i64 = 50;
/// One delivery more than RabbitMQ is told to allow.
const TOO_OFTEN: usize = 21;
/// More than is taken in by default, in bytes.
const TOO_LARGE: usize = 300 * 1024;

/// Where messages are put in that no client of Makegood's would send.
enum Door {
    Rabbitmq(lapin::Channel),
    #[cfg(feature = "kafka")]
    Kafka(Topics),
}

impl Door {
    async fn of(stage: &Stage) -> Door {
        #[cfg(feature = "kafka")]
        if stage.broker.starts_with("kafka") {
            return Door::Kafka(Topics::at(&stage.broker));
        }
        let channel = stage.channel().await.expect("RabbitMQ");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        Door::Rabbitmq(channel)
    }

    async fn publish(&self, to: &Channel, kind: &str, id: &str, body: &[u8]) {
        match self {
            Door::Rabbitmq(channel) => {
                let (exchange, key) = match to {
                    Channel::Replies => ("makegood.replies", "makegood.replies"),
                    _ => ("makegood.inbound", kind),
                };
                publish(channel, exchange, key, id, body).await;
            }
            #[cfg(feature = "kafka")]
            Door::Kafka(topics) => topics.publish(to, kind, id, body).await,
        }
    }

    /// An order that a consumer failed on until it was given up; returns its body.
    async fn given_up(&self) -> Vec<u8> {
        let body = payload("poison").to_string().into_bytes();
        self.publish(&Channel::Orders, "order.created.v1", "poison", &body).await;
        match self {
            Door::Rabbitmq(channel) => fail_on_orders(channel).await,
            #[cfg(feature = "kafka")]
            Door::Kafka(topics) => topics.fail_on_orders().await,
        }
        body
    }
}

pub async fn publish(channel: &lapin::Channel, exchange: &str, key: &str, id: &str, body: &[u8]) {
    let properties = BasicProperties::default()
        .with_message_id(ShortString::try_new(id).expect("short"))
        .with_delivery_mode(2);
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let (exchange, key) = (ShortString::try_new(exchange), ShortString::try_new(key));
    let (exchange, key) = (exchange.expect("short"), key.expect("short"));
    let confirm = channel.basic_publish(exchange, key, options, body, properties).await;
    let confirm = confirm.expect("sent").await.expect("a confirm");
    assert!(matches!(confirm, lapin::Confirmation::Ack(None)), "{confirm:?}");
}

pub async fn what_cannot_be_processed_is_kept_and_the_queue_moves_on(broker: &'static str) {
    let mut stage = Stage::new("letters", shared("postgres"), shared(broker)).await;
    stage.cast(mixed("after", 20, 3));
    let _participants = stage.participants();
    let worker = stage.ready_worker("declares").await;
    drop(worker);

    let door = Door::of(&stage).await;
    let poison = door.given_up().await;
    let large = vec![b' '; TOO_LARGE];
    let reply = |command: &str| {
        json!({
            "specversion": "1.0", "id": format!("r-{command}"), "source": "/participants/wms",
            "type": "wms.pick.reply.v1", "sagaid": "8a0b5a5e-6f6b-4d39-9c5e-2d3f6a7b8c9d",
            "data": { "command_id": command, "outcome": "success" },
        })
        .to_string()
        .into_bytes()
    };
    let unknown = reply("0b5a5e8a-6f6b-4d39-9c5e-2d3f6a7b8c9d");
    let damaged = reply("a\u{0}b");
    let mut negative = payload("negative");
    negative["loan"]["amount_minor"] = json!(-1);
    let negative = negative.to_string().into_bytes();
    let nul = json!({
        "specversion": "1.0", "id": "c-1", "source": "/shops/odd", "type": "order.cancel-requested.v1",
        "data": { "tenant_id": TENANT, "order_id": "a\u{0}b" },
    })
    .to_string()
    .into_bytes();
    let (orders, facts, replies) = (Channel::Orders, Channel::Facts, Channel::Replies);
    let reply = "wms.pick.reply.v1";
    let (created, cancel) = ("order.created.v1", "order.cancel-requested.v1");
    let bad: [(&str, &Channel, &str, &[u8]); 8] = [
        ("unparseable", &orders, created, b"\xff\xfe not JSON"),
        ("unparseable", &facts, "shipment.delivered.v1", b"{"),
        ("oversized", &orders, created, &large),
        ("invalid-order", &orders, created, &negative),
        ("unknown-saga", &replies, reply, &unknown),
        ("wrong-schema", &replies, reply, &damaged),
        ("wrong-schema", &orders, cancel, &nul),
        ("unparseable", &replies, reply, b""),
    ];
    for (number, (_, channel, kind, body)) in bad.iter().enumerate() {
        door.publish(channel, kind, &format!("bad-{number}"), body).await;
    }
    let worker = stage.ready_worker("worker").await;
    stage.submit(1).await;
    until("nine dead letters", SOON, async || {
        stage.number("SELECT count(*) FROM dead_letter").await == Some(9)
    })
    .await;
    let letter = |(number, (reason, _, _, body)): (usize, &(&str, _, _, &[u8]))| {
        (format!("bad-{number}"), (*reason).to_owned(), body.to_vec())
    };
    let mut expected: Vec<(String, String, Vec<u8>)> = bad.iter().enumerate().map(letter).collect();
    expected.push(("poison".to_owned(), "delivery-limit".to_owned(), poison));
    let select = "SELECT headers::json ->> 'message-id', reason, body FROM dead_letter ORDER BY 1";
    let found: Vec<(String, String, Vec<u8>)> =
        sqlx::query_as(select).fetch_all(&mut stage.connection().await).await.expect("letters");
    let reasons = |letters: &[(String, String, Vec<u8>)]| -> Vec<(String, String)> {
        letters.iter().map(|(id, reason, _)| (id.clone(), reason.clone())).collect()
    };
    assert_eq!(reasons(&found), reasons(&expected));
    assert!(found == expected, "the bodies are kept byte for byte");
    // Where the broker's own letters belong is known by what it says about them.
    let rehearse = ["dead", "replay", "--code", "delivery-limit", "--rehearse", "--json"];
    let rehearsed: Value = serde_json::from_str(&stage.succeed(&rehearse).await).expect("JSON");
    assert_eq!(rehearsed["outcomes"], json!({ "started": 1 }), "{rehearsed:#}");
    stage.ends_well(9).await;
    assert_eq!(worker.metric("makegood_dead_letters_total", "").await, 9.0);
    assert_eq!(worker.metric("makegood_dead_letters_total", "\"delivery-limit\"").await, 1.0);
}

/// A consumer gets what is among the orders as often as it may, and fails on it each time.
async fn fail_on_orders(channel: &lapin::Channel) {
    for _ in 0..TOO_OFTEN {
        let mut delivery = None;
        until("the next delivery", SOON, async || {
            let got = channel.basic_get("makegood.orders".into(), BasicGetOptions::default()).await;
            delivery = got.expect("the queue");
            delivery.is_some()
        })
        .await;
        let reject = BasicRejectOptions { requeue: true };
        delivery.expect("just seen").reject(reject).await.expect("rejected");
    }
}

pub async fn a_deleted_queue_is_made_again() {
    let mut stage = Stage::new("deleted", shared("postgres"), shared("rabbitmq")).await;
    stage.cast(mixed("deleted", 300, ASKED_AGAIN));
    let _participants = stage.participants();
    let worker = stage.ready_worker("worker").await;
    let channel = stage.channel().await.expect("RabbitMQ");
    let delete = async {
        let mut seen = 0;
        for queue in ["inventory.commands", "makegood.replies", "inventory.commands"] {
            seen = stage.transitions(seen + 200).await;
            channel.queue_delete(queue.into(), Default::default()).await.expect("deleted");
        }
    };
    tokio::join!(stage.submit(15), delete);
    stage.ends_well(0).await;
    assert_eq!(worker.is_ready().await, Some(true));
}
