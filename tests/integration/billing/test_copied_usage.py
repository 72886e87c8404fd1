"""A whole batch that is new goes into the ledger as COPY takes it: the same rows, the same sums,
each event once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.billing.actions import Actions
from services.billing.domain.ledger import Entry
from services.billing.domain.ports import NewUnitOfWork, RecordedBefore
from services.billing.domain.usage_columns import UsageColumns
from shared.db.database import Database, UnstorableText
from shared.events import Fact
from shared.events.usage import MOST_UNITS, UsageRecorded
from tests.integration.billing.harness import drift, ids_in
from tests.support.billing import NOON, a_speech, a_usage, id_made_at

# What would be cut, swallowed or taken for something else if it were not written as it is.
_TEXTS = (
    *(
        "",
        " ",
        "\\N",
        "\\.",
        "NULL",
        "None",
        "a\tb",
        "a\nb",
        "a\rb",
        '"',
        "'",
        "\\",
        "{a,b}",
        "a,b",
    ),
    *("é", "٣", "𝄞", "x" * 300, "\x01", "\ufeff"),
)
_TIMES = (
    *("0002-01-01T00:00:00+00:00", "1969-12-31T23:59:59.999999+00:00", "1970-01-01T00:00:00+00:00"),
    *("1999-12-31T23:59:59.999999+00:00", "2000-01-01T00:00:00+00:00"),
    *("2026-11-24T12:00:00.000001+00:00", "9998-12-31T23:59:59.999999+00:00"),
)


def columns(facts: Sequence[Fact[UsageRecorded]]) -> UsageColumns:
    return UsageColumns.of([Entry.reported(fact) for fact in facts])


def some_usage(count: int) -> list[Fact[UsageRecorded]]:
    """Of some users, hours and organisations; one in five has no known price."""
    chance = random.Random(count)
    people, organisations = [uuid4() for _ in range(4)], [uuid4(), None, None]
    usage = []
    for number in range(1, count + 1):
        make = a_speech if number % 5 == 0 else a_usage
        usage.append(
            make(
                user=chance.choice(people),
                at=NOON + timedelta(minutes=chance.randrange(200), microseconds=number),
                producer="chat",
                sequence=number,
                session_id=chance.choice([uuid4(), None]),
                provider_request_id=chance.choice(_TEXTS),
                service_tier=chance.choice([None, "flex"]),
                sandbox=chance.random() < 0.2,
                key_organisation_id=chance.choice(organisations),
            )
        )
    return usage


def strange_usage() -> list[Fact[UsageRecorded]]:
    """The ends of what an event may hold, each at every place that it fits."""
    facts: list[dict[str, Any]] = []
    for text in _TEXTS:
        names = ("request_id", "provider_request_id", "service_tier", "provider", "model")
        facts += [{name: text} for name in names]
    for count in (0, 1, 2**31, MOST_UNITS):
        counts = ("cache_write_tokens", "output_reasoning_tokens", "characters", "output_tokens")
        facts += [{name: count} for name in counts]
    facts += [{"at": datetime.fromisoformat(at)} for at in _TIMES]
    facts += [{"sequence": number} for number in (1, 2**31, 2**62 - 2)]
    facts += [{"session_id": UUID(int=0)}, {"session_id": UUID(int=2**128 - 1)}, {"cached": True}]
    facts += [{"producer": "é" * 100}, {"tier": "x_-9"}, {"at": NOON}]
    return [a_usage(**{"sequence": 7} | fact) for fact in facts]


async def kept(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """All that an intake leaves, without when that was."""
    found = {}
    for table, order in {
        "ledger_entry": "event_id",
        "usage_hour": "user_id, hour, provider, model, operation, sandbox",
        "usage_stream": "producer, epoch, stream",
        "ledger_uncounted": "id",
    }.items():
        rows = await database.fetch(f"select * from {table} order by {order}")
        found[table] = [tuple(_lasting(dict(row))) for row in rows]
    return found


def _lasting(row: dict[str, Any]) -> list[Any]:
    # What has marks and what has none get the same links.
    for name in ("received_at", "rated_at", "noted_at", "last_seen_at", "id", "marks"):
        row.pop(name, None)
    return [sorted(value) if name == "ids" else value for name, value in row.items()]


async def forget_all(database: Database) -> None:
    await database.execute(
        "truncate ledger_entry, usage_hour, usage_day, usage_stream, ledger_uncounted, ledger_link"
    )


def usage_of_one_stream(*, step: timedelta) -> list[Fact[UsageRecorded]]:
    """With all that a message has in common, over a full hour and back."""
    moments = [NOON + number * step for number in (-2, -1, 0, 1)]
    return [a_usage(at=at, sequence=number) for number, at in enumerate(moments, 5)]


@pytest.mark.parametrize(
    "usage",
    [
        some_usage(300),
        strange_usage(),
        usage_of_one_stream(step=timedelta(seconds=1)),
        [a_usage(at=NOON + timedelta(microseconds=1), sequence=1), a_speech(sequence=1)],
        usage_of_one_stream(step=timedelta(microseconds=1)),
    ],
    ids=["usual", "strange", "full seconds", "two streams", "one stream"],
)
async def test_it_leaves_what_the_statement_leaves(
    usage: list[Fact[UsageRecorded]], actions: Actions, database: Database
) -> None:
    await actions.record_usage.together(columns(usage))
    copied = await kept(database)
    assert len(copied["ledger_entry"]) == len(usage)
    assert await drift(database) == []
    counted = await kept(database)
    assert counted["usage_hour"]
    await forget_all(database)
    assert await actions.record_usage(usage) == len(usage)
    assert copied == await kept(database)
    assert await drift(database) == []
    assert counted == await kept(database)


async def test_an_entry_that_is_rated_with_its_row_is_no_later_rating(
    actions: Actions, database: Database
) -> None:
    await actions.record_usage.together(columns(some_usage(40)))
    rows = await database.fetch("select rated_at, received_at, cost_microusd from ledger_entry")
    assert {row["rated_at"] is None for row in rows} == {True, False}
    for row in rows:
        assert (row["rated_at"] is None) == (row["cost_microusd"] is None)
        assert row["rated_at"] is None or row["rated_at"] <= row["received_at"] <= datetime.now(UTC)
    assert await actions.link_ledger() == 40


async def test_a_batch_that_comes_again_counts_once(actions: Actions, database: Database) -> None:
    usage = some_usage(120)
    await actions.record_usage.together(columns(usage))
    first = await kept(database)
    await actions.record_usage.together(columns(usage))
    assert await kept(database) == first


async def test_of_one_that_was_there_in_part_the_rest_is_added(
    actions: Actions, database: Database
) -> None:
    usage = some_usage(150)
    await actions.record_usage.together(columns(usage[:100]))
    await actions.record_usage.together(columns([*usage[50:], usage[149]]))
    assert sorted(await ids_in(database)) == sorted(fact.id for fact in usage)
    assert await drift(database) == []
    state = await actions.reconcile()
    assert [progress.received for progress in state.progress if progress.received] == [((1, 150),)]


async def test_nothing_of_a_batch_that_was_there_stands_by_itself(
    actions: Actions, work: NewUnitOfWork, database: Database
) -> None:
    usage = some_usage(20)
    await actions.record_usage(usage[:1])
    before = await kept(database)
    with pytest.raises(RecordedBefore):
        async with work() as opened:
            await opened.ledger.add_columns(columns(usage))
    assert await kept(database) == before


async def test_many_at_once_on_the_same_rows_lose_and_double_nothing(
    actions: Actions, database: Database
) -> None:
    usage = some_usage(400)
    chance = random.Random(7)
    parts = [usage[start : start + 200] for start in (0, 100, 200)]
    batches = [chance.sample(part, 200) for part in parts for _ in range(3)]
    chance.shuffle(batches)
    await asyncio.gather(*(actions.record_usage.together(columns(batch)) for batch in batches))
    assert sorted(await ids_in(database)) == sorted(fact.id for fact in usage)
    assert await drift(database) == []


async def test_the_days_on_both_sides_of_a_partitions_end_are_one_batch(
    actions: Actions, database: Database
) -> None:
    at = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    moments = [at + timedelta(milliseconds=step) for step in (-2, -1, 0, 1)]
    usage = [a_usage(id_=id_made_at(moment), at=moment) for moment in moments]
    usage.append(a_usage(id_=id_made_at(at + timedelta(days=4000)), at=at))
    await actions.record_usage.together(columns(usage[::-1]))
    rows = await database.fetch("select distinct tableoid from ledger_entry")
    assert len(rows) == 3
    assert await drift(database) == []


async def test_a_text_that_can_not_be_stored_is_said_to_be_one(
    actions: Actions, database: Database
) -> None:
    usage = columns([a_usage(), a_usage(request_id="\x00")])
    with pytest.raises(UnstorableText):
        await actions.record_usage.together(usage)
    assert await ids_in(database) == []


async def test_nobody_who_holds_an_hour_holds_up_the_intake(
    actions: Actions, database: Database
) -> None:
    user = uuid4()
    first, second = (
        [a_usage(user=user, at=NOON, sequence=number, producer="chat")] for number in (1, 2)
    )
    await actions.record_usage.together(columns(first))
    assert await actions.link_ledger() == 1
    async with database.connection() as connection, connection.transaction():
        await connection.execute("select from usage_hour for update")
        async with asyncio.timeout(10):
            await actions.record_usage.together(columns(second))
    assert await drift(database) == []
    state = await actions.reconcile()
    assert [progress.received for progress in state.progress if progress.received] == [((1, 2),)]


async def somebody_waits(database: Database) -> None:
    """Until a statement waits for a row."""
    async with asyncio.timeout(20):
        while not await database.fetch("select from pg_locks where not granted"):
            await asyncio.sleep(0.01)


async def test_what_has_no_place_in_a_stream_is_taken_in_as_well(
    actions: Actions, database: Database
) -> None:
    usage = [a_usage(at=NOON, key_organisation_id=key) for key in (None, uuid4())]
    found = columns(usage)
    nowhere = replace(found, producer_epoch=(None,) * 2, stream=(None,) * 2, sequence=(None,) * 2)
    assert await actions.record_usage.together(nowhere) == 2
    assert await database.fetch("select from usage_stream where received <> '{}'") == []
    assert await actions.link_ledger() == 2
    assert await drift(database) == []


@pytest.mark.parametrize("keys", [(None,), (UUID(int=1),), (None, UUID(int=1))])
async def test_each_entry_waits_once_for_its_link(
    keys: tuple[UUID | None, ...], actions: Actions, database: Database
) -> None:
    usage = [a_usage(at=NOON, key_organisation_id=keys[number % len(keys)]) for number in range(9)]
    await actions.record_usage.together(columns(usage))
    rows = await database.fetch("select ids from ledger_uncounted")
    assert [row["ids"] for row in rows] == [sorted(fact.id for fact in usage)]
    assert await actions.link_ledger() == 9
