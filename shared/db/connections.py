"""The connections of one process to its database, lent one at a time.

asyncpg's own pool wraps each connection in a proxy and takes it back through a task of its own:
three times what a short statement costs by itself. Nothing in the suite changes a session, so this
one lends the connections as they are, and ends those of which it is not sure.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias

import asyncpg

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_WAIT_SECONDS = 2.0
_CLOSE_SECONDS = 5.0
_IDLE_SECONDS = 300.0


class Connections:
    """At most `most`, opened when they are needed; the one used last is lent first."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], *, most: int) -> None:
        self._connect = connect
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._idle: list[tuple[Connection, float]] = []
        self._lent: set[Connection] = set()
        self._count = 0  # of all that are open or being opened
        # Who waits is given a connection, or None for the room to open one.
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._is_closing = False
        self._news = asyncio.Event()  # for who closes: one was given back, or has ended

    @property
    def lent(self) -> int:
        """How many are in use."""
        return len(self._lent)

    @property
    def most(self) -> int:
        """How many there may be."""
        return self._most

    def lend_at_once(self) -> Connection | None:
        """A connection that has to be given back, if one is free."""
        connection = self._idle_one()
        if connection is not None:
            self._lent.add(connection)
        return connection

    async def lend(self) -> Connection:
        """A connection that has to be given back.

        Raises TimeoutError when none is free in time, and what connecting may raise.
        """
        connection = self._idle_one()
        if connection is None:
            async with asyncio.timeout(_WAIT_SECONDS):
                connection = await self._one_more()
        self._lent.add(connection)
        return connection

    def give_back(self, connection: Connection, *, is_sound: bool) -> None:
        """The end of a loan. One that is not sound is ended: its last statement may still run."""
        self._lent.discard(connection)
        if self._is_closing:
            self._news.set()
        if not is_sound or connection.is_closed() or connection.is_in_transaction():
            # The server rolls back what was open.
            self._drop(connection)
        elif self._is_closing:
            self._end(connection)
        elif not self._tell_next(connection):
            self._idle.append((connection, self._loop.time()))
            if self._sweep is None:
                self._sweep = self._loop.call_later(_IDLE_SECONDS, self._end_idle)

    async def close(self) -> None:
        """End all, once those that are lent are given back, or after a while."""
        self._is_closing = True
        if self._sweep is not None:
            self._sweep.cancel()
        while self._waiting:
            self._tell_next(None)
        for connection, _ in self._idle:
            self._end(connection)
        self._idle.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                while self._lent or self._ending:
                    self._news.clear()
                    await self._news.wait()
        for connection in self._lent:
            connection.terminate()

    def _idle_one(self) -> Connection | None:
        while self._idle:
            connection, _ = self._idle.pop()
            if not connection.is_closed():
                return connection
            self._drop(connection)  # its server has ended it
        return None

    async def _one_more(self) -> Connection:
        while not self._is_closing:
            if self._count < self._most:
                return await self._opened()
            connection = await self._next() or self._idle_one()
            if connection is not None:
                return connection
        raise asyncpg.InterfaceError("the connections are being closed")

    async def _opened(self) -> Connection:
        self._count += 1
        try:
            return await self._connect()
        except BaseException:
            self._count -= 1
            self._tell_next(None)
            raise

    def _drop(self, connection: Connection) -> None:
        connection.terminate()
        self._count -= 1
        self._tell_next(None)

    async def _next(self) -> Connection | None:
        turn: asyncio.Future[Connection | None] = self._loop.create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                # It was ours just when we gave up.
                given = turn.result()
                if given is None:
                    self._tell_next(None)
                else:
                    self.give_back(given, is_sound=True)
            else:
                with suppress(ValueError):
                    self._waiting.remove(turn)
            raise

    def _tell_next(self, connection: Connection | None) -> bool:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return True
        return False

    def _end_idle(self) -> None:
        self._sweep = None
        oldest = self._loop.time() - _IDLE_SECONDS
        for connection, since in self._idle:
            if since <= oldest:
                self._end(connection)
        self._idle = [(kept, since) for kept, since in self._idle if since > oldest]
        if self._idle:
            self._sweep = self._loop.call_later(self._idle[0][1] - oldest, self._end_idle)

    def _end(self, connection: Connection) -> None:
        self._count -= 1
        task = self._loop.create_task(_say_goodbye(connection))
        self._ending.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        self._news.set()


async def _say_goodbye(connection: Connection) -> None:
    try:
        await connection.close(timeout=1)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()
