"""The counters in Valkey that chat and voice admit requests by, to look at only."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.billing.domain.limits import CHARACTERS, SPENDING, LimitStanding
from shared.errors import DependencyUnavailable
from shared.ids import UserId
from shared.limits.admission import (
    MOST,
    Admissions,
    Window,
    WindowState,
    spend_window,
    streams_at_once,
    tier_key,
)
from shared.limits.tier_windows import tier_windows, vendor_of
from shared.tiers import COMPATIBLE, Tier

_PATIENCE_SECONDS = 1.0


class ValkeyLimitCounters:
    """Reads what admission writes, by admission's own means."""

    def __init__(self, cache: Redis) -> None:
        self._cache = cache
        self._admissions = Admissions(cache)

    async def standing(self, user_id: UserId, tier: Tier, now: datetime) -> Sequence[LimitStanding]:
        windows = [_as_counted(window) for window in tier_windows(tier, now)]
        windows.append(spend_window(SPENDING, MOST, now, 0))
        streams = streams_at_once(tier.concurrent_streams, now)
        states = await self._admissions.standing(str(user_id), windows, streams)
        return [_standing(state) for state in states if _is_worth_showing(state)]

    async def told_tier(self, user_id: UserId) -> str | None:
        try:
            told = await asyncio.wait_for(
                self._cache.get(tier_key(str(user_id))), _PATIENCE_SECONDS
            )
        except (RedisError, OSError, TimeoutError) as error:
            raise DependencyUnavailable("cache") from error
        return told.decode() if isinstance(told, bytes) else told


def _as_counted(window: Window) -> Window:
    """What voice's counter of the month is: without one, the ledger knows better than a zero."""
    return replace(window, seeded=window.name.endswith(CHARACTERS))


def _standing(state: WindowState) -> LimitStanding:
    window = state.window
    return LimitStanding(
        name=window.name,
        provider=vendor_of(window),
        limit=None if window.name == SPENDING else window.limit,
        used=state.used - state.reserved,
        reserved=state.reserved,
        resets_at=window.ends_at,
    )


def _is_worth_showing(state: WindowState) -> bool:
    # Few installations have a server of their own; its windows are told to those who use it.
    return bool(state.used) or vendor_of(state.window) != COMPATIBLE
