"""What was charged for a subscription."""

from __future__ import annotations

from collections.abc import Sequence

from services.billing.actions.show_organisation_subscription import ensure_may_read
from services.billing.domain.charge import Charge, ChargeId
from services.billing.domain.ports import NewUnitOfWork, Organisations
from services.billing.domain.subscription import Holder
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ListCharges:
    """For those who decide about it."""

    unit_of_work: NewUnitOfWork
    organisations: Organisations

    async def __call__(
        self, holder: Holder, *, by: UserId, after: ChargeId | None, most: int
    ) -> Sequence[Charge]:
        """The newest first. Raises what `ensure_may_read` raises."""
        await ensure_may_read(self.unit_of_work, self.organisations, holder, by)
        async with self.unit_of_work() as work:
            return await work.charges.of(holder.id, after=after, most=most)
