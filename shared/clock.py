"""Time as a port, so that a test can stop it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol


def rfc3339(moment: datetime) -> str:
    """A moment as all our answers tell it: UTC, ending in `Z`."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


class Clock(Protocol):
    """Tells the time in UTC."""

    def now(self) -> datetime: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)
