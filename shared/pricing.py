"""What usage costs by the vendors' public prices (`genai-prices`, whose data come with it).

Its network updater is never started: a price changes with a release, and each price names its
version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from shared.money import MicroDollars, micro_dollars

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

_MILLION = Decimal(1_000_000)

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
# Which price variants the vendor's own word for the tier of service selects.
_TIER_NAMES: Mapping[str, str] = MappingProxyType({"anthropic": "speed"})


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
    counts that contradict each other.
    """
    rates = _rates(
        provider,
        model.removeprefix("models/"),
        at.astimezone(UTC).date(),
        service_tier,
    )
    if rates is None:
        return None
    dollars = rates.cost(usage, characters)
    return None if dollars is None else Priced(micro_dollars(dollars), rates.version)


@dataclass(frozen=True, slots=True)
class _Rate:
    """Dollars per million. Beyond a threshold of input tokens another rate holds for all of them
    (https://github.com/pydantic/genai-prices, "cliff" pricing)."""

    base: Decimal
    steps: tuple[tuple[int, Decimal], ...] = ()  # the highest threshold first

    def at(self, input_tokens: int) -> Decimal:
        for start, rate in self.steps:
            if input_tokens > start:
                return rate
        return self.base


@dataclass(frozen=True, slots=True)
class _Rates:
    """One model's resolved prices. Without a rate of their own, cached tokens are plain input."""

    version: str
    input: _Rate | None
    cache_read: _Rate | None
    cache_write: _Rate | None
    output: _Rate | None
    characters: _Rate | None

    def cost(self, usage: TokenCounts, characters: int) -> Decimal | None:
        """In dollars, exactly as `genai_prices.calc_price` sums it up."""
        total = usage.input_tokens
        uncached = total - usage.cache_read_tokens - usage.cache_write_tokens
        if uncached < 0:
            return None
        dollars = Decimal(0)
        for rate, count in (
            (self.input, uncached),
            (self.cache_read or self.input, usage.cache_read_tokens),
            (self.cache_write or self.input, usage.cache_write_tokens),
            (self.output, usage.output_tokens),
            (self.characters, characters),
        ):
            if not count:
                continue
            if rate is None:
                return None
            dollars += rate.at(total) * count / _MILLION
        return dollars


# A day is as fine as it gets: the vendors' prices change on dates (a test watches the table for
# any that change with the hour).
@lru_cache(maxsize=4096)
def _rates(provider: str, model: str, day: date, service_tier: str | None) -> _Rates | None:
    # Imported here: it takes half a second, and most processes never ask for a price.
    import genai_prices
    from genai_prices.data_snapshot import get_snapshot

    provider_id = _PROVIDER_IDS.get(provider)
    if provider_id is None:
        return None
    try:
        found, info = get_snapshot().find_provider_model(model, None, provider_id, None)
    except LookupError:
        return None
    # Variants are the vendor's own; a model that it only resells has none.
    own = service_tier is not None and any(info is known for known in found.models)
    context = {_TIER_NAMES.get(provider, "service_tier"): service_tier or ""} if own else None
    prices = info.get_prices(datetime.combine(day, time(), UTC), context)
    return _read(prices, f"genai-prices/{genai_prices.__version__}")


def _read(prices: ModelPrice, version: str) -> _Rates:
    return _Rates(
        version=version,
        input=_rate(prices.input_mtok),
        cache_read=_rate(prices.cache_read_mtok),
        cache_write=_rate(prices.cache_write_mtok),
        output=_rate(prices.output_mtok),
        characters=_rate(prices.input_mchars),
    )


def _rate(value: Any) -> _Rate | None:
    if value is None or isinstance(value, Decimal):
        return None if value is None else _Rate(value)
    steps = sorted(((tier.start, tier.price) for tier in value.tiers), reverse=True)
    return _Rate(value.base, tuple(steps))
