"""ElevenLabs' voices, models and subscription for its SDKs, under `/elevenlabs`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.datastructures import FormData

from services.voice.actions.clone_voice import CloneWish
from services.voice.actions.read_standing import Standing
from services.voice.api.clones import form_of, order_from
from services.voice.api.dependencies import ServiceActions
from services.voice.api.dropin_door import (
    ForSdkCaller,
    SdkCaller,
    SdkTier,
    body_of,
    json_body,
    read_body,
)
from services.voice.api.dropin_errors import ElevenLabsRoute, elevenlabs_errors
from services.voice.api.dropin_speech_body import DropInSettings
from services.voice.domain.clone import CLONING, CONSENT, CONSENT_VERSION
from services.voice.domain.own_settings import defaults_of
from services.voice.domain.script import VENDOR
from services.voice.domain.told import Query as AskedFor
from services.voice.domain.voice import FASTEST, SLOWEST, VoiceSettings
from shared.http.idempotency_key import IdempotencyKey
from shared.lenient_json import to_json
from shared.vendors.dropins import BadParameter, CallNotOffered

router = APIRouter(prefix="/elevenlabs", tags=["elevenlabs"], route_class=ElevenLabsRoute)
strays = APIRouter(prefix="/elevenlabs", tags=["elevenlabs"], route_class=ElevenLabsRoute)

VoiceIdPath = Annotated[str, Path(max_length=200, description="A voice's id at its vendor.")]
_Word = Annotated[str, Field(max_length=200)]
_ERRORS = elevenlabs_errors(402, 404, 409, 413, 429, 502)
# Larger than any count of characters, and still a whole number to every JSON reader.
_UNLIMITED = 2**53 - 1

_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["name", "files"],
                    "properties": {
                        "name": {"type": "string"},
                        "description": {"type": "string"},
                        "labels": {"type": "string"},
                        "remove_background_noise": {"type": "boolean"},
                        "files": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                        },
                        "consent": {
                            "type": "boolean",
                            "description": f"`true` says (version {CONSENT_VERSION}): {CONSENT}",
                        },
                    },
                }
            }
        },
    }
}
_SETTINGS = json_body(DropInSettings)


class ListQuery(BaseModel):
    """What the whole list is asked with."""

    show_legacy: bool | None = None


class SearchQuery(BaseModel):
    """What a page is asked with; names that we don't know are ignored."""

    page_size: int | None = Field(None, ge=1, le=100)
    next_page_token: Annotated[str, Field(max_length=1_000)] | None = None
    search: _Word | None = None
    sort: _Word | None = None
    sort_direction: _Word | None = None
    voice_type: _Word | None = None
    category: _Word | None = None
    gender: _Word | None = None
    age: _Word | None = None
    accent: _Word | None = None
    language: _Word | None = None
    use_cases: list[_Word] | None = Field(None, max_length=100)
    high_quality: bool | None = None
    fine_tuning_state: _Word | None = None
    collection_id: _Word | None = None
    include_total_count: bool | None = None
    include_custom_rates: bool | None = None
    include_live_moderated: bool | None = None
    min_notice_period_days: int | None = Field(None, ge=0, le=100_000)
    voice_ids: list[_Word] | None = Field(None, max_length=100)


class Done(BaseModel):
    """It is done."""

    status: str = "ok"


class MadeVoice(BaseModel):
    """A voice made from samples."""

    voice_id: str
    requires_verification: bool


class DropInVoiceSettings(BaseModel):
    """How a voice speaks."""

    stability: float
    similarity_boost: float
    style: float
    use_speaker_boost: bool
    speed: float

    @classmethod
    def of(cls, settings: VoiceSettings) -> DropInVoiceSettings:
        return cls(
            stability=settings.stability,
            similarity_boost=settings.similarity_boost,
            style=settings.style,
            use_speaker_boost=settings.use_speaker_boost,
            speed=1.0 if settings.speed is None else settings.speed,
        )


class Price(BaseModel):
    """An amount of money."""

    amount: str = "0"
    currency: str = "usd"


class Subscription(BaseModel):
    """Your tier here in the words of a subscription there: not your plan at the vendor, of which we
    know nothing. Counts are credits, as the vendor counts: the quick models (flash, turbo) take
    half a credit for a character. What has no counterpart is null, 0 or false, as the vendor's SDKs
    can read it."""

    tier: str
    status: str
    character_count: int
    character_limit: int
    max_credit_limit_extension: int | str
    can_extend_character_limit: bool = False
    allowed_to_extend_character_limit: bool = False
    next_character_count_reset_unix: int | None
    can_use_instant_voice_cloning: bool
    can_use_professional_voice_cloning: bool = False
    can_extend_voice_limit: bool = False
    voice_slots_used: int = 0
    voice_limit: int = 0
    voice_add_edit_counter: int = 0
    professional_voice_slots_used: int = 0
    professional_voice_slots_used_in_workspace: int = 0
    professional_voice_limit: int = 0
    currency: None = None
    current_overage: Price = Price()
    open_invoices: list[dict[str, Any]] = []
    has_open_invoices: bool = False

    @classmethod
    def of(cls, standing: Standing) -> Subscription:
        tier = standing.tier
        month = next((w for w in standing.windows if w.name.endswith("characters_per_month")), None)
        return cls(
            tier=tier.name,
            status="active" if tier.price_microusd_per_seat_month else "free",
            character_count=0 if month is None else month.used + month.reserved,
            character_limit=_UNLIMITED if month is None else month.limit,
            max_credit_limit_extension="unlimited" if month is None else 0,
            next_character_count_reset_unix=None
            if month is None
            else int(month.resets_at.timestamp()),
            can_use_instant_voice_cloning=tier.allows(VENDOR, CLONING),
        )


@router.get("/v1/voices", responses=_ERRORS)
async def list_voices(
    now: SdkTier,
    by: ForSdkCaller,
    actions: ServiceActions,
    query: Annotated[ListQuery, Query()],
) -> Response:
    """What your key reaches and your tier includes, as the vendor tells of it."""
    told = await actions.tell_of_vendor.voices(_asked(query), now.tier, by=by)
    return _json({**told.words, "voices": [voice.words for voice in told.voices]}, now.headers)


@router.get("/v2/voices", responses=_ERRORS)
async def search_voices(
    now: SdkTier,
    by: ForSdkCaller,
    actions: ServiceActions,
    query: Annotated[SearchQuery, Query()],
) -> Response:
    """A page of voices. One that your tier leaves out is missing on its page."""
    told = await actions.tell_of_vendor.search(_asked(query), now.tier, by=by)
    return _json({**told.words, "voices": [voice.words for voice in told.voices]}, now.headers)


@router.post("/v1/voices/add", responses=_ERRORS, openapi_extra=_FORM)
async def add_voice(
    request: Request,
    caller: SdkCaller,
    by: ForSdkCaller,
    actions: ServiceActions,
    key: IdempotencyKey = None,
    consent: Annotated[
        str | None,
        Header(alias="X-Voice-Consent", max_length=5, description="As the field `consent`."),
    ] = None,
) -> MadeVoice:
    """Have a voice made from samples of somebody who agreed to it."""
    tier = await actions.clone_voice.tier_for(caller.tier, by=by)
    async with form_of(request) as fields:
        order = await asyncio.to_thread(order_from, _in_our_words(fields, consent))
        cloned = await actions.clone_voice(CloneWish(order, tier, by, key))
    return MadeVoice(
        voice_id=cloned.voice_id, requires_verification=cloned.clone.requires_verification
    )


@router.get("/v1/voices/settings/default", responses=_ERRORS)
async def default_settings(now: SdkTier) -> DropInVoiceSettings:
    """How voices speak for you when nobody says otherwise."""
    return DropInVoiceSettings.of(defaults_of(now.tier))


@router.get("/v1/voices/{voice_id}", responses=_ERRORS)
async def show_voice(
    voice_id: VoiceIdPath, now: SdkTier, by: ForSdkCaller, actions: ServiceActions
) -> Response:
    """One voice, as the vendor tells of it."""
    told = await actions.tell_of_vendor.voice(voice_id, now.tier, by=by)
    return _json(told.words, now.headers)


@router.delete("/v1/voices/{voice_id}", responses=_ERRORS)
async def remove_voice(voice_id: VoiceIdPath, by: ForSdkCaller, actions: ServiceActions) -> Done:
    """Delete a voice that you had made here, also at the vendor."""
    await actions.remove_voice(voice_id, by=by)
    return Done()


@router.get("/v1/voices/{voice_id}/settings", responses=_ERRORS)
async def show_settings(
    voice_id: VoiceIdPath, now: SdkTier, by: ForSdkCaller, actions: ServiceActions
) -> DropInVoiceSettings:
    """How the voice speaks for you when a request says nothing of it."""
    overview = await actions.read_voice_settings(voice_id, now.tier, by=by)
    return DropInVoiceSettings.of(overview.effective)


@router.post("/v1/voices/{voice_id}/settings/edit", responses=_ERRORS, openapi_extra=_SETTINGS)
async def change_settings(
    voice_id: VoiceIdPath,
    request: Request,
    now: SdkTier,
    by: ForSdkCaller,
    actions: ServiceActions,
) -> Done:
    """Say once for all how the voice is to speak: for you alone, here and not at the vendor."""
    body = read_body(DropInSettings, await body_of(request))
    if any(value is not None for value in (body.model_extra or {}).values()):
        raise BadParameter("body", "of settings that are kept here")
    if body.speed is not None and not SLOWEST <= body.speed <= FASTEST:
        # One request may say it of itself; what is kept has to do for the sockets, too.
        raise BadParameter("speed", f"from {SLOWEST} to {FASTEST}")
    said = body.model_dump(exclude_none=True, exclude=set(body.model_extra or {}))
    await actions.change_voice_settings(voice_id, said, now.tier, by=by)
    return Done()


@router.get("/v1/models", responses=_ERRORS)
async def list_models(now: SdkTier, by: ForSdkCaller, actions: ServiceActions) -> Response:
    """The models that your tier grants, as the vendor tells of them."""
    return _json(await actions.tell_of_vendor.models(now.tier, by=by), now.headers)


@router.get("/v1/user/subscription", responses=_ERRORS)
async def show_subscription(
    caller: SdkCaller, by: ForSdkCaller, actions: ServiceActions
) -> Subscription:
    """How many credits you may still have spoken this month, by your tier here."""
    return Subscription.of(await actions.read_standing(by.user_id, caller.tier))


@strays.api_route(
    "/{_rest:path}",
    methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
    include_in_schema=False,
)
async def not_offered(_caller: SdkCaller) -> Response:
    """All that ElevenLabs offers beside."""
    raise CallNotOffered("ElevenLabs")


def _asked(query: BaseModel) -> AskedFor:
    """As the vendor is asked: a list repeats its name."""
    said: list[tuple[str, str]] = []
    for name, value in query.model_dump(exclude_none=True).items():
        values = value if isinstance(value, list) else [value]
        said += [(name, _word(each)) for each in values]
    return said


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _in_our_words(form: FormData, consent: str | None) -> FormData:
    """The vendor's form as ours: its files are our samples, and the consent may be a header, since
    the SDK's form has no field for it."""
    said: list[tuple[str, Any]] = []
    for name, value in form.multi_items():
        if name == "labels" and not _is_object(value):
            continue  # the SDK writes `null`, or anything, for whom names none
        said.append(("samples" if name == "files" else name, value))
    if consent is not None and "consent" not in form:
        said.append(("consent", consent))
    return FormData(said)


def _is_object(value: Any) -> bool:
    try:
        return isinstance(value, str) and isinstance(orjson.loads(value), dict)
    except orjson.JSONDecodeError:
        return False


def _json(value: Mapping[str, Any] | Sequence[Any], headers: Mapping[str, str]) -> Response:
    return Response(to_json(value), headers=dict(headers), media_type="application/json")
