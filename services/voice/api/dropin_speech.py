"""ElevenLabs' text to speech for its SDKs, under `/elevenlabs`: governed and metered as ours."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response

from services.voice.actions import Actions
from services.voice.actions.speak import Wish
from services.voice.api.cache_control import may_be_stored
from services.voice.api.dependencies import ServiceActions
from services.voice.api.dropin_answers import (
    AudioBytes,
    DropInAnswer,
    TimedDocument,
    TimedLines,
    Writing,
)
from services.voice.api.dropin_door import (
    ForSdkCaller,
    SdkCaller,
    body_of,
    json_body,
    read_body,
)
from services.voice.api.dropin_errors import ElevenLabsRoute, elevenlabs_errors, error_response
from services.voice.api.dropin_speech_body import DropInQuery, DropInSpeech, InQuery
from services.voice.domain.running_speech import RunningSpeech
from services.voice.domain.speech import Outcome
from shared.http.caller import Caller, refresh_hint
from shared.http.idempotency_key import IdempotencyKey
from shared.identity import OnBehalfOf
from shared.values import dataclass

router = APIRouter(
    prefix="/elevenlabs/v1/text-to-speech/{voice_id}",
    tags=["elevenlabs"],
    route_class=ElevenLabsRoute,
)

_BODY = json_body(DropInSpeech)
_ERRORS = elevenlabs_errors(402, 404, 409, 413, 424, 429, 502)
_AUDIO: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Audio, as it arrives.",
        "content": {"audio/mpeg": {"schema": {"type": "string", "format": "binary"}}},
    },
    **_ERRORS,
}
_TIMED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Audio in base64, and when each character is spoken.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    },
    **_ERRORS,
}


@dataclass(frozen=True, slots=True)
class Asking:
    """One request for speech: who asks, what, and the way back."""

    voice_id: str
    request: Request
    caller: Caller
    by: OnBehalfOf
    actions: Actions
    query: DropInQuery
    key: str | None

    async def speech(
        self, *, with_timestamps: bool = False, at_once: bool = False
    ) -> RunningSpeech:
        """The speech with its audio begun."""
        body = read_body(DropInSpeech, await body_of(self.request))
        order = body.to_order(
            self.voice_id, self.query, with_timestamps=with_timestamps, at_once=at_once
        )
        wish = Wish(
            order,
            self.caller.tier,
            self.by,
            self.key,
            # Who wants nothing kept at the vendor wants nothing kept here.
            may_be_cached=self.query.enable_logging is not False
            and may_be_stored(self.request.headers.get("cache-control", "")),
        )
        return await self.actions.speak(wish)

    def answer(
        self, speech: RunningSpeech, writing: Writing, kind: type[DropInAnswer] = DropInAnswer
    ) -> DropInAnswer:
        """The way back."""
        headers = _headers(speech) | refresh_hint(self.caller, speech.hold.tier)
        return kind(speech, self.actions.relay_speech, writing, error_response, headers)


async def _asking(
    voice_id: Annotated[str, Path(max_length=200, description="A voice's id at its vendor.")],
    request: Request,
    caller: SdkCaller,
    by: ForSdkCaller,
    actions: ServiceActions,
    query: InQuery,
    key: IdempotencyKey = None,
) -> Asking:
    return Asking(voice_id, request, caller, by, actions, query, key)


Asked = Annotated[Asking, Depends(_asking)]


@router.post("", responses=_AUDIO, response_class=Response, openapi_extra=_BODY)
@router.post("/stream", responses=_AUDIO, response_class=Response, openapi_extra=_BODY)
async def speak(asked: Asked) -> Response:
    """Say a text: the audio begins as soon as the vendor's does."""
    speech = await asked.speech()
    return asked.answer(speech, AudioBytes(speech.script.format.content_type))


@router.post("/with-timestamps", responses=_TIMED, response_class=Response, openapi_extra=_BODY)
async def speak_timed(asked: Asked) -> Response:
    """Say a text, and tell when each of its characters is spoken: one document."""
    speech = await asked.speech(with_timestamps=True, at_once=True)
    return asked.answer(speech, TimedLines(), TimedDocument)


@router.post(
    "/stream/with-timestamps", responses=_TIMED, response_class=Response, openapi_extra=_BODY
)
async def stream_timed(asked: Asked) -> Response:
    """Say a text, and tell when each of its characters is spoken: one document a line."""
    return asked.answer(await asked.speech(with_timestamps=True), TimedLines())


def _headers(speech: RunningSpeech) -> dict[str, str]:
    """What the vendor says of an answer, as far as it is known when the audio begins."""
    known = speech.settlement(Outcome.DONE)
    headers = {"request-id": known.provider_request_id or speech.hold.request_id}
    # A long text is asked for part by part, and each part's cost is told with it.
    if known.used is not None and (speech.hold.asked_characters is None or speech.hold.cached):
        headers["character-cost"] = str(known.used.characters)
    if speech.hold.cached:
        headers["x-voice-cached"] = "true"
    return headers
