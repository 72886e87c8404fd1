"""Voices that were looked up stay known for a while."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from services.voice.domain.clone import CloneOrder, MadeVoice, Sample
from services.voice.domain.ports import (
    Audio,
    SpeechAhead,
    SpeechProvider,
    TimedAudio,
    VoiceLibrary,
    VoiceMaker,
)
from services.voice.domain.script import Script
from services.voice.domain.voice import Voice, VoiceId, VoiceSettings
from services.voice.domain.voice_search import VoicePage, VoiceQuery
from shared.identity import OnBehalfOf
from shared.ids import UserId

_MINUTES = 10
_MOST = 20_000


class RememberedVoices:
    """A provider that asks once what a voice is, not before each speech.

    Remembered per user: which voices exist depends on whose key asks.
    """

    def __init__(
        self, provider: SpeechProvider, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._provider = provider
        self._now = now
        self._voices: OrderedDict[tuple[UserId, VoiceId], tuple[float, Voice]] = OrderedDict()

    def speak(self, script: Script, *, by: OnBehalfOf) -> AbstractAsyncContextManager[Audio]:
        return self._provider.speak(script, by=by)

    def speak_timed(
        self, script: Script, *, by: OnBehalfOf
    ) -> AbstractAsyncContextManager[TimedAudio]:
        return self._provider.speak_timed(script, by=by)

    def ahead(self, script: Script, *, by: OnBehalfOf) -> SpeechAhead | None:
        return self._provider.ahead(script, by=by)

    async def voices(self, *, by: OnBehalfOf) -> Sequence[Voice]:
        return await self._provider.voices(by=by)

    async def voice(self, voice_id: VoiceId, *, by: OnBehalfOf) -> Voice:
        known = self._voices.get((by.user_id, voice_id))
        if known is not None and self._now() - known[0] < _MINUTES * 60:
            return known[1]
        voice = await self._provider.voice(voice_id, by=by)
        self.remember(voice, by.user_id)
        return voice

    def remember(self, voice: Voice, user_id: UserId) -> None:
        """It was seen just now."""
        self._voices[user_id, voice.id] = (self._now(), voice)
        self._voices.move_to_end((user_id, voice.id))
        if len(self._voices) > _MOST:
            self._voices.popitem(last=False)

    def forget(self, voice_id: VoiceId, user_id: UserId) -> None:
        """It is there no more."""
        self._voices.pop((user_id, voice_id), None)

    async def settings_of(self, voice_id: VoiceId, *, by: OnBehalfOf) -> VoiceSettings:
        return await self._provider.settings_of(voice_id, by=by)


class Studio(VoiceLibrary, VoiceMaker, Protocol):
    """A vendor's voices, with all that can be done to them."""


class RememberedStudio:
    """A vendor's voices, of which the memory beside it hears: who looks for voices speaks with them
    next, and a voice that was deleted is known no longer."""

    def __init__(self, studio: Studio, memory: RememberedVoices) -> None:
        self._studio = studio
        self._memory = memory

    async def search(self, query: VoiceQuery, *, by: OnBehalfOf) -> VoicePage:
        page = await self._studio.search(query, by=by)
        for voice in page.voices:
            self._memory.remember(voice, by.user_id)
        return page

    async def make(
        self, order: CloneOrder, samples: Sequence[Sample], *, by: OnBehalfOf
    ) -> MadeVoice:
        return await self._studio.make(order, samples, by=by)

    async def remove(self, voice_id: VoiceId, *, by: OnBehalfOf) -> bool:
        was_there = await self._studio.remove(voice_id, by=by)
        self._memory.forget(voice_id, by.user_id)
        return was_there
