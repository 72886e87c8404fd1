"""Which streams of an outbox the broker does not take, and when each of them is tried again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
# Of a stream without a queue nobody gets a copy each time that it is tried.
_LONGEST_WITHOUT_QUEUE = 5.0


class _Refusal(NamedTuple):
    pause: float
    until: float


class StuckStreams:
    """Keeps a stream that is not taken from holding up the others of its outbox.

    One that is *refused* has been answered, and is left alone for a while. Of one that is *not
    confirmed* nobody knows whether its queue is in trouble or the broker: that shows by what
    becomes of others. So it goes after them, and one such stream at a time, since each try takes as
    long as a broker may take: with pauses that grow while others are taken, and in each turn while
    nothing is. By our own clock, in this process's memory: whoever starts anew tries them all.
    """

    def __init__(self) -> None:
        # In the order in which they were tried.
        self._not_confirmed: dict[str, None] = {}
        self._refused: dict[str, _Refusal] = {}
        self._waiting: frozenset[str] = frozenset()
        self._pause, self._next_at = _FIRST_PAUSE, float("-inf")
        self._others_go = False
        self._nothing_goes = False

    def others_of(self, waiting: Mapping[str, int]) -> dict[str, int]:
        """Those that wait and have nothing against them; begins a turn."""
        now = time.monotonic()
        self._waiting = frozenset(waiting)
        return {
            stream: count
            for stream, count in waiting.items()
            if stream not in self._not_confirmed
            and (stream not in self._refused or now >= self._refused[stream].until)
        }

    def due(self) -> Iterator[str]:
        """Those of the turn that are to be tried after the others, for as long as each of them
        goes."""
        for stream in list(self._not_confirmed):
            if stream in self._waiting and self._seconds_to_next <= 0:
                yield stream

    @property
    def next_in(self) -> float:
        """Seconds until one of those that wait is to be tried again; 0 is now."""
        now = time.monotonic()
        times = [one.until - now for name, one in self._refused.items() if name in self._waiting]
        if self._not_confirmed.keys() & self._waiting:
            times.append(self._seconds_to_next)
        return max(0.0, min(times, default=float("inf")))

    @property
    def is_broker_away(self) -> bool:
        """Whether nothing was confirmed since one was not that still waits."""
        return self._nothing_goes and bool(self._not_confirmed.keys() & self._waiting)

    @property
    def _seconds_to_next(self) -> float:
        return 0.0 if self._nothing_goes else self._next_at - time.monotonic()

    def note_gone(self, stream: str) -> None:
        """It was confirmed. What else was not is tried at once, if this says something new."""
        if self._nothing_goes or stream in self._not_confirmed:
            self._pause, self._next_at = _FIRST_PAUSE, float("-inf")
        self._not_confirmed.pop(stream, None)
        self._refused.pop(stream, None)
        self._others_go, self._nothing_goes = True, False

    def note_not_confirmed(self, stream: str) -> bool:
        """It was tried in vain; answers whether that is its own trouble and not the broker's, as
        far as can be told: it has been so before, and others went since the last such try."""
        alone = stream in self._not_confirmed and self._others_go
        self._not_confirmed.pop(stream, None)
        self._not_confirmed[stream] = None
        self._others_go, self._nothing_goes = False, not alone
        self._next_at = time.monotonic() + self._pause
        if alone:
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        return alone

    def note_refused(self, stream: str, *, has_queue: bool) -> None:
        """The broker has said that it does not take it."""
        self._not_confirmed.pop(stream, None)
        before = self._refused.get(stream)
        longest = _LONGEST_PAUSE if has_queue else _LONGEST_WITHOUT_QUEUE
        pause = _FIRST_PAUSE if before is None else min(before.pause * 2, longest)
        self._refused[stream] = _Refusal(pause, time.monotonic() + pause)
