"""Ask again who has not answered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import structlog

from services.auth.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.events.user import UserDeleted
from shared.tiers import DEFAULT_TIER

log = structlog.get_logger(__name__)

_PATIENCE = timedelta(minutes=10)
_MOST = 100


@dataclass(frozen=True, slots=True)
class RemindServices:
    """Tell of deletions once more that some service has not acknowledged for long: its event may
    lie among the dead ones. Whoever has forgotten the user already says so again."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self) -> None:
        async with self.unit_of_work() as work:
            late = await work.erasures.unfinished(self.clock.now() - _PATIENCE, most=_MOST)
            for erasure in late:
                log.warning(
                    "user_not_forgotten_yet", erasure_id=str(erasure.id), by=list(erasure.missing)
                )
                event = UserDeleted(user_id=erasure.user_id, erasure_id=erasure.id)
                work.publish(event, subject=erasure.user_id, tier=DEFAULT_TIER.name)
