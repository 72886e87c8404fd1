"""An organisation's tier and seats."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from services.billing.actions.change_subscription import ensure_paid, keep
from services.billing.actions.show_organisation_subscription import ensure_may_buy
from services.billing.domain.ports import NewUnitOfWork, Organisations
from services.billing.domain.subscription import Subscription
from shared.clock import Clock
from shared.ids import UserId


@dataclass(frozen=True, slots=True)
class ChangeOrganisationSubscription:
    """Choose another tier or other seats for an organisation, in effect at once.

    Whoever has a seat there has the tier; auth decides who loses theirs when there are fewer.
    """

    unit_of_work: NewUnitOfWork
    organisations: Organisations
    clock: Clock
    unpaid_changes: bool

    async def __call__(
        self, organisation_id: UUID, tier_name: str, seats: int | None, *, by: UserId
    ) -> Subscription:
        """Raises SubscriptionNotFound, OrganisationBillingRequired, DependencyUnavailable,
        UnknownTier, OneSeatOnly or SubscriptionNotPaid."""
        await ensure_may_buy(self.organisations, organisation_id, by)
        async with self.unit_of_work() as work:
            present = await work.subscriptions.hold(UserId(organisation_id), is_organisation=True)
            wanted = present.changed_to(tier_name, seats, self.clock.now())
            if not self.unpaid_changes:
                ensure_paid(present, wanted)
            await keep(work, present, wanted, by=by)
        return wanted
