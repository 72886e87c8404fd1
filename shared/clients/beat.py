"""A beat that many share: whoever waits for it costs the event loop no timer of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

# From so many on it is worth more to look at all of them than to be told of each.
_CROWD = 16


class Beat:
    """Beats while somebody waits for it, `seconds` apart, and calls all of them in one go."""

    __slots__ = ("_called", "_loop", "_number", "_waiting", "seconds")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self.seconds = seconds
        self._loop = loop
        self._waiting: list[Callable[[], None]] = []
        self._called = self._number = 0

    @property
    def is_crowded(self) -> bool:
        """Whether many wait, or were called last."""
        return len(self._waiting) >= _CROWD or self._called >= _CROWD

    def wait(self, call: Callable[[], None]) -> None:
        """Call it once, at the next beat: within `seconds` and a moment. They must not be 0."""
        if not self._waiting:
            # A loop that counts milliseconds may call a moment too soon: the same beat twice.
            self._number = max(int(self._loop.time() // self.seconds), self._number) + 1
            self._loop.call_at(self._number * self.seconds, self._beat)
        self._waiting.append(call)

    def _beat(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._called = len(waiting)
        for call in waiting:
            call()
        if not self._waiting:
            self._called = 0
