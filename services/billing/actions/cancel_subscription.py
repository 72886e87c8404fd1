"""No more from the end of the period on; and thinking better of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from services.billing.actions._keep_subscription import keep_step, take_up
from services.billing.actions.show_organisation_subscription import ensure_may_decide
from services.billing.domain.billing_cycle import Rules, Step, cancelled, resumed
from services.billing.domain.ports import NewUnitOfWork, Organisations
from services.billing.domain.subscription import Holder, Subscription
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class _Decide:
    unit_of_work: NewUnitOfWork
    clock: Clock
    organisations: Organisations
    rules: Rules

    async def _decided(
        self, holder: Holder, by: UserId, step_of: Callable[[Subscription, datetime], Step]
    ) -> Subscription:
        await ensure_may_decide(self.organisations, holder, by)
        now = self.clock.now()
        async with self.unit_of_work() as work:
            present, _prices = await take_up(work, holder, now, self.rules)
            step = step_of(present, now)
            await keep_step(work, present, step, by=by)
        return step.subscription


class CancelSubscription(_Decide):
    """What is paid for holds until the period ends."""

    __slots__ = ()

    async def __call__(self, holder: Holder, *, by: UserId) -> Subscription:
        """Raises NothingToCancel, and what `ensure_may_decide` raises."""
        return await self._decided(holder, by, cancelled)


class ResumeSubscription(_Decide):
    """Take a cancellation back before it takes effect."""

    __slots__ = ()

    async def __call__(self, holder: Holder, *, by: UserId) -> Subscription:
        """Raises NothingToResume, and what `ensure_may_decide` raises."""
        return await self._decided(holder, by, resumed)
