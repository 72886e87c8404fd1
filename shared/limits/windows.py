"""Spans of the UTC clock in which something is limited."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from shared.values import dataclass

_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Window:
    """A limit over a span of time. The span's start is part of the counter's key."""

    name: str
    limit: int
    starts_at: datetime
    ends_at: datetime
    amount: int = 1
    # Room that has to be left, where that is not the amount itself.
    need: int | None = None
    # The counter only mirrors what a database knows: a missing one is not a zero.
    seeded: bool = False

    @property
    def needed(self) -> int:
        return self.amount if self.need is None else self.need

    def key(self, subject: str) -> str:
        # The braces keep a subject's counters on one node of a cluster.
        return f"limit:{{{subject}}}:{self.name}:{int(self.starts_at.timestamp())}"


def minute_window(name: str, limit: int, now: datetime, amount: int = 1) -> Window:
    """The clock minute that `now` lies in."""
    start, end = _minute(int(now.timestamp()) // 60)
    return Window(name, limit, start, end, amount)


def day_window(name: str, limit: int, now: datetime, amount: int = 1) -> Window:
    """The UTC day that `now` lies in."""
    start, end = _day(int(now.timestamp()) // 86_400)
    return Window(name, limit, start, end, amount)


def month_window(name: str, limit: int, now: datetime, amount: int = 1) -> Window:
    """The UTC month that `now` lies in."""
    start, end = _month(int(now.timestamp()) // 86_400)
    return Window(name, limit, start, end, amount)


def spend_window(name: str, cap: int, now: datetime, cost: int | None) -> Window:
    """A cap of money in a month. Where the cost is unknown nothing can be reserved, but there has
    to be something left."""
    start, end = _month(int(now.timestamp()) // 86_400)
    amount = cost or 0
    return Window(name, cap, start, end, amount, need=max(1, amount), seeded=True)


@lru_cache(maxsize=16)
def _minute(number: int) -> tuple[datetime, datetime]:
    start = datetime.fromtimestamp(number * 60, UTC)
    return start, start + _MINUTE


@lru_cache(maxsize=16)
def _day(number: int) -> tuple[datetime, datetime]:
    start = datetime.fromtimestamp(number * 86_400, UTC)
    return start, start + _DAY


@lru_cache(maxsize=16)
def _month(day: int) -> tuple[datetime, datetime]:
    start = datetime.fromtimestamp(day * 86_400, UTC).replace(day=1)
    return start, (start + timedelta(days=32)).replace(day=1)
