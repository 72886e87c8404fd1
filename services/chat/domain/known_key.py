"""What chat has been told about a user's key at a vendor."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from shared.ids import UserId
from shared.values import dataclass

_USABLE = frozenset({"valid", "limited"})


@dataclass(frozen=True, slots=True)
class KnownKey:
    """The vendor's last word on a key, as keyvault passed it on. An organisation's has the
    organisation's id in place of a user's."""

    user_id: UserId
    provider: str
    key_version: int
    status: str
    models: Sequence[str] = ()

    @property
    def usable(self) -> bool:
        return self.status in _USABLE


@dataclass(frozen=True, slots=True)
class RevokedKey:
    """A key that is gone, up to and including a version; `user_id` as in KnownKey."""

    user_id: UserId
    provider: str
    key_version: int
    at: datetime
