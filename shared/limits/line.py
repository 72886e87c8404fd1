"""One connection to Valkey on which many calls are under way at once, answered in their order.

Admission is asked before every turn. A pool lends a connection to each call, and asks whether it
is still good, packs, waits and takes it back: that is most of what a call costs, and the wait for
one of few connections is a queue that nobody sees. Address, sign-in, TLS and decoding stay the
pool's business.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from hiredis import Reader, pack_command
from redis._parsers.base import BaseParser
from redis.asyncio import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

# uvloop raises RuntimeError for a write to a connection that is closed already.
BROKEN = (RedisConnectionError, RuntimeError)

# So late comes only what our own busy loop has held up; it says nothing about Valkey.
_LATE_SECONDS = 0.03

# More of a reply has to come.
_NOT_YET = object()


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
        wire = self._wire
        try:
            if wire is None or wire.is_broken:
                wire = await self._opened()
            return await wire.send(command)
        except BROKEN:
            # A connection that Valkey closed (a restart) shows it on its next use.
            return await (await self._opened()).send(command)

    async def _opened(self) -> _Wire:
        if self._wire is not None and not self._wire.is_broken:
            return self._wire
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


class _Wire(asyncio.Protocol):
    """One connection, from its opening until it breaks.

    redis-py opens it; what travels on it then passes by its streams, whose tasks and wakes are most
    of what a short command costs.
    """

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
        self._giving_back: asyncio.Task[None] | None = None
        self._replies = Reader(replyError=BaseParser.parse_error, notEnoughData=_NOT_YET)
        self._transport: asyncio.Transport = connection._writer.transport
        # It hears of the end, too: whoever closes the connection waits for that.
        self._former: asyncio.Protocol = self._transport.get_protocol()
        self._transport.set_protocol(self)
        if self._transport.is_closing():
            self._break(RedisConnectionError("closed"))

    def send(self, command: bytes) -> asyncio.Future[Any]:
        """Its answer. To stop waiting for it does no harm to the others."""
        if self.is_broken:
            raise RedisConnectionError("closed")
        answer: asyncio.Future[Any] = self._loop.create_future()
        if not self._unanswered:
            self._silent_since = self._loop.time()
            if self._watch is None:
                self._watch_until(self._silent_since + self._timeout)
        self._unanswered.append(answer)
        if not self._unsent:
            # What is asked for within one turn of the loop goes out together.
            self._loop.call_soon(self._write)
        self._unsent.append(command)
        return answer

    def _write(self) -> None:
        commands, self._unsent = self._unsent, []
        if not self.is_broken:
            self._transport.write(commands[0] if len(commands) == 1 else b"".join(commands))

    def data_received(self, data: bytes) -> None:
        replies = self._replies
        try:
            replies.feed(data)
            reply = replies.gets()
            while reply is not _NOT_YET:
                self._answered(reply)
                reply = replies.gets()
        except Exception as error:  # whatever it is, nobody knows any more whose the rest is
            self._break(RedisConnectionError(f"{type(error).__name__}: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        self._break(RedisConnectionError("closed" if error is None else str(error)))
        self._former.connection_lost(error)

    def _answered(self, reply: Any) -> None:
        if self.is_broken:
            return
        if isinstance(reply, RedisConnectionError):
            raise reply  # it takes no commands: it is loading, or has too many clients
        waiting = self._unanswered.popleft()
        self._silent_since = self._loop.time()
        self._forgiven = False
        if waiting.done():
            return
        if isinstance(reply, ResponseError):
            waiting.set_exception(reply)
        else:
            waiting.set_result(reply)

    def _break(self, error: Exception) -> None:
        if self.is_broken:
            return
        self.is_broken = True
        if self._watch is not None:
            self._watch.cancel()
        self._transport.abort()
        for waiting in self._unanswered:
            if not waiting.done():
                waiting.set_exception(error)
        self._unanswered.clear()
        self._giving_back = self._loop.create_task(self._give_back())

    async def _give_back(self) -> None:
        connection = self._connection
        await connection.disconnect(nowait=True)
        await self._pool.release(connection)

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
