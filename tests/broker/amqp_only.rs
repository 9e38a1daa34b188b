//! What can only go wrong with a broker outside the process.

use std::env;
use std::process::Command;
use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use makegood::broker::{BrokerError, Channel, Link, PublishError};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::world::*;

pub async fn other_properties_are_a_mismatch(world: World) {
    let queue = world.names.queue(&Channel::Facts).unwrap();
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    let admin = admin(world.url()).await;
    let declared = admin.queue_declare(queue.as_str().into(), durable, Default::default());
    declared.await.expect("a classic queue");
    let broker = world.undeclared();
    for _ in 0..2 {
        match broker.declare(&topology()).await {
            Err(BrokerError::Mismatch { what, detail }) => {
                assert!(what.contains(&queue), "{what}");
                assert!(detail.contains("inequivalent arg"), "{detail}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(broker.status().consuming, Link::Connected, "only its channel was closed");
    // The others are there, those that are declared after it included.
    let command = outgoing(Channel::Commands("loan".into()), 1, "loan.activate.v1");
    publish(&broker, &[order(1), command]).await;
    assert_eq!(ids(&left(&broker, Channel::Orders).await), ["1"]);
}

pub async fn a_deleted_queue_ends_its_consumer_and_can_be_declared_again(world: World) {
    let broker = world.broker().await;
    let mut consumer = broker.consume(&Channel::Orders, 10).await.unwrap();
    let queue = world.names.queue(&Channel::Orders).unwrap();
    let admin = admin(world.url()).await;
    let deleted = admin.queue_delete(queue.as_str().into(), Default::default());
    let (deleted, received) = tokio::join!(deleted, consumer.receive(10));
    deleted.expect("deleted");
    assert!(matches!(received, Err(BrokerError::Unavailable { .. })), "{received:?}");
    assert!(consumer.receive(10).await.is_err(), "and it stays so");
    assert_eq!(broker.publish(&[order(1)]).await, [Err(PublishError::Unroutable)]);
    assert!(broker.consume(&Channel::Orders, 10).await.is_err(), "nothing to consume");
    broker.declare(&topology()).await.expect("declared again");
    publish(&broker, &[order(2)]).await;
    let mut consumer = broker.consume(&Channel::Orders, 10).await.unwrap();
    assert_eq!(ids(&take(&mut consumer, 1).await), ["2"]);
}

pub async fn a_closed_broker_has_acknowledged_everything(world: World) {
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
    assert_eq!(ids(&left(&fresh, Channel::Orders).await), ["250"]);
}

pub async fn a_missing_exchange_is_unroutable(world: World) {
    let broker = world.undeclared();
    assert_eq!(broker.publish(&[order(1)]).await, [Err(PublishError::Unroutable)]);
    // It is not that nobody listens.
    let event = outgoing(Channel::Events, 1, "order.completed.v1");
    assert_eq!(broker.publish(&[event]).await, [Err(PublishError::Unroutable)]);
    broker.declare(&topology()).await.expect("declared");
    publish(&broker, &[order(2)]).await;
}

pub async fn what_was_confirmed_survives_a_restart(world: World) {
    let Ok(restart) = env::var("MAKEGOOD_TEST_AMQP_RESTART") else {
        let reason = "MAKEGOOD_TEST_AMQP_RESTART holds no command that restarts RabbitMQ";
        eprintln!("skipped: {reason}");
        world.skipped.set(reason.to_owned()).expect("set once");
        return;
    };
    let broker = world.broker().await;
    let mut consumer = broker.consume(&Channel::Orders, 10).await.unwrap();
    publish(&broker, &[order("before")]).await;
    let mut restarting = Command::new("sh").arg("-c").arg(&restart).spawn().expect("a shell");
    // Publishing goes on all the time, until it has failed and works again.
    let (mut confirmed, mut failed, mut number) = (vec!["before".to_owned()], 0, 0);
    while failed == 0 || confirmed.last() != Some(&number.to_string()) {
        number += 1;
        match &broker.publish(&[order(number)]).await[0] {
            Ok(()) => confirmed.push(number.to_string()),
            Err(PublishError::Unknown(why)) => {
                assert!(!why.is_empty());
                failed += 1;
                tokio::time::sleep(Duration::from_millis(20)).await; // the pace of asking
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(restarting.wait().expect("it ends").success(), "{restart}");
    while consumer.receive(1).await.is_ok() {}
    broker.declare(&topology()).await.expect("declared again");
    let found = ids(&left(&broker, Channel::Orders).await);
    for id in confirmed {
        assert!(found.contains(&id), "{id} was confirmed and is lost");
    }
}

pub async fn a_wrong_password_is_refused_without_being_printed(world: World) {
    let (scheme, rest) = world.url().split_once("://").expect("a URL");
    let (_, host) = rest.split_once('@').expect("a URL with a user");
    let broker = world.at(&format!("{scheme}://guest:s3cret@{host}"));
    let error = broker.declare(&topology()).await.unwrap_err();
    let answers = broker.publish(&[order(1)]).await;
    let said = format!("{error} {error:?} {answers:?}");
    assert!(said.contains("ACCESS_REFUSED"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
}

pub async fn a_broker_that_says_nothing_is_given_up(world: World) {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let broker = world.at(&format!("amqp://u:p@{}/%2f", silent.local_addr().unwrap()));
    let hung_up = tokio::spawn(async move {
        let (mut socket, _) = silent.accept().await.expect("a connection");
        socket.read_to_end(&mut Vec::new()).await.expect("the end")
    });
    let topology = topology();
    let declared = tokio::time::timeout(Duration::from_secs(20), broker.declare(&topology));
    assert!(declared.await.expect("in time").is_err());
    // Nothing of the attempt is left behind.
    hung_up.await.expect("the socket was closed");
}

pub async fn a_broker_that_is_not_there_is_unavailable(world: World) {
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let broker = world.at(&format!("amqp://u:p@{}/%2f", gone.local_addr().unwrap()));
    drop(gone);
    assert!(matches!(
        broker.consume(&Channel::Orders, 1).await.err(),
        Some(BrokerError::Unavailable { .. })
    ));
    assert!(matches!(broker.publish(&[order(1)]).await[0], Err(PublishError::Unknown(_))));
    assert_eq!(broker.status().publishing, Link::Disconnected);
}
