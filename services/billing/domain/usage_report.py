"""Usage, summed up for who asks. What services outside *report* is in `outside_usage`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import date
from enum import StrEnum
from typing import Self, TypeVar

from services.billing.domain.errors import BadGrouping
from services.billing.domain.period import Period
from shared.values import dataclass


class Dimension(StrEnum):
    """What usage can be grouped by."""

    DAY = "day"
    PROVIDER = "provider"
    MODEL = "model"
    OPERATION = "operation"


D = TypeVar("D", bound=StrEnum)


def dimensions_named(text: str, known: type[D]) -> tuple[D, ...]:
    """The dimensions in a comma-separated list. Raises BadGrouping."""
    names = [name.strip() for name in text.split(",")] if text.strip() else []
    try:
        dimensions = tuple(known(name) for name in names)
    except ValueError as error:
        raise BadGrouping(known) from error
    if len(set(dimensions)) != len(dimensions):
        raise BadGrouping(known)
    return dimensions


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over some entries. `known_cost` covers those whose price is known."""

    requests: int = 0
    unpriced_requests: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    output_reasoning_tokens: int = 0
    characters: int = 0
    known_cost: int = 0

    @property
    def cost(self) -> int | None:
        """The known cost; None when there are requests and not one has a known price."""
        if self.requests and self.unpriced_requests == self.requests:
            return None
        return self.known_cost

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            *(getattr(self, field.name) + getattr(other, field.name) for field in fields(self))
        )


@dataclass(frozen=True, slots=True)
class Group:
    """The sums of one combination of what was grouped by."""

    keys: tuple[tuple[Dimension, str | date], ...]
    sums: Sums


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Usage in whole hours of a period, grouped, and all of it together."""

    period: Period
    groups: Sequence[Group]
    totals: Sums

    @classmethod
    def of(cls, period: Period, groups: Iterable[Group]) -> Self:
        listed = tuple(groups)
        return cls(period, listed, sum((group.sums for group in listed), start=Sums()))
