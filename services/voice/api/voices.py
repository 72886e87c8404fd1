"""Voices: which there are, and how they speak for you."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from services.voice.api.dependencies import CurrentTier, ForCaller, ServiceActions
from services.voice.domain.own_settings import SettingsOverview
from services.voice.domain.script import SettingsWish
from services.voice.domain.voice import FASTEST, SLOWEST, Voice, VoiceCategory, VoiceSettings
from services.voice.domain.voice_search import LARGEST_PAGE, FoundPage, FoundVoice, VoiceQuery
from shared.http.problems import problems

router = APIRouter(
    prefix="/voice", tags=["voices"], responses=problems(401, 502, _409="no_usable_key")
)

# A length that bounds the work; which texts are ids is the domain's to say.
VoiceIdPath = Annotated[str, Path(max_length=200, description="A voice's id at its vendor.")]

_WORD = r"^[A-Za-z][A-Za-z _-]*$"
_Share = Annotated[float, Field(ge=0, le=1)]
# Said to readers of the document alone: pydantic would warn about each use.
_OLD: dict[str, Any] = {"deprecated": True}
_PageSize = Annotated[int, Field(ge=1, le=LARGEST_PAGE)]
_OF_ONE = problems(_402="voice_not_in_tier", _404="voice_not_found")
_Token = Annotated[str, Field(min_length=1, max_length=1_000, pattern=r"^[\x21-\x7e]+$")]


class VoiceBody(BaseModel):
    """A voice. `included`: your tier has it; else `upgrade_tier` is the smallest that does.
    `cloned_here`: you had it made here, and can have it deleted here."""

    voice_id: str
    name: str
    category: VoiceCategory
    labels: dict[str, str]
    description: str | None
    preview_url: str | None
    included: bool = True
    upgrade_tier: str | None = None
    cloned_here: bool = False

    @classmethod
    def of(cls, found: FoundVoice) -> VoiceBody:
        voice = found.voice
        return cls(
            voice_id=voice.id,
            name=voice.name,
            category=voice.category,
            labels=dict(voice.labels),
            description=voice.description,
            preview_url=voice.preview_url,
            included=found.included,
            upgrade_tier=found.upgrade_tier,
            cloned_here=found.cloned_here,
        )


class OneVoiceBody(BaseModel):
    """A voice that your tier includes."""

    voice_id: str
    name: str
    category: VoiceCategory
    labels: dict[str, str]
    description: str | None
    preview_url: str | None

    @classmethod
    def of(cls, voice: Voice) -> OneVoiceBody:
        return cls(
            voice_id=voice.id,
            name=voice.name,
            category=voice.category,
            labels=dict(voice.labels),
            description=voice.description,
            preview_url=voice.preview_url,
        )


class VoiceList(BaseModel):
    """A page of voices. It may hold fewer than asked for; only `next_cursor: null` is the end."""

    data: list[VoiceBody]
    next_cursor: str | None
    next_page_token: str | None = Field(description="As `next_cursor`.", json_schema_extra=_OLD)

    @classmethod
    def of(cls, page: FoundPage) -> VoiceList:
        found = [VoiceBody.of(found) for found in page.found]
        token = page.next_token
        return cls(data=found, next_cursor=token, next_page_token=token)


class VoiceFilter(BaseModel):
    """What is looked for."""

    model_config = ConfigDict(extra="forbid")

    search: str | None = Field(None, min_length=1, max_length=100, description="In names and such.")
    category: VoiceCategory | None = None
    language: str | None = Field(None, max_length=30, pattern=_WORD, examples=["en"])
    gender: str | None = Field(None, max_length=30, pattern=_WORD, examples=["female"])
    limit: _PageSize | None = Field(None, description=f"Default {LARGEST_PAGE}.")
    cursor: _Token | None = Field(None, description="The answered `next_cursor`.")
    # Their names here before they had those of every list.
    page_size: _PageSize | None = Field(None, description="As `limit`.", json_schema_extra=_OLD)
    next_page_token: _Token | None = Field(None, description="As `cursor`.", json_schema_extra=_OLD)
    include_unavailable: bool = Field(
        False, description="Also voices that your tier does not include, marked as such."
    )

    def to_query(self) -> VoiceQuery:
        return VoiceQuery(
            search=self.search,
            category=self.category,
            language=self.language,
            gender=self.gender,
            page_size=self.limit or self.page_size or LARGEST_PAGE,
            page_token=self.cursor or self.next_page_token,
        )


class VoiceSettingsBody(BaseModel):
    """How a voice speaks. `speed: null` leaves it to the voice."""

    stability: float
    similarity_boost: float
    style: float
    use_speaker_boost: bool
    speed: float | None

    @classmethod
    def of(cls, settings: VoiceSettings) -> VoiceSettingsBody:
        return cls.model_validate(settings, from_attributes=True)


class OwnSettingsBody(BaseModel):
    """Settings of your own; null is left to the default."""

    stability: float | None
    similarity_boost: float | None
    style: float | None
    use_speaker_boost: bool | None
    speed: float | None

    @classmethod
    def of(cls, own: SettingsWish) -> OwnSettingsBody:
        return cls.model_validate(own, from_attributes=True)


class SettingsOverviewBody(BaseModel):
    """How the voice speaks for you when a speech says nothing (`settings`): your `own` over the
    `defaults` of your tier. What the voice's maker recommends stands beside it."""

    settings: VoiceSettingsBody
    own: OwnSettingsBody
    defaults: VoiceSettingsBody
    recommended: VoiceSettingsBody

    @classmethod
    def of(cls, overview: SettingsOverview) -> SettingsOverviewBody:
        return cls(
            settings=VoiceSettingsBody.of(overview.effective),
            own=OwnSettingsBody.of(overview.own),
            defaults=VoiceSettingsBody.of(overview.defaults),
            recommended=VoiceSettingsBody.of(overview.recommended),
        )


class SettingsChangeBody(BaseModel):
    """What is left out stays as it is; null gives it back to its default."""

    model_config = ConfigDict(extra="forbid")

    stability: _Share | None = None
    similarity_boost: _Share | None = None
    style: _Share | None = None
    use_speaker_boost: bool | None = None
    speed: Annotated[float, Field(ge=SLOWEST, le=FASTEST)] | None = None


@router.get("/voices", summary="The voices that you may use")
async def list_voices(
    wanted: Annotated[VoiceFilter, Query()],
    tier: CurrentTier,
    by: ForCaller,
    actions: ServiceActions,
) -> VoiceList:
    """What your key reaches and your tier includes, page by page."""
    return VoiceList.of(
        await actions.list_voices(
            wanted.to_query(), tier, by=by, unavailable_too=wanted.include_unavailable
        )
    )


@router.get("/voices/{voice_id}", summary="One voice", responses=_OF_ONE)
async def read_voice(
    voice_id: VoiceIdPath, tier: CurrentTier, by: ForCaller, actions: ServiceActions
) -> OneVoiceBody:
    """A voice that your key reaches and your tier includes."""
    return OneVoiceBody.of(await actions.read_voice(voice_id, tier, by=by))


@router.get("/voices/{voice_id}/settings", summary="How a voice speaks for you", responses=_OF_ONE)
async def read_voice_settings(
    voice_id: VoiceIdPath, tier: CurrentTier, by: ForCaller, actions: ServiceActions
) -> SettingsOverviewBody:
    """What a speech that names no settings is spoken with, and what that follows from."""
    return SettingsOverviewBody.of(await actions.read_voice_settings(voice_id, tier, by=by))


@router.patch(
    "/voices/{voice_id}/settings",
    summary="Say how a voice is to speak for you",
    responses=problems(_402="voice_not_in_tier, speaker_boost_not_in_tier", _404="voice_not_found"),
)
async def change_voice_settings(
    voice_id: VoiceIdPath,
    body: SettingsChangeBody,
    tier: CurrentTier,
    by: ForCaller,
    actions: ServiceActions,
) -> SettingsOverviewBody:
    """Kept here for your own speeches; at the vendor the voice stays as it is."""
    change = body.model_dump(exclude_unset=True)
    await actions.change_voice_settings(voice_id, change, tier, by=by)
    return SettingsOverviewBody.of(await actions.read_voice_settings(voice_id, tier, by=by))
