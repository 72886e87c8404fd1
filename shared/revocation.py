"""The news that a key is gone, as it travels from a worker to the replicas that may use it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from shared.ids import UserId

# When it was withdrawn is keyvault's time, when a call began that of its replica.
_CLOCKS_APART = timedelta(seconds=5)


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
    """A key at one vendor was withdrawn: a user's, or an organisation's, whose id then stands for
    a user's."""

    user_id: UserId
    provider: str
    at: datetime

    def ends(self, running: KeyUser, *, served_by: UUID | None = None) -> bool:
        """Whether it runs on that key, or may: which of the two served them, a user's own or their
        organisation's, is known to keyvault alone. What began later runs on the key's successor;
        what began so shortly after that clocks may have it the other way round is ended, too."""
        return (
            self.user_id in (running.user_id, served_by)
            and running.provider == self.provider
            and running.created_at <= self.at + _CLOCKS_APART
        )
