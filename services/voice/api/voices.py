"""Voices: which there are, and how they are recommended to speak."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel

from services.voice.api.dependencies import ForCaller, ServiceActions
from services.voice.domain.voice import Voice
from shared.http.caller import SignedIn
from shared.http.problems import problems

router = APIRouter(
    prefix="/voice", tags=["voices"], responses=problems(401, 502, _409="no_usable_key")
)

# A length that bounds the work; which texts are ids is the domain's to say.
VoiceIdPath = Annotated[str, Path(max_length=200, description="A voice's id at its vendor.")]


class VoiceBody(BaseModel):
    """A voice. `category` is one of `basic`, `custom`, `premium`."""

    voice_id: str
    name: str
    category: str
    labels: dict[str, str]
    preview_url: str | None

    @classmethod
    def of(cls, voice: Voice) -> VoiceBody:
        return cls(
            voice_id=voice.id,
            name=voice.name,
            category=voice.category,
            labels=dict(voice.labels),
            preview_url=voice.preview_url,
        )


class VoiceList(BaseModel):
    """All of them at once: the vendor does not page this list."""

    data: list[VoiceBody]
    next_cursor: str | None = None


class VoiceSettingsBody(BaseModel):
    """How a voice speaks."""

    stability: float
    similarity_boost: float
    style: float
    use_speaker_boost: bool
    speed: float | None


@router.get("/voices", summary="The voices that you may use")
async def list_voices(caller: SignedIn, by: ForCaller, actions: ServiceActions) -> VoiceList:
    """What your key reaches and your tier includes."""
    voices = await actions.list_voices(caller.tier, by=by)
    return VoiceList(data=[VoiceBody.of(voice) for voice in voices])


@router.get("/voices/{voice_id}", summary="One voice")
async def read_voice(
    voice_id: VoiceIdPath, caller: SignedIn, by: ForCaller, actions: ServiceActions
) -> VoiceBody:
    """A voice that your key reaches and your tier includes."""
    return VoiceBody.of(await actions.read_voice(voice_id, caller.tier, by=by))


@router.get("/voices/{voice_id}/settings", summary="How a voice is recommended to speak")
async def read_voice_settings(
    voice_id: VoiceIdPath, caller: SignedIn, by: ForCaller, actions: ServiceActions
) -> VoiceSettingsBody:
    """The settings stored with the voice. A speech that names none uses ours instead."""
    settings = await actions.read_voice_settings(voice_id, caller.tier, by=by)
    return VoiceSettingsBody(
        stability=settings.stability,
        similarity_boost=settings.similarity_boost,
        style=settings.style,
        use_speaker_boost=settings.use_speaker_boost,
        speed=settings.speed,
    )
