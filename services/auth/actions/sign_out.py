"""End the sign-in that asks, or all of its user."""

from __future__ import annotations

from datetime import datetime

from services.auth.domain.audit import AuditEntry
from services.auth.domain.origin import NOWHERE, Origin
from services.auth.domain.ports import NewUnitOfWork, UnitOfWork
from services.auth.domain.sign_in import EndReason, SignInId
from shared.clock import Clock
from shared.errors import SessionEnded
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class SignOut:
    """End a sign-in: its refresh token is dead at once, its access token when it expires."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(
        self,
        sign_in_id: SignInId,
        *,
        of: UserId,
        everywhere: bool,
        origin: Origin = NOWHERE,
    ) -> None:
        """Raises SessionEnded where one that is over wants to end the others: whoever holds the
        token of a stolen device may not sign its owner out."""
        now, reason = self.clock.now(), EndReason.SIGNED_OUT
        async with self.unit_of_work() as work:
            if everywhere:
                await self._refuse_ended(work, sign_in_id, now)
                ended = await work.sign_ins.end_all_of(of, reason, now)
            else:
                ended = await work.sign_ins.end(sign_in_id, reason, now)
            # Whoever signs out twice leaves one entry.
            if ended:
                entry = AuditEntry.of_user(
                    "sign_in.ended",
                    of,
                    now,
                    origin,
                    sign_in_id=str(sign_in_id),
                    reason=reason.value,
                    everywhere=everywhere,
                )
                await work.audit.note(entry)

    async def _refuse_ended(self, work: UnitOfWork, sign_in_id: SignInId, now: datetime) -> None:
        # Asked of the database: nobody should need Valkey to sign out.
        asking = await work.sign_ins.get(sign_in_id)
        if asking is None or not asking.is_live(now):
            raise SessionEnded
