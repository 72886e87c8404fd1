"""Who of the billing team looked at whose data, and by which call: never what they saw."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NewType, Protocol
from uuid import UUID

from shared.ids import UserId
from shared.values import dataclass

StaffLookId = NewType("StaffLookId", UUID)


@dataclass(frozen=True, slots=True)
class StaffLook:
    """One call of one person. `holder`: the user or organisation that it was about."""

    id: StaffLookId
    at: datetime
    by: UserId
    holder: UserId
    call: str
    reason: str | None = None


class StaffLooks(Protocol):
    """The trail: added to, and never changed."""

    async def add(self, look: StaffLook) -> None: ...

    async def page(
        self,
        *,
        holder: UserId | None,
        by: UserId | None,
        before: StaffLookId | None,
        most: int,
    ) -> Sequence[StaffLook]:
        """The newest first, from the one after `before` on."""
        ...
