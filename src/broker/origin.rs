//! Where a message came from that a broker gave up, as the broker says it.

use std::collections::BTreeMap;

use super::Channel;

/// RabbitMQ: the queue that it was in.
const QUEUE: &str = "x-first-death-queue";
/// Kafka: the topic, as the consumer here writes it beside the message.
const TOPIC: &str = "dead-letter-topic";
/// What follows a participant's name, in both.
const COMMANDS: &str = ".commands";

/// The channel from which a message came to [`Channel::Dead`], by its headers. Whatever prefix a
/// deployment puts before its names, they end alike.
#[must_use]
pub fn origin(headers: &BTreeMap<String, String>) -> Option<Channel> {
    let named = headers.get(QUEUE).map(String::as_str);
    let name = named.or_else(|| headers.get(TOPIC)?.strip_suffix(".v1"))?;
    if let Some(before) = name.strip_suffix(COMMANDS) {
        let participant = before.rsplit('.').next().filter(|name| !name.is_empty())?;
        return Some(Channel::Commands(participant.to_owned()));
    }
    let ours = |channel: &Channel| name.ends_with(&format!("makegood.{channel}"));
    let channels = [Channel::Orders, Channel::Facts, Channel::Replies, Channel::Events];
    channels.into_iter().find(ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::topology::Names;

    #[test]
    fn a_name_of_rabbitmq_leads_back_to_its_channel() {
        for prefix in ["", "t1."] {
            let names = Names { prefix: prefix.to_owned() };
            let participants = ["wms", "loan-core"].map(|p| Channel::Commands(p.to_owned()));
            for channel in
                [Channel::Orders, Channel::Facts, Channel::Replies].into_iter().chain(participants)
            {
                let queue = names.queue(&channel).expect("it has one");
                let headers = BTreeMap::from([(QUEUE.to_owned(), queue)]);
                assert_eq!(origin(&headers), Some(channel));
            }
        }
    }

    #[test]
    fn a_topic_leads_back_to_its_channel() {
        let from = |topic: &str| origin(&BTreeMap::from([(TOPIC.to_owned(), topic.to_owned())]));
        assert_eq!(from("makegood.orders.v1"), Some(Channel::Orders));
        assert_eq!(from("eu.makegood.replies.v1"), Some(Channel::Replies));
        assert_eq!(from("makegood.wms.commands.v1"), Some(Channel::Commands("wms".to_owned())));
        assert_eq!(from("somebody.elses"), None);
        assert_eq!(origin(&BTreeMap::new()), None);
    }
}
