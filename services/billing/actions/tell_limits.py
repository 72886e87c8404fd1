"""Tell users that a limit is near, or reached."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from services.billing.actions._look_back import looks_since
from services.billing.domain.limits import Approach, alert_rules
from services.billing.domain.ports import NewUnitOfWork, UnitOfWork
from shared.clock import Clock
from shared.events import Fact
from shared.events.limit import LimitReached, LimitRefused
from shared.ids import UserId
from shared.limits.windows import day_window, month_window
from shared.values import dataclass

_CLOCKS_DIFFER = timedelta(minutes=1)
_KEEP = timedelta(days=62)


@dataclass(frozen=True, slots=True)
class TellLimits:
    """Publish `limit.reached`, and tell webhooks, for who has come to 80 or 100 percent of a day's
    requests or a month's characters, by the ledger: once per window, threshold and limit, which is
    a larger one for who has a larger tier since."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self) -> int:
        """Answers how many were told."""
        now = self.clock.now()
        day, month = day_window("", 0, now), month_window("", 0, now)
        rules = alert_rules((day.starts_at, day.ends_at), (month.starts_at, month.ends_at))
        async with self.unit_of_work() as work:
            since = await looks_since(work, now)
            found = await work.alerts.approached(rules, since=since, until=now + _CLOCKS_DIFFER)
            for one in found:
                await _tell(work, one)
            await work.alerts.forget(before=now - _KEEP)
        return len(found)

    async def refused(self, facts: Sequence[Fact[LimitRefused]]) -> None:
        """Tell those who were refused that they have reached the month's limit, if they were not:
        what is left of it has no room for what they want, and may never be used up."""
        now = self.clock.now()
        async with self.unit_of_work() as work:
            for fact in facts:
                refused = fact.event
                if refused.resets_at <= now:
                    continue
                one = Approach(
                    UserId(refused.user_id),
                    fact.tier,
                    refused.window,
                    100,
                    refused.limit,
                    refused.used,
                    refused.resets_at,
                )
                within = month_window("", 0, refused.resets_at - timedelta(microseconds=1))
                if await work.alerts.note_reached(one, within.starts_at):
                    await _tell(work, one, refused=True)


async def _tell(work: UnitOfWork, one: Approach, *, refused: bool = False) -> None:
    event = LimitReached(
        user_id=one.user_id,
        window=one.window,
        percent=one.percent,
        limit=one.limit,
        used=one.used,
        resets_at=one.resets_at,
        refused=refused,
    )
    work.publish(event, subject=one.user_id, tier=one.tier)
    await work.webhooks.tell(
        one.user_id,
        event.type,
        event.model_dump(mode="json"),
        effect_key=f"limit/{one.user_id}/{one.window}/{one.resets_at:%Y-%m-%d}/{one.percent}"
        f"/{one.limit}",
    )
