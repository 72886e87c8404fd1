"""A way to a server that can fall silent, as when its host has died: no connection is closed, and
none is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class SilentWay:
    """What comes by the connections of before `fall_silent` is passed on no more; by later ones all
    is well."""

    url: str = ""
    _answering: list[bool] = field(default_factory=list)
    _passing: list[tuple[asyncio.Task[None], asyncio.StreamWriter]] = field(default_factory=list)

    @property
    def connections(self) -> int:
        """How many were made by now."""
        return len(self._answering)

    def fall_silent(self) -> None:
        self._answering[:] = [False] * len(self._answering)

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str) -> AsyncIterator[SilentWay]:
        """`url` of the way leads to the server at this one."""
        way, there = cls(), urlsplit(url)

        async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            number = len(way._answering)
            way._answering.append(True)
            answers, asks = await asyncio.open_connection(there.hostname, there.port)
            for source, sink in ((reader, asks), (answers, writer)):
                way._passing.append((asyncio.create_task(way._pass(number, source, sink)), sink))

        server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
        way.url = url.replace(f":{there.port}", f":{server.sockets[0].getsockname()[1]}")
        try:
            yield way
        finally:
            server.close()
            for task, writer in way._passing:
                task.cancel()
                writer.close()
            await asyncio.gather(*(task for task, _ in way._passing), return_exceptions=True)

    async def _pass(
        self, number: int, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        while data := await source.read(4096):
            if self._answering[number]:
                sink.write(data)
