"""What usage costs by the vendors' public prices (`genai-prices`, whose data come with it).

Its network updater is never started: a price changes with a release, and each price names its
version.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from shared.money import MicroDollars, rounded
from shared.values import dataclass

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

# Our name of a vendor and that of the price table. Others are unknown on purpose: the table would
# match a provider by a part of its name.
_PROVIDER_IDS: Mapping[str, str] = MappingProxyType(
    {
        "openai": "openai",
        "anthropic": "anthropic",
        "gemini": "google",
        "elevenlabs": "elevenlabs",
    }
)
# Engines that run on our own machines: no vendor is paid, which is a price, and not an unknown one.
_OWN_ENGINES = frozenset({"espeak-ng"})
# Which price variants the vendor's own word for the tier of service selects.
_TIER_NAMES: Mapping[str, str] = MappingProxyType({"anthropic": "speed"})
# What everything costs, in hundredths, where it had to run in one part of the world. The table
# knows none of it: https://platform.claude.com/docs/en/manage-claude/data-residency
_PLACES: Mapping[tuple[str, str], int] = MappingProxyType({("anthropic", "us"): 110})


class TokenCounts(Protocol):
    """Counts of one call: `input_tokens` is the total and includes the cached ones,
    `output_tokens` includes reasoning."""

    @property
    def input_tokens(self) -> int: ...
    @property
    def cache_read_tokens(self) -> int: ...
    @property
    def cache_write_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Priced:
    """A cost and the price list that it comes from."""

    cost: MicroDollars
    version: str


def price(
    provider: str,
    model: str,
    usage: TokenCounts,
    at: datetime,
    service_tier: str | None = None,
    *,
    characters: int = 0,
) -> Priced | None:
    """The cost of one call that began at `at` (aware); None when it is unknown, never zero for it.

    Unknown are a model that is not in the price table, counts of a kind it has no price for, and
    counts that contradict each other. A `service_tier` may name a place behind a slash ("fast/us").
    """
    rates = rates_of(provider, model, at, service_tier)
    if rates is None:
        return None
    cost = rates.cost(
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        characters,
    )
    return None if cost is None else Priced(cost, rates.version)


def rates_of(provider: str, model: str, at: datetime, service_tier: str | None) -> Rates | None:
    """What the units of a model cost at a moment (aware); None when that is unknown."""
    if provider in _OWN_ENGINES:
        return _NOTHING
    return _rates(provider, model.removeprefix("models/"), at.astimezone(UTC).date(), service_tier)


@dataclass(frozen=True, slots=True)
class _Rate:
    """Dollars per million, and so micro-dollars for one, in whole parts of its `Rates.parts`.

    Beyond a threshold of input tokens another rate holds for all of them
    (https://github.com/pydantic/genai-prices, "cliff" pricing)."""

    base: int
    steps: tuple[tuple[int, int], ...] = ()  # the highest threshold first

    def at(self, input_tokens: int) -> int:
        for start, rate in self.steps:
            if input_tokens > start:
                return rate
        return self.base


@dataclass(frozen=True, slots=True)
class Rates:
    """One model's resolved prices. Without a rate of their own, cached tokens are plain input.

    `parts`: in how many parts a micro-dollar is cut, so that every rate is a whole number of them.
    """

    version: str
    parts: int
    input: _Rate | None
    cache_read: _Rate | None
    cache_write: _Rate | None
    output: _Rate | None
    characters: _Rate | None
    # Of most calls, which are below any threshold and have no characters.
    _usual: tuple[int, int, int, int] | None = field(init=False, repr=False, compare=False)
    _usual_up_to: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rates = (*self._inputs, self.output)
        known = [rate for rate in rates if rate is not None]
        steps = [start for rate in known for start, _ in rate.steps]
        usual = tuple(rate.base for rate in known) if len(known) == len(rates) else None
        object.__setattr__(self, "_usual", usual)
        object.__setattr__(self, "_usual_up_to", min(steps, default=math.inf))

    @property
    def _inputs(self) -> tuple[_Rate | None, _Rate | None, _Rate | None]:
        return self.input, self.cache_read or self.input, self.cache_write or self.input

    def cost(
        self, total: int, cache_read: int, cache_write: int, output: int, characters: int
    ) -> MicroDollars | None:
        """As `genai_prices.calc_price` sums it up, exactly, and then rounded half to even."""
        uncached = total - cache_read - cache_write
        if uncached < 0:
            return None
        if self._usual and not characters and total <= self._usual_up_to:
            # A worker asks for the cost of each of hundreds of calls.
            input_, read, write, written = self._usual
            sum_ = uncached * input_ + cache_read * read + cache_write * write + output * written
            return rounded(sum_, self.parts)
        sum_ = 0
        rates = (*self._inputs, self.output, self.characters)
        counts = (uncached, cache_read, cache_write, output, characters)
        for rate, count in zip(rates, counts, strict=True):
            if not count:
                continue
            if rate is None:
                return None
            sum_ += (rate.at(total) if rate.steps else rate.base) * count
        return rounded(sum_, self.parts)


_FREE = _Rate(0)
_NOTHING = Rates("own-engine/1", 1, _FREE, _FREE, _FREE, _FREE, _FREE)


# A day is as fine as it gets: the vendors' prices change on dates (a test watches the table for
# any that change with the hour).
@lru_cache(maxsize=4096)
def _rates(provider: str, model: str, day: date, service_tier: str | None) -> Rates | None:
    # Imported here: it takes half a second, and most processes never ask for a price.
    import genai_prices
    from genai_prices.data_snapshot import get_snapshot

    provider_id = _PROVIDER_IDS.get(provider)
    if provider_id is None:
        return None
    tier, _, place = (service_tier or "").partition("/")
    hundredths = _PLACES.get((provider, place)) if place else 100
    if hundredths is None:
        return None
    try:
        found, info = get_snapshot().find_provider_model(model, None, provider_id, None)
    except LookupError:
        return None
    # Variants are the vendor's own; a model that it only resells has none.
    own = service_tier is not None and any(info is known for known in found.models)
    context = {_TIER_NAMES.get(provider, "service_tier"): tier} if own else None
    prices = info.get_prices(datetime.combine(day, time(), UTC), context)
    version = f"genai-prices/{genai_prices.__version__}"
    return _read(prices, f"{version}/{place}" if place else version, hundredths)


def _read(prices: ModelPrice, version: str, hundredths: int) -> Rates:
    given = {
        "input": prices.input_mtok,
        "cache_read": prices.cache_read_mtok,
        "cache_write": prices.cache_write_mtok,
        "output": prices.output_mtok,
        "characters": prices.input_mchars,
    }
    parts = 10 ** max([_places(rate) for value in given.values() for rate in _all_of(value)] + [0])
    rates = (_rate(value, parts * hundredths) for value in given.values())
    return Rates(version, parts * 100, *rates)


def _all_of(value: Any) -> list[Decimal]:
    if value is None or isinstance(value, Decimal):
        return [] if value is None else [value]
    return [value.base, *(tier.price for tier in value.tiers)]


def _places(rate: Decimal) -> int:
    return max(0, -int(rate.as_tuple().exponent))


def _rate(value: Any, parts: int) -> _Rate | None:
    if value is None or isinstance(value, Decimal):
        return None if value is None else _Rate(int(value * parts))
    steps = sorted(((tier.start, int(tier.price * parts)) for tier in value.tiers), reverse=True)
    return _Rate(int(value.base * parts), tuple(steps))
