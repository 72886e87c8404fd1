"""Figures that decisions are made by; docs/analytics.md says what each of them means.

Money is in micro-dollars, months and days are UTC's. A share of nothing is 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Self, TypeVar

from services.billing.domain.calendar import months_after
from services.billing.domain.errors import BadAnalysis, BadPeriod
from shared.values import dataclass

ALL = "all"
"""In the place of a tier or a service: all of them together."""

MOST_MONTHS = 36
_USUAL_MONTHS = 6
_MOST_DAYS = 1100


class Grain(StrEnum):
    """A span that active users are counted in."""

    DAY = "day"
    WEEK = "week"  # from Monday on
    MONTH = "month"


class Facet(StrEnum):
    """What usage of all users is grouped by."""

    MONTH = "month"
    DAY = "day"
    TIER = "tier"
    SERVICE = "service"
    PROVIDER = "provider"
    MODEL = "model"
    OPERATION = "operation"


class Split(StrEnum):
    """Whom a figure is told of."""

    TOTAL = "total"
    TIER = "tier"
    SERVICE = "service"


def facets_named(text: str) -> tuple[Facet, ...]:
    """The facets in a comma-separated list. Raises BadAnalysis."""
    names = [name.strip() for name in text.split(",")] if text.strip() else []
    if len(set(names)) != len(names) or not set(names) <= set(Facet):
        raise BadAnalysis("by", "Some of these, each once, parted by commas.", tuple(Facet))
    return tuple(Facet(name) for name in names)


def split_named(text: str, known: Sequence[Split]) -> Split:
    """Raises BadAnalysis."""
    if text not in set(known):
        raise BadAnalysis("by", "One of these.", known)
    return Split(text)


def grain_named(text: str) -> Grain:
    """Raises BadAnalysis."""
    if text not in set(Grain):
        raise BadAnalysis("grain", "One of these.", tuple(Grain))
    return Grain(text)


def share(part: int, whole: int) -> float:
    """Which part of it; of nothing, none. Four digits are what such figures are good for."""
    return round(part / whole, 4) if whole else 0.0


@dataclass(frozen=True, slots=True)
class Months:
    """Whole months one after the other; of the one that goes on, what has been of it."""

    first: date
    last: date
    now: datetime

    @classmethod
    def within(cls, begins: datetime | None, ends: datetime | None, *, now: datetime) -> Self:
        """The months that hold what was asked for; without bounds the last half year.

        Raises BadPeriod.
        """
        if begins is not None and ends is not None and begins >= ends:
            raise BadPeriod("The period ends before it begins.")
        until = min(ends or now, now)
        last = _first_of(until - timedelta(microseconds=1) if ends else until)
        usual = _first_of(months_after(_midnight(last), 1 - _USUAL_MONTHS))
        found = cls(_first_of(begins) if begins else usual, last, now)
        if found.first > found.last:
            raise BadPeriod("This period has not begun yet.")
        if len(list(found)) > MOST_MONTHS:
            raise BadPeriod(f"An analysis covers {MOST_MONTHS} months at most.")
        return found

    def __iter__(self) -> Iterator[date]:
        months = (self.last.year - self.first.year) * 12 + self.last.month - self.first.month + 1
        for index in range(months):
            place = self.first.year * 12 + self.first.month - 1 + index
            yield date(place // 12, place % 12 + 1, 1)

    @property
    def spans(self) -> Sequence[tuple[datetime, datetime]]:
        """Each month's beginning and end; the end of the one that goes on is now."""
        begun = [_midnight(month) for month in self]
        return [(begins, min(months_after(begins, 1), self.now)) for begins in begun]


@dataclass(frozen=True, slots=True)
class Days:
    """Days one after the other, both ends included."""

    first: date
    last: date

    @classmethod
    def within(
        cls, begins: datetime | None, ends: datetime | None, *, now: datetime, usual: timedelta
    ) -> Self:
        """The days that hold what was asked for. Raises BadPeriod."""
        if begins is not None and ends is not None and begins >= ends:
            raise BadPeriod("The period ends before it begins.")
        last = (ends - timedelta(microseconds=1) if ends else now).astimezone(UTC).date()
        first = begins.astimezone(UTC).date() if begins else last - usual
        if first > last:
            raise BadPeriod("The period ends before it begins.")
        if (last - first).days > _MOST_DAYS:
            raise BadPeriod(f"An analysis covers {_MOST_DAYS} days at most.")
        return cls(first, last)

    @classmethod
    def of(cls, months: Months) -> Self:
        """Every day of them; of the month that goes on, up to today."""
        _begins, ends = months.spans[-1]
        return cls(months.first, (ends - timedelta(microseconds=1)).astimezone(UTC).date())


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _first_of(moment: datetime) -> date:
    return moment.astimezone(UTC).date().replace(day=1)


@dataclass(frozen=True, slots=True)
class Revenue:
    """A tier's subscriptions in a month. `mrr`: what they bring each month, as at its end."""

    month: date
    tier: str
    charged_microusd: int = 0
    recognised_microusd: int = 0
    mrr_microusd: int = 0
    subscriptions: int = 0
    seats: int = 0

    def __add__(self, other: Revenue) -> Revenue:
        return replace(
            self,
            charged_microusd=self.charged_microusd + other.charged_microusd,
            recognised_microusd=self.recognised_microusd + other.recognised_microusd,
            mrr_microusd=self.mrr_microusd + other.mrr_microusd,
            subscriptions=self.subscriptions + other.subscriptions,
            seats=self.seats + other.seats,
        )


@dataclass(frozen=True, slots=True)
class Active:
    """How many users were active from `begins` on, in one grain of time."""

    begins: date
    tier: str
    service: str
    users: int


@dataclass(frozen=True, slots=True)
class Conversion:
    """Users first seen in a month, and how many of them paid within so many days. `is_complete`:
    the last of them had that long."""

    cohort: date
    users: int
    converted: int
    is_complete: bool

    @property
    def share(self) -> float:
        return share(self.converted, self.users)


@dataclass(frozen=True, slots=True)
class Churn:
    """What became, by a month's end, of the subscriptions that were paid for at its beginning.

    Of who left in the unpaid way a period was written off; all others left by their own will.
    """

    month: date
    tier: str
    at_start: int = 0
    left_voluntary: int = 0
    left_unpaid: int = 0
    new: int = 0
    mrr_at_start_microusd: int = 0
    lost_voluntary_microusd: int = 0
    lost_unpaid_microusd: int = 0
    contraction_microusd: int = 0
    expansion_microusd: int = 0
    new_microusd: int = 0

    @property
    def logo_churn(self) -> float:
        return share(self.left_voluntary + self.left_unpaid, self.at_start)

    @property
    def lost_microusd(self) -> int:
        return self.lost_voluntary_microusd + self.lost_unpaid_microusd + self.contraction_microusd

    @property
    def revenue_churn(self) -> float:
        return share(self.lost_microusd, self.mrr_at_start_microusd)

    def __add__(self, other: Churn) -> Churn:
        return replace(
            self,
            **{
                name: getattr(self, name) + getattr(other, name)
                for name in self.__dataclass_fields__
                if name not in ("month", "tier")
            },
        )


@dataclass(frozen=True, slots=True)
class Margin:
    """What subscriptions and usage brought, less what serving the requests costs the operator."""

    month: date
    tier: str
    subscriptions_microusd: int = 0
    usage_fees_microusd: int = 0
    requests: int = 0
    cost_microusd: int = 0

    @property
    def revenue_microusd(self) -> int:
        return self.subscriptions_microusd + self.usage_fees_microusd

    @property
    def margin_microusd(self) -> int:
        return self.revenue_microusd - self.cost_microusd

    @property
    def share(self) -> float:
        return share(self.margin_microusd, self.revenue_microusd)

    def __add__(self, other: Margin) -> Margin:
        return replace(
            self,
            subscriptions_microusd=self.subscriptions_microusd + other.subscriptions_microusd,
            usage_fees_microusd=self.usage_fees_microusd + other.usage_fees_microusd,
            requests=self.requests + other.requests,
            cost_microusd=self.cost_microusd + other.cost_microusd,
        )


@dataclass(frozen=True, slots=True)
class Retention:
    """Of the users first seen in one month, how many were active so many months later."""

    cohort: date
    users: int
    months_later: int
    active: int

    @property
    def share(self) -> float:
        return share(self.active, self.users)


@dataclass(frozen=True, slots=True)
class TotalUsage:
    """What all users used together. `vendor_cost`: what vendors charge on the users' own keys, as
    far as prices are known; `usage_fee`: what the operator charges beside them."""

    keys: Mapping[Facet, str | date]
    requests: int
    unpriced_requests: int
    input_tokens: int
    output_tokens: int
    characters: int
    known_cost_microusd: int
    usage_fee_microusd: int

    @property
    def vendor_cost_microusd(self) -> int | None:
        """None when there are requests and not one has a known price."""
        if self.requests and self.unpriced_requests == self.requests:
            return None
        return self.known_cost_microusd


@dataclass(frozen=True, slots=True)
class TierUsage:
    """The requests of a tier in a month, and the operator's fee for them."""

    month: date
    tier: str
    requests: int
    fee_microusd: int


def margins(
    revenue: Iterable[Revenue], usage: Iterable[TierUsage], *, per_request: int
) -> Sequence[Margin]:
    """By month and tier, whatever there was of the two."""
    parts = [Margin(one.month, one.tier, one.recognised_microusd) for one in revenue]
    parts += [
        Margin(of.month, of.tier, 0, of.fee_microusd, of.requests, of.requests * per_request)
        for of in usage
    ]
    found: dict[tuple[date, str], Margin] = {}
    for part in parts:
        key = (part.month, part.tier)
        found[key] = found[key] + part if key in found else part
    return [found[key] for key in sorted(found)]


Part = TypeVar("Part", Revenue, Churn, Margin)


def together(parts: Iterable[Part]) -> list[Part]:
    """The tiers of each month in one sum."""
    found: dict[date, Part] = {}
    for part in parts:
        whole = replace(part, tier=ALL)
        known = found.get(part.month)
        found[part.month] = whole if known is None else known + whole
    return [found[month] for month in sorted(found)]
