"""The ledger on the real PostgreSQL: lost 0, double 0, whatever happens."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from services.billing.actions import Actions
from services.billing.actions.report_outside_usage import Told
from services.billing.domain.errors import UsageNotAcceptable
from services.billing.domain.ledger import Entry
from services.billing.domain.outside_usage import OutsideEvent
from services.billing.domain.period import Period
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.price_book import UnitPrices
from services.billing.domain.usage_report import Dimension
from services.billing.storage.tables import metadata
from shared.db.database import Database
from shared.db.engine import sync_engine
from shared.errors import DependencyUnavailable
from shared.events import Fact
from shared.events.usage import MOST_UNITS, UsageRecorded
from shared.ids import UserId
from tests.integration.billing.harness import drift, ids_in
from tests.support.billing import (
    NOON,
    StoppedClock,
    a_manifest,
    a_speech,
    a_usage,
    id_made_at,
)

ADA, STAFF = UserId(uuid4()), UserId(uuid4())
ALWAYS = Period.between(None, None)
Usages = Sequence[Fact[UsageRecorded]]


def some_usage(count: int, *, users: int = 3) -> list[Fact[UsageRecorded]]:
    """Numbered usage of a few users, models and hours; one in four has no known price."""
    people = [uuid4() for _ in range(users)]
    usage = []
    for number in range(1, count + 1):
        make = a_speech if number % 4 == 0 else a_usage
        at = NOON + timedelta(minutes=number % 180)
        usage.append(make(user=people[number % users], at=at, producer="chat", sequence=number))
    return usage


def test_the_migrations_make_the_tables_that_are_declared(database_url: str) -> None:
    engine = sync_engine(database_url)

    def is_ours(_thing: object, name: str | None, kind: str, *_rest: object) -> bool:
        # Partitions are made as time goes by.
        return not (kind == "table" and str(name).startswith("ledger_entry_"))

    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_object": is_ours, "compare_server_default": True}
        )
        differences = compare_metadata(context, metadata)
    engine.dispose()
    assert differences == []


async def test_a_batch_that_comes_twice_counts_once(actions: Actions, database: Database) -> None:
    usage = some_usage(200)
    assert await actions.record_usage(usage) == 200
    assert await actions.link_ledger() == 200
    hours = await database.fetch("select * from usage_hour order by 1, 2, 3, 4, 5, 6")
    assert await actions.record_usage(usage) == 0
    assert await actions.link_ledger() == 0
    assert hours
    assert await database.fetch("select * from usage_hour order by 1, 2, 3, 4, 5, 6") == hours
    assert sorted(await ids_in(database)) == sorted(fact.id for fact in usage)
    assert await drift(database) == []


async def test_an_event_that_is_twice_in_one_batch_counts_once(
    actions: Actions, database: Database
) -> None:
    usage = a_usage(user=ADA)
    assert await actions.record_usage([usage, usage]) == 1
    assert await drift(database) == []


async def test_overlapping_batches_add_only_what_is_new(
    actions: Actions, database: Database
) -> None:
    usage = some_usage(150)
    assert await actions.record_usage(usage[:100]) == 100
    assert await actions.record_usage(usage[50:]) == 50
    assert await drift(database) == []


async def test_consumers_at_once_on_the_same_rows_lose_and_double_nothing(
    actions: Actions, database: Database
) -> None:
    usage = some_usage(600)
    chance = random.Random(7)
    parts = [usage[start : start + 200] for start in range(0, 500, 100)]
    batches = [chance.sample(part, 200) for part in parts for _ in range(3)]
    chance.shuffle(batches)
    added = await asyncio.gather(*(actions.record_usage(batch) for batch in batches))
    assert sum(added) == 600
    assert sorted(await ids_in(database)) == sorted(fact.id for fact in usage)
    assert await drift(database) == []
    state = await actions.reconcile()
    assert [progress.received for progress in state.progress] == [((1, 600),)]


async def test_nothing_is_lost_or_doubled_while_connections_are_cut(
    actions: Actions, database: Database, consume: Callable[[Usages], asyncio.Task[None]]
) -> None:
    usage = some_usage(2000)
    batches = [usage[start : start + 100] for start in range(0, 2000, 100)]
    # Each batch comes twice, and whoever has it when its connection is cut gets it again.
    tasks = [consume(batch) for batch in [*batches, *batches]]
    cuts = 0
    while any(not task.done() for task in tasks):
        cuts += await cut_some(database)
        await asyncio.sleep(0.02)
    await asyncio.gather(*tasks)
    assert cuts > 0
    assert sorted(await ids_in(database)) == sorted(fact.id for fact in usage)
    assert await drift(database) == []
    assert await database.fetch("select * from dead_event") == []


async def cut_some(database: Database) -> int:
    """Cut some of the connections that are in the middle of something."""
    try:
        rows = await database.fetch(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
            " and state <> 'idle' and random() < 0.3"
        )
    except DependencyUnavailable:
        return 0
    return len(rows)


async def test_a_failure_in_the_middle_leaves_nothing_behind(
    work: NewUnitOfWork, actions: Actions, database: Database
) -> None:
    with pytest.raises(RuntimeError):
        async with work() as unit:
            await unit.ledger.record([Entry.reported(fact) for fact in some_usage(10)])
            raise RuntimeError
    assert await ids_in(database) == []
    assert await database.fetch("select * from usage_hour") == []
    assert await database.fetch("select * from usage_stream") == []


async def test_clocks_that_are_off_neither_fail_the_batch_nor_lose_anything(
    actions: Actions, database: Database
) -> None:
    now = datetime.now(UTC)
    steps = [timedelta(minutes=10), timedelta(days=3652)]
    moments = [now, *(now + step for step in steps), *(now - step for step in steps)]
    usage = [a_usage(user=ADA, id_=id_made_at(moment), at=moment) for moment in moments]
    assert await actions.record_usage(usage) == 5
    assert (await actions.reconcile()).stray_rows == 2
    assert await actions.record_usage(usage) == 0
    assert await drift(database) == []
    entries = await actions.list_usage(ADA, period=ALWAYS, after=None, most=10)
    assert [entry.occurred_at for entry in entries] == sorted(moments, reverse=True)


async def test_old_usage_from_outside_is_not_astray(actions: Actions, clock: StoppedClock) -> None:
    def told(at: datetime) -> Told:
        event = OutsideEvent(ADA, "/shots", f"{at}", ADA, at, "screenshot", Decimal(1))
        return Told(0, event, {})

    old = told(datetime(2021, 3, 1, tzinfo=UTC))
    clock.forward(datetime(2036, 11, 24, tzinfo=UTC) - clock.now())
    ahead = told(clock.now())  # of a clock of ours that is years off
    for one, astray in ((old, 0), (ahead, 1)):
        result = await actions.report_outside_usage([one], reporter=ADA, for_anybody=True)
        assert result.accepted == 1
        assert (await actions.reconcile()).stray_rows == astray


async def test_stray_rows_move_into_their_month_once_it_is_prepared(
    actions: Actions, database: Database, clock: StoppedClock
) -> None:
    moment = datetime(2036, 11, 24, 12, tzinfo=UTC)
    usage = [a_usage(user=ADA, id_=id_made_at(moment), at=moment) for _ in range(3)]
    other = a_usage(user=ADA, id_=id_made_at(moment + timedelta(days=400)))
    await actions.record_usage([*usage, other])
    clock.forward(moment - clock.now())
    assert await actions.prepare_ledger() == 1
    rows = await database.fetch("select event_id from ledger_entry_2036_11")
    assert sorted(row["event_id"] for row in rows) == sorted(fact.id for fact in usage)
    assert await actions.record_usage([*usage, other]) == 0
    with pytest.raises(asyncpg.RestrictViolationError):
        await database.execute("delete from ledger_entry where event_id = $1", usage[0].id)


async def test_months_are_prepared_by_two_workers_at_once(
    actions: Actions, database: Database, clock: StoppedClock
) -> None:
    clock.forward(timedelta(days=200))
    await asyncio.gather(*(actions.prepare_ledger() for _ in range(5)))
    rows = await database.fetch(
        "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid"
        " where i.inhparent = 'ledger_entry'::regclass"
    )
    names = {row["relname"] for row in rows}
    assert {"ledger_entry_2027_06", "ledger_entry_2027_09", "ledger_entry_default"} <= names


async def test_usage_of_this_month_finds_its_partition(
    actions: Actions, database: Database
) -> None:
    now = datetime.now(UTC)
    await actions.record_usage([a_usage(id_=id_made_at(now))])
    rows = await database.fetch("select tableoid::regclass::text as place from ledger_entry")
    assert [row["place"] for row in rows] == [f"ledger_entry_{now:%Y_%m}"]


@pytest.mark.parametrize(
    "statement",
    [
        "update ledger_entry set input_tokens = 0",
        "update ledger_entry set user_id = gen_random_uuid()",
        "update ledger_entry set occurred_at = now()",
        "update ledger_entry set cost_microusd = 0 where cost_microusd is not null",
        "update ledger_entry set price_version = 'mine' where cost_microusd is not null",
        "update ledger_entry set pricing_status = 'unknown_price', cost_microusd = null,"
        " price_version = null, rated_at = null where cost_microusd is not null",
        "update ledger_entry set pricing_status = 'rated', cost_microusd = 1, rated_at = now(),"
        " price_version = 'mine', model = 'another' where cost_microusd is null",
        "delete from ledger_entry",
        "delete from ledger_entry_default",
    ],
)
async def test_the_ledger_itself_refuses_to_be_changed(
    statement: str, actions: Actions, database: Database
) -> None:
    far = datetime(2040, 1, 1, tzinfo=UTC)
    await actions.record_usage([a_usage(), a_speech(), a_usage(id_=id_made_at(far))])
    before = await database.fetch("select * from ledger_entry order by event_id")
    with pytest.raises(asyncpg.RestrictViolationError):
        await database.execute(statement)
    assert await database.fetch("select * from ledger_entry order by event_id") == before


async def test_the_ledger_itself_refuses_other_ids(actions: Actions, database: Database) -> None:
    await actions.record_usage([a_usage()])
    with pytest.raises(asyncpg.CheckViolationError):
        await database.execute(
            "insert into ledger_entry select (json_populate_record(e, json_build_object("
            "'event_id', gen_random_uuid()))).* from ledger_entry e"
        )
    with pytest.raises(UsageNotAcceptable):
        await actions.record_usage([a_usage(id_=uuid4())])


async def test_an_unknown_price_is_null_until_there_is_one(
    actions: Actions, database: Database, clock: StoppedClock
) -> None:
    early = a_speech(user=ADA, at=NOON - timedelta(days=2))
    late = [a_speech(user=ADA, at=NOON) for _ in range(3)]
    await actions.record_usage([early, *late, a_usage(user=ADA, at=NOON)])
    await actions.link_ledger()
    unpriced = (await actions.reconcile()).unpriced
    assert unpriced == [(("elevenlabs", "eleven_flash_v2_5"), 4)]
    price = await actions.set_price(
        ("elevenlabs", "eleven_flash_v2_5"),
        UnitPrices(characters=180_000_000),
        effective_from=NOON - timedelta(days=1),
        by=STAFF,
    )
    assert await actions.rate_unpriced_usage() == 3
    assert await actions.rate_unpriced_usage() == 0
    entry = await actions.explain_usage(late[0].id, by=ADA)
    assert entry.rating is not None
    assert (entry.rating.cost, entry.rating.price_version) == (180_000, price.version)
    assert entry.rated_at is not None
    assert (await actions.explain_usage(early.id, by=ADA)).rating is None
    assert await drift(database) == []


async def test_what_waits_is_rated_by_two_workers_at_once_only_once(
    actions: Actions, database: Database
) -> None:
    await actions.record_usage([a_speech(user=ADA, at=NOON) for _ in range(900)])
    await actions.link_ledger()
    await actions.set_price(
        ("elevenlabs", "eleven_flash_v2_5"),
        UnitPrices(characters=1_000_000),
        effective_from=NOON,
        by=STAFF,
    )
    rated = await asyncio.gather(*(actions.rate_unpriced_usage() for _ in range(4)))
    rated.append(await actions.rate_unpriced_usage())
    assert sum(rated) == 900
    assert await drift(database) == []
    assert (await actions.reconcile()).unpriced == []


async def test_an_override_wins_from_its_moment_on(actions: Actions) -> None:
    await actions.set_price(
        ("openai", "gpt-6-luna"), UnitPrices(input=0, output=0), effective_from=NOON, by=STAFF
    )
    before = a_usage(user=ADA, at=NOON - timedelta(microseconds=1))
    after = a_usage(user=ADA, at=NOON)
    await actions.record_usage([before, after])
    ratings = [(await actions.explain_usage(fact.id, by=ADA)).rating for fact in (before, after)]
    assert [rating.cost for rating in ratings if rating] == [205, 0]


async def test_sums_that_are_larger_than_64_bits_are_right(
    actions: Actions, database: Database
) -> None:
    await actions.set_price(
        ("openai", "huge"), UnitPrices(*[10**10] * 5), effective_from=NOON, by=STAFF
    )
    huge: dict[str, Any] = {
        "input_tokens": MOST_UNITS,
        "cache_read_tokens": 0,
        "output_tokens": MOST_UNITS,
        "characters": MOST_UNITS,
        "model": "huge",
    }
    # 500 × 3 × 10^12 units at ten thousand dollars a million: 1.5 × 10^19 micro-dollars.
    await actions.record_usage([a_usage(user=ADA, at=NOON, **huge) for _ in range(500)])
    await actions.link_ledger()
    report = await actions.report_usage(
        ADA, begins=NOON, ends=NOON + timedelta(hours=1), dimensions=(), sandbox=None
    )
    assert report.totals.input_tokens == 500 * MOST_UNITS
    assert report.totals.cost == 15 * 10**18 > 2**63
    assert await drift(database) == []


async def test_a_report_groups_by_what_it_is_told(actions: Actions) -> None:
    midnight = datetime(2026, 11, 25, tzinfo=UTC)
    second = timedelta(seconds=1)
    await actions.record_usage(
        [
            a_usage(user=ADA, at=midnight - second),
            a_usage(user=ADA, at=midnight),
            a_usage(user=ADA, at=midnight, provider="anthropic", model="claude-sonnet-5-5"),
            a_speech(user=ADA, at=midnight, sandbox=True),
            a_usage(user=uuid4(), at=midnight),
        ]
    )
    await actions.link_ledger()

    async def report(*dimensions: Dimension, sandbox: bool | None = None) -> dict[object, int]:
        found = await actions.report_usage(
            ADA,
            begins=midnight - timedelta(days=1),
            ends=midnight + timedelta(days=1),
            dimensions=dimensions,
            sandbox=sandbox,
        )
        return {
            tuple(str(key) for _, key in group.keys): group.sums.requests for group in found.groups
        }

    assert await report() == {(): 4}
    assert await report(Dimension.DAY) == {("2026-11-24",): 1, ("2026-11-25",): 3}
    assert await report(Dimension.OPERATION, Dimension.PROVIDER) == {
        ("chat", "anthropic"): 1,
        ("chat", "openai"): 2,
        ("voice", "elevenlabs"): 1,
    }
    assert await report(Dimension.MODEL, sandbox=True) == {("eleven_flash_v2_5",): 1}
    assert await report(sandbox=False) == {(): 3}


async def test_pages_neither_skip_nor_repeat_where_times_are_equal(actions: Actions) -> None:
    usage = [a_usage(user=ADA, at=NOON + timedelta(seconds=n // 5)) for n in range(23)]
    await actions.record_usage(usage)
    found, after = [], None
    while True:
        page = await actions.list_usage(ADA, period=ALWAYS, after=after, most=4)
        found += [entry.event_id for entry in page]
        if len(page) < 4:
            break
        after = (page[-1].occurred_at, page[-1].event_id)
    expected = sorted(usage, key=lambda fact: (fact.time, fact.id), reverse=True)
    assert found == [fact.id for fact in expected]


async def test_changes_at_once_are_revisions_one_after_the_other(
    actions: Actions, database: Database
) -> None:
    tiers = ["pro", "enterprise", "free", "pro", "enterprise", "free"]
    await asyncio.gather(*(actions.grant_subscription(ADA, t, None, by=STAFF) for t in tiers))
    rows = await database.fetch("select revision, tier from subscription_change order by revision")
    assert [row["revision"] for row in rows] == list(range(1, len(rows) + 1))
    assert (await actions.show_subscription(ADA)).tier_name == rows[-1]["tier"]
    told = await database.fetch(
        "select envelope from outbox where envelope ->> 'type' = 'subscription.changed'"
    )
    assert sorted(row["envelope"]["data"]["revision"] for row in told) == [
        row["revision"] for row in rows
    ]


async def test_a_manifest_never_takes_a_stream_back(actions: Actions) -> None:
    await actions.note_manifests([a_manifest(9), a_manifest(7)])
    await actions.note_manifests([a_manifest(3)])
    (progress,) = (await actions.reconcile()).progress
    assert progress.announced == 9
    assert progress.last_manifest_at is not None


async def test_gaps_are_kept_between_runs(actions: Actions, clock: StoppedClock) -> None:
    usage = some_usage(10)
    await actions.record_usage(usage[:3] + usage[5:8])
    assert await actions.request_missing_usage() == 0
    clock.forward(timedelta(seconds=15))
    assert await actions.request_missing_usage() == 1
    (gap,) = (await actions.reconcile()).gaps
    assert (gap.first, gap.last, gap.requests) == (4, 5, 1)
    assert await actions.request_missing_usage() == 0
    await actions.record_usage(usage)
    await actions.request_missing_usage()
    assert (await actions.reconcile()).gaps == []


async def test_gaps_are_looked_for_by_two_workers_at_once(
    actions: Actions, clock: StoppedClock
) -> None:
    await actions.record_usage(some_usage(10)[5:])
    await actions.request_missing_usage()
    clock.forward(timedelta(seconds=15))
    asked = await asyncio.gather(*(actions.request_missing_usage() for _ in range(4)))
    assert sum(asked) == 1
