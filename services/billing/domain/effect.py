"""From when on the operator's terms hold."""

from __future__ import annotations

from datetime import datetime, timedelta

from services.billing.domain.errors import EffectiveFromPast

# Clocks differ, and a form takes a moment to be sent.
_CLOCK_TOLERANCE = timedelta(minutes=1)


def effective_since(asked: datetime | None, now: datetime) -> datetime:
    """The moment that was asked for, and never one before now. Raises EffectiveFromPast."""
    if asked is None:
        return now
    if asked < now - _CLOCK_TOLERANCE:
        raise EffectiveFromPast(asked)
    return max(asked, now)
