"""A speech as an answer: audio as it comes, or all of it in JSON.

Plain ASGI. Per piece of audio there is one read and one write: no model, no log line, no thread.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.voice.actions.relay_speech import RelaySpeech
from services.voice.actions.running_speech import RunningSpeech, Write
from services.voice.domain.errors import SpeechStopped
from services.voice.domain.speech import Outcome
from shared.errors import ExpectedFailure
from shared.http.errors import respond
from shared.http.ratelimit import rate_limit_headers
from shared.vendors.failures import VendorFailed


class SpokenUsage(BaseModel):
    """What the speech is charged; `source` tells who counted: the vendor, or we."""

    characters: int
    source: str


class SpokenBody(BaseModel):
    """A speech in JSON."""

    speech_id: str
    audio_base64: str
    format: str
    content_type: str
    character_count: int
    voice_id: str
    model: str
    usage: SpokenUsage


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
                **rate_limit_headers(speech.limits, datetime.now(UTC)),
                **headers,
            }
        )
        self._speech = speech
        self._relay = relay

    async def _relayed(self, receive: Receive, write: Write) -> Outcome:
        watch = asyncio.create_task(_end_when_gone(self._speech, receive))
        try:
            return await self._relay(self._speech, write)
        finally:
            watch.cancel()


class AudioAnswer(_SpeechAnswer):
    """The audio itself, as it comes."""

    def __init__(self, speech: RunningSpeech, relay: RelaySpeech) -> None:
        content_type = speech.script.format.content_type
        super().__init__(speech, relay, {"content-type": content_type})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def write(piece: bytes) -> None:
            nonlocal started
            if not started:
                started = True
                await send(self._head())
            await send({"type": "http.response.body", "body": piece, "more_body": True})

        outcome = await self._relayed(receive, write)
        if outcome is Outcome.DONE:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        elif not started:
            await _failure_of(outcome, self._speech)(scope, receive, send)
        # Else the answer stays without its end, and the server breaks the connection: that is how
        # the hearer can tell a cut from the end.

    def _head(self) -> dict[str, Any]:
        return {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }


class SpokenAnswer(_SpeechAnswer):
    """All of the audio, base64 in JSON."""

    def __init__(self, speech: RunningSpeech, relay: RelaySpeech) -> None:
        super().__init__(speech, relay, {"content-type": "application/json"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        audio = bytearray()

        async def write(piece: bytes) -> None:
            audio.extend(piece)

        outcome = await self._relayed(receive, write)
        if outcome is not Outcome.DONE:
            await _failure_of(outcome, self._speech)(scope, receive, send)
            return
        body = await asyncio.to_thread(_to_json, self._speech, audio)
        self.headers["content-length"] = str(len(body))
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


async def _end_when_gone(speech: RunningSpeech, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    speech.end(Outcome.CLIENT_GONE)


def _failure_of(outcome: Outcome, speech: RunningSpeech) -> Response:
    failure: ExpectedFailure = (
        VendorFailed(speech.hold.provider)
        if outcome is Outcome.PROVIDER_FAILED
        else SpeechStopped(speech.hold.id)
    )
    return respond(failure)


def _to_json(speech: RunningSpeech, audio: bytearray) -> bytes:
    used = speech.settlement(Outcome.DONE).used
    assert used is not None
    return orjson.dumps(
        {
            "speech_id": str(speech.hold.id),
            "audio_base64": b64encode(audio).decode(),
            "format": speech.script.format.name,
            "content_type": speech.script.format.content_type,
            "character_count": speech.hold.characters,
            "voice_id": speech.hold.voice_id,
            "model": speech.hold.model,
            "usage": {"characters": used.characters, "source": used.source},
        }
    )
