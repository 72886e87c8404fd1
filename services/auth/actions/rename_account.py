"""Give an account another username."""

from __future__ import annotations

from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import AccountGone
from services.auth.domain.origin import NOWHERE, Origin
from services.auth.domain.ports import NewUnitOfWork
from services.auth.domain.user import User, Username
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class RenameAccount:
    """Change the username; the old one is free again at once."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, user_id: UserId, username: str, origin: Origin = NOWHERE) -> User:
        """Raises UsernameTaken, InvalidUsername or AccountGone."""
        name, now = Username.chosen(username), self.clock.now()
        async with self.unit_of_work() as work:
            user = await work.users.hold(user_id)
            if user is None:
                raise AccountGone
            renamed = user.renamed(name, now)
            await work.users.save(renamed)
            await work.audit.note(AuditEntry.of_user("account.renamed", user_id, now, origin))
        return renamed
