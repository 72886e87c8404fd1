"""The news that a key is gone, as it travels from the worker to the replicas."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.voice.domain.speech import Hold
from shared.ids import UserId


@dataclass(frozen=True, slots=True)
class Revocation:
    """A user's key at one vendor was withdrawn."""

    user_id: UserId
    provider: str
    at: datetime

    def ends(self, hold: Hold) -> bool:
        """Whether the speech runs on that key. One that began later runs on its successor."""
        return (
            hold.user_id == self.user_id
            and hold.provider == self.provider
            and hold.created_at <= self.at
        )
