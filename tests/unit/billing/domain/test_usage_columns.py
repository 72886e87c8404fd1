"""Usage in columns costs what it costs line by line, and is recorded as line by line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.billing.actions.record_usage import RecordUsage
from services.billing.domain.ledger import Entry, Rating
from services.billing.domain.price_book import Model, PriceBook, Tariff
from services.billing.domain.usage_columns import UsageColumns
from services.billing.providers.list_prices import PublicPrices
from shared.events import Fact
from shared.events.usage import UsageRecorded
from shared.money import MicroDollars
from tests.support.billing import EPOCH, FixedPrices, Memory, a_price, a_speech, a_usage


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 10**12), min_size=5, max_size=5), st.booleans())
def test_a_batch_costs_what_its_entries_cost_one_by_one(
    counts: list[int], overridden: bool
) -> None:
    total, read, written_, output, characters = counts
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)
    override = a_price("openai", "gpt-6-luna", since=noon, input=3, output=7, cache_read=0)
    book = PriceBook.of(PublicPrices(), [override] if overridden else [])
    facts = [
        a_usage(
            model=model,
            at=noon.replace(hour=hour),
            input_tokens=total,
            cache_read_tokens=min(read, total),
            cache_write_tokens=min(written_, total),
            output_tokens=output,
        )
        for model in ("gpt-6-luna", "gpt-6.1-sol", "no-such-model")
        for hour in (11, 12, 13)
    ] + [a_speech(characters=characters)]
    entries = [Entry.reported(fact) for fact in facts]
    ratings = [book.rate(entry) for entry in entries]
    rated = UsageColumns.of(entries).rated(book)
    assert list(rated.cost_microusd) == [one.cost if one else None for one in ratings]
    assert list(rated.price_version) == [one.price_version if one else None for one in ratings]


def test_numbers_of_several_streams_come_as_runs_without_a_gap() -> None:
    other = UUID(int=7)
    facts = [a_usage(sequence=n) for n in (1, 2, 3, 5)]
    facts += [a_usage(sequence=6, epoch=other), a_usage(sequence=6), a_usage()]
    runs = UsageColumns.of([Entry.reported(fact) for fact in facts]).runs
    assert [(run.epoch, run.first, run.last) for run in runs] == [
        (str(EPOCH), 1, 3),
        (str(EPOCH), 5, 5),
        (str(other), 6, 6),
        (str(EPOCH), 6, 6),
    ]


@pytest.mark.parametrize(
    ("numbers", "runs"),
    [
        ((7,), [(7, 7)]),
        ((4, 5, 6), [(4, 6)]),
        ((4, 6, 5), [(4, 4), (6, 6), (5, 5)]),
        ((4, 5, 5), [(4, 5), (5, 5)]),
        ((4, 5, None), [(4, 5)]),
        ((None, 4, 5), [(4, 5)]),
        ((None,), []),
    ],
)
def test_numbers_of_one_stream_come_as_runs_too(
    numbers: tuple[int | None, ...], runs: list[tuple[int, int]]
) -> None:
    entries = [Entry.reported(a_usage(sequence=number)) for number in numbers]
    found = UsageColumns.of(entries).runs
    assert [(run.first, run.last) for run in found] == runs
    assert {run[:3] for run in found} <= {("chat", str(EPOCH), "usage.recorded.free")}


@pytest.mark.parametrize("other", [{"producer": "voice"}, {"epoch": UUID(int=7)}, {"tier": "pro"}])
def test_numbers_that_go_on_in_another_stream_are_two_runs(other: dict[str, Any]) -> None:
    facts = [a_usage(sequence=1), a_usage(**{"sequence": 2} | other)]
    runs = UsageColumns.of([Entry.reported(fact) for fact in facts]).runs
    assert [(run.first, run.last) for run in runs] == [(1, 1), (2, 2)]
    assert runs[0][:3] != runs[1][:3]


def test_a_batch_over_midnight_has_the_prices_of_both_days() -> None:
    midnight = datetime(2026, 11, 25, tzinfo=UTC)
    moments = [midnight + timedelta(microseconds=step) for step in (-1, 0, 1, -2)]
    usage = UsageColumns.of([Entry.reported(a_usage(at=moment)) for moment in moments])
    rated = usage.rated(PriceBook.of(_DayPrices(), []))
    assert list(rated.price_version) == ["24", "25", "25", "24"]
    assert list(rated.cost_microusd) == [24, 25, 25, 24]


_MIDNIGHTS = [datetime(2026, 11, day, tzinfo=UTC) for day in (24, 25)]
_moments = st.builds(
    lambda midnight, step: midnight + timedelta(microseconds=step),
    st.sampled_from(_MIDNIGHTS),
    st.sampled_from([-1, 0, 1, 43_200_000_000]),
)
_calls = st.builds(
    a_usage,
    at=_moments,
    model=st.sampled_from(["gpt-6-luna", "gpt-6.1-sol"]),
    service_tier=st.sampled_from([None, "flex", "nobodys"]),
    cached=st.booleans(),
    input_tokens=st.sampled_from([0, 7]),
    cache_read_tokens=st.just(0),
    output_tokens=st.sampled_from([0, 5]),
    output_reasoning_tokens=st.sampled_from([0, 5]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(_calls, min_size=1, max_size=6), st.lists(_moments, max_size=3, unique=True))
def test_prices_hold_from_the_same_moment_on_either_way(
    facts: list[Fact[UsageRecorded]], changes: list[datetime]
) -> None:
    """At midnight and within a day, with prices of the operator's and without, over days."""
    overrides = [
        a_price("openai", "gpt-6-luna", since=since, input=number)
        if number % 2
        else a_price("openai", "gpt-6-luna", since=since, input=number, output=number)
        for number, since in enumerate(changes, 1)
    ]
    book = PriceBook.of(_ByDayAndTier(), overrides)
    entries = [Entry.reported(fact) for fact in facts]
    ratings = [book.rate(entry) for entry in entries]
    rated = UsageColumns.of(entries).rated(book)
    assert list(rated.cost_microusd) == [one.cost if one else None for one in ratings]
    assert list(rated.price_version) == [one.price_version if one else None for one in ratings]


@dataclass(frozen=True)
class _DayTariff:
    version: str

    def cost(self, *_used: int) -> MicroDollars:
        return MicroDollars(int(self.version))


class _ByDayAndTier(PublicPrices):
    """Another one each day; none of one of the tiers."""

    def tariff(self, model: Model, service_tier: str | None, at: datetime) -> Tariff | None:
        return None if service_tier == "nobodys" else _DayTariff(f"{at.day}")

    def rate(self, entry: Entry) -> Rating | None:
        tariff = self.tariff((entry.provider, entry.model), entry.service_tier, entry.occurred_at)
        return Rating(tariff.cost(), tariff.version) if isinstance(tariff, _DayTariff) else None


class _DayPrices(PublicPrices):
    def tariff(self, model: Model, service_tier: str | None, at: datetime) -> Tariff:
        assert (at.hour, at.tzinfo) == (0, UTC)
        return _DayTariff(str(at.day))


async def test_usage_taken_together_is_recorded_as_when_taken_one_by_one() -> None:
    facts = [a_usage(at=datetime(2026, 11, 24, 12, tzinfo=UTC)) for _ in range(5)] + [a_speech()]
    usage = UsageColumns.of([Entry.reported(fact) for fact in facts])
    together, alone = Memory(), Memory()
    prices = FixedPrices(gpt_6_luna=205)
    assert await RecordUsage(together.work, prices).together(usage) == 6
    assert await RecordUsage(alone.work, prices)(facts) == 6
    assert together.entries == alone.entries
    assert await RecordUsage(together.work, prices).together(usage) == 0


def test_what_is_cached_is_rated_at_nothing_either_way_but_only_if_nothing_was_used() -> None:
    book = PriceBook.of(PublicPrices(), [])
    facts = [
        a_speech(characters=0, cached=True),
        a_speech(cached=True),  # says that it is, and that something was used
    ]
    entries = [Entry.reported(fact) for fact in facts]
    together = UsageColumns.of(entries).rated(book)
    assert list(together.cost_microusd) == [0, None]
    ratings = [book.rate(entry) for entry in entries]
    assert [rating and rating.cost for rating in ratings] == [0, None]
    alone = [rating and rating.price_version for rating in ratings]
    assert list(together.price_version) == alone == ["cached/1", None]
