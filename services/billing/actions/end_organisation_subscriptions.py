"""Sell nothing any more to organisations that are gone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from services.billing.actions._keep_subscription import keep_step
from services.billing.domain.billing_cycle import granted
from services.billing.domain.ports import NewUnitOfWork, UnitOfWork
from shared.clock import Clock
from shared.ids import UserId
from shared.tiers import DEFAULT_TIER


@dataclass(frozen=True, slots=True)
class EndOrganisationSubscriptions:
    """Let their subscriptions end like any other, so that a month is charged up to this day. What
    is paid for them later is an unused payment."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, deleted: Iterable[tuple[UUID, UserId]]) -> None:
        """`deleted`: organisations, and who dissolved each."""
        for organisation_id, by in deleted:
            async with self.unit_of_work() as work:
                await work.webhooks.forget(UserId(organisation_id))
                await self._end(work, UserId(organisation_id), by)
                await work.details.forget(UserId(organisation_id), self.clock.now())

    async def _end(self, work: UnitOfWork, organisation_id: UserId, by: UserId) -> None:
        found = await work.subscriptions.get(organisation_id)
        if found is None or not found.is_organisation:
            return
        present = await work.subscriptions.hold(found.user_id, is_organisation=True)
        ended = granted(present, DEFAULT_TIER.name, 1, self.clock.now())
        await keep_step(work, present, ended, by=by)
        await work.subscriptions.dissolve(organisation_id, self.clock.now())
