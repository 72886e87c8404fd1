"""Voices that were looked up stay known for a while."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from services.voice.domain.ports import Audio, SpeechProvider
from services.voice.domain.script import Script
from services.voice.domain.voice import Voice, VoiceId, VoiceSettings
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

    async def voices(self, *, by: OnBehalfOf) -> Sequence[Voice]:
        return await self._provider.voices(by=by)

    async def voice(self, voice_id: VoiceId, *, by: OnBehalfOf) -> Voice:
        known = self._voices.get((by.user_id, voice_id))
        if known is not None and self._now() - known[0] < _MINUTES * 60:
            return known[1]
        voice = await self._provider.voice(voice_id, by=by)
        self._voices[by.user_id, voice_id] = (self._now(), voice)
        self._voices.move_to_end((by.user_id, voice_id))
        if len(self._voices) > _MOST:
            self._voices.popitem(last=False)
        return voice

    async def settings_of(self, voice_id: VoiceId, *, by: OnBehalfOf) -> VoiceSettings:
        return await self._provider.settings_of(voice_id, by=by)
