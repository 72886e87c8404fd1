"""Clocks that stand still until a test moves them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


class StoppedClock:
    """Always the same moment; fits `shared.clock.Clock`."""

    def __init__(self, at: datetime = NOON) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def forward(self, by: timedelta) -> None:
        self.at += by


class StoppedTime:
    """As much of the module `time` as is asked where it stands in for it; in seconds."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now
