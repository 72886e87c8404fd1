"""What is left of a user's limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.billing.actions.show_subscription import ShowSubscription
from services.billing.domain.limits import LimitStanding, rules_of
from services.billing.domain.ports import LimitCounters
from shared.clock import Clock
from shared.ids import UserId


@dataclass(frozen=True, slots=True)
class ShowLimits:
    """Every window of the tier that the user has now, whatever their token still says."""

    show_subscription: ShowSubscription
    counters: LimitCounters
    clock: Clock

    async def __call__(self, user_id: UserId) -> Sequence[LimitStanding]:
        subscription = await self.show_subscription(user_id)
        return await self.counters.standing(user_id, rules_of(subscription.tier), self.clock.now())
