"""The payment provider's page for who pays."""

from __future__ import annotations

from services.billing.actions.show_organisation_subscription import ensure_may_decide
from services.billing.domain.errors import NoPortal
from services.billing.domain.ports import NewUnitOfWork, Organisations, Payments
from services.billing.domain.subscription import Holder
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class OpenPortal:
    """Where to change a card and see receipts."""

    unit_of_work: NewUnitOfWork
    organisations: Organisations
    payments: Payments

    async def __call__(self, holder: Holder, *, by: UserId) -> str:
        """Raises NoPortal, PaymentsUnavailable, and what `ensure_may_decide` raises."""
        await ensure_may_decide(self.organisations, holder, by)
        async with self.unit_of_work() as work:
            payer = await work.payments.payer(holder.id)
        if payer is None or payer.provider != self.payments.name:
            raise NoPortal
        return await self.payments.portal(payer)
