"""Text in, audio out."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from services.voice.actions import Actions
from services.voice.actions.speak import Wish
from services.voice.api.answers import (
    AudioAnswer,
    LinesAnswer,
    SpokenAnswer,
    SpokenBody,
    SpokenLine,
)
from services.voice.api.cache_control import CacheControl, may_be_stored
from services.voice.api.dependencies import ServiceActions
from services.voice.domain.audio_format import CONTENT_TYPES
from services.voice.domain.script import LONGEST_SPEECH, SettingsWish, SpeechOrder
from services.voice.domain.voice import FASTEST, SLOWEST
from shared.http.caller import Caller, SignedIn, on_behalf_of, refresh_hint
from shared.http.idempotency_key import key_header
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
    speed: Annotated[float, Field(ge=SLOWEST, le=FASTEST)] | None = None


class SpeechBody(BaseModel):
    """What to say, and how."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(
        max_length=2 * LONGEST_SPEECH,
        description=f"1 to {LONGEST_SPEECH} characters, in the free tier 5000, once white space"
        " around it is cut off. More than 5000 are said in parts that are heard as one.",
    )
    voice_id: str = Field(min_length=1, max_length=200)
    model: str | None = Field(None, max_length=64, pattern=_NAME)
    format: str | None = Field(
        None, max_length=32, pattern=_NAME, examples=["mp3_44100_64", "mp3_44100_128"]
    )
    settings: SettingsBody = Field(default_factory=SettingsBody)
    language_code: str | None = Field(
        None,
        pattern=r"^[a-z]{2}$",
        description="ISO 639-1. For models that take it; long texts are split by its rules.",
        examples=["de"],
    )
    seed: int | None = Field(
        None, ge=0, le=4_294_967_295, description="The same seed tends to give the same audio."
    )
    with_timestamps: bool = Field(
        False, description="Tell when each character is spoken: in JSON, or in lines of JSON."
    )
    strict_format: bool = Field(
        False,
        description="Refuse rather than give another format where the account's plan at the vendor"
        " does not make this one.",
    )

    cache: bool = Field(
        True,
        description="Short texts that you had said before in the same way are said again from what"
        " is kept of them, at no cost. `false`: neither look there nor keep this.",
    )
    engine: Literal["elevenlabs", "any"] | None = Field(
        None,
        description="`any`: where there is no usable key, the plain speech of this machine rather"
        " than none, if the operator has it (see `/voice/engines`).",
    )

    def to_order(self, *, at_once: bool) -> SpeechOrder:
        return SpeechOrder(
            text=self.text,
            voice_id=self.voice_id,
            model=self.model,
            format=self.format,
            settings=SettingsWish(**dict(self.settings)),
            language_code=self.language_code,
            seed=self.seed,
            with_timestamps=self.with_timestamps,
            strict_format=self.strict_format,
            at_once=at_once,
        )


LONGEST_HEADER = 500

IdempotencyKey = Annotated[
    str | None,
    key_header(
        "One key, one charge, for a day: a second request with it is answered with"
        " what is kept of the first one, or refused where nothing is."
    ),
]

_COMPONENT = "#/components/schemas/{model}"


def _line_schema() -> dict[str, Any]:
    schema = SpokenLine.model_json_schema(ref_template=_COMPONENT)
    del schema["$defs"]  # they are components, as parts of `SpokenBody`
    return schema


_BINARY = {"type": "string", "format": "binary"}
_TEXT = {"type": "string"}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Audio, streamed as it arrives; with `Accept: application/json`, or with"
        " timestamps, in JSON; with `Accept: application/x-ndjson` in lines, as it arrives.",
        "model": SpokenBody,
        "content": {
            **{kind: {"schema": _BINARY} for kind in sorted(CONTENT_TYPES)},
            "application/json": {"schema": {"$ref": _COMPONENT.format(model="SpokenBody")}},
            "application/x-ndjson": {"schema": _line_schema()},
        },
        "headers": {
            "x-speech-id": {"schema": _TEXT, "description": "Names this speech."},
            "x-character-count": {"schema": _TEXT, "description": "The characters of the text."},
            "x-voice-provider": {"schema": _TEXT, "description": "Who speaks."},
            "x-voice-cached": {
                "schema": _TEXT,
                "description": "`true`: you had it said before, so it costs nothing.",
            },
            "idempotency-replayed": {
                "schema": _TEXT,
                "description": "`true`: the answer to an earlier request with this key.",
            },
            "x-voice-format-fallback": {
                "schema": _TEXT,
                "description": "`wished -> given`, where the account's plan at the vendor does not"
                " make the wished format.",
            },
        },
    },
    **problems(
        401,
        413,
        503,
        _402="format_not_in_tier, text_not_in_tier, voice_not_in_tier, voice_model_not_in_tier,"
        " speaker_boost_not_in_tier",
        _404="voice_not_found",
        _409="request_in_progress, already_spoken, speech_stopped, no_usable_key",
        _422="text_not_speakable, unknown_format, speech_rejected, audio_too_large_for_json,"
        " engine_cannot, idempotency_key_reused",
        _429="limit_reached",
        _502="vendor_failed, vendor_rate_limited, vendor_overloaded, vendor_quota_exhausted,"
        " vendor_plan_required, vendor_refused, format_not_in_vendor_plan",
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
    actions: ServiceActions,
    idempotency_key: IdempotencyKey = None,
    accept: Annotated[str, Header(max_length=LONGEST_HEADER)] = "*/*",
    cache_control: CacheControl = "",
) -> Response:
    """The audio begins as soon as the vendor's does. A connection that breaks before the last chunk
    means that audio is missing; what the vendor was asked to say is charged all the same."""
    # What is in order is answered in front of this, see `say.py`.
    return await spoken(body, caller, actions, idempotency_key, accept, cache_control)


async def spoken(
    body: SpeechBody,
    caller: Caller,
    actions: Actions,
    idempotency_key: str | None,
    accept: str,
    cache_control: str,
) -> AudioAnswer | LinesAnswer | SpokenAnswer:
    """The answer, whose audio has begun. Raises what `actions.speak` raises."""
    kind = _answer_for(accept, with_timestamps=body.with_timestamps)
    wish = Wish(
        body.to_order(at_once=kind is SpokenAnswer),
        caller.tier,
        on_behalf_of(caller),
        idempotency_key,
        may_be_cached=body.cache and may_be_stored(cache_control),
        any_engine=_takes_any_engine(body, actions),
    )
    speech = await actions.speak(wish)
    answer = kind(speech, actions.relay_speech)
    answer.headers.update(refresh_hint(caller, speech.hold.tier))
    return answer


def _takes_any_engine(body: SpeechBody, actions: ServiceActions) -> bool:
    return body.engine == "any" or (body.engine is None and actions.list_engines.falls_back)


def _answer_for(
    accept: str, *, with_timestamps: bool
) -> type[AudioAnswer | LinesAnswer | SpokenAnswer]:
    wished = accept.lower()
    if "application/x-ndjson" in wished:
        return LinesAnswer
    wants_json = "application/json" in wished and "audio/" not in wished
    # There is no room for times among audio.
    return SpokenAnswer if wants_json or with_timestamps else AudioAnswer
