"""Sell nothing any more to organisations that are gone."""

from __future__ import annotations

from collections.abc import Iterable

from services.billing.actions._keep_subscription import keep_step, take_up
from services.billing.domain.billing_cycle import Rules, granted
from services.billing.domain.ports import NewUnitOfWork, UnitOfWork
from shared.clock import Clock
from shared.ids import UserId
from shared.tiers import DEFAULT_TIER
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Dissolved:
    """An organisation that is gone, who dissolved it, and who decided about its subscription."""

    organisation_id: UserId
    by: UserId
    decided: tuple[UserId, ...] = ()


@dataclass(frozen=True, slots=True)
class EndOrganisationSubscriptions:
    """Let their subscriptions end like any other, so that a month is charged up to this day. What
    is paid for them later is an unused payment. Who decided there until then still reads the
    books."""

    unit_of_work: NewUnitOfWork
    clock: Clock
    rules: Rules = Rules()

    async def __call__(self, deleted: Iterable[Dissolved]) -> None:
        for one in deleted:
            async with self.unit_of_work() as work:
                await work.webhooks.forget(one.organisation_id)
                await self._end(work, one.organisation_id, one.by)
                await work.details.forget(one.organisation_id, self.clock.now())
                # A release of auth before this one names nobody but who dissolved it.
                deciding = list({one.by, *one.decided})
                gone = await work.forgotten.among(deciding)
                readers = [user_id for user_id in deciding if user_id not in gone]
                await work.subscriptions.add_readers(one.organisation_id, readers)

    async def _end(self, work: UnitOfWork, organisation_id: UserId, by: UserId) -> None:
        found = await work.subscriptions.get(organisation_id)
        if found is None or not found.is_organisation:
            return
        now = self.clock.now()
        present, _prices = await take_up(work, found.holder, now, self.rules)
        ended = granted(present, DEFAULT_TIER.name, 1, now)
        await keep_step(work, present, ended, by=by)
        await work.subscriptions.dissolve(organisation_id, now)
