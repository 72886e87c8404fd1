"""Turns that run by a script, in a session and without one."""

from __future__ import annotations

import asyncio
from uuid import UUID

from services.chat.actions.open_turn import Opening
from services.chat.domain.capabilities import Capabilities, OnLeaving
from services.chat.domain.content import Role, Utterance
from services.chat.domain.model_choice import ModelChoice
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.turn import Prompt, Surface
from services.chat.domain.turn_events import Answered, Broken
from services.chat.domain.usage import Usage
from shared.identity import OnBehalfOf
from shared.tiers import TIERS
from tests.support.chat import (
    Desk,
    MemoryTurns,
    ScriptedProvider,
    ScriptStep,
    a_question,
    a_session,
    ada,
)

SESSION = a_session()


BY = OnBehalfOf(ada, "request-1", "token", UUID(int=9))


TOLD = Usage(input_tokens=11, output_tokens=22)


def a_desk(*script: ScriptStep, drains: bool = False) -> Desk:
    provider = ScriptedProvider(*script)
    provider.capabilities = Capabilities(on_leaving=OnLeaving.DRAIN if drains else OnLeaving.CANCEL)
    return Desk(MemoryTurns(SESSION), provider)


async def in_a_session(desk: Desk) -> RunningTurn:
    turn = await desk.take_turn(a_question(SESSION, tier=TIERS["pro"]))
    assert isinstance(turn, RunningTurn)
    return turn


async def without_a_session(desk: Desk, *, key: str | None = None) -> RunningTurn:
    choice = ModelChoice("openai", "gpt-6-luna", 1_000)
    prompt = Prompt(choice, None, [Utterance(Role.USER, "What is this?")], "someone")
    opening = Opening(
        by=BY,
        tier=TIERS["pro"],
        choice=choice,
        input_estimate=prompt.input_estimate,
        cap_microusd=None,
        surface=Surface.V1,
        idempotency_key=key,
        request_hash=b"hash",
    )
    return desk.run(await desk.open(opening), prompt, by=BY, stream=True)


async def said(turn: RunningTurn, events: int) -> None:
    while len(turn.events) < events:
        await turn.more(len(turn.events))


async def result_of(turn: RunningTurn) -> Answered | Broken:
    return await asyncio.wait_for(turn.result(), 5)
