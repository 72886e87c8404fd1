"""How those who follow something learn that there is more of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Bell:
    """Rung whenever something was added; it carries nothing, so a slow listener costs nothing."""

    __slots__ = ("_listeners", "_waiters")

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []
        self._listeners: list[Callable[[], None]] = []

    def ring(self) -> None:
        """Wake whoever waits, once, and call whoever listens."""
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
        if self._listeners:
            for listener in tuple(self._listeners):
                listener()

    async def rung(self) -> None:
        """Return when it is rung the next time."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            raise

    def call(self, listener: Callable[[], None]) -> None:
        """Call this each time, until `forget`."""
        self._listeners.append(listener)

    def forget(self, listener: Callable[[], None]) -> None:
        """Call it no more."""
        if listener in self._listeners:
            self._listeners.remove(listener)
