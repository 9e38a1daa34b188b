//! What is different with Kafka: members of a group share partitions and not messages, and
//! events are kept. And what can only go wrong with a broker outside the process.

use std::collections::BTreeSet;
use std::env;
use std::process::Command;
use std::time::Duration;

use makegood::broker::kafka::topics::Names;
use makegood::broker::{BrokerError, Channel, Link, PublishError};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::world::*;

/// How long nothing may come, where it is the point that nothing does.
const QUIET: Duration = Duration::from_secs(2);

fn config(url: &str) -> ClientConfig {
    let hosts = url.split("://").nth(1).expect("a URL").split(['/', '?']).next();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", hosts.expect("hosts"));
    config
}

fn admin(url: &str) -> AdminClient<DefaultClientContext> {
    config(url).create().expect("a client")
}

/// Deletes all topics whose names begin so.
pub async fn delete(url: &str, prefix: &str) {
    let (admin, prefix) = (admin(url), prefix.to_owned());
    let found = tokio::task::spawn_blocking(move || {
        let found = admin.inner().fetch_metadata(None, Duration::from_secs(10));
        let topics = found.map(|found| {
            let names = found.topics().iter().map(|topic| topic.name().to_owned());
            names.filter(|name| name.starts_with(&prefix)).collect::<Vec<_>>()
        });
        (admin, topics.unwrap_or_default())
    });
    let (admin, topics) = found.await.expect("it ran");
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let _ = admin.delete_topics(&topics, &AdminOptions::new()).await;
}

fn names(world: &World) -> Names {
    Names { prefix: world.names.prefix.clone() }
}

fn topic(world: &World, channel: Channel) -> String {
    names(world).topic(&channel).expect("a topic")
}

async fn create(world: &World, topic: &str, settings: &[(&str, &str)]) {
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(-1));
    let new = settings.iter().fold(new, |new, (key, value)| new.set(key, value));
    let made = admin(world.url()).create_topics(&[new], &AdminOptions::new()).await;
    made.expect("an answer")[0].as_ref().expect("made");
}

pub async fn events_are_kept_and_reach_each_subscriber(world: World) {
    let broker = world.broker().await;
    let completed = |id: &str| outgoing(Channel::Events, id, "order.completed.v1");
    // Nobody has to listen: who comes later may read them all.
    publish(&broker, &[order(1), completed("before"), order(2)]).await;
    let mut first = broker.consume(&Channel::Events, 10).await.unwrap();
    let mut second = broker.consume(&Channel::Events, 10).await.unwrap();
    publish(&broker, &[completed("heard")]).await;
    assert_eq!(ids(&take(&mut first, 1).await), ["heard"]);
    assert_eq!(ids(&take(&mut second, 1).await), ["heard"]);
}

/// While consumers come one by one, and one goes: everything once, and each gets its part.
pub async fn competing_consumers_share_partitions(world: World) {
    const CONSUMERS: usize = 3;
    let broker = world.broker().await;
    let (found, mut all_found) = tokio::sync::mpsc::unbounded_channel();
    let consumers: Vec<_> = (0..CONSUMERS)
        .map(|number| {
            let (broker, found) = (broker.clone(), found.clone());
            tokio::spawn(async move {
                let mut consumer = broker.consume(&Channel::Orders, 50).await.unwrap();
                loop {
                    for incoming in consumer.receive(40).await.unwrap() {
                        found.send((number, id(&incoming))).unwrap();
                        incoming.ticket.done();
                    }
                }
            })
        })
        .collect();
    let (mut seen, mut served, mut sent) = (BTreeSet::new(), BTreeSet::new(), 0);
    while served.len() < CONSUMERS || seen.len() < sent {
        if served.len() < CONSUMERS {
            publish(&broker, &(sent..sent + 50).map(order).collect::<Vec<_>>()).await;
            sent += 50;
        }
        while let Ok(Some((number, id))) = match served.len() < CONSUMERS {
            true => Ok(all_found.try_recv().ok()),
            false if seen.len() < sent => timeout(QUIET * 10, all_found.recv()).await,
            false => Ok(None),
        } {
            assert!(seen.insert(id.clone()), "{id} came twice");
            served.insert(number);
        }
    }
    consumers.iter().for_each(|consumer| consumer.abort());
    for consumer in consumers {
        assert!(consumer.await.unwrap_err().is_cancelled());
    }
    let broker = world.fresh(broker).await;
    assert_eq!(ids(&left(&broker, Channel::Orders).await), [""; 0]);
}

pub async fn the_prefetch_bounds_what_is_out(world: World) {
    let broker = world.broker().await;
    publish(&broker, &(0..10).map(order).collect::<Vec<_>>()).await;
    let mut narrow = broker.consume(&Channel::Orders, 3).await.unwrap();
    let mut all = BTreeSet::new();
    for _ in 0..3 {
        let held = take(&mut narrow, 3).await;
        assert!(timeout(QUIET, narrow.receive(10)).await.is_err(), "there is no room for more");
        all.extend(ids(&held));
        done(held);
    }
    all.extend(ids(&take(&mut narrow, 1).await));
    assert_eq!(all.len(), 10);
}

/// Somebody joins while so much waits at the other one that it fetches no more.
pub async fn a_rebalance_forgets_no_partition_that_pauses(world: World) {
    const MANY: usize = 3_000;
    let broker = world.broker().await;
    publish(&broker, &(0..MANY).map(order).collect::<Vec<_>>()).await;
    let mut first = broker.consume(&Channel::Orders, 100).await.unwrap();
    let held = take(&mut first, 100).await;
    assert!(timeout(QUIET, first.receive(1)).await.is_err(), "there is no room for more");
    let mut second = broker.consume(&Channel::Orders, 100).await.unwrap();
    let mut taken = second.receive(100).await.unwrap();
    let mut found: BTreeSet<String> = ids(&held).into_iter().collect();
    done(held);
    loop {
        found.extend(ids(&taken));
        done(taken);
        if found.len() == MANY {
            break;
        }
        taken = tokio::select! {
            taken = first.receive(100) => taken.unwrap(),
            taken = second.receive(100) => taken.unwrap(),
        };
    }
}

/// A partition goes to somebody else while a message is out: it waits for it, and brings it to
/// the other one when it takes too long. The late ticket moves nothing.
pub async fn a_stale_ticket_moves_nothing(world: World) {
    let broker = world.broker().await;
    publish(&broker, &(0..60).map(order).collect::<Vec<_>>()).await;
    let mut first = broker.consume(&Channel::Orders, 100).await.unwrap();
    let held = take(&mut first, 60).await;
    let mut second = broker.consume(&Channel::Orders, 100).await.unwrap();
    // Some partition moves, with all that is out of it.
    let moved = second.receive(100).await.unwrap();
    assert!(moved.iter().all(|incoming| incoming.redelivered));
    let moved_ids: BTreeSet<String> = ids(&moved).into_iter().collect();
    done(held);
    drop((first, second, moved));
    let broker = world.fresh(broker).await;
    let left: BTreeSet<String> = ids(&left(&broker, Channel::Orders).await).into_iter().collect();
    assert!(moved_ids.is_subset(&left), "{moved_ids:?} were never done by who had them");
    assert!(left.len() < 60, "what stayed where it was is done");
}

/// Its thread is held while librdkafka's own go on with their heartbeats.
pub async fn who_is_stuck_is_replaced_and_told(world: World) {
    const ALL: usize = 40;
    let broker = world.broker().await;
    publish(&broker, &(0..ALL).map(order).collect::<Vec<_>>()).await;
    let stuck = world.at(&format!("{}&max.poll.interval.ms=6000", world.url()));
    let (holds, held) = oneshot::channel();
    let (wake, awake) = std::sync::mpsc::channel::<()>();
    let stuck = std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut consumer = stuck.consume(&Channel::Orders, 100).await.unwrap();
            let taken = take(&mut consumer, ALL).await;
            holds.send(()).unwrap();
            awake.recv().unwrap();
            done(taken);
            let told = consumer.receive(1).await.expect_err("it is no member any more");
            stuck.close().await;
            told
        })
    });
    held.await.expect("it has them all");
    let mut other = broker.consume(&Channel::Orders, 100).await.unwrap();
    let taken = take(&mut other, ALL).await;
    assert!(taken.iter().all(|incoming| incoming.redelivered));
    wake.send(()).expect("it waits");
    let told = tokio::task::spawn_blocking(|| stuck.join().expect("it ended")).await.unwrap();
    let told = format!("{told:?}");
    assert!(told.contains("max.poll.interval.ms"), "{told}");
    // What it did too late moved nothing: whoever has them has to do them.
    drop((other, taken));
    let broker = world.fresh(broker).await;
    assert_eq!(left(&broker, Channel::Orders).await.len(), ALL);
}

pub async fn other_properties_are_a_mismatch(world: World) {
    let facts = topic(&world, Channel::Facts);
    create(&world, &facts, &[("cleanup.policy", "compact"), ("retention.ms", "-1")]).await;
    let broker = world.undeclared();
    for _ in 0..2 {
        match broker.declare(&topology()).await {
            Err(BrokerError::Mismatch { what, detail }) => {
                assert!(what.contains(&facts), "{what}");
                assert!(detail.contains("cleanup.policy is 'compact'"), "{detail}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(broker.status().consuming, Link::Connected);
    // The others are there.
    let command = outgoing(Channel::Commands("loan".into()), 1, "loan.activate.v1");
    publish(&broker, &[order(1), command]).await;
    assert_eq!(ids(&left(&broker, Channel::Orders).await), ["1"]);
}

pub async fn a_topic_that_forgets_too_early_is_a_mismatch(world: World) {
    let orders = topic(&world, Channel::Orders);
    create(&world, &orders, &[("retention.ms", "604800000")]).await;
    let error = world.undeclared().declare(&topology()).await.unwrap_err().to_string();
    assert!(error.contains(&orders) && error.contains("1209600000 or more"), "{error}");
    let (url, _) = world.url().split_once('?').unwrap();
    let broker = world.at(&format!("{url}?retention_days=7"));
    broker.declare(&topology()).await.expect("a week is said to be enough");
}

pub async fn a_missing_topic_is_unroutable(world: World) {
    let broker = world.undeclared();
    assert_eq!(broker.publish(&[order(1)]).await, [Err(PublishError::Unroutable)]);
    let event = outgoing(Channel::Events, 1, "order.completed.v1");
    assert_eq!(broker.publish(&[event]).await, [Err(PublishError::Unroutable)]);
    assert!(broker.consume(&Channel::Orders, 10).await.is_err(), "nothing to consume");
    broker.declare(&topology()).await.expect("declared");
    publish(&broker, &[order(2)]).await;
}

pub async fn a_deleted_topic_ends_its_consumer_and_can_be_declared_again(world: World) {
    let broker = world.broker().await;
    let mut consumer = broker.consume(&Channel::Orders, 10).await.unwrap();
    publish(&broker, &[order(1)]).await;
    done(take(&mut consumer, 1).await);
    let orders = topic(&world, Channel::Orders);
    let admin = admin(world.url());
    let options = AdminOptions::new();
    let deleted = admin.delete_topics(&[&orders], &options);
    let (deleted, received) = tokio::join!(deleted, consumer.receive(10));
    deleted.expect("an answer")[0].as_ref().expect("deleted");
    assert!(matches!(received, Err(BrokerError::Unavailable { .. })), "{received:?}");
    assert!(consumer.receive(10).await.is_err(), "and it stays so");
    broker.declare(&topology()).await.expect("declared again");
    // The topic of the same name begins at its front, whatever was read of the old one. For a
    // moment it may still be called missing.
    publish(&broker, &(10..30).map(order).collect::<Vec<_>>()).await;
    let mut found = BTreeSet::new();
    while found.len() < 20 {
        let Ok(mut consumer) = broker.consume(&Channel::Orders, 10).await else { continue };
        while found.len() < 20
            && let Ok(taken) = consumer.receive(10).await
        {
            found.extend(ids(&taken));
            done(taken);
        }
    }
}

pub async fn a_closed_broker_has_committed_everything(world: World) {
    let broker = world.broker().await;
    publish(&broker, &(0..500).map(order).collect::<Vec<_>>()).await;
    let mut consumer = broker.consume(&Channel::Orders, 500).await.unwrap();
    let taken = take(&mut consumer, 500).await;
    // The consumer and one ticket are still held.
    let (held, finished): (Vec<_>, Vec<_>) =
        taken.into_iter().partition(|incoming| id(incoming) == "250");
    done(finished);
    let fresh = world.fresh(broker).await;
    drop((consumer, held));
    let left = left(&fresh, Channel::Orders).await;
    assert_eq!(ids(&left), ["250"]);
    assert!(left[0].redelivered && left[0].headers["x-delivery-count"] == "1");
}

/// What others publish: structured, plain, and with headers that nobody expects.
pub async fn what_others_publish_is_understood(world: World) {
    let broker = world.broker().await;
    let producer: FutureProducer = config(world.url()).create().expect("a producer");
    let orders = topic(&world, Channel::Orders);
    let structured = String::from_utf8(order("structured").event.to_json()).unwrap();
    let header = |key, value| OwnedHeaders::new().insert(Header { key, value: Some(value) });
    let odd =
        header("type", b"\xff".as_slice()).insert(Header::<&[u8]> { key: "null", value: None });
    for (body, headers) in [
        (structured.as_str(), header("Content-Type", b"application/cloudevents+json")),
        ("{\"order_id\":\"plain\"}", OwnedHeaders::new()),
        ("{\"order_id\":\"odd\"}", odd),
    ] {
        let record = FutureRecord::<(), _>::to(&orders).payload(body).headers(headers);
        producer.send(record, Duration::from_secs(10)).await.expect("sent");
    }
    let found: BTreeSet<String> = ids(&left(&broker, Channel::Orders).await).into_iter().collect();
    let expected = ["structured", "plain/order.created.v1", "odd/order.created.v1"];
    assert_eq!(found, expected.map(str::to_owned).into());
}

pub async fn what_was_confirmed_survives_a_restart(world: World) {
    let Ok(restart) = env::var("MAKEGOOD_TEST_KAFKA_RESTART") else {
        let reason = "MAKEGOOD_TEST_KAFKA_RESTART holds no command that restarts Kafka";
        eprintln!("skipped: {reason}");
        world.skipped.set(reason.to_owned()).expect("set once");
        return;
    };
    let broker = world.broker().await;
    let mut consumer = broker.consume(&Channel::Orders, 10).await.unwrap();
    publish(&broker, &[order("before")]).await;
    done(take(&mut consumer, 1).await);
    let mut restarting = Command::new("sh").arg("-c").arg(&restart).spawn().expect("a shell");
    // Publishing goes on all the time; the producer itself sends again what it must.
    let (mut confirmed, mut number, mut is_back) = (Vec::new(), 0, false);
    while !is_back || confirmed.last() != Some(&number.to_string()) {
        is_back |= restarting.try_wait().expect("our child").is_some();
        number += 1;
        if broker.publish(&[order(number)]).await[0].is_ok() {
            confirmed.push(number.to_string());
        }
    }
    assert!(restarting.wait().expect("it ended").success(), "{restart}");
    while consumer.receive(1).await.is_ok() {}
    broker.declare(&topology()).await.expect("declared again");
    let found = ids(&left(&broker, Channel::Orders).await);
    for id in confirmed {
        assert!(found.contains(&id), "{id} was confirmed and is lost");
    }
}

pub async fn a_wrong_password_is_refused_without_being_printed(world: World) {
    let Ok(hosts) = env::var("MAKEGOOD_TEST_KAFKA_SASL") else {
        let reason = "MAKEGOOD_TEST_KAFKA_SASL holds no HOST:PORT that asks for a password";
        eprintln!("skipped: {reason}");
        world.skipped.set(reason.to_owned()).expect("set once");
        return;
    };
    let right = world.at(&format!("kafka://tests:right@{hosts}/?partitions=1"));
    right.declare(&topology()).await.expect("the right one is let in");
    publish(&right, &[order(1)]).await;
    let broker = world.at(&format!("kafka://tests:s3cret@{hosts}/"));
    let (topology, order) = (topology(), [order(1)]);
    let (declared, answers) = tokio::join!(broker.declare(&topology), broker.publish(&order));
    for said in [format!("{:?}", declared.unwrap_err()), format!("{answers:?}")] {
        assert!(said.contains("Invalid username or password"), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
}

pub async fn a_broker_that_says_nothing_is_given_up(world: World) {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let broker = world.at(&format!("kafka://{}/", silent.local_addr().unwrap()));
    let declared = timeout(Duration::from_secs(20), async { broker.declare(&topology()).await });
    assert!(declared.await.expect("in time").is_err());
}

pub async fn a_broker_that_is_not_there_is_unavailable(world: World) {
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let broker = world.at(&format!("kafka://{}/", gone.local_addr().unwrap()));
    drop(gone);
    let order = [order(1)];
    let (consumed, published): (_, _) =
        tokio::join!(broker.consume(&Channel::Orders, 1), broker.publish(&order));
    assert!(matches!(consumed.err(), Some(BrokerError::Unavailable { .. })));
    assert!(matches!(published[0], Err(PublishError::Unknown(_))), "{published:?}");
    assert_eq!(broker.status().publishing, Link::Disconnected);
}
