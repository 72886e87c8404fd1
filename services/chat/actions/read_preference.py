"""Read what a user has chosen for all their turns."""

from __future__ import annotations

from services.chat.domain.ports import NewUnitOfWork
from services.chat.domain.preference import Preference
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ReadPreference:
    """What the user has chosen; nothing, when they never did."""

    unit_of_work: NewUnitOfWork

    async def __call__(self, user_id: UserId) -> Preference:
        async with self.unit_of_work() as work:
            return await work.preferences.of_user(user_id)
