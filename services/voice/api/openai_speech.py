"""OpenAI's speech for its SDKs, under `/v1` and `/openai/v1`: spoken by ElevenLabs' voices."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from services.voice.actions.speak import Wish
from services.voice.api.cache_control import may_be_stored
from services.voice.api.dependencies import ServiceActions
from services.voice.api.dropin_answers import AudioBytes, DropInAnswer
from services.voice.api.dropin_door import (
    ForSdkCaller,
    SdkCaller,
    body_of,
    json_body,
    read_body,
)
from services.voice.api.openai_errors import (
    OpenAIRoute,
    error_document,
    error_response,
    openai_errors,
)
from services.voice.api.openai_speech_body import OpenAISpeech
from services.voice.domain.piece import Piece
from services.voice.domain.running_speech import RunningSpeech
from services.voice.domain.speech import Outcome
from shared.errors import ExpectedFailure
from shared.http.caller import refresh_hint
from shared.http.idempotency_key import IdempotencyKey
from shared.http.openai_limits import openai_limit_headers
from shared.lenient_json import to_json
from shared.vendors.dropins import CallNotOffered

router = APIRouter(tags=["openai"], route_class=OpenAIRoute)
strays = APIRouter(route_class=OpenAIRoute)

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_BODY = json_body(OpenAISpeech)
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Audio, as it arrives; or, with `stream_format: sse`, events that hold it.",
        "content": {
            "audio/mpeg": {"schema": {"type": "string", "format": "binary"}},
            "text/event-stream": {"schema": {"type": "string"}},
        },
    },
    **openai_errors(400, 401, 402, 403, 404, 409, 413, 429, 502),
}


@router.post("/v1/audio/speech", responses=_RESPONSES, response_class=Response, openapi_extra=_BODY)
@router.post(
    "/openai/v1/audio/speech", responses=_RESPONSES, response_class=Response, openapi_extra=_BODY
)
async def create_speech(
    request: Request,
    caller: SdkCaller,
    by: ForSdkCaller,
    actions: ServiceActions,
    key: IdempotencyKey = None,
) -> Response:
    """Say a text with one of ElevenLabs' voices, under OpenAI's names or by its own id."""
    body = read_body(OpenAISpeech, await body_of(request))
    order = body.to_order(caller.tier)
    may_be_cached = may_be_stored(request.headers.get("cache-control", ""))
    wish = Wish(order, caller.tier, by, key, may_be_cached=may_be_cached)
    speech = await actions.speak(wish)
    headers = {
        **openai_limit_headers(speech.limits, datetime.now(UTC)),
        **refresh_hint(caller, speech.hold.tier),
        "x-companion-provider": speech.hold.provider,
        **({"x-voice-cached": "true"} if speech.hold.cached else {}),
    }
    if body.stream_format == "sse":
        headers["x-accel-buffering"] = "no"
        return DropInAnswer(speech, actions.relay_speech, SpeechEvents(), error_response, headers)
    writing = AudioBytes(speech.script.format.content_type)
    return DropInAnswer(speech, actions.relay_speech, writing, error_response, headers)


@strays.api_route("/v1/audio/{_rest:path}", methods=_METHODS, include_in_schema=False)
@strays.api_route("/openai/v1/audio/{_rest:path}", methods=_METHODS, include_in_schema=False)
async def not_offered(_caller: SdkCaller) -> Response:
    """All that OpenAI offers for audio beside."""
    raise CallNotOffered("OpenAI")


class SpeechEvents:
    """Server-sent events: `speech.audio.delta` for each piece, then `speech.audio.done`."""

    media_type = "text/event-stream; charset=utf-8"

    def piece(self, piece: Piece) -> bytes:
        audio = b64encode(piece.audio).decode()
        return _event({"type": "speech.audio.delta", "audio": audio})

    def end(self, speech: RunningSpeech) -> bytes:
        used = speech.settlement(Outcome.DONE).used
        # What is charged here are characters, no tokens; clients want these numbers all the same.
        usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
        characters = 0 if used is None else used.characters
        usage["characters"] = characters
        return _event({"type": "speech.audio.done", "usage": usage})

    def failed(self, failure: ExpectedFailure) -> bytes | None:
        return b"data: %b\n\n" % to_json(error_document(failure))


def _event(document: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(document)
