"""Show users their account."""

from __future__ import annotations

from services.auth.domain.errors import AccountGone
from services.auth.domain.ports import NewUnitOfWork
from services.auth.domain.user import User
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ShowAccount:
    """The user behind an access token, as they are now."""

    unit_of_work: NewUnitOfWork

    async def __call__(self, user_id: UserId) -> User:
        """Raises AccountGone."""
        async with self.unit_of_work() as work:
            user = await work.users.get(user_id)
        if user is None:
            raise AccountGone
        return user
