"""Looks at voices that told nothing."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import field
from datetime import datetime, timedelta

from services.voice.domain.voice import VoiceId
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass

_REMEMBERED_FOR = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Looks:
    """Remembers them for a minute, so that nobody waits for each of them. What they do tell is
    remembered with the voices."""

    clock: Clock
    most: int = 20_000
    _in_vain: OrderedDict[tuple[UserId, VoiceId], datetime] = field(default_factory=OrderedDict)

    def told_nothing(self, user_id: UserId, voice_id: VoiceId) -> None:
        """The vendor was asked, and nobody knows more of the voice."""
        self._in_vain.pop((user_id, voice_id), None)
        self._in_vain[user_id, voice_id] = self.clock.now()
        if len(self._in_vain) > self.most:
            self._in_vain.popitem(last=False)

    def are_in_vain(self, user_id: UserId, voice_id: VoiceId) -> bool:
        """Whether another one would hardly tell more."""
        at = self._in_vain.get((user_id, voice_id))
        return at is not None and self.clock.now() - at < _REMEMBERED_FOR
