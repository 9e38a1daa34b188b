//! Making topics, and checking those that exist.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;

use super::client::{ASK_TIMEOUT, Health, Listener};
use super::topics::TopicLayout;
use crate::broker::BrokerError;
use crate::clock::wait;

pub const DURING: &str = "declaring";
/// How often a topic is asked what it is like, and the pause between: some seconds in all.
const LOOKS: u32 = 25;
const LOOK_AGAIN: Duration = Duration::from_millis(200);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub struct Declarer {
    /// There until the declarer goes.
    admin: Option<Arc<AdminClient<Listener>>>,
    health: Health,
    /// Topics that were as they must be. It is asked often, and the controller has other work.
    checked: Mutex<BTreeSet<String>>,
}

impl Declarer {
    pub fn new(mut config: ClientConfig, health: Health) -> Result<Declarer, BrokerError> {
        config.set("reconnect.backoff.max.ms", "1000");
        use rdkafka::config::FromClientConfigAndContext;
        let admin = AdminClient::from_config_and_context(&config, Listener(health.clone()))
            .map_err(|error| health.unavailable(DURING, error))?;
        Ok(Declarer { admin: Some(Arc::new(admin)), health, checked: Mutex::default() })
    }

    /// Makes the topics that are missing by this metadata and looks at the others. Returns those
    /// that were missing.
    pub async fn declare(
        &self,
        topics: &[TopicLayout],
        metadata: Metadata,
    ) -> Result<Vec<String>, BrokerError> {
        let is_there = |topic: &&TopicLayout| {
            let mut found = metadata.topics().iter();
            found.any(|found| found.name() == topic.name && !found.partitions().is_empty())
        };
        let (existing, missing): (Vec<&TopicLayout>, Vec<_>) = topics.iter().partition(is_there);
        self.health.works();
        let mut unchecked = existing;
        unchecked.retain(|topic| !self.checked().contains(&topic.name));
        unchecked.extend(self.create(&missing).await?);
        self.check(&unchecked).await?;
        self.checked().extend(topics.iter().map(|topic| topic.name.clone()));
        Ok(missing.iter().map(|topic| topic.name.clone()).collect())
    }

    fn admin(&self) -> Arc<AdminClient<Listener>> {
        self.admin.clone().expect("it is there until the declarer goes")
    }

    fn checked(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes these; returns those that somebody else was faster with.
    async fn create<'a>(
        &self,
        topics: &[&'a TopicLayout],
    ) -> Result<Vec<&'a TopicLayout>, BrokerError> {
        let failed = |error| self.health.unavailable(DURING, error);
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let retention: Vec<String> = topics.iter().map(|topic| retention(topic)).collect();
        let bytes: Vec<String> =
            topics.iter().map(|topic| topic.max_message_bytes.to_string()).collect();
        let new = topics.iter().zip(retention.iter().zip(&bytes));
        let new: Vec<NewTopic<'_>> = new
            .map(|(topic, (retention, bytes))| {
                let copies = topic.replication.map_or(-1, i32::from);
                NewTopic::new(&topic.name, topic.partitions.into(), TopicReplication::Fixed(copies))
                    .set("cleanup.policy", "delete")
                    .set("retention.ms", retention)
                    .set("retention.bytes", "-1")
                    .set("max.message.bytes", bytes)
            })
            .collect();
        let made = self.admin().create_topics(&new, &options()).await.map_err(failed)?;
        let mut existing = Vec::new();
        for (topic, made) in topics.iter().copied().zip(made) {
            match made {
                Ok(_) => {}
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => existing.push(topic),
                // Too few brokers for the copies is one of these: some may be on their way.
                Err((_, code)) => return Err(failed(code.into_error())),
            }
        }
        Ok(existing)
    }

    /// A topic that was made a moment ago may not be known yet to the one who is asked.
    async fn check(&self, topics: &[&TopicLayout]) -> Result<(), BrokerError> {
        let mut unchecked = topics.to_vec();
        for _ in 0..LOOKS {
            if unchecked.is_empty() {
                return Ok(());
            }
            unchecked = self.look_at(&unchecked).await?;
            if !unchecked.is_empty() {
                wait(LOOK_AGAIN).await;
            }
        }
        match unchecked.first() {
            None => Ok(()),
            Some(topic) => {
                let why = format!("the topic '{}' does not say how long it keeps", topic.name);
                Err(self.health.unavailable(DURING, why))
            }
        }
    }

    /// Returns the topics that do not say yet what they are like.
    async fn look_at<'a>(
        &self,
        topics: &[&'a TopicLayout],
    ) -> Result<Vec<&'a TopicLayout>, BrokerError> {
        let failed = |error| self.health.unavailable(DURING, error);
        let resources: Vec<_> =
            topics.iter().map(|topic| ResourceSpecifier::Topic(&topic.name)).collect();
        let described = self.admin().describe_configs(&resources, &options()).await;
        let described = described.map_err(failed)?;
        let mut unknown = Vec::new();
        for topic in topics {
            let found = described.iter().flatten().find(|resource| {
                matches!(&resource.specifier, OwnedResourceSpecifier::Topic(name) if *name == topic.name)
            });
            let value = |name: &str| found?.get(name)?.value.clone();
            if value("retention.ms").is_none() {
                unknown.push(*topic);
            } else if let Some(detail) = difference(topic, value) {
                return Err(mismatch(topic, detail));
            }
        }
        Ok(unknown)
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ASK_TIMEOUT)).operation_timeout(Some(ASK_TIMEOUT))
}

fn retention(topic: &TopicLayout) -> String {
    topic.retention_days.map_or("-1".to_owned(), |days| (DAY * days).as_millis().to_string())
}

fn mismatch(topic: &TopicLayout, detail: String) -> BrokerError {
    BrokerError::Mismatch { what: format!("the topic '{}'", topic.name), detail }
}

/// What would lose messages in a topic that somebody else has made. More partitions, copies or
/// room are nobody's trouble.
fn difference(topic: &TopicLayout, value: impl Fn(&str) -> Option<String>) -> Option<String> {
    let policy = value("cleanup.policy").unwrap_or_else(|| "delete".to_owned());
    if policy != "delete" {
        // A message with the key of a later one would be removed, whatever it says.
        return Some(format!("cleanup.policy is '{policy}', and must be 'delete'"));
    }
    let number = |name| value(name).and_then(|text| text.parse::<i64>().ok());
    let needed = retention(topic);
    let (has, needs) = (number("retention.ms")?, needed.parse::<i64>().unwrap_or(-1));
    if has >= 0 && (needs < 0 || has < needs) {
        let needed =
            if needs < 0 { "-1 (for ever)".to_owned() } else { format!("{needed} or more") };
        return Some(format!("retention.ms is {has}, and must be {needed}"));
    }
    match number("retention.bytes") {
        Some(bytes) if bytes >= 0 => Some(format!(
            "retention.bytes is {bytes}, and must be -1: what is not read yet would go"
        )),
        _ => None,
    }
}

/// Whether a client that has this metadata can use all of these topics.
pub fn knows(metadata: &Metadata, topics: &[String]) -> bool {
    let usable = |name: &String| {
        metadata.topics().iter().any(|topic| {
            topic.name() == name
                && topic.error().is_none()
                && !topic.partitions().is_empty()
                && topic.partitions().iter().all(|partition| partition.leader() >= 0)
        })
    };
    topics.iter().all(usable)
}

impl Drop for Declarer {
    /// Its client takes a while to say goodbye, and does that on a thread of its own.
    fn drop(&mut self) {
        let admin = self.admin.take();
        std::thread::spawn(move || drop(admin));
    }
}

trait IntoError {
    fn into_error(self) -> rdkafka::error::KafkaError;
}

impl IntoError for RDKafkaErrorCode {
    fn into_error(self) -> rdkafka::error::KafkaError {
        rdkafka::error::KafkaError::AdminOp(self)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn difference_of(retention_days: Option<u32>, config: &[(&str, &str)]) -> Option<String> {
        let topic = TopicLayout {
            name: "t".to_owned(),
            partitions: 1,
            replication: None,
            retention_days,
            max_message_bytes: 1,
        };
        let config: HashMap<&str, &str> = config.iter().copied().collect();
        difference(&topic, |name| config.get(name).map(|text| (*text).to_owned()))
    }

    #[test]
    fn what_would_lose_messages_is_a_difference() {
        let two_weeks = "1209600000";
        assert_eq!(difference_of(Some(14), &[("retention.ms", two_weeks)]), None);
        assert_eq!(difference_of(Some(14), &[("retention.ms", "-1")]), None);
        assert_eq!(difference_of(None, &[("retention.ms", "-1"), ("retention.bytes", "-1")]), None);
        for (days, config, expected) in [
            (Some(14), vec![("retention.ms", "604800000")], "must be 1209600000 or more"),
            (None, vec![("retention.ms", two_weeks)], "must be -1 (for ever)"),
            (Some(14), vec![("cleanup.policy", "compact")], "must be 'delete'"),
            (Some(14), vec![("retention.ms", "-1"), ("retention.bytes", "9")], "retention.bytes"),
        ] {
            let found = difference_of(days, &config).expect(expected);
            assert!(found.contains(expected), "{found}");
        }
    }
}
