"""A queue beside billing's own that gets a copy of every usage message, for who is no part of us.

Nobody of ours reads it. It must never stand in the way of what is ours: it is limited, and drops
its oldest messages; a queue that refused new ones would make the whole publish fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from kombu import Connection, Queue, binding
from kombu.exceptions import KombuError

from shared.events.usage import (
    UsageAdjusted,
    UsageManifest,
    UsageRecorded,
    UsageReported,
    UsageVoided,
)
from shared.messaging.broker import (
    DELIVERY_LIMIT,
    EXCHANGE_NAME,
    events_exchange,
    is_rabbitmq,
    transport_options,
)
from shared.tiers import TIERS

EXPORT_QUEUE = "billing.export"
LONGEST_STAY = timedelta(days=7)
_TYPES = (UsageRecorded, UsageVoided, UsageAdjusted, UsageManifest, UsageReported)
# Each stream by its own name: a message that a consumer on Valkey did not acknowledge is given back
# by those names, whatever kind its exchange is thought to be.
STREAMS = tuple(f"{type_.type}.{tier}" for type_ in _TYPES for tier in TIERS)
_NOT_FOUND, _PRECONDITION_FAILED = 404, 406


class ExportQueueAway(Exception):
    """The broker can't be reached."""


class ExportQueue:
    """The queue on one broker."""

    def __init__(self, broker_url: str, *, most_messages: int) -> None:
        self._url = broker_url
        self._most = most_messages
        self._rabbitmq = is_rabbitmq(broker_url)

    def bind(self) -> None:
        """Make it and let it have copies from now on; safe to do again. Raises ExportQueueAway."""
        with self._connection() as connection:
            refused: tuple[type[BaseException], ...] = connection.channel_errors
            try:
                channel: Any = connection.default_channel
                events_exchange()(channel).declare()
                self._queue()(channel).declare()
            except refused as error:
                if getattr(error, "reply_code", None) != _PRECONDITION_FAILED:
                    raise
                # It was made with another limit, which only whoever deletes it can change.
                channel = connection.channel()
                for stream in STREAMS:
                    channel.queue_bind(EXPORT_QUEUE, EXCHANGE_NAME, stream)

    def unbind(self) -> None:
        """No copies from now on; what lies in it stays. Raises ExportQueueAway."""
        with self._connection() as connection:
            channel: Any = connection.default_channel
            if self._rabbitmq:
                if self._waiting(connection) is not None:
                    for stream in STREAMS:
                        channel.queue_unbind(EXPORT_QUEUE, EXCHANGE_NAME, stream)
                return
            for table in (channel.keyprefix_queue, channel.keyprefix_binding_permanent):
                key = table % (EXCHANGE_NAME,)
                for member in channel.client.smembers(key):
                    text = member.decode() if isinstance(member, bytes) else member
                    if text.split(channel.sep)[-1] == EXPORT_QUEUE:
                        channel.client.srem(key, member)

    def waiting(self) -> int:
        """How many messages wait in it. Raises ExportQueueAway."""
        with self._connection() as connection:
            return self._waiting(connection) or 0

    def cut(self) -> int:
        """Drop the oldest beyond the limit where the broker does not do so itself; answers how
        many that were. Raises ExportQueueAway."""
        if self._rabbitmq:
            return 0
        with self._connection() as connection:
            client = connection.default_channel.client  # type: ignore[attr-defined]
            # The newest stand first; whoever reads takes the last.
            beyond = int(client.llen(EXPORT_QUEUE)) - self._most
            if beyond > 0:
                client.ltrim(EXPORT_QUEUE, 0, self._most - 1)
            return max(beyond, 0)

    def _queue(self) -> Queue:
        exchange = events_exchange()
        bindings = [binding(exchange, routing_key=stream) for stream in STREAMS]
        arguments = self._limits() if self._rabbitmq else {}
        queue = Queue(EXPORT_QUEUE, bindings=bindings, durable=True, queue_arguments=arguments)
        queue.exchange, queue.routing_key = exchange, STREAMS[0]
        return queue

    def _limits(self) -> dict[str, Any]:
        return {
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-overflow": "drop-head",
            "x-max-length": self._most,
            "x-message-ttl": int(LONGEST_STAY.total_seconds() * 1000),
        }

    def _waiting(self, connection: Connection) -> int | None:
        if not self._rabbitmq:
            return int(connection.default_channel.client.llen(EXPORT_QUEUE))  # type: ignore[attr-defined]
        channel: Any = connection.channel()
        refused: tuple[type[BaseException], ...] = connection.channel_errors
        try:
            return int(channel.queue_declare(EXPORT_QUEUE, passive=True).message_count)
        except refused as error:
            if getattr(error, "reply_code", None) != _NOT_FOUND:
                raise
            return None

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        options = dict(transport_options(self._url))
        connection = Connection(self._url, connect_timeout=3, transport_options=options)
        away: tuple[type[BaseException], ...] = (
            KombuError,
            OSError,
            *connection.connection_errors,
        )
        try:
            with connection:
                yield connection
        except away as error:
            raise ExportQueueAway(type(error).__name__) from error
