"""A connection that is looked at now and then, in place of being listened to.

The event loop tells of every piece that comes: a wake, a read and a call for each. Where many
connections have something at every look anyway, one read takes what several wakes would have
brought.
"""

from __future__ import annotations

import asyncio
import os

MOST_AT_A_LOOK = 1 << 16
"""Bytes. Where so many had come there may be more."""


class Polled:
    """A transport without TLS that the event loop no longer reads, until `listen`."""

    __slots__ = ("_descriptor", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._descriptor: int = transport.get_extra_info("socket").fileno()
        transport.pause_reading()

    def look(self) -> bytes:
        """What has come since the last look; empty where the event loop has to find out why: the
        other side is silent, has ended, or the connection is being closed.

        Raises OSError where the connection broke.
        """
        # The number of a descriptor that was closed may be another connection's by now.
        if self._transport.is_closing():
            return b""
        try:
            return os.read(self._descriptor, MOST_AT_A_LOOK)
        except BlockingIOError:
            return b""

    def listen(self) -> None:
        """Have the event loop tell again."""
        if not self._transport.is_closing():
            self._transport.resume_reading()
