"""A service's own database, and the translation of the driver's failures into ours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from types import TracebackType
from typing import Any, TypeAlias

import asyncpg
import orjson

from shared.db.connections import Connection, Connections
from shared.errors import DependencyUnavailable, UnstorableText

__all__ = [
    "BELL",
    "Connection",
    "Database",
    "KeptWaiting",
    "Row",
    "UnstorableText",
    "open_database",
    "plain_dsn",
]

Row: TypeAlias = "asyncpg.Record"

_UNREACHABLE = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    # It stops, starts, or has cancelled a statement or ended a session.
    asyncpg.OperatorInterventionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    asyncpg.InsufficientResourcesError,  # also a full disk
    asyncpg.ReadOnlySQLTransactionError,
    # It rolled back on its own account (a deadlock): the same can be tried again, and an event is
    # not dead for it.
    asyncpg.TransactionRollbackError,
    # A lock not had in time, or a database that takes no connections for the moment.
    asyncpg.ObjectNotInPrerequisiteStateError,
    # The server is there but its database isn't (yet): an operator's to mend, not a client's.
    asyncpg.InvalidCatalogNameError,
    # The same of a login that it refuses: a password, a role, a rule of pg_hba.
    asyncpg.InvalidAuthorizationSpecificationError,
)


_LEAVES_BEHIND = (asyncio.CancelledError, TimeoutError)
_UNSTORABLE = (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)


BELL = "outbox"
"""The channel on which a service's processes wake the relay."""

# A notification in every commit would make all commits of the server queue up, so a process rings
# at most so often. The relay stays awake for longer than this after each ring.
_RING_SECONDS = 1.0


class KeptWaiting(Exception):
    """One of several in a transaction met somebody else's lock. Nothing of it was done."""


_KEPT_WAITING = (asyncpg.LockNotAvailableError, asyncpg.TransactionRollbackError)


class _Loan:
    """A connection for the length of a block, whose failures are ours outside of it."""

    __slots__ = ("_connection", "_connections")

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._connection: Connection

    async def __aenter__(self) -> Connection:
        connection = self._connections.lend_at_once()
        if connection is None:
            try:
                connection = await self._connections.lend()
            except Exception as error:
                _raise_as_ours(error, did_nothing=True)
                raise
        self._connection = connection
        return connection

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._connections.give_back(self._connection, is_sound=True)
            return
        # Whoever was cancelled or ran out of time may have left a statement behind.
        left_behind = isinstance(error, _LEAVES_BEHIND)
        self._connections.give_back(self._connection, is_sound=not left_behind)
        if isinstance(error, asyncpg.PostgresError):
            # It holds the values of the row, and would be written to the log along with the error.
            error.detail = None
        _raise_as_ours(error, did_nothing=_is_rolled_back(error))


def _is_rolled_back(error: BaseException) -> bool:
    """Whether the server itself says so. What ends the connection may come after a commit, and has
    another severity; what the driver finds has none."""
    return isinstance(error, asyncpg.PostgresError) and error.severity_en == "ERROR"


def _raise_as_ours(error: BaseException, *, did_nothing: bool) -> None:
    if isinstance(error, _UNSTORABLE):
        raise UnstorableText from error
    if isinstance(error, _UNREACHABLE):
        raise DependencyUnavailable("database", did_nothing=did_nothing) from error


class Database:
    """A service's own database. Methods raise DependencyUnavailable while it is out of reach, and
    UnstorableText for a text that it can't hold."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._rang_at = float("-inf")

    @property
    def connections(self) -> Connections:
        """For those who watch how many are in use."""
        return self._connections

    def connection(self) -> AbstractAsyncContextManager[Connection]:
        """A connection for the length of a block; nothing may use it afterwards."""
        return _Loan(self._connections)

    async def fetchrow(
        self, sql: str, *values: Any, within_seconds: float | None = None
    ) -> Row | None:
        """The first row of one statement in a transaction of its own. `within_seconds`: how long it
        may take, where the general limit is too long for who waits."""
        async with self.connection() as connection:
            return await connection.fetchrow(sql, *values, timeout=within_seconds)

    async def fetch(self, sql: str, *values: Any) -> list[Row]:
        """All rows of one statement in a transaction of its own."""
        async with self.connection() as connection:
            return list(await connection.fetch(sql, *values))

    async def fetch_each(
        self, sql: str, each: Sequence[Sequence[Any]], *, within_seconds: float | None = None
    ) -> list[Row]:
        """The rows of one statement, run for each of these values, in their order, in one
        transaction and without a round trip between. All of it is done or nothing.

        Raises KeptWaiting where a lock was not had in time, or was taken crosswise.
        """
        try:
            async with self.connection() as connection:
                return list(await connection.fetchmany(sql, each, timeout=within_seconds))
        except DependencyUnavailable as failure:
            if isinstance(failure.__cause__, _KEPT_WAITING):
                raise KeptWaiting from failure
            raise

    async def execute(self, sql: str, *values: Any, within_seconds: float | None = None) -> str:
        """Run one statement in a transaction of its own; answers its command tag."""
        async with self.connection() as connection:
            return str(await connection.execute(sql, *values, timeout=within_seconds))

    async def wake_relay(self) -> None:
        """Say that something waits in the outbox, after it was committed. That may be lost: the
        relay also looks by itself."""
        now = time.monotonic()
        if now - self._rang_at < _RING_SECONDS:
            return
        self._rang_at = now
        # Whoever rings has committed: nothing that goes wrong here may look as if they had not.
        with suppress(DependencyUnavailable, asyncpg.PostgresError):
            await self.execute(f"notify {BELL}")

    async def check(self) -> None:
        """Raises DependencyUnavailable unless the database answers."""
        await self.fetchrow("select 1")


@asynccontextmanager
async def open_database(url: str, *, connections: int, application: str) -> AsyncIterator[Database]:
    """Connected to lazily: a service starts (and says it is not ready) without its database."""

    async def connect() -> Connection:
        connection = await asyncpg.connect(
            dsn=plain_dsn(url),
            timeout=3,
            command_timeout=10,
            server_settings={
                "application_name": application,
                # Nobody may keep a transaction open over a slow network call.
                "idle_in_transaction_session_timeout": "15000",
                "timezone": "UTC",
                # Short statements gain nothing from the JIT and pay for its compiler.
                "jit": "off",
            },
        )
        try:
            await _prepare(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    pool = Connections(connect, most=connections)
    try:
        yield Database(pool)
    finally:
        await pool.close()


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
