"""Let somebody back in who lost their authenticator and their recovery codes."""

from __future__ import annotations

from dataclasses import dataclass

from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import NoSuchAccount, TotpNotActive
from services.auth.domain.mail import Mail, MailKind
from services.auth.domain.origin import NOWHERE
from services.auth.domain.ports import NewUnitOfWork
from services.auth.domain.sign_in import EndReason
from services.auth.domain.user import LoginName
from shared.clock import Clock
from shared.ids import uuid7


@dataclass(frozen=True, slots=True)
class ResetSecondFactor:
    """Remove a user's second factor from the console; no HTTP door leads here.

    Whoever does it has found out by other means who asks. Every sign-in ends and the owner is told
    by mail, in case that it was somebody else.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, login: str) -> None:
        """Raises NoSuchAccount or TotpNotActive."""
        now = self.clock.now()
        async with self.unit_of_work() as work:
            found = await work.users.named(LoginName.parse(login))
            user = await work.users.hold(found.id) if found else None
            if user is None:
                raise NoSuchAccount
            if not await work.second_factors.remove(user.id):
                raise TotpNotActive
            await work.sign_ins.end_all_of(user.id, EndReason.SECOND_FACTOR_CHANGED, now)
            await work.audit.note(AuditEntry(uuid7(), now, "second_factor.reset", user.id, None))
            mail = Mail.about(MailKind.FACTOR_REMOVED, user, now, NOWHERE)
            await work.mails.add(mail, to=user)
