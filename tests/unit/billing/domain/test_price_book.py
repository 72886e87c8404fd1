"""Which price holds, and what comes out."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.billing.domain.errors import PriceNotAcceptable
from services.billing.domain.ledger import Counts, Entry, Rating
from services.billing.domain.price_book import (
    MOST_MICROUSD_PER_MILLION,
    PriceBook,
    PriceId,
    PriceOverride,
    UnitPrices,
)
from shared.events.usage import MOST_UNITS
from shared.ids import UserId, uuid7
from shared.money import MicroDollars
from tests.support.billing import NOON, FixedPrices, a_price, a_speech, an_entry

HOUR = timedelta(hours=1)
COUNT = st.integers(0, MOST_UNITS)
PRICE = st.integers(0, MOST_MICROUSD_PER_MILLION)


def test_each_class_costs_its_price() -> None:
    prices = UnitPrices(input=2_000_000, cache_read=100_000, cache_write=2_500_000, output=10**7)
    counts = Counts(
        input_tokens=1700, cache_read_tokens=1000, cache_write_tokens=500, output_tokens=350
    )
    assert prices.cost(counts) == 5250


def test_cached_tokens_without_a_price_cost_what_plain_ones_do() -> None:
    prices = UnitPrices(input=1_000_000)
    counts = Counts(input_tokens=1000, cache_read_tokens=300, cache_write_tokens=300)
    assert prices.cost(counts) == 1000


def test_a_price_of_zero_is_a_price() -> None:
    prices = UnitPrices(input=5_000_000, cache_read=0, unit=0)
    million = 1_000_000
    counts = Counts(input_tokens=million, cache_read_tokens=million, units=million)
    assert prices.cost(counts) == 0


def test_what_a_meter_counts_costs_its_own_price_beside_the_rest() -> None:
    assert UnitPrices(unit=300).cost(Counts(units=2)) == 600
    both = UnitPrices(characters=500_000, unit=300)
    assert both.cost(Counts(characters=2, units=1)) == 301
    assert UnitPrices(characters=500_000).cost(Counts(units=1)) is None
    assert UnitPrices(characters=500_000).cost(Counts(characters=2)) == 1


@pytest.mark.parametrize(
    "counts",
    [
        Counts(input_tokens=10, output_tokens=1),
        Counts(characters=1),
        Counts(input_tokens=10, cache_read_tokens=11),
    ],
)
def test_what_has_no_price_or_no_sense_is_unknown(counts: Counts) -> None:
    assert UnitPrices(input=1_000_000).cost(counts) is None


def test_half_a_micro_dollar_goes_to_the_even_one() -> None:
    prices = UnitPrices(characters=500_000)
    assert [prices.cost(Counts(characters=n)) for n in (1, 3, 5)] == [0, 2, 2]


@given(COUNT, COUNT, COUNT, COUNT, PRICE)
def test_no_cost_is_beyond_64_bits(a: int, b: int, c: int, d: int, price: int) -> None:
    prices = UnitPrices(*[price] * 5)
    cost = prices.cost(Counts(a, min(a, b), 0, c, 0, d))
    assert cost is not None
    assert 0 <= cost < 2**63


def spoken(at_hour: int) -> Entry:
    return Entry.reported(a_speech(at=NOON + at_hour * HOUR))


def test_an_override_holds_from_its_moment_until_the_next_one() -> None:
    first = a_price(since=NOON, characters=50_000_000)
    second = a_price(since=NOON + 2 * HOUR, characters=80_000_000)
    book = PriceBook.of(FixedPrices(), [second, first])
    assert book.rate(spoken(-1)) is None
    assert book.rate(spoken(0)) == Rating(MicroDollars(50_000), first.version)
    assert book.rate(spoken(1)) == Rating(MicroDollars(50_000), first.version)
    assert book.rate(spoken(2)) == Rating(MicroDollars(80_000), second.version)


def test_a_rating_names_the_override_that_it_comes_from() -> None:
    override = a_price(since=NOON, characters=50_000_000)
    rating = PriceBook.of(FixedPrices(), [override]).rate(spoken(0))
    assert rating is not None
    assert rating.price_version == f"override/{override.id}"


def test_an_override_wins_over_the_list_from_its_moment_on() -> None:
    override = a_price("openai", "gpt-6-luna", since=NOON, input=10**6, output=10**6)
    book = PriceBook.of(FixedPrices(gpt_6_luna=205), [override])
    assert book.rate(an_entry(at=NOON - HOUR)) == Rating(MicroDollars(205), "list/1")
    assert book.rate(an_entry(at=NOON)) == Rating(MicroDollars(1550), override.version)


def test_an_override_that_lacks_a_class_does_not_fall_back_to_the_list() -> None:
    override = a_price("openai", "gpt-6-luna", since=NOON, input=10**6)
    book = PriceBook.of(FixedPrices(gpt_6_luna=205), [override])
    assert book.rate(an_entry(at=NOON)) is None


def test_an_override_is_for_its_own_model_only() -> None:
    book = PriceBook.of(FixedPrices(), [a_price("openai", "gpt-6.2-sol", since=NOON, input=1)])
    assert book.rate(spoken(1)) is None


def test_a_price_prices_something() -> None:
    with pytest.raises(PriceNotAcceptable):
        PriceOverride.set(
            PriceId(uuid7()),
            ("openai", "gpt"),
            UnitPrices(),
            effective_from=NOON,
            by=UserId(uuid7()),
            at=NOON,
        )
