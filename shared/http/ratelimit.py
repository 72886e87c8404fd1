"""`RateLimit` and `RateLimit-Policy`: what is left, said in every answer that a limit governs.

Structured fields of draft-ietf-httpapi-ratelimit-headers: `"name";q=quota;w=window seconds` and
`"name";r=remaining;t=seconds to the reset`. A limit of how many at once has no window, so no `w`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Protocol

_SECOND = timedelta(seconds=1)


class Limit(Protocol):
    """What the headers tell about one window; `shared.limit_state.LimitState` fits."""

    @property
    def name(self) -> str: ...
    @property
    def limit(self) -> int: ...
    @property
    def remaining(self) -> int: ...
    @property
    def window(self) -> timedelta: ...
    @property
    def resets_at(self) -> datetime: ...


def rate_limit_headers(limits: Sequence[Limit], now: datetime) -> dict[str, str]:
    """The two headers; none when no window was counted (unlimited, or Valkey is out of reach)."""
    if not limits:
        return {}
    return {
        "RateLimit-Policy": ", ".join(
            [_policy(limit.name, limit.limit, limit.window) for limit in limits]
        ),
        "RateLimit": ", ".join([_state(limit, now) for limit in limits]),
    }


# Few tiers and vendors exist, and a cap of a user's own is the same for a month.
@lru_cache(maxsize=1_000)
def _policy(name: str, limit: int, window: timedelta) -> str:
    seconds = f";w={_seconds(window)}" if window else ""
    return f'"{name}";q={limit}{seconds}'


def _state(limit: Limit, now: datetime) -> str:
    return f'"{limit.name}";r={limit.remaining};t={_seconds(limit.resets_at - now)}'


def _seconds(span: timedelta) -> int:
    return max(0, -(-span // _SECOND))
