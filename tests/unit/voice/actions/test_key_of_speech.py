"""On whose key a speech was spoken, as billing is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

import pytest

from services.voice.domain.formats_in_plan import FormatsInPlan
from services.voice.domain.ports import Audio, LiveVoice
from services.voice.domain.script import Manner, Script
from services.voice.domain.speech import Outcome, settlement_of_lost, usage_fact
from shared.identity import OnBehalfOf
from shared.revocation import UsedKey
from shared.vendors.failures import VendorPlanRequired
from tests.support.kept_speech import spoken_before
from tests.support.voice import (
    FakeAudio,
    FakeLine,
    FakeLines,
    FakeProvider,
    Studio,
    a_hold,
    a_live_wish,
    a_wish,
    an_order,
    on_behalf_of,
)

FIRM = UUID(int=70)


def tell(by: OnBehalfOf, owner: UUID | None) -> None:
    """As the egress does; None: no answer came."""
    if owner is None:
        by.key.untold()
    else:
        by.key.answered("elevenlabs", UsedKey(owner, "elevenlabs", 1).told)


@dataclass
class Telling(FakeProvider):
    """One with an egress before it that tells, request by request, whose key served."""

    told: Sequence[UUID | None] = (FIRM,)

    @asynccontextmanager
    async def speak(self, script: Script, *, by: OnBehalfOf) -> AsyncIterator[Audio]:
        tell(by, self.told[len(self.scripts)])
        async with super().speak(script, by=by) as audio:
            yield audio


class TellingLines(FakeLines):
    """The same of lines for live speech, of which each is opened on another's key."""

    def __init__(self, *told: UUID | None) -> None:
        super().__init__()
        self.told = list(told)

    @asynccontextmanager
    async def live(self, manner: Manner, *, by: OnBehalfOf) -> AsyncIterator[LiveVoice]:
        tell(by, self.told.pop(0))
        self.line = FakeLine()
        async with super().live(manner, by=by) as voice:
            yield voice


def whose(studio: Studio) -> list[UUID | None]:
    return [fact.event.key_organisation_id for fact in studio.speeches.outbox]


@pytest.mark.parametrize("is_firms", [True, False])
async def test_a_speech_says_on_whose_key_it_was_spoken(is_firms: bool) -> None:
    by = on_behalf_of()
    owner = FIRM if is_firms else by.user_id
    studio = Studio(provider=Telling(told=[owner]))
    await studio.hear(await studio.speak(a_wish(by=by)))
    assert whose(studio) == [FIRM if is_firms else None]


async def test_what_was_looked_up_before_says_nothing_of_the_speech() -> None:
    by = on_behalf_of()
    tell(by, FIRM)
    studio = Studio(provider=Telling(told=[by.user_id]))
    await studio.hear(await studio.speak(a_wish(by=by)))
    assert whose(studio) == [None]


@pytest.mark.parametrize(("second", "known"), [(FIRM, FIRM), (UUID(int=71), None), (None, None)])
async def test_a_speech_in_parts_is_on_one_key_or_it_is_left_open(
    second: UUID | None, known: UUID | None
) -> None:
    studio = Studio(provider=Telling(told=[FIRM, second]))
    order = an_order("One sentence is said. " * 300)
    await studio.hear(await studio.speak(a_wish(order, tier="enterprise")))
    assert len(studio.provider.scripts) == 2
    assert whose(studio) == [known]


async def test_each_live_speech_of_a_socket_is_on_the_key_that_its_line_was_opened_with() -> None:
    studio, by = Studio(), on_behalf_of()
    studio.lines = TellingLines(FIRM, by.user_id)
    one, other = [await studio.speak_live(a_live_wish(by=by)) for _ in range(2)]
    for speech in (one, other):
        await speech.say("One.")
        await speech.finish()
    for speech in (one, other):
        await speech.read()
        await speech.conclude(Outcome.DONE)
        await studio.settled()
    assert whose(studio) == [FIRM, None]


def test_nobody_knows_on_whose_key_a_lost_replica_spoke() -> None:
    hold = replace(a_hold(), request_id=f"req-{uuid4()}")
    fact = usage_fact(hold, settlement_of_lost(hold))
    assert fact is not None
    assert fact.event.key_organisation_id is None


async def test_what_turns_out_to_be_kept_is_on_nobodys_key() -> None:
    studio = Studio(provider=Telling(told=[FIRM] * 3))
    studio.before = spoken_before(studio.clock)
    by = on_behalf_of()
    wish = a_wish(an_order(format="mp3_44100_192"), by=by)
    for _ in range(2):
        studio.formats = FormatsInPlan(studio.clock)
        refusal = VendorPlanRequired("Not in your plan.", provider="elevenlabs")
        studio.provider.audios = [refusal, FakeAudio(b"one")]
        await studio.hear(await studio.speak(wish))
    assert whose(studio) == [FIRM, None]
