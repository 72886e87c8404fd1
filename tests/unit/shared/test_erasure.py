"""Forgetting users, whatever there is to forget."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar
from uuid import uuid4

import pytest

from shared.erasure import ErasureId, Forget, Left
from shared.errors import DependencyUnavailable
from shared.events.user import UserForgotten
from shared.ids import UserId
from shared.values import dataclass
from tests.support.clocks import NOON, StoppedClock
from tests.support.erasure import MemoryForgettingWork

ada, grace = UserId(uuid4()), UserId(uuid4())
ERASURE = ErasureId(uuid4())


class Traces:
    """What is left of whom, and what goes wrong."""

    def __init__(self, **_nothing: object) -> None:
        self.rows: dict[UserId, int] = {}
        self.running: set[UserId] = set()
        self.is_down = False
        self.steps = 0


@dataclass(frozen=True)
class ForgetRows(Forget[MemoryForgettingWork]):
    service: ClassVar[str] = "chat"

    async def erase(self, work: MemoryForgettingWork, user_id: UserId) -> Left:
        traces: Traces = work.traces
        if traces.is_down:
            raise DependencyUnavailable("database")
        traces.steps += 1
        traces.rows[user_id] = max(0, traces.rows.get(user_id, 0) - 10)
        if traces.rows[user_id]:
            return Left.MORE
        return Left.UNSETTLED if user_id in traces.running else Left.NOTHING


class Desk:
    def __init__(self) -> None:
        self.work, self.clock, self.traces = MemoryForgettingWork(), StoppedClock(), Traces()
        self.work.traces = self.traces
        self.forget = ForgetRows(self.work.begin, self.clock)


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_what_can_be_erased_is_erased_at_once_and_told(desk: Desk) -> None:
    desk.traces.rows[ada] = 35
    await desk.forget.begin([(ada, ERASURE)])
    assert (desk.traces.rows[ada], desk.traces.steps) == (0, 4)
    assert desk.work.published == [UserForgotten(user_id=ada, erasure_id=ERASURE, service="chat")]
    assert desk.work.forgotten.rows[ada].done_at == NOON


async def test_nothing_is_told_before_the_last_paid_call_is_settled(desk: Desk) -> None:
    desk.traces.running.add(ada)
    await desk.forget.begin([(ada, ERASURE)])
    await desk.forget.go_on()
    assert desk.work.told == []
    desk.traces.running.clear()
    await desk.forget.go_on()
    await desk.forget.go_on()
    assert desk.work.told == [ada]


async def test_the_wish_outlives_a_database_that_goes_away(desk: Desk) -> None:
    desk.traces.is_down = True
    with pytest.raises(DependencyUnavailable):
        await desk.forget.begin([(ada, ERASURE)])
    desk.traces.is_down = False
    await desk.forget.go_on()
    assert desk.work.told == [ada]


async def test_who_is_asked_again_says_it_again(desk: Desk) -> None:
    await desk.forget.begin([(ada, ERASURE), (ada, ERASURE)])
    assert desk.work.told == [ada]
    await desk.forget.begin([(ada, ERASURE)])
    assert desk.work.told == [ada, ada]


async def test_a_user_whom_another_worker_erases_is_left_to_it(desk: Desk) -> None:
    desk.work.forgotten.busy.add(ada)
    await desk.forget.begin([(ada, ERASURE), (grace, ERASURE)])
    assert desk.work.told == [grace]


async def test_what_comes_late_is_erased_too_for_an_hour(desk: Desk) -> None:
    await desk.forget.begin([(ada, ERASURE)])
    desk.traces.rows[ada] = 5
    desk.clock.at += timedelta(minutes=59)
    await desk.forget.watch()
    assert desk.traces.rows[ada] == 0
    assert ada in desk.work.forgotten.rows
    desk.clock.at += timedelta(minutes=2)
    desk.traces.rows[ada] = 5
    await desk.forget.watch()
    assert desk.traces.rows[ada] == 0
    assert desk.work.forgotten.rows == {}
    assert desk.work.told == [ada]


async def test_who_has_much_does_not_keep_the_others_waiting(desk: Desk) -> None:
    desk.traces.rows[ada] = 10_000
    await desk.forget.begin([(ada, ERASURE), (grace, ERASURE)])
    assert desk.work.told == [grace]
    while ada not in desk.work.told:
        await desk.forget.go_on()
    assert desk.traces.rows[ada] == 0
