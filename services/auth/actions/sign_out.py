"""End the sign-in that asks, or all of its user."""

from __future__ import annotations

from dataclasses import dataclass

from services.auth.domain.ports import NewUnitOfWork
from services.auth.domain.sign_in import EndReason, SignInId
from shared.clock import Clock
from shared.ids import UserId


@dataclass(frozen=True, slots=True)
class SignOut:
    """End a sign-in: its refresh token is dead at once, its access token when it expires."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, sign_in_id: SignInId, *, of: UserId, everywhere: bool) -> None:
        now = self.clock.now()
        async with self.unit_of_work() as work:
            if everywhere:
                await work.sign_ins.end_all_of(of, EndReason.SIGNED_OUT, now)
            else:
                await work.sign_ins.end(sign_in_id, EndReason.SIGNED_OUT, now)
