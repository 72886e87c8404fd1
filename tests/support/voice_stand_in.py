"""A stand-in for voice's internal door, for tests of chat: it speaks by echoing."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


@dataclass
class SpokenLine:
    """One answer's line, as voice saw it."""

    headers: Mapping[str, str]
    manner: dict[str, Any] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)
    pieces: int = 0  # of audio that were sent
    ended_as: str | None = None
    connection: ServerConnection | None = None


@dataclass
class VoiceStandIn:
    """Says each sentence in one piece of audio, unless a test wants something else of it."""

    url: str = ""
    refusal: Mapping[str, Any] | None = None
    fails_after: int | None = None  # so many sentences, then the budget is full
    pieces: int = 1  # of audio, for each sentence
    piece_bytes: int = 0
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)  # else it reads no sentences
    lines: list[SpokenLine] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.goes_on.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[VoiceStandIn]:
        """Serve on a free loopback port."""
        async with serve(self._answer, "127.0.0.1", 0, compression=None, max_queue=1) as server:
            port = server.sockets[0].getsockname()[1]
            self.url = f"http://127.0.0.1:{port}"
            yield self

    async def last(self) -> SpokenLine:
        """The last line, once it has ended."""
        async with asyncio.timeout(10):
            while not self.lines or self.lines[-1].ended_as is None:
                await asyncio.sleep(0.005)
        return self.lines[-1]

    async def _answer(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        assert connection.request.path == "/internal/speech"
        line = SpokenLine(dict(connection.request.headers.raw_items()), connection=connection)
        self.lines.append(line)
        try:
            line.manner = json.loads(await connection.recv())
            if self.refusal is not None:
                line.ended_as = "refused"
                await self._tell(connection, "refused", {"problem": self.refusal})
                return
            await self._tell(connection, "ready", {})
            line.ended_as = await self._speak(connection, line)
        except ConnectionClosed:
            line.ended_as = "client_gone"

    async def _speak(self, connection: ServerConnection, line: SpokenLine) -> str:
        while True:
            await self.goes_on.wait()
            word = json.loads(await connection.recv())
            if word["op"] != "say":
                outcome = {"finish": "done", "stop": "stopped"}[word["op"]]
                await self._end(connection, line, outcome)
                return outcome
            if len(line.sentences) == self.fails_after:
                problem = {"code": "limit_reached", "status": 429, "detail": "Full."}
                await self._tell(connection, "audio_error", {"problem": problem})
                return "limit_reached"
            line.sentences.append(word["text"])
            for _ in range(self.pieces):
                await self._say(connection, line)

    async def _say(self, connection: ServerConnection, line: SpokenLine) -> None:
        text = line.sentences[-1]
        audio = b"\0" * self.piece_bytes or text.encode()
        said = {
            "seq": len(line.sentences),
            "audio_base64": b64encode(audio).decode(),
            "format": "mp3_44100_64",
            "sentence": len(line.sentences),
            "characters": len(text),
        }
        await self._tell(connection, "audio", said)
        line.pieces += 1

    async def _end(self, connection: ServerConnection, line: SpokenLine, outcome: str) -> None:
        characters = sum(map(len, line.sentences))
        said = {"speech_id": "a-speech", "characters": characters, "outcome": outcome}
        await self._tell(connection, "audio_end", said)

    async def _tell(
        self, connection: ServerConnection, event: str, data: Mapping[str, Any]
    ) -> None:
        await connection.send(f"{event} {json.dumps(data)}")
