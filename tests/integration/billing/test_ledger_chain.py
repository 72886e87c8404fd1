"""The ledger's chains on the real PostgreSQL: what is done behind our back shows."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from services.billing.actions import Actions
from services.billing.actions.verify_ledger import ChainVerdict
from services.billing.domain.ledger import Rating
from services.billing.domain.ledger_chain import chain_of, continued, genesis
from services.billing.domain.ledger_ports import Queue, Waiting
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.price_book import UnitPrices
from services.billing.domain.usage_export import Day
from services.billing.storage import ledger_chain
from shared.db.database import Connection, Database
from shared.ids import UserId
from shared.money import MicroDollars
from tests.integration.billing.harness import drift
from tests.support.billing import NOON, a_speech, a_usage, id_made_at

STAFF = UserId(uuid4())
IDS = [id_made_at(NOON + timedelta(minutes=number)) for number in range(6)]
CHAIN = chain_of(IDS[0])


@asynccontextmanager
async def behind_our_back(database: Database) -> AsyncIterator[Connection]:
    """What somebody does who owns the tables: no trigger stops them."""
    async with database.connection() as connection:
        for table in ("ledger_entry", "ledger_link"):
            await connection.execute(f"alter table {table} disable trigger user")
        yield connection


async def recorded(actions: Actions) -> None:
    for id_ in IDS:
        await actions.record_usage([a_usage(id_=id_, at=NOON)])
        assert await actions.link_ledger() == 1


async def verdict(actions: Actions, **options: object) -> ChainVerdict:
    return next(one for one in await actions.verify_ledger(**options) if one.chain == CHAIN)  # type: ignore[arg-type]


async def test_an_untouched_ledger_is_whole(actions: Actions) -> None:
    await recorded(actions)
    found = await verdict(actions)
    assert (found.broken, found.head.sequence) == (None, len(IDS))
    assert await actions.link_ledger() == 0


@pytest.mark.parametrize(
    ("act", "sequence", "id_"),
    [
        ("update ledger_entry set input_tokens = 1 where event_id = $1", 3, IDS[2]),
        ("update ledger_entry set cost_microusd = 0 where event_id = $1", 3, IDS[2]),
        ("update ledger_entry set received_at = now() where event_id = $1", 3, IDS[2]),
        ("delete from ledger_entry where event_id = $1", 3, IDS[2]),
        (
            "update ledger_entry e set request_id = o.request_id from ledger_entry o"
            " where (e.event_id, o.event_id) in ((id(2), id(3)), (id(3), id(2)))"
            " and $1::uuid is not null",
            3,
            IDS[2],
        ),
        (
            "update ledger_link l set ids = o.ids, links = o.links from ledger_link o"
            " where (l.first_sequence, o.first_sequence) in ((4, 5), (5, 4))"
            " and $1::uuid is not null",
            4,
            IDS[4],
        ),
        (
            "insert into ledger_entry select (json_populate_record(e, json_build_object("
            "'event_id', id(0)::text::uuid))).* from ledger_entry e where event_id = $1",
            None,
            None,
        ),
        ("delete from ledger_link where first_sequence = 2 and $1::uuid is not null", 2, None),
        ("delete from ledger_link where first_sequence > 4 and $1::uuid is not null", None, IDS[4]),
    ],
    ids=[
        "a fact",
        "a cost",
        "a time",
        "a row deleted",
        "two rows swapped",
        "two links swapped",
        "a row put into the past",
        "a link deleted",
        "links cut off the end",
    ],
)
async def test_what_is_done_behind_our_back_shows(
    act: str, sequence: int | None, id_: UUID | None, actions: Actions, database: Database
) -> None:
    await recorded(actions)
    earlier = id_made_at(NOON - timedelta(hours=1))
    names = {"id(0)": earlier, **{f"id({place})": one for place, one in enumerate(IDS) if place}}
    for name, one in names.items():
        act = act.replace(name, f"'{one}'")
    async with behind_our_back(database) as connection:
        await connection.execute(act, IDS[2])
    broken = (await verdict(actions)).broken
    assert broken is not None
    assert (broken.sequence, broken.id) == (sequence, id_ or broken.id)
    if "into ledger_entry" in act:
        assert broken.id == earlier


async def test_a_tail_that_is_cut_off_with_its_rows_shows_by_an_earlier_head(
    actions: Actions, database: Database
) -> None:
    await recorded(actions)
    head = (await verdict(actions)).head
    async with behind_our_back(database) as connection:
        await connection.execute("delete from ledger_link where first_sequence > 4")
        await connection.execute("delete from ledger_entry where event_id = any($1)", IDS[4:])
    assert (await verdict(actions)).broken is None
    broken = (await verdict(actions, known={CHAIN: head})).broken
    assert broken is not None
    assert "cut off" in broken.what


async def test_a_later_rating_has_a_link_of_its_own(actions: Actions, database: Database) -> None:
    await actions.record_usage([a_speech(id_=IDS[0], at=NOON), a_speech(id_=IDS[1], at=NOON)])
    await actions.link_ledger()
    await actions.set_price(
        ("elevenlabs", "eleven_flash_v2_5"),
        UnitPrices(characters=1_000_000),
        effective_from=NOON - timedelta(days=1),
        by=STAFF,
    )
    assert await actions.rate_unpriced_usage() == 2
    assert (await verdict(actions)).broken is None
    assert await actions.link_ledger() == 2
    assert (await verdict(actions)).head.sequence == 4
    async with behind_our_back(database) as connection:
        await connection.execute(
            "update ledger_entry set cost_microusd = 5 where event_id = $1", IDS[1]
        )
    broken = (await verdict(actions)).broken
    assert broken is not None
    assert (broken.sequence, broken.id) == (4, IDS[1])


async def test_a_rating_given_behind_our_back_shows(actions: Actions, database: Database) -> None:
    await actions.record_usage([a_speech(id_=IDS[0], at=NOON)])
    await actions.link_ledger()
    async with behind_our_back(database) as connection:
        await connection.execute(
            "update ledger_entry set pricing_status = 'rated', cost_microusd = 0,"
            " price_version = 'mine', rated_at = now()"
        )
    broken = (await verdict(actions)).broken
    assert broken is not None
    assert broken.id == IDS[0]


async def test_linkers_and_intake_at_once_link_everything_once(
    actions: Actions, database: Database
) -> None:
    batches = [[a_usage(at=NOON) for _ in range(20)] for _ in range(30)]
    # Every batch twice: what was there already is not linked again.
    work = [actions.record_usage(batch) for batch in [*batches, *batches]]
    await asyncio.gather(*work, *(actions.link_ledger() for _ in range(10)))
    await actions.link_ledger()
    rows = await database.fetch("select unnest(ids) as id from ledger_link")
    assert sorted(row["id"] for row in rows) == sorted(f.id for batch in batches for f in batch)
    assert [one.broken for one in await actions.verify_ledger() if one.broken] == []
    days = await database.fetchrow("select sum(requests) as n, sum(cost_microusd) c from usage_day")
    hours = await database.fetchrow(
        "select sum(requests) as n, sum(cost_microusd) c from usage_hour"
    )
    assert days == hours


async def test_a_stray_row_keeps_its_link_when_it_moves(actions: Actions) -> None:
    far = id_made_at(datetime(2036, 11, 24, tzinfo=UTC))
    await actions.record_usage([a_usage(id_=far, at=NOON)])
    await actions.link_ledger()
    chain = chain_of(far)
    found = await actions.verify_ledger(range(chain, chain + 1))
    assert [(one.head.sequence, one.broken) for one in found] == [(1, None)]


@pytest.mark.parametrize(
    "statement",
    ["update ledger_link set kinds = 'l'", "delete from ledger_link"],
)
async def test_links_are_only_added_to(
    statement: str, actions: Actions, database: Database
) -> None:
    await recorded(actions)
    with pytest.raises(asyncpg.RestrictViolationError):
        await database.execute(statement)


FIRM = UUID("019a0000-0000-4000-8000-0000000000f1")


async def recorded_on_keys(actions: Actions) -> None:
    """Six entries, of which the odd ones ran on an organisation's key and two have no price yet."""
    for number, id_ in enumerate(IDS):
        make = a_usage if number < 4 else a_speech
        firm = FIRM if number % 2 else None
        await actions.record_usage([make(id_=id_, at=NOON, key_organisation_id=firm)])


async def test_whose_key_served_is_proven_with_the_rest(
    actions: Actions, database: Database
) -> None:
    await recorded_on_keys(actions)
    assert (await verdict(actions)).broken is None  # all of it waits
    assert await actions.link_ledger() == 6
    found = await verdict(actions)
    assert (found.broken, found.head.sequence) == (None, 6)
    assert await database.fetch("select 1 from ledger_uncounted") == []
    days = await database.fetchrow("select sum(requests) as n from usage_day")
    assert days is not None
    assert days["n"] == 6


@pytest.mark.parametrize(
    ("act", "number"),
    [
        ("update ledger_entry set key_organisation_id = gen_random_uuid() where event_id = $1", 2),
        ("update ledger_entry set key_organisation_id = gen_random_uuid() where event_id = $1", 1),
        ("update ledger_entry set key_organisation_id = null where event_id = $1", 1),
        ("update ledger_entry set key_organisation_id = null where event_id = $1", 5),
        ("update ledger_entry set key_organisation_id = gen_random_uuid() where event_id = $1", 4),
    ],
    ids=["put in", "exchanged", "taken out", "taken out of an unpriced one", "put into one"],
)
async def test_another_key_than_the_one_that_served_shows(
    act: str, number: int, actions: Actions, database: Database
) -> None:
    await recorded_on_keys(actions)
    await actions.link_ledger()
    async with behind_our_back(database) as connection:
        await connection.execute(act, IDS[number])
    broken = (await verdict(actions)).broken
    assert broken is not None
    assert broken.id == IDS[number]


async def test_the_guard_keeps_whose_key_served(actions: Actions, database: Database) -> None:
    await recorded_on_keys(actions)
    with pytest.raises(asyncpg.RestrictViolationError):
        await database.execute("update ledger_entry set key_organisation_id = null")


# What the release before does: it counts hours as entries come, and notes those apart that ran
# on an organisation's key. It does not look where uncounted ones wait.
_WAITING_BEFORE = """
(select id, kind, ids, 2 as turn from ledger_unlinked order by id limit $1)
union all
(select id, 'entry', ids, 1 from ledger_unlinked_of_organisation order by id limit $1)
order by turn, id limit $1
"""
_INTAKE_BEFORE = """
with fresh as (
    insert into ledger_entry (event_id, user_id, tier, operation, provider, model, source, outcome,
        input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, output_reasoning_tokens,
        characters, request_id, sandbox, producer, occurred_at, cost_microusd, price_version,
        pricing_status, rated_at, key_organisation_id)
    select $2, user_id, tier, operation, provider, model, source, outcome,
        input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, output_reasoning_tokens,
        characters, request_id, sandbox, producer, occurred_at, cost_microusd, price_version,
        pricing_status, now(), key_organisation_id
    from ledger_entry where event_id = $1
    returning *
), counted as (
    insert into usage_hour select user_id, date_trunc('hour', occurred_at, 'UTC'), provider, model,
        operation, sandbox, 1, 0, input_tokens, cache_read_tokens, cache_write_tokens,
        output_tokens, output_reasoning_tokens, characters, cost_microusd
    from fresh
), noted as (
    insert into ledger_unlinked (kind, ids, marks)
    select 'entry', array_agg(event_id), $3 from fresh where key_organisation_id is null
    having count(*) > 0
)
insert into ledger_unlinked_of_organisation (ids, marks)
select array_agg(event_id), $3 from fresh where key_organisation_id is not null having count(*) > 0
"""


@pytest.mark.parametrize("marks", [None, b"e" + bytes(32)], ids=["without marks", "with marks"])
@pytest.mark.parametrize("number", [0, 1], ids=["somebody's own", "an organisation's"])
async def test_what_the_release_before_took_in_is_linked_and_counted_once(
    marks: bytes | None, number: int, actions: Actions, database: Database
) -> None:
    await recorded_on_keys(actions)
    late = id_made_at(NOON + timedelta(minutes=10))
    await database.execute(_INTAKE_BEFORE, IDS[number], late, marks)
    assert await actions.link_ledger() == 7
    found = await verdict(actions)
    assert (found.broken, found.head.sequence) == (None, 7)
    assert await drift(database) == []


async def test_the_release_before_leaves_alone_what_no_hour_has_counted(
    actions: Actions, database: Database
) -> None:
    await recorded_on_keys(actions)
    assert await database.fetch(_WAITING_BEFORE, 40) == []


async def rated_later(actions: Actions) -> None:
    """What `recorded_on_keys` left without a price, an organisation's and somebody's own."""
    await actions.set_price(
        ("elevenlabs", "eleven_flash_v2_5"),
        UnitPrices(characters=1_000_000),
        effective_from=NOON - timedelta(days=1),
        by=STAFF,
    )
    # By a page of them, as an hour would have told that they wait.
    async with actions.rate_unpriced_usage.unit_of_work() as work:
        page = await work.unpriced.page(("elevenlabs", "eleven_flash_v2_5"), since=None, most=10)
        assert [one.event_id for one in page] == IDS[4:]
        rated = [replace(one, rating=Rating(MicroDollars(7), "test")) for one in page]
        await work.unpriced.rate(rated)


async def test_a_rating_is_linked_by_the_release_before_while_its_entry_waits_apart(
    actions: Actions, database: Database
) -> None:
    await recorded_on_keys(actions)
    await rated_later(actions)
    async with actions.link_ledger.unit_of_work() as work:
        [rating] = await database.fetch(_WAITING_BEFORE, 40)
        assert rating["kind"] == "rating"
        digests = await work.chain.take_up("rating", rating["ids"], are_counted=False)
        await work.chain.add(continued(CHAIN, genesis(CHAIN), [digests]))
        await work.chain.taken_up([Waiting(rating["id"], "rating", rating["ids"], Queue.COUNTED)])
    assert (await verdict(actions)).broken is None
    assert await actions.link_ledger() == 6
    found = await verdict(actions)
    assert (found.broken, found.head.sequence) == (None, 8)
    assert await drift(database) == []


async def test_no_rating_goes_before_its_entry_whenever_its_transaction_began(
    actions: Actions, database: Database, work: NewUnitOfWork
) -> None:
    await recorded_on_keys(actions)
    await rated_later(actions)
    await database.execute(
        "update ledger_unlinked set noted_at = noted_at - interval '1 hour' where kind = 'rating'"
    )
    async with work() as open_work:
        for most in range(1, 8):
            found = await open_work.chain.waiting(most=most)
            waiting = [one for one in found if isinstance(one, Waiting)]
            assert len(waiting) == len(found)
            entries = [id_ for one in waiting if one.kind == "entry" for id_ in one.ids]
            ratings = {id_ for one in waiting if one.kind == "rating" for id_ in one.ids}
            assert ratings <= set(entries)
    assert ratings == {IDS[4], IDS[5]}
    assert len(entries) == 6


async def test_what_waits_apart_holds_up_what_links_hold_up(
    actions: Actions, work: NewUnitOfWork
) -> None:
    await actions.record_usage([a_usage(id_=IDS[1], at=NOON, key_organisation_id=FIRM)])
    day = Day(NOON.date())
    async with work() as open_work:
        assert (await open_work.chain.lag()).waiting == 1
        assert await open_work.usage_rows.waits_for_links(day)
    await actions.link_ledger()
    async with work() as open_work:
        assert (await open_work.chain.lag()).waiting == 0
        assert not await open_work.usage_rows.waits_for_links(day)


# As of a day of five hours with a run every ten seconds, of which the day before had one.
_MANY_RUNS = """
insert into ledger_link (chain, first_sequence, last_sequence, kinds, ids, links)
select chain, number, number, 'r', array[gen_random_uuid()], sha256(number::text::bytea)
from (values ($1::int - 1, 1), ($1::int, 2000)) as given (chain, runs),
     generate_series(1, runs) as number
"""


@pytest.mark.parametrize(
    ("statement", "given"),
    [
        (ledger_chain._HEADS, [[CHAIN]]),
        (ledger_chain._ALL_HEADS, []),
        (ledger_chain._CHAINS, []),
    ],
    ids=["one chain's end", "all chains' ends", "the chains"],
)
async def test_a_chains_end_is_found_past_all_that_is_before_it(
    statement: str, given: list[object], database: Database
) -> None:
    await database.execute(_MANY_RUNS, CHAIN)
    row = await database.fetchrow(f"explain (analyze, format json) {statement}", *given)
    assert row is not None
    plans = json.loads(row[0]) if isinstance(row[0], str) else row[0]
    assert 1 <= rows_read(plans[0]["Plan"], "ledger_link") <= 6


def rows_read(plan: dict[str, Any], table: str) -> float:
    """Of a table, in all steps of a plan."""
    own = plan["Actual Rows"] * plan["Actual Loops"] if plan.get("Relation Name") == table else 0
    return float(own) + sum(rows_read(step, table) for step in plan.get("Plans", []))


async def test_ends_are_those_of_the_last_runs(database: Database, work: NewUnitOfWork) -> None:
    async with work() as open_work:
        assert await open_work.chain.heads() == {}
        assert await open_work.chain.chains() == []
    await database.execute(_MANY_RUNS, CHAIN)
    async with work() as open_work:
        heads = await open_work.chain.heads()
        assert list(heads) == await open_work.chain.chains() == [CHAIN - 1, CHAIN]
        assert [head.sequence for head in heads.values()] == [1, 2000]
        assert heads[CHAIN].mac == hashlib.sha256(b"2000").digest()
        assert await open_work.chain.heads([CHAIN, CHAIN + 1]) == {CHAIN: heads[CHAIN]}
