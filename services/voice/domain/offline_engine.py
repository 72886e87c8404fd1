"""The engine that speaks on our own machine, without any key: plain, and marked as such."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Protocol

from services.voice.domain.audio_format import AudioFormat
from services.voice.domain.errors import EngineCannot, VoiceNotFound
from services.voice.domain.ports import Audio
from services.voice.domain.script import (
    LONGEST_TEXT,
    VENDOR,
    Script,
    SpeechOrder,
    speakable,
    speech_allowance,
)
from services.voice.domain.voice import Voice, VoiceId, VoiceSettings
from shared.tiers import Tier

OFFLINE_ENGINE = "espeak-ng"
OFFLINE_VOICE_PREFIX = "espeak-"
OFFLINE_FORMATS = (AudioFormat("wav_22050"), AudioFormat("pcm_22050"))  # the first by default


class OfflineEngine(Protocol):
    """Speech without a vendor."""

    @property
    def default_voice(self) -> VoiceId:
        """Who speaks when the vendor's voice that was asked for can't."""
        ...

    def voices(self) -> Sequence[Voice]: ...

    def speak(self, script: Script) -> AbstractAsyncContextManager[Audio]:
        """The audio. Raises VendorFailed, and EngineBusy while too many speak."""
        ...


def provider_of(voice_id: str) -> str:
    """Who speaks with that voice."""
    return OFFLINE_ENGINE if voice_id.startswith(OFFLINE_VOICE_PREFIX) else VENDOR


def offline_order(order: SpeechOrder, engine: OfflineEngine | None) -> SpeechOrder | None:
    """The order for the engine instead of a vendor, in the language where that is told; None where
    the engine has not what was asked for."""
    if engine is None or order.with_timestamps or len(order.text.strip()) > LONGEST_TEXT:
        return None
    if order.format is not None and AudioFormat(order.format) not in OFFLINE_FORMATS:
        return None
    spoken = f"{OFFLINE_VOICE_PREFIX}{(order.language_code or '').lower()}"
    known = any(voice.id == spoken for voice in engine.voices())
    return replace(order, voice_id=spoken if known else engine.default_voice, model=None)


def offline_script_for(order: SpeechOrder, tier: Tier, engine: OfflineEngine | None) -> Script:
    """The order as the engine would speak it. What the voice's character is about has no meaning
    here and is left out; only the speed has.

    Raises SpeechNotInTier, TextNotSpeakable, VoiceNotFound, and EngineCannot.
    """
    speech_allowance(tier)
    text = speakable(order.text, LONGEST_TEXT)
    voices = () if engine is None else engine.voices()
    voice = next((voice for voice in voices if voice.id == order.voice_id), None)
    if voice is None:
        raise VoiceNotFound(order.voice_id[:64])
    format_ = OFFLINE_FORMATS[0] if order.format is None else AudioFormat(order.format)
    if format_ not in OFFLINE_FORMATS or order.model not in (None, OFFLINE_ENGINE):
        raise _cannot("this format or model")
    if order.with_timestamps:
        raise _cannot("timestamps")
    return Script(
        text=text,
        voice_id=voice.id,
        model=OFFLINE_ENGINE,
        format=format_,
        settings=VoiceSettings(speed=order.settings.speed),
    )


def _cannot(what: str) -> EngineCannot:
    formats = [format_.name for format_ in OFFLINE_FORMATS]
    return EngineCannot(what, OFFLINE_ENGINE, formats, OFFLINE_ENGINE)
