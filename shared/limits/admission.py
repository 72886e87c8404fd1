"""Admission: one script checks and reserves every window of a request, or none of them.

While Valkey is out of reach, whoever has no `fallback_limit` is refused (fail closed); the others
get bounded local limits per replica, so that paid use goes on without an open door.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any, TypeAlias

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from shared.errors import DependencyUnavailable
from shared.limits.line import BROKEN, Line, packed
from shared.limits.local import LocalLimit, LocalStreams
from shared.limits.windows import Window, day_window, minute_window, month_window, spend_window
from shared.tiers import TierChanged
from shared.valkey import TIMEOUT_SECONDS
from shared.values import dataclass

__all__ = [
    "Admission",
    "Admissions",
    "LocalLimit",
    "LocalStreams",
    "Spent",
    "Window",
    "WindowState",
    "day_window",
    "minute_window",
    "month_window",
    "spend_window",
    "streams_at_once",
    "tier_key",
]

STREAMS = "concurrent_streams"
LEASE_SECONDS = 30.0

_LEASE_MILLISECONDS = int(LEASE_SECONDS * 1000)
_MARKER_SECONDS = 3600
# That a counter is kept after its window, but no longer than that lasts: a replica whose clock is
# ahead tells Valkey a shorter time until the end than there is, and one that is behind counts on.
_LONGER = timedelta(hours=1)
_OPEN_SECONDS = 1.0  # how long the breaker keeps away from a Valkey that failed
# A stream can end at any moment; whoever asks again after this long is no burden.
_STREAM_WAIT = timedelta(seconds=3)
_MOST_UNTOLD = 10_000
# Lua counts in doubles: up to here they are exact.
MOST = 2**52
_SEED_MISSING = -1  # what the script says when it was not told what a window starts from

_TROUBLE = (*BROKEN, RedisError, OSError, TimeoutError)

_Told: TypeAlias = "tuple[_Script, list[str], list[str | int]]"
Spent = Callable[[], Awaitable[int]]
"""Asks the database what a seeded counter has to start from."""


@dataclass(frozen=True, slots=True)
class WindowState:
    """A window and what is used of it; `reserved` is the part that running requests may yet give
    back, where that was looked at."""

    window: Window
    used: int
    reserved: int = 0

    @property
    def remaining(self) -> int:
        return max(0, self.window.limit - self.used)


@dataclass(frozen=True, slots=True)
class Admission:
    """What became of a request: admitted when `refused` is None."""

    reservation: str
    states: tuple[WindowState, ...]
    refused: WindowState | None = None
    # What was asked for, where this replica decided alone because no answer came from Valkey.
    locally: tuple[Window, ...] | None = None

    @property
    def windows(self) -> tuple[Window, ...]:
        """Those in which it has a place."""
        if self.locally is not None:
            return self.locally
        return tuple([s.window for s in self.states if s.window.name != STREAMS])


def streams_at_once(most: int, now: datetime) -> Window:
    """The bound of streams that run at the same time. It has no span of time; it "ends" when it
    is worth asking again."""
    return Window(STREAMS, most, now, now + _STREAM_WAIT)


class Admissions:
    """Admits requests, gives reservations back, and settles them."""

    def __init__(self, cache: Redis) -> None:
        self._cache = cache
        self._line = Line(cache.connection_pool, timeout=TIMEOUT_SECONDS)
        self._closed_until = 0.0
        self._local = LocalLimit()
        self._local_streams = LocalStreams(LEASE_SECONDS)
        # What Valkey has to be told once it is back; all of it may be told twice.
        self._untold: deque[_Told] = deque(maxlen=_MOST_UNTOLD)
        # The event loop keeps only weak references to tasks; these must live until they end.
        self._seen_to: set[asyncio.Task[None]] = set()

    async def admit(
        self,
        subject: str,
        windows: Sequence[Window],
        *,
        reservation: str,
        claimed_tier: str,
        streams: Window | None = None,
        spent: Spent | None = None,
        fallback_limit: int | None = None,
        is_request: bool = True,
    ) -> Admission:
        """Reserve every window and a place among the `streams`, or nothing.

        `spent`: what the counter of a seeded window starts from when it is missing.
        `fallback_limit`: requests a minute and replica while Valkey is out of reach; None refuses.
        `is_request`: whether it is one of those, and not more of one.
        Raises TierChanged when auth has told of another tier than the claimed one; and
        DependencyUnavailable when Valkey is out of reach and nothing else may decide.
        """
        keys = _keys(subject, reservation, windows)
        seed: str | int = "?"
        while True:
            arguments = _arguments(windows, reservation, claimed_tier, streams, seed)
            try:
                answer = await self._run(_ADMIT, keys, arguments)
            except asyncio.CancelledError:
                # It may have been made; whoever asked for it will not give it back.
                self._see_to(self._tell(_REFUND, *_refund(subject, reservation, windows)))
                raise
            except DependencyUnavailable as error:
                admitting = self._admit_here(
                    subject,
                    windows,
                    reservation,
                    streams,
                    spent,
                    fallback_limit,
                    is_request=is_request,
                )
                return await self._admitted_after(error, admitting, subject, reservation, windows)
            if self._untold:
                self._see_to(self._tell_the_untold())
            if answer != _SEED_MISSING:
                return self._admitted(answer, subject, windows, reservation, streams)
            assert spent is not None, "Somebody must know what a seeded window starts from."
            seed = min(max(0, await spent()), MOST)

    async def refund(self, subject: str, admission: Admission) -> None:
        """Give a reservation back; a second call does nothing, nor does one after `settle`. Silent
        while Valkey is gone: the user then keeps a used-up request, never a second one."""
        self._local_streams.leave(subject, admission.reservation)
        windows = admission.windows
        if admission.states or windows:
            await self._tell(_REFUND, *_refund(subject, admission.reservation, windows))

    async def settle(
        self,
        subject: str,
        reservation: str,
        used: Sequence[tuple[Window, int]],
        *,
        locally: bool = False,
    ) -> None:
        """Put what was used in the place of what was reserved, and free the place among the
        streams. Only the first call for a reservation does anything. Silent while Valkey is gone.

        Windows that are not named keep what was reserved in them; one in which nothing was
        reserved is charged if it is counted at all. `locally`: see `Admission`.
        """
        self._local_streams.leave(subject, reservation)
        keys = [_marker(subject, reservation), _streams_key(subject)]
        keys += [window.key(subject) for window, _ in used]
        made = _MARKER_SECONDS if locally else ""
        amounts: list[str | int] = []
        for window, amount in used:
            amounts += (min(max(0, amount), MOST), int(window.seeded))
        try:
            await self._run(_SETTLE, keys, [reservation, made, "", *amounts])
        except DependencyUnavailable:
            late = [reservation, made, _MARKER_SECONDS, *amounts]
            self._untold.append((_SETTLE, keys, late))

    async def renew(self, reservations: Mapping[str, Collection[str]]) -> None:
        """Lease the streams of these reservations, by subject, for longer; in one round trip.
        Those that were not made here, or have ended, are left alone. Silent while Valkey is gone;
        what it forgot is counted again once it is back."""
        try:
            await asyncio.gather(
                *(self._renew(subject, ids) for subject, ids in reservations.items())
            )
        except DependencyUnavailable:
            return
        await self._tell_the_untold()

    async def standing(
        self, subject: str, windows: Sequence[Window], streams: Window | None = None
    ) -> Sequence[WindowState]:
        """What is used and what is reserved of each window; a seeded one is left out while its
        counter is missing. Raises DependencyUnavailable."""
        counters = [window.key(subject) for window in windows]
        running, *counts = await self._run(_STANDING, [_streams_key(subject), *counters], [])
        reserved = await self._reserved(subject, running, counters)
        states = [
            WindowState(window, used, min(used, held))
            for window, count, held in zip(windows, counts, reserved, strict=True)
            if count is not None or not window.seeded
            for used in [max(0, int(count or 0))]
        ]
        if streams is not None:
            states.append(WindowState(streams, len(running)))
        return states

    async def keep(self, subject: str, reservation: str) -> None:
        """Remember a reservation for another hour: one that is forgotten is neither given back nor
        settled. Silent while Valkey is gone."""
        with suppress(DependencyUnavailable):
            await self._ask(packed("EXPIRE", _marker(subject, reservation), _MARKER_SECONDS))

    async def check(self) -> None:
        """Raises DependencyUnavailable unless Valkey answers."""
        try:
            await asyncio.wait_for(self._cache.ping(), 1)
        except (RedisError, OSError, TimeoutError) as error:
            raise DependencyUnavailable("cache") from error

    async def tier_told_of(self, subject: str) -> str | None:
        """The tier that auth told of this user lately; None also while Valkey is out of reach."""
        try:
            told: bytes | None = await self._ask(packed("GET", tier_key(subject)))
        except DependencyUnavailable:
            return None
        return told.decode() if told is not None else None

    def _admitted(
        self,
        answer: Any,
        subject: str,
        windows: Sequence[Window],
        reservation: str,
        streams: Window | None,
    ) -> Admission:
        admission = _admission(answer, reservation, windows, streams)
        if streams is not None and admission.refused is None:
            # What this replica runs counts here too, should Valkey be gone for the next.
            self._local_streams.enter(subject, reservation)
        return admission

    async def _admitted_after(
        self,
        failure: DependencyUnavailable,
        admitting: Awaitable[Admission],
        subject: str,
        reservation: str,
        windows: Sequence[Window],
    ) -> Admission:
        here = None
        try:
            here = await admitting
            return here
        finally:
            # A failure with a cause is a command that Valkey may yet carry out.
            if failure.__cause__ and (here is None or here.refused):
                self._untold.append((_REFUND, *_refund(subject, reservation, windows)))

    async def _admit_here(
        self,
        subject: str,
        windows: Sequence[Window],
        reservation: str,
        streams: Window | None,
        spent: Spent | None,
        limit: int | None,
        *,
        is_request: bool,
    ) -> Admission:
        if limit is None:
            raise DependencyUnavailable("cache")
        # What the user set themselves holds here too: the database knows it as well.
        for window in windows:
            if window.seeded and spent is not None:
                used = await spent()
                if used + window.needed > window.limit:
                    return Admission(reservation, (), WindowState(window, used))
        if streams is not None and not self._local_streams.has_place(subject, streams.limit):
            raise DependencyUnavailable("cache")
        if is_request and not self._local.take(subject, limit):
            raise DependencyUnavailable("cache")
        if streams is not None:
            self._local_streams.enter(subject, reservation)
        return Admission(reservation, (), locally=tuple(windows))

    async def _renew(self, subject: str, reservations: Collection[str]) -> None:
        # Looked up in the step that sends it: what ends after that is also told after that.
        running = self._local_streams.renew(subject, reservations)
        if running:
            keys = [_streams_key(subject), *(_marker(subject, id_) for id_ in running)]
            await self._run(_RENEW, keys, [_LEASE_MILLISECONDS, _MARKER_SECONDS, *running])
            # A script that Valkey did not know, or a connection that broke, was sent once more and
            # may have come after the end of a stream.
            still = self._local_streams.renew(subject, running)
            if ended := [id_ for id_ in running if id_ not in still]:
                await self._ask(packed("ZREM", _streams_key(subject), *ended))

    async def _reserved(
        self, subject: str, running: Sequence[bytes], counters: Sequence[str]
    ) -> Sequence[int]:
        """What the running streams hold of each counter. Their markers tell it, so that keeping
        it apart costs the hot path nothing."""
        if not counters:
            return []
        held = await asyncio.gather(
            *(
                self._ask(packed("HMGET", _marker(subject, id_.decode()), *counters))
                for id_ in running
            )
        )
        nothing = [0] * len(counters)
        return [sum(int(n or 0) for n in amounts) for amounts in zip(nothing, *held, strict=True)]

    async def _tell(self, script: _Script, keys: list[str], arguments: list[str | int]) -> None:
        try:
            await self._run(script, keys, arguments)
        except DependencyUnavailable:
            self._untold.append((script, keys, arguments))

    async def _tell_the_untold(self) -> None:
        for _ in range(len(self._untold)):
            if self._untold and time.monotonic() >= self._closed_until:
                await self._tell(*self._untold.popleft())

    def _see_to(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._seen_to.add(task)
        task.add_done_callback(self._seen_to.discard)

    async def _run(self, script: _Script, keys: list[str], arguments: list[str | int]) -> Any:
        try:
            return await self._ask(script.call(keys, arguments))
        except NoScriptError:
            return await self._ask(script.in_full(keys, arguments))

    async def _ask(self, command: bytes) -> Any:
        if self._closed_until:
            now = time.monotonic()
            if now < self._closed_until:
                raise DependencyUnavailable("cache")
            # One of them tries again; the others need not wait to hear what it finds.
            self._closed_until = now + _OPEN_SECONDS
        try:
            answer = await self._line.ask(command)
        except NoScriptError:
            self._closed_until = 0.0
            raise
        except _TROUBLE as error:
            self._closed_until = time.monotonic() + _OPEN_SECONDS
            raise DependencyUnavailable("cache") from error
        self._closed_until = 0.0
        return answer


class _Script:
    """A script, named by its digest where Valkey knows it already."""

    def __init__(self, name: str) -> None:
        source = files("shared.limits").joinpath(f"{name}.lua").read_bytes()
        self._by_digest = (b"EVALSHA", hashlib.sha1(source, usedforsecurity=False).hexdigest())
        self._whole = (b"EVAL", source)

    def call(self, keys: Sequence[str], arguments: Sequence[str | int]) -> bytes:
        return packed(*self._by_digest, len(keys), *keys, *arguments)

    def in_full(self, keys: Sequence[str], arguments: Sequence[str | int]) -> bytes:
        return packed(*self._whole, len(keys), *keys, *arguments)


_ADMIT = _Script("admission")
_REFUND = _Script("refund")
_SETTLE = _Script("settle")
_RENEW = _Script("renew")
_STANDING = _Script("standing")


def _keys(subject: str, reservation: str, windows: Sequence[Window]) -> list[str]:
    keys = [_marker(subject, reservation), tier_key(subject), _streams_key(subject)]
    keys += [window.key(subject) for window in windows]
    return keys


def _arguments(
    windows: Sequence[Window],
    reservation: str,
    claimed_tier: str,
    streams: Window | None,
    seed: str | int,
) -> list[str | int]:
    most: str | int = "" if streams is None else streams.limit
    arguments: list[str | int]
    arguments = [_MARKER_SECONDS, claimed_tier, reservation, most, _LEASE_MILLISECONDS]
    now = time.time()
    for window in windows:
        forgotten_at = window.ends_at + min(_LONGER, window.ends_at - window.starts_at)
        lives = max(1, int(forgotten_at.timestamp() - now))
        start = seed if window.seeded else ""
        arguments += (window.limit, window.amount, window.needed, lives, start)
    return arguments


def _admission(
    answer: Any, reservation: str, windows: Sequence[Window], streams: Window | None
) -> Admission:
    if isinstance(answer, bytes):
        raise TierChanged(answer.decode())
    index, running, *used = answer
    # A refusal does not tell of a counter that was missing.
    states = [WindowState(window, count) for window, count in zip(windows, used, strict=False)]
    refused = states[index - 1] if 0 < index <= len(windows) else None
    if streams is not None:
        states.append(WindowState(streams, running))
        if index > len(windows):
            refused = states[-1]
    return Admission(reservation, tuple(states), refused)


def _refund(
    subject: str, reservation: str, windows: Sequence[Window]
) -> tuple[list[str], list[str | int]]:
    keys = [_marker(subject, reservation), _streams_key(subject)]
    keys += [window.key(subject) for window in windows]
    return keys, [reservation]


def tier_key(subject: str) -> str:
    """Where Valkey holds the tier that auth told of a user."""
    return f"tier:{{{subject}}}"


def _streams_key(subject: str) -> str:
    return f"limit:{{{subject}}}:{STREAMS}"


def _marker(subject: str, reservation: str) -> str:
    return f"reservation:{{{subject}}}:{reservation}"
