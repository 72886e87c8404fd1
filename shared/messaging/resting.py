"""What a worker does not do while nothing comes.

kombu asks Valkey for messages anew every second, and looks every second after bindings that expire,
of which we have none. By these a worker also sees within a second that it is to end; at rest for
longer it has to be told.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Any

import structlog

log = structlog.get_logger(__name__)

# How long Valkey holds a question for messages before it says that there are none. A message is
# answered with at once, however long this is.
SECONDS_BETWEEN_QUESTIONS = 5


class SignalPipe:
    """Wakes a worker's loop when its process gets a signal: to end, mostly."""

    def __init__(self) -> None:
        self._ends: tuple[int, int] | None = None

    def wake(self, hub: Any) -> None:
        """Let signals wake this loop; again after each time that it was set up anew."""
        if self._ends is None:
            self._ends = os.pipe()
            for end in self._ends:
                os.set_blocking(end, False)
            signal.set_wakeup_fd(self._ends[1], warn_on_full_buffer=False)
        hub.add_reader(self._ends[0], self._heard)

    def _heard(self) -> None:
        assert self._ends is not None
        with suppress(BlockingIOError):
            os.read(self._ends[0], 4096)


def let_rest(connection: Any) -> None:
    """End kombu's round that looks every second after what we do not have."""
    round_ = getattr(getattr(connection.transport, "cycle", None), "_binding_expiry_tref", None)
    if round_ is not None:
        round_.cancel()


def stop_waiting(connection: Any) -> None:
    """Let Valkey answer the question for messages now: whoever closes a channel waits for it."""
    for channel in list(getattr(connection.connection, "channels", None) or ()):
        socket = getattr(getattr(channel, "_in_poll", None), "_sock", None)
        if socket is None:
            continue
        # Here and not above: with RabbitMQ, a relay and a job of preparation go without it.
        from redis.exceptions import RedisError

        try:
            address = "{}:{}".format(*socket.getsockname()[:2])
            with channel.conn_or_acquire() as client:
                for known in client.client_list():
                    if known["addr"] == address:
                        client.client_unblock(int(known["id"]))
        except (RedisError, OSError) as error:
            log.debug("worker_waits_for_messages", reason=type(error).__name__)
