"""On whose key each call of a turn ran, as billing is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from uuid import UUID

import pytest

from services.chat.domain.frames import Frame
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.turn import Prompt
from services.chat.domain.usage import Usage
from shared.identity import OnBehalfOf
from shared.revocation import UsedKey
from shared.tiers import TIERS
from shared.vendors.failures import VendorFailed, VendorOverloaded
from tests.support.chat import (
    Desk,
    MemoryTurns,
    MemoryWork,
    ScriptedProvider,
    ScriptStep,
    a_question,
    a_session,
    ada,
    an_answer,
    falling_back,
)

FIRM, OTHER = UUID(int=70), UUID(int=71)
SESSION = a_session()
OVERLOADED = VendorOverloaded("In trouble.", provider="openai")
LOST = VendorFailed("openai")  # after it was asked: it may charge

Told = Sequence[UUID | None]
"""Whose key each request of an attempt ran on; None: no answer came that would tell."""


class Telling(ScriptedProvider):
    """One with an egress before it that tells whose key served."""

    def __init__(self, *told: Told, script: Sequence[Sequence[ScriptStep]], name: str) -> None:
        super().__init__(*script[0], then=script[1:], name=name)
        self._told = list(told)

    async def answer(self, prompt: Prompt, *, by: OnBehalfOf, stream: bool) -> AsyncIterator[Frame]:
        for owner in self._told[min(len(self.prompts), len(self._told) - 1)]:
            if owner is None:
                by.key.untold()
            else:
                by.key.answered(self.name, UsedKey(owner, self.name, 1).told)
        async for frame in super().answer(prompt, by=by, stream=stream):
            yield frame


async def told_to_billing(
    *openai: Told, script: Sequence[Sequence[ScriptStep]], gemini: Told = ()
) -> list[tuple[str, UUID | None]]:
    """The calls of a turn: at which vendor, and on which organisation's key."""
    desk = Desk(
        MemoryTurns(SESSION),
        Telling(*openai, script=script, name="openai"),
        others={"gemini": Telling(gemini, script=[an_answer("Instead")], name="gemini")},
        work=falling_back("gemini") if gemini else MemoryWork(),
    )
    turn = await desk.take_turn(a_question(SESSION, tier=TIERS["pro"]))
    assert isinstance(turn, RunningTurn)
    await asyncio.wait_for(turn.result(), 5)
    events = [fact.event for fact in desk.turns.facts]
    return [(event.provider, event.key_organisation_id) for event in events]


@pytest.mark.parametrize(
    ("told", "whose"),
    [
        ([FIRM], FIRM),
        ([ada], None),
        ([], None),
        ([FIRM, FIRM], FIRM),
        ([FIRM, ada], None),
        ([FIRM, None], None),
    ],
)
async def test_a_turn_says_on_whose_key_it_ran(told: Told, whose: UUID | None) -> None:
    found = await told_to_billing(told, script=[an_answer("Hello")])
    assert found == [("openai", whose)]


async def test_what_an_earlier_attempt_ran_on_says_nothing_of_the_one_that_answered() -> None:
    script: Sequence[Sequence[ScriptStep]] = [[OVERLOADED], an_answer("Hello")]
    assert await told_to_billing([FIRM], [ada], script=script) == [("openai", None)]
    assert await told_to_billing([ada], [FIRM], script=script) == [("openai", FIRM)]


async def test_an_attempt_that_was_left_keeps_its_own_key() -> None:
    found = await told_to_billing([FIRM], script=[[LOST]], gemini=[OTHER])
    assert found == [("openai", FIRM), ("gemini", OTHER)]
    found = await told_to_billing([FIRM], script=[[LOST]], gemini=[ada])
    assert found == [("openai", FIRM), ("gemini", None)]
    # It was asked, and lost before anything told.
    found = await told_to_billing([None], script=[[LOST]], gemini=[FIRM])
    assert found == [("openai", None), ("gemini", FIRM)]


async def test_a_call_on_the_way_ran_on_the_same_key() -> None:
    aside = Usage(input_tokens=4, output_tokens=1)
    usage = replace(Usage(input_tokens=10, output_tokens=2), asides=(aside,))
    found = await told_to_billing([FIRM], script=[an_answer("Hello", usage=usage)])
    assert found == [("openai", FIRM)] * 2
