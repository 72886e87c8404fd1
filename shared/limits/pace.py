"""How many turns of a tier a replica begins a second; what is too much at once waits, in order.

Limits count by the user and by the minute: they let all users of a tier begin at the same moment.
What a turn then needs (a vault, an egress, a database) all tiers share, so a burst of one would be
felt in the others. Who waits holds nothing: no place in the limits, no money, no connection.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import timedelta

from shared.errors import Conflict, ExpectedFailure, LimitReached, NotInTier, Unavailable
from shared.tiers import TierChanged
from shared.values import dataclass

Gone = Callable[[], Awaitable[None]]
"""Returns once the client has left."""

_AT_ONCE_SECONDS = 0.1
"""What may begin at the same moment: as many as in so much time."""
_ONE = 1 - 1e-9
"""A whole turn, in a bucket that is filled by fractions."""
_SOON_SECONDS = 0.001
_HASTE_SECONDS = 1.0
_MOST_HELD = 100
"""Fewer than an autoscaler takes for what a busy replica has (`deploy/k8s/scaling.py`): a flood of
refusals needs no more replicas."""
_MOST_REMEMBERED = 20_000
_LONGEST_TOLD_SECONDS = 3_600.0
# A turn that fails so has cost what others do: given back, it would be begun again and again when
# what all tiers share is in trouble, or as fast as one user can ask in a session that answers.
_DEAR = (Unavailable, Conflict)


class TierBusy(Unavailable):
    """More wait for their turn in this tier than can have one within the time for it. Nothing was
    counted."""

    code = "tier_busy"

    def __init__(self, retry_after: timedelta) -> None:
        super().__init__(
            "More is asked in your tier at the moment than can be begun. Nothing was counted: "
            "try again in a moment.",
            retry_after=retry_after,
        )


class LeftWaiting(Conflict):
    """The client left before its turn came, so nothing was begun. Nobody hears of it, and it is no
    trouble of ours."""

    code = "left_waiting"

    def __init__(self) -> None:
        super().__init__("The client left before its turn came.")


def _nobody(*_said: object) -> None:
    """There is nobody to be told."""


@dataclass(frozen=True, slots=True)
class Watchers:
    """Who hears of a tier's turns: of each that had to wait, in seconds, and of each that was
    turned away."""

    waited: Callable[[str, float], None] = _nobody
    turned_away: Callable[[str], None] = _nobody


_UNWATCHED = Watchers()


class Paces:
    """The pace of each tier that has one; turns of any other begin at once.

    `longest`: how long a turn may wait. As the pace is known, so is at its coming whether a turn
    would wait longer; then it is turned away at once, instead of for nothing later.
    """

    def __init__(
        self,
        per_second: Mapping[str, float] | None = None,
        *,
        longest: timedelta = timedelta(seconds=5),
        watchers: Watchers = _UNWATCHED,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watchers = watchers
        self._hasty = _Hasty(monotonic)
        self._paces = {
            tier: _Pace(rate, longest, monotonic) for tier, rate in (per_second or {}).items()
        }

    def waiting(self, tier: str) -> int:
        """How many turns of the tier wait here."""
        pace = self._paces.get(tier)
        return 0 if pace is None else pace.waiting

    def turn(
        self,
        tier: str,
        subject: Hashable,
        gone: Gone | None = None,
        refuse: Callable[[], None] = _nobody,
    ) -> AbstractAsyncContextManager[None]:
        """One turn of a user's, begun within the block: one that is refused there has used nothing,
        and the next may begin in its place. Not so one that all was asked for, and that failed for
        our trouble, for another turn beside it, or since it was broken off. `refuse` raises for
        whom it is known that they would be refused; it is asked before they wait, and again after.
        Whoever is refused, here or there, and has just been refused, is told so a second later.

        Raises TierBusy, LeftWaiting once the client is `gone`, and what `refuse` does.
        """
        pace = self._paces.get(tier)
        return _AtOnce(refuse) if pace is None else self._turn(tier, pace, subject, gone, refuse)

    @asynccontextmanager
    async def _turn(
        self,
        tier: str,
        pace: _Pace,
        subject: Hashable,
        gone: Gone | None,
        refuse: Callable[[], None],
    ) -> AsyncIterator[None]:
        try:
            refuse()
            await self._begin(tier, pace, subject, gone)
            try:
                refuse()
                yield
            except (ExpectedFailure, TierChanged) as failure:
                if not isinstance(failure, _DEAR):
                    pace.give_back()
                raise
        except (LimitReached, NotInTier, TierBusy):
            await self._hasty.held_back(subject, gone)
            raise

    async def _begin(self, tier: str, pace: _Pace, subject: Hashable, gone: Gone | None) -> None:
        try:
            seconds = await pace.take(subject, gone)
        except TierBusy:
            self._watchers.turned_away(tier)
            raise
        if seconds:
            self._watchers.waited(tier, seconds)


class _AtOnce(AbstractAsyncContextManager[None]):
    """The turn of a tier without a pace. A class, since most turns are such."""

    __slots__ = ("_refuse",)

    def __init__(self, refuse: Callable[[], None]) -> None:
        self._refuse = refuse

    async def __aenter__(self) -> None:
        self._refuse()

    async def __aexit__(self, *_failure: object) -> None:
        """It holds nothing."""


class _Pace:
    """A bucket of turns that fills steadily, and those who wait for the next one."""

    def __init__(self, rate: float, longest: timedelta, monotonic: Callable[[], float]) -> None:
        self._rate = rate
        self._monotonic = monotonic
        self._room = max(1.0, rate * _AT_ONCE_SECONDS)
        self._left, self._counted_at = self._room, monotonic()
        self._most = int(rate * longest.total_seconds())
        self._line: dict[asyncio.Future[None], Hashable] = {}
        self._of_user: Counter[Hashable] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        return len(self._line)

    async def take(self, subject: Hashable, gone: Gone | None) -> float:
        """Seconds waited. Raises TierBusy or LeftWaiting."""
        self._fill()
        if not self._line and self._left >= _ONE:
            self._left -= 1
            return 0.0
        self._make_room(subject)
        began, place = self._monotonic(), asyncio.get_running_loop().create_future()
        self._line[place] = subject
        self._of_user[subject] += 1
        self._come_back()
        try:
            await _first(place, gone)
        except BaseException:
            if self._is_in(place):
                self.give_back()
            raise
        finally:
            self._leave(place)
        return self._monotonic() - began

    def give_back(self) -> None:
        """A turn that was taken and not used."""
        self._fill()
        self._left += 1
        self._serve()

    @staticmethod
    def _is_in(place: asyncio.Future[None]) -> bool:
        return place.done() and not place.cancelled() and place.exception() is None

    def _make_room(self, subject: Hashable) -> None:
        """In a line that is full, whoever has most in it gives way to who has less by two or more:
        one user's flood keeps no place from another. Raises TierBusy."""
        if len(self._line) < self._most:
            return
        seconds = min((len(self._line) + 1) / self._rate, _LONGEST_TOLD_SECONDS)
        busy = TierBusy(timedelta(seconds=seconds))
        largest = max(self._of_user, key=self._of_user.__getitem__, default=subject)
        if self._of_user[largest] < self._of_user[subject] + 2:
            raise busy
        last = next(place for place, whose in reversed(self._line.items()) if whose == largest)
        self._leave(last)
        if not last.done():
            last.set_exception(busy)

    def _leave(self, place: asyncio.Future[None]) -> None:
        subject = self._line.pop(place, None)
        if subject is not None:
            self._of_user[subject] -= 1
            if not self._of_user[subject]:
                del self._of_user[subject]

    def _fill(self) -> None:
        now = self._monotonic()
        self._left = min(self._room, self._left + (now - self._counted_at) * self._rate)
        self._counted_at = now

    def _serve(self) -> None:
        while self._line and self._left >= _ONE:
            place = next(iter(self._line))
            self._leave(place)
            if not place.done():
                self._left -= 1
                place.set_result(None)
        self._come_back()

    def _come_back(self) -> None:
        if self._timer is None and self._line:
            seconds = max(_SOON_SECONDS, (1 - self._left) / self._rate)
            self._timer = asyncio.get_running_loop().call_later(seconds, self._time_has_come)

    def _time_has_come(self) -> None:
        self._timer = None
        self._fill()
        self._serve()


class _Hasty:
    """Users who ask again as soon as they are refused. However cheap a refusal is, many a second
    keep a gateway busy that all tiers share; answered late, they are as many as their connections.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._refused_at: OrderedDict[Hashable, float] = OrderedDict()
        self._held = 0

    async def held_back(self, subject: Hashable, gone: Gone | None) -> None:
        """Returns when they may be told, or have left."""
        last, now = self._refused_at.get(subject), self._monotonic()
        self._remember(subject, now)
        if last is None or now - last >= _HASTE_SECONDS or self._held >= _MOST_HELD:
            return
        self._held += 1
        rest = asyncio.ensure_future(asyncio.sleep(_HASTE_SECONDS))
        try:
            with suppress(LeftWaiting):
                await _first(rest, gone)
        finally:
            rest.cancel()
            self._held -= 1
            self._remember(subject, self._monotonic())

    def _remember(self, subject: Hashable, moment: float) -> None:
        self._refused_at[subject] = moment
        self._refused_at.move_to_end(subject)
        if len(self._refused_at) > _MOST_REMEMBERED:
            self._refused_at.popitem(last=False)


async def _first(place: asyncio.Future[None], gone: Gone | None) -> None:
    """Wait for the place, and no longer than the client does."""
    if gone is None:
        await place
        return
    watching = asyncio.ensure_future(gone())
    try:
        await asyncio.wait({place, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not place.done():
            raise LeftWaiting
        place.result()
    finally:
        watching.cancel()
        # Until it has ended nobody else may listen to the client. Awaited itself, it could not be
        # told from us who of both is cancelled.
        await asyncio.wait({watching})
        if not watching.cancelled():
            watching.result()
