"""Note who of the billing team looks at whose data, and show the notes."""

from __future__ import annotations

from collections.abc import Sequence

from services.billing.actions.show_organisation_subscription import ensure_may_read
from services.billing.domain.ports import NewUnitOfWork, Organisations
from services.billing.domain.staff_look import StaffLook, StaffLookId
from services.billing.domain.subscription import Holder
from shared.clock import Clock
from shared.ids import UserId, uuid7
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class NoteStaffLook:
    """Before anything is answered: what can't be noted is not shown."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(
        self, holder: UserId, *, by: UserId, call: str, reason: str | None = None
    ) -> None:
        look = StaffLook(StaffLookId(uuid7()), self.clock.now(), by, holder, call, reason)
        async with self.unit_of_work() as work:
            await work.looks.add(look)


@dataclass(frozen=True, slots=True)
class ListStaffLooks:
    """For the billing team, and for whom they are about."""

    unit_of_work: NewUnitOfWork
    organisations: Organisations

    async def __call__(
        self, holder: Holder, *, by: UserId, before: StaffLookId | None, most: int
    ) -> Sequence[StaffLook]:
        """Raises what `ensure_may_read` raises."""
        await ensure_may_read(self.unit_of_work, self.organisations, holder, by)
        return await self.all(holder=holder.id, by=None, before=before, most=most)

    async def all(
        self,
        *,
        holder: UserId | None,
        by: UserId | None,
        before: StaffLookId | None,
        most: int,
    ) -> Sequence[StaffLook]:
        """Anybody's, for the billing team."""
        async with self.unit_of_work() as work:
            return await work.looks.page(holder=holder, by=by, before=before, most=most)
