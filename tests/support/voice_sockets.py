"""A device at voice's socket, and a client of the vendor's."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.sockets import as_a_page

PATIENCE_SECONDS = 10.0
RACHEL = "21m00Tcm4TlvDq8ikWAM"


class VoiceSocket:
    """Says words and remembers all that it hears; binary frames as `(number, audio)`."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.heard: list[Any] = []

    async def say(self, op: str, **fields: Any) -> None:
        await self.connection.send(json.dumps({"op": op, **fields}))

    async def utter(self, *texts: str, **wishes: Any) -> None:
        """A whole utterance."""
        await self.say("start", **{"voice_id": RACHEL, **wishes})
        for text in texts:
            await self.say("say", text=text)
        await self.say("end")

    async def next(self) -> Any:
        """The next event, whichever it is."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            received = await self.connection.recv()
        event: Any
        if isinstance(received, bytes):
            event = (int.from_bytes(received[:4], "big"), received[4:])
        else:
            event = json.loads(received)
        self.heard.append(event)
        return event

    async def until(self, name: str, **fields: Any) -> dict[str, Any]:
        """Hear until an event of that name, with these fields."""
        wanted = {"event": name, **fields}
        while True:
            event = await self.next()
            if isinstance(event, dict) and wanted.items() <= event.items():
                return event

    async def closed(self) -> tuple[int, str]:
        """Why it was closed, once it is."""
        while True:
            try:
                await self.next()
            except ConnectionClosed as closed:
                close = closed.rcvd
                return (close.code, close.reason) if close else (1006, "")

    def names(self) -> list[str]:
        """The names of all events, audio among them once for all that follows on another."""
        names: list[str] = []
        for event in self.heard:
            name = event["event"] if isinstance(event, dict) else "audio"
            if name != "audio" or names[-1:] != ["audio"]:
                names.append(name)
        return names

    def audio(self) -> bytes:
        """All that was heard."""
        return b"".join(
            event[1] if isinstance(event, tuple) else b64decode(event["data"]["audio"])
            for event in self.heard
            if isinstance(event, tuple) or event["event"] == "audio"
        )


@asynccontextmanager
async def at_realtime(
    url: str, token: str | None = None, *, headers: Mapping[str, str] | None = None
) -> AsyncIterator[VoiceSocket]:
    """Connected as a page of a browser is: the token as a subprotocol; or with headers."""
    async with as_a_page(url + "/voice/realtime", token, headers=headers) as connection:
        device = VoiceSocket(connection)
        if token or headers:
            assert (await device.next())["event"] == "authenticated"
        yield device


class StreamInput:
    """A client of ElevenLabs' own socket."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def say(self, text: str, **fields: Any) -> None:
        await self.connection.send(json.dumps({"text": text, **fields}))

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            message: dict[str, Any] = json.loads(await self.connection.recv())
        return message

    async def rest(self) -> tuple[list[dict[str, Any]], int]:
        """All that is heard until it is closed, and the code."""
        messages: list[dict[str, Any]] = []
        while True:
            try:
                messages.append(await self.next())
            except ConnectionClosed as closed:
                return messages, closed.rcvd.code if closed.rcvd else 1006


@asynccontextmanager
async def at_stream_input(
    url: str,
    token: str | None = None,
    *,
    voice_id: str = RACHEL,
    query: str = "",
    further: Mapping[str, str] | None = None,
) -> AsyncIterator[StreamInput]:
    """Connected as the vendor's SDK is, with `further` headers."""
    address = f"{url.replace('http', 'ws', 1)}/elevenlabs/v1/text-to-speech/{voice_id}/stream-input"
    async with connect(
        f"{address}?{query}",
        additional_headers=({"xi-api-key": token} if token else {}) | dict(further or {}),
        proxy=None,
    ) as connection:
        yield StreamInput(connection)
