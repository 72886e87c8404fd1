"""Text in, audio out."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from services.voice.actions.speak import Wish
from services.voice.api.answers import AudioAnswer, SpokenAnswer, SpokenBody
from services.voice.api.dependencies import ForCaller, ServiceActions
from services.voice.domain.script import LONGEST_TEXT, SettingsWish, SpeechOrder
from shared.http.caller import SignedIn, refresh_hint
from shared.http.problems import problems

router = APIRouter(prefix="/voice", tags=["speech"])

_Share = Annotated[float, Field(ge=0, le=1)]
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class SettingsBody(BaseModel):
    """How the voice should speak; what is left out has its default."""

    model_config = ConfigDict(extra="forbid")

    stability: _Share | None = Field(None, description="Default 0.75.")
    similarity_boost: _Share | None = Field(None, description="Default 0.75.")
    style: _Share | None = Field(None, description="Default 0.")
    use_speaker_boost: bool | None = Field(None, description="On by default, from pro on.")
    # The range that every way to the vendor takes.
    speed: Annotated[float, Field(ge=0.7, le=1.2)] | None = None


class SpeechBody(BaseModel):
    """What to say, and how."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(
        max_length=2 * LONGEST_TEXT,
        description=f"1 to {LONGEST_TEXT} characters once white space around it is cut off.",
    )
    voice_id: str = Field(min_length=1, max_length=200)
    model: str | None = Field(None, max_length=64, pattern=_NAME)
    format: str | None = Field(
        None, max_length=32, pattern=_NAME, examples=["mp3_44100_64", "mp3_44100_128"]
    )
    settings: SettingsBody = Field(default_factory=SettingsBody)

    def to_order(self) -> SpeechOrder:
        return SpeechOrder(
            text=self.text,
            voice_id=self.voice_id,
            model=self.model,
            format=self.format,
            settings=SettingsWish(**self.settings.model_dump()),
        )


IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="One key, one charge: a second request with it is refused.",
    ),
]

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Audio, streamed as it arrives; with `Accept: application/json` in JSON.",
        "model": SpokenBody,
        "content": {"audio/mpeg": {"schema": {"type": "string", "format": "binary"}}},
    },
    **problems(
        401,
        502,
        503,
        _402="format_not_in_tier, voice_not_in_tier, voice_model_not_in_tier",
        _404="voice_not_found",
        _409="request_in_progress, already_spoken, no_usable_key",
        _429="limit_reached",
    ),
}


@router.post(
    "/speech",
    summary="Say a text",
    response_class=Response,
    response_model=None,
    responses=_ANSWERS,
)
async def speak(
    body: SpeechBody,
    caller: SignedIn,
    by: ForCaller,
    actions: ServiceActions,
    idempotency_key: IdempotencyKey = None,
    accept: Annotated[str, Header(max_length=500)] = "*/*",
) -> Response:
    """The audio begins as soon as the vendor's does. A connection that breaks before the last chunk
    means that audio is missing; what the vendor was asked to say is charged all the same."""
    wish = Wish(body.to_order(), caller.tier, by, idempotency_key)
    speech = await actions.speak(wish)
    kind = SpokenAnswer if _wants_json(accept) else AudioAnswer
    answer = kind(speech, actions.relay_speech)
    answer.headers.update(refresh_hint(caller, speech.hold.tier))
    return answer


def _wants_json(accept: str) -> bool:
    return "application/json" in accept.lower() and "audio/" not in accept.lower()
