"""No more from the end of the period on; and thinking better of it."""

from __future__ import annotations

from dataclasses import dataclass

from services.billing.actions._keep_subscription import keep_step, take_up
from services.billing.actions.show_organisation_subscription import ensure_may_decide
from services.billing.domain.billing_cycle import Rules, cancelled, resumed
from services.billing.domain.ports import NewUnitOfWork, Organisations
from services.billing.domain.subscription import Holder, Subscription
from shared.clock import Clock
from shared.ids import UserId


@dataclass(frozen=True, slots=True)
class CancelSubscription:
    """What is paid for holds until the period ends."""

    unit_of_work: NewUnitOfWork
    clock: Clock
    organisations: Organisations
    rules: Rules

    async def __call__(self, holder: Holder, *, by: UserId) -> Subscription:
        """Raises NothingToCancel, and what `ensure_may_decide` raises."""
        await ensure_may_decide(self.organisations, holder, by)
        now = self.clock.now()
        async with self.unit_of_work() as work:
            present, _prices = await take_up(work, holder, now, self.rules)
            step = cancelled(present, now)
            await keep_step(work, present, step, by=by)
        return step.subscription


@dataclass(frozen=True, slots=True)
class ResumeSubscription:
    """Take a cancellation back before it takes effect."""

    unit_of_work: NewUnitOfWork
    clock: Clock
    organisations: Organisations
    rules: Rules

    async def __call__(self, holder: Holder, *, by: UserId) -> Subscription:
        """Raises NothingToResume, and what `ensure_may_decide` raises."""
        await ensure_may_decide(self.organisations, holder, by)
        now = self.clock.now()
        async with self.unit_of_work() as work:
            present, _prices = await take_up(work, holder, now, self.rules)
            step = resumed(present, now)
            await keep_step(work, present, step, by=by)
        return step.subscription
