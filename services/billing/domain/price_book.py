"""What usage costs: the operator's own prices first, then the vendors' public ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NewType, Protocol, Self
from uuid import UUID

from services.billing.domain.errors import PriceNotAcceptable
from services.billing.domain.ledger import Counts, Entry, Rating
from shared.ids import UserId
from shared.money import MicroDollars, rounded
from shared.values import dataclass

PriceId = NewType("PriceId", UUID)
Model = tuple[str, str]  # provider and the vendor's id of the model

MOST_MICROUSD_PER_MILLION = 10**10
MOST_UNIT_MICROUSD = 10**9
_MILLION = 1_000_000
# What was answered from what the user had before, whatever a model costs, and known or not.
CACHED = Rating(MicroDollars(0), "cached/1")
_NOTHING = Counts()


@dataclass(frozen=True, slots=True)
class UnitPrices:
    """Micro-dollars per million tokens of a class, per million characters, and per single unit of
    a meter outside the suite.

    Cached input without a price of its own costs what plain input costs. Any other class without a
    price is unknown.
    """

    input: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    output: int | None = None
    characters: int | None = None
    unit: int | None = None

    def cost(self, counts: Counts) -> MicroDollars | None:
        """None when a class was used that has no price, or when the counts contradict."""
        uncached = counts.input_tokens - counts.cache_read_tokens - counts.cache_write_tokens
        if uncached < 0:
            return None
        total = 0
        for price, count in (
            (self.input, uncached),
            (_either(self.cache_read, self.input), counts.cache_read_tokens),
            (_either(self.cache_write, self.input), counts.cache_write_tokens),
            (self.output, counts.output_tokens),
            (self.characters, counts.characters),
        ):
            if count and price is None:
                return None
            total += count * (price or 0)
        if counts.units and self.unit is None:
            return None
        units = counts.units * (self.unit or 0)
        return MicroDollars(rounded(total, _MILLION) + units)


def _either(own: int | None, other: int | None) -> int | None:
    return other if own is None else own


@dataclass(frozen=True, slots=True)
class PriceOverride:
    """The operator's price of one model from a moment on, until a later one takes its place."""

    id: PriceId
    provider: str
    model: str
    effective_from: datetime
    prices: UnitPrices
    set_by: UserId
    set_at: datetime

    @classmethod
    def set(
        cls,
        id_: PriceId,
        model: Model,
        prices: UnitPrices,
        *,
        effective_from: datetime,
        by: UserId,
        at: datetime,
    ) -> Self:
        """A new price. Raises PriceNotAcceptable when it prices nothing."""
        if prices == UnitPrices():
            raise PriceNotAcceptable
        return cls(id_, *model, effective_from, prices, by, at)

    @property
    def version(self) -> str:
        return f"override/{self.id}"

    def cost(
        self, total: int, cache_read: int, cache_write: int, output: int, characters: int, /
    ) -> MicroDollars | None:
        return self.prices.cost(
            Counts(total, cache_read, cache_write, output, characters=characters)
        )

    def rate(self, counts: Counts) -> Rating | None:
        """The rating by this price; None when it lacks a class that was used."""
        cost = self.prices.cost(counts)
        return None if cost is None else Rating(cost, self.version)


class Tariff(Protocol):
    """What the units of one model cost at a moment."""

    @property
    def version(self) -> str: ...

    def cost(
        self, total: int, cache_read: int, cache_write: int, output: int, characters: int, /
    ) -> MicroDollars | None:
        """What that much costs (`total` is all input); None when it is unknown."""
        ...


class ListPrices(Protocol):
    """The vendors' public prices."""

    def tariff(self, model: Model, service_tier: str | None, at: datetime) -> Tariff | None:
        """One for the whole day; None when there is none."""
        ...

    def rate(self, entry: Entry) -> Rating | None:
        """None when the price is unknown."""
        ...

    def knows(self, model: Model, at: datetime) -> bool:
        """Whether there is any price for this model at that time."""
        ...


@dataclass(frozen=True, slots=True)
class PriceBook:
    """The prices that some entries need."""

    list_prices: ListPrices
    overrides: Mapping[Model, Sequence[PriceOverride]]  # the newest first

    @classmethod
    def of(cls, list_prices: ListPrices, overrides: Iterable[PriceOverride]) -> Self:
        by_model: dict[Model, list[PriceOverride]] = {}
        for override in sorted(overrides, key=lambda o: o.effective_from, reverse=True):
            by_model.setdefault((override.provider, override.model), []).append(override)
        return cls(list_prices, by_model)

    def rate(self, entry: Entry) -> Rating | None:
        """By the price that was in effect when the call was made.

        An override that lacks a class leaves the entry unknown: the public price was replaced.
        """
        if entry.cached and entry.counts == _NOTHING:
            return CACHED
        of_model = self.overrides.get((entry.provider, entry.model), ())
        for override in of_model:
            if override.effective_from <= entry.occurred_at:
                return override.rate(entry.counts)
        return self.list_prices.rate(entry)

    def tariff(self, model: Model, service_tier: str | None, at: datetime) -> Tariff | None:
        """The same for all calls of a model at a moment: for many of them at once."""
        for override in self.overrides.get(model, ()):
            if override.effective_from <= at:
                return override
        return self.list_prices.tariff(model, service_tier, at)
