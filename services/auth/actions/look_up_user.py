"""Answer other services' questions about a user."""

from __future__ import annotations

from dataclasses import dataclass

from services.auth.domain.errors import UserNotFound
from services.auth.domain.ports import NewUnitOfWork
from services.auth.domain.user import User
from shared.ids import UserId


@dataclass(frozen=True, slots=True)
class LookUpUser:
    """A user by id, for peers."""

    unit_of_work: NewUnitOfWork

    async def __call__(self, user_id: UserId) -> User:
        """Raises UserNotFound."""
        async with self.unit_of_work() as work:
            user = await work.users.get(user_id)
        if user is None:
            raise UserNotFound(user_id)
        return user
