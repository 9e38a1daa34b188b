//! Three Kafka brokers, of which two are enough.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::MetadataPartition;

use crate::instance::{Instance, shared};
use crate::lag::deployment;
use crate::orders::mixed;
use crate::process::until;
use crate::stage::{COMMAND, Stage};

const ORDERS: usize = 300;
/// When parcels arrive, by this machine's clock: after the last broker is back.
const DELIVERED_AFTER: i64 = 70;
/// Transitions to which a ninth of the orders leads at once, and more.
const SOME: i64 = 80;
/// The numbers of the brokers, which are also their members' names.
const MEMBERS: [i32; 3] = [1, 2, 3];
/// For one question.
const LOOK: Duration = Duration::from_secs(5);

/// Each of them leads some partitions, coordinates some groups, and one of them is the controller:
/// by the end all of that was killed once.
pub async fn each_of_three_brokers_is_killed_in_turn() {
    let cluster = Instance::cluster("kafka", "e2e-three").await;
    let mut stage = Stage::new("three", shared("postgres"), &cluster).await;
    stage.cast(mixed("three", ORDERS, DELIVERED_AFTER));
    let _participants = stage.participants();
    let mut worker = stage.ready_worker("worker").await;
    let mut portions = 0..3 * MEMBERS.len();
    let mut submit = async || {
        let number = portions.next().expect("three for each member");
        stage.submit_portion(number, 3 * MEMBERS.len()).await;
    };
    for member in MEMBERS {
        let leads = async || {
            partitions(&stage.broker).await.iter().any(|partition| partition.leader == member)
        };
        assert!(leads().await, "it has something to lose");
        let seen = stage.transitions(0).await;
        submit().await;
        stage.transitions(seen + SOME).await;
        cluster.tell_member(member, "kill").await;
        tokio::join!(submit(), until("others that lead", COMMAND, async || !leads().await));
        // Two brokers take all of it in.
        let seen = stage.transitions(0).await;
        submit().await;
        stage.transitions(seen + SOME).await;
        cluster.tell_member(member, "start").await;
        until("three copies of everything", COMMAND, async || {
            let all = partitions(&stage.broker).await;
            all.iter().all(|partition| partition.in_sync == MEMBERS.len())
        })
        .await;
    }
    let orders = i64::try_from(ORDERS).expect("few");
    assert!(stage.settled().await < orders, "the kills came too late to matter");
    stage.ends_well(0).await;
    assert!(worker.process.has_ended().is_none(), "it went on");
    let log = worker.process.log();
    assert!(!log.contains("not working; trying again"), "two are enough: {log}");
}

struct Partition {
    leader: i32,
    /// Copies that have all of it.
    in_sync: usize,
}

/// All partitions of a deployment, asked of whoever answers.
async fn partitions(url: &str) -> Vec<Partition> {
    let (mut config, names) = deployment(url).expect("the URL of a stage");
    config.set("group.id", "looks");
    let look = move || {
        let client: BaseConsumer = config.create().expect("a client");
        let metadata = client.fetch_metadata(None, LOOK).expect("an answer");
        let ours = metadata.topics().iter().filter(|topic| topic.name().starts_with(&names.prefix));
        let partition = |partition: &MetadataPartition| Partition {
            leader: partition.leader(),
            in_sync: partition.isr().len(),
        };
        let partitions: Vec<_> = ours.flat_map(|topic| topic.partitions()).map(partition).collect();
        assert!(!partitions.is_empty(), "{} has topics", names.prefix);
        partitions
    };
    tokio::task::spawn_blocking(look).await.expect("it ran")
}
