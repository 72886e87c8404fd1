"""What is left of a user's limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.billing.actions.show_subscription import ShowSubscription
from services.billing.domain.limits import LimitStanding, rules_of
from services.billing.domain.ports import LimitCounters
from shared.clock import Clock
from shared.ids import UserId
from shared.tiers import Tier, tier_named


@dataclass(frozen=True, slots=True)
class ShowLimits:
    """Every window of the tier that requests are admitted by now.

    That is what auth told lately, else what the token says: both know of an organisation's seat,
    which billing does not. What was bought a moment ago counts before auth has heard of it.
    """

    show_subscription: ShowSubscription
    counters: LimitCounters
    clock: Clock

    async def __call__(self, user_id: UserId, *, claimed: Tier) -> Sequence[LimitStanding]:
        subscription = await self.show_subscription(user_id)
        told = await self.counters.told_tier(user_id)
        admitted = tier_named(told) if told is not None else claimed
        tier = max(subscription.tier, admitted, key=lambda tier: tier.rank)
        return await self.counters.standing(user_id, rules_of(tier), self.clock.now())
