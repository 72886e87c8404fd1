"""Manifests of hours, silence, and closing a month on real engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from services.billing.actions import Actions
from services.billing.actions._pace import Rhythm
from services.billing.actions.close_period import findings_of
from services.billing.domain.closing import NOT_HEARD, Finding, Month
from services.billing.domain.correction import Deltas
from services.billing.domain.errors import (
    BadMonth,
    PeriodClosed,
    PeriodNotComplete,
    PeriodNotFound,
    PeriodNotOver,
)
from services.billing.domain.ledger import Counts
from services.billing.domain.period import Period
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.price_book import UnitPrices
from shared.db.database import Database, open_database
from shared.db.engine import sync_engine
from shared.db.unit_of_work import INSERT_OUTBOX, outbox_columns
from shared.events import Fact
from shared.events.limit import LimitRefused
from shared.events.usage import (
    UsageAdjusted,
    UsageManifest,
    UsageRecorded,
    UsageReplayRequested,
)
from shared.ids import UserId
from shared.limits.windows import month_window
from shared.messaging.consumer import Consumer
from tests.integration.billing.harness import Producer, a_message, drift, ids_in, take_in
from tests.support.billing import NOON, StoppedClock, a_speech, a_usage, an_entry, id_made_at
from tests.support.engines import PostgresServer

STAFF = UserId(uuid4())
REASON = "The producer's database was lost; checked by hand."
THIS_HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
LAST_HOUR = THIS_HOUR - timedelta(minutes=30)
MONTH = Month(LAST_HOUR.date().replace(day=1))
USAGE, MANIFESTS = "usage.recorded.free", "usage.manifest.free"


@pytest.fixture
def after(clock: StoppedClock) -> StoppedClock:
    """The clock stands in the month after this one, when it may be closed."""
    clock.forward(MONTH.period.ends + timedelta(days=1) - clock.now())
    return clock


@pytest_asyncio.fixture
async def producer(postgres_server: PostgresServer, database_url: str) -> AsyncIterator[Producer]:
    """Chat, reduced to its outbox. Every service's event tables are alike, so billing's serve."""
    with postgres_server.fresh_database(template="template_billing") as url:
        engine = sync_engine(url)
        async with open_database(url, connections=2, application="chat") as database:
            yield Producer(database, engine)
        engine.dispose()


class Road:
    """From a producer's outbox into billing's ledger, with what may happen on the way."""

    def __init__(self, producer: Producer, consumer: Consumer) -> None:
        self.producer = producer
        self.consumer = consumer

    async def use(self, *facts: Fact[UsageRecorded]) -> None:
        """Usage as the producer's services write it: with the time at which a call began."""
        await self.producer.database.execute(
            INSERT_OUTBOX, *outbox_columns(_from_chat(fact) for fact in facts)
        )

    async def carry(self, *, lose: bool = False, most: int = 200) -> None:
        while (message := self.producer.send(USAGE, most=most)) is not None:
            if not lose:
                await take_in(self.consumer, message)

    async def tell(self, job: str = "announce_closed_hours") -> list[dict[str, Any]]:
        await self.producer.listen.jobs[f"chat.jobs.{job}"].run(self.producer.database)
        told = []
        while (message := self.producer.send(MANIFESTS)) is not None:
            told += message["events"]
            await self.consumer.receive(UsageManifest.type, message)
        return [event["data"] for event in told]


def _from_chat(fact: Fact[UsageRecorded]) -> Fact[UsageRecorded]:
    return replace(fact, source="chat")


@pytest.fixture
def road(producer: Producer, consumer: Consumer) -> Road:
    return Road(producer, consumer)


def some_usage(count: int = 3, at: datetime = LAST_HOUR) -> list[Fact[UsageRecorded]]:
    return [
        a_usage(at=at + timedelta(seconds=second), id_=id_made_at(at)) for second in range(count)
    ]


def set_clock(monkeypatch: pytest.MonkeyPatch, off: timedelta) -> None:
    """Of the producer's worker; not of the databases."""

    class Off(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + off

    for module in ("shared.events.base", "shared.messaging.replay"):
        monkeypatch.setattr(f"{module}.datetime", Off, raising=False)


@pytest.mark.parametrize(
    ("first", "then"),
    [(5, 5), (62, 0), (0, -10)],
    ids=["ahead", "ahead and set right", "set back"],
)
async def test_what_an_hour_gets_late_is_told_whatever_the_clock_of_the_producers_worker_says(
    road: Road,
    work: NewUnitOfWork,
    monkeypatch: pytest.MonkeyPatch,
    first: int,
    then: int,
) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    set_clock(monkeypatch, timedelta(minutes=first))
    await road.use(*some_usage(3, hour))
    await road.carry()
    await road.tell()
    # A call that ran over the end of its hour, and is settled now.
    set_clock(monkeypatch, timedelta(minutes=then))
    await road.use(*some_usage(1, hour + timedelta(minutes=59)))
    await road.carry()
    told = {event["hour"]: event["sums"]["events"] for event in await road.tell()}
    assert told[hour.isoformat().replace("+00:00", "Z")] == 4
    async with work() as unit:
        assert await unit.manifests.hours_off(Period(hour, hour + timedelta(hours=1))) == []


async def test_an_hour_that_is_over_is_told_and_agrees(
    road: Road, actions: Actions, clock: StoppedClock
) -> None:
    now = datetime.now(UTC)
    clock.forward(now - clock.now())
    # The constants of this module may be of an hour that is over by now.
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    usage = some_usage(3, this_hour - timedelta(minutes=30))
    await road.use(*usage, a_usage(at=this_hour + timedelta(seconds=1)))
    await road.carry()
    told = await road.tell()
    hours = {event["hour"]: event["sums"] for event in told}
    last = hours[(this_hour - timedelta(hours=1)).isoformat().replace("+00:00", "Z")]
    assert (last["events"], last["input_tokens"], last["output_tokens"]) == (3, 3600, 1050)
    # The hours before had nothing, and that is told too; the present one is not over.
    assert sorted(sums["events"] for sums in hours.values()) == [0] * 22 + [3]
    # Once is enough, where nothing is added.
    await road.producer.database.execute(
        "update outbox_sent set sent_at = sent_at - interval '2 minutes' where stream = $1", USAGE
    )
    assert [event for event in await road.tell() if event["hour"] in hours] == []
    assert await actions.compare_manifests() == 0
    state = await actions.reconcile()
    [of_chat] = state.hours
    assert (of_chat.producer, of_chat.mismatched) == ("chat", 0)
    assert of_chat.matched in (23, 24)  # an hour may have ended meanwhile


async def test_after_days_away_every_hour_since_the_last_one_is_told(road: Road) -> None:
    await road.tell("announce_usage")
    first = await road.tell()
    # As if all that had been told forty hours earlier.
    for table in ("outbox", "outbox_sent"):
        await road.producer.database.execute(
            f"update {table} set envelope = jsonb_set(envelope, '{{data,hour}}', to_jsonb("
            "(envelope -> 'data' ->> 'hour')::timestamptz - interval '40 hours'))"
            " where envelope -> 'data' ->> 'hour' is not null"
        )
    told = sorted(datetime.fromisoformat(event["hour"]) for event in await road.tell())
    last = max(datetime.fromisoformat(event["hour"]) for event in first) - timedelta(hours=40)
    assert told == [last + timedelta(hours=number) for number in range(1, len(told) + 1)]
    assert len(told) in (40, 41)  # the clock goes on
    assert await road.tell() == []


async def test_what_was_lost_shows_in_its_hour_and_is_made_good_by_a_replay(
    road: Road, actions: Actions, database: Database, clock: StoppedClock
) -> None:
    clock.forward(datetime.now(UTC) - clock.now())
    await road.use(*some_usage(4))
    await road.carry(lose=True)
    await road.tell()
    assert await actions.compare_manifests() == 1
    [hour] = (await actions.reconcile()).mismatched
    assert (hour.announced.events, hour.recorded and hour.recorded.events) == (4, 0)
    # The same numbers tell that all four are missing, so they are asked for and come.
    await actions.request_missing_usage()
    clock.forward(timedelta(seconds=16))
    assert await actions.request_missing_usage() == 1
    await _replay(road, database)
    assert len(await ids_in(database)) == 4
    assert await actions.compare_manifests() == 0
    assert (await actions.reconcile()).mismatched == []
    assert await drift(database) == []


async def _replay(road: Road, database: Database) -> None:
    rows = await database.fetch("select envelope from outbox where stream like 'usage.replay%'")
    for row in rows:
        fact: Any = Fact.from_wire(row["envelope"])
        await road.producer.receive(
            UsageReplayRequested.type, a_message([fact.sent_as(uuid4(), 1)], "billing")
        )
    await road.carry()


async def test_equal_sums_over_other_events_do_not_agree(
    road: Road, actions: Actions, clock: StoppedClock
) -> None:
    clock.forward(datetime.now(UTC) - clock.now())
    lost, *others = some_usage(2)
    await road.use(lost, *others)
    message = road.producer.send(USAGE)
    assert message is not None
    stranger = a_usage(
        at=LAST_HOUR, id_=id_made_at(LAST_HOUR), epoch=UUID(message["epoch"]), sequence=1
    )
    await actions.record_usage([stranger])
    await road.carry()
    kept = [Fact.from_wire(event) for event in message["events"]][1:]
    await actions.record_usage(kept)  # type: ignore[arg-type]
    await road.tell()
    assert await actions.compare_manifests() == 1
    [hour] = (await actions.reconcile()).mismatched
    assert hour.recorded is not None
    assert hour.announced.events == hour.recorded.events == 2
    assert hour.announced.ids != hour.recorded.ids


async def test_a_call_that_is_settled_late_is_told_again(road: Road, actions: Actions) -> None:
    long_ago = THIS_HOUR - timedelta(hours=30)
    await road.use(*some_usage(1, at=long_ago))
    await road.carry()
    told = await road.tell()
    [hour] = [event for event in told if event["sums"]["events"]]
    assert datetime.fromisoformat(hour["hour"]) == long_ago
    await road.use(*some_usage(2, at=long_ago + timedelta(minutes=20)))
    await road.carry()
    assert [e["sums"]["events"] for e in await road.tell() if e["sums"]["events"]] == [3]
    assert await actions.compare_manifests() == 0


async def test_replaying_a_whole_day_from_the_archive_changes_nothing(
    road: Road, actions: Actions, database: Database
) -> None:
    day = THIS_HOUR - timedelta(hours=24)
    await road.use(
        *(fact for hour in range(24) for fact in some_usage(9, day + timedelta(hours=hour)))
    )
    await road.carry(most=50)
    before = await ids_in(database)
    [end] = [
        row
        for row in await road.producer.database.fetch("select * from outbox_stream")
        if row["stream"] == USAGE
    ]
    fact = Fact(
        event=UsageReplayRequested(
            producer="chat",
            stream=USAGE,
            epoch=end["epoch"],
            first_sequence=1,
            last_sequence=end["last_sequence"],
        ),
        subject=UUID(int=0),
        tier="free",
        source="billing",
    )
    await road.producer.receive(UsageReplayRequested.type, a_message([fact], "billing"))
    await road.carry()
    assert sorted(await ids_in(database)) == sorted(before)
    sent = await road.producer.database.fetch(
        "select event_id from outbox_sent where stream = $1", USAGE
    )
    assert {row["event_id"] for row in sent} == set(before)
    assert len(before) == 24 * 9
    assert await drift(database) == []


async def test_nothing_used_is_not_silence(
    road: Road, actions: Actions, clock: StoppedClock
) -> None:
    await road.tell("announce_usage")
    clock.forward(datetime.now(UTC) - clock.now() + timedelta(seconds=59))
    state = await actions.reconcile()
    assert (list(state.last_heard), state.silent) == (["chat"], [])
    clock.forward(timedelta(seconds=2))
    assert (await actions.reconcile()).silent == ["chat"]


# Closing


async def all_is_well(road: Road, actions: Actions, work: NewUnitOfWork) -> None:
    """A month in which everything came, and its producer was heard of afterwards."""
    await road.use(*some_usage(5))
    await road.carry()
    await road.tell()
    await actions.compare_manifests()
    await actions.link_ledger()
    await heard_after_the_month(work)


async def heard_after_the_month(work: NewUnitOfWork) -> None:
    async with work() as unit:
        connection: Any = unit.connection  # type: ignore[attr-defined]
        await connection.execute(
            "update usage_stream set last_manifest_at = $1",
            MONTH.period.ends + timedelta(minutes=1),
        )
        await connection.execute(
            "insert into usage_manifest (producer, epoch, stream, hour, announced, announced_at)"
            " select producer, epoch, stream, $1, $2, now() from usage_stream"
            " on conflict do nothing",
            MONTH.period.ends - timedelta(hours=1),
            {"events": 0},
        )


async def test_a_word_that_was_said_before_the_months_end_closes_no_month(
    actions: Actions, work: NewUnitOfWork, after: StoppedClock
) -> None:
    ends = THIS_HOUR.replace(day=1, hour=0)
    month = Month((ends - timedelta(days=1)).date().replace(day=1))
    first, other = uuid4(), uuid4()

    def said(at: datetime, epoch: UUID) -> Fact[UsageManifest]:
        manifest = UsageManifest(producer="chat", stream=USAGE, epoch=epoch, last_sequence=0)
        return Fact(event=manifest, subject=UUID(int=0), tier="free", source="chat", time=at)

    async def findings() -> list[Finding]:
        async with work() as unit:
            return await findings_of(unit, month)

    # Its last word came long after it was said, and is sent again.
    for _again in range(2):
        await actions.note_manifests([said(ends - timedelta(minutes=61), first)])
    assert await findings() == [Finding(NOT_HEARD, f"chat/{USAGE}", 1)]
    await actions.note_manifests([said(ends + timedelta(seconds=1), first)])
    assert await findings() == []
    # What comes late takes nothing back, and no clock of a producer's is ahead of ours.
    await actions.note_manifests([said(ends - timedelta(hours=3), first)])
    assert await findings() == []
    await actions.note_manifests([said(datetime.now(UTC) + timedelta(days=400), other)])
    for one in (await actions.reconcile()).progress:
        assert one.last_manifest_at is not None
        assert one.last_manifest_at <= datetime.now(UTC)


async def test_a_stream_that_went_on_tells_the_months_last_hour(
    road: Road, actions: Actions, work: NewUnitOfWork, database: Database, after: StoppedClock
) -> None:
    await all_is_well(road, actions, work)
    last = MONTH.period.ends - timedelta(hours=1)
    await database.execute("delete from usage_manifest where hour = $1", last)
    async with work() as unit:
        found = await findings_of(unit, MONTH)
    # In the first hour of a month that hour has usage, too, of which nobody told then.
    assert Finding("last_hour_not_told", f"chat/{USAGE}", 1) in found


async def test_a_stream_that_was_given_up_once_asks_for_nobody_again(
    road: Road, actions: Actions, database: Database, work: NewUnitOfWork, after: StoppedClock
) -> None:
    await all_is_well(road, actions, work)
    long_ago = MONTH.period.begins - timedelta(days=40)
    await database.execute("update usage_stream set last_seen_at = $1", long_ago)
    await database.execute("update usage_stream set last_manifest_at = $1", long_ago)
    with pytest.raises(PeriodNotComplete) as refused:
        await actions.close_period(MONTH, by=STAFF, reason=None)
    assert [f["code"] for f in refused.value.facts["findings"]] == [NOT_HEARD]
    await actions.close_period(MONTH, by=STAFF, reason=REASON)
    later = Month(MONTH.period.ends.date())
    async with work() as unit:
        assert await findings_of(unit, later) == []
    # It is heard of once more, and falls silent again.
    await database.execute("update usage_stream set last_seen_at = now() + interval '400 days'")
    async with work() as unit:
        assert [one.code for one in await findings_of(unit, later)] == [NOT_HEARD]


async def test_a_month_is_closed_once_and_its_totals_stand(
    road: Road, actions: Actions, work: NewUnitOfWork, database: Database, after: StoppedClock
) -> None:
    await all_is_well(road, actions, work)
    closed = await actions.close_period(MONTH, by=STAFF, reason=None)
    assert (closed.totals.events, closed.waived) == (5, ())
    [group] = closed.totals.groups
    assert (group["requests"], group["cost_microusd"], group["tier"]) == (5, 5 * 205, "free")
    with pytest.raises(PeriodClosed):
        await actions.close_period(MONTH, by=STAFF, reason=REASON)
    period, late = await actions.show_period(MONTH)
    assert (period.digest, period.totals, late.events) == (closed.digest, closed.totals, 0)
    assert [p.month for p in await actions.list_periods()] == [MONTH]
    for statement in ("update period set digest = 'x'", "delete from period"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await database.execute(statement)


async def test_late_usage_enters_and_is_listed(
    road: Road, actions: Actions, work: NewUnitOfWork, after: StoppedClock
) -> None:
    await all_is_well(road, actions, work)
    closed = await actions.close_period(MONTH, by=STAFF, reason=None)
    late_one = a_usage(at=LAST_HOUR, id_=id_made_at(LAST_HOUR))
    assert await actions.record_usage([late_one]) == 1
    period, late = await actions.show_period(MONTH)
    assert (late.events, late.known_cost, list(late.event_ids)) == (1, 205, [late_one.id])
    assert period.digest == closed.digest


async def test_usage_on_its_way_while_a_month_closes_is_either_in_it_or_late(
    road: Road, actions: Actions, work: NewUnitOfWork, database: Database, after: StoppedClock
) -> None:
    await all_is_well(road, actions, work)
    batches = [some_usage(3) for _ in range(30)]
    writing = [asyncio.create_task(actions.record_usage(batch)) for batch in batches[:20]]
    closing = asyncio.create_task(actions.close_period(MONTH, by=STAFF, reason=REASON))
    await asyncio.gather(*writing, *(actions.record_usage(batch) for batch in batches[20:]))
    closed = await closing
    _, late = await actions.show_period(MONTH)
    assert closed.totals.events + late.events == 95 == len(await ids_in(database))


async def test_what_is_missing_unpriced_or_unheard_of_keeps_a_month_open(
    road: Road, actions: Actions, work: NewUnitOfWork, database: Database, after: StoppedClock
) -> None:
    await road.use(*some_usage(5), a_speech(at=LAST_HOUR, id_=id_made_at(LAST_HOUR)))
    await road.carry(most=4)
    with pytest.raises(PeriodNotComplete) as refused:
        await actions.close_period(MONTH, by=STAFF, reason=None)
    found = {f["code"] for f in refused.value.facts["findings"]}
    assert found == {"manifest_missing", "unpriced", "producer_not_heard_since", "unlinked"}
    await actions.link_ledger()
    await road.tell()
    await heard_after_the_month(work)
    await road.use(*some_usage(2))
    await road.carry(lose=True)
    await road.tell()
    await heard_after_the_month(work)
    with pytest.raises(PeriodNotComplete) as refused:
        await actions.close_period(MONTH, by=STAFF, reason=None)
    found = {f["code"] for f in refused.value.facts["findings"]}
    assert found == {"manifest_mismatched", "unpriced", "events_missing"}
    assert await database.fetch("select * from period") == []
    waived = await actions.close_period(MONTH, by=STAFF, reason=REASON)
    period, _ = await actions.show_period(MONTH)
    assert {f.code for f in period.waived} == found
    assert (period.reason, period.closed_by) == (REASON, STAFF)
    assert period.waived == waived.waived


@pytest.mark.parametrize(
    ("forgery", "told", "reason"),
    [
        ("update period set totals = jsonb_set(totals, '{events}', '0')", True, "do not fit"),
        ("update period set digest = ''", True, "do not fit"),
        ("delete from ledger_entry", False, "has 0"),
    ],
)
async def test_a_closed_month_that_was_changed_is_told(
    actions: Actions,
    database: Database,
    after: StoppedClock,
    forgery: str,
    told: bool,
    reason: str,
) -> None:
    await actions.record_usage(some_usage(2))
    await actions.close_period(MONTH, by=STAFF, reason=REASON)
    await actions.record_usage(some_usage(1))
    assert [one.broken for one in await actions.verify_periods(MONTH)] == [None]
    assert await actions.verify_periods.changed() == []
    async with database.connection() as connection:
        for table in ("period", "ledger_entry"):
            await connection.execute(f"alter table {table} disable trigger user")
        await connection.execute(forgery)
    period, _late = await actions.show_period(MONTH)
    assert period.is_as_kept is not told
    assert len(await actions.verify_periods.changed()) == int(told)
    [verdict] = await actions.verify_periods()
    assert reason in str(verdict.broken)


@pytest.mark.parametrize(("state", "is_told"), [("verified", True), ("dropped", False)])
async def test_a_closed_month_with_entries_in_a_file_is_not_counted(
    actions: Actions, database: Database, after: StoppedClock, state: str, is_told: bool
) -> None:
    await actions.record_usage(some_usage(2))
    await actions.close_period(MONTH, by=STAFF, reason=REASON)
    ends = UUID(int=int((MONTH.period.ends - timedelta(days=1)).timestamp() * 1_000) << 80)
    async with database.connection() as connection:
        await connection.execute("alter table ledger_entry disable trigger user")
        await connection.execute("delete from ledger_entry")
        await connection.execute(
            "insert into ledger_archive"
            " (partition, begins, ends, first_chain, last_chain, state, changed_at)"
            " values ('ledger_entry_a_day', $1, $2, 0, 1, $3, now())",
            UUID(int=0),
            ends,
            state,
        )
    [verdict] = await actions.verify_periods()
    assert (verdict.broken is not None) is is_told


async def test_what_was_voided_waits_for_no_price(
    actions: Actions, work: NewUnitOfWork, after: StoppedClock
) -> None:
    usage = a_usage(model="dark-horse", at=LAST_HOUR, id_=id_made_at(LAST_HOUR))
    await actions.record_usage([usage])
    async with work() as unit:
        [found] = await unit.periods.unpriced(MONTH)
    assert (found.subject, found.count) == ("openai/dark-horse", 1)
    await actions.correct_usage(usage.id, None, reason=REASON, by=STAFF)
    await actions.link_ledger()
    closed = await actions.close_period(MONTH, by=STAFF, reason=None)
    assert (closed.waived, closed.totals.events) == ((), 1)


async def test_what_was_used_in_the_sandbox_waits_for_no_price(
    actions: Actions, work: NewUnitOfWork, after: StoppedClock
) -> None:
    """It is never charged, with a price or without."""
    facts: dict[str, Any] = {"at": LAST_HOUR, "sandbox": True}
    unknown = a_usage(model="dark-horse", id_=id_made_at(LAST_HOUR), **facts)
    rated = a_usage(id_=id_made_at(LAST_HOUR), **facts)
    await actions.record_usage([unknown, rated])
    prices, since = UnitPrices(input=3_000_000, output=3_000_000), LAST_HOUR - timedelta(hours=1)
    model = ("openai", "gpt-6-luna")
    await actions.set_price(model, prices, effective_from=since, by=STAFF, rerate=True)
    await actions.link_ledger()
    assert (await actions.reconcile()).unpriced == []
    closed = await actions.close_period(MONTH, by=STAFF, reason=None)
    assert (closed.waived, closed.totals.events) == ((), 2)
    # What becomes known of it is put down all the same.
    after.forward(timedelta(minutes=3))
    assert await actions.rerate_usage() == 1
    await actions.set_price(
        ("openai", "dark-horse"), prices, effective_from=since, by=STAFF, rerate=False
    )
    assert await actions.rate_unpriced_usage() == 1


async def test_a_price_that_is_not_applied_yet_keeps_the_months_it_holds_for_open(
    actions: Actions, work: NewUnitOfWork, after: StoppedClock
) -> None:
    model = ("openai", "gpt-6-luna")
    await actions.record_usage(some_usage(2))
    await actions.link_ledger()
    later = MONTH.period.ends + timedelta(hours=1)
    for since, price in ((LAST_HOUR - timedelta(hours=1), 3_000_000), (later, 4_000_000)):
        prices = UnitPrices(input=price, output=price)
        await actions.set_price(model, prices, effective_from=since, by=STAFF, rerate=True)
    with pytest.raises(PeriodNotComplete) as refused:
        await actions.close_period(MONTH, by=STAFF, reason=None)
    waiting = Finding("rerating_waiting", "openai/gpt-6-luna", 2)
    assert refused.value.facts["findings"] == [waiting.to_facts()]
    first, _second = await actions.rerate_usage.waiting()
    assert (first.price.provider, first.corrected, first.left) == ("openai", 0, 2)
    after.forward(timedelta(minutes=3))
    assert await actions.rerate_usage() == 2
    assert await actions.rerate_usage.waiting() == []
    await actions.link_ledger()
    closed = await actions.close_period(MONTH, by=STAFF, reason=None)
    assert (closed.waived, closed.totals.corrections) == ((), 2)


async def test_a_month_that_is_not_over_stays_open(actions: Actions, clock: StoppedClock) -> None:
    clock.forward(MONTH.period.ends + timedelta(hours=2) - clock.now() - timedelta(seconds=1))
    with pytest.raises(PeriodNotOver):
        await actions.close_period(MONTH, by=STAFF, reason=REASON)
    with pytest.raises(PeriodNotFound):
        await actions.show_period(MONTH)


@pytest.mark.parametrize("name", ["2026-13", "2026-1", "26-11", "", "2026-11-01", "²026-11"])
def test_a_month_is_written_in_one_way(name: str) -> None:
    with pytest.raises(BadMonth):
        Month.named(name)


# Rating anew


async def test_a_price_holds_for_what_was_rated_by_a_correction_and_once(
    actions: Actions, database: Database, clock: StoppedClock
) -> None:
    model, ada = ("openai", "gpt-6-luna"), uuid4()
    now = datetime.now(UTC)
    clock.forward(now - clock.now())
    usage = [a_usage(user=ada, at=now) for _ in range(3)]
    earlier = a_usage(user=ada, at=now - timedelta(hours=2), id_=id_made_at(now))
    voided = a_usage(user=ada, at=now, tier="pro")
    await actions.record_usage([*usage, earlier, voided])
    await actions.link_ledger()
    await actions.correct_usage(usage[0].id, Deltas(cost_microusd=-5), reason="test", by=STAFF)
    await actions.correct_usage(voided.id, None, reason="test", by=STAFF)
    prices = UnitPrices(input=1_000_003, output=2_000_001)
    since = now - timedelta(hours=1)
    [effect] = await actions.preview_price(model, prices, effective_from=since, by=STAFF)
    then = prices.cost(an_entry().counts) or 0
    # What the billing team gave stays given, by whatever price.
    assert (effect.rated, effect.cost_now, effect.cost_then) == (3, 3 * 205 - 5, 3 * then - 5)
    await actions.set_price(model, prices, effective_from=since, by=STAFF, rerate=True)
    assert await actions.rerate_usage() == 0  # not before what was on its way is there
    clock.forward(timedelta(minutes=3))
    await actions.record_usage([a_usage(user=ada, at=clock.now())])
    await actions.link_ledger()
    corrected = await asyncio.gather(*(actions.rerate_usage() for _ in range(3)))
    assert (sum(corrected), await actions.rerate_usage()) == (3, 0)
    [row] = await database.fetch(
        "select sum(cost_microusd)::bigint as cost from usage_hour where user_id = $1", ada
    )
    assert row["cost"] == 4 * then + 205 - 5
    [effect] = await actions.preview_price(model, prices, effective_from=since, by=STAFF)
    assert effect.difference == 0


async def test_a_price_is_applied_page_after_page_with_rests_as_long_as_the_pages(
    actions: Actions, database: Database, clock: StoppedClock
) -> None:
    """As many pages as there is time for, in transactions of their own; what is left is told."""
    model, now = ("openai", "gpt-6-luna"), datetime.now(UTC)
    clock.forward(now - clock.now())
    people = [uuid4() for _ in range(3)]
    usage = [a_usage(user=people[number % 3], at=now) for number in range(11)]
    await actions.record_usage(usage)
    await actions.link_ledger()
    prices, since = UnitPrices(input=1_000_003, output=2_000_001), now - timedelta(hours=1)
    await actions.set_price(model, prices, effective_from=since, by=STAFF, rerate=True)
    clock.forward(timedelta(minutes=3))
    moments, rests = iter(range(0, 1_000, 7)), []

    async def rest(seconds: float) -> None:
        rests.append(seconds)

    rerate = replace(actions.rerate_usage, page=3, rhythm=Rhythm(lambda: next(moments), rest))
    # Each look at the stopwatch is seven seconds later: two pages end within twenty.
    assert await rerate(within=timedelta(seconds=20)) == 6
    [progress] = await rerate.waiting()
    assert (progress.corrected, progress.left) == (6, 5)
    assert await rerate(within=timedelta(minutes=10)) == 5
    assert (rests, await rerate.waiting()) == ([7] * 3, [])
    cost = prices.cost(an_entry().counts)
    rows = await database.fetch(
        "select user_id, sum(cost_microusd)::bigint as cost, sum(requests)::bigint as requests"
        " from usage_hour group by user_id"
    )
    assert {row["user_id"]: row["cost"] / row["requests"] for row in rows} == dict.fromkeys(
        people, cost
    )
    [noted] = await database.fetch(
        "select count(*) as notes, sum(cardinality(ids)) as ids from ledger_unlinked"
        " where kind = 'correction'"
    )
    assert tuple(noted) == (4, 11)
    await actions.link_ledger()
    assert all(one.broken is None for one in await actions.verify_ledger())


async def test_a_price_is_applied_beside_the_intake_and_other_corrections_to_the_unit(
    actions: Actions, database: Database, clock: StoppedClock
) -> None:
    """All of them at the same hours of the same people, in other orders: nobody waits for another
    for good, and each hour is what its entries and their corrections are."""
    model, now = ("openai", "gpt-6-luna"), datetime.now(UTC)
    clock.forward(now - clock.now())
    people = [uuid4() for _ in range(5)]

    def some(number: int) -> list[Any]:
        return [a_usage(user=people[(n * 3 + number) % 5], at=now) for n in range(20)]

    first = some(0) + some(1) + some(2)
    await actions.record_usage(first)
    prices, since = UnitPrices(input=1_000_003, output=2_000_001), now - timedelta(hours=1)
    await actions.set_price(model, prices, effective_from=since, by=STAFF, rerate=True)
    clock.forward(timedelta(minutes=3))

    async def no_rest(_seconds: float) -> None:
        await asyncio.sleep(0)

    rerate = replace(actions.rerate_usage, page=7, rhythm=Rhythm(rest=no_rest))

    async def correct() -> None:
        for one in first[::4]:
            await actions.correct_usage(one.id, Deltas(cost_microusd=11), reason="t", by=STAFF)

    async def take_in() -> None:
        for number in range(8):
            assert await actions.record_usage(some(number)) == 20

    await asyncio.gather(rerate(), rerate(), take_in(), take_in(), correct(), rerate())
    await rerate()
    assert await rerate.waiting() == []
    await actions.link_ledger()
    clock.forward(timedelta(hours=2))
    check = await actions.check_rollups()
    assert (check.compared > 0, check.drifts) == (True, 0)
    costs = await database.fetch(
        "select e.cost_microusd + sum(c.cost_microusd)"
        "       - 11 * count(*) filter (where c.made_by is not null and c.reason = 't') as cost"
        " from ledger_entry e join ledger_correction c using (event_id)"
        " where e.price_version not like 'override/%' group by e.event_id"
    )
    assert {int(row["cost"]) for row in costs} == {prices.cost(an_entry().counts)}
    assert all(one.broken is None for one in await actions.verify_ledger())


async def test_our_own_corrections_that_come_back_are_looked_up_together(
    actions: Actions, work: NewUnitOfWork, clock: StoppedClock
) -> None:
    usage = [a_usage(at=clock.now(), id_=id_made_at(clock.now())) for _ in range(3)]
    await actions.record_usage(usage)
    facts = []
    for one in usage:
        made = await actions.correct_usage(one.id, Deltas(cost_microusd=-5), reason="t", by=STAFF)
        told = UsageAdjusted(user_id=one.subject, event_id=one.id, reason="t", cost_microusd=-5)
        facts.append(
            Fact(event=told, subject=one.subject, tier="free", source="billing", id=made.id)
        )
    assert await actions.apply_corrections(facts) == 0
    async with work() as unit:
        assert [
            len(one.corrections)
            for one in await unit.corrections.all_corrected([one.id for one in usage])
        ] == [1, 1, 1]


async def test_of_what_was_corrected_and_given_a_new_price_keeps_what_was_given(
    actions: Actions, clock: StoppedClock
) -> None:
    model, ada = ("openai", f"m-{uuid4()}"), uuid4()
    clock.forward(datetime.now(UTC) - clock.now())
    began = clock.now() - timedelta(hours=3)
    counts: dict[str, Any] = {"input_tokens": 1_000, "cache_read_tokens": 0, "output_tokens": 0}
    usage = [a_usage(user=ada, at=clock.now(), model=model[1], **counts) for _ in range(2)]
    await actions.set_price(
        model, UnitPrices(input=1_000_000), effective_from=began, by=STAFF, rerate=False
    )
    await actions.record_usage(usage)
    fewer = Deltas(input_tokens=-100, cost_microusd=-100)
    await actions.correct_usage(usage[0].id, fewer, reason="counted anew", by=STAFF)
    for event, gift in zip(usage, (-50, -1_000), strict=True):
        await actions.correct_usage(
            event.id, Deltas(cost_microusd=gift), reason="goodwill", by=STAFF
        )
    costs = []
    # The second price is less than what was given for one of them.
    for minutes, price in ((1, 2_000_000), (2, 500_000)):
        prices, since = UnitPrices(input=price), began + timedelta(minutes=minutes)
        [effect] = await actions.preview_price(model, prices, effective_from=since, by=STAFF)
        await actions.set_price(model, prices, effective_from=since, by=STAFF, rerate=True)
        clock.forward(timedelta(minutes=3))
        await actions.rerate_usage()
        lives = [
            await actions.explain_usage.with_corrections(one.id, by=UserId(ada)) for one in usage
        ]
        costs.append([life.standing.cost_microusd for life in lives])
        assert sum(costs[-1]) == effect.cost_then
    assert costs == [[1_800 - 50, 2_000 - 1_000], [450 - 50, 0]]


_PRICE = st.none() | st.integers(0, 10**9) | st.sampled_from([500_000, 1_500_000, 250_000])


@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    counts=st.tuples(*[st.integers(0, 10**7) | st.integers(0, 3)] * 5),
    given_prices=st.tuples(*[_PRICE] * 5),
)
async def test_a_preview_sums_up_as_a_rating_does(
    actions: Actions, counts: tuple[int, ...], given_prices: tuple[int | None, ...]
) -> None:
    assume(any(price is not None for price in given_prices))
    names = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")
    facts: dict[str, Any] = dict(zip((*names, "characters"), counts, strict=True))
    usage = a_usage(at=NOON, model=f"m-{uuid4()}", **facts)
    await actions.record_usage([usage])
    prices = UnitPrices(*given_prices)
    cost = prices.cost(Counts(**facts))
    [effect] = await actions.preview_price(
        ("openai", usage.event.model), prices, effective_from=NOON, by=STAFF
    )
    waiting = (0, 0, 1) if cost is None else (1, cost, 0)
    assert (effect.waiting, effect.waiting_cost, effect.still_waiting) == waiting


# Limits


async def test_a_threshold_is_told_once_and_the_highest_first(
    actions: Actions, database: Database, clock: StoppedClock
) -> None:
    now = datetime.now(UTC)
    clock.forward(now - clock.now())
    ada = uuid4()

    async def told() -> list[tuple[str, int, int]]:
        await asyncio.gather(*(actions.tell_limits() for _ in range(3)))
        rows = await database.fetch(
            "select envelope from outbox where stream like 'limit.reached.%' order by created_at"
        )
        data = [row["envelope"]["data"] for row in rows]
        return [(d["window"], d["percent"], d["used"]) for d in data]

    await actions.record_usage([a_usage(user=ada, at=now) for _ in range(39)])
    await actions.link_ledger()
    assert await told() == []
    await actions.record_usage([a_usage(user=ada, at=now)])
    await actions.link_ledger()
    assert await told() == [("openai.requests_per_day", 80, 40)]
    await actions.record_usage([a_usage(user=ada, at=now) for _ in range(20)])
    await actions.link_ledger()
    assert (await told())[1:] == [("openai.requests_per_day", 100, 60)]
    assert len(await told()) == 2
    await actions.record_usage([a_speech(user=ada, at=now, characters=10_000)])
    await actions.link_ledger()
    assert (await told())[2:] == [("elevenlabs.characters_per_month", 100, 10_000)]


async def test_who_is_refused_near_the_end_has_reached_it_once(
    actions: Actions, database: Database, clock: StoppedClock
) -> None:
    now = datetime.now(UTC)
    clock.forward(now - clock.now())
    ada, window = uuid4(), "elevenlabs.characters_per_month"
    ends = month_window("", 0, now).ends_at
    for used in (9_185, 9_300):
        event = LimitRefused(user_id=ada, window=window, limit=10_000, used=used, resets_at=ends)
        facts = [Fact(event=event, subject=ada, tier="free", source="voice")]
        await actions.tell_limits.refused(facts * 2)
    await actions.record_usage([a_speech(user=ada, at=now, characters=10_000)])
    assert await actions.tell_limits() == 0
    over = LimitRefused(user_id=uuid4(), window=window, limit=1, used=1, resets_at=now)
    await actions.tell_limits.refused([Fact(event=over, subject=over.user_id, tier="free")])
    rows = await database.fetch("select envelope from outbox where stream like 'limit.reached.%'")
    [told] = [row["envelope"]["data"] for row in rows]
    assert (told["user_id"], told["percent"], told["used"]) == (str(ada), 100, 9_185)
    assert told["refused"]


async def test_what_came_late_is_told_all_the_same(
    actions: Actions, database: Database, clock: StoppedClock
) -> None:
    now = datetime.now(UTC)
    clock.forward(now - clock.now())
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    ada, at = uuid4(), max(month, now - timedelta(hours=6))
    await actions.choose_alerts(UserId(ada), [200])
    await database.execute("update spend_threshold set set_at = $1", now - timedelta(days=1))
    # The intake stood still for hours, and what had been used meanwhile comes now.
    late = [a_speech(user=ada, at=at, characters=10_000), a_usage(user=ada, at=at)]
    await actions.record_usage(late)
    await actions.link_ledger()
    assert (await actions.tell_limits(), await actions.tell_spending()) == (1, 1)
    assert (await actions.tell_limits(), await actions.tell_spending()) == (0, 0)


async def test_spending_of_a_month_that_is_over_is_told_in_the_first_days_of_the_next(
    actions: Actions, database: Database, clock: StoppedClock
) -> None:
    clock.forward(datetime.now(UTC) - clock.now())
    ada = UserId(uuid4())
    last = clock.now().replace(day=1, hour=0, minute=0) - timedelta(hours=1)
    await actions.choose_alerts(ada, [200])
    await database.execute("update spend_threshold set set_at = $1", last - timedelta(days=1))
    # As if it were the second of the month; what comes now is never received before that.
    clock.forward(min(last + timedelta(days=1, hours=3), datetime.now(UTC)) - clock.now())
    await actions.record_usage([a_usage(user=ada, at=last, id_=id_made_at(last))])
    await actions.link_ledger()
    assert await actions.tell_spending() == 1
