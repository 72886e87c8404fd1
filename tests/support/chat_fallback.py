"""A turn that openai answers by a script, or gemini in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from services.chat.domain.question import Question
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.turn_events import Answered, Broken
from shared.tiers import TIERS
from shared.vendors.failures import (
    VendorFailed,
    VendorOverloaded,
    VendorRateLimited,
)
from tests.support.chat import (
    Desk,
    MemoryTurns,
    MemoryWork,
    ScriptedProvider,
    ScriptStep,
    a_question,
    a_session,
    an_answer,
    falling_back,
)

SESSION = a_session()


HELLO = an_answer("Hello")


OVERLOADED = VendorOverloaded("In trouble.", provider="openai")


UNSENT = VendorFailed("openai", billed=False)


CUT = VendorFailed("openai")


def limited(**parts: object) -> VendorRateLimited:
    return VendorRateLimited("Slow down.", provider="openai", **parts)  # type: ignore[arg-type]


def a_desk(
    *scripts: Sequence[ScriptStep],
    gemini: Sequence[ScriptStep] | None = None,
    wishes: bool = False,
) -> Desk:
    """A user whose openai answers by these scripts, one an attempt, and who may wish that gemini
    answers in its place."""
    openai = ScriptedProvider(*scripts[0], then=scripts[1:])
    other = ScriptedProvider(*(gemini or an_answer("Instead")), name="gemini")
    return Desk(
        MemoryTurns(SESSION),
        openai,
        others={"gemini": other},
        work=falling_back("gemini") if wishes else MemoryWork(),
    )


async def last_event(desk: Desk, question: Question | None = None) -> Answered | Broken:
    question = question or a_question(SESSION, tier=TIERS["pro"])
    turn = await desk.take_turn(question)
    assert isinstance(turn, RunningTurn)
    return await asyncio.wait_for(turn.result(), 5)


def attempts(desk: Desk) -> tuple[int, int]:
    """How often each of the two was asked."""
    openai, gemini = desk.provider, desk.others["gemini"]
    assert isinstance(openai, ScriptedProvider)
    assert isinstance(gemini, ScriptedProvider)
    return len(openai.prompts), len(gemini.prompts)
