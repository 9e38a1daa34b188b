//! The groups of a deployment, and what they have not dealt with yet, asked of Kafka itself.

use std::time::Duration;

use makegood::broker::Channel;
use makegood::broker::kafka::topics::Names;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset};

/// For one question.
const LOOK: Duration = Duration::from_secs(5);

/// Messages behind the committed offsets of all channels, added up; `None` when Kafka cannot be
/// asked.
pub async fn lag(url: &str) -> Option<u32> {
    let url = url.to_owned();
    tokio::task::spawn_blocking(move || sum(&url)).await.expect("it ran")
}

fn sum(url: &str) -> Option<u32> {
    let (config, names) = deployment(url)?;
    let commands = ["inventory", "wms", "tms", "loan", "notifications"];
    let commands = commands.map(|name| Channel::Commands(name.into()));
    let channels = [Channel::Orders, Channel::Facts, Channel::Replies].into_iter().chain(commands);
    let mut sum = 0;
    for channel in channels {
        let topic = names.topic(&channel)?;
        let group = names.group(&channel);
        sum += behind(&config, &group, &topic)?;
        sum += behind(&config, &names.group(&Channel::Dead), &names.dead(&topic))?;
    }
    u32::try_from(sum).ok()
}

/// Who shares the orders of a deployment; `None` when Kafka cannot be asked.
pub async fn members(url: &str) -> Option<usize> {
    let (config, names) = deployment(url)?;
    let look = move || {
        let client: BaseConsumer = config.create().ok()?;
        let groups = client.fetch_group_list(Some(&names.group(&Channel::Orders)), LOOK).ok()?;
        Some(groups.groups().first()?.members().len())
    };
    tokio::task::spawn_blocking(look).await.expect("it ran")
}

/// How to reach the cluster in the URL of a stage, and the names of all that is the stage's there.
pub fn deployment(url: &str) -> Option<(ClientConfig, Names)> {
    let (hosts, path) = url.split_once("://")?.1.split_once('/')?;
    let (prefix, _) = path.split_once('?')?;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", hosts);
    Some((config, Names { prefix: format!("{prefix}.") }))
}

fn behind(config: &ClientConfig, group: &str, topic: &str) -> Option<i64> {
    let client: BaseConsumer = config.clone().set("group.id", group).create().ok()?;
    let metadata = client.fetch_metadata(Some(topic), LOOK).ok()?;
    let partitions = metadata.topics().first()?.partitions().len();
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_range(topic, 0, i32::try_from(partitions).ok()? - 1);
    let committed = client.committed_offsets(list, LOOK).ok()?;
    let mut behind = 0;
    for element in committed.elements() {
        let (low, high) = client.fetch_watermarks(topic, element.partition(), LOOK).ok()?;
        let offset = match element.offset() {
            Offset::Offset(offset) => offset,
            _ => low,
        };
        behind += high - offset;
    }
    Some(behind)
}
