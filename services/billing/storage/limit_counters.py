"""The counters in Valkey that chat and voice admit requests by, to look at only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.billing.domain.limits import LimitRule, LimitStanding, Span
from shared.errors import DependencyUnavailable
from shared.ids import UserId
from shared.limits.admission import (
    Window,
    day_window,
    minute_window,
    month_window,
    tier_key,
)

_WINDOWS: Mapping[Span, Callable[[str, int, datetime], Window]] = {
    "minute": minute_window,
    "day": day_window,
    "month": month_window,
}
_PATIENCE_SECONDS = 1.0


class ValkeyLimitCounters:
    """Reads counters under the keys that admission writes."""

    def __init__(self, cache: Redis) -> None:
        self._cache = cache

    async def standing(
        self, user_id: UserId, rules: Sequence[LimitRule], now: datetime
    ) -> Sequence[LimitStanding]:
        windows = [_WINDOWS[rule.span](rule.name, rule.limit, now) for rule in rules]
        if not windows:
            return []
        keys = [window.key(str(user_id)) for window in windows]
        counts = await self._read(keys)
        return [
            LimitStanding(rule, max(0, int(count or 0)), window.ends_at)
            for rule, window, count in zip(rules, windows, counts, strict=True)
        ]

    async def told_tier(self, user_id: UserId) -> str | None:
        [told] = await self._read([tier_key(str(user_id))])
        return told.decode() if isinstance(told, bytes) else told

    async def _read(self, keys: list[str]) -> Sequence[bytes | str | None]:
        try:
            return await asyncio.wait_for(self._cache.mget(keys), _PATIENCE_SECONDS)
        except (RedisError, OSError, TimeoutError) as error:
            raise DependencyUnavailable("cache") from error
