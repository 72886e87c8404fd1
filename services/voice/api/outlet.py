"""What is written to a socket, in its order: words never wait to be taken, audio does, so that no
more is read from a vendor than its hearer takes."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TypeAlias

import structlog
from starlette.websockets import WebSocket

log = structlog.get_logger(__name__)

Frame: TypeAlias = str | bytes

_PATIENCE_SECONDS = 30.0
_GOODBYE_SECONDS = 1.0
# Beside the audio; a device that lets so many words lie does not read.
_MOST_WAITING = 256


class Outlet:
    """One socket's way out. `write` is run as a task, and ends when the socket is closed."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._waiting: deque[tuple[Frame, asyncio.Future[None] | None]] = deque()
        self._wake = asyncio.Event()
        self._closing: tuple[int, str] | None = None
        self._is_over = False
        self._writing_since: float | None = None

    def tell(self, frame: Frame) -> None:
        """Words."""
        if not self._is_over:
            self._waiting.append((frame, None))
            self._wake.set()

    async def hand(self, frame: Frame) -> None:
        """Audio: returns once it is written. Raises ConnectionResetError when it never will be."""
        if self._is_over or self._closing is not None:
            raise ConnectionResetError("the socket is closed")
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((frame, written))
        self._wake.set()
        await written

    def close(self, code: int, reason: str) -> None:
        """After what waits has been written. The first reason counts."""
        if self._closing is None:
            self._closing = (code, reason)
            self._wake.set()

    def is_stuck(self) -> bool:
        """Whether the device does not read."""
        since = self._writing_since
        too_long = since is not None and time.monotonic() - since > _PATIENCE_SECONDS
        return too_long or len(self._waiting) > _MOST_WAITING

    async def write(self) -> None:
        """Until the socket is closed. Raises OSError and its like when the device is gone."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._write_waiting()
                if self._closing is not None:
                    code, reason = self._closing
                    await self._socket.close(code, reason)
                    return
        finally:
            self._give_up()

    async def say_goodbye(self, code: int, reason: str) -> None:
        """Close it after `write` has ended, if it can be done at once."""
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await self._socket.close(code, reason)
        except (TimeoutError, RuntimeError, OSError):
            log.debug("socket_gone_already")

    async def _write_waiting(self) -> None:
        while self._waiting:
            frame, written = self._waiting[0]
            kind = "text" if isinstance(frame, str) else "bytes"
            self._writing_since = time.monotonic()
            await self._socket.send({"type": "websocket.send", kind: frame})
            self._writing_since = None
            self._waiting.popleft()
            if written is not None and not written.done():
                written.set_result(None)

    def _give_up(self) -> None:
        self._is_over = True
        for _, written in self._waiting:
            if written is not None and not written.done():
                written.set_exception(ConnectionResetError("the socket is closed"))
        self._waiting.clear()
