"""Tell that a month's characters have no room for what a user wanted to hear."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import field
from typing import Any

import structlog

from services.voice.domain.ports import NewUnitOfWork
from shared.errors import LimitReached, Unavailable
from shared.events.limit import LimitRefused
from shared.ids import UserId
from shared.tiers import Tier
from shared.values import dataclass

log = structlog.get_logger(__name__)

_MONTH = ".characters_per_month"
_MOST_KNOWN = 10_000
# Below this the next shorter text has room: the limit is not what its user has come to.
_NEAR_PERCENT = 80


@dataclass(frozen=True, slots=True)
class TellRefused:
    """Whoever is refused near the end of the month's characters will hardly use the very last of
    them, so that it is never told that they are used up. Told once for each user, month, limit (it
    is a larger one after an upgrade) and replica; billing tells the user once."""

    unit_of_work: NewUnitOfWork
    _told: OrderedDict[tuple[UserId, Any, int], None] = field(default_factory=OrderedDict)

    async def __call__(self, user_id: UserId, tier: Tier, refused: LimitReached) -> None:
        facts = refused.facts
        window, used, limit = facts["scope"], facts["used"], facts["limit"]
        known = (user_id, facts["resets_at"], limit)
        if not window.endswith(_MONTH) or used * 100 < limit * _NEAR_PERCENT or known in self._told:
            return
        self._told[known] = None
        if len(self._told) > _MOST_KNOWN:
            self._told.popitem(last=False)
        event = LimitRefused(
            user_id=user_id, window=window, limit=limit, used=used, resets_at=facts["resets_at"]
        )
        try:
            async with self.unit_of_work() as work:
                work.publish(event, subject=user_id, tier=tier.name)
        except Unavailable as failure:
            # The user hears of the refusal itself; the next one is told again.
            log.info("refusal_not_told", reason=failure.code)
            self._told.pop(known, None)
