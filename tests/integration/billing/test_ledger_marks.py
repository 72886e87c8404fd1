"""What is made of an entry as it comes in is what the ledger's chains are made of."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.billing.actions import Actions
from services.billing.domain.ledger_chain import (
    ENTRY,
    MARK_BYTES,
    RATED_ENTRY,
    chain_of,
    digest,
)
from services.billing.domain.ledger_ports import MarkedBatch, Waiting
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.price_book import UnitPrices
from services.billing.domain.usage_columns import UsageColumns
from services.billing.storage import ledger, ledger_chain
from services.billing.storage.ledger_columns import FACTS
from shared.db.database import Database
from shared.events import Fact
from shared.events.usage import UsageRecorded
from shared.ids import UserId
from tests.integration.billing.harness import drift
from tests.integration.billing.test_copied_usage import (
    columns,
    some_usage,
    somebody_waits,
    strange_usage,
)
from tests.support.billing import NOON, a_speech, a_usage, id_made_at

STAFF = UserId(uuid4())
KEYS = (None, UUID(int=1), None, UUID(int=2))
_FORGET_MARKS = "update ledger_uncounted set marks = null"


async def marks(database: Database) -> dict[UUID, bytes]:
    """Of all that waits and has some."""
    found: dict[UUID, bytes] = {}
    sql = "select ids, marks from ledger_uncounted where marks is not null"
    for row in await database.fetch(sql):
        assert len(row["marks"]) == MARK_BYTES * len(row["ids"])
        places = range(0, len(row["marks"]), MARK_BYTES)
        of_each = [row["marks"][place : place + MARK_BYTES] for place in places]
        found.update(zip(row["ids"], of_each, strict=True))
    return found


async def nothing_is_wrong(actions: Actions, database: Database, *, links: int) -> None:
    """Each has its link, they fit, and the days have what the hours have."""
    verdicts = await actions.verify_ledger()
    assert [one.broken for one in verdicts if one.broken] == []
    assert sum(one.head.sequence for one in verdicts) == links
    assert await drift(database) == []
    sums = [
        await database.fetchrow(
            "select sum(requests) n, sum(unpriced_requests) u, sum(input_tokens) i,"
            f" sum(characters) c, sum(cost_microusd) m from {table}"
        )
        for table in ("usage_day", "usage_hour")
    ]
    assert sums[0] == sums[1]


def nowhere() -> list[Fact[UsageRecorded]]:
    return [a_usage(at=NOON, key_organisation_id=key) for key in (None, uuid4(), None)]


@pytest.mark.parametrize(
    "usage",
    [some_usage(300), strange_usage(), nowhere(), [a_speech(at=NOON)]],
    ids=["usual", "strange", "in no stream", "one without a price"],
)
async def test_a_mark_is_of_what_was_stored(
    usage: Sequence[Fact[UsageRecorded]], actions: Actions, database: Database
) -> None:
    given = columns(usage)
    if len(usage) == 3:
        given = replace(given, producer_epoch=[None] * 3, stream=[None] * 3, sequence=[None] * 3)
    await actions.record_usage.together(given)
    found = await marks(database)
    rows = await database.fetch("select * from ledger_entry")
    assert len(rows) == len(found) == len(usage)
    for row in rows:
        kind = ENTRY if row["rated_at"] is None else RATED_ENTRY
        assert found[row["event_id"]] == kind.encode() + digest(kind, row)


def anything(count: int, seed: int) -> UsageColumns:
    """What each column can hold at all, an event of ours or not, in no order."""
    chance = random.Random(seed)
    numbers = (0, 1, 2**31, 2**53 + 1, 2**62)
    texts = (
        "",
        " ",
        "NULL",
        "e\u0301",
        "\u00e9",
        "\ufeff",
        "\U0001d11e",
        "\x7f",
        "x" * 300,
        "a\r\nb",
    )
    moments = ("0002-01-01T00:00:00", "1999-12-31T23:00:00", "2000-01-01T00:00:00")
    some_text = partial(chance.choice, texts)
    some_number = partial(chance.choice, numbers)

    def some_id() -> str:
        return str(UUID(int=chance.choice((0, 2**128 - 1, chance.getrandbits(128)))))

    def some_moment() -> str:
        fraction = chance.choice(("", ".000001", ".999999", ".100000"))
        return f"{chance.choice((*moments, '9998-12-31T23:59:59'))}{fraction}+00:00"

    kinds: dict[str, Callable[[], object]] = {
        "text": some_text,
        "bigint": some_number,
        "uuid": some_id,
        "boolean": partial(chance.choice, (True, False)),
        "timestamptz": some_moment,
    }
    perhaps = {
        *("service_tier", "provider_request_id", "session_id", "key_organisation_id"),
        *("producer_epoch", "stream", "sequence", "unit"),
    }
    # Now and then a column is null in all rows or in none, which is written in a way of its own.
    missing = {name: chance.choice((0, 0.5, 1)) for name in perhaps}
    given: dict[str, list[Any]] = {
        name: [
            None if chance.random() < missing.get(name, 0) else kinds[kind]() for _ in range(count)
        ]
        for name, kind in FACTS.items()
    }
    given["event_id"] = [str(id_made_at(NOON + timedelta(seconds=n))) for n in range(count)]
    chance.shuffle(given["event_id"])
    share = chance.choice((0, 0.5, 1))
    priced = [chance.random() < share for _ in range(count)]
    for name in ("cost_microusd", "price_version"):
        given[name] = [
            value if is_priced else None
            for value, is_priced in zip(given[name], priced, strict=True)
        ]
    return UsageColumns(**given)


@pytest.mark.parametrize("seed", range(12))
async def test_marks_are_what_the_database_makes_of_anything_that_its_columns_hold(
    seed: int, database: Database, work: NewUnitOfWork, actions: Actions
) -> None:
    async with work() as opened:
        await opened.ledger.add_columns(anything(60, seed))
    found = await marks(database)
    assert len(found) == 60
    async with work() as opened:
        digests = await opened.chain.take_up("entry", sorted(found), are_counted=True)
    places = range(0, len(digests.marks), MARK_BYTES)
    of_each = [digests.marks[place : place + MARK_BYTES] for place in places]
    assert dict(zip(digests.ids, of_each, strict=True)) == found
    assert await actions.link_ledger() == 60
    await nothing_is_wrong(actions, database, links=60)


@pytest.mark.parametrize("marked", [True, False], ids=["by marks", "by the database"])
async def test_everything_is_linked_once(
    marked: bool, actions: Actions, database: Database
) -> None:
    usage = some_usage(300)
    for start in range(0, 300, 60):
        await actions.record_usage.together(columns(usage[start : start + 60]))
    if not marked:
        await database.execute(_FORGET_MARKS)
    assert await actions.link_ledger() == 300
    assert await actions.link_ledger() == 0
    await nothing_is_wrong(actions, database, links=300)
    rows = await database.fetch("select unnest(ids) as id from ledger_link")
    assert sorted(row["id"] for row in rows) == sorted(fact.id for fact in usage)
    assert await database.fetch("select from ledger_uncounted") == []


async def test_both_ways_find_the_same(
    actions: Actions, database: Database, work: NewUnitOfWork
) -> None:
    await actions.record_usage.together(columns(some_usage(120)))
    found = await marks(database)
    async with work() as opened:
        digests = await opened.chain.take_up("entry", sorted(found), are_counted=True)
    places = range(0, len(digests.marks), MARK_BYTES)
    of_each = [digests.marks[place : place + MARK_BYTES] for place in places]
    assert dict(zip(digests.ids, of_each, strict=True)) == found


async def test_what_has_marks_and_what_has_none_are_one_chain(
    actions: Actions, database: Database
) -> None:
    usage = some_usage(200)
    await actions.record_usage.together(columns(usage[:80]))
    await actions.record_usage(usage[80:120])
    await actions.record_usage.together(columns(usage[120:]))
    await actions.set_price(
        ("elevenlabs", "eleven_flash_v2_5"),
        UnitPrices(characters=1_000_000),
        effective_from=NOON - timedelta(days=1),
        by=STAFF,
    )
    assert await actions.link_ledger() == 200
    assert await actions.rate_unpriced_usage() == 40
    assert await actions.link_ledger() == 40
    await nothing_is_wrong(actions, database, links=200 + 40)
    await actions.correct_usage(usage[0].id, None, reason="Not used.", by=STAFF)
    await actions.record_usage.together(columns([a_usage(at=NOON)]))
    assert await actions.link_ledger() == 2
    assert [one.broken for one in await actions.verify_ledger() if one.broken] == []


async def test_a_batch_of_two_days_is_linked_in_both(actions: Actions, database: Database) -> None:
    midnight = datetime(2026, 11, 25, tzinfo=UTC)
    moments = [midnight + timedelta(milliseconds=step) for step in (-2, -1, 0, 1)]
    usage = [a_usage(id_=id_made_at(moment), at=moment) for moment in moments]
    await actions.record_usage.together(columns(usage))
    assert await marks(database) == {}
    assert await actions.link_ledger() == 4
    await nothing_is_wrong(actions, database, links=4)
    rows = await database.fetch("select chain, ids from ledger_link order by chain")
    first = chain_of(usage[0].id)
    assert [(row["chain"], len(row["ids"])) for row in rows] == [(first, 2), (first + 1, 2)]


async def test_marks_are_in_the_order_of_their_ids_in_whatever_order_they_came(
    actions: Actions, database: Database
) -> None:
    usage = some_usage(100)
    random.Random(1).shuffle(usage)
    await actions.record_usage.together(columns(usage))
    assert len(await marks(database)) == 100
    assert await actions.link_ledger() == 100
    await nothing_is_wrong(actions, database, links=100)


async def test_batches_of_several_days_go_into_their_chains(
    actions: Actions, database: Database
) -> None:
    days = [NOON + timedelta(days=day) for day in (2, 0, 1, 0, 2)]
    for day in days:
        usage = [a_usage(id_=id_made_at(day), at=day, key_organisation_id=key) for key in KEYS]
        await actions.record_usage.together(columns(usage))
    assert len(await marks(database)) == 5 * len(KEYS)
    assert await actions.link_ledger() == 5 * len(KEYS)
    await nothing_is_wrong(actions, database, links=5 * len(KEYS))
    rows = await database.fetch("select chain, last_sequence from ledger_link order by chain")
    assert [row["last_sequence"] for row in rows] == [2 * len(KEYS), len(KEYS), 2 * len(KEYS)]


async def test_marks_that_do_not_fit_their_ids_are_left_aside(
    actions: Actions, database: Database, work: NewUnitOfWork
) -> None:
    usage = some_usage(50)
    for part in (usage[:20], usage[20:]):
        await actions.record_usage.together(columns(part))
    await database.execute(
        "update ledger_uncounted set marks = substring(marks from 2)"
        " where id = (select min(id) from ledger_uncounted)"
    )
    async with work() as opened:
        waiting = await opened.chain.waiting(most=9)
    assert [type(one) for one in waiting] == [Waiting, MarkedBatch]
    assert await actions.link_ledger() == 50
    await nothing_is_wrong(actions, database, links=50)


@pytest.mark.parametrize(
    "act", ["update ledger_entry set input_tokens = 1", "delete from ledger_entry"]
)
async def test_what_is_done_before_the_link_shows_as_well(
    act: str, actions: Actions, database: Database
) -> None:
    usage = [a_usage(at=NOON) for _ in range(3)]
    await actions.record_usage.together(columns(usage))
    async with database.connection() as connection:
        await connection.execute("alter table ledger_entry disable trigger user")
        await connection.execute(f"{act} where event_id = $1", usage[1].id)
    await actions.link_ledger()
    broken = [one.broken for one in await actions.verify_ledger() if one.broken]
    assert [one.id for one in broken] == [usage[1].id]


async def test_linkers_and_intake_at_once_link_all_that_is_marked_once(
    actions: Actions, database: Database
) -> None:
    usage = some_usage(600)
    batches = [usage[start : start + 20] for start in range(0, 600, 20)]
    work = [actions.record_usage.together(columns(batch)) for batch in [*batches, *batches]]
    await asyncio.gather(*work, *(actions.link_ledger() for _ in range(10)))
    await actions.link_ledger()
    await nothing_is_wrong(actions, database, links=600)


async def test_no_row_is_of_before_the_moment_at_which_the_ledger_was_held(
    actions: Actions, database: Database
) -> None:
    """Whoever closes a month: what was received until then was there to be counted."""
    usage = [a_usage(at=NOON) for _ in range(3)]
    async with database.connection() as connection:
        async with connection.transaction():
            await connection.execute("lock table ledger_entry in share row exclusive mode")
            waits = asyncio.create_task(actions.record_usage.together(columns(usage)))
            await somebody_waits(database)
            row = await connection.fetchrow("select clock_timestamp() as at")
        await waits
    assert row is not None
    rows = await database.fetch("select received_at, rated_at from ledger_entry")
    assert len(rows) == 3
    assert all(row["at"] < one["received_at"] for one in rows)
    assert all(one["rated_at"] <= one["received_at"] for one in rows)


async def test_the_ledger_is_locked_before_its_rows_are_given_their_moment(
    database: Database,
) -> None:
    """The ledger and no part of it: those that nothing is put into may be archived meanwhile."""
    async with database.connection() as connection:
        for _ in range(7):  # by a plan for this once, and by the one that is kept
            async with connection.transaction():
                await connection.fetchrow(ledger._BEGIN_COPY)
                rows = await connection.fetch(
                    "select relation::regclass::text as name, mode from pg_locks"
                    " where pid = pg_backend_pid()"
                    " and relation::regclass::text like 'ledger_entry%'"
                )
                assert [tuple(row) for row in rows] == [("ledger_entry", "RowExclusiveLock")]


@pytest.mark.parametrize("copied", [True, False], ids=["copied", "one by one"])
async def test_a_clock_that_goes_back_makes_no_rating_a_later_one(
    copied: bool, actions: Actions, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the beginning of a transaction and its rows."""
    for name in ("_BEGIN_COPY", "_RECORD"):
        statement = getattr(ledger, name)
        assert "now()" in statement
        later = statement.replace("now()", "(now() + interval '1 hour')")
        monkeypatch.setattr(ledger, name, later)
    usage = some_usage(20)
    if copied:
        await actions.record_usage.together(columns(usage))
    else:
        await actions.record_usage(usage)
    assert await actions.link_ledger() == 20
    await nothing_is_wrong(actions, database, links=20)


async def test_hours_and_days_are_cut_alike_at_all_times_and_in_all_zones(
    database: Database,
) -> None:
    """By the distance from an hour as by the calendar: also before that hour, and on full ones."""
    chance = random.Random(3)
    hour, microseconds = 3_600_000_000, 2 * 10**17
    steps = [chance.randrange(-microseconds, microseconds) for _ in range(3_000)]
    steps += [number * hour + off for number in range(-30, 30) for off in (-1, 0, 1)]
    steps = [step for step in steps if -6 * 10**16 < step < 2.5 * 10**17]
    async with database.connection() as connection, connection.transaction():
        for zone in ("UTC", "Australia/Lord_Howe", "Asia/Kathmandu", "America/New_York"):
            await connection.execute(f"set local timezone = '{zone}'")
            wrong = await connection.fetch(
                "with moment as (select timestamptz '2000-01-01 00:00+00'"
                " + step * interval '1 microsecond' as at from unnest($1::bigint[]) as g (step))"
                f" select at from moment where date_bin('1 hour', at, {ledger_chain._AN_HOUR})"
                " <> date_trunc('hour', at, 'UTC') or"
                " (at at time zone interval '0')::date <> (at at time zone 'UTC')::date",
                steps,
            )
            assert wrong == []


async def test_what_linking_asks_of_the_planner_is_asked_for_its_transaction_alone(
    actions: Actions, database: Database
) -> None:
    await actions.record_usage.together(columns(some_usage(20)))
    assert await actions.link_ledger() == 20
    async with database.connection() as first, database.connection() as second:
        for connection in (first, second):
            for name in ("enable_sort", "enable_seqscan"):
                row = await connection.fetchrow(f"show {name}")
                assert row is not None
                assert row[0] == "on"


async def test_what_lies_in_no_month_that_is_there_has_marks_as_well(
    actions: Actions, database: Database
) -> None:
    far = [NOON + timedelta(days=days) for days in (4000, -4000, 0)]
    for at in far:
        usage = [a_usage(id_=id_made_at(at), at=at, key_organisation_id=key) for key in KEYS]
        await actions.record_usage.together(columns(usage))
    assert len(await marks(database)) == 3 * len(KEYS)
    assert await actions.link_ledger() == 3 * len(KEYS)
    await nothing_is_wrong(actions, database, links=3 * len(KEYS))


async def test_the_entries_of_many_batches_are_found_by_their_keys(
    actions: Actions, database: Database
) -> None:
    for _ in range(4):
        await actions.record_usage.together(columns([a_usage(at=NOON) for _ in range(50)]))
    low, high = UUID(int=0), UUID(int=2**128 - 1)
    rows = await database.fetch(f"explain {ledger_chain._COUNT}", [1, 2, 3], low, high)
    plan = "\n".join(row[0] for row in rows)
    assert "Index Cond: ((event_id = ANY" in plan
    assert "Join" not in plan
    assert "Nested Loop" not in plan
