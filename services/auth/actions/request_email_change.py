"""Ask for another e-mail address."""

from __future__ import annotations

from services.auth.actions._limit_guesses import check_late
from services.auth.actions.confirm_password import ConfirmPassword
from services.auth.domain.attempts import failures_at_password_change
from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import WrongPassword
from services.auth.domain.mail import Mail, MailKind
from services.auth.domain.origin import Origin
from services.auth.domain.password import Password
from services.auth.domain.ports import NewUnitOfWork, UnitOfWork
from services.auth.domain.user import EmailAddress, User
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class RequestEmailChange:
    """Send a proof to the new address, whoever has it; until it is shown nothing changes."""

    unit_of_work: NewUnitOfWork
    confirm: ConfirmPassword

    async def __call__(
        self, user_id: UserId, *, email: str, password: Password, origin: Origin
    ) -> None:
        """Raises InvalidEmail, WrongPassword, TooManyAttempts, PasswordsBusy or AccountGone."""
        address = EmailAddress.parse(email)
        seen = await self.confirm(user_id, password, origin)
        async with self.unit_of_work() as work:
            user = await self._held(work, seen)
            await self._ask(work, user, address, origin)

    async def _held(self, work: UnitOfWork, seen: User) -> User:
        user = await work.users.hold(seen.id)
        if user is None or not user.has_password_of(seen):
            raise WrongPassword
        subject = failures_at_password_change(user.id)
        await check_late(work, subject, self.confirm.limit, self.confirm.clock)
        await work.login_failures.forget(subject)
        return user

    async def _ask(
        self, work: UnitOfWork, user: User, address: EmailAddress, origin: Origin
    ) -> None:
        now = self.confirm.clock.now()
        since = await work.second_factors.active_since(user.id)
        mail = Mail.with_proof(
            MailKind.CHANGE_EMAIL, user, now, recipient=address, factor_since=since
        )
        await work.mails.add(mail, to=user)
        # Whoever has the account must hear of it before it is gone.
        if user.email_verified and user.email != address:
            notice = Mail.about(MailKind.EMAIL_CHANGE_ASKED, user, now, origin)
            await work.mails.add(notice, to=user)
        await work.audit.note(AuditEntry.of_user("email.change_requested", user.id, now, origin))
