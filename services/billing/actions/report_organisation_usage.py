"""What was spent on an organisation's keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.billing.domain.errors import OrganisationUsageNotFound, UsageAdminRequired
from services.billing.domain.organisation_usage import (
    Key,
    KeyDimension,
    OrganisationUsage,
    ensure_short,
)
from services.billing.domain.period import Period
from services.billing.domain.ports import NewUnitOfWork, Organisations
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ReportOrganisationUsage:
    """Counts and costs of the calls that ran on an organisation's own keys, and of no other.

    For those who decide about these keys. auth is asked each time: whoever lost the role a second
    ago sees nothing more.
    """

    unit_of_work: NewUnitOfWork
    organisations: Organisations
    clock: Clock

    async def __call__(
        self,
        organisation_id: UUID,
        *,
        by: UserId,
        begins: datetime | None,
        ends: datetime | None,
        dimensions: Sequence[KeyDimension],
        sandbox: bool | None,
        after: Sequence[Key] | None,
        most: int,
    ) -> OrganisationUsage:
        """A page after the group of those keys. Raises OrganisationUsageNotFound,
        UsageAdminRequired, BadPeriod, Unavailable."""
        await self._enter(organisation_id, by)
        period = Period.for_report(begins, ends, now=self.clock.now())
        ensure_short(period)
        async with self.unit_of_work() as work:
            spending = await work.key_spending.of(
                organisation_id, period, dimensions, sandbox=sandbox, after=after, most=most
            )
        return OrganisationUsage(period, spending)

    async def _enter(self, organisation_id: UUID, by: UserId) -> None:
        may_manage = await self.organisations.may_manage_keys(organisation_id, by)
        if may_manage is None:
            raise OrganisationUsageNotFound
        if not may_manage:
            raise UsageAdminRequired
