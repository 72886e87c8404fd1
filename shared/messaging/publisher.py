"""Sends batches to the broker and knows that they arrived."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from amqp import spec
from amqp.exceptions import MessageNacked
from celery import Celery
from kombu import Connection, Producer
from kombu.exceptions import KombuError

from shared.messaging import packed
from shared.messaging.batch import body_of
from shared.messaging.broker import (
    EXCHANGE_NAME,
    events_exchange,
    is_rabbitmq,
    transport_options,
)

_CONFIRM_SECONDS = 5
_HANG_UP_SECONDS = 1
# No stream is called so: what is sent to nobody goes nowhere, and is confirmed.
_TO_NOBODY = "nobody"


class NotSent(Exception):
    """The broker did not confirm; the batch stays in the outbox."""


class Refused(NotSent):
    """The broker is there and says that it does not take the batch: a queue of the stream is full,
    for example."""


class Unroutable(Refused):
    """No queue is bound to the stream: its consumer has never declared one."""


class Publisher:
    """One connection to the broker. Any failure drops it: after a confirm that timed out, the next
    confirm may belong to the message before.

    It is kept under an alarm alone. RabbitMQ then reads nothing from who publishes, and does not
    notice who hangs up: each connection dropped would stay there until the alarm is over. What was
    sent into the alarm is confirmed after it; until then nothing else is sent.
    """

    def __init__(self, broker_url: str) -> None:
        self._url = broker_url
        self._rabbitmq = is_rabbitmq(broker_url)
        # Only for the message format (https://docs.celeryq.dev/en/stable/internals/protocol.html).
        self._format = Celery("relay", broker=broker_url, set_as_current=False).amqp
        self._connection: Connection | None = None
        self._producer: Producer | None = None
        self._returned = False
        self._is_blocked = False
        self._is_confirm_due = False

    def send(self, stream: str, type_: str, batch: Mapping[str, Any], *, routed: bool) -> None:
        """Publish one batch under its stream's routing key.

        `routed` asks that at least one queue takes it. Raises NotSent; it is Refused where the
        broker itself says so, and Unroutable where no queue is there to take it.
        """
        try:
            producer = self._connected()
            if routed and not self._rabbitmq and not self._is_bound(producer, stream):
                raise Unroutable(stream)
            self._publish(producer, stream, type_, batch, mandatory=routed and self._rabbitmq)
        except self._failures() as error:
            raise self._failed(error) from error
        except NotSent:
            raise
        except Exception:
            self.close()
            raise

    def send_to_queue(self, queue: str, type_: str, batch: Mapping[str, Any]) -> None:
        """Publish one batch to one queue alone: for what a single consumer has put aside.

        Raises NotSent; it is Unroutable where there is no such queue.
        """
        try:
            producer = self._connected()
            if not self._rabbitmq and not self._is_known(producer, queue):
                raise Unroutable(queue)
            self._publish(producer, queue, type_, batch, exchange="", mandatory=self._rabbitmq)
        except self._failures() as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Drop the connection; the next send opens another."""
        connection, self._connection, self._producer = self._connection, None, None
        self._is_blocked = self._is_confirm_due = False
        if connection is None:
            return
        if self._rabbitmq and connection.connected:
            _hang_up(connection)
        connection.release()

    def _connected(self) -> Producer:
        if self._producer is None:
            self._producer = self._opened()
            if self._rabbitmq:
                _ask(self._producer)
        elif self._is_confirm_due:
            channel: Any = self._producer.channel
            channel.wait([spec.Basic.Ack, spec.Basic.Nack], timeout=_CONFIRM_SECONDS)
            self._is_confirm_due = False
        return self._producer

    def _opened(self) -> Producer:
        options = dict(transport_options(self._url))
        if self._rabbitmq:
            options.update(on_blocked=self._on_blocked, on_unblocked=self._on_unblocked)
        self._connection = Connection(self._url, connect_timeout=3, transport_options=options)
        channel = self._connection.default_channel
        events_exchange()(channel).declare()
        # With nobody to tell, a returned message would be an error of the channel. Valkey's
        # channels return nothing and refuse to be asked.
        on_return = self._on_return if self._rabbitmq else None
        return Producer(channel, auto_declare=False, on_return=on_return)

    def _failed(self, error: BaseException) -> NotSent:
        if self._is_blocked and _is_without_answer(error):
            self._is_confirm_due = True
            return NotSent("Blocked")
        self.close()
        return _not_sent(error)

    def _on_blocked(self, _reason: str) -> None:
        self._is_blocked = True

    def _on_unblocked(self) -> None:
        self._is_blocked = False

    def _on_return(self, *_message: Any) -> None:
        # The broker says so before it confirms: no queue took the message being published.
        self._returned = True

    def _publish(
        self,
        producer: Producer,
        stream: str,
        type_: str,
        batch: Mapping[str, Any],
        *,
        mandatory: bool,
        exchange: str = EXCHANGE_NAME,
    ) -> None:
        message = self._format.as_task_v2(
            batch["batch_id"],
            type_,
            kwargs={"batch": dict(batch)},
            # For whoever looks at tasks; Celery would make them of the events.
            argsrepr="()",
            kwargsrepr="{'batch': ...}",
        )
        options: dict[str, Any] = {"mandatory": mandatory} if self._rabbitmq else {}
        if self._rabbitmq:
            options["confirm_timeout"] = options["timeout"] = _CONFIRM_SECONDS
        self._returned = False
        body = _written(message.body)
        is_long = len(body) >= packed.PACKED_FROM_BYTES
        producer.publish(
            body,
            exchange=exchange,
            routing_key=stream,
            headers=message.headers,
            content_type="application/json",
            content_encoding="binary" if is_long else "utf-8",
            compression=packed.METHOD if is_long else None,
            delivery_mode=2,
            retry=False,
            **message.properties,
            **options,
        )
        if self._returned:
            raise Unroutable(stream)

    def _is_bound(self, producer: Producer, stream: str) -> bool:
        # Valkey drops a message that no queue is bound to, without an error.
        channel: Any = producer.channel
        topic = channel.exchange_types["topic"]
        return bool(topic.lookup(self._bindings(producer), EXCHANGE_NAME, stream, None))

    def _is_known(self, producer: Producer, queue: str) -> bool:
        # Valkey would begin a list by that name, which nobody reads.
        return any(bound == queue for _key, _pattern, bound in self._bindings(producer))

    @staticmethod
    def _bindings(producer: Producer) -> list[tuple[str, str, str]]:
        """Of Valkey's exchange: routing key, pattern and queue of each."""
        channel: Any = producer.channel
        try:
            return list(channel.get_table(EXCHANGE_NAME))
        except (KeyError, KombuError):
            return []

    def _failures(self) -> tuple[type[BaseException], ...]:
        connection = self._connection or Connection(self._url)
        errors = (*connection.connection_errors, *connection.channel_errors)
        return (KombuError, OSError, MessageNacked, *errors)


def _ask(producer: Producer) -> None:
    """Whether the broker takes messages: under an alarm it says so to who publishes, and to nobody
    before. A batch might be more than fits on the way to who does not read, and would end it."""
    producer.publish(
        # Not empty: it stops reading after a message's head.
        b"?",
        exchange=EXCHANGE_NAME,
        routing_key=_TO_NOBODY,
        content_type="application/octet-stream",
        content_encoding="binary",
        delivery_mode=1,
        retry=False,
        timeout=_CONFIRM_SECONDS,
        confirm_timeout=_CONFIRM_SECONDS,
    )


def _is_without_answer(error: BaseException) -> bool:
    """We have waited as long as we wanted. With a number it is the kernel's: the way is gone."""
    return isinstance(error, TimeoutError) and error.errno is None


def _not_sent(error: BaseException) -> NotSent:
    kind = Refused if isinstance(error, MessageNacked) else NotSent
    return kind(type(error).__name__)


def _written(body: Any) -> bytes:
    try:
        return body_of(body)
    except TypeError:  # half a character, or a number beyond 64 bits
        return json.dumps(body).encode()


def _hang_up(connection: Connection) -> None:
    """Without a word: a broker under an alarm reads nothing, and would never say goodbye."""
    amqp: Any = connection.connection
    with suppress(OSError):
        amqp.sock.settimeout(_HANG_UP_SECONDS)
    amqp.collect()
