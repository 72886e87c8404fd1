"""Remove an authenticator."""

from __future__ import annotations

from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import AccountGone, TotpNotActive
from services.auth.domain.mail import Mail, MailKind
from services.auth.domain.mailed_proof import OPEN_THE_ACCOUNT
from services.auth.domain.origin import Origin
from services.auth.domain.ports import NewUnitOfWork
from services.auth.domain.sign_in import EndReason, SignInId
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class RemoveTotp:
    """Remove the authenticator and its recovery codes, end the other sign-ins, tell the owner."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, user_id: UserId, *, keep: SignInId, origin: Origin) -> None:
        """Raises TotpNotActive or AccountGone."""
        now = self.clock.now()
        async with self.unit_of_work() as work:
            user = await work.users.hold(user_id)
            if user is None:
                raise AccountGone
            if not await work.second_factors.remove(user_id):
                raise TotpNotActive
            await work.sign_ins.end_all_of(user_id, EndReason.SECOND_FACTOR_CHANGED, now, but=keep)
            await work.mailed_proofs.void(user_id, OPEN_THE_ACCOUNT, now)
            await work.audit.note(AuditEntry.of_user("second_factor.removed", user_id, now, origin))
            await work.mails.add(Mail.about(MailKind.FACTOR_REMOVED, user, now, origin), to=user)
