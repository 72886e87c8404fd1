"""What did not come is asked for: patiently, piece by piece, and less and less often."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.billing.actions import request_missing_usage
from services.billing.actions.reconcile import Reconcile
from services.billing.actions.request_missing_usage import RequestMissingUsage
from services.billing.domain.completeness import PIECE, Progress, Range, Stream
from shared.events.usage import UsageReplayRequested
from tests.support.billing import EPOCH, Memory, StoppedClock

PATIENCE = timedelta(seconds=15)


def stream(*received: Range, announced: int = 0, tier: str = "pro") -> Progress:
    name = Stream("chat", EPOCH, f"usage.recorded.{tier}")
    return Progress(name, received, announced=announced)


def asked(memory: Memory) -> list[Range]:
    return [
        (event.first_sequence, event.last_sequence)
        for event, _, _ in memory.published
        if isinstance(event, UsageReplayRequested)
    ]


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


def requesting(memory: Memory, clock: StoppedClock) -> RequestMissingUsage:
    return RequestMissingUsage(memory.work, clock, PATIENCE)


async def test_a_gap_is_asked_for_once_it_is_old_enough(clock: StoppedClock) -> None:
    memory = Memory(streams=[stream((1, 4), (7, 9))])
    request = requesting(memory, clock)
    assert await request() == 0
    clock.forward(PATIENCE)
    assert await request() == 1
    event, _, tier = memory.published[0]
    assert event == UsageReplayRequested(
        producer="chat",
        stream="usage.recorded.pro",
        epoch=EPOCH,
        first_sequence=5,
        last_sequence=6,
    )
    assert tier == "pro"


async def test_what_was_only_late_is_not_asked_for(clock: StoppedClock) -> None:
    memory = Memory(streams=[stream((1, 4), (7, 9))])
    await requesting(memory, clock)()
    memory.streams = [stream((1, 9))]
    clock.forward(PATIENCE)
    assert await requesting(memory, clock)() == 0
    assert memory.gap_list == []


async def test_a_loss_at_the_tail_is_asked_for(clock: StoppedClock) -> None:
    memory = Memory(streams=[stream((1, 4), announced=6)])
    await requesting(memory, clock)()
    clock.forward(PATIENCE)
    await requesting(memory, clock)()
    assert asked(memory) == [(5, 6)]


async def test_a_gap_that_stays_is_asked_for_less_and_less_often(clock: StoppedClock) -> None:
    memory = Memory(streams=[stream((1, 4), (7, 9))])
    for _ in range(24 * 360):  # a day of runs, every ten seconds
        await requesting(memory, clock)()
        clock.forward(timedelta(seconds=10))
    assert 24 < len(memory.published) < 40
    assert memory.gap_list[0].requests == len(memory.published)


async def test_a_gap_at_the_tail_grows_without_forgetting_its_age(clock: StoppedClock) -> None:
    memory = Memory(streams=[stream((1, 4), announced=6)])
    await requesting(memory, clock)()
    memory.streams = [stream((1, 4), announced=9)]
    clock.forward(PATIENCE)
    await requesting(memory, clock)()
    assert asked(memory) == [(5, 9)]


async def test_one_run_asks_for_so_much_only_and_the_next_for_the_rest(
    clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_missing_usage, "MOST_REQUESTS", 2)
    memory = Memory(streams=[stream(announced=5 * PIECE)])
    await requesting(memory, clock)()
    clock.forward(PATIENCE)
    for _ in range(3):
        await requesting(memory, clock)()
    assert sorted(asked(memory)) == [(n * PIECE + 1, (n + 1) * PIECE) for n in range(5)]


async def test_so_many_gaps_are_looked_after_and_no_more(clock: StoppedClock) -> None:
    memory = Memory(streams=[stream(*((n, n) for n in range(2, 10_000, 2)))])
    await requesting(memory, clock)()
    assert len(memory.gap_list) == request_missing_usage.MOST_GAPS


async def test_a_stream_of_a_tier_that_is_no_more_is_repaired_too(clock: StoppedClock) -> None:
    memory = Memory(streams=[stream(announced=1, tier="gold")])
    await requesting(memory, clock)()
    clock.forward(PATIENCE)
    await requesting(memory, clock)()
    assert [tier for _, _, tier in memory.published] == ["free"]


async def test_the_billing_team_sees_all_of_it() -> None:
    memory = Memory(streams=[stream(announced=3)], strays=2, dead=5)
    state = await Reconcile(memory.work, StoppedClock())()
    assert (state.stray_rows, state.dead_events) == (2, 5)
    assert [progress.missing_count for progress in state.progress] == [3]
