"""Months as subscriptions count them: from the moment of the purchase, to the second."""

from __future__ import annotations

from calendar import monthrange
from datetime import datetime


def whole_second(moment: datetime) -> datetime:
    """Subscriptions know no smaller unit of time."""
    return moment.replace(microsecond=0)


def months_after(anchor: datetime, months: int) -> datetime:
    """The anchor's day and time so many months later; the month's last day where it has no such
    day. Counted from the anchor, so that the 31st comes back after a February."""
    index = anchor.year * 12 + anchor.month - 1 + months
    year, month = index // 12, index % 12 + 1
    return anchor.replace(year=year, month=month, day=min(anchor.day, monthrange(year, month)[1]))


def next_after(anchor: datetime, boundary: datetime) -> datetime:
    """The boundary after `boundary`, which is itself one of the anchor's."""
    passed = (boundary.year - anchor.year) * 12 + boundary.month - anchor.month
    return months_after(anchor, passed + 1)
