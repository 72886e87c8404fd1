"""Another tier, or other seats."""

from __future__ import annotations

from dataclasses import dataclass

from services.billing.domain.errors import SubscriptionNotPaid
from services.billing.domain.ports import NewUnitOfWork, UnitOfWork
from services.billing.domain.subscription import Subscription
from shared.clock import Clock
from shared.events.subscription import SubscriptionChanged
from shared.ids import UserId


@dataclass(frozen=True, slots=True)
class ChangeSubscription:
    """The user's own choice, in effect at once.

    Raises UnknownTier or OneSeatOnly, and SubscriptionNotPaid when it costs more than before,
    unless `unpaid_changes` (a sandbox) lets everything through.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock
    unpaid_changes: bool

    async def __call__(self, user_id: UserId, tier_name: str, seats: int | None) -> Subscription:
        async with self.unit_of_work() as work:
            present = await work.subscriptions.hold(user_id)
            wanted = present.changed_to(tier_name, seats, self.clock.now())
            if wanted.costs_more_than(present) and not self.unpaid_changes:
                raise SubscriptionNotPaid(
                    wanted.tier_name, wanted.seats, wanted.price_microusd_per_month
                )
            await _keep(work, present, wanted, by=user_id)
        return wanted


@dataclass(frozen=True, slots=True)
class GrantSubscription:
    """The billing team gives a user a tier, paid for or not. Raises UnknownTier or OneSeatOnly."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(
        self, user_id: UserId, tier_name: str, seats: int | None, *, by: UserId
    ) -> Subscription:
        async with self.unit_of_work() as work:
            present = await work.subscriptions.hold(user_id)
            granted = present.changed_to(tier_name, seats, self.clock.now())
            await _keep(work, present, granted, by=by)
        return granted


async def _keep(work: UnitOfWork, before: Subscription, after: Subscription, *, by: UserId) -> None:
    if after == before:
        return
    await work.subscriptions.save(after, by=by)
    event = SubscriptionChanged(
        user_id=after.user_id,
        tier_name=after.tier_name,
        seats=after.seats,
        revision=after.revision,
    )
    work.publish(event, subject=after.user_id, tier=after.tier_name)
