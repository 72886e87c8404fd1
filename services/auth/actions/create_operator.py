"""Open an account for somebody who runs this installation."""

from __future__ import annotations

from dataclasses import dataclass

from services.auth.actions.register import Register
from services.auth.domain.password import Password
from services.auth.domain.user import Role, User


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
        """Raises AccountExists, InvalidEmail, InvalidUsername or PasswordRefused."""
        user = (await self.register.draft(email, username, password)).as_staff(role)
        await self.register.open(user)
        return user
