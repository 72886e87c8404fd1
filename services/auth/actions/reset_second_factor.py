"""Let somebody back in who lost their authenticator and their recovery codes."""

from __future__ import annotations

from services.auth.actions._hold_account import hold_account
from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import TotpNotActive
from services.auth.domain.mail import Mail, MailKind
from services.auth.domain.mailed_proof import OPEN_THE_ACCOUNT
from services.auth.domain.origin import NOWHERE
from services.auth.domain.ports import NewUnitOfWork
from services.auth.domain.sign_in import EndReason
from shared.clock import Clock
from shared.ids import uuid7
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ResetSecondFactor:
    """Remove a user's second factor from the console; no HTTP door leads here.

    Whoever does it has found out by other means who asks. Every sign-in ends and the owner is told
    by mail, in case that it was somebody else.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, login: str) -> None:
        """Raises NoSuchAccount, AddressClaimed or TotpNotActive."""
        now = self.clock.now()
        async with self.unit_of_work() as work:
            user = await hold_account(work, login)
            if not await work.second_factors.remove(user.id):
                raise TotpNotActive
            await work.sign_ins.end_all_of(user.id, EndReason.SECOND_FACTOR_CHANGED, now)
            await work.mailed_proofs.void(user.id, OPEN_THE_ACCOUNT, now)
            await work.audit.note(AuditEntry(uuid7(), now, "second_factor.reset", user.id, None))
            mail = Mail.about(MailKind.FACTOR_REMOVED, user, now, NOWHERE)
            await work.mails.add(mail, to=user)
