"""A limit as its user is told about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class LimitState:
    """A window of time, what may be used in it, and what is used."""

    name: str
    limit: int
    used: int
    window: timedelta
    resets_at: datetime

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used)
