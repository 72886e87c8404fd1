"""Which audio formats the users' plans at the vendor turned out not to make."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import field
from datetime import datetime, timedelta

from services.voice.domain.audio_format import AudioFormat
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass

_REMEMBERED_FOR = timedelta(minutes=30)  # a plan may be changed at any time
_MOST = 20_000


@dataclass(frozen=True, slots=True)
class FormatsInPlan:
    """Remembers what was given in the place of what, so that only one speech has to find out."""

    clock: Clock
    _given: OrderedDict[tuple[UserId, AudioFormat], tuple[datetime, AudioFormat]] = field(
        default_factory=OrderedDict
    )

    def known(self, user_id: UserId, wished: AudioFormat) -> AudioFormat:
        """What to ask for where a user wishes that format."""
        at, given = self._given.get((user_id, wished), (None, wished))
        return given if at is not None and self.clock.now() - at < _REMEMBERED_FOR else wished

    def remember(self, user_id: UserId, wished: AudioFormat, given: AudioFormat) -> None:
        """That format came, and not the one that was wished for; or it did come. What is known
        already is not known for longer by it: the plan is looked at again in time."""
        if given != wished and given == self.known(user_id, wished):
            return
        self._given.pop((user_id, wished), None)
        if given != wished:
            self._given[user_id, wished] = (self.clock.now(), given)
            if len(self._given) > _MOST:
                self._given.popitem(last=False)
