"""Show users on which devices they are signed in."""

from __future__ import annotations

from collections.abc import Sequence

from services.auth.domain.ports import NewUnitOfWork
from services.auth.domain.sign_in import SignIn, SignInId
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ListSignIns:
    """The live sign-ins of a user, the newest first, from the one after `before` on."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(
        self, user_id: UserId, *, before: SignInId | None, most: int
    ) -> Sequence[SignIn]:
        async with self.unit_of_work() as work:
            now = self.clock.now()
            return await work.sign_ins.live_of(user_id, now, before=before, most=most)
