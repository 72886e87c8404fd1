"""Admission: one script checks and reserves every window of a request, or none of them.

While Valkey is out of reach, whoever has no `fallback_limit` is refused (fail closed); the others
get a bounded local limit per replica, so that paid use goes on without an open door.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError
from redis.exceptions import TimeoutError as RedisTimeout

from shared.errors import DependencyUnavailable
from shared.tiers import TierChanged

_MARKER_SECONDS = 3600
_OPEN_SECONDS = 1.0  # how long the breaker keeps away from a Valkey that failed
# More would not be faster: opening many at once is what takes longer than a stalled server may.
_CONNECTIONS = 32
_AT_ONCE = 8
_TIMEOUT_SECONDS = 0.1
_LATE_SECONDS = 0.13

# uvloop raises RuntimeError for a write to a connection that is closed already.
_BROKEN = (RedisConnectionError, RuntimeError)


@dataclass(frozen=True, slots=True)
class Window:
    """A limit over a span of time. The span's start is part of the counter's key."""

    name: str
    limit: int
    starts_at: datetime
    ends_at: datetime
    amount: int = 1

    def key(self, subject: str) -> str:
        # The braces keep a subject's counters on one node of a cluster.
        return f"limit:{{{subject}}}:{self.name}:{int(self.starts_at.timestamp())}"


@dataclass(frozen=True, slots=True)
class WindowState:
    """A window and what is used of it."""

    window: Window
    used: int

    @property
    def remaining(self) -> int:
        return max(0, self.window.limit - self.used)


@dataclass(frozen=True, slots=True)
class Admission:
    """What became of a request: admitted when `refused` is None."""

    reservation: str
    states: tuple[WindowState, ...]
    refused: WindowState | None = None


def minute_window(name: str, limit: int, now: datetime, amount: int = 1) -> Window:
    """The clock minute that `now` lies in."""
    start = now.replace(second=0, microsecond=0)
    return Window(name, limit, start, start + timedelta(minutes=1), amount)


def day_window(name: str, limit: int, now: datetime, amount: int = 1) -> Window:
    """The UTC day that `now` lies in."""
    start = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return Window(name, limit, start, start + timedelta(days=1), amount)


def month_window(name: str, limit: int, now: datetime, amount: int = 1) -> Window:
    """The UTC month that `now` lies in."""
    start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return Window(name, limit, start, (start + timedelta(days=32)).replace(day=1), amount)


def open_cache(url: str) -> Redis:
    """A Valkey client with hard timeouts and no retries of its own: one owner retries, not two."""
    pool = BlockingConnectionPool.from_url(
        url,
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        # A new connection is at work ten times sooner without the talk of a RESP3 handshake.
        protocol=2,
        driver_info=None,
        # A burst waits for its turn; with the plain pool it would fail as if Valkey were gone.
        max_connections=_CONNECTIONS,
        timeout=0.3,
        decode_responses=False,
    )
    return Redis.from_pool(pool)


class Admissions:
    """Admits requests and gives reservations back."""

    def __init__(self, cache: Redis) -> None:
        self._cache = cache
        self._admit = cache.register_script(_script("admission.lua"))
        self._refund = cache.register_script(_script("refund.lua"))
        self._closed_until = 0.0
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._local = LocalLimit()

    async def admit(
        self,
        subject: str,
        windows: Sequence[Window],
        *,
        reservation: str,
        claimed_tier: str,
        fallback_limit: int | None = None,
    ) -> Admission:
        """Reserve every window or none.

        `fallback_limit`: requests a minute and replica while Valkey is out of reach; None refuses.
        Raises TierChanged when auth has told of another tier than the claimed one; and
        DependencyUnavailable when Valkey is out of reach and nothing else may decide.
        """
        try:
            answer = await self._run(
                self._admit, *_call(subject, windows, reservation, claimed_tier)
            )
        except DependencyUnavailable:
            if fallback_limit is None or not self._local.take(subject, fallback_limit):
                raise
            return Admission(reservation, ())
        if isinstance(answer, bytes):
            raise TierChanged(answer.decode())
        states = tuple(
            WindowState(window, int(used)) for window, used in zip(windows, answer[1:], strict=True)
        )
        index = int(answer[0])
        return Admission(reservation, states, states[index - 1] if index else None)

    async def refund(self, subject: str, admission: Admission) -> None:
        """Give a reservation back; a second call does nothing. Silent while Valkey is gone: the
        user then keeps a used-up request, never a second one."""
        if not admission.states:
            return
        keys = [_marker(subject, admission.reservation)]
        keys += [state.window.key(subject) for state in admission.states]
        try:
            await self._run(self._refund, keys, [])
        except DependencyUnavailable:
            return

    async def check(self) -> None:
        """Raises DependencyUnavailable unless Valkey answers."""
        try:
            await asyncio.wait_for(self._cache.ping(), 1)
        except (RedisError, OSError, TimeoutError) as error:
            raise DependencyUnavailable("cache") from error

    async def tier_told_of(self, subject: str) -> str | None:
        """The tier that auth told of this user lately; None also while Valkey is out of reach."""
        try:
            told = await self._cache.get(tier_key(subject))
        except (*_BROKEN, RedisError, OSError, TimeoutError):
            return None
        return told.decode() if isinstance(told, bytes) else told

    async def _run(self, script: Any, keys: list[str], arguments: list[str | int]) -> Any:
        # Whoever waited for a turn while Valkey failed is told so at once.
        async with self._turns:
            if time.monotonic() < self._closed_until:
                raise DependencyUnavailable("cache")
            try:
                return await self._evaluate(script, keys, arguments)
            except (*_BROKEN, RedisError, OSError, TimeoutError) as error:
                self._closed_until = time.monotonic() + _OPEN_SECONDS
                raise DependencyUnavailable("cache") from error

    async def _evaluate(self, script: Any, keys: list[str], arguments: list[str | int]) -> Any:
        # Both scripts may be repeated: the reservation's marker keeps them from counting twice.
        began = time.monotonic()
        try:
            return await self._evalsha(script, keys, arguments)
        except _BROKEN:
            # A pooled connection that Valkey closed (a restart) shows it on its next use.
            return await self._evalsha(script, keys, arguments)
        except RedisTimeout:
            # One that comes late tells that our own loop was busy, not that Valkey is gone.
            if time.monotonic() - began < _LATE_SECONDS:
                raise
            return await self._evalsha(script, keys, arguments)

    async def _evalsha(self, script: Any, keys: list[str], arguments: list[str | int]) -> Any:
        try:
            return await self._cache.evalsha(script.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return await self._cache.eval(script.script, len(keys), *keys, *arguments)


class LocalLimit:
    """A bounded count per minute inside one replica, for when nothing shared can be asked."""

    def __init__(self) -> None:
        self._minute = 0
        self._taken: dict[str, int] = {}

    def take(self, subject: str, limit: int) -> bool:
        minute = int(time.time() // 60)
        if minute != self._minute:
            self._minute, self._taken = minute, {}
        taken = self._taken.get(subject, 0)
        if taken >= limit:
            return False
        self._taken[subject] = taken + 1
        return True


def _call(
    subject: str, windows: Sequence[Window], reservation: str, claimed_tier: str
) -> tuple[list[str], list[str | int]]:
    now = datetime.now(UTC)
    keys = [_marker(subject, reservation), tier_key(subject)]
    arguments: list[str | int] = [_MARKER_SECONDS, claimed_tier]
    for window in windows:
        keys.append(window.key(subject))
        lives = max(1, int((window.ends_at - now).total_seconds()) + 60)
        arguments += [window.limit, window.amount, lives]
    return keys, arguments


def tier_key(subject: str) -> str:
    """Where Valkey holds the tier that auth told of a user."""
    return f"tier:{{{subject}}}"


def _marker(subject: str, reservation: str) -> str:
    return f"reservation:{{{subject}}}:{reservation}"


def _script(name: str) -> str:
    return files("shared.limits").joinpath(name).read_text()
