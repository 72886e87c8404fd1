"""Every door's turns begin at the pace of their tier; whoever waits has nothing yet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeAlias

import pytest

from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.turn import Outcome
from shared.errors import LimitReached
from shared.limits import pace
from shared.limits.pace import Gone, LeftWaiting, Paces, TierBusy
from shared.tiers import TIERS
from tests.support.chat import (
    Desk,
    MemoryAdmission,
    MemoryTurns,
    ScriptedProvider,
    a_question,
    a_session,
    an_answer,
)
from tests.support.chat_calls import a_call, answering
from tests.support.chat_relayed import Client, Relay, ScriptedVendor

NEVER = 0.001  # turns a second: the next one comes when all who wait have gone
Door: TypeAlias = "Callable[[House, asyncio.Event], Awaitable[Any]]"


@dataclass
class House:
    """All doors, before one desk."""

    admission: MemoryAdmission = field(default_factory=MemoryAdmission)
    most_waiting: int = 2

    def __post_init__(self) -> None:
        self.session = a_session()
        self.desk = Desk(
            MemoryTurns(self.session),
            ScriptedProvider(*an_answer("x")),
            self.admission,
            paces=Paces(
                dict.fromkeys(TIERS, NEVER), longest=timedelta(seconds=self.most_waiting / NEVER)
            ),
        )

    @property
    def waiting(self) -> int:
        return sum(map(self.desk.paces.waiting, TIERS))


async def ask(house: House, leaves: asyncio.Event) -> Any:
    return await house.desk.take_turn(a_question(house.session), _until(leaves))


async def call(house: House, leaves: asyncio.Event) -> Any:
    return await answering(house.desk)(a_call(tier=TIERS["free"]), _until(leaves))


async def relay(house: House, leaves: asyncio.Event) -> Any:
    vendor = ScriptedVendor([asyncio.Event()])
    return await Relay(vendor, house.desk, Client(leaves=leaves))()


def _until(leaves: asyncio.Event) -> Gone:
    async def gone() -> None:
        await leaves.wait()

    return gone


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is refused again is told without delay."""
    monkeypatch.setattr(pace, "_HASTE_SECONDS", 0.0)


DOORS = pytest.mark.parametrize("door", [ask, call, relay])


async def ended(house: House) -> RunningTurn:
    """A turn that has begun at once, and is over."""
    turn = await house.desk.take_turn(a_question(house.session))
    assert isinstance(turn, RunningTurn)
    await turn.result()
    return turn


async def waiting(house: House, door: Door, leaves: asyncio.Event) -> asyncio.Task[Any]:
    """The one that comes after the only turn that may begin."""
    await ended(house)
    house.admission.requests.clear()
    before = house.waiting
    task = asyncio.ensure_future(door(house, leaves))
    async with asyncio.timeout(5):
        while house.waiting == before:
            await asyncio.sleep(0)
    return task


@DOORS
async def test_whoever_waits_has_no_place_and_leaves_without_a_trace(door: Door) -> None:
    house, leaves = House(), asyncio.Event()
    task = await waiting(house, door, leaves)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done()
    assert house.admission.requests == []
    assert len(house.desk.turns.holds) == 1
    leaves.set()
    with pytest.raises(LeftWaiting):
        await task
    assert house.waiting == 0
    assert house.admission.requests == []
    assert [s.outcome for s in house.desk.turns.settled.values()] == [Outcome.DONE]


@DOORS
async def test_who_is_turned_away_is_counted_nowhere(door: Door) -> None:
    house, leaves = House(most_waiting=1), asyncio.Event()
    task = await waiting(house, door, leaves)
    with pytest.raises(TierBusy):
        await door(house, asyncio.Event())
    assert house.admission.requests == []
    leaves.set()
    with pytest.raises(LeftWaiting):
        await task


@DOORS
async def test_what_is_refused_within_its_turn_leaves_it_to_the_next(door: Door) -> None:
    house, leaves = House(MemoryAdmission(places=0)), asyncio.Event()
    for _ in range(5):
        with pytest.raises(LimitReached):
            await door(house, leaves)
    assert house.waiting == 0


@dataclass
class KnownFull(MemoryAdmission):
    """Knows a user whose window is full."""

    def refuse_if_full(self, *_who: object) -> None:
        raise LimitReached("Full.", retry_after=timedelta(seconds=30))


@DOORS
async def test_a_known_refusal_waits_for_nobodys_turn(door: Door) -> None:
    house, leaves = House(most_waiting=0), asyncio.Event()
    await ended(house)
    with pytest.raises(TierBusy):
        await door(house, leaves)
    house.desk.admission = KnownFull()
    with pytest.raises(LimitReached):
        await door(house, leaves)


async def test_whoever_has_another_tier_by_now_is_let_in_at_its_pace() -> None:
    house = House(MemoryAdmission(told="pro"))
    house.desk.paces = Paces({"free": NEVER}, longest=timedelta())
    for _ in range(3):
        assert (await ended(house)).hold.tier == "pro"
