"""What Prometheus is told about turns: each once, by tier, whatever its length."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from prometheus_client import REGISTRY

from services.chat.actions.open_turn import OpenTurn
from services.chat.actions.settle_turn import SettleTurn
from services.chat.api import turn_metrics
from services.chat.domain.frames import Ended, Text
from services.chat.domain.running_turn import RunningTurn, RunningTurns
from services.chat.domain.turn import Outcome
from services.chat.domain.usage import Usage
from shared.tiers import TIERS
from tests.support.chat import (
    Desk,
    MemoryTurns,
    ScriptedProvider,
    ScriptStep,
    a_question,
    a_session,
)

SESSION = a_session()
TOLD = Usage(input_tokens=11, output_tokens=22)


@dataclass
class CountedDesk(Desk):
    """As wiring puts it together."""

    @property
    def settle(self) -> SettleTurn:
        return replace(super().settle, settled=turn_metrics.settled)

    @property
    def open(self) -> OpenTurn:
        return replace(super().open, let_in=turn_metrics.let_in)


def a_desk(*script: ScriptStep) -> CountedDesk:
    running = RunningTurns(answering=turn_metrics.answering)
    return CountedDesk(MemoryTurns(SESSION), ScriptedProvider(*script), running=running)


async def a_turn(desk: Desk) -> RunningTurn:
    turn = await desk.take_turn(a_question(SESSION, tier=TIERS["enterprise"]))
    assert isinstance(turn, RunningTurn)
    return turn


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"tier": "enterprise", **labels}) or 0.0


async def test_a_turn_counts_once_with_how_it_ended() -> None:
    labels = {"provider": "openai", "outcome": "done"}
    turns = sample("companion_chat_turns_total", **labels)
    admissions = sample("companion_chat_admission_seconds_count")
    first = sample("companion_chat_first_token_seconds_count", provider="openai")
    turn = await a_turn(a_desk(Text("Hel"), Text("lo"), Text("!"), Ended("stop", TOLD)))
    await asyncio.wait_for(turn.result(), 5)
    assert sample("companion_chat_turns_total", **labels) == turns + 1
    assert sample("companion_chat_admission_seconds_count") == admissions + 1
    # Of three pieces the first alone is timed.
    assert sample("companion_chat_first_token_seconds_count", provider="openai") == first + 1


async def test_a_settlement_that_was_made_before_counts_no_more() -> None:
    labels = {"provider": "openai", "outcome": "done"}
    desk = a_desk(Text("Hello"), Ended("stop", TOLD))
    turn = await a_turn(desk)
    await asyncio.wait_for(turn.result(), 5)
    before = sample("companion_chat_turns_total", **labels)
    assert not await desk.settle.once(turn.hold, desk.only_settlement)
    assert sample("companion_chat_turns_total", **labels) == before


async def test_what_runs_is_shown_by_tier() -> None:
    desk = a_desk(Text("Hello"), asyncio.Event())
    turn_metrics.watch_running(desk.running)
    turn = await a_turn(desk)
    assert sample("companion_chat_turns_running") == 1
    assert REGISTRY.get_sample_value("companion_chat_turns_running", {"tier": "free"}) == 0
    turn.end(Outcome.STOPPED)
    await asyncio.wait_for(turn.result(), 5)
    await asyncio.sleep(0)
    assert sample("companion_chat_turns_running") == 0
