"""ElevenLabs' sockets, which take text while they speak.

`stream-input` (https://elevenlabs.io/docs/api-reference/text-to-speech/v-1-text-to-speech-voice-id-stream-input)
for all models but the third generation and later, which have `text-to-dialogue/stream-input`. The
one speaks camelCase, the other snake_case.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64decode
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, Protocol
from urllib.parse import urlencode

import orjson
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK

from services.voice.domain.piece import Alignment, Piece
from services.voice.domain.ports import LiveVoice
from services.voice.domain.script import VENDOR, Manner
from services.voice.domain.voice import FASTEST, SLOWEST
from services.voice.providers.elevenlabs import request_id_in, settings_body
from services.voice.providers.elevenlabs_errors import failure_of, failure_of_word
from shared.background import running_beside
from shared.clients.egress import (
    Egress,
    VendorConnectionLost,
    VendorSocketRefused,
    headers_of,
)
from shared.identity import OnBehalfOf
from shared.vendors.failures import VendorFailed

# The vendor closes a line on which nothing is said for so long; its own most.
_INACTIVITY_SECONDS = 180
# That of the newer models it closes after 20 s, unless it is told to wait on; so it is for as long.
_KEEP_ALIVE_SECONDS = 10.0
_DIALOGUE_MODEL = re.compile(r"eleven_v[3-9]")
_END = Piece(b"")


class ElevenLabsLive:
    """Lines to the vendor, with the user's key added on the way by the egress."""

    def __init__(self, egress: Egress, silence: timedelta = timedelta(seconds=30)) -> None:
        self._egress = egress
        self._silence = silence

    @asynccontextmanager
    async def live(self, manner: Manner, *, by: OnBehalfOf) -> AsyncIterator[LiveVoice]:
        wire: _Wire = _Dialogue(manner) if speaks_dialogue(manner.model) else _StreamInput(manner)
        path = wire.path()
        try:
            async with self._egress.socket(VENDOR, path, by=by) as connection:
                line = _Line(connection, wire, self._silence.total_seconds())
                await line.open()
                async with running_beside(*line.upkeep()):
                    yield line
        except VendorSocketRefused as refused:
            raise failure_of(
                refused.status, _json(refused.body), refused.headers, path
            ) from refused
        except VendorConnectionLost as lost:
            raise VendorFailed(VENDOR, billed=lost.sent) from lost


def speaks_dialogue(model: str) -> bool:
    """Whether a model is reached by the dialogue socket."""
    return _DIALOGUE_MODEL.match(model) is not None


class _Wire(Protocol):
    """What one kind of socket is told, and how its messages are read."""

    def path(self) -> str: ...
    def first(self) -> dict[str, Any]: ...
    def words(self, text: str) -> tuple[dict[str, Any], ...]: ...
    def last(self) -> tuple[dict[str, Any], ...]: ...
    def waiting(self) -> dict[str, Any] | None:
        """What has to be said while there is nothing to say; None for nothing."""
        ...

    def is_final(self, message: Mapping[str, Any]) -> bool: ...
    def alignment(self, message: Mapping[str, Any]) -> Alignment | None: ...


class _Line:
    """One open socket."""

    def __init__(self, connection: ClientConnection, wire: _Wire, silence: float) -> None:
        self._connection = connection
        self._wire = wire
        self._silence = silence
        # Silence is a failure only while the vendor owes us audio: whoever writes the text may
        # think for as long as they like.
        self._owes = False
        self._is_finished = False
        self._is_over = False
        self._last_said = asyncio.get_running_loop().time()
        self._patience: asyncio.Timeout | None = None
        response = connection.response
        self.request_id = None if response is None else request_id_in(headers_of(response))

    async def open(self) -> None:
        await self._send(self._wire.first())

    def upkeep(self) -> Sequence[Coroutine[Any, Any, None]]:
        """What goes on while the line is open."""
        waiting = self._wire.waiting()
        return [] if waiting is None else [self._keep_open(waiting)]

    async def say(self, text: str) -> None:
        self._last_said = asyncio.get_running_loop().time()
        self._await_audio()
        await self._send(*self._wire.words(text))

    async def finish(self) -> None:
        self._await_audio()
        self._is_finished = True
        await self._send(*self._wire.last())

    async def read(self) -> Piece:
        while not self._is_over:
            message = await self._hear()
            if (word := message.get("error")) is not None:
                raise failure_of_word(str(word))
            self._is_over = self._wire.is_final(message)
            audio = message.get("audio")
            if isinstance(audio, str) and audio:
                self._owes = self._is_finished
                return Piece(_decoded(audio), self._wire.alignment(message))
        return _END

    async def _keep_open(self, waiting: Mapping[str, Any]) -> None:
        with suppress(VendorFailed):  # who reads will hear of it
            while True:
                await asyncio.sleep(_KEEP_ALIVE_SECONDS)
                silent = asyncio.get_running_loop().time() - self._last_said
                if self._is_finished or silent >= _INACTIVITY_SECONDS:
                    return
                await self._send(waiting)

    def _await_audio(self) -> None:
        self._owes = True
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(asyncio.get_running_loop().time() + self._silence)

    async def _send(self, *messages: Mapping[str, Any]) -> None:
        try:
            async with asyncio.timeout(self._silence):
                for message in messages:
                    await self._connection.send(orjson.dumps(message).decode())
        except (ConnectionClosed, TimeoutError) as error:
            raise VendorFailed(VENDOR) from error

    async def _hear(self) -> Mapping[str, Any]:
        try:
            async with asyncio.timeout(self._silence if self._owes else None) as self._patience:
                received = await self._connection.recv()
        except ConnectionClosedOK as closed:
            # Without its last message, audio may be missing.
            raise VendorFailed(VENDOR) from closed
        except (ConnectionClosed, TimeoutError) as error:
            raise VendorFailed(VENDOR) from error
        finally:
            self._patience = None
        message = _json(received)
        if not isinstance(message, dict):
            raise VendorFailed(VENDOR)
        return message


class _StreamInput:
    """One voice, one text."""

    def __init__(self, manner: Manner) -> None:
        self._manner = manner

    def path(self) -> str:
        query = _query(self._manner, inactivity_timeout=_INACTIVITY_SECONDS)
        return f"/v1/text-to-speech/{self._manner.voice_id}/stream-input?{query}"

    def first(self) -> dict[str, Any]:
        settings = self._manner.settings
        if settings.speed is not None:
            # Beyond these the socket closes, though other ways to the vendor take more.
            settings = replace(settings, speed=min(max(settings.speed, SLOWEST), FASTEST))
        return {"text": " ", "voice_settings": settings_body(settings)}

    def words(self, text: str) -> tuple[dict[str, Any], ...]:
        return ({"text": text, "flush": True},)

    def last(self) -> tuple[dict[str, Any], ...]:
        return ({"text": ""},)

    def waiting(self) -> dict[str, Any] | None:
        return None  # its patience is asked for in the address

    def is_final(self, message: Mapping[str, Any]) -> bool:
        return message.get("isFinal") is True

    def alignment(self, message: Mapping[str, Any]) -> Alignment | None:
        wire = message.get("alignment")
        if not isinstance(wire, dict):
            return None
        starts = _numbers(wire.get("charStartTimesMs"))
        # Older documents spell it with one more s.
        durations = _numbers(wire.get("charDurationsMs", wire.get("charsDurationsMs")))
        if starts is None or durations is None:
            return None
        return Alignment(
            _texts(wire.get("chars")),
            [start / 1000 for start in starts],
            [(start + lasts) / 1000 for start, lasts in zip(starts, durations, strict=False)],
        )


class _Dialogue:
    """The socket of the newer models, for one voice."""

    def __init__(self, manner: Manner) -> None:
        self._manner = manner

    def path(self) -> str:
        return f"/v1/text-to-dialogue/stream-input?{_query(self._manner)}"

    def first(self) -> dict[str, Any]:
        return {
            "voices": [self._manner.voice_id],
            # The one setting that these models take here.
            "voice_settings": {"stability": self._manner.settings.stability},
        }

    def words(self, text: str) -> tuple[dict[str, Any], ...]:
        said = {"text": text, "voice_id": self._manner.voice_id, "new_turn": False}
        return {"inputs": [said]}, {"flush": True}

    def last(self) -> tuple[dict[str, Any], ...]:
        return ({"close_socket": True},)

    def waiting(self) -> dict[str, Any] | None:
        return {"keep_alive": True}

    def is_final(self, message: Mapping[str, Any]) -> bool:
        return message.get("is_final") is True

    def alignment(self, message: Mapping[str, Any]) -> Alignment | None:
        return alignment_in_seconds(message.get("alignment"))


def _query(manner: Manner, **more: Any) -> str:
    asked = {
        "model_id": manner.model,
        "output_format": manner.format.name,
        "sync_alignment": "true",
        "language_code": manner.language_code,
        "seed": manner.seed,
        **more,
    }
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    extras = manner.extras.query if manner.extras is not None else ""
    return f"{query}&{extras}" if extras else query


def alignment_in_seconds(wire: Any) -> Alignment | None:
    """As the newer socket and the calls with timestamps tell it; None for anything else."""
    if not isinstance(wire, dict):
        return None
    starts = _numbers(wire.get("character_start_times_seconds"))
    ends = _numbers(wire.get("character_end_times_seconds"))
    if starts is None or ends is None:
        return None
    return Alignment(_texts(wire.get("characters")), starts, ends)


def _texts(wire: Any) -> list[str]:
    return [str(one) for one in wire] if isinstance(wire, list) else []


def _numbers(wire: Any) -> list[float] | None:
    if not isinstance(wire, list) or not all(isinstance(one, int | float) for one in wire):
        return None
    return [float(one) for one in wire]


def _decoded(audio: str) -> bytes:
    try:
        return b64decode(audio, validate=True)
    except ValueError as error:
        raise VendorFailed(VENDOR) from error


def _json(text: str | bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
