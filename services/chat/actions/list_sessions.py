"""The user's sessions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.chat.domain.conversation import ChatSession, SessionId
from services.chat.domain.ports import NewUnitOfWork
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ListSessions:
    """The user's sessions, the one used last first."""

    unit_of_work: NewUnitOfWork

    async def __call__(
        self,
        user_id: UserId,
        *,
        most: int,
        before: tuple[datetime, SessionId] | None,
        provider: str | None = None,
    ) -> Sequence[ChatSession]:
        async with self.unit_of_work() as work:
            return await work.sessions.list(user_id, most=most, before=before, provider=provider)
