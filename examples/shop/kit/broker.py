"""RabbitMQ for the Python services: what is said on which queue, and how to survive a broken link.

An environment may be frozen for hours. Afterwards the broker has given up on its clients or they on
it, so nobody here trusts a connection that was idle: publishers open one for each message (some
10 ms, and an order is rare), consumers connect again whenever theirs ends.
"""

import json
import logging
import os
import threading
import time

import pika

from kit.serve import describe

EXCHANGE = "shop"
QUEUES = {
    "payments": ["order.placed"],
    "orders": ["payment.authorised", "payment.declined"],
    "mail": ["order.placed", "payment.authorised", "payment.declined"],
}
# What goes wrong is told by this module, once and in one line.
logging.getLogger("pika").setLevel(logging.CRITICAL)


class Broker:
    """Publishes messages, and consumes those of one queue."""

    def __init__(self, service, url):
        self._service = service
        self._parameters = pika.URLParameters(url)
        self._parameters.heartbeat = int(os.environ.get("AMQP_HEARTBEAT", "30"))
        self._parameters.socket_timeout = 3
        self._parameters.stack_timeout = 5
        self._parameters.blocked_connection_timeout = 10
        self._connected = threading.Event()

    def publish(self, key, message):
        """Returns when the broker has the message safe; tries twice, then raises."""
        try:
            self._publish_once(key, message)
        except Exception as error:
            self._service.log(f"publishing {key} again after {describe(error)}")
            time.sleep(0.25)
            self._publish_once(key, message)

    def _publish_once(self, key, message):
        connection = pika.BlockingConnection(self._parameters)
        try:
            send(open_channel(connection), key, message)
        finally:
            close(connection)

    def check(self):
        """Raises unless the consumer is connected."""
        if not self._connected.is_set():
            raise ConnectionError("not connected")

    def consume(self, queue, handler, on_connect=None):
        """Calls `handler(key, message, send)` for each message, for ever.

        A message is acknowledged after its handler returned; what the handler sends goes over the
        same connection, so a break in between means that both happen again. Handlers must be
        idempotent.
        """
        pause = 0.02
        waiting_since = time.monotonic()
        while True:
            try:
                connection = pika.BlockingConnection(self._parameters)
                try:
                    channel = open_channel(connection)
                    self._connected.set()
                    self._service.log(f"consuming {queue}")
                    pause = 0.02
                    if on_connect:
                        on_connect()
                    self._drain(channel, queue, handler)
                finally:
                    close(connection)
            except Exception as error:
                if self._connected.is_set():
                    waiting_since = time.monotonic()
                    self._connected.clear()
                    self._service.log(f"lost the broker: {describe(error)}")
                elif time.monotonic() - waiting_since > 120:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, 0.5)

    def _drain(self, channel, queue, handler):
        channel.basic_qos(prefetch_count=1)
        # A generator instead of callbacks: what the handler sends is confirmed before the
        # acknowledgement, on this very channel.
        for method, _properties, body in channel.consume(queue):
            try:
                message = json.loads(body)
            except ValueError:
                self._service.log(f"dropped a malformed {method.routing_key}")
                channel.basic_reject(method.delivery_tag, requeue=False)
                continue
            try:
                handler(method.routing_key, message, lambda key, value: send(channel, key, value))
            except pika.exceptions.AMQPError:
                raise
            except Exception as error:
                self._service.log(f"{method.routing_key} put back: {describe(error)}")
                channel.connection.sleep(1)
                channel.basic_nack(method.delivery_tag, requeue=True)
                continue
            channel.basic_ack(method.delivery_tag)


def open_channel(connection):
    """A channel that confirms. Everybody declares everything, so that services may start in any order."""
    channel = connection.channel()
    channel.exchange_declare(EXCHANGE, "topic", durable=True)
    for queue, keys in QUEUES.items():
        channel.queue_declare(queue, durable=True)
        for key in keys:
            channel.queue_bind(queue, EXCHANGE, key)
    channel.confirm_delivery()
    return channel


def send(channel, key, message):
    """Publishes and waits for the broker's word that it is on a queue, on disk."""
    channel.basic_publish(EXCHANGE, key, json.dumps(message).encode(), mandatory=True,
                          properties=pika.BasicProperties(content_type="application/json", delivery_mode=2))


def close(connection):
    """Closes a connection that may be broken already."""
    try:
        connection.close()
    except Exception:
        pass
