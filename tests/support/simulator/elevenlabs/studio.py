"""The voices of one account: those everybody has, and its own clones."""

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tests.support.simulator.ids import new_id

VOICE_LIMIT: Final = 30
_STUDIOS: Final = 10_000
_CREATED: Final = 1_790_000_000

DEFAULT_SETTINGS: Final[dict[str, Any]] = {
    "stability": 0.5,
    "similarity_boost": 0.75,
    "style": 0.0,
    "use_speaker_boost": True,
    "speed": 1.0,
    "clone_strength": None,
}


@dataclass(frozen=True, slots=True)
class Voice:
    id: str
    name: str
    category: str = "premade"
    labels: dict[str, str] = field(default_factory=dict)
    description: str | None = None
    created: int = _CREATED

    @property
    def is_cloned(self) -> bool:
        return self.category == "cloned"

    @property
    def needs_paid_plan(self) -> bool:
        return self.category == "professional"

    def as_json(self, settings: dict[str, Any] | None = None) -> dict[str, Any]:
        languages = [{"language": "en", "model_id": "eleven_multilingual_v2", "accent": "american"}]
        return {
            "voice_id": self.id,
            "name": self.name,
            "category": self.category,
            "labels": self.labels,
            "description": self.description,
            "preview_url": f"https://voices.invalid/{self.id}.mp3",
            "available_for_tiers": [],
            "settings": settings,
            "sharing": None,
            "is_owner": self.is_cloned,
            "verified_languages": languages,
            "high_quality_base_model_ids": ["eleven_multilingual_v2", "eleven_flash_v2_5"],
            "created_at_unix": self.created,
        }


def _premade(voice_id: str, name: str, gender: str, age: str, accent: str) -> Voice:
    labels = {"gender": gender, "age": age, "accent": accent, "language": "en"}
    return Voice(voice_id, name, labels=labels, description=f"{name}, a simulated voice.")


#: The vendor's public premade ids, so that a default voice of a caller is found here too.
EVERYBODYS: Final = (
    _premade("21m00Tcm4TlvDq8ikWAM", "Rachel", "female", "young", "american"),
    _premade("EXAVITQu4vr4xnSDxMaL", "Sarah", "female", "young", "american"),
    _premade("JBFqnCBsd6RMkjVDRZzb", "George", "male", "middle_aged", "british"),
    _premade("TX3LPaxmHKxFdv7VOQHJ", "Liam", "male", "young", "american"),
    _premade("XB0fDUnXU5powFXDhCwa", "Charlotte", "female", "young", "swedish"),
    _premade("onwK4e9ZLuTAKqWW03F9", "Daniel", "male", "middle_aged", "british"),
    _premade("pFZP5JQG7iQjIQuC4Bku", "Lily", "female", "middle_aged", "british"),
    _premade("nPczCjzI2devNBz1zQrb", "Brian", "male", "middle_aged", "american"),
    _premade("cgSgspJ2msm6clMCkdW9", "Jessica", "female", "young", "american"),
    _premade("iP95p4xoKVk53GoZ742B", "Chris", "male", "middle_aged", "american"),
    _premade("cjVigY5qzO86Huf0OWal", "Eric", "male", "middle_aged", "american"),
    _premade("pqHfZKP75CvOlQylNhV4", "Bill", "male", "old", "american"),
    Voice("simulatedlibrary0001", "Library Voice", "professional", {"gender": "neutral"}),
)
_BY_ID: Final = {voice.id: voice for voice in EVERYBODYS}


class Studio:
    """What one key's owner has made."""

    def __init__(self) -> None:
        self._clones: dict[str, Voice] = {}
        self._settings: dict[str, dict[str, Any]] = {}

    def voices(self) -> list[Voice]:
        return [*EVERYBODYS, *self._clones.values()]

    def find(self, voice_id: str) -> Voice | None:
        return self._clones.get(voice_id) or _BY_ID.get(voice_id)

    @property
    def clones(self) -> int:
        return len(self._clones)

    def clone(self, name: str, labels: dict[str, str], description: str | None) -> Voice:
        voice = Voice(new_id("clone"), name, "cloned", labels, description)
        self._clones[voice.id] = voice
        return voice

    def rename(self, voice: Voice, name: str, labels: dict[str, str], about: str | None) -> None:
        self._clones[voice.id] = replace(voice, name=name, labels=labels, description=about)

    def remove(self, voice: Voice) -> None:
        self._clones.pop(voice.id, None)
        self._settings.pop(voice.id, None)

    def settings_of(self, voice: Voice) -> dict[str, Any]:
        return self._settings.get(voice.id, DEFAULT_SETTINGS)

    def set_settings(self, voice: Voice, settings: dict[str, Any]) -> None:
        self._settings[voice.id] = {**DEFAULT_SETTINGS, **settings}


class Studios:
    """One studio per key; the longest unused is forgotten when there are too many."""

    def __init__(self) -> None:
        self._by_key: OrderedDict[str, Studio] = OrderedDict()

    def of(self, key_sha256: str) -> Studio:
        studio = self._by_key.get(key_sha256)
        if studio is None:
            studio = self._by_key[key_sha256] = Studio()
        self._by_key.move_to_end(key_sha256)
        if len(self._by_key) > _STUDIOS:
            self._by_key.popitem(last=False)
        return studio
