"""Open an account."""

from __future__ import annotations

from services.auth.actions.limit_asking import LimitAsking
from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import UsernameTaken
from services.auth.domain.mail import Mail, MailKind
from services.auth.domain.origin import NOWHERE, Origin
from services.auth.domain.password import Password
from services.auth.domain.ports import NewUnitOfWork, PasswordRules, Passwords
from services.auth.domain.user import EmailAddress, LoginName, User, Username
from shared.clock import Clock
from shared.events.user import UserRegistered
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Register:
    """Open an account of the smallest tier and tell the other services.

    Whether the address is somebody's is not looked at: that is done when the mail is sent, which
    nobody can time. So there is nothing here that could tell it.

    Tries count from the first, since each may cost an estimate of its password or tell that a
    username is taken. Accounts count once nothing but the hash is left to do.
    """

    unit_of_work: NewUnitOfWork
    passwords: Passwords
    rules: PasswordRules
    tries: LimitAsking
    accounts: LimitAsking
    clock: Clock

    async def __call__(
        self, *, email: str, username: str, password: Password, origin: Origin
    ) -> User:
        """Raises UsernameTaken, InvalidEmail, InvalidUsername, PasswordRefused, TooManyAttempts,
        UnknownClientAddress or PasswordsBusy."""
        address, name = EmailAddress.parse(email), Username.chosen(username)
        await self._let_try(name, origin)
        await self.rules.check(password, email=address, username=name, origin=origin)
        await self._count_account(origin)
        user = await self._made(address, name, password, origin)
        await self.open(
            user, AuditEntry.of_user("account.registered", user.id, user.created_at, origin)
        )
        return user

    async def draft(self, email: str, username: str, password: Password) -> User:
        """The account as it would be for an operator, checked and not counted."""
        address, name = EmailAddress.parse(email), Username.chosen(username)
        await self.rules.check(password, email=address, username=name, origin=NOWHERE)
        return await self._made(address, name, password, NOWHERE)

    async def _let_try(self, name: Username, origin: Origin) -> None:
        async with self.unit_of_work() as work:
            await self.accounts.check(work, origin)
            await self.tries(work, origin)
            taken = await work.users.named(LoginName(None, name, name.key))
        # Only now, or the try would not be counted.
        if taken is not None:
            raise UsernameTaken

    async def _count_account(self, origin: Origin) -> None:
        self.passwords.refuse_if_full(origin)
        async with self.unit_of_work() as work:
            await self.accounts(work, origin)

    async def _made(
        self, address: EmailAddress, name: Username, password: Password, origin: Origin
    ) -> User:
        hash_ = await self.passwords.hash(password, origin)
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
