"""Which users have another tier now than their access tokens may still claim.

auth tells it to Valkey, where the admission of chat and voice looks at it in the same step as at
the limits. It is told again for as long as a token with the old claim may live.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.ids import UserId
from shared.limits.admission import tier_key

log = structlog.get_logger(__name__)

# Longer than any access token lives.
REMEMBERED = timedelta(minutes=20)

_FAILURES = (RedisError, OSError, TimeoutError)


class CurrentTiers:
    """What auth tells."""

    def __init__(self, cache: Redis) -> None:
        self._cache = cache

    async def tell(self, tiers: Mapping[UserId, str]) -> None:
        """A failure is only logged: the next access token carries the tier anyhow."""
        try:
            pipe = self._cache.pipeline(transaction=False)
            for user_id, tier in tiers.items():
                pipe.set(tier_key(str(user_id)), tier, ex=REMEMBERED)
            await pipe.execute()
        except _FAILURES as error:
            log.warning("current_tiers_not_told", reason=type(error).__name__)
