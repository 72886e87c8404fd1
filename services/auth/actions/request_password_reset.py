"""Ask for a new password."""

from __future__ import annotations

from services.auth.actions.limit_asking import LimitAsking
from services.auth.domain.audit import AuditEntry
from services.auth.domain.mail import Mail, MailKind
from services.auth.domain.origin import Origin
from services.auth.domain.ports import NewUnitOfWork
from services.auth.domain.user import EmailAddress
from shared.clock import Clock
from shared.ids import uuid7
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class RequestPasswordReset:
    """Note the wish. Whose address it is, if anybody's, is looked up when the mail is sent: so the
    answer takes as long and says as much for an address that nobody has."""

    unit_of_work: NewUnitOfWork
    limit: LimitAsking
    clock: Clock

    async def __call__(self, email: str, origin: Origin) -> None:
        """Raises InvalidEmail, TooManyAttempts or UnknownClientAddress."""
        address, now = EmailAddress.parse(email), self.clock.now()
        async with self.unit_of_work() as work:
            await self.limit(work, origin)
            mail = Mail.make(MailKind.RESET_PASSWORD, address, now, network=origin.network)
            await work.mails.add(mail)
            # Of nobody: the trail must not need a look-up either, and holds no addresses.
            await work.audit.note(
                AuditEntry(
                    id=uuid7(),
                    at=now,
                    action="password.reset_requested",
                    user_id=None,
                    actor_id=None,
                    origin=origin,
                )
            )
