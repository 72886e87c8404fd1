"""The news that a key is gone, as it travels from a worker to the replicas that may use it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from shared.ids import UserId


class KeyUser(Protocol):
    """What runs on a user's key: a turn of chat, a speech of voice."""

    @property
    def user_id(self) -> UserId: ...
    @property
    def provider(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...


@dataclass(frozen=True, slots=True)
class Revocation:
    """A user's key at one vendor was withdrawn."""

    user_id: UserId
    provider: str
    at: datetime

    def ends(self, running: KeyUser) -> bool:
        """Whether it runs on that key. What began later runs on the key's successor."""
        return (
            running.user_id == self.user_id
            and running.provider == self.provider
            and running.created_at <= self.at
        )
