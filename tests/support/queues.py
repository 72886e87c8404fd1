"""What lies in a broker's queues."""

from __future__ import annotations

import contextlib
from typing import Any

import kombu


def taken_from(broker_url: str, queue_name: str) -> list[Any]:
    """The batches of a queue, which is empty then."""
    batches = []
    with kombu.Connection(broker_url) as connection:
        queue = connection.SimpleQueue(queue_name)
        with contextlib.suppress(queue.Empty):
            while True:
                message = queue.get_nowait()
                batches.append(message.payload[1]["batch"])
                message.ack()
        queue.close()
    return batches
