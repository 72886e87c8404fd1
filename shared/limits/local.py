"""Bounds inside one replica, for when nothing shared can be asked."""

from __future__ import annotations

import time
from collections.abc import Collection


class LocalLimit:
    """A bounded count per minute."""

    def __init__(self) -> None:
        self._minute = 0
        self._taken: dict[str, int] = {}

    def take(self, subject: str, limit: int) -> bool:
        minute = int(time.time() // 60)
        if minute != self._minute:
            self._minute, self._taken = minute, {}
        taken = self._taken.get(subject, 0)
        if taken >= limit:
            return False
        self._taken[subject] = taken + 1
        return True


class LocalStreams:
    """Which streams this replica runs. Each is leased, so that a forgotten one ends."""

    def __init__(self, lease_seconds: float) -> None:
        self._lease_seconds = lease_seconds
        self._until: dict[str, dict[str, float]] = {}

    def has_place(self, subject: str, most: int) -> bool:
        now = time.monotonic()
        running = self._until.get(subject, {})
        for gone in [stream for stream, until in running.items() if until <= now]:
            self.leave(subject, gone)
        return len(running) < most

    def enter(self, subject: str, stream: str) -> None:
        self._until.setdefault(subject, {})[stream] = time.monotonic() + self._lease_seconds

    def renew(self, subject: str, streams: Collection[str]) -> list[str]:
        """Answers those of them that still run."""
        running = self._until.get(subject, {})
        still = [stream for stream in streams if stream in running]
        for stream in still:
            self.enter(subject, stream)
        return still

    def leave(self, subject: str, stream: str) -> None:
        running = self._until.get(subject)
        if running is not None:
            running.pop(stream, None)
            if not running:
                del self._until[subject]
