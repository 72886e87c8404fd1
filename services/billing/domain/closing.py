"""Closing a month: what has to be right for it, and what is frozen by it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Self
from uuid import UUID

from services.billing.domain.completeness import Progress, newest_numberings
from services.billing.domain.errors import BadMonth
from services.billing.domain.period import Period
from shared.ids import UserId
from shared.values import dataclass

_MONTH = re.compile(r"(20[2-9][0-9]|21[0-9]{2})-(0[1-9]|1[0-2])\Z")
# Settlements of calls that ran over midnight, and the last manifests, come after the month's end.
SETTLING_TIME = timedelta(hours=2)
NOT_HEARD = "producer_not_heard_since"


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A calendar month, UTC."""

    first_day: date

    @classmethod
    def named(cls, text: str) -> Self:
        """`2026-11`. Raises BadMonth."""
        if not _MONTH.match(text):
            raise BadMonth
        return cls(date.fromisoformat(f"{text}-01"))

    @property
    def name(self) -> str:
        return f"{self.first_day:%Y-%m}"

    @property
    def period(self) -> Period:
        begins = datetime(self.first_day.year, self.first_day.month, 1, tzinfo=UTC)
        ends = (begins + timedelta(days=32)).replace(day=1)
        return Period(begins, ends)

    def can_be_closed_at(self, now: datetime) -> bool:
        return now >= self.period.ends + SETTLING_TIME


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason not to close a month yet, and how much of it there is."""

    code: str
    subject: str
    count: int

    def to_facts(self) -> dict[str, Any]:
        return {"code": self.code, "subject": self.subject, "count": self.count}


@dataclass(frozen=True, slots=True)
class Totals:
    """All of a month: how many events, a digest of their ids, sums by what is charged by, and what
    corrections of them come to."""

    events: int
    ids: str
    groups: Sequence[Mapping[str, Any]]
    corrections: int = 0
    corrected_cost: int = 0

    def to_facts(self) -> dict[str, Any]:
        return {
            "events": self.events,
            "ids": self.ids,
            "groups": [dict(group) for group in self.groups],
            "corrections": self.corrections,
            "corrected_cost_microusd": self.corrected_cost,
        }


@dataclass(frozen=True, slots=True)
class LateUsage:
    """Usage of a closed month that came afterwards, and corrections of it: what an adjustment line
    is for."""

    events: int = 0
    known_cost: int = 0
    event_ids: Sequence[UUID] = ()  # the first ones
    corrections: int = 0
    corrected_cost: int = 0


@dataclass(frozen=True, slots=True)
class ClosedPeriod:
    """A month whose totals are frozen. It is never opened again."""

    month: Month
    closed_at: datetime
    closed_by: UserId
    totals: Totals
    waived: tuple[Finding, ...] = ()
    reason: str | None = None
    kept_digest: str | None = None  # as it stands beside the totals; None before it is kept

    @property
    def is_as_kept(self) -> bool:
        """Whether the totals are those that the kept digest was worked out from."""
        return self.kept_digest in (None, self.digest)

    @property
    def digest(self) -> str:
        """SHA-256 of the month and its totals, as sorted JSON without spaces."""
        facts = {"month": self.month.name, "totals": self.totals.to_facts()}
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def silent_streams(
    progress: Iterable[Progress], month: Month, given_up: Mapping[str, datetime]
) -> list[Finding]:
    """Streams that said nothing after the month: their end is not known.

    A numbering that another took the place of is asked about for the month in which it ended. So is
    one that somebody has given up, since when nothing came of it.
    """
    begins, ends = month.period.begins, month.period.ends
    streams = list(progress)
    newest = set(newest_numberings(streams))
    found = []
    for one in streams:
        was_alive = one.last_seen_at is not None and one.last_seen_at >= begins
        is_over = one not in newest or _is_given_up(one, given_up)
        is_heard = one.last_manifest_at is not None and one.last_manifest_at >= ends
        if not is_heard and (was_alive or not is_over):
            found.append(Finding(NOT_HEARD, _name(one), 1))
    return found


def _is_given_up(one: Progress, given_up: Mapping[str, datetime]) -> bool:
    at = given_up.get(_name(one))
    return at is not None and (one.last_seen_at is None or one.last_seen_at <= at)


def incomplete_streams(progress: Iterable[Progress]) -> list[Finding]:
    """Streams of which something has not come."""
    return [
        Finding("events_missing", _name(one), one.missing_count)
        for one in progress
        if one.missing_count
    ]


def _name(one: Progress) -> str:
    return f"{one.stream.producer}/{one.stream.name}"
