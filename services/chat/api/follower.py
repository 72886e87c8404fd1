"""Writes to one client what a turn says, as it says it: the same through every door.

Per piece of an answer one small encode and one send; no task, no timer, no log line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import structlog

from services.chat.domain.bell import Bell
from services.chat.domain.turn import TurnId

log = structlog.get_logger(__name__)

_PING = b": ping\n\n"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]
Told = Callable[[int], tuple[bytes, int]]
"""What was said after the event of that number, perhaps not all of it, as the client hears it; and
the number of the last event in it."""


class Followed(Protocol):
    """A turn, wherever it runs."""

    @property
    def turn_id(self) -> TurnId: ...
    @property
    def bell(self) -> Bell: ...
    @property
    def is_over(self) -> bool: ...


class Follower:
    """What the client does not read stays where it is, in the turn: here is a position alone. One
    timer looks after silence, put off by whatever is written."""

    ping_seconds = 15.0  # proxies take silence for death
    # A client that has not read for so long is gone, whatever its connection says.
    patience_seconds = 30.0

    def __init__(self, turn: Followed, send: Send, told: Told, *, after: int = 0) -> None:
        """Made in the task that will write."""
        self._turn = turn
        self._send = send
        self._told = told
        self._position = after
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._last_write = self._loop.time()
        self._is_writing = self._is_dropped = False
        self._timer: asyncio.TimerHandle | None = None

    async def write(self, headers: Headers) -> None:
        """The head and all events to the last, or until the client is dropped."""
        self._look_at(self._due())
        try:
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._relay()
        except asyncio.CancelledError:
            if not self._is_dropped:
                raise
            assert self._task is not None
            self._task.uncancel()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def drop(self) -> None:
        """Write no more: the client has gone, or is to see the stream break off."""
        if not self._is_dropped and self._task is not None:
            self._is_dropped = True
            self._task.cancel()

    async def _relay(self) -> None:
        turn = self._turn
        # With the head, so that a client knows at once that its request was taken.
        body = _PING
        while not turn.is_over:
            # What has come meanwhile goes out in one piece.
            said, self._position = self._told(self._position)
            body += said
            if body:
                await self._write(body)
                body = b""
            else:
                await turn.bell.rung()
                body = _PING if self._due() <= self._loop.time() else b""
        # What it has said now is all that it will ever say; the end goes with the last of it.
        said, self._position = self._told(self._position)
        while said:
            body += said
            said, self._position = self._told(self._position)
            if said:
                await self._write(body)
                body = b""
        await self._write(body, is_last=True)

    async def _write(self, body: bytes, *, is_last: bool = False) -> None:
        """Returns when the connection takes more: a slow client slows nobody but itself."""
        self._is_writing, self._last_write = True, self._loop.time()
        await self._send({"type": "http.response.body", "body": body, "more_body": not is_last})
        self._is_writing = False

    def _due(self) -> float:
        return self._last_write + (self.patience_seconds if self._is_writing else self.ping_seconds)

    def _look_at(self, moment: float) -> None:
        # Not later than the next ping would be: a write may have begun since.
        soon = self._loop.time() + self.ping_seconds
        self._timer = self._loop.call_at(min(moment, soon), self._look)

    def _look(self) -> None:
        now = self._loop.time()
        if self._due() > now:
            self._look_at(self._due())
        elif self._is_writing:
            log.info("slow_client_dropped", turn_id=str(self._turn.turn_id))
            self.drop()
        else:
            # Whoever writes is waiting for the turn.
            self._turn.bell.ring()
            self._look_at(now + self.ping_seconds)


async def watch(receive: Receive, gone: Callable[[], None]) -> None:
    """Tell when the client goes away."""
    while (await receive())["type"] != "http.disconnect":
        pass
    gone()


async def left(receive: Receive) -> None:
    """Returns once the client has gone away."""
    await watch(receive, lambda: None)


async def cancelled(task: asyncio.Task[None]) -> None:
    """Once the task has ended."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
