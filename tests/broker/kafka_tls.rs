//! Kafka with TLS, which only a build with the feature `kafka-tls` speaks:
//!
//! ```text
//! export MAKEGOOD_TEST_DATA=/tmp/makegood
//! eval "$(tests/services/kafka.sh start tls tls | sed 's/^/export /')"
//! cargo test --features kafka-tls --test broker tls
//! tests/services/kafka.sh stop tls
//! ```

use std::env;

use makegood::broker::{Broker, Channel};

use crate::world::*;

pub async fn tls_is_spoken_with_whom_it_can_trust(world: World) {
    let (hosts, ca) =
        match (env::var("MAKEGOOD_TEST_KAFKA_TLS"), env::var("MAKEGOOD_TEST_KAFKA_CA")) {
            (Ok(hosts), Ok(ca)) => (hosts, ca),
            _ => {
                let reason =
                    "MAKEGOOD_TEST_KAFKA_TLS and _CA hold no HOST:PORT and its certificate";
                eprintln!("skipped: {reason}");
                world.skipped.set(reason.to_owned()).expect("set once");
                return;
            }
        };
    let trusted = format!("?partitions=1&ssl.ca.location={ca}");
    let right = world.at(&format!("kafkas://tests:right@{hosts}/{trusted}"));
    right.declare(&topology()).await.expect("it is trusted, and lets us in");
    publish(&right, &[order(1)]).await;
    let mut consumer = right.consume(&Channel::Orders, 10).await.unwrap();
    assert_eq!(ids(&take(&mut consumer, 1).await), ["1"]);

    let refused = async |broker: &dyn Broker| {
        let said = format!("{:?}", broker.declare(&topology()).await.unwrap_err());
        assert!(!said.contains("s3cret"), "{said}");
        said
    };
    let said = refused(&*world.at(&format!("kafkas://tests:s3cret@{hosts}/{trusted}"))).await;
    assert!(said.contains("Invalid username or password"), "{said}");
    // The client may say why after it has failed; whoever tries again hears of it.
    let stranger = world.at(&format!("kafkas://tests:s3cret@{hosts}/"));
    while !refused(&*stranger).await.contains("certificate") {}
}
