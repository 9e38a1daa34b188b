"""Another company's program on Kafka, with Confluent's client (https://pypi.org/project/confluent-kafka)
and its serializer for JSON Schema. It knows nothing else of Makegood.

    client.py write  BROKER REGISTRY ORDER.json   tells of an order, as the registry's latest schema says
    client.py refuse BROKER REGISTRY ORDER.json   the same, of one that is none; prints why
    client.py read   BROKER REGISTRY ''           prints each message of all topics as a line of JSON
"""

import json
import sys

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient, record_subject_name_strategy
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.serialization import MessageField, SerializationContext, SerializationError

# For one message.
LOOK_SECONDS = 10
ORDERS = "makegood.order-created.v1"

verb, broker, registry_url, order = sys.argv[1:]
hosts, prefix = broker.removeprefix("kafka://").split("?")[0].split("/")
registry = SchemaRegistryClient({"url": registry_url})


def framed(topic):
    schema = registry.get_latest_version(ORDERS).schema
    strategy = {"auto.register.schemas": False, "use.latest.version": True, "subject.name.strategy": record_subject_name_strategy}
    serializer = JSONSerializer(schema, registry, conf=strategy)
    return serializer(json.loads(order), SerializationContext(topic, MessageField.VALUE))


def write():
    topic = f"{prefix}.makegood.orders.v1"
    order_id = json.loads(order)["order_id"]
    attributes = {"specversion": "1.0", "id": f"event-of-{order_id}", "source": "/shops/python", "type": "order.created.v1"}
    headers = [(f"ce_{name}", value.encode()) for name, value in attributes.items()]
    producer = Producer({"bootstrap.servers": hosts})
    producer.produce(topic, key=order_id, value=framed(topic), headers=headers)
    assert producer.flush(LOOK_SECONDS) == 0, "it is not in Kafka"


def refuse():
    try:
        framed("any")
    except SerializationError as why:
        print(why)
    else:
        sys.exit("it was taken")


def read():
    consumer = Consumer({"bootstrap.servers": hosts, "group.id": f"{prefix}-python", "enable.auto.commit": False})
    places, expected = [], 0
    for topic in consumer.list_topics(timeout=LOOK_SECONDS).topics.values():
        for partition in topic.partitions if topic.topic.startswith(f"{prefix}.") else []:
            place = TopicPartition(topic.topic, partition, 0)
            low, high = consumer.get_watermark_offsets(place, timeout=LOOK_SECONDS)
            places.append(place)
            expected += high - low
    consumer.assign(places)
    # No schema of its own: each message's is asked for by the id that is in its frame.
    deserializer = JSONDeserializer(None, schema_registry_client=registry, conf={"subject.name.strategy": record_subject_name_strategy})
    for _ in range(expected):
        message = consumer.poll(LOOK_SECONDS)
        assert message is not None and message.error() is None, message and message.error()
        data = deserializer(message.value(), SerializationContext(message.topic(), MessageField.VALUE))
        kind = dict(message.headers())["ce_type"].decode()
        print(json.dumps({"topic": message.topic(), "type": kind, "data": data}))
    consumer.close()


{"write": write, "refuse": refuse, "read": read}[verb]()
