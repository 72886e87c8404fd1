"""The subscription that an organisation has."""

from __future__ import annotations

from uuid import UUID

from services.billing.domain.errors import OrganisationBillingRequired, SubscriptionNotFound
from services.billing.domain.ports import NewUnitOfWork, Organisations
from services.billing.domain.subscription import Holder, Subscription
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ShowOrganisationSubscription:
    """For those who decide about it."""

    unit_of_work: NewUnitOfWork
    organisations: Organisations

    async def __call__(self, organisation_id: UUID, *, by: UserId) -> Subscription:
        """Raises SubscriptionNotFound, OrganisationBillingRequired or DependencyUnavailable."""
        await ensure_may_buy(self.organisations, organisation_id, by)
        holder = UserId(organisation_id)
        async with self.unit_of_work() as work:
            found = await work.subscriptions.get(holder)
        return found or Subscription.initial(holder, is_organisation=True)


async def ensure_may_buy(
    organisations: Organisations, organisation_id: UUID, user_id: UserId
) -> None:
    """Raises SubscriptionNotFound, OrganisationBillingRequired or DependencyUnavailable."""
    may_buy = await organisations.may_buy(organisation_id, user_id)
    if may_buy is None:
        raise SubscriptionNotFound(organisation_id)
    if not may_buy:
        raise OrganisationBillingRequired


async def ensure_may_decide(organisations: Organisations, holder: Holder, user_id: UserId) -> None:
    """Raises the same, and SubscriptionNotFound for another user's: everybody decides about their
    own."""
    if holder.is_organisation:
        await ensure_may_buy(organisations, holder.id, user_id)
    elif holder.id != user_id:
        raise SubscriptionNotFound(holder.id)


async def ensure_may_read(
    new_work: NewUnitOfWork, organisations: Organisations, holder: Holder, user_id: UserId
) -> None:
    """Raises the same, but lets who decided in an organisation until it was dissolved read its
    books."""
    try:
        await ensure_may_decide(organisations, holder, user_id)
    except SubscriptionNotFound:
        async with new_work() as work:
            if not await work.subscriptions.is_reader(holder.id, user_id):
                raise
