"""One connection to Valkey on which many calls are under way at once, answered in their order.

Admission is asked before every turn. A pool lends a connection to each call, and asks whether it
is still good, packs, waits and takes it back: that is most of what a call costs, and the wait for
one of few connections is a queue that nobody sees. Address, sign-in, TLS and decoding stay the
pool's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Iterator
from typing import Any

from hiredis import pack_command
from redis.asyncio import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

# uvloop raises RuntimeError for a write to a connection that is closed already.
BROKEN = (RedisConnectionError, RuntimeError)

# So late comes only what our own busy loop has held up; it says nothing about Valkey.
_LATE_SECONDS = 0.03


def packed(*parts: bytes | str | int) -> bytes:
    """A command as it travels."""
    command: bytes = pack_command(parts)  # type: ignore[arg-type]  # its stub knows one part only
    return command


class Line:
    """Keeps one connection open, and opens another when that has failed."""

    def __init__(self, pool: ConnectionPool, *, timeout: float) -> None:
        self._pool = pool
        self._timeout = timeout
        self._wire: _Wire | None = None
        self._opening: asyncio.Task[_Wire] | None = None

    async def ask(self, command: bytes) -> Any:
        """The answer to a packed command, which is sent once more when the connection breaks.

        Raises ResponseError when Valkey declines it; RedisTimeout when it said nothing for so
        long; or one of BROKEN: then the command may or may not have been carried out.
        """
        try:
            return await self._ask(command)
        except BROKEN:
            # A connection that Valkey closed (a restart) shows it on its next use.
            return await self._ask(command)

    async def _ask(self, command: bytes) -> Any:
        wire = self._wire
        if wire is None or wire.is_broken:
            wire = await self._opened()
        return await wire.send(command)

    async def _opened(self) -> _Wire:
        # Whoever comes while it is being opened waits for that one.
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open())
        return await asyncio.shield(self._opening)

    async def _open(self) -> _Wire:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            connection = await self._connected()
        except RedisTimeout:
            if loop.time() - began < self._timeout + _LATE_SECONDS:
                raise
            connection = await self._connected()
        self._wire = _Wire(self._pool, connection, self._timeout)
        return self._wire

    async def _connected(self) -> Any:
        return await self._pool.get_connection()  # type: ignore[no-untyped-call]


class _Wire:
    """One connection, from its opening until it breaks."""

    def __init__(self, pool: ConnectionPool, connection: Any, timeout: float) -> None:
        self.is_broken = False
        self._pool = pool
        self._connection = connection
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._unsent: list[bytes] = []
        self._unanswered: deque[asyncio.Future[Any]] = deque()
        self._silent_since = 0.0
        self._forgiven = False
        self._watch: asyncio.TimerHandle | None = None
        self._has_unsent = asyncio.Event()
        self._tasks = (
            self._loop.create_task(self._write_all()),
            self._loop.create_task(self._read_all()),
        )

    def send(self, command: bytes) -> asyncio.Future[Any]:
        """Its answer. To stop waiting for it does no harm to the others."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        if not self._unanswered:
            self._silent_since = self._loop.time()
            if self._watch is None:
                self._watch_until(self._silent_since + self._timeout)
        self._unanswered.append(answer)
        self._unsent.append(command)
        self._has_unsent.set()
        return answer

    async def _write_all(self) -> None:
        # What is asked for within one turn of the loop goes out together.
        with self._breaking():
            while True:
                await self._has_unsent.wait()
                self._has_unsent.clear()
                commands, self._unsent = self._unsent, []
                await self._connection.send_packed_command(commands, check_health=False)

    async def _read_all(self) -> None:
        connection, unanswered = self._connection, self._unanswered
        normal_timeout = connection.socket_timeout
        # Silence is watched here: a timer for each write and each read would cost more than they.
        connection.socket_timeout = None
        try:
            with self._breaking():
                while True:
                    answer: Any
                    try:
                        answer = await connection.read_response(timeout=math.inf)
                    except ResponseError as error:
                        answer = error
                    self._silent_since = self._loop.time()
                    self._forgiven = False
                    waiting = unanswered.popleft()
                    if waiting.done():
                        continue
                    if isinstance(answer, ResponseError):
                        waiting.set_exception(answer)
                    else:
                        waiting.set_result(answer)
        finally:
            connection.socket_timeout = normal_timeout
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)

    @contextlib.contextmanager
    def _breaking(self) -> Iterator[None]:
        """However this ends, the wire is broken then."""
        try:
            yield
        except (*BROKEN, OSError) as error:
            self._break(RedisConnectionError(str(error)))
        finally:
            self._break(RedisConnectionError("closed"))

    def _break(self, error: Exception) -> None:
        if self.is_broken:
            return
        self.is_broken = True
        if self._watch is not None:
            self._watch.cancel()
        ending = asyncio.current_task()
        for task in self._tasks:
            if task is not ending:
                task.cancel()
        for waiting in self._unanswered:
            if not waiting.done():
                waiting.set_exception(error)

    def _watch_until(self, moment: float) -> None:
        self._watch = self._loop.call_at(moment, self._look, moment)

    def _look(self, due: float) -> None:
        self._watch = None
        if not self._unanswered:
            return
        now = self._loop.time()
        if now - due > _LATE_SECONDS and not self._forgiven:
            self._forgiven = True
            self._silent_since = now
        if now < self._silent_since + self._timeout:
            self._watch_until(self._silent_since + self._timeout)
        else:
            self._break(RedisTimeout(f"No answer for {self._timeout} s"))
