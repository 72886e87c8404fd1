"""A span of time that somebody asks about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Self

from services.billing.domain.errors import BadPeriod
from shared.values import dataclass

_HOUR = timedelta(hours=1)
_EARLIEST = datetime(1, 1, 1, tzinfo=UTC)
_LATEST = datetime(9999, 12, 31, tzinfo=UTC)
LONGEST_REPORT = timedelta(days=1100)  # three years, and the days around them


@dataclass(frozen=True, slots=True)
class Period:
    """From `begins` up to, not including, `ends`; both UTC."""

    begins: datetime
    ends: datetime

    def __post_init__(self) -> None:
        if self.begins > self.ends:
            raise BadPeriod("The period ends before it begins.")

    @classmethod
    def between(cls, begins: datetime | None, ends: datetime | None) -> Self:
        """Open where a bound is missing. Raises BadPeriod."""
        return cls(begins or _EARLIEST, ends or _LATEST)

    @classmethod
    def for_report(cls, begins: datetime | None, ends: datetime | None, *, now: datetime) -> Self:
        """By default until now, the present hour included, from the first of that month on.

        In whole hours: the least period of them that holds what was asked for. Raises BadPeriod.
        """
        ends = ends or _whole_hour(now) + _HOUR
        return cls(begins or _month_before(ends), ends).in_whole_hours()

    def in_whole_hours(self) -> Self:
        """The least period of whole hours that holds this one. Raises BadPeriod when that is too
        long for a report."""
        ends = _whole_hour(self.ends)
        wide = type(self)(_whole_hour(self.begins), ends if ends == self.ends else ends + _HOUR)
        if wide.ends - wide.begins > LONGEST_REPORT:
            raise BadPeriod(f"A report covers {LONGEST_REPORT.days} days at most.")
        return wide


def _month_before(moment: datetime) -> datetime:
    last = moment - timedelta(microseconds=1)
    return last.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _whole_hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
