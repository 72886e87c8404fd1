"""Voices and models in their vendor's own words, for programs that are written against it.

What a tier includes is decided by what we read of them; the words go to the program as they came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Protocol

from services.voice.domain.voice import Voice, VoiceId
from shared.identity import OnBehalfOf
from shared.values import dataclass

Query = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class ToldVoice:
    """A voice, and all that its vendor says of it."""

    voice: Voice
    words: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToldVoices:
    """A list of the vendor's; `words` is what it says beside the voices."""

    voices: Sequence[ToldVoice]
    words: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToldModel:
    """A model, and all that its vendor says of it."""

    id: str
    words: Mapping[str, Any]


class TellingVendor(Protocol):
    """Asks the vendor, with the user's key. Raises what SpeechProvider raises."""

    async def list_voices(self, query: Query, *, by: OnBehalfOf) -> ToldVoices:
        """All of them at once."""
        ...

    async def search_voices(self, query: Query, *, by: OnBehalfOf) -> ToldVoices:
        """A page."""
        ...

    async def tell_voice(self, voice_id: VoiceId, *, by: OnBehalfOf) -> ToldVoice: ...

    async def list_models(self, *, by: OnBehalfOf) -> Sequence[ToldModel]: ...
