"""End a sign-in on another device."""

from __future__ import annotations

from services.auth.domain.audit import AuditEntry
from services.auth.domain.errors import SignInNotFound
from services.auth.domain.origin import NOWHERE, Origin
from services.auth.domain.ports import NewUnitOfWork
from services.auth.domain.sign_in import EndReason, SignInId
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class EndSignIn:
    """End the sign-in that its owner points at."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, sign_in_id: SignInId, *, by: UserId, origin: Origin = NOWHERE) -> None:
        """Raises SignInNotFound, for another user's and for one that is over too."""
        now = self.clock.now()
        async with self.unit_of_work() as work:
            sign_in = await work.sign_ins.get(sign_in_id)
            if sign_in is None or not sign_in.belongs_to(by) or not sign_in.is_live(now):
                raise SignInNotFound(sign_in_id)
            if await work.sign_ins.end(sign_in_id, EndReason.ENDED_BY_OWNER, now):
                entry = AuditEntry.of_user(
                    "sign_in.ended",
                    by,
                    now,
                    origin,
                    sign_in_id=str(sign_in_id),
                    reason=EndReason.ENDED_BY_OWNER.value,
                )
                await work.audit.note(entry)
