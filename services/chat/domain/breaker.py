"""A breaker for each user and provider: what has failed several times in a row gets a rest."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from shared.errors import ExpectedFailure
from shared.ids import UserId
from shared.vendors.failures import VendorFailed, VendorOverloaded, VendorRefused


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """After how many failures in a row, within which time, it opens, and for how long."""

    failures: int = 5
    within: timedelta = timedelta(seconds=30)
    open_for: timedelta = timedelta(seconds=10)


class _Line:
    """What is remembered of a line on which something failed."""

    __slots__ = ("failed_at", "rests_until")

    def __init__(self, most: int) -> None:
        self.failed_at: deque[float] = deque(maxlen=most)
        self.rests_until: float | None = None  # since it opened; until then nobody passes


Key = tuple[str, UserId]


class Breakers:
    """The breakers of this replica.

    Which key serves a user, their own or their organisation's, is known to keyvault alone: so each
    user has breakers of their own, and nobody's bad key is felt by others. Only lines that failed
    lately take memory, and no more than `most` of them; the first to be forgotten is the one that
    failed longest ago.
    """

    def __init__(
        self,
        policy: BreakerPolicy | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        most: int = 10_000,
    ) -> None:
        self._policy = policy or BreakerPolicy()
        self._now = monotonic
        self._most = most
        self._lines: OrderedDict[Key, _Line] = OrderedDict()

    def enter(self, key: Key) -> bool:
        """Before an attempt; tells whether it is the probe of an open breaker.

        Raises VendorOverloaded while it is open.
        """
        line = self._lines.get(key)
        if line is None or line.rests_until is None:
            return False
        now = self._now()
        if now < line.rests_until:
            raise VendorOverloaded(
                f"{key[0]} has failed several times in a row; it is left alone for a moment.",
                provider=key[0],
                retry_after=timedelta(seconds=line.rests_until - now),
                again=False,
            )
        # One may try; the next only if nothing is heard of this one.
        line.rests_until = now + self._policy.open_for.total_seconds()
        return True

    def worked(self, key: Key) -> None:
        """The provider has answered."""
        if self._lines:
            self._lines.pop(key, None)

    def failed(self, key: Key, failure: ExpectedFailure, *, is_probe: bool) -> None:
        """The attempt failed; only trouble of the provider counts, and any other word of it is a
        sign of life."""
        if isinstance(failure, VendorFailed | VendorOverloaded):
            self._count(key)
        elif isinstance(failure, VendorRefused):
            self.worked(key)
        elif is_probe:
            self.probe_left(key)

    def probe_left(self, key: Key) -> None:
        """The probe told nothing: the next one may try at once."""
        line = self._lines.get(key)
        if line is not None and line.rests_until is not None:
            line.rests_until = self._now()

    def _count(self, key: Key) -> None:
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line(self._policy.failures)
        self._lines.move_to_end(key)
        if len(self._lines) > self._most:
            self._lines.popitem(last=False)
        now = self._now()
        line.failed_at.append(now)
        if line.rests_until is not None or self._is_too_much(line, now):
            line.rests_until = now + self._policy.open_for.total_seconds()

    def _is_too_much(self, line: _Line, now: float) -> bool:
        times = line.failed_at
        enough = len(times) == self._policy.failures
        return enough and now - times[0] <= self._policy.within.total_seconds()

    def __len__(self) -> int:
        return len(self._lines)
