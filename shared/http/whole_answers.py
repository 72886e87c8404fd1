"""An answer's head and the first of its body in one write, where both are there.

uvicorn writes them one by one, and its event loop sends each at once: a system call and a segment
more for us, and a read more for whoever asked, with every answer. So a head is held until something
follows it, for one turn of the loop at most.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# No other bytes begin so but those of a body by chance, and these may wait as well.
_HEAD = b"HTTP/1.1 "


class HeadsWithBodies:
    """A transport as uvicorn uses one."""

    __slots__ = ("_head", "_loop", "bare")

    def __init__(self, bare: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.bare = bare
        self._loop = loop
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bare, name)

    def write(self, data: bytes) -> None:
        """Write, now or with what comes next."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_HEAD):
            self._head = data
            self._loop.call_soon(self.flush)
            return
        self.bare.write(data)

    def flush(self) -> None:
        """Nothing waits any more."""
        if self._head:
            head, self._head = self._head, b""
            if not self.bare.is_closing():
                self.bare.write(head)

    def is_closing(self) -> bool:
        return self.bare.is_closing()

    def close(self) -> None:
        """Whatever was written is sent before."""
        self.flush()
        self.bare.close()

    def abort(self) -> None:
        self._head = b""
        self.bare.abort()


class WholeAnswers(HttpToolsProtocol):
    """uvicorn's protocol on such a transport."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        held = HeadsWithBodies(cast("asyncio.Transport", transport), self.loop)
        super().connection_made(cast("asyncio.Transport", held))

    def handle_websocket_upgrade(self) -> None:
        held = cast("HeadsWithBodies", self.transport)
        held.flush()
        # From here on it is another protocol's.
        self.transport = held.bare
        super().handle_websocket_upgrade()
