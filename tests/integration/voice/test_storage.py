"""Voice's rows in a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from redis.asyncio import Redis

from services.voice.domain.speech import (
    Hold,
    Outcome,
    Settlement,
    Used,
    settlement_of_lost,
    usage_fact,
)
from services.voice.storage import speeches as speeches_module
from services.voice.storage.admission import ValkeyAdmission
from services.voice.storage.speeches import SqlSpeeches
from services.voice.storage.tables import metadata
from shared.db.database import Database
from shared.db.engine import sync_engine
from shared.errors import DependencyUnavailable, LimitReached
from shared.events import Fact
from shared.events.usage import UsageRecorded
from shared.ids import UserId
from shared.limits.admission import Admissions
from shared.limits.line import Line
from shared.tiers import Tier, tier_named
from shared.valkey import open_cache
from tests.support.engines import PostgresServer
from tests.support.voice import NOON, a_hold, a_user

DONE = Settlement(Outcome.DONE, Used(6, "provider"), "vendor-1")
REFUSED = Settlement(Outcome.REFUSED, None)


@pytest.fixture
def speeches(database: Database) -> SqlSpeeches:
    return SqlSpeeches(database)


def keyed(hold: Hold, key: str = "k-1") -> Hold:
    return replace(hold, idempotency_key=key, request_hash=b"hash")


async def settle(speeches: SqlSpeeches, hold: Hold, settlement: Settlement = DONE) -> bool:
    return await speeches.settle(hold.id, settlement, usage_fact(hold, settlement))


async def orphans(speeches: SqlSpeeches, at: datetime, *, most: int = 10) -> Sequence[Hold]:
    """What a second look finds, when it comes soon."""
    await speeches.orphans(at, doubted_by=at, most=most)
    return await speeches.orphans(at, doubted_by=at, most=most)


async def outbox(database: Database) -> list[Fact[UsageRecorded]]:
    rows = await database.fetch("select * from outbox")
    assert all(row["stream"] == f"usage.recorded.{row['envelope']['tier']}" for row in rows)
    return [Fact.from_wire(row["envelope"]) for row in rows]  # type: ignore[misc]


def test_migrations_are_the_tables(postgres_server: PostgresServer, database: Database) -> None:
    with postgres_server.fresh_database(template="template_voice") as url:
        engine = sync_engine(url)
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        engine.dispose()


async def test_a_hold_comes_back_as_it_went(speeches: SqlSpeeches) -> None:
    hold = keyed(a_hold(sandbox=True, session_id=uuid4()))
    assert await speeches.hold(hold)
    assert await orphans(speeches, NOON + timedelta(minutes=1)) == [hold]


async def test_a_hold_grows_until_it_is_settled(speeches: SqlSpeeches, database: Database) -> None:
    hold = a_hold()
    await speeches.hold(hold)
    assert await speeches.grow(hold.id, 30)
    (orphan,) = await orphans(speeches, NOON + timedelta(hours=1), most=1)
    assert orphan == replace(hold, characters=30), "a lost replica's text counts as it had grown"
    assert await settle(speeches, hold)
    assert not await speeches.grow(hold.id, 40)
    (row,) = await database.fetch("select characters from speech")
    assert row["characters"] == 30
    assert not await speeches.grow(a_hold().id, 1)


async def test_settling_closes_the_hold_and_writes_its_usage(
    speeches: SqlSpeeches, database: Database
) -> None:
    hold = a_hold()
    await speeches.hold(hold)
    assert await settle(speeches, hold)
    row = await database.fetchrow("select * from speech")
    assert row is not None
    assert (row["state"], row["outcome"], row["charged_characters"]) == ("settled", "done", 6)
    assert (row["source"], row["provider_request_id"]) == ("provider", "vendor-1")
    (fact,) = await outbox(database)
    assert (fact.id, fact.subject, fact.event.characters) == (
        hold.usage_event_id,
        hold.user_id,
        6,
    )


async def test_a_second_settlement_changes_nothing(
    speeches: SqlSpeeches, database: Database
) -> None:
    hold = a_hold()
    await speeches.hold(hold)
    assert await settle(speeches, hold)
    assert not await settle(speeches, hold, settlement_of_lost(hold))
    assert [fact.event.outcome for fact in await outbox(database)] == ["done"]


async def test_any_number_of_settlements_at_once_are_one(
    speeches: SqlSpeeches, database: Database
) -> None:
    holds = [a_hold() for _ in range(10)]
    for hold in holds:
        await speeches.hold(hold)
    endings = [DONE, Settlement(Outcome.CLIENT_GONE, Used(12, "counted")), None]
    first = await asyncio.gather(
        *(
            settle(speeches, hold, ending or settlement_of_lost(hold))
            for ending in endings
            for hold in holds
        )
    )
    assert sum(first) == len(holds)
    facts = await outbox(database)
    assert {fact.id for fact in facts} == {hold.usage_event_id for hold in holds}
    assert len(facts) == len(holds)


async def test_a_settlement_without_charge_leaves_no_usage_and_frees_the_key(
    speeches: SqlSpeeches, database: Database
) -> None:
    hold = keyed(a_hold())
    await speeches.hold(hold)
    assert await settle(speeches, hold, REFUSED)
    assert await outbox(database) == []
    assert await speeches.earlier(hold.user_id, "k-1") is None
    assert await speeches.hold(keyed(a_hold(user_id=hold.user_id)))


async def test_what_turned_out_to_cost_nothing_frees_the_key_too(
    speeches: SqlSpeeches, database: Database
) -> None:
    """Its usage is told all the same."""
    hold = keyed(a_hold())
    await speeches.hold(hold)
    assert await settle(speeches, hold, Settlement(Outcome.DONE, Used(0, "counted")))
    (fact,) = await outbox(database)
    assert fact.event.characters == 0
    assert await speeches.earlier(hold.user_id, "k-1") is None


async def test_a_key_is_good_for_one_speech_of_one_user(speeches: SqlSpeeches) -> None:
    hold = keyed(a_hold())
    assert await speeches.hold(hold)
    assert not await speeches.hold(keyed(a_hold(user_id=hold.user_id)))
    assert await speeches.hold(keyed(a_hold()))
    earlier = await speeches.earlier(hold.user_id, "k-1")
    assert earlier is not None
    assert (earlier.id, earlier.request_hash, earlier.outcome) == (hold.id, b"hash", None)
    assert earlier.format == hold.format
    await settle(speeches, hold)
    earlier = await speeches.earlier(hold.user_id, "k-1")
    assert earlier is not None
    assert earlier.outcome == "done"


async def test_of_many_holds_with_one_key_at_once_one_is_written(speeches: SqlSpeeches) -> None:
    user_id = a_hold().user_id
    written = await asyncio.gather(
        *(speeches.hold(keyed(a_hold(user_id=user_id))) for _ in range(10))
    )
    assert sum(written) == 1


async def test_a_renewed_lease_is_no_orphan_and_a_settled_one_stays_settled(
    speeches: SqlSpeeches,
) -> None:
    kept, lost, settled = a_hold(), a_hold(), a_hold()
    for hold in (kept, lost, settled):
        await speeches.hold(hold)
    await settle(speeches, settled)
    await speeches.renew([kept.id, settled.id], NOON + timedelta(minutes=5))
    found = await orphans(speeches, NOON + timedelta(minutes=1))
    assert [hold.id for hold in found] == [lost.id]


async def test_only_who_was_doubted_long_enough_is_an_orphan(speeches: SqlSpeeches) -> None:
    hold = a_hold()
    await speeches.hold(hold)

    async def found(seconds: int) -> bool:
        """Whether it is one at that time, when a doubt of eight seconds is one."""
        at = NOON + timedelta(minutes=1, seconds=seconds)
        doubted_by = at - timedelta(seconds=8)
        return bool(await speeches.orphans(at, doubted_by=doubted_by, most=10))

    assert [await found(seconds) for seconds in (0, 7, 8)] == [False, False, True]
    # Whoever is renewed is not doubted any more, and a doubt of before does not count again.
    await speeches.renew([hold.id], NOON + timedelta(minutes=2))
    assert [await found(seconds) for seconds in (9, 90, 97, 98)] == [False, False, False, True]


async def test_who_is_renewed_is_no_orphan_of_a_sweeper_whose_clock_is_ahead(
    speeches: SqlSpeeches,
) -> None:
    alive, lost = a_hold(), a_hold()
    for hold in (alive, lost):
        await speeches.hold(hold)
    found = set()
    for seconds in range(0, 60, 10):
        now = NOON + timedelta(seconds=seconds)
        await speeches.renew([alive.id], now + timedelta(seconds=30))
        at = now + timedelta(minutes=5)
        doubted_by = at - timedelta(seconds=18)
        found |= {hold.id for hold in await speeches.orphans(at, doubted_by=doubted_by, most=10)}
    assert found == {lost.id}


async def test_a_renewal_that_is_kept_waiting_is_tried_again_soon(
    speeches: SqlSpeeches, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speeches_module, "PATIENCE_SECONDS", 0.1)
    hold = a_hold()
    await speeches.hold(hold)
    async with database.connection() as other, other.transaction():
        await other.execute("select 1 from speech where id = $1 for update", hold.id)
        async with asyncio.timeout(2):
            with pytest.raises(DependencyUnavailable):
                await speeches.renew([hold.id], NOON)
            # Nor does a look wait, or doubt what is being renewed.
            assert await orphans(speeches, NOON + timedelta(hours=1)) == []


async def test_orphans_come_the_oldest_first_and_not_all_at_once(speeches: SqlSpeeches) -> None:
    holds = [a_hold(lease_expires_at=NOON - timedelta(seconds=n)) for n in range(5)]
    for hold in holds:
        await speeches.hold(hold)
    found = await orphans(speeches, NOON + timedelta(seconds=1), most=2)
    assert [hold.id for hold in found] == [holds[4].id, holds[3].id]


async def test_valkey_that_is_gone_is_told_in_time() -> None:
    async with open_cache("redis://127.0.0.1:1/0") as cache:
        with pytest.raises(Exception, match="cache"):
            await asyncio.wait_for(Admissions(cache).check(), 2)


async def test_a_hold_knows_how_much_was_asked_for(speeches: SqlSpeeches) -> None:
    hold = replace(a_hold(characters=100), asked_characters=40)
    await speeches.hold(hold)
    assert await speeches.ask(hold.id, 80, "mp3_44100_64")
    (orphan,) = await orphans(speeches, NOON + timedelta(hours=1), most=9)
    assert (orphan.characters, orphan.asked_characters) == (100, 80)
    assert orphan.format == "mp3_44100_64"
    assert settlement_of_lost(orphan).used == Used(80, "counted")
    # All of it is what a hold comes to that says nothing of parts.
    assert await speeches.ask(hold.id, 100, "mp3_44100_64")
    (orphan,) = await orphans(speeches, NOON + timedelta(hours=1), most=9)
    assert orphan.asked_characters is None
    await settle(speeches, hold)
    assert not await speeches.ask(hold.id, 100, "mp3_44100_64")


def admission_by(cache: Redis, *, charged: int = 0) -> ValkeyAdmission:
    async def charged_since(_user: UserId, _since: datetime) -> int:
        return charged

    return ValkeyAdmission(Admissions(cache), charged_since)


async def test_keys_of_old_speeches_are_forgotten_in_batches(speeches: SqlSpeeches) -> None:
    ada, old = a_user(), NOON - timedelta(days=2)
    running = keyed(a_hold(user_id=ada, created_at=old), "running")
    await speeches.hold(running)
    for number, began in enumerate((old, old, NOON)):
        hold = keyed(a_hold(user_id=ada, created_at=began), f"k-{number}")
        await speeches.hold(hold)
        await settle(speeches, hold)
    before = NOON - timedelta(days=1)
    assert [await speeches.forget_keys(before, most=1) for _ in range(3)] == [1, 1, 0]
    known = {key: await speeches.earlier(ada, key) for key in ("running", "k-0", "k-1", "k-2")}
    assert [key for key, earlier in known.items() if earlier is not None] == ["running", "k-2"]


async def test_the_month_is_counted_on_from_what_was_charged(
    speeches: SqlSpeeches, valkey_url: str
) -> None:
    ada, pro = a_user(), tier_named("pro")
    for began, characters in ((NOON - timedelta(days=40), 9), (NOON, 40), (NOON, 60_000)):
        hold = a_hold(user_id=ada, created_at=began)
        await speeches.hold(hold)
        await settle(speeches, hold, Settlement(Outcome.DONE, Used(characters, "provider")))
    await speeches.hold(a_hold(user_id=a_user(), created_at=NOON))
    async with open_cache(valkey_url) as cache:
        admission = ValkeyAdmission(Admissions(cache), speeches.charged_since)
        month = (await admission.states(ada, pro, now=NOON))[-1]
        assert (month.name, month.used) == ("elevenlabs.characters_per_month", 60_040)
        with pytest.raises(LimitReached):
            await admission.admit(ada, pro, 39_961, now=NOON, reservation=uuid4())
        place = await admission.admit(ada, pro, 39_960, now=NOON, reservation=uuid4())
        await place.settle(10)
        month = (await admission.states(ada, pro, now=NOON))[-1]
        assert month.used == 60_050


async def test_characters_that_were_settled_without_valkey_are_not_counted_twice(
    valkey_url: str,
) -> None:
    user, pro, charged = a_user(), tier_named("pro"), 0

    async def charged_since(_user: UserId, _since: datetime) -> int:
        return charged

    async with open_cache("redis://127.0.0.1:1/0") as nobody, open_cache(valkey_url) as cache:
        cut_off, near = Admissions(nobody), ValkeyAdmission(Admissions(cache), charged_since)
        far = ValkeyAdmission(cut_off, charged_since)
        place = await far.admit(user, pro, 1_000, now=NOON, reservation=uuid4())
        await place.settle(1_000)
        charged = 1_000
        await (await near.admit(user, pro, 10, now=NOON, reservation=uuid4())).settle(0)
        cut_off._line, cut_off._closed_until = Line(cache.connection_pool, timeout=1), 0.0
        await cut_off.renew({})
        await (await near.admit(user, pro, 10, now=NOON, reservation=uuid4())).settle(0)
        assert (await near.states(user, pro, now=NOON))[-1].used == 1_000


async def test_the_months_characters_are_settled_once(valkey_url: str) -> None:
    async with open_cache(valkey_url) as cache:
        admission, user, pro = admission_by(cache), a_user(), tier_named("pro")

        async def used() -> int:
            place = await admission.admit_more(user, pro, 0, now=NOON, reservation=uuid4())
            return place.limits[0].used + place.limits[0].reserved

        place = await admission.admit(user, pro, 5_000, now=NOON, reservation=uuid4())
        assert await used() == 5_000
        await place.settle(2_500)
        await place.settle(1)
        await place.refund()
        assert await used() == 2_500
        given_back = await admission.admit(user, pro, 5_000, now=NOON, reservation=uuid4())
        await given_back.refund()
        await given_back.settle(4_000)
        assert await used() == 2_500


async def test_the_place_of_a_speech_of_hours_is_settled_in_its_month(valkey_url: str) -> None:
    async with open_cache(valkey_url) as cache, open_cache("redis://127.0.0.1:1/0") as nobody:
        admission, user, pro = admission_by(cache), a_user(), tier_named("pro")
        place = await admission.admit(user, pro, 1_000, now=NOON, reservation=uuid4())
        (marker,) = await cache.keys(f"reservation:{{{user}}}:*")
        await cache.expire(marker, 60)
        await place.keep()
        assert await cache.ttl(marker) > 3_500
        await place.settle(500)  # of a model that takes half a credit for a character
        assert (await admission.states(user, pro, now=NOON))[-1].used == 500
        # What is settled is not remembered again; and one that can't be told does no harm.
        await place.keep()
        assert not await cache.exists(marker)
        await Admissions(nobody).keep(str(user), "any")


async def test_what_is_spoken_in_a_tier_without_a_limit_counts_in_one_that_has_it(
    valkey_url: str,
) -> None:
    user, pro, enterprise = a_user(), tier_named("pro"), tier_named("enterprise")
    async with open_cache(valkey_url) as cache:
        admission = admission_by(cache)

        async def speak(tier: Tier, characters: int, *, is_more: bool = False) -> None:
            admit = admission.admit_more if is_more else admission.admit
            place = await admit(user, tier, characters, now=NOON, reservation=uuid4())
            await place.settle(characters)
            await place.settle(characters)

        await speak(pro, 101)
        await speak(enterprise, 9_003)
        # The next text of a live speech, whose tier has changed since the first one.
        await speak(enterprise, 500, is_more=True)
        await speak(pro, 11)
        given_back = await admission.admit_more(
            user, enterprise, 700, now=NOON, reservation=uuid4()
        )
        await given_back.refund()
        month = (await admission.states(user, pro, now=NOON))[-1]
        assert (month.name, month.used) == ("elevenlabs.characters_per_month", 9_615)


async def test_a_counter_that_is_missing_is_not_begun_by_a_tier_without_a_limit(
    valkey_url: str,
) -> None:
    user, enterprise = a_user(), tier_named("enterprise")
    async with open_cache(valkey_url) as cache:
        admission = admission_by(cache, charged=2_000)
        place = await admission.admit(user, enterprise, 1_000, now=NOON, reservation=uuid4())
        await place.settle(1_000)
        month = (await admission.states(user, tier_named("pro"), now=NOON))[-1]
        assert month.used == 2_000, "it begins at what the database knows"


async def test_who_asks_for_no_characters_may_be_beyond_the_month(valkey_url: str) -> None:
    user, pro = a_user(), tier_named("pro")
    async with open_cache(valkey_url) as cache:
        admission = admission_by(cache, charged=100_001)
        place = await admission.admit(user, pro, 0, now=NOON, reservation=uuid4())
        month = place.limits[-1]
        assert (month.name, month.remaining) == ("elevenlabs.characters_per_month", 0)
        with pytest.raises(LimitReached):
            await admission.admit(user, pro, 1, now=NOON, reservation=uuid4())
