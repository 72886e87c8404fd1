"""Turns of a tier that begin one after the other: who waits, who is turned away, who gives way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from shared.errors import (
    Conflict,
    DependencyUnavailable,
    LimitReached,
    NotFound,
    NotInTier,
    SessionEnded,
)
from shared.limits import pace
from shared.limits.pace import Gone, LeftWaiting, Paces, TierBusy, Watchers
from shared.tiers import TierChanged

A_SECOND = 100.0
AT_ONCE = 10  # a tenth of a second's
MOST_WAITING = 20  # as many as in the 0.2 s for which each may wait


class Line:
    """Turns of the free tier, at a clock that stands still until it is moved."""

    def __init__(self, *, longest: float = 0.2) -> None:
        self.now = 1000.0
        self.begun: list[str] = []
        self.waited: list[float] = []
        self.turned_away: list[str] = []
        self.paces = Paces(
            {"free": A_SECOND},
            longest=timedelta(seconds=longest),
            watchers=Watchers(
                lambda _, seconds: self.waited.append(seconds), self.turned_away.append
            ),
            monotonic=lambda: self.now,
        )

    async def take(
        self, name: str, gone: asyncio.Event | None = None, *, fails: Exception | None = None
    ) -> None:
        """One turn of the user of that name's first letter."""
        leaves = None if gone is None else lambda: _set(gone)
        async with self.paces.turn("free", name[0], leaves):
            if fails is not None:
                raise fails
            self.begun.append(name)

    def asks(self, name: str, gone: asyncio.Event | None = None) -> asyncio.Task[None]:
        return asyncio.create_task(self.take(name, gone))

    async def pass_by(self, turns: int) -> None:
        """So many times the time in which one turn more may begin, and until it has."""
        for _ in range(turns):
            self.now += 1 / A_SECOND
            expected = len(self.begun) + 1
            async with asyncio.timeout(10):
                while len(self.begun) < expected:
                    await asyncio.sleep(0.001)


async def _set(event: asyncio.Event) -> None:
    await event.wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@asynccontextmanager
async def waiting_line(*names: str) -> AsyncIterator[tuple[Line, dict[str, asyncio.Task[None]]]]:
    """All that may begin at once has begun; these wait."""
    line = Line()
    for _ in range(AT_ONCE):
        await line.take("early")
    line.begun.clear()
    tasks = {}
    for name in names:
        tasks[name] = line.asks(name)
        await settle()
    try:
        yield line, tasks
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
    assert line.paces.waiting("free") == 0


async def test_a_tier_without_a_pace_begins_whatever_comes() -> None:
    line = Line()
    for _ in range(1_000):
        async with line.paces.turn("pro", "ada"):
            pass
    assert line.paces.waiting("pro") == 0


async def test_what_is_too_much_at_once_begins_in_order_as_time_passes() -> None:
    async with waiting_line("a", "b", "c", "d") as (line, _tasks):
        assert line.paces.waiting("free") == 4
        await line.pass_by(1)
        assert line.begun == ["a"]
        await line.pass_by(2)
        assert line.begun == ["a", "b", "c"]
        assert line.waited == pytest.approx([0.01, 0.02, 0.03])


async def test_a_newcomer_does_not_overtake_who_waits() -> None:
    async with waiting_line("a") as (line, tasks):
        line.now += 1 / A_SECOND  # the turn of `a`, who has not noticed yet
        tasks["b"] = line.asks("b")
        await settle()
        await line.pass_by(1)
        assert line.begun == ["a", "b"]


async def test_whoever_would_wait_too_long_is_told_so_at_once() -> None:
    names = [f"{chr(ord('a') + number)}" for number in range(MOST_WAITING)]
    async with waiting_line(*names) as (line, _tasks):
        with pytest.raises(TierBusy) as refused:
            await line.take("z")
        assert refused.value.retry_after is not None
        assert timedelta(seconds=0.2) <= refused.value.retry_after <= timedelta(seconds=0.22)
        assert line.turned_away == ["free"]
        await line.pass_by(MOST_WAITING)
        assert line.begun == names, "all who may wait get their turn"


async def test_without_patience_nobody_waits() -> None:
    line = Line(longest=0)
    for _ in range(AT_ONCE):
        await line.take("a")
    with pytest.raises(TierBusy):
        await line.take("a")


async def test_one_users_flood_gives_way_to_others_and_they_do_not_to_it() -> None:
    flood = [f"a{number}" for number in range(MOST_WAITING)]
    async with waiting_line(*flood) as (line, tasks):
        tasks["b"] = line.asks("b")
        await settle()
        assert isinstance(tasks[flood[-1]].exception(), TierBusy), "the last of the largest"
        with pytest.raises(TierBusy):
            await line.take("a more")
        assert line.paces.waiting("free") == MOST_WAITING
        await line.pass_by(MOST_WAITING)
        assert line.begun == [*flood[:-1], "b"]


async def test_a_client_that_leaves_begins_nothing_and_keeps_nobody_waiting() -> None:
    gone = asyncio.Event()
    async with waiting_line() as (line, tasks):
        left, tasks["b"] = line.asks("a", gone), line.asks("b")
        await settle()
        gone.set()
        with pytest.raises(LeftWaiting):
            await left
        assert line.paces.waiting("free") == 1
        await line.pass_by(1)
        assert line.begun == ["b"]


async def test_a_cancelled_wait_loses_no_turn() -> None:
    async with waiting_line("a", "b") as (line, tasks):
        tasks["a"].cancel()
        await settle()
        await line.pass_by(1)
        assert line.begun == ["b"]


async def test_a_turn_that_came_to_whoever_is_just_cancelled_goes_on_to_the_next() -> None:
    async with waiting_line("a", "b", "c") as (line, tasks):
        # All in one step of the loop: the turn is given, and its taker is cancelled before it runs.
        line.now += 1 / A_SECOND
        line.paces._paces["free"]._time_has_come()
        tasks["a"].cancel()
        await settle()
        assert line.begun == ["b"]


async def fails_before_b(failure: Exception) -> list[str]:
    """Who has begun once a turn has failed for which another waits, with no time in between."""
    async with waiting_line() as (line, tasks):
        fails = asyncio.create_task(line.take("a", fails=failure))
        await settle()
        tasks["b"] = line.asks("b")
        await settle()
        line.now += 1 / A_SECOND
        with pytest.raises(type(failure)):
            await fails
        await settle()
        return list(line.begun)


@pytest.mark.parametrize("failure", [NotFound("None."), TierChanged("pro"), SessionEnded()])
async def test_a_turn_that_is_refused_leaves_its_place_to_the_next(failure: Exception) -> None:
    assert await fails_before_b(failure) == ["b"]


@pytest.mark.parametrize("failure", [DependencyUnavailable("database"), Conflict("."), KeyError()])
async def test_a_turn_that_fails_when_all_was_asked_for_has_used_its_place(
    failure: Exception,
) -> None:
    """Otherwise a tier would have no pace where it is needed most, nor one who meets himself."""
    assert await fails_before_b(failure) == []


async def test_a_turn_that_is_broken_off_has_used_its_place() -> None:
    async with waiting_line("a") as (line, tasks):
        holding = asyncio.Event()

        async def begins() -> None:
            async with line.paces.turn("free", "c"):
                holding.set()
                await asyncio.Event().wait()

        await line.pass_by(1)
        line.now += 1 / A_SECOND
        tasks["c"] = asyncio.create_task(begins())
        async with asyncio.timeout(10):
            await holding.wait()
        tasks["b"] = line.asks("b")
        await settle()
        tasks["c"].cancel()
        await settle()
        assert line.begun == ["a"]


async def test_whoever_is_cancelled_while_the_watch_ends_is_cancelled() -> None:
    """A wait that is over has its watcher to end; what comes in that moment must not be lost."""
    async with waiting_line() as (line, tasks):

        async def slow_to_leave() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                tasks["a"].cancel()
                raise

        async def asks() -> None:
            async with line.paces.turn("free", "a", slow_to_leave):
                line.begun.append("a")

        tasks["a"] = asyncio.create_task(asks())
        await settle()
        line.now += 1 / A_SECOND
        line.paces._paces["free"]._time_has_come()
        tasks["b"] = line.asks("b")
        await asyncio.wait({tasks["a"]}, timeout=10)
        assert tasks["a"].cancelled()
        await settle()
        assert line.begun == ["b"], "and nobody loses the turn"


async def test_however_slow_the_pace_a_moment_to_come_again_can_be_told() -> None:
    paces = Paces({"free": 1e-300})
    async with paces.turn("free", "a"):
        pass
    with pytest.raises(TierBusy) as refused:
        async with paces.turn("free", "a"):
            raise AssertionError
    assert refused.value.retry_after == timedelta(hours=1)


HASTE_SECONDS = 1.0625
"""Nobody else sleeps for that long."""


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Whoever is held back is so for a moment only; how long each should have been."""
    held: list[float] = []

    async def sleep(seconds: float) -> None:
        if seconds != HASTE_SECONDS:  # somebody else's
            await real(seconds)
            return
        held.append(seconds)
        for _ in range(3):
            await real(0)

    real = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(pace, "_HASTE_SECONDS", HASTE_SECONDS)
    return held


def full() -> LimitReached:
    return LimitReached("Full.", retry_after=timedelta(seconds=30))


async def test_whoever_is_not_in_the_tier_for_it_is_held_back_as_well(soon: list[float]) -> None:
    line = Line()
    for _ in range(2):
        with pytest.raises(NotInTier):
            await line.take("a", fails=NotInTier("Not yours."))
    assert soon == [HASTE_SECONDS]


async def refused(line: Line, subject: str = "a", gone: Gone | None = None) -> None:
    with pytest.raises(LimitReached, match="Full"):
        async with line.paces.turn("free", subject, gone):
            raise full()


async def test_who_asks_again_at_once_is_told_a_second_later(soon: list[float]) -> None:
    line = Line()
    await refused(line)
    assert soon == []
    await refused(line)
    await refused(line)
    assert soon == [HASTE_SECONDS] * 2
    await refused(line, "b")
    line.now += 2
    await refused(line)
    assert soon == [HASTE_SECONDS] * 2, "others, and who has waited, hear it at once"


async def test_of_those_only_so_many_are_held(
    soon: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "_MOST_HELD", 2)
    line = Line()
    await refused(line)
    await asyncio.gather(*(refused(line) for _ in range(5)))
    assert len(soon) == 2
    await refused(line)
    assert len(soon) == 3, "and they are counted no longer than that"


async def test_who_leaves_meanwhile_is_held_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_HASTE_SECONDS", 3_600.0)
    line, gone = Line(), asyncio.Event()
    await refused(line)
    held = asyncio.create_task(refused(line, gone=lambda: _set(gone)))
    await settle()
    assert not held.done()
    gone.set()
    async with asyncio.timeout(10):
        await held


async def test_a_tier_without_a_pace_is_told_at_once(soon: list[float]) -> None:
    paces = Paces()
    for _ in range(3):
        with pytest.raises(LimitReached):
            async with paces.turn("free", "a"):
                raise full()

    def refuse() -> None:
        raise full()

    # What is known beforehand is told there, too, and nothing is begun.
    with pytest.raises(LimitReached):
        async with paces.turn("free", "a", refuse=refuse):
            raise AssertionError("this has begun")
    assert soon == []


async def test_a_known_refusal_waits_for_no_turn_and_is_held_back_like_others(
    soon: list[float],
) -> None:
    def refuse() -> None:
        raise full()

    async with waiting_line("b") as (line, _tasks):
        for _ in range(2):
            with pytest.raises(LimitReached):
                async with line.paces.turn("free", "a", refuse=refuse):
                    raise AssertionError
        assert soon == [HASTE_SECONDS]


async def test_who_is_full_by_the_time_of_their_turn_is_refused_in_it() -> None:
    known: list[LimitReached] = []

    def refuse() -> None:
        if known:
            raise known[0]

    async def late() -> None:
        async with line.paces.turn("free", "a", refuse=refuse):
            raise AssertionError

    async with waiting_line() as (line, tasks):
        asking = asyncio.create_task(late())
        await settle()
        tasks["b"] = line.asks("b")
        await settle()
        known.append(full())
        await line.pass_by(1)
        with pytest.raises(LimitReached):
            await asking
        assert line.begun == ["b"], "the turn was not used"
