"""Who speaks beside the vendor, and how."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from services.voice.api.dependencies import ServiceActions
from services.voice.domain.offline_engine import OFFLINE_ENGINE, OFFLINE_FORMATS, OfflineEngine
from shared.http.caller import SignedIn
from shared.http.problems import problems

router = APIRouter(prefix="/voice", tags=["voices"], responses=problems(401))


class EngineVoiceBody(BaseModel):
    """A voice of an engine: one for each language."""

    voice_id: str
    name: str
    category: str
    provider: str
    labels: dict[str, str]


class EngineBody(BaseModel):
    """An engine that needs no key. The first of its formats is its default."""

    provider: str
    model: str
    formats: list[str]
    default_voice_id: str
    voices: list[EngineVoiceBody]

    @classmethod
    def of(cls, engine: OfflineEngine) -> EngineBody:
        voices = [
            EngineVoiceBody(
                voice_id=voice.id,
                name=voice.name,
                category=voice.category,
                provider=OFFLINE_ENGINE,
                labels=dict(voice.labels),
            )
            for voice in engine.voices()
        ]
        return cls(
            provider=OFFLINE_ENGINE,
            model=OFFLINE_ENGINE,
            formats=[format_.name for format_ in OFFLINE_FORMATS],
            default_voice_id=engine.default_voice,
            voices=voices,
        )


class EngineList(BaseModel):
    """Empty where the operator has switched none on."""

    data: list[EngineBody]
    falls_back: bool


@router.get("/engines", summary="Engines that need no key")
async def list_engines(_caller: SignedIn, actions: ServiceActions) -> EngineList:
    """Speech of this machine: plain, without a vendor, and marked as such wherever it is heard."""
    engines = actions.list_engines
    return EngineList(
        data=[EngineBody.of(engine) for engine in engines()], falls_back=engines.falls_back
    )
