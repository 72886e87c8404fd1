"""What somebody owes, or has paid ahead."""

from __future__ import annotations

from services.billing.actions.show_organisation_subscription import ensure_may_read
from services.billing.domain.balance import Balance, balance_of
from services.billing.domain.ports import NewUnitOfWork, Organisations
from services.billing.domain.subscription import Holder
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ShowBalance:
    """For those who decide what is bought, and for the billing team."""

    unit_of_work: NewUnitOfWork
    organisations: Organisations

    async def __call__(self, holder: Holder, *, by: UserId) -> Balance:
        """Raises what `ensure_may_read` raises."""
        await ensure_may_read(self.unit_of_work, self.organisations, holder, by)
        return await self.of(holder.id)

    async def of(self, holder_id: UserId) -> Balance:
        """Anybody's, for the billing team."""
        async with self.unit_of_work() as work:
            return balance_of(await work.accounts.of(holder_id))
