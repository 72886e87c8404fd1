"""A request for speech in OpenAI's wire, as an order for one of ElevenLabs' voices.

https://platform.openai.com/docs/api-reference/audio/createSpeech
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.voice.domain.audio_format import QUALITIES
from services.voice.domain.errors import SpeechModelNotFound
from services.voice.domain.offline_engine import OFFLINE_ENGINE, OFFLINE_FORMATS, provider_of
from services.voice.domain.script import (
    LONGEST_SPEECH,
    SettingsWish,
    SpeechOrder,
    speech_allowance,
)
from services.voice.domain.voice import FASTEST, SLOWEST
from shared.tiers import Tier
from shared.vendors.dropins import BadParameter

# OpenAI's names of voices, and the stock voices of ElevenLabs that come near them. Thirteen names
# for twelve voices: `marin` is `alloy`'s.
VOICES: Mapping[str, str] = MappingProxyType(
    {
        "alloy": "21m00Tcm4TlvDq8ikWAM",  # Rachel
        "ash": "iP95p4xoKVk53GoZ742B",  # Chris
        "ballad": "onwK4e9ZLuTAKqWW03F9",  # Daniel
        "cedar": "pqHfZKP75CvOlQylNhV4",  # Bill
        "coral": "cgSgspJ2msm6clMCkdW9",  # Jessica
        "echo": "TX3LPaxmHKxFdv7VOQHJ",  # Liam
        "fable": "JBFqnCBsd6RMkjVDRZzb",  # George
        "marin": "21m00Tcm4TlvDq8ikWAM",  # Rachel
        "nova": "EXAVITQu4vr4xnSDxMaL",  # Sarah
        "onyx": "nPczCjzI2devNBz1zQrb",  # Brian
        "sage": "pFZP5JQG7iQjIQuC4Bku",  # Lily
        "shimmer": "XB0fDUnXU5powFXDhCwa",  # Charlotte
        "verse": "cjVigY5qzO86Huf0OWal",  # Eric
    }
)

# What OpenAI calls its models, and the classes of ElevenLabs' models that take their places.
_STANDARD, _HIGH = "elevenlabs.standard", "elevenlabs.high"
_MODELS: Mapping[str, str | None] = MappingProxyType(
    {
        "tts-1": _STANDARD,
        "tts-1-hd": _HIGH,
        "gpt-4o-mini-tts": _STANDARD,
        "gpt-4o-mini-tts-2025-03-20": _STANDARD,
        "gpt-4o-mini-tts-2025-12-15": _STANDARD,
        "default": None,
    }
)
_VENDOR = "elevenlabs/"
_OWN = ("eleven_", "elevenlabs.")

# OpenAI's PCM has 24 kHz, 16 bit and one channel, as has ElevenLabs' of that name. MP3 is what the
# tier makes of it.
_FORMATS: Mapping[str, str] = MappingProxyType(
    {"opus": "opus_48000_64", "pcm": "pcm_24000", "wav": "wav_24000"}
)


class VoiceReference(BaseModel):
    """A voice by its id."""

    id: str = Field(min_length=1, max_length=200)


class OpenAISpeech(BaseModel):
    """What to say, and how. `instructions` has no counterpart and is ignored, as are fields that we
    don't know."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    model: str = Field(min_length=1, max_length=100)
    input: str = Field(max_length=2 * LONGEST_SPEECH)
    voice: str | VoiceReference = Field(description="One of OpenAI's names, or an ElevenLabs id.")
    response_format: Literal["mp3", "opus", "pcm", "wav"] = "mp3"
    # What ElevenLabs is sure to take; OpenAI takes 0.25 to 4.
    speed: Annotated[float, Field(ge=SLOWEST, le=FASTEST)] | None = None
    instructions: str | None = Field(None, max_length=4_096)
    stream_format: Literal["audio", "sse"] = "audio"

    def to_order(self, tier: Tier) -> SpeechOrder:
        """Raises SpeechModelNotFound, or SpeechNotInTier."""
        voice_id = self._voice()
        is_offline = provider_of(voice_id) == OFFLINE_ENGINE
        return SpeechOrder(
            text=self.input,
            voice_id=voice_id,
            model=_offline_model(self.model) if is_offline else _model(self.model),
            format=self._offline_format() if is_offline else self._format(tier),
            settings=SettingsWish(speed=self.speed),
            strict_format=True,
        )

    def _format(self, tier: Tier) -> str:
        return _FORMATS.get(self.response_format) or _mp3(tier)

    def _offline_format(self) -> str:
        """Its samples have a rate of their own, which the head of a file tells and PCM does not."""
        return OFFLINE_FORMATS[0].name if self.response_format == "wav" else self.response_format

    def _voice(self) -> str:
        name = self.voice if isinstance(self.voice, str) else self.voice.id
        if not 1 <= len(name) <= 200:
            raise BadParameter("voice", "the name or the id of a voice")
        return VOICES.get(name, name)


def _model(name: str) -> str | None:
    """The vendor's, or a class of them; None leaves it to the tier."""
    if name in _MODELS:
        return _MODELS[name]
    if name.startswith(_VENDOR):
        return name.removeprefix(_VENDOR) or None
    if name.startswith(_OWN):
        return name
    raise SpeechModelNotFound


def _offline_model(name: str) -> str | None:
    """The engine has one, and OpenAI's names stand for it too."""
    return None if name in _MODELS or name == OFFLINE_ENGINE else _model(name)


def _mp3(tier: Tier) -> str:
    return QUALITIES[speech_allowance(tier).quality].default.name
