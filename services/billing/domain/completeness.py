"""Have we got everything? Producers number their events 1, 2, 3 …, so a loss can be seen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Self
from uuid import UUID

from shared.values import dataclass

Range = tuple[int, int]  # first and last, both included

# Wide gaps are asked for piece by piece, on a fixed grid, so that a piece keeps its identity while
# others are being filled.
PIECE = 2_000
_LONGEST_WAIT = timedelta(hours=1)
_MOST_DOUBLINGS = 20


@dataclass(frozen=True, slots=True, order=True)
class Stream:
    """One producer's numbering: a new epoch begins again at 1."""

    producer: str
    epoch: UUID
    name: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of a stream has come. `dead` events came too, but could not be recorded."""

    stream: Stream
    received: tuple[Range, ...] = ()
    dead: tuple[Range, ...] = ()
    announced: int = 0
    last_seen_at: datetime | None = None
    last_manifest_at: datetime | None = None

    @property
    def highest_received(self) -> int:
        return max((last for _, last in self._here()), default=0)

    @property
    def complete_up_to(self) -> int:
        """Everything up to this number has come."""
        first_missing = next(self.missing(), None)
        return first_missing[0] - 1 if first_missing else max(self.announced, self.highest_received)

    @property
    def missing_count(self) -> int:
        return sum(last - first + 1 for first, last in self.missing())

    def missing(self) -> Iterator[Range]:
        """What has not come, of all that the producer is known to have sent."""
        expected = 1
        for first, last in self._here():
            if first > expected:
                yield expected, first - 1
            expected = max(expected, last + 1)
        if expected <= self.announced:
            yield expected, self.announced

    def _here(self) -> list[Range]:
        return sorted(self.received + self.dead)


def newest_numberings(progress: Iterable[Progress]) -> Iterator[Progress]:
    """Of each producer's stream the one that was seen last: after a restore there is another."""
    newest: dict[tuple[str, str], Progress] = {}
    for one in progress:
        key = one.stream.producer, one.stream.name
        known = newest.get(key)
        if known is None or _seen(one) > _seen(known):
            newest[key] = one
    yield from newest.values()


def _seen(progress: Progress) -> datetime:
    assert progress.last_seen_at is not None, "a stream in the database was seen"
    return progress.last_seen_at


@dataclass(frozen=True, slots=True)
class Gap:
    """A missing piece of a stream, and how often it was asked for."""

    stream: Stream
    first: int
    last: int
    seen_at: datetime
    next_request_at: datetime
    requests: int = 0

    @classmethod
    def seen(cls, stream: Stream, piece: Range, now: datetime, patience: timedelta) -> Self:
        """Noticed just now: most are only late, so it waits a little before it is asked for."""
        return cls(stream, *piece, seen_at=now, next_request_at=now + patience)

    @property
    def key(self) -> tuple[Stream, int]:
        return self.stream, self.first

    def now_until(self, last: int) -> Self:
        return replace(self, last=last)

    def is_due(self, now: datetime) -> bool:
        return self.next_request_at <= now

    def requested(self, now: datetime, patience: timedelta) -> Self:
        """Asked for; the wait until the next time doubles, up to an hour."""
        wait = min(patience * 2 ** min(self.requests, _MOST_DOUBLINGS), _LONGEST_WAIT)
        return replace(self, requests=self.requests + 1, next_request_at=now + wait)


def pieces(missing: Iterable[Range]) -> Iterator[Range]:
    """The ranges, cut where the grid of `PIECE` cuts them."""
    for first, last in missing:
        while first <= last:
            end = min(last, ((first - 1) // PIECE + 1) * PIECE)
            yield first, end
            first = end + 1
