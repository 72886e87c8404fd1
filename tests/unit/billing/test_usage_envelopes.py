"""Reading usage column by column says what reading it event by event says, or nothing at all."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.billing.actions.record_usage import RecordUsage
from services.billing.domain.errors import UsageNotAcceptable
from services.billing.domain.ledger import Entry
from services.billing.domain.price_book import PriceBook
from services.billing.domain.usage_columns import UsageColumns
from services.billing.providers.list_prices import PublicPrices
from services.billing.tasks.usage_envelopes import read_columns
from services.chat.actions.settle_turn import usage_facts
from services.chat.domain.turn import Outcome, Settlement
from services.chat.domain.usage import Usage
from shared.ids import EventId, uuid7
from shared.messaging import batch as batches
from tests.support.billing import EPOCH, FixedPrices, Memory, a_price, a_speech, a_usage
from tests.support.chat_calls import a_hold

MISSING = object()
# What a careless or hostile producer might write, at any place of an envelope.
STRANGE: Sequence[Any] = (
    *(None, True, False, 0, 1, -1, 5.0, 1.5, 10**12, 10**12 + 1, 2**62, 2**62 - 1, 10**20, 1e400),
    *("", " ", "1", "-5", "true", "x" * 101, "x" * 201, "x" * 301, "1.0", "2.0", "chat", "done"),
    *("a,b", "{}", '"', "\\", "NULL", "None", "\u0663", "\u00e9", "\u0000", "usage.voided"),
    *("2026-11-24", "2026-11-24T12:00:00", "2026-11-24T12:00:00Z", "2026-11-24T12:00:00+00:00"),
    *("2026-02-30T12:00:00+00:00", "2026-11-24T24:00:00+00:00", "2026-11-24T23:59:60+00:00"),
    *("0000-01-01T00:00:00+00:00", "0001-01-01T00:00:00+00:00", "9999-12-31T00:00:00+00:00"),
    *("2026-11-24T12:00:00.123+00:00", "2026-11-24T12:00:00.123456+01:00", "1764000000"),
    *("019a0000-0000-7000-8000-000000000000", "019A0000-0000-7000-8000-000000000000"),
    *("019a0000000070008000000000000000", "{019a0000-0000-7000-8000-000000000000}"),
    *("019a0000-0000-4000-8000-000000000000", "019a0000-0000-7000-0000-000000000000"),
    *([], {}, [1], {"a": 1}, MISSING),
)
ENVELOPE = tuple(a_usage(sequence=1).to_wire())
DATA = tuple(a_usage().to_wire()["data"])
PLACES = [(name,) for name in (*ENVELOPE, "traceparent", "unheard")] + [
    ("data", name) for name in (*DATA, "unheard")
]


def one_by_one(envelopes: Sequence[Any]) -> UsageColumns | None:
    """The same batch by the schema; None when something in it is refused."""
    facts, dead = batches.read(envelopes)
    if dead or any(fact.event.type != "usage.recorded" for fact in facts):
        return None
    try:
        return UsageColumns.of([Entry.reported(fact) for fact in facts])  # type: ignore[arg-type]
    except UsageNotAcceptable:
        return None


def same(one: UsageColumns, other: UsageColumns) -> bool:
    def values(usage: UsageColumns) -> list[Any]:
        columns = [list(getattr(usage, name)) for name in UsageColumns.__slots__]
        times = UsageColumns.__slots__.index("occurred_at")
        columns[times] = [datetime.fromisoformat(at) for at in columns[times]]
        return columns

    return values(one) == values(other)


def written(*places: tuple[Any, ...], value: Any) -> list[dict[str, Any]]:
    """A batch of four good events of which one has another value at some places."""
    batch = [a_usage(sequence=n, session_id=uuid4()).to_wire() for n in (1, 2, 4)]
    batch.append(a_speech(provider_request_id="it's {, \"").to_wire() | {"producerseq": 9})
    batch[3]["producerepoch"] = str(EPOCH)
    batch[3]["source"] = "chat"
    for *path, name in places:
        spot: Any = batch[1]
        for step in path:
            spot = spot[step] if isinstance(spot, dict) and isinstance(spot.get(step), dict) else {}
        if value is MISSING:
            spot.pop(name, None)
        else:
            spot[name] = deepcopy(value)
    return batch


def test_what_our_producers_write_is_read_in_columns() -> None:
    envelopes = [a_usage(sequence=n).to_wire() for n in range(1, 40)]
    columns, rows = read_columns(envelopes), one_by_one(envelopes)
    assert columns is not None
    assert rows is not None
    assert same(columns, rows)
    assert [(run.first, run.last) for run in columns.runs] == [(1, 39)]


@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_any_strange_value_is_read_as_the_schema_reads_it_or_left_to_it(
    place: tuple[str, ...],
) -> None:
    for value in STRANGE:
        batch = written(place, value=value)
        columns = read_columns(batch)
        if columns is not None:
            rows = one_by_one(batch)
            assert rows is not None, value
            assert same(columns, rows), value


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(PLACES), max_size=3),
    st.one_of(st.text(max_size=310), st.integers(), st.floats(), st.datetimes().map(str)),
)
def test_the_two_ways_of_reading_never_differ(places: list[tuple[str, ...]], value: Any) -> None:
    batch = written(*places, value=value)
    columns = read_columns(batch)
    if columns is not None:
        rows = one_by_one(batch)
        assert rows is not None
        assert same(columns, rows)


@pytest.mark.parametrize("batch", [[], [{}], [None], ["text"], [1], [[]], [{"data": []}]])
def test_what_is_no_batch_of_envelopes_is_left_to_the_schema(batch: list[Any]) -> None:
    assert read_columns(batch) is None


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


def test_each_call_that_chat_tells_of_is_taken() -> None:
    aside = Usage(input_tokens=90_000, output_tokens=3_000)
    usage = Usage(input_tokens=200_000, output_tokens=6_700, asides=(aside, aside))
    hold = a_hold(usage_event_id=EventId(uuid7()))
    settlement = Settlement(Outcome.DONE, "", usage, "anthropic", "claude-haiku-5-5", "msg_1", 12)
    facts = usage_facts(hold, settlement, sandbox=False)
    columns = read_columns([fact.to_wire() for fact in facts])
    assert columns is not None
    assert len(set(columns.event_id)) == 3
    assert sum(columns.input_tokens) == 200_000
    assert [Entry.reported(fact).event_id for fact in facts] == [fact.id for fact in facts]
    # In the ledger they lie where the first one lies, whenever they are told.
    assert {fact.id.int >> 80 for fact in facts} == {hold.usage_event_id.int >> 80}


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
    usage = read_columns([fact.to_wire() for fact in facts])
    assert usage is not None
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
    columns = read_columns([fact.to_wire() for fact in facts])
    assert columns is not None
    assert list(columns.cached) == [True, True]
    assert list(columns.rated(book).cost_microusd) == [0, None]
    ratings = [book.rate(Entry.reported(fact)) for fact in facts]
    assert [rating and rating.cost for rating in ratings] == [0, None]


def test_what_was_told_before_there_was_the_word_was_not_cached() -> None:
    envelope = a_usage().to_wire()
    del envelope["data"]["cached"]
    columns = read_columns([envelope])
    assert columns is not None
    assert list(columns.cached) == [False]
