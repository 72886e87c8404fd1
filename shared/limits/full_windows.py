"""Of whom a replica knows that a window of theirs is full: they can be refused at once.

A flood is mostly refused, and each refusal costs a read of its session and a script in Valkey,
which all tiers share. So the last refusal is remembered, but only while it is the truth for
whatever is asked: the window has no room for anything, and nothing that runs could give some of it
back. It is asked anew after a few seconds all the same, should a replica that was cut off give back
late.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeAlias

from shared.limits.admission import STREAMS, Admission

_LONGEST = timedelta(seconds=5)
_MOST_SUBJECTS = 20_000

# With the moment, on a clock that nobody sets, at which it was remembered.
_Known: TypeAlias = "dict[tuple[str, str], tuple[float, Admission]]"


class FullWindows:
    """By subject, vendor and tier; bounded, the subject that was refused longest ago goes first."""

    def __init__(
        self,
        *,
        longest: timedelta = _LONGEST,
        most: int = _MOST_SUBJECTS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._longest_seconds = longest.total_seconds()
        self._monotonic = monotonic
        self._most = most
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def remember(self, subject: str, vendor: str, tier: str, refusal: Admission) -> None:
        """Keep a refusal, if it holds for a while."""
        if not _holds(refusal):
            return
        self._known.setdefault(subject, {})[vendor, tier] = (self._monotonic(), refusal)
        self._known.move_to_end(subject)
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    def known(self, subject: str, vendor: str, tier: str, now: datetime) -> Admission | None:
        """The refusal that still holds."""
        found = self._known.get(subject, {}).get((vendor, tier))
        if found is None:
            return None
        since, refusal = found
        assert refusal.refused is not None
        if now >= refusal.refused.window.ends_at:
            return None
        # Whatever the wall's clock says: it may have been set back.
        return refusal if self._monotonic() < since + self._longest_seconds else None

    def forget(self, subject: str) -> None:
        """Something of theirs has changed."""
        self._known.pop(subject, None)


def _holds(refusal: Admission) -> bool:
    full = refusal.refused
    running = [state.used for state in refusal.states if state.window.name == STREAMS]
    return (
        full is not None
        and full.window.name != STREAMS
        # What mirrors a database may be raised there at any time.
        and not full.window.seeded
        and full.used >= full.window.limit
        # Whatever runs may yet give back what it took; where that isn't known, it may.
        and running == [0]
    )
