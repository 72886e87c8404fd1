"""The two brokers alike: declared queues, killed and back again, with what they put aside."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kombu
import pytest

from shared.messaging.broker import EXCHANGE_NAME, dead_queue, is_rabbitmq
from tests.support.engines import Child, RabbitServer, running_valkey


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker of these tests' own, so that it may be killed."""

    url: str
    child: Child
    is_ready: Callable[[], bool]

    @property
    def is_rabbitmq(self) -> bool:
        return is_rabbitmq(self.url)

    def kill(self) -> None:
        """End it as a crash would."""
        self.child.kill()

    def start_again(self) -> None:
        """Bring it back with its data."""
        self.child.start_again(self.is_ready, seconds=240)

    def publish_raw(self, stream: str, body: str | bytes, headers: dict[str, str]) -> None:
        """Put a message on the exchange that no relay of ours would send."""
        with kombu.Connection(self.url) as connection:
            connection.Producer(auto_declare=False).publish(
                body,
                exchange=EXCHANGE_NAME,
                routing_key=stream,
                headers=headers,
                content_type="application/json",
                content_encoding="utf-8",
            )

    def dead_letters(self, queue: str) -> int:
        """How many messages RabbitMQ has moved to the queue's dead letters."""
        with kombu.Connection(self.url) as connection:
            channel: Any = connection.default_channel
            declared: Any = channel.queue_declare(dead_queue(queue).name, passive=True)
        return int(declared.message_count)


@contextlib.contextmanager
def valkey_broker(directory: Path) -> Iterator[Broker]:
    """A Valkey that keeps its queues through a crash, as in the embedded default."""
    with running_valkey(directory, durable=True) as server:
        yield Broker(server.engine.url(1), server.child, server.engine.is_ready)


@contextlib.contextmanager
def rabbitmq_broker(server: RabbitServer | None) -> Iterator[Broker]:
    """The session's RabbitMQ; skips on a developer's machine that has none."""
    if server is None:
        if os.environ.get("CI") == "true":
            pytest.fail("RabbitMQ is missing here; see tests/support/engines.py")
        pytest.skip("this machine has no RabbitMQ")
    # The default virtual host: one of our own would cost four seconds, and nobody else uses it.
    yield Broker(server.url, server.child, server.is_ready)
