"""A speech as an answer in a vendor's wire: as it comes, or as one document.

Plain ASGI, as `answers.py`. How a wire tells a piece, an end and a failure is its `Writing`.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol, TypeAlias

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.voice.actions.relay_speech import RelaySpeech
from services.voice.api.json_audio import JsonAudio
from services.voice.domain.piece import Alignment, Piece
from services.voice.domain.running_speech import RunningSpeech
from services.voice.domain.speech import Outcome
from shared.errors import ExpectedFailure
from shared.http.ratelimit import rate_limit_headers

_Times: TypeAlias = "Alignment | None"


class Tell(Protocol):
    """A failure as an answer in a vendor's form."""

    def __call__(self, failure: ExpectedFailure, *, charged: bool = False) -> Response: ...


class Writing(Protocol):
    """How a wire tells a speech that comes piece by piece."""

    @property
    def media_type(self) -> str: ...

    def piece(self, piece: Piece) -> bytes: ...

    def end(self, speech: RunningSpeech) -> bytes: ...

    def failed(self, failure: ExpectedFailure) -> bytes | None:
        """None when the wire has no word for it: then the connection breaks."""
        ...


class DropInAnswer(Response):
    """Relays a speech while watching whether its hearer is still there."""

    def __init__(
        self,
        speech: RunningSpeech,
        relay: RelaySpeech,
        writing: Writing,
        tell: Tell,
        headers: Mapping[str, str],
    ) -> None:
        # Not Response.__init__: it would give an empty body its length.
        self.status_code = 200
        self.background = None
        self.init_headers(
            {
                "content-type": writing.media_type,
                "cache-control": "no-store",
                "x-speech-id": str(speech.hold.id),
                "x-character-count": str(speech.hold.characters),
                **({"idempotency-replayed": "true"} if speech.is_replayed else {}),
                **rate_limit_headers(speech.limits, datetime.now(UTC)),
                **headers,
            }
        )
        self._speech = speech
        self._relay = relay
        self._writing = writing
        self._tell = tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        writing, started = self._writing, False

        async def write(piece: Piece) -> None:
            nonlocal started
            if not started:
                started = True
                await send(self._head())
            body = writing.piece(piece)
            await send({"type": "http.response.body", "body": body, "more_body": True})

        outcome = await self._relayed(receive, write)
        if outcome is Outcome.DONE:
            last = writing.end(self._speech)
            await send({"type": "http.response.body", "body": last, "more_body": False})
        elif not started:
            await self._tell_failure(outcome)(scope, receive, send)
        elif (told := writing.failed(self._speech.failure(outcome))) is not None:
            await send({"type": "http.response.body", "body": told, "more_body": False})
        # Else the answer stays without its end, and the server breaks the connection: that is how
        # the hearer can tell a cut from the end.

    def _tell_failure(self, outcome: Outcome) -> Response:
        return self._tell(self._speech.failure(outcome), charged=True)

    def _head(self, length: int | None = None) -> dict[str, Any]:
        if length is not None:
            self.headers["content-length"] = str(length)
        return {"type": "http.response.start", "status": 200, "headers": self.raw_headers}

    async def _relayed(self, receive: Receive, write: Any) -> Outcome:
        watch = asyncio.create_task(_end_when_gone(self._speech, receive))
        try:
            return await self._relay.in_pieces(self._speech, write)
        finally:
            watch.cancel()


class TimedDocument(DropInAnswer):
    """All of the audio and its times in one document."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        document, times = JsonAudio(send, self._head), list[tuple[_Times, _Times]]()

        async def write(piece: Piece) -> None:
            times.append((piece.alignment, piece.normalized))
            await document.add(piece.audio)

        try:
            outcome = await self._relayed(receive, write)
            if outcome is Outcome.DONE:
                await document.end(_all_times(times))
            elif not document.is_begun:
                await self._tell_failure(outcome)(scope, receive, send)
            # Else the document stays without its end.
        finally:
            document.drop()


class AudioBytes:
    """Nothing but the audio."""

    def __init__(self, media_type: str) -> None:
        self.media_type = media_type

    def piece(self, piece: Piece) -> bytes:
        return piece.audio

    def end(self, _speech: RunningSpeech) -> bytes:
        return b""

    def failed(self, _failure: ExpectedFailure) -> bytes | None:
        return None


class TimedLines:
    """ElevenLabs' audio with its times: one JSON object a line."""

    media_type = "application/json"

    def piece(self, piece: Piece) -> bytes:
        audio, normalized = piece.audio, piece.normalized
        return orjson.dumps(_timed(audio, piece.alignment, normalized)) + b"\n"

    def end(self, _speech: RunningSpeech) -> bytes:
        return b""

    def failed(self, _failure: ExpectedFailure) -> bytes | None:
        return None


async def _end_when_gone(speech: RunningSpeech, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    speech.left()


def _all_times(times: Sequence[tuple[_Times, _Times]]) -> dict[str, Any]:
    return {
        "alignment": _times(_joined([alignment for alignment, _ in times])),
        "normalized_alignment": _times(_joined([normalized for _, normalized in times])),
    }


def _joined(alignments: Sequence[_Times]) -> Alignment | None:
    found = [alignment for alignment in alignments if alignment is not None]
    if not found:
        return None
    return Alignment(
        [each for alignment in found for each in alignment.characters],
        [each for alignment in found for each in alignment.starts],
        [each for alignment in found for each in alignment.ends],
    )


def _timed(
    audio: bytes, alignment: Alignment | None, normalized: Alignment | None
) -> dict[str, Any]:
    return {
        "audio_base64": b64encode(audio).decode(),
        "alignment": _times(alignment),
        "normalized_alignment": _times(normalized),
    }


def _times(alignment: Alignment | None) -> dict[str, Any] | None:
    if alignment is None:
        return None
    return {
        "characters": alignment.characters,
        "character_start_times_seconds": alignment.starts,
        "character_end_times_seconds": alignment.ends,
    }
