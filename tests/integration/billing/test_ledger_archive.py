"""Partitions into files: whatever step it stops at, each entry is in one place, whole."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pyarrow.parquet as pq
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from prometheus_client import REGISTRY
from sqlalchemy import create_engine, make_url

from services.billing.actions import Actions
from services.billing.actions.archive_ledger import ArchiveLedger, VerifyArchive
from services.billing.actions.export_records import ReadRows
from services.billing.actions.report_outside_usage import ReportResult, Told
from services.billing.actions.watch_money import WatchWaiting
from services.billing.api.gauges import show_waiting
from services.billing.domain.archive import Contents, Partition
from services.billing.domain.errors import UsageRecordNotFound
from services.billing.domain.ledger_chain import chain_of
from services.billing.domain.organisation_usage import KeyDimension, KeySpending
from services.billing.domain.outside_usage import OutsideEvent
from services.billing.domain.period import Period
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.price_book import UnitPrices
from services.billing.domain.usage_export import Day
from services.billing.providers import parquet_archive
from services.billing.providers.archived_rows import ArchivedUsage
from services.billing.providers.parquet_archive import ParquetArchive
from shared.chain import Head
from shared.db.database import Database
from shared.errors import DependencyUnavailable
from shared.events import Fact
from shared.events.usage import UsageRecorded
from shared.ids import UserId
from tests.integration.billing.test_copied_usage import columns
from tests.support.billing import StoppedClock, a_speech, a_usage, id_made_at
from tests.support.billing_invoices import settle

DAY = datetime(2031, 5, 6, tzinfo=UTC)
PARTITION = "ledger_entry_2031_05_06"
ADA, STAFF = UserId(uuid4()), UserId(uuid4())
STEPS = ("exporting", "written", "exported", "verified", "dropping", "dropped")


class Killed(BaseException):
    """The process ended here."""


@dataclass
class Archiving:
    """A day of usage that is old enough, and the one who archives it."""

    archive: ArchiveLedger
    verify: VerifyArchive
    folder: Path
    usage: Sequence[Fact[UsageRecorded]]

    def killed_after(self, step: str) -> ArchiveLedger:
        def kill(done: str) -> None:
            if done == step:
                raise Killed(step)

        return replace(self.archive, after_step=kill)


@pytest.fixture
def archiving(
    work: NewUnitOfWork, clock: StoppedClock, tmp_path: Path
) -> Callable[[Actions, Database], Any]:
    async def make(actions: Actions, database: Database) -> Archiving:
        clock.forward(DAY - clock.now())
        await database.execute("select prepare_ledger_day($1, $1)", DAY.date())
        usage = [
            make_one(user=ADA, id_=id_made_at(at), at=at)
            for make_one, at in (
                (make_one, DAY + timedelta(minutes=number))
                for number in range(20)
                for make_one in (a_usage, a_speech)
            )
        ]
        # With marks of the intake's, and without.
        await actions.record_usage.together(columns(usage[:20]))
        await actions.record_usage(usage[20:])
        await actions.link_ledger()
        await actions.set_price(
            ("elevenlabs", "eleven_flash_v2_5"),
            UnitPrices(characters=1_000_000),
            effective_from=DAY - timedelta(days=1),
            by=STAFF,
        )
        await actions.rate_unpriced_usage()
        await actions.link_ledger()
        await close_months(database, DAY)
        await settle(actions, database)
        clock.forward(timedelta(days=100))
        files = ParquetArchive(tmp_path)
        archive = ArchiveLedger(work, files, clock, timedelta(days=95))
        return Archiving(archive, VerifyArchive(work, files), tmp_path, usage)

    return make


async def close_months(database: Database, moment: datetime) -> None:
    await database.execute(
        "insert into period (month, closed_at, closed_by, waived, totals, digest)"
        " values (date_trunc('month', $1::timestamptz)::date, now(), $2, '[]', '{}', '')",
        moment,
        STAFF,
    )


async def still_in_the_database(database: Database) -> set[UUID]:
    return {row["event_id"] for row in await database.fetch("select event_id from ledger_entry")}


def in_the_file(folder: Path) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(folder / f"{PARTITION}.parquet").to_pylist()
    entries = {row["event_id"]: dict(row) for row in rows if row["kind"] != "l"}
    for row in rows:
        if row["kind"] == "l":
            entries[row["event_id"]] |= {
                name: row[name] for name in ("cost_microusd", "price_version", "rated_at")
            }
    return entries


async def test_an_outside_event_of_an_archived_day_is_held_and_its_report_is_not_lost(
    archiving: Any, actions: Actions, database: Database
) -> None:
    day: Archiving = await archiving(actions, database)

    def told(index: int, at: datetime, name: str, by: UserId = STAFF) -> Told:
        event = OutsideEvent(
            reporter=by,
            source="/screenshots",
            external_id=name,
            user_id=ADA,
            occurred_at=at,
            meter="screenshot",
            quantity=Decimal(1),
        )
        return Told(index, event, {})

    async def report(*events: Told) -> ReportResult:
        return await actions.report_outside_usage(events, reporter=STAFF, for_anybody=True)

    before = told(0, DAY + timedelta(hours=2), "before")
    await database.execute(
        "insert into outside_event (reporter_id, source, external_id, event_id, digest)"
        " values ($1, '/screenshots', 'before', $2, $3)",
        STAFF,
        before.event.event_id,
        before.event.digest,
    )
    assert await day.archive() == [PARTITION]
    late, good = told(1, DAY + timedelta(hours=3), "late"), told(2, DAY + timedelta(99), "good")
    for accepted in (1, 0):
        result = await report(before, late, good)
        assert (result.accepted, result.duplicates) == (accepted, 2 - accepted)
        assert [(one.index, trouble.code) for one, trouble in result.held] == [(1, "time_archived")]
    held = await database.fetch("select external_id, code from held_usage")
    assert [tuple(row) for row in held] == [("late", "time_archived")]
    # What another reporter told in time was counted.
    await database.execute(
        "insert into outside_content (content, event_id) values ($1, $2)",
        before.event.content,
        before.event.event_id,
    )
    again = told(0, DAY + timedelta(hours=2), "before", by=ADA)
    result = await actions.report_outside_usage([again], reporter=ADA, for_anybody=True)
    assert (result.duplicates, result.held) == (1, [])


async def test_what_was_said_beside_an_archived_days_usage_goes_with_it(
    archiving: Any, actions: Actions, database: Database
) -> None:
    day: Archiving = await archiving(actions, database)
    another = id_made_at(DAY + timedelta(days=1))
    for event_id in (day.usage[0].id, another):
        await database.execute(
            "insert into usage_metadata values ($1, $2, $3)", event_id, ADA, {"window": "Mail"}
        )
    assert await day.archive() == [PARTITION]
    kept = await database.fetch("select event_id from usage_metadata")
    assert [row["event_id"] for row in kept] == [another]


async def test_an_archived_day_holds_every_fact_and_every_sum_stays(
    archiving: Any, actions: Actions, database: Database
) -> None:
    day: Archiving = await archiving(actions, database)
    rows = {row["event_id"]: row for row in await database.fetch("select * from ledger_entry")}
    hours = await database.fetch("select * from usage_hour order by 1, 2, 3")
    asked = Period(DAY, DAY + timedelta(days=1))
    assert await actions.list_usage.archived(ADA, asked) == 0
    assert await day.archive() == [PARTITION]
    assert await actions.list_usage.archived(ADA, asked) == 40
    assert await actions.list_usage.archived(STAFF, asked) == 0
    assert await still_in_the_database(database) == set()
    archived = in_the_file(day.folder)
    assert set(archived) == {str(id_) for id_ in rows}
    for id_, row in rows.items():
        # What was cached says so by its price's version, too.
        derived = ("pricing_status", "cached")
        kept = {name: value for name, value in row.items() if name not in derived}
        there = {name: archived[str(id_)][name] for name in kept}
        assert {n: str(v) if isinstance(v, UUID) else v for n, v in kept.items()} == there
    assert await database.fetch("select * from usage_hour order by 1, 2, 3") == hours
    check = await actions.check_rollups()
    assert (check.drifts, check.compared > 0) == (0, True)
    assert [verdict.problem for verdict in await day.verify()] == [None]
    noted = {chain_of(day.usage[0].id): Head(60, bytes(32))}
    assert [one.broken for one in await actions.verify_ledger(known=noted) if one.broken] == []
    assert {path.name for path in day.folder.iterdir()} == {
        f"{PARTITION}.json",
        f"{PARTITION}.parquet",
        ".lock",
    }


async def test_heads_of_an_archived_day_are_compared_with_its_file(
    archiving: Any, actions: Actions, database: Database
) -> None:
    day: Archiving = await archiving(actions, database)
    chain = chain_of(day.usage[0].id)
    heads, _ = await actions.show_ledger()
    [run, *_] = await database.fetch(
        "select first_sequence, links from ledger_link where chain = $1 order by first_sequence",
        chain,
    )
    on_the_way = Head(run["first_sequence"], run["links"][:32])
    end = heads[chain]
    assert await day.verify.of_heads({chain: end}) == []  # it is in the ledger still
    assert await day.archive() == [PARTITION]

    async def told(known: Head) -> tuple[str | None, str | None]:
        [verdict] = await day.verify.of_heads({chain: known, chain + 1: known})
        [archive] = await day.verify(PARTITION, {chain: known, chain + 1: known})
        assert (verdict.chain, verdict.head) == (chain, end)
        return verdict.broken.what if verdict.broken else None, archive.problem

    for sound in (end, on_the_way):
        assert await told(sound) == (None, None)
    for false, word in (
        (Head(end.sequence, bytes(32)), "another one"),
        (Head(on_the_way.sequence, end.mac), "another one"),
        (Head(end.sequence + 1, end.mac), "cut off"),
    ):
        of_chain, of_file = await told(false)
        assert of_chain is not None and of_file is not None
        assert (word in of_chain, word in of_file) == (True, True)
        assert PARTITION in of_chain and of_file.startswith("2031-05-06: ")
    nowhere = replace(day.verify, files=None)
    [verdict] = await nowhere.of_heads({chain: end})
    assert verdict.broken is not None and "No archive directory" in verdict.broken.what


@pytest.mark.parametrize("step", STEPS)
async def test_a_crash_at_any_step_loses_nothing(
    step: str, archiving: Any, actions: Actions, database: Database
) -> None:
    day: Archiving = await archiving(actions, database)
    ids = {fact.id for fact in day.usage}
    with pytest.raises(Killed):
        await day.killed_after(step)()
    there = await still_in_the_database(database)
    assert there == (set() if step == "dropped" else ids)
    assert await day.archive() == ([] if step == "dropped" else [PARTITION])
    assert await still_in_the_database(database) == set()
    assert set(in_the_file(day.folder)) == {str(id_) for id_ in ids}
    assert [verdict.problem for verdict in await day.verify()] == [None]
    assert (await actions.check_rollups()).drifts == 0


async def test_usage_that_comes_between_writing_and_dropping_is_archived_too(
    archiving: Any, actions: Actions, database: Database
) -> None:
    day: Archiving = await archiving(actions, database)
    with pytest.raises(Killed):
        await day.killed_after("verified")()
    late = a_usage(user=ADA, id_=id_made_at(DAY + timedelta(hours=3)), at=DAY)
    await actions.record_usage([late])
    assert await day.archive() == []  # it has no link yet
    await actions.link_ledger()
    await settle(actions, database)
    assert await day.archive() == []  # the file lacks it
    assert await day.archive() == [PARTITION]
    assert str(late.id) in in_the_file(day.folder)


async def test_a_file_that_was_changed_is_written_anew_before_anything_is_dropped(
    archiving: Any, actions: Actions, database: Database
) -> None:
    day: Archiving = await archiving(actions, database)
    with pytest.raises(Killed):
        await day.killed_after("verified")()
    (day.folder / f"{PARTITION}.parquet").write_bytes(b"nothing")
    assert await day.archive() == [PARTITION]
    assert len(in_the_file(day.folder)) == len(day.usage)
    (day.folder / f"{PARTITION}.parquet").write_bytes(b"nothing")
    assert [verdict.problem for verdict in await day.verify()] != [None]


async def test_what_is_unpriced_unlinked_or_of_an_open_month_stays(
    archiving: Any, actions: Actions, database: Database, work: NewUnitOfWork, clock: StoppedClock
) -> None:
    day: Archiving = await archiving(actions, database)
    id_ = id_made_at(DAY + timedelta(hours=4))
    await actions.record_usage([a_usage(user=ADA, id_=id_, at=DAY, model="nobody-knows-it")])
    await actions.link_ledger()
    assert await day.archive() == []
    # Everybody hears for how long it should have been gone.
    async with work() as unit:
        oldest = min(one.ends_at for one in await unit.archive.partitions())
    since = clock.now() - oldest - timedelta(days=95)
    waiting = await WatchWaiting(work, clock, timedelta(days=95))()
    assert waiting.archive_overdue == since > timedelta(days=3)
    show_waiting(waiting, clock.now())
    overdue = "companion_billing_archive_overdue_seconds"
    assert REGISTRY.get_sample_value(overdue) == since.total_seconds()
    for retention in (None, since + timedelta(days=95)):
        waiting = await WatchWaiting(work, clock, retention)()
        assert waiting.archive_overdue == timedelta(0)
    # Of the sandbox, which is never charged, nothing waits for a price.
    free = id_made_at(DAY + timedelta(hours=5))
    unknown = a_usage(user=ADA, id_=free, at=DAY, model="nobody-knows-it", sandbox=True)
    await actions.record_usage([unknown])
    await actions.correct_usage(id_, None, reason="Not paid.", by=STAFF)
    await actions.link_ledger()
    async with database.connection() as connection:
        await connection.execute("alter table period disable trigger user")
        await connection.execute("delete from period")
    assert await day.archive() == []
    await close_months(database, DAY)
    await settle(actions, database)
    assert await day.archive() == [PARTITION]
    assert (await actions.check_rollups()).drifts == 0


async def test_what_is_on_no_invoice_yet_or_not_counted_stays(
    archiving: Any, actions: Actions, database: Database
) -> None:
    day: Archiving = await archiving(actions, database)
    late = a_usage(user=ADA, id_=id_made_at(DAY + timedelta(hours=3)), at=DAY)
    await actions.record_usage([late])
    await actions.link_ledger()
    await actions.derive_activity()
    assert await day.archive() == []  # it came after the month was invoiced
    await settle(actions, database)
    await actions.correct_usage(late.id, None, reason="Not paid.", by=STAFF)
    await actions.link_ledger()
    await actions.derive_activity()
    assert await day.archive() == []  # its fee is to be given back by its tier
    await settle(actions, database)
    await database.execute("delete from analytics_cursor where chain >= 0")
    assert await day.archive() == []
    await settle(actions, database)
    assert await day.archive() == [PARTITION]


async def test_a_price_that_became_known_is_invoiced_before_its_entry_leaves(
    archiving: Any, actions: Actions, database: Database
) -> None:
    day: Archiving = await archiving(actions, database)
    await database.execute("alter table invoice_item disable trigger user")
    await database.execute("update invoice_item set unpriced = true")
    await database.execute("alter table invoice_item enable trigger user")
    assert await day.archive() == []
    await database.execute(
        "insert into invoice_item select source_id, 'priced', line_id, holder_id, false"
        " from invoice_item where aspect = 'usage'"
    )
    assert await day.archive() == [PARTITION]


async def test_what_a_price_waits_for_stays_until_it_is_applied(
    archiving: Any, actions: Actions, database: Database, clock: StoppedClock
) -> None:
    """What has left can't be corrected: the price would be applied to nothing, and nobody told."""
    day: Archiving = await archiving(actions, database)
    prices = UnitPrices(characters=3_000_000)
    model, since = ("elevenlabs", "eleven_flash_v2_5"), DAY - timedelta(hours=1)
    # Beside it one that holds for another time.
    for moment in (since, DAY + timedelta(days=2)):
        await actions.set_price(model, prices, effective_from=moment, by=STAFF, rerate=True)
    assert await day.archive() == []
    clock.forward(timedelta(minutes=3))
    assert await actions.rerate_usage() == 20
    await actions.link_ledger()
    await database.execute(
        "insert into invoice_item"
        " select id, 'correction', id, user_id, false from ledger_correction"
    )
    await actions.derive_activity()
    assert await day.archive() == [PARTITION]


async def test_what_was_to_be_told_of_an_archived_day_is_dropped_with_it(
    archiving: Any, actions: Actions, database: Database
) -> None:
    """A run of links that are gone would be told as one in which nothing happened."""
    day: Archiving = await archiving(actions, database)
    endpoint = uuid4()
    await database.execute(
        "insert into webhook_endpoint (id, owner_kind, url, types, secret, created_by, created_at,"
        " disabled_at, disabled_because) values"
        " ($1, 'operator', 'https://example.com', '{usage.recorded}', '', $1, now(), now(),"
        " 'by_owner')",
        endpoint,
    )
    await database.execute(
        "insert into webhook_delivery (id, endpoint_id, type, effect_key, chain, first_sequence,"
        " last_sequence, created_at, state, next_attempt_at)"
        " select $1, $1, 'usage.recorded', 'usage', max(chain), 1, 9, now(), 'waiting', now()"
        " from ledger_link",
        endpoint,
    )
    assert await day.archive() == [PARTITION]
    assert await database.fetch("select id from webhook_delivery") == []


async def test_what_comes_for_an_archived_day_is_refused_alone(
    archiving: Any, actions: Actions, database: Database
) -> None:
    day: Archiving = await archiving(actions, database)
    await day.archive()
    with pytest.raises(asyncpg.RestrictViolationError):
        await actions.record_usage([day.usage[0]])
    assert await actions.prepare_ledger() == 0
    with pytest.raises(UsageRecordNotFound):
        await actions.explain_usage(day.usage[0].id, by=ADA)


async def test_days_take_the_place_of_empty_months_ahead_only(
    work: NewUnitOfWork, database: Database
) -> None:
    async with work() as unit:
        await unit.upkeep.prepare_days(datetime(2026, 11, 28, tzinfo=UTC), ahead=5)
    async with work() as unit:
        await unit.upkeep.prepare_months([datetime(2026, 12, 1, tzinfo=UTC)])
    rows = await database.fetch(
        "select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid"
        " where i.inhparent = 'ledger_entry'::regclass"
    )
    names = {row["name"].removeprefix("ledger_entry_") for row in rows}
    assert {"2026_11", "2026_12_01", "2026_12_03", "2026_12_31"} <= names
    assert not {"2026_12", "2026_11_28"} & names


async def test_two_workers_at_once_write_one_file(
    archiving: Any, actions: Actions, database: Database
) -> None:
    day: Archiving = await archiving(actions, database)
    done = await asyncio.gather(*(day.archive() for _ in range(3)))
    assert sorted(done) == [[], [], [PARTITION]]
    assert [verdict.problem for verdict in await day.verify()] == [None]


FIRM = UUID("019a0000-0000-4000-8000-0000000000f1")


async def on_keys(actions: Actions, database: Database) -> list[Fact[UsageRecorded]]:
    """Of an archived day: some calls on an organisation's key, of which two are corrected."""
    usage = [
        a_usage(
            user=ADA,
            id_=id_made_at(DAY + timedelta(hours=4, minutes=number)),
            at=DAY + timedelta(hours=4, minutes=number),
            key_organisation_id=FIRM,
        )
        for number in range(4)
    ]
    await actions.record_usage(usage)
    await actions.link_ledger()
    await settle(actions, database)
    await actions.correct_usage(usage[0].id, None, reason="Not paid.", by=STAFF)
    await actions.link_ledger()
    await settle(actions, database)
    return usage


async def spent(work: NewUnitOfWork) -> KeySpending:
    async with work() as open_work:
        return await open_work.key_spending.of(
            FIRM,
            Period(DAY, DAY + timedelta(days=1)),
            [KeyDimension.MEMBER, KeyDimension.DAY, KeyDimension.MODEL],
            sandbox=None,
            after=None,
            most=10,
        )


async def test_what_an_organisations_key_was_spent_on_stays_when_its_day_leaves(
    archiving: Any, actions: Actions, database: Database, work: NewUnitOfWork
) -> None:
    day: Archiving = await archiving(actions, database)
    usage = await on_keys(actions, database)
    before = await spent(work)
    assert (before.totals.requests, before.totals.known_cost) == (3, 3 * 205)
    assert await day.archive() == [PARTITION]
    assert await spent(work) == before
    archived = in_the_file(day.folder)
    ran = {id_ for id_, row in archived.items() if row["key_organisation_id"] == str(FIRM)}
    assert ran == {str(one.id) for one in usage}
    assert [verdict.problem for verdict in await day.verify()] == [None]
    # Rows of files, too, say it: of the calls and of what was put right.
    read = ReadRows(work, ArchivedUsage(day.archive.files))  # type: ignore[arg-type]
    rows = [row async for page in read.of_day(Day(DAY.date())) for row in page]
    told = [row for row in rows if row["key_organisation_id"] == FIRM]
    assert sorted(row["record"] for row in told) == ["usage"] * 4 + ["voided"]
    assert sum(row["requests"] for row in told) == 3
    assert len(rows) == 45


async def verified(day: Archiving, work: NewUnitOfWork) -> tuple[Partition, Contents]:
    """Its day is in a file that was read back, and may leave."""
    with pytest.raises(Killed):
        await day.killed_after("verified")()
    async with work() as open_work:
        archive = await open_work.archive.get(PARTITION)
    assert archive is not None and archive.contents is not None
    return archive.partition, archive.contents


async def leave(work: NewUnitOfWork, partition: Partition, contents: Contents) -> None:
    async with work() as open_work:
        await open_work.archive.drop(partition, contents, DAY)


async def waits_for_a_lock(database: Database) -> None:
    while not await database.fetch(
        "select 1 from pg_stat_activity where datname = current_database()"
        " and wait_event_type = 'Lock'"
    ):
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("leaves", [True, False])
async def test_a_report_that_comes_while_a_day_leaves_waits_and_is_the_same(
    archiving: Any, actions: Actions, database: Database, work: NewUnitOfWork, leaves: bool
) -> None:
    day: Archiving = await archiving(actions, database)
    await on_keys(actions, database)
    before = await spent(work)
    partition, contents = await verified(day, work)

    with nullcontext() if leaves else pytest.raises(Killed):
        async with work() as open_work:
            assert await open_work.archive.drop(partition, contents, DAY)
            asked = asyncio.create_task(spent(work))
            await asyncio.wait_for(waits_for_a_lock(database), 20)
            if not leaves:
                raise Killed
    assert await asyncio.wait_for(asked, 20) == before == await spent(work)
    assert await day.archive() == ([] if leaves else [PARTITION])
    assert await spent(work) == before


async def test_reports_go_on_while_a_day_can_not_leave_for_a_long_one(
    archiving: Any, actions: Actions, database: Database, work: NewUnitOfWork
) -> None:
    day: Archiving = await archiving(actions, database)
    await on_keys(actions, database)
    before = await spent(work)
    partition, contents = await verified(day, work)

    async with database.connection() as reader, reader.transaction():
        await reader.execute("select count(*) from ledger_entry")
        leaving = asyncio.create_task(leave(work, partition, contents))
        await asyncio.wait_for(waits_for_a_lock(database), 20)
        # Whoever asks now stands behind it, and it gives up soon.
        assert await asyncio.wait_for(spent(work), 10) == before
        with pytest.raises(DependencyUnavailable):
            await leaving
    assert await day.archive() == [PARTITION]
    assert await spent(work) == before


async def test_nobody_waits_for_what_is_deleted_with_a_day(
    archiving: Any, actions: Actions, database: Database, work: NewUnitOfWork
) -> None:
    day: Archiving = await archiving(actions, database)
    await on_keys(actions, database)
    before = await spent(work)
    partition, contents = await verified(day, work)

    async with database.connection() as other, other.transaction():
        await other.execute("select 1 from ledger_link for update")
        leaving = asyncio.create_task(leave(work, partition, contents))
        await asyncio.wait_for(waits_for_a_lock(database), 20)
        assert await spent(work) == before
        assert not leaving.done(), "it has waited for the ledger to be free again"
        with pytest.raises(DependencyUnavailable):
            await leaving
    assert await day.archive() == [PARTITION]


async def test_reports_go_on_while_their_index_is_built(
    archiving: Any, actions: Actions, database: Database, database_url: str, work: NewUnitOfWork
) -> None:
    await archiving(actions, database)
    await on_keys(actions, database)
    before = await spent(work)
    await database.execute("drop index ix_ledger_entry_key_organisation")
    assert await spent(work) == before
    async with database.connection() as batch, batch.transaction():
        # It is not committed yet, and each `concurrently` has to wait for it.
        await batch.execute("lock table ledger_entry in row exclusive mode")
        building = asyncio.create_task(asyncio.to_thread(build_index, database_url))
        await asyncio.wait_for(waits_for_a_lock(database), 20)
        for _ in range(3):
            assert await asyncio.wait_for(spent(work), 10) == before
        assert not building.done()
    while not building.done():
        assert await asyncio.wait_for(spent(work), 10) == before
    await building
    assert await spent(work) == before
    rows = await database.fetch(
        "select bool_and(indisvalid) as sound from pg_index"
        " where indexrelid = 'ix_ledger_entry_key_organisation'::regclass"
    )
    assert rows[0]["sound"]


def build_index(url: str) -> None:
    """As the migration does it on a ledger that is in use."""
    migration = importlib.import_module(
        "services.billing.storage.migrations.versions.0022_calls_on_an_organisations_key"
    )
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg2"))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        with Operations.context(context), context.begin_transaction():
            migration.upgrade()
    engine.dispose()


async def test_another_key_in_a_file_shows(
    archiving: Any, actions: Actions, database: Database
) -> None:
    day: Archiving = await archiving(actions, database)
    await on_keys(actions, database)
    assert await day.archive() == [PARTITION]
    path = day.folder / f"{PARTITION}.parquet"
    rows = pq.read_table(path).to_pylist()
    place = next(n for n, row in enumerate(rows) if row["key_organisation_id"])
    rows[place]["key_organisation_id"] = str(ADA)
    pq.write_table(pq.read_table(path).from_pylist(rows, schema=pq.read_schema(path)), path)
    (problem,) = [verdict.problem for verdict in await day.verify()]
    assert problem is not None
    assert "does not fit its record" in problem


async def test_a_file_of_before_it_was_known_whose_key_served_is_read_as_it_is(
    archiving: Any,
    actions: Actions,
    database: Database,
    work: NewUnitOfWork,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    day: Archiving = await archiving(actions, database)
    schema = parquet_archive._schema()
    before = schema.remove(schema.get_field_index("key_organisation_id"))
    with monkeypatch.context() as patched:
        patched.setattr(parquet_archive, "_schema", lambda: before)
        patched.setattr(parquet_archive, "_is_ours", before.equals)
        assert await day.archive() == [PARTITION]
    path = day.folder / f"{PARTITION}.parquet"
    assert "key_organisation_id" not in pq.read_schema(path).names
    assert [verdict.problem for verdict in await day.verify()] == [None]
    read = ReadRows(work, ArchivedUsage(day.archive.files))  # type: ignore[arg-type]
    rows = [row async for page in read.of_day(Day(DAY.date())) for row in page]
    assert [row["key_organisation_id"] for row in rows] == [None] * 40
