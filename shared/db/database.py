"""One asyncpg pool per process, and the translation of its failures into ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeAlias

import asyncpg
import orjson

from shared.errors import DependencyUnavailable, Invalid

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
Row: TypeAlias = "asyncpg.Record"

_UNREACHABLE = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InsufficientResourcesError,  # also a full disk
    asyncpg.QueryCanceledError,
    asyncpg.ReadOnlySQLTransactionError,
    # It rolled back on its own account (a deadlock): the same can be tried again, and an event is
    # not dead for it.
    asyncpg.TransactionRollbackError,
    # A lock not had in time, or a database that takes no connections for the moment.
    asyncpg.ObjectNotInPrerequisiteStateError,
    # The server is there but its database isn't (yet): an operator's to mend, not a client's.
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidPasswordError,
)


class UnstorableText(Invalid):
    """PostgreSQL's text holds any character but NUL."""

    code = "unstorable_text"


@contextmanager
def database_failures() -> Iterator[None]:
    """Turn the driver's failures into DependencyUnavailable, text it can't store into Invalid."""
    try:
        yield
    except (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError) as error:
        raise UnstorableText("A text holds a character that can't be stored (NUL).") from error
    except _UNREACHABLE as error:
        raise DependencyUnavailable("database") from error


class Database:
    """A service's own database. Methods raise DependencyUnavailable while it is out of reach."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection of the pool, given back afterwards."""
        with database_failures():
            connection = await self._pool.acquire(timeout=2)
        try:
            with database_failures():
                yield connection
        finally:
            await self._release(connection)

    async def _release(self, connection: Connection) -> None:
        # What the statement brought stands already. A connection whose server died can't be reset,
        # and may have left the pool by itself; either way the pool makes another.
        with suppress(asyncpg.InternalClientError, *_UNREACHABLE):
            await self._pool.release(connection, timeout=2)

    async def fetchrow(self, sql: str, *values: Any) -> Row | None:
        """The first row of one statement in a transaction of its own."""
        async with self.connection() as connection:
            return await connection.fetchrow(sql, *values)

    async def fetch(self, sql: str, *values: Any) -> list[Row]:
        """All rows of one statement in a transaction of its own."""
        async with self.connection() as connection:
            return list(await connection.fetch(sql, *values))

    async def execute(self, sql: str, *values: Any) -> str:
        """Run one statement in a transaction of its own; answers its command tag."""
        async with self.connection() as connection:
            return str(await connection.execute(sql, *values))

    async def check(self) -> None:
        """Raises DependencyUnavailable unless the database answers."""
        await self.fetchrow("select 1")


@asynccontextmanager
async def open_database(url: str, *, connections: int, application: str) -> AsyncIterator[Database]:
    """The pool, opened lazily: a service starts (and says it is not ready) without its database."""
    pool = asyncpg.create_pool(
        dsn=plain_dsn(url),
        min_size=0,
        max_size=connections,
        timeout=3,
        command_timeout=10,
        max_inactive_connection_lifetime=300,
        init=_prepare,
        reset=_keep_session,
        server_settings={
            "application_name": application,
            # Nobody may keep a transaction open over a slow network call.
            "idle_in_transaction_session_timeout": "15000",
            "timezone": "UTC",
            # Short statements gain nothing from the JIT and pay for its compiler.
            "jit": "off",
        },
    )
    with database_failures():
        await pool
    try:
        yield Database(pool)
    finally:
        try:
            await asyncio.wait_for(pool.close(), 5)
        except (TimeoutError, *_UNREACHABLE):
            pool.terminate()


async def _keep_session(_connection: Connection) -> None:
    """Nothing in the suite changes a session, so nothing needs to be reset: the pool's own reset
    costs a round trip each time a connection is given back. It still ends open transactions."""


async def _prepare(connection: Connection) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: b"\x01" + orjson.dumps(value),
        decoder=lambda value: orjson.loads(value[1:]),
        format="binary",
    )


def plain_dsn(url: str) -> str:
    """A SQLAlchemy-style URL without its driver part, as asyncpg wants it."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}{separator}{rest}"
