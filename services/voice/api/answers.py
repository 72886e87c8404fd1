"""A speech as an answer: audio as it comes, lines of JSON as they come, or all of it in JSON.

Plain ASGI. Per piece of audio there is one read and one write: no model, no log line, no thread.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.voice.actions.relay_speech import RelaySpeech
from services.voice.api.json_audio import ROOM, JsonAudio, Room
from services.voice.domain.piece import Alignment, Piece
from services.voice.domain.running_speech import RunningSpeech, WritePiece
from services.voice.domain.speech import Outcome
from shared.http.errors import respond
from shared.http.ratelimit import rate_limit_headers


class SpokenUsage(BaseModel):
    """What the speech is charged. `characters` are credits, as the vendor counts: its quick models
    (flash, turbo) take half a credit for a character. `source` tells who counted: the vendor, or
    we."""

    characters: int
    source: str


class AlignmentBody(BaseModel):
    """When each character is spoken, in seconds from the beginning of the speech. Characters that
    the vendor gives no times for, such as those between two parts of a long text, are left out."""

    characters: list[str]
    start_seconds: list[float]
    end_seconds: list[float]


class FormatFallbackBody(BaseModel):
    """The account's plan at the vendor does not make what was wished for."""

    wished: str
    given: str


class SpokenBody(BaseModel):
    """A speech in JSON."""

    speech_id: str
    audio_base64: str
    format: str
    content_type: str
    character_count: int
    voice_id: str
    model: str
    provider: str
    cached: bool = Field(description="You had it said before, so it costs nothing.")
    usage: SpokenUsage
    format_fallback: FormatFallbackBody | None = None
    alignment: AlignmentBody | None = Field(None, description="With `with_timestamps`.")


class SpokenLine(BaseModel):
    """A line of a speech in `application/x-ndjson`: audio and the times of its characters, or, in
    the last line, what a speech in JSON says beside them. Without that line audio is missing."""

    audio_base64: str | None = None
    alignment: AlignmentBody | None = None
    is_final: bool = False
    speech_id: str | None = None
    format: str | None = None
    content_type: str | None = None
    character_count: int | None = None
    voice_id: str | None = None
    model: str | None = None
    provider: str | None = None
    cached: bool | None = None
    usage: SpokenUsage | None = None
    format_fallback: FormatFallbackBody | None = None


class _SpeechAnswer(Response):
    """Relays a speech while watching whether its hearer is still there."""

    def __init__(
        self, speech: RunningSpeech, relay: RelaySpeech, headers: Mapping[str, str]
    ) -> None:
        # Not Response.__init__: it would give an empty body its length.
        self.status_code = 200
        self.background = None
        self.init_headers(
            {
                "cache-control": "no-store",
                "x-speech-id": str(speech.hold.id),
                "x-character-count": str(speech.hold.characters),
                "x-voice-provider": speech.hold.provider,
                **({"x-voice-cached": "true"} if speech.hold.cached else {}),
                **({"idempotency-replayed": "true"} if speech.is_replayed else {}),
                **_fallback_header(speech),
                **rate_limit_headers(speech.limits, datetime.now(UTC)),
                **headers,
            }
        )
        self._speech = speech
        self._relay = relay

    async def _relayed(self, receive: Receive, write: WritePiece) -> Outcome:
        watch = asyncio.create_task(_end_when_gone(self._speech, receive))
        try:
            return await self._relay.in_pieces(self._speech, write)
        finally:
            watch.cancel()

    def _head(self, length: int | None = None) -> dict[str, Any]:
        if length is not None:
            self.headers["content-length"] = str(length)
        return {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }


class _StreamedAnswer(_SpeechAnswer):
    """One message a piece."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def write(piece: Piece) -> None:
            nonlocal started
            body = self._body(piece)
            if not started:
                started = True
                await send(self._head())
            await send({"type": "http.response.body", "body": body, "more_body": True})

        outcome = await self._relayed(receive, write)
        if outcome is Outcome.DONE:
            await send({"type": "http.response.body", "body": self._end(), "more_body": False})
        elif not started:
            await respond(self._speech.failure(outcome))(scope, receive, send)
        # Else the answer stays without its end, and the server breaks the connection: that is how
        # the hearer can tell a cut from the end.

    def _body(self, piece: Piece) -> bytes:
        return piece.audio

    def _end(self) -> bytes:
        return b""


class AudioAnswer(_StreamedAnswer):
    """The audio itself, as it comes."""

    def __init__(self, speech: RunningSpeech, relay: RelaySpeech) -> None:
        content_type = speech.script.format.content_type
        super().__init__(speech, relay, {"content-type": content_type})


class LinesAnswer(_StreamedAnswer):
    """The audio as it comes, base64 in a line of JSON, with the times of its characters."""

    def __init__(self, speech: RunningSpeech, relay: RelaySpeech) -> None:
        super().__init__(speech, relay, {"content-type": "application/x-ndjson"})

    def _body(self, piece: Piece) -> bytes:
        line = {
            "audio_base64": b64encode(piece.audio).decode(),
            "alignment": _alignment_body([piece.alignment] if piece.alignment else []),
        }
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)

    def _end(self) -> bytes:
        about = {"is_final": True, **_about(self._speech)}
        return orjson.dumps(about, option=orjson.OPT_APPEND_NEWLINE)


class SpokenAnswer(_SpeechAnswer):
    """All of the audio, base64 in one JSON document."""

    def __init__(self, speech: RunningSpeech, relay: RelaySpeech, room: Room = ROOM) -> None:
        super().__init__(speech, relay, {"content-type": "application/json"})
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        document, times = JsonAudio(send, self._head, self._room), list[Alignment]()

        async def write(piece: Piece) -> None:
            if piece.alignment is not None:
                times.append(piece.alignment)
            await document.add(piece.audio)

        try:
            outcome = await self._relayed(receive, write)
            if outcome is Outcome.DONE:
                alignment = _alignment_body(times)
                await document.end({**_about(self._speech), "alignment": alignment})
            elif not document.is_begun:
                await respond(self._speech.failure(outcome))(scope, receive, send)
            # Else the document stays without its end.
        finally:
            document.drop()


async def _end_when_gone(speech: RunningSpeech, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    speech.left()


def _about(speech: RunningSpeech) -> dict[str, Any]:
    used = speech.settlement(Outcome.DONE).used
    assert used is not None
    format_, wished = speech.script.format, speech.wished_format
    return {
        "speech_id": str(speech.hold.id),
        "format": format_.name,
        "content_type": format_.content_type,
        "character_count": speech.hold.characters,
        "voice_id": speech.hold.voice_id,
        "model": speech.hold.model,
        "provider": speech.hold.provider,
        "cached": speech.hold.cached,
        "usage": {"characters": used.characters, "source": used.source},
        "format_fallback": wished and {"wished": wished.name, "given": format_.name},
    }


def _alignment_body(times: Sequence[Alignment]) -> dict[str, Any] | None:
    if not times:
        return None
    return {
        "characters": [each for some in times for each in some.characters],
        "start_seconds": [each for some in times for each in some.starts],
        "end_seconds": [each for some in times for each in some.ends],
    }


def _fallback_header(speech: RunningSpeech) -> dict[str, str]:
    if speech.wished_format is None:
        return {}
    fallback = f"{speech.wished_format.name} -> {speech.script.format.name}"
    return {"x-voice-format-fallback": fallback}
