"""Show users whether they have a second factor."""

from __future__ import annotations

from datetime import datetime

from services.auth.domain.ports import NewUnitOfWork
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class SecondFactorState:
    """Since when an authenticator is active, if one is, and how many recovery codes are good."""

    confirmed_at: datetime | None
    recovery_codes_left: int


@dataclass(frozen=True, slots=True)
class ShowSecondFactor:
    """The state of a user's second factor, and nothing that could be used as one."""

    unit_of_work: NewUnitOfWork

    async def __call__(self, user_id: UserId) -> SecondFactorState:
        async with self.unit_of_work() as work:
            return SecondFactorState(
                await work.second_factors.active_since(user_id),
                await work.second_factors.recovery_codes_left(user_id),
            )
