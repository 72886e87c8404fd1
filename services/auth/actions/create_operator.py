"""Open an account for somebody who runs this installation."""

from __future__ import annotations

from services.auth.actions.register import Register
from services.auth.domain.audit import AuditEntry
from services.auth.domain.password import Password
from services.auth.domain.user import Role, User
from shared.ids import uuid7
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class CreateOperator:
    """Open an account with a role, from the console of the installation; no HTTP door leads here.

    async with wire(settings) as wired:
        await wired.actions.create_operator(
            email="ada@example.com", username="ada", password=Password(typed), role=Role.OPERATOR
        )
    """

    register: Register

    async def __call__(self, *, email: str, username: str, password: Password, role: Role) -> User:
        """Raises UsernameTaken, AddressTaken, InvalidEmail, InvalidUsername or PasswordRefused."""
        user = (await self.register.draft(email, username, password)).as_staff(role)
        facts = {"role": role.value}
        entry = AuditEntry(uuid7(), user.created_at, "operator.created", user.id, None, facts=facts)
        await self.register.open(user, entry)
        return user
