"""Of whom a replica knows that a window of theirs is full: they can be refused at once.

A flood is mostly refused, and each refusal costs a read of its session and a script in Valkey,
which all tiers share. So the last refusal is remembered, but only while it is the truth for
whatever is asked: the window has no room for anything, and nothing that runs could give some of it
back. It is asked anew after a few seconds all the same, should a replica that was cut off give back
late.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta
from typing import TypeAlias

from shared.limits.admission import STREAMS, Admission

_LONGEST = timedelta(seconds=5)
_MOST_SUBJECTS = 20_000

_Known: TypeAlias = "dict[tuple[str, str], tuple[datetime, Admission]]"


class FullWindows:
    """By subject, vendor and tier; bounded, the subject that was refused longest ago goes first."""

    def __init__(self, *, longest: timedelta = _LONGEST, most: int = _MOST_SUBJECTS) -> None:
        self._longest = longest
        self._most = most
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def remember(
        self, subject: str, vendor: str, tier: str, refusal: Admission, now: datetime
    ) -> None:
        """Keep a refusal, if it holds for a while."""
        if not _holds(refusal):
            return
        assert refusal.refused is not None
        until = min(refusal.refused.window.ends_at, now + self._longest)
        self._known.setdefault(subject, {})[vendor, tier] = (until, refusal)
        self._known.move_to_end(subject)
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    def known(self, subject: str, vendor: str, tier: str, now: datetime) -> Admission | None:
        """The refusal that still holds."""
        found = self._known.get(subject, {}).get((vendor, tier))
        if found is None or now >= found[0]:
            return None
        return found[1]

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
