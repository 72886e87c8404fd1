"""Tell users what they have spent in a month, at thresholds of their own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from services.billing.actions._look_back import looks_since
from services.billing.domain.ports import NewUnitOfWork, UnitOfWork
from shared.clock import Clock
from shared.events.spend import SpendReached
from shared.ids import UserId
from shared.limits.windows import Window, month_window
from shared.values import dataclass

# Usage of a month that is over may come some days after it.
_LATE = timedelta(days=3)
_CLOCKS_DIFFER = timedelta(minutes=1)
_KEEP = timedelta(days=62)


@dataclass(frozen=True, slots=True)
class TellSpending:
    """Publish `spend.reached`, by what the vendors charge for the month according to the ledger:
    once per month and threshold."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self) -> int:
        """Answers how many were told."""
        now = self.clock.now()
        async with self.unit_of_work() as work:
            since = await looks_since(work, now)
            told = [await self._tell(work, month, since, now) for month in _months(now)]
            await work.spending.forget(before=(now - _KEEP).date())
        return sum(told)

    async def _tell(self, work: UnitOfWork, month: Window, since: datetime, now: datetime) -> int:
        found = await work.spending.reached(
            (month.starts_at, month.ends_at), since=since, until=now + _CLOCKS_DIFFER
        )
        for one in found:
            event = SpendReached(
                user_id=one.user_id,
                month=f"{one.month:%Y-%m}",
                threshold_microusd=one.threshold,
                spent_microusd=one.spent,
                resets_at=month.ends_at,
            )
            work.publish(event, subject=one.user_id, tier=one.tier)
            await work.webhooks.tell(
                one.user_id,
                event.type,
                event.model_dump(mode="json"),
                effect_key=f"spend/{one.user_id}/{event.month}/{one.threshold}",
            )
        return len(found)


def _months(now: datetime) -> list[Window]:
    """The month, and in its first days the one before: what was used at its end comes now."""
    before, present = (month_window("", 0, at) for at in (now - _LATE, now))
    return [present] if before == present else [before, present]


@dataclass(frozen=True, slots=True)
class ChooseAlerts:
    """At which spending in a month a user is told."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, user_id: UserId, thresholds: Sequence[int]) -> Sequence[int]:
        async with self.unit_of_work() as work:
            await work.spending.set_thresholds(user_id, thresholds, self.clock.now())
            return await work.spending.thresholds(user_id)

    async def show(self, user_id: UserId) -> Sequence[int]:
        async with self.unit_of_work() as work:
            return await work.spending.thresholds(user_id)
