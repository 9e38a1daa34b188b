"""The outside in another language: a shop, all participants and a courier that speak CloudEvents
by the official SDK (https://pypi.org/project/cloudevents) and know nothing else of Makegood.

    sdk.py rabbitmq URL ORDERS.json
    sdk.py kafka kafka://HOST:PORT/PREFIX ORDERS.json

Submits the orders, answers the commands to which they lead, scans the parcels, and ends when each
order has its last event. Every message that came is printed as a line of JSON, as the SDK read it.
"""

import json
import sys
import time
import uuid
from datetime import datetime, timezone
from urllib.parse import urlsplit

from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

PARTICIPANTS = ["inventory", "wms", "tms", "loan"]
# An order of this is out of stock.
NOTHING = "NONE"
# For all orders to come to their end.
PATIENCE_SECONDS = 90
# A courier's first scan comes that long after the booking, and is repeated until it counts.
SCAN_EVERY_SECONDS = 1.5
# How long to wait for a message before looking at the clock again.
LOOK_SECONDS = 0.1


def rabbitmq(url):
    """The door on RabbitMQ. That on Kafka has the same four functions."""
    import pika
    from cloudevents.core.bindings import rabbitmq as binding

    channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
    channel.confirm_delivery()
    mine = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(mine, "makegood.events", "#")
    came = []
    for queue in [f"{name}.commands" for name in PARTICIPANTS] + [mine]:
        where = "events" if queue == mine else queue

        def take(_, method, properties, body, where=where):
            came.append((where, method.delivery_tag, properties, body))

        channel.basic_consume(queue, take)

    def publish(exchange, key, event, mode, headers=None, properties=None):
        message = {"structured": binding.to_structured_event, "binary": binding.to_binary_event}[mode](event)
        sent_as = pika.BasicProperties(
            content_type=message.content_type, headers={**message.headers, **(headers or {})}, delivery_mode=2, **(properties or {})
        )
        channel.basic_publish(exchange, key, message.body, sent_as, mandatory=True)

    def submit(event, mode, header):
        headers = {"traceparent": header} if header else {}
        if mode == "plain":  # a shop that knows nothing of CloudEvents
            sent_as = pika.BasicProperties(content_type="application/json", message_id=event.get_id(), headers=headers)
            body = json.dumps(event.get_data())
            channel.basic_publish("makegood.inbound", event.get_type(), body, sent_as, mandatory=True)
        else:
            publish("makegood.inbound", event.get_type(), event, mode, headers)

    def fact(event):
        publish("makegood.inbound", event.get_type(), event, "binary")

    def answer(command, event, mode):
        publish("makegood.replies", command["reply_to"], event, mode)
        channel.basic_ack(command["tag"])

    def receive():
        channel.connection.process_data_events(time_limit=LOOK_SECONDS)
        while came:
            where, tag, properties, body = came.pop(0)
            message = binding.RabbitMQMessage(properties.headers or {}, properties.content_type, body)
            event = binding.from_rabbitmq_event(message)
            if where == "events":
                channel.basic_ack(tag)
            yield {
                "from": where,
                "event": event,
                "message": {
                    "id": properties.message_id,
                    "correlation": properties.correlation_id,
                    "type": properties.type,
                    "content_type": properties.content_type,
                    "headers": properties.headers,
                },
                "reply_to": properties.reply_to,
                "tag": tag,
            }

    return submit, fact, answer, receive


def kafka(url):
    """The door on Kafka."""
    from cloudevents.core.bindings import kafka as binding
    from kafka import KafkaConsumer, KafkaProducer

    place = urlsplit(url)
    prefix = place.path.strip("/") + "."
    participants = {f"{prefix}makegood.{name}.commands.v1": f"{name}.commands" for name in PARTICIPANTS}
    events = f"{prefix}makegood.events.v1"
    consumer = KafkaConsumer(
        *participants, events, bootstrap_servers=place.netloc, group_id=f"{prefix}python", auto_offset_reset="earliest", enable_auto_commit=False
    )
    producer = KafkaProducer(bootstrap_servers=place.netloc, acks="all")

    def send(topic, key, value, headers):
        key = key.encode() if isinstance(key, str) else key
        producer.send(f"{prefix}makegood.{topic}.v1", value=value, key=key, headers=list(headers.items())).get(timeout=30)

    def publish(topic, event, mode, headers=None):
        message = {"structured": binding.to_structured_event, "binary": binding.to_binary_event}[mode](event)
        send(topic, event.get_subject(), message.value, {**message.headers, **(headers or {})})

    def submit(event, mode, header):
        headers = {"traceparent": header.encode()} if header else {}
        if mode == "plain":  # a shop that knows nothing of CloudEvents
            headers["message-id"] = event.get_id().encode()
            send("orders", event.get_subject(), json.dumps(event.get_data()).encode(), headers)
        else:
            publish("orders", event, mode, headers)

    def fact(event):
        publish("facts", event, "binary")

    def answer(_, event, mode):
        publish("replies", event, mode)

    def receive():
        polled = consumer.poll(timeout_ms=int(LOOK_SECONDS * 1000))
        for record in [record for records in polled.values() for record in records]:
            headers = dict(record.headers)
            event = binding.from_kafka_event(binding.KafkaMessage(headers, record.key, record.value))
            texts = {name: value.decode() for name, value in headers.items()}
            yield {
                "from": participants.get(record.topic, "events"),
                "event": event,
                "message": {"key": record.key.decode(), "content_type": texts.get("content-type"), "headers": texts},
            }
        if polled:  # all of it is answered
            consumer.commit()

    return submit, fact, answer, receive


def about(command, kind, source, data):
    """An event about the same order, in the same trace."""
    attributes = {
        "type": kind,
        "source": source,
        "subject": command.get_subject(),
        "time": datetime.now(timezone.utc),
        "datacontenttype": "application/json",
        "tenantid": command.get_extension("tenantid"),
        "partitionkey": command.get_subject(),
        "traceparent": command.get_extension("traceparent"),
    }
    for copied in ["sagaid", "correlationid"]:
        attributes[copied] = command.get_extension(copied)
    return CloudEvent(attributes, data)


def decide(command):
    data = command.get_data()
    answer = {"command_id": data["command_id"], "outcome": "success"}
    skus = [line["sku"] for line in data["order"].get("lines", [])]
    if command.get_type() == "inventory.reserve.v1" and NOTHING in skus:
        answer.update(outcome="rejected", code="OUT_OF_STOCK")
    elif data["direction"] == "forward":
        answer["data"] = {"reference": str(uuid.uuid4())}
    return answer


def scans(command):
    data = command.get_data()
    named = {"order_id": data["order_id"], "tenant_id": data["tenant_id"]}
    for kind in ["shipment.in-transit.v1", "shipment.delivered.v1"]:
        yield about(command, kind, "/couriers/python", named)


def play(door, orders):
    submit, fact, answer, receive = door
    open_orders = {}
    for order in orders:
        attributes = {**order["attributes"], "time": datetime.now(timezone.utc)}
        submit(CloudEvent(attributes, order["data"]), order["mode"], order.get("header"))
        open_orders[order["data"]["order_id"]] = order["ends"]
    parcels, began, next_scan = {}, time.monotonic(), None
    while open_orders:
        if time.monotonic() - began > PATIENCE_SECONDS:
            sys.exit(f"still waiting for {open_orders}")
        for came in receive():
            event = came.pop("event")
            # What the SDK writes, it reads as the same: nothing was lost on the way in.
            again = JSONFormat().read(None, JSONFormat().write(event))
            assert again.get_attributes() == event.get_attributes() and again.get_data() == event.get_data()
            attributes = {name: str(value) for name, value in event.get_attributes().items()}
            told = {key: came[key] for key in ["from", "message"]}
            print(json.dumps({**told, "attributes": attributes, "data": event.get_data()}), flush=True)
            if came["from"] == "events":
                if open_orders.get(event.get_subject()) == event.get_type():
                    del open_orders[event.get_subject()]
                    parcels.pop(event.get_subject(), None)
                continue
            name = event.get_type().removesuffix(".v1")
            participant = came["from"].removesuffix(".commands")
            reply = about(event, f"{name}.replied.v1", f"/participants/{participant}", decide(event))
            # Both modes of the binding, in turns.
            answer(came, reply, "binary" if participant in ("wms", "loan") else "structured")
            if name == "tms.dispatch":
                parcels[event.get_subject()] = event
                next_scan = time.monotonic() + SCAN_EVERY_SECONDS
        if next_scan and time.monotonic() > next_scan:
            for command in parcels.values():
                for scan in scans(command):
                    fact(scan)
            next_scan += SCAN_EVERY_SECONDS


if __name__ == "__main__":
    _, broker, url, file = sys.argv
    with open(file, encoding="utf-8") as given:
        play({"rabbitmq": rabbitmq, "kafka": kafka}[broker](url), json.load(given))
