"""Ask for another e-mail address."""

from __future__ import annotations

from dataclasses import dataclass

from services.auth.actions.confirm_password import ConfirmPassword
from services.auth.domain.audit import AuditEntry
from services.auth.domain.mail import Mail, MailKind
from services.auth.domain.origin import Origin
from services.auth.domain.password import Password
from services.auth.domain.ports import NewUnitOfWork
from services.auth.domain.user import EmailAddress
from shared.ids import UserId


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
        user = await self.confirm(user_id, password)
        now = self.confirm.clock.now()
        mail = Mail.with_proof(MailKind.CHANGE_EMAIL, user, now, recipient=address)
        async with self.unit_of_work() as work:
            await work.mails.add(mail, to=user)
            await work.audit.note(
                AuditEntry.of_user("email.change_requested", user.id, now, origin)
            )
