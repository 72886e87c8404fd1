"""Prices are set once, and rate what waits."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import count
from uuid import uuid4

import pytest

from services.billing.actions import rate_unpriced_usage
from services.billing.actions._pace import Rhythm
from services.billing.actions.rate_unpriced_usage import RateUnpricedUsage
from services.billing.actions.set_price import SetPrice
from services.billing.domain.errors import PriceExists
from services.billing.domain.ledger import Entry
from services.billing.domain.price_book import UnitPrices
from shared.ids import UserId
from tests.support.billing import (
    NOON,
    FixedPrices,
    Memory,
    StoppedClock,
    a_price,
    a_speech,
    an_entry,
)

STAFF = UserId(uuid4())
MODEL = ("elevenlabs", "eleven_flash_v2_5")
DAY = timedelta(days=1)


def holding(*entries: Entry) -> Memory:
    return Memory({entry.event_id: entry for entry in entries})


def spoken(at_day: int = 0, **facts: object) -> Entry:
    return Entry.reported(a_speech(at=NOON + at_day * DAY, **facts))


def rating(memory: Memory, prices: FixedPrices | None = None) -> RateUnpricedUsage:
    return RateUnpricedUsage(memory.work, prices or FixedPrices(), StoppedClock())


async def rated_in_two_pages(memory: Memory) -> int:
    """Each look at the stopwatch is a second later, so that there is time for two."""
    seconds, rests = count(), []

    async def rest(seconds: float) -> None:
        rests.append(seconds)

    rhythm = Rhythm(lambda: next(seconds), rest)
    rated = await replace(rating(memory), rhythm=rhythm)(within=timedelta(seconds=3))
    assert rests == [1]  # as long as the first took
    return rated


async def test_a_price_holds_from_now_on_unless_told_otherwise() -> None:
    memory = Memory()
    price = await SetPrice(memory.work, StoppedClock())(
        MODEL, UnitPrices(characters=1), effective_from=None, by=STAFF
    )
    assert (price.effective_from, price.set_by) == (NOON, STAFF)
    earlier = await SetPrice(memory.work, StoppedClock())(
        MODEL, UnitPrices(characters=1), effective_from=NOON - DAY, by=STAFF
    )
    assert (earlier.effective_from, earlier.set_at) == (NOON - DAY, NOON)
    assert memory.overrides == [price, earlier]


async def test_a_price_is_never_replaced() -> None:
    memory = Memory(overrides=[a_price(since=NOON)])
    with pytest.raises(PriceExists):
        await SetPrice(memory.work, StoppedClock())(
            MODEL, UnitPrices(characters=1), effective_from=NOON, by=STAFF
        )
    assert len(memory.overrides) == 1


async def test_what_waits_is_rated_once_there_is_a_price() -> None:
    entry = spoken()
    memory = holding(entry)
    assert await rating(memory)() == 0
    memory.overrides.append(a_price(since=NOON - DAY))
    assert await rating(memory)() == 1
    rated = memory.entries[entry.event_id].rating
    assert rated is not None
    assert rated.cost == 50_000


async def test_a_new_public_price_rates_what_waits_too() -> None:
    memory = holding(an_entry(model="gpt-6.2-sol"))
    assert await rating(memory, FixedPrices(gpt_6_luna=1))() == 0
    prices = FixedPrices()
    prices.costs["gpt-6.2-sol"] = 9
    assert await rating(memory, prices)() == 1


async def test_what_happened_before_the_price_goes_on_waiting() -> None:
    early, late = spoken(-2), spoken(0)
    memory = holding(early, late)
    memory.overrides.append(a_price(since=NOON - DAY))
    assert await rating(memory)() == 1
    assert memory.entries[early.event_id].rating is None


async def test_what_waits_is_rated_by_the_price_of_its_time_and_not_by_the_newest() -> None:
    entry = spoken(-1)
    memory = holding(entry)
    memory.overrides += [a_price(since=NOON - 2 * DAY), a_price(since=NOON, characters=1)]
    assert await rating(memory)() == 1
    rated = memory.entries[entry.event_id].rating
    assert rated is not None
    assert rated.cost == 50_000


async def test_what_a_public_price_is_known_of_waits_for_no_price_of_the_operators() -> None:
    early = an_entry(at=NOON - 2 * DAY)
    memory = holding(early)
    memory.overrides.append(a_price("openai", "gpt-6-luna", since=NOON - DAY, input=1, output=1))
    assert await rating(memory, FixedPrices(gpt_6_luna=205))() == 1
    rated = memory.entries[early.event_id].rating
    assert rated is not None
    assert rated.cost == 205


async def test_a_rating_stands_when_another_price_comes() -> None:
    memory = holding(spoken())
    memory.overrides.append(a_price(since=NOON - DAY))
    await rating(memory)()
    before = dict(memory.entries)
    memory.overrides.append(a_price(since=NOON - DAY / 2, characters=1))
    assert await rating(memory)() == 0
    assert memory.entries == before


async def test_models_take_turns_by_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_unpriced_usage, "PAGE", 2)
    many = [an_entry(model="gpt-6-luna") for _ in range(9)]
    few = an_entry(model="gpt-6.2-sol")
    memory = holding(*many, few)
    prices = FixedPrices(gpt_6_luna=1)
    prices.costs["gpt-6.2-sol"] = 9
    seconds = count()

    async def rest(_seconds: float) -> None:
        return None

    rhythm = Rhythm(lambda: next(seconds), rest)
    assert await replace(rating(memory, prices), rhythm=rhythm)(within=timedelta(seconds=3)) == 3
    assert memory.entries[few.event_id].rating is not None


async def test_models_without_any_price_are_not_looked_through() -> None:
    memory = holding(*(spoken() for _ in range(5)))
    await rating(memory)()
    assert memory.units_of_work == 1


async def test_each_run_is_bounded_and_the_next_one_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate_unpriced_usage, "PAGE", 2)
    # The first four lack a price for what they used, and must not block those behind them.
    stuck = [spoken(output_tokens=1) for _ in range(4)]
    fine = [spoken() for _ in range(3)]
    memory = holding(*stuck, *fine)
    memory.overrides.append(a_price(since=NOON - DAY))
    rated = []
    for _ in range(4):
        before = memory.units_of_work
        rated.append(await rated_in_two_pages(memory))
        assert memory.units_of_work - before <= 1 + 2  # to look what waits, and the pages
    assert sum(rated) == 3
    assert all(memory.entries[entry.event_id].rating is None for entry in stuck)


async def test_one_model_that_waits_leaves_the_others_their_turn() -> None:
    # Its price lacks what was used, and it comes before the other by name.
    stuck, fine = spoken(output_tokens=1), an_entry(at=NOON, model="gpt-6.2-sol")
    memory = holding(stuck, fine)
    memory.overrides.append(a_price(since=NOON - DAY))
    memory.overrides.append(a_price("openai", "gpt-6.2-sol", since=NOON - DAY, input=1, output=1))
    assert await rated_in_two_pages(memory) == 1
    assert memory.entries[fine.event_id].rating is not None
    assert memory.entries[stuck.event_id].rating is None
