"""Open an account."""

from __future__ import annotations

from dataclasses import dataclass

from services.auth.domain.audit import AuditEntry
from services.auth.domain.mail import Mail, MailKind
from services.auth.domain.origin import NOWHERE, Origin
from services.auth.domain.password import Password
from services.auth.domain.ports import NewUnitOfWork, PasswordRules, Passwords
from services.auth.domain.user import EmailAddress, User, Username
from shared.clock import Clock
from shared.events.user import UserRegistered


@dataclass(frozen=True, slots=True)
class Register:
    """Open an account of the smallest tier and tell the other services.

    Whether the address is somebody's is not looked at: that is done when the mail is sent, which
    nobody can time. So there is nothing here that could tell it.
    """

    unit_of_work: NewUnitOfWork
    passwords: Passwords
    rules: PasswordRules
    clock: Clock

    async def __call__(
        self, *, email: str, username: str, password: Password, origin: Origin = NOWHERE
    ) -> User:
        """Raises UsernameTaken, InvalidEmail, InvalidUsername, PasswordRefused or PasswordsBusy."""
        user = await self.draft(email, username, password)
        await self.open(
            user, AuditEntry.of_user("account.registered", user.id, user.created_at, origin)
        )
        return user

    async def draft(self, email: str, username: str, password: Password) -> User:
        """The account as it would be, checked."""
        address, name = EmailAddress.parse(email), Username.parse(username)
        await self.rules.check(password, email=address, username=name)
        hash_ = await self.passwords.hash(password)
        return User.registered(address, name, hash_, self.clock.now())

    async def open(self, user: User, entry: AuditEntry) -> None:
        """Keep the account, say that it exists, and have its address confirmed.

        Raises UsernameTaken, or AddressTaken for an operator's.
        """
        async with self.unit_of_work() as work:
            await work.users.add(user)
            if not user.email_verified:
                mail = Mail.with_proof(MailKind.VERIFY_EMAIL, user, user.created_at)
                await work.mails.add(mail, to=user)
            work.publish(UserRegistered(user_id=user.id), subject=user.id, tier=user.tier)
            await work.audit.note(entry)
