"""Another tier, or other seats."""

from __future__ import annotations

from dataclasses import dataclass

from services.billing.domain.errors import SubscriptionNotFound, SubscriptionNotPaid
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
            if not self.unpaid_changes:
                ensure_paid(present, wanted)
            await keep(work, present, wanted, by=user_id)
        return wanted


@dataclass(frozen=True, slots=True)
class GrantSubscription:
    """The billing team gives a user or an organisation a tier, paid for or not.

    Raises UnknownTier, OneSeatOnly, or SubscriptionNotFound for the id of the other kind.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(
        self,
        holder: UserId,
        tier_name: str,
        seats: int | None,
        *,
        by: UserId,
        is_organisation: bool = False,
    ) -> Subscription:
        async with self.unit_of_work() as work:
            present = await work.subscriptions.hold(holder, is_organisation=is_organisation)
            if present.is_organisation is not is_organisation:
                raise SubscriptionNotFound(holder)
            granted = present.changed_to(tier_name, seats, self.clock.now())
            await keep(work, present, granted, by=by)
        return granted


def ensure_paid(before: Subscription, after: Subscription) -> None:
    """Raises SubscriptionNotPaid when somebody has to pay for this first."""
    if after.costs_more_than(before):
        raise SubscriptionNotPaid(after.tier_name, after.seats, after.price_microusd_per_month)


async def keep(work: UnitOfWork, before: Subscription, after: Subscription, *, by: UserId) -> None:
    """Write a change down and tell it; nothing when there is none."""
    if after == before:
        return
    await work.subscriptions.save(after, by=by)
    event = SubscriptionChanged(
        user_id=by if after.is_organisation else after.user_id,
        tier_name=after.tier_name,
        seats=after.seats,
        revision=after.revision,
        organisation_id=after.organisation_id,
    )
    work.publish(event, subject=after.user_id, tier=after.tier_name)
