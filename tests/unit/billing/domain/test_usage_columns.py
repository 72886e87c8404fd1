"""Usage in columns costs what it costs line by line, and is recorded as line by line."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from services.billing.actions.record_usage import RecordUsage
from services.billing.domain.ledger import Entry
from services.billing.domain.price_book import PriceBook
from services.billing.domain.usage_columns import UsageColumns
from services.billing.providers.list_prices import PublicPrices
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
