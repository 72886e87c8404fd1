"""A question whose answer is to be heard: when its line to voice is opened, and that none stays."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

import pytest

from services.chat.actions.ask_live import AskLive
from services.chat.actions.ask_spoken import AskSpoken
from services.chat.domain.running_turn import RunningTurns
from services.chat.domain.speaking import SpeakWish, VoiceLine
from services.chat.domain.spoken_turn import SpokenTurn
from shared.errors import LimitReached
from shared.identity import OnBehalfOf
from shared.limits.pace import LeftWaiting, Paces, TierBusy
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

NEVER = 0.001  # turns a second


class SilentLine:
    """A line on which nothing is heard until it is closed."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def prepare(self) -> None:
        """Nobody listens."""

    async def say(self, sentence: str) -> None:
        """Nobody listens."""

    async def finish(self) -> None:
        """Nobody listens."""

    async def stop(self) -> None:
        """Nobody listens."""

    async def hear(self) -> tuple[str, bytes]:
        await self.closed.wait()
        return "end", b"{}"

    async def close(self) -> None:
        self.closed.set()


class House:
    """A desk with a pace, and voice beside it."""

    def __init__(self, admission: MemoryAdmission | None = None, *, most_waiting: int = 1) -> None:
        self.lines: list[SilentLine] = []
        session = a_session()
        turns = MemoryTurns(session)
        told = RunningTurns(encode=lambda _event: ("told", b"{}"))
        self.desk = Desk(
            turns,
            ScriptedProvider(*an_answer("x")),
            admission or MemoryAdmission(),
            running=told,
            paces=Paces(
                dict.fromkeys(TIERS, NEVER), longest=timedelta(seconds=most_waiting / NEVER)
            ),
        )
        self.question = a_question(session, stream=True, speak=SpeakWish(voice_id="rachel"))
        self.ask = AskSpoken(
            AskLive(self.desk.take_turn, cast(Any, turns), cast(Any, None)),
            cast(Any, None),
            self,
            lambda _failure: ("audio_failed", b"{}"),
        )

    async def line(self, manner: Mapping[str, Any], *, by: OnBehalfOf) -> VoiceLine:
        self.lines.append(SilentLine())
        return self.lines[-1]

    @property
    def waiting(self) -> int:
        return self.desk.paces.waiting(self.question.tier.name)

    async def asked(self) -> None:
        """A question whose turn comes at once, to the end of its answer."""
        turn = (await self.ask(self.question)).turn
        assert isinstance(turn, SpokenTurn)
        async with asyncio.timeout(10):
            while not self.desk.turns.settled:
                await asyncio.sleep(0)
        turn.leave()


async def test_whoever_waits_or_is_turned_away_holds_no_line() -> None:
    house, left = House(), asyncio.Event()
    await house.asked()
    assert len(house.lines) == 1

    async def gone() -> None:
        await left.wait()

    waits = asyncio.ensure_future(house.ask(house.question, gone))
    async with asyncio.timeout(10):
        while not house.waiting:
            await asyncio.sleep(0)
    with pytest.raises(TierBusy):
        await house.ask(house.question)
    left.set()
    with pytest.raises(LeftWaiting):
        await waits
    assert len(house.lines) == 1


async def test_a_question_that_is_not_let_in_leaves_no_line_open() -> None:
    house = House(MemoryAdmission(places=0))
    with pytest.raises(LimitReached):
        await house.ask(house.question)
    assert [line.closed.is_set() for line in house.lines] == [True]


async def test_a_tier_that_is_another_by_now_opens_no_second_line() -> None:
    house = House(MemoryAdmission(told="pro"))
    await house.asked()
    assert len(house.lines) == 1
