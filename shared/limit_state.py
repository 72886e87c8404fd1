"""A limit as its user is told about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


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
