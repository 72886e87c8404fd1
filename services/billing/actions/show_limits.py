"""What is left of a user's limits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.billing.actions.show_subscription import ShowSubscription
from services.billing.domain.limits import CHARACTERS, SPENDING, LimitStanding
from services.billing.domain.period import Period
from services.billing.domain.ports import LimitCounters, NewUnitOfWork
from services.billing.domain.usage_report import Dimension, Group
from shared.clock import Clock
from shared.ids import UserId
from shared.limits.tier_windows import tier_windows, vendor_of
from shared.limits.windows import Window, month_window
from shared.tiers import Tier, tier_named
from shared.values import dataclass

_VOICE = (Dimension.OPERATION, "voice")


@dataclass(frozen=True, slots=True)
class ShowLimits:
    """Every window of the tier that requests are admitted by now.

    That is what auth told lately, else what the token says: both know of an organisation's seat,
    which billing does not. What was bought a moment ago counts before auth has heard of it. The
    month's money is counted for users with a cap alone, its characters once a speech was admitted
    by them: until then the ledger tells both.
    """

    show_subscription: ShowSubscription
    counters: LimitCounters
    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, user_id: UserId, *, claimed: Tier) -> Sequence[LimitStanding]:
        now = self.clock.now()
        subscription = await self.show_subscription(user_id)
        told_tier = await self.counters.told_tier(user_id)
        admitted = tier_named(told_tier) if told_tier is not None else claimed
        tier = max(subscription.tier, admitted, key=lambda tier: tier.rank)
        standings = await self.counters.standing(user_id, tier, now)
        counted = {standing.name for standing in standings}
        told = [
            await self._spoken(user_id, window)
            for window in tier_windows(tier, now)
            if window.name.endswith(CHARACTERS) and window.name not in counted
        ]
        if SPENDING not in counted:
            told.append(await self._spent(user_id, now))
        return [*standings, *told]

    async def _spoken(self, user_id: UserId, window: Window) -> LimitStanding:
        """From where voice would count on: what was reported from elsewhere is not its."""
        groups = await self._sums(user_id, window, Dimension.OPERATION)
        spoken = sum(group.sums.characters for group in groups if _VOICE in group.keys)
        return LimitStanding(window.name, vendor_of(window), window.limit, spoken, window.ends_at)

    async def _spent(self, user_id: UserId, now: datetime) -> LimitStanding:
        month = month_window(SPENDING, 0, now)
        groups = await self._sums(user_id, month)
        spent = sum(group.sums.known_cost for group in groups)
        return LimitStanding(SPENDING, None, None, spent, month.ends_at)

    async def _sums(
        self, user_id: UserId, window: Window, *dimensions: Dimension
    ) -> Sequence[Group]:
        period = Period(window.starts_at, window.ends_at)
        async with self.unit_of_work() as work:
            return await work.ledger.report(user_id, period, dimensions, sandbox=None)
