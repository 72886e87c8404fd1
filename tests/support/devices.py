"""A device at chat's socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.support.sockets import as_a_page

PATIENCE_SECONDS = 10.0


class SocketDevice:
    """Says words and remembers all that it hears."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.heard: list[dict[str, Any]] = []

    async def say(self, op: str, **fields: Any) -> None:
        await self.connection.send(json.dumps({"op": op, **fields}))

    async def next(self) -> dict[str, Any]:
        """The next event, whichever it is."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            event: dict[str, Any] = json.loads(await self.connection.recv())
        self.heard.append(event)
        return event

    async def until(self, name: str, **fields: Any) -> dict[str, Any]:
        """Hear until an event of that name, with these fields."""
        wanted = {"event": name, **fields}
        while True:
            event = await self.next()
            if wanted.items() <= event.items():
                return event

    async def join(self, session_id: str, **fields: Any) -> dict[str, Any]:
        await self.say("join", session_id=session_id, **fields)
        return await self.until("joined", session_id=session_id)

    async def closed(self) -> tuple[int, str]:
        """Why it was closed, once it is."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    self.heard.append(json.loads(await self.connection.recv()))
                except ConnectionClosed as closed:
                    close = closed.rcvd
                    return (close.code, close.reason) if close else (1006, "")

    def turn(self, turn_id: str) -> list[tuple[int, str, Any]]:
        """What it heard of a turn."""
        return [
            (event["id"], event["event"], event["data"])
            for event in self.heard
            if event.get("turn_id") == turn_id and "id" in event
        ]


@asynccontextmanager
async def a_device(
    url: str,
    token: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    protocols: Sequence[str] = (),
) -> AsyncIterator[SocketDevice]:
    """Connected as a page of a browser is: the token as a subprotocol; or with headers."""
    async with as_a_page(
        url + "/chat/ws", token, headers=headers, protocols=protocols
    ) as connection:
        device = SocketDevice(connection)
        if token or headers:
            assert (await device.next())["event"] == "authenticated"
        yield device
