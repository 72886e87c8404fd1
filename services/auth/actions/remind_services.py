"""Ask again who has not answered."""

from __future__ import annotations

from datetime import timedelta

import structlog

from services.auth.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.events.user import UserDeleted
from shared.tiers import DEFAULT_TIER
from shared.values import dataclass

log = structlog.get_logger(__name__)

# A broker may have lost an event with the process that took it, or give it back only after minutes.
_LATE = timedelta(seconds=20)
# Whoever is silent for longer is down: it is asked, too, but not so often.
_VERY_LATE = timedelta(minutes=3)
_FOREVER = timedelta(days=10_000)
_MOST = 100


@dataclass(frozen=True, slots=True)
class RemindServices:
    """Tell of deletions once more that some service has not acknowledged: its event may have been
    lost, or lie among the dead ones. Whoever has forgotten the user already says so again."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def late(self) -> None:
        """Those of the last minutes."""
        await self._remind(_VERY_LATE, _LATE)

    async def very_late(self) -> None:
        """All that are older."""
        await self._remind(_FOREVER, _VERY_LATE)

    async def _remind(self, oldest: timedelta, youngest: timedelta) -> None:
        now = self.clock.now()
        async with self.unit_of_work() as work:
            late = await work.erasures.unfinished(now - oldest, now - youngest, most=_MOST)
            for erasure in late:
                log.warning(
                    "user_not_forgotten_yet", erasure_id=str(erasure.id), by=list(erasure.missing)
                )
                event = UserDeleted(user_id=erasure.user_id, erasure_id=erasure.id)
                work.publish(event, subject=erasure.user_id, tier=DEFAULT_TIER.name)
