"""Whom invoices are made out to, as their payer tells it."""

from __future__ import annotations

from services.billing.actions.show_organisation_subscription import ensure_may_decide
from services.billing.domain.billing_details import BillingDetails
from services.billing.domain.errors import BillingDetailsNotFound
from services.billing.domain.ports import NewUnitOfWork, Organisations
from services.billing.domain.subscription import Holder
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ShowBillingDetails:
    """For those who decide what is bought."""

    unit_of_work: NewUnitOfWork
    organisations: Organisations

    async def __call__(self, holder: Holder, *, by: UserId) -> BillingDetails:
        """Raises BillingDetailsNotFound and what `ensure_may_decide` raises."""
        await ensure_may_decide(self.organisations, holder, by)
        async with self.unit_of_work() as work:
            details = await work.details.of(holder.id)
        if details is None:
            raise BillingDetailsNotFound
        return details


@dataclass(frozen=True, slots=True)
class KeepBillingDetails:
    """For invoices from now on; those that were issued stay as they are."""

    unit_of_work: NewUnitOfWork
    organisations: Organisations
    clock: Clock

    async def __call__(self, holder: Holder, details: BillingDetails, *, by: UserId) -> None:
        """Raises what `ensure_may_decide` raises."""
        await ensure_may_decide(self.organisations, holder, by)
        async with self.unit_of_work() as work:
            await work.details.keep(holder, details, self.clock.now())
