//! The cases that every broker passes.

use std::collections::BTreeSet;
use std::sync::Arc;

use makegood::broker::topology::DELIVERY_LIMIT;
use makegood::broker::{
    Broker, Channel, DEFAULT_MAX_MESSAGE_BYTES, Event, Incoming, Link, Outgoing, PublishError,
    envelope,
};

use crate::world::*;

pub async fn a_message_arrives_as_it_was(world: World) {
    let broker = world.broker().await;
    let mut sent = Event::new("e1", "/shop", "order.created.v1", &[("ä\"\n", 1)].map(|x| x.1));
    sent.data = Some(serde_json::value::RawValue::from_string("{ \"a\" : 1.50 }".into()).unwrap());
    sent.subject = Some("o1".to_owned());
    sent.sagaid = Some("s1".to_owned());
    sent.tenantid = Some("acme ü".to_owned());
    sent.time = Some("2026-01-01T00:00:00Z".to_owned());
    sent.datacontenttype = Some("application/json".to_owned());
    sent.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    let reply = outgoing(Channel::Replies, "r1", "inventory.reply.v1");
    let command = outgoing(Channel::Commands("loan".into()), "c1", "inventory.reserve.v1");
    let message = Outgoing { channel: Channel::Orders, event: sent.clone() };
    publish(&broker, &[message, reply, command]).await;

    let mut consumer = broker.consume(&Channel::Orders, 10).await.unwrap();
    let taken = take(&mut consumer, 1).await;
    // Kafka's messages are in binary mode: the body is the data.
    let (body, content_type) = match world.is_kafka() {
        true => (sent.data().as_bytes().to_vec(), "application/json"),
        false => (sent.to_json(), "application/cloudevents+json"),
    };
    assert_eq!(String::from_utf8_lossy(&taken[0].body), String::from_utf8_lossy(&body));
    assert_eq!(event(&taken[0]).to_json(), sent.to_json());
    assert_eq!(taken[0].channel, Channel::Orders);
    assert!(!taken[0].redelivered);
    for (name, value) in [
        ("content-type", content_type),
        ("message-id", "e1"),
        ("type", "order.created.v1"),
        ("correlation-id", "s1"),
        ("routing-key", "order.created.v1"),
        ("traceparent", sent.traceparent.as_deref().unwrap()),
    ] {
        assert_eq!(taken[0].headers.get(name).map(String::as_str), Some(value), "{name}");
    }
    for (channel, id) in [(Channel::Replies, "r1"), (Channel::Commands("loan".into()), "c1")] {
        let mut consumer = broker.consume(&channel, 10).await.unwrap();
        assert_eq!(ids(&take(&mut consumer, 1).await), [id]);
    }
    broker.close().await;
}

pub async fn what_is_unacknowledged_comes_again(world: World) {
    let broker = world.broker().await;
    publish(&broker, &[order(1), order(2), order(3)]).await;
    let mut consumer = broker.consume(&Channel::Orders, 10).await.unwrap();
    let taken = take(&mut consumer, 3).await;
    assert!(taken.iter().all(|incoming| !incoming.redelivered));
    drop((consumer, taken));

    let mut consumer = broker.consume(&Channel::Orders, 10).await.unwrap();
    let taken = take(&mut consumer, 3).await;
    assert_eq!(ids(&taken).into_iter().collect::<BTreeSet<_>>().len(), 3);
    assert!(taken.iter().all(|incoming| incoming.redelivered));
}

pub async fn what_is_acknowledged_does_not_come_again(world: World) {
    let broker = world.broker().await;
    publish(&broker, &[order(1), order(2), order(3)]).await;
    let mut consumer = broker.consume(&Channel::Orders, 10).await.unwrap();
    done(take(&mut consumer, 3).await);
    drop(consumer);
    let broker = world.fresh(broker).await;
    assert_eq!(ids(&left(&broker, Channel::Orders).await), [""; 0]);
}

pub async fn a_ticket_dropped_unused_brings_its_message_again(world: World) {
    let broker = world.broker().await;
    publish(&broker, &[order(1)]).await;
    let mut consumer = broker.consume(&Channel::Orders, 10).await.unwrap();
    drop(take(&mut consumer, 1).await);
    // Some brokers bring it to the same consumer, some end the subscription.
    let taken = match consumer.receive(10).await {
        Ok(taken) => taken,
        Err(_) => {
            consumer = broker.consume(&Channel::Orders, 10).await.unwrap();
            take(&mut consumer, 1).await
        }
    };
    assert_eq!(ids(&taken), ["1"]);
    assert!(taken[0].redelivered);
}

pub async fn an_acknowledgement_never_passes_a_gap(world: World) {
    let broker = world.broker().await;
    publish(&broker, &(0..100).map(order).collect::<Vec<_>>()).await;
    let mut consumer = broker.consume(&Channel::Orders, 100).await.unwrap();
    let mut taken = take(&mut consumer, 100).await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    fastrand::Rng::with_seed(seed).shuffle(&mut taken);
    let (kept, finished): (Vec<_>, Vec<_>) =
        taken.into_iter().partition(|incoming| ["17", "60"].contains(&id(incoming).as_str()));
    done(finished);
    drop((kept, consumer));
    let broker = world.fresh(broker).await;
    let mut left = ids(&left(&broker, Channel::Orders).await);
    left.sort();
    assert_eq!(left, ["17", "60"]);
}

pub async fn a_batch_is_answered_in_order(world: World) {
    let broker = world.broker().await;
    let is_good = |number: &usize| !number.is_multiple_of(7);
    let batch: Vec<_> = (0..1_000)
        .map(|number| match is_good(&number) {
            true => order(number),
            false => outgoing(Channel::Commands("nobody".into()), number, "nobody.do.v1"),
        })
        .collect();
    let answers = broker.publish(&batch).await;
    let expected: Vec<_> = (0..1_000)
        .map(|number| if is_good(&number) { Ok(()) } else { Err(PublishError::Unroutable) })
        .collect();
    assert_eq!(answers, expected);
    let mut consumer = broker.consume(&Channel::Orders, 1_000).await.unwrap();
    let good: Vec<usize> = (0..1_000).filter(is_good).collect();
    let taken = take(&mut consumer, good.len()).await;
    let found: BTreeSet<String> = ids(&taken).into_iter().collect();
    assert_eq!(found, good.iter().map(usize::to_string).collect());
    done(taken);
}

pub async fn an_unroutable_message_is_reported_and_the_rest_arrives(world: World) {
    let broker = world.broker().await;
    let nobody = outgoing(Channel::Commands("nobody".into()), 2, "loan.activate.v1");
    let answers = broker.publish(&[order(1), nobody.clone(), order(3)]).await;
    assert_eq!(answers, [Ok(()), Err(PublishError::Unroutable), Ok(())]);
    assert_eq!(broker.publish(&[nobody]).await, [Err(PublishError::Unroutable)]);
    // The next batch knows nothing of it.
    publish(&broker, &[order(4)]).await;
    let mut left = ids(&left(&broker, Channel::Orders).await);
    left.sort();
    assert_eq!(left, ["1", "3", "4"]);
}

pub async fn events_need_no_subscriber_and_reach_each_one(world: World) {
    let broker = world.broker().await;
    let completed = |id: &str| outgoing(Channel::Events, id, "order.completed.v1");
    let answers = broker.publish(&[order(1), completed("unheard"), order(2)]).await;
    assert_eq!(answers, [Ok(()), Err(PublishError::Unheard), Ok(())]);
    let mut first = broker.consume(&Channel::Events, 10).await.unwrap();
    let mut second = broker.consume(&Channel::Events, 10).await.unwrap();
    publish(&broker, &[completed("heard")]).await;
    assert_eq!(ids(&take(&mut first, 1).await), ["heard"]);
    assert_eq!(ids(&take(&mut second, 1).await), ["heard"]);
}

pub async fn an_answer_aside_reaches_whoever_asked_and_no_worker(world: World) {
    let broker = world.broker().await;
    let address = format!("asker-{}", uuid::Uuid::new_v4());
    let aside = |id: &str| outgoing(Channel::ReplyTo(address.clone()), id, "loan.replied.v1");
    assert_eq!(broker.publish(&[aside("nobody")]).await, [Err(PublishError::Unheard)]);

    let mut asker = broker.consume(&Channel::ReplyTo(address.clone()), 10).await.unwrap();
    let mut command = outgoing(Channel::Commands("loan".into()), "c1", "loan.activate.v1");
    command.event.reply_to = Some(address.clone());
    let astray = outgoing(Channel::Replies, "astray", "loan.replied.v1");
    publish(&broker, &[command, aside("heard")]).await;
    publish(&broker, &[astray]).await;
    let mut participant = broker.consume(&Channel::Commands("loan".into()), 10).await.unwrap();
    let taken = take(&mut participant, 1).await;
    assert_eq!(event(&taken[0]).reply_to, Some(address.clone()));
    assert!(!String::from_utf8_lossy(&taken[0].body).contains(&address), "it is no attribute");

    let taken = take(&mut asker, 2).await;
    assert_eq!(ids(&taken), ["heard", "astray"]);
    let keys: Vec<bool> = taken.iter().map(|i| i.headers["routing-key"] == address).collect();
    assert_eq!(keys, [true, false], "a copy of what everybody gets is told apart");
    done(taken);
    assert_eq!(ids(&left(&broker, Channel::Replies).await), ["astray"]);
    broker.close().await;
}

pub async fn competing_consumers_share(world: World) {
    const MESSAGES: usize = 3_000;
    const CONSUMERS: usize = 3;
    let broker = world.broker().await;
    let (found, mut all_found) = tokio::sync::mpsc::unbounded_channel();
    // Nobody goes on before each of them has got something.
    let all_served = Arc::new(tokio::sync::Barrier::new(CONSUMERS));
    let consumers: Vec<_> = (0..CONSUMERS)
        .map(|_| {
            let (broker, found, all_served) = (broker.clone(), found.clone(), all_served.clone());
            tokio::spawn(async move {
                let mut consumer = broker.consume(&Channel::Orders, 50).await.unwrap();
                let mut taken = consumer.receive(40).await.unwrap();
                all_served.wait().await;
                loop {
                    for incoming in taken {
                        found.send(id(&incoming)).unwrap();
                        incoming.ticket.done();
                    }
                    taken = consumer.receive(40).await.unwrap();
                }
            })
        })
        .collect();
    let batches: Vec<Vec<Outgoing>> = (0..MESSAGES / 300)
        .map(|batch| (0..300).map(|number| order(batch * 300 + number)).collect())
        .collect();
    let publishers = batches.iter().map(|batch| publish(&broker, batch));
    futures_util::future::join_all(publishers).await;
    let mut seen = BTreeSet::new();
    while seen.len() < MESSAGES {
        let id = all_found.recv().await.unwrap();
        assert!(seen.insert(id.clone()), "{id} came twice");
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
    let held = take(&mut narrow, 3).await;
    // All the others are there for somebody else.
    let mut wide = broker.consume(&Channel::Orders, 100).await.unwrap();
    let others = take(&mut wide, 7).await;
    let all: BTreeSet<String> = ids(&held).into_iter().chain(ids(&others)).collect();
    assert_eq!(all.len(), 10);
    done(others);
    // Once they are acknowledged, there is room for more.
    drop(wide);
    done(held);
    publish(&broker, &(10..16).map(order).collect::<Vec<_>>()).await;
    for _ in 0..2 {
        done(take(&mut narrow, 3).await);
    }
}

pub async fn what_is_delivered_too_often_is_dead(world: World) {
    let broker = world.broker().await;
    publish(&broker, &[order(1)]).await;
    for delivery in 0..=DELIVERY_LIMIT {
        let mut consumer = broker.consume(&Channel::Orders, 1).await.unwrap();
        let taken = take(&mut consumer, 1).await;
        assert_eq!(taken[0].redelivered, delivery > 0);
    }
    // Kafka itself counts nothing: the next one who takes the partition over does.
    let next = broker.consume(&Channel::Orders, 1).await.unwrap();
    let mut dead = broker.consume(&Channel::Dead, 10).await.unwrap();
    let taken = take(&mut dead, 1).await;
    assert_eq!(event(&taken[0]).data(), order(1).event.data());
    assert_eq!(ids(&taken), ["1"]);
    assert_eq!(taken[0].channel, Channel::Dead);
    done(taken);
    drop(next);
    assert_eq!(ids(&left(&broker, Channel::Orders).await), [""; 0]);
}

pub async fn declaring_again_changes_nothing(world: World) {
    let broker = world.broker().await;
    publish(&broker, &[order(1)]).await;
    let (again, other) = (world.undeclared(), topology());
    let (first, second) = tokio::join!(broker.declare(&other), again.declare(&other));
    first.and(second).expect("both declare");
    assert_eq!(ids(&left(&broker, Channel::Orders).await), ["1"]);
}

pub async fn an_oversized_message_is_delivered_and_refused(world: World) {
    let broker = world.broker().await;
    let data = serde_json::json!({ "order_id": "big", "note": "x".repeat(1_000_000) });
    let event = Event::new("big", "/test", "order.created.v1", &data);
    publish(&broker, &[Outgoing { channel: Channel::Orders, event }, order(2)]).await;
    let mut consumer = broker.consume(&Channel::Orders, 10).await.unwrap();
    let taken = take(&mut consumer, 2).await;
    let decoded = |is_large: bool| {
        let is_it = |incoming: &&Incoming| (incoming.body.len() > 1_000_000) == is_large;
        let Incoming { body, headers, .. } = taken.iter().find(is_it).expect("it is there");
        envelope::decode(body, headers, DEFAULT_MAX_MESSAGE_BYTES)
    };
    assert_eq!(decoded(true).unwrap_err().reason, "oversized");
    assert_eq!(decoded(false).unwrap().id, "2");
}

pub async fn the_status_tells_whether_it_is_connected(world: World) {
    let broker: Arc<dyn Broker> = world.broker().await;
    publish(&broker, &[order(1)]).await;
    let status = broker.status();
    assert_eq!((status.publishing, status.consuming), (Link::Connected, Link::Connected));
    broker.close().await;
    let status = broker.status();
    assert_eq!((status.publishing, status.consuming), (Link::Disconnected, Link::Disconnected));
    assert!(matches!(broker.publish(&[order(1)]).await[0], Err(PublishError::Unknown(_))));
    assert!(broker.consume(&Channel::Orders, 1).await.is_err());
}
