"""What is left of a user's limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.billing.actions.show_subscription import ShowSubscription
from services.billing.domain.limits import SPENDING, LimitStanding
from services.billing.domain.period import Period
from services.billing.domain.ports import LimitCounters, NewUnitOfWork
from shared.clock import Clock
from shared.ids import UserId
from shared.limits.windows import month_window
from shared.tiers import Tier, tier_named


@dataclass(frozen=True, slots=True)
class ShowLimits:
    """Every window of the tier that requests are admitted by now.

    That is what auth told lately, else what the token says: both know of an organisation's seat,
    which billing does not. What was bought a moment ago counts before auth has heard of it. The
    month's money is counted for users with a cap alone; for the others the ledger tells it.
    """

    show_subscription: ShowSubscription
    counters: LimitCounters
    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, user_id: UserId, *, claimed: Tier) -> Sequence[LimitStanding]:
        now = self.clock.now()
        subscription = await self.show_subscription(user_id)
        told = await self.counters.told_tier(user_id)
        admitted = tier_named(told) if told is not None else claimed
        tier = max(subscription.tier, admitted, key=lambda tier: tier.rank)
        standings = await self.counters.standing(user_id, tier, now)
        if any(standing.name == SPENDING for standing in standings):
            return standings
        return [*standings, await self._spent(user_id, now)]

    async def _spent(self, user_id: UserId, now: datetime) -> LimitStanding:
        month = month_window(SPENDING, 0, now)
        async with self.unit_of_work() as work:
            groups = await work.ledger.report(
                user_id, Period(month.starts_at, month.ends_at), (), sandbox=None
            )
        spent = sum(group.sums.known_cost for group in groups)
        return LimitStanding(SPENDING, None, None, spent, month.ends_at)
