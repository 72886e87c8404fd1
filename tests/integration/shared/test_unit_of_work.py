"""State and facts commit together or not at all, whatever happens to the database in between."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from uuid import uuid4

import asyncpg
import psycopg2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url

from shared.db import archive, outbox
from shared.db.database import Database, UnstorableText, open_database
from shared.db.engine import sync_engine
from shared.errors import DependencyUnavailable
from shared.events.user import UserRegistered
from shared.ids import EventId, uuid7
from shared.messaging.relay_bell import RelayBell
from tests.support.engines import PostgresServer
from tests.support.event_service.storage import ScribeWork
from tests.support.event_service.world import a_usage

LEASE = timedelta(seconds=30)


@pytest.fixture
def url(postgres_server: PostgresServer, tables: str) -> Iterator[str]:
    with postgres_server.fresh_database(template=tables) as url:
        yield url


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with open_database(url, connections=3, application="test") as database:
        yield database


async def count(database: Database, table: str) -> int:
    row = await database.fetchrow(f"select count(*) as n from {table}")
    assert row is not None
    return int(row["n"])


async def end_connections(url: str) -> None:
    """As an administrator or a failover does it."""

    def end() -> None:
        connection = psycopg2.connect(url)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where application_name = 'test' and datname = current_database()"
            )
        connection.close()

    await asyncio.to_thread(end)


async def test_a_commit_keeps_state_and_facts(database: Database) -> None:
    event_id, subject = EventId(uuid7()), uuid4()
    async with ScribeWork(database) as work:
        await work.write([(uuid4(), "one")])
        work.publish(a_usage(), subject=subject, tier="pro", id_=event_id)
        work.publish(UserRegistered(user_id=subject), subject=subject, tier="free")
    assert await count(database, "effect") == 1
    rows = await database.fetch("select * from outbox order by stream")
    assert [row["stream"] for row in rows] == ["usage.recorded.pro", "user.registered.free"]
    assert rows[0]["event_id"] == event_id
    assert rows[0]["envelope"]["source"] == "scribe"
    assert rows[0]["envelope"]["subject"] == str(subject)


async def test_a_failure_keeps_neither(database: Database) -> None:
    with pytest.raises(LookupError):
        async with ScribeWork(database) as work:
            await work.write([(uuid4(), "one")])
            work.publish(a_usage(), subject=uuid4(), tier="pro")
            raise LookupError
    assert (await count(database, "effect"), await count(database, "outbox")) == (0, 0)


async def test_being_cancelled_keeps_neither(database: Database) -> None:
    inside = asyncio.Event()

    async def act() -> None:
        async with ScribeWork(database) as work:
            await work.write([(uuid4(), "one")])
            work.publish(a_usage(), subject=uuid4(), tier="pro")
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(act())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await count(database, "effect"), await count(database, "outbox")) == (0, 0)


async def test_a_database_that_ends_in_the_middle_keeps_neither(
    database: Database, url: str
) -> None:
    with pytest.raises(DependencyUnavailable):
        async with ScribeWork(database) as work:
            await work.write([(uuid4(), "one")])
            work.publish(a_usage(), subject=uuid4(), tier="pro")
            await end_connections(url)
            await work.write([(uuid4(), "two")])
    # The pool replaces what died.
    assert (await count(database, "effect"), await count(database, "outbox")) == (0, 0)


async def test_a_database_that_ends_before_the_commit_keeps_neither(
    database: Database, url: str
) -> None:
    with pytest.raises(DependencyUnavailable):
        async with ScribeWork(database) as work:
            await work.write([(uuid4(), "one")])
            work.publish(a_usage(), subject=uuid4(), tier="pro")
            await end_connections(url)
    assert (await count(database, "effect"), await count(database, "outbox")) == (0, 0)


async def test_a_database_that_ends_between_two_units_is_not_noticed_twice(
    database: Database, url: str
) -> None:
    assert await count(database, "effect") == 0
    await end_connections(url)
    for _ in range(2):
        try:
            await count(database, "effect")
        except DependencyUnavailable:
            continue
        break
    else:
        pytest.fail("the pool keeps handing out a dead connection")


async def test_the_same_fact_is_published_once(database: Database) -> None:
    event_id = EventId(uuid7())
    async with ScribeWork(database) as work:
        work.publish(a_usage(), subject=uuid4(), tier="pro", id_=event_id)
    with pytest.raises(asyncpg.UniqueViolationError):
        async with ScribeWork(database) as work:
            await work.write([(uuid4(), "again")])
            work.publish(a_usage(), subject=uuid4(), tier="pro", id_=event_id)
    assert (await count(database, "effect"), await count(database, "outbox")) == (0, 1)


async def test_what_a_row_holds_is_not_told_with_its_failure(database: Database) -> None:
    """Whatever is raised may be written to the log."""
    event_id = EventId(uuid7())
    with pytest.raises(asyncpg.UniqueViolationError) as refused:
        async with ScribeWork(database) as work:
            for _ in range(2):
                work.publish(a_usage(), subject=uuid4(), tier="pro", id_=event_id)
    assert str(event_id) not in str(refused.value)


class _CannotOpen(ScribeWork):
    def open_repositories(self) -> None:
        raise LookupError


async def test_a_unit_that_cannot_open_keeps_no_connection(url: str) -> None:
    async with open_database(url, connections=1, application="test") as small:
        with pytest.raises(LookupError):
            async with _CannotOpen(small):
                pytest.fail("it is open")
        assert small.connections.lent == 0
        await small.check()


async def test_an_event_is_unseen_once(database: Database) -> None:
    ids = [EventId(uuid7()) for _ in range(3)]
    async with ScribeWork(database) as work:
        assert await work.unseen([*ids[:2], ids[0]]) == set(ids[:2])
        assert await work.unseen(ids) == {ids[2]}
    async with ScribeWork(database) as work:
        assert await work.unseen(ids) == set()


async def test_what_was_rolled_back_is_unseen_again(database: Database) -> None:
    event_id = EventId(uuid7())
    with pytest.raises(LookupError):
        async with ScribeWork(database) as work:
            await work.unseen([event_id])
            raise LookupError
    async with ScribeWork(database) as work:
        assert await work.unseen([event_id]) == {event_id}


async def test_concurrent_deliveries_take_effect_once(database: Database) -> None:
    ids = [EventId(uuid7()) for _ in range(50)]

    async def handle(order: list[EventId]) -> None:
        async with ScribeWork(database) as work:
            unseen = await work.unseen(order)
            await work.write([(id_, "once") for id_ in unseen])

    # In different orders: sorted ids keep the transactions from waiting for each other in a ring.
    await asyncio.gather(handle(ids), handle(ids[::-1]), handle(ids))
    assert await count(database, "effect") == 50


async def test_text_that_cannot_be_stored_is_its_senders_fault(database: Database) -> None:
    with pytest.raises(UnstorableText):
        async with ScribeWork(database) as work:
            await work.write([(uuid4(), "nul: \0")])
    assert await count(database, "effect") == 0


async def test_a_pool_that_is_used_up_is_trouble_of_ours(url: str) -> None:
    async with (
        open_database(url, connections=1, application="test") as small,
        ScribeWork(small),
    ):
        began = asyncio.get_running_loop().time()
        with pytest.raises(DependencyUnavailable) as raised:
            await small.check()
        assert asyncio.get_running_loop().time() - began < 4
        assert raised.value.did_nothing


@pytest.mark.parametrize(
    ("statement", "did_nothing"),
    [
        # Refused, and cancelled by the server.
        ("do $$ begin raise read_only_sql_transaction; end $$", True),
        ("do $$ begin raise lock_not_available; end $$", True),
        ("do $$ begin raise disk_full; end $$", True),
        ("do $$ begin raise query_canceled; end $$", True),
        # Two that stood in each other's way, of which the server let one go on.
        ("do $$ begin raise deadlock_detected; end $$", True),
        ("do $$ begin raise serialization_failure; end $$", True),
        # Nobody waits any more; and the end of a session may come after that of its statement.
        ("select pg_sleep(5)", False),
        ("select pg_terminate_backend(pg_backend_pid())", False),
        (
            "do $$ begin perform set_config('exit_on_error', 'on', false); raise io_error; end $$",
            False,
        ),
    ],
)
async def test_it_is_told_when_a_statement_that_failed_did_nothing(
    database: Database, statement: str, did_nothing: bool
) -> None:
    with pytest.raises(DependencyUnavailable) as raised:
        await database.fetchrow(statement, within_seconds=0.2)
    assert raised.value.did_nothing is did_nothing


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1/companion_auth", "user:wrong@{server}/x", "{server}/no_such_database"]
)
async def test_a_service_starts_without_its_database(
    postgres_server: PostgresServer, address: str
) -> None:
    server = postgres_server.url.removeprefix("postgresql://")
    if "wrong" in address:
        server = server.rpartition("@")[2]
    url = "postgresql://" + address.format(server=server)
    async with open_database(url, connections=1, application="test") as database:
        with pytest.raises(DependencyUnavailable):
            await database.check()


async def test_what_was_sent_can_be_sent_again_with_its_numbers(
    database: Database, url: str
) -> None:
    async with ScribeWork(database) as work:
        for _ in range(5):
            work.publish(a_usage(), subject=uuid4(), tier="pro")
    engine, stream = sync_engine(url), "usage.recorded.pro"
    batch = outbox.claim(engine, stream, most=10, lease=LEASE)
    assert batch is not None
    outbox.mark_sent(engine, batch)
    assert await archive.send_again(database, stream, uuid4(), first=1, last=5) == 0
    assert await archive.send_again(database, stream, batch.epoch, first=2, last=3) == 2
    assert await archive.send_again(database, stream, batch.epoch, first=2, last=3) == 0
    again = outbox.claim(engine, stream, most=10, lease=LEASE)
    engine.dispose()
    assert again is not None
    assert again.epoch == batch.epoch
    assert again.events == batch.events[1:3]
    assert await archive.stream_ends(database, "usage.") == [
        archive.StreamEnd(stream, batch.epoch, 5)
    ]


@settings(max_examples=15, deadline=None)
@given(steps=st.lists(st.sampled_from(["publish", "claim", "send", "fail", "expire"]), max_size=20))
async def test_numbers_have_no_gap_whatever_relays_do(
    postgres_server: PostgresServer, tables: str, steps: list[str]
) -> None:
    stream, claimed, published = "usage.recorded.pro", [], 0
    with postgres_server.fresh_database(template=tables) as url:
        engine = sync_engine(url)
        async with open_database(url, connections=1, application="test") as database:
            for step in [*steps, "expire"]:
                if step == "publish":
                    async with ScribeWork(database) as work:
                        for _ in range(3):
                            work.publish(a_usage(), subject=uuid4(), tier="pro")
                    published += 3
                elif step == "claim":
                    batch = outbox.claim(engine, stream, most=2, lease=LEASE)
                    claimed += [batch] if batch else []
                elif step == "expire":
                    await database.execute("update outbox set leased_until = null")
                elif claimed and step == "send":
                    outbox.mark_sent(engine, claimed.pop())
                elif claimed:
                    outbox.release(engine, claimed.pop(0))
            while batch := outbox.claim(engine, stream, most=2, lease=LEASE):
                outbox.mark_sent(engine, batch)
            rows = await database.fetch("select sequence from outbox_sent order by sequence")
            assert [row["sequence"] for row in rows] == list(range(1, published + 1))
            assert await count(database, "outbox") == 0
        engine.dispose()


async def test_a_login_that_is_refused_is_a_database_out_of_reach(
    url: str, postgres_server: PostgresServer
) -> None:
    """An event that meets it waits; it is not dead for it."""
    role = f"locked_out_{uuid4().hex[:8]}"
    secret = f"of-{role}"
    superuser_url = f"{postgres_server.engine.superuser_url}/postgres"
    admin = sync_engine(superuser_url, single_statements=True)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"create role {role} nologin password '{secret}'")
    try:
        locked_out = make_url(url).set(username=role, password=secret)
        dsn = locked_out.render_as_string(hide_password=False)
        async with open_database(dsn, connections=1, application="test") as database:
            with pytest.raises(DependencyUnavailable) as refused:
                await database.check()
        assert type(refused.value.__cause__) is asyncpg.InvalidAuthorizationSpecificationError
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"drop role {role}")
        admin.dispose()


@pytest.mark.parametrize(
    "ended",
    [
        asyncpg.IdleSessionTimeoutError,
        asyncpg.DatabaseDroppedError,
        asyncpg.IdleInTransactionSessionTimeoutError,
        asyncpg.TransactionTimeoutError,
        asyncpg.AdminShutdownError,
        asyncpg.CrashShutdownError,
        asyncpg.CannotConnectNowError,
        asyncpg.QueryCanceledError,
    ],
)
async def test_a_session_that_the_server_has_ended_is_nobodys_bug(
    database: Database, ended: type[asyncpg.PostgresError]
) -> None:
    with pytest.raises(DependencyUnavailable):
        async with database.connection():
            raise ended("ended")


def test_who_waits_for_a_database_finds_out_soon_that_it_is_gone(url: str) -> None:
    """It can vanish without a word, and nobody would hear that what waits is no longer counted."""
    engine = sync_engine(url)
    bell = RelayBell(url)
    try:
        with engine.connect() as connection:
            assert_watched(connection.connection.fileno())
        assert bell.rang_within(0)
        assert_watched(bell._connection.fileno())
    finally:
        bell.close()
        engine.dispose()


def assert_watched(descriptor: int) -> None:
    with socket.socket(fileno=os.dup(descriptor)) as connected:

        def option(name: int) -> int:
            return connected.getsockopt(socket.IPPROTO_TCP, name)

        assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        silence = option(socket.TCP_KEEPIDLE)
        silence += option(socket.TCP_KEEPINTVL) * option(socket.TCP_KEEPCNT)
        assert silence <= 30
        assert 0 < option(socket.TCP_USER_TIMEOUT) <= 30_000
