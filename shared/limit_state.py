"""A limit as its user is told about it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class LimitState:
    """A window of time, what may be used in it, and what is used.

    `reserved` is held for requests that still run and may yet come back; `used` is without it.
    Where that was not looked at, as in the answer to a request, all of it stands in `used`.
    A `window` of no length is a limit of how many at once.
    """

    name: str
    limit: int
    used: int
    window: timedelta
    resets_at: datetime
    reserved: int = 0

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used - self.reserved)


def tightest(limits: Iterable[LimitState], what: str) -> LimitState | None:
    """Of the windows in which `what` is counted (`requests`, `tokens`), the one that holds first:
    which has the least left, and of such the one that stays for longest."""
    named = (limit for limit in limits if _counted_in(limit) == what)
    return min(named, key=lambda it: (it.remaining, -it.resets_at.timestamp()), default=None)


def _counted_in(limit: LimitState) -> str:
    return limit.name.rpartition(".")[2].partition("_per_")[0]
