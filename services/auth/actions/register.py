"""Open an account."""

from __future__ import annotations

from dataclasses import dataclass

from services.auth.domain.password import Password, check_strength
from services.auth.domain.ports import NewUnitOfWork, Passwords
from services.auth.domain.user import EmailAddress, User, Username
from shared.clock import Clock
from shared.events.user import UserRegistered


@dataclass(frozen=True, slots=True)
class Register:
    """Open an account of the smallest tier and tell the other services."""

    unit_of_work: NewUnitOfWork
    passwords: Passwords
    clock: Clock

    async def __call__(self, *, email: str, username: str, password: Password) -> User:
        """Raises AccountExists, InvalidEmail, InvalidUsername, PasswordRefused or PasswordsBusy."""
        user = await self.draft(email, username, password)
        await self.open(user)
        return user

    async def draft(self, email: str, username: str, password: Password) -> User:
        """The account as it would be, checked."""
        address, name = EmailAddress.parse(email), Username.parse(username)
        check_strength(password, email_local_part=address.local_part, username=name.text)
        # Hashed before anything is looked up: a taken name must not answer faster.
        hash_ = await self.passwords.hash(password)
        return User.registered(address, name, hash_, self.clock.now())

    async def open(self, user: User) -> None:
        """Keep the account and say that it exists."""
        async with self.unit_of_work() as work:
            await work.users.add(user)
            work.publish(UserRegistered(user_id=user.id), subject=user.id, tier=user.tier)
