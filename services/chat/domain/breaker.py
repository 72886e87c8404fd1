"""A breaker for each user and provider: what has failed several times in a row gets a rest."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import timedelta

from shared.errors import ExpectedFailure
from shared.ids import UserId
from shared.vendors.failures import VendorFailed, VendorOverloaded, VendorRefused

# After how many failures in a row, within which time, it opens, and for how long.
_FAILURES = 5
_WITHIN_SECONDS = 30.0
_OPEN_SECONDS = 10.0


class _Line:
    """What is remembered of a line on which something failed."""

    __slots__ = ("failed_at", "rests_until")

    def __init__(self) -> None:
        self.failed_at: deque[float] = deque(maxlen=_FAILURES)
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
        self, *, monotonic: Callable[[], float] = time.monotonic, most: int = 10_000
    ) -> None:
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
        line.rests_until = now + _OPEN_SECONDS
        return True

    def is_calm(self, key: Key) -> bool:
        """Whether nothing is remembered to have failed there."""
        return key not in self._lines

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
            line = self._lines[key] = _Line()
        self._lines.move_to_end(key)
        if len(self._lines) > self._most:
            self._lines.popitem(last=False)
        now = self._now()
        line.failed_at.append(now)
        if line.rests_until is not None or self._is_too_much(line, now):
            line.rests_until = now + _OPEN_SECONDS

    @staticmethod
    def _is_too_much(line: _Line, now: float) -> bool:
        times = line.failed_at
        return len(times) == _FAILURES and now - times[0] <= _WITHIN_SECONDS

    def __len__(self) -> int:
        return len(self._lines)
