"""The look at a voice before something else is asked that costs by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from services.voice.actions import _check_voice
from services.voice.actions.speak_live import LiveWish
from services.voice.domain.errors import SpeechRejected, VoiceNotFound
from services.voice.domain.looks import Looks
from services.voice.domain.voice import Voice, VoiceId
from shared.clients.egress import KeyUsedTooOften, NoUsableKey
from shared.errors import DependencyUnavailable
from shared.identity import OnBehalfOf
from shared.ids import UserId
from shared.vendors.failures import VendorRateLimited
from tests.support.voice import NOON, FakeProvider, StoppedClock, Studio, a_live_wish, on_behalf_of

RESTRICTED = NoUsableKey("No.", provider="elevenlabs", reason="key_restricted")


class Looking(FakeProvider):
    """Says what it is told to say of any voice, or nothing."""

    def __init__(self, *, fails: Exception | None = None, hangs: bool = False) -> None:
        super().__init__()
        self.fails, self.hangs = fails, hangs

    async def voice(self, voice_id: VoiceId, *, by: OnBehalfOf) -> Voice:
        known = await super().voice(voice_id, by=by)
        if self.hangs:
            await asyncio.sleep(60)
        if self.fails is not None:
            raise self.fails
        return known


def beside(tier: str = "enterprise", *, by: OnBehalfOf | None = None) -> LiveWish:
    return replace(a_live_wish(tier=tier, by=by or on_behalf_of()), is_beside=True)


async def looks(studio: Studio, wishes: Sequence[LiveWish]) -> int:
    """How often the vendor is asked for these."""
    assert isinstance(studio.provider, Looking)
    speak_live = studio.speak_live
    for wish in wishes:
        await speak_live(wish)
    return len(studio.provider.looked_up)


@pytest.mark.parametrize(
    "failure",
    [
        VendorRateLimited("No.", provider="elevenlabs"),
        DependencyUnavailable("keyvault"),
        KeyUsedTooOften("No.", retry_after=timedelta(seconds=1)),
        SpeechRejected("elevenlabs"),
        TimeoutError(),
        RESTRICTED,
    ],
)
async def test_trouble_with_a_look_refuses_nobody_and_is_not_sought_again_at_once(
    failure: Exception,
) -> None:
    studio, wish = Studio(provider=Looking(fails=failure)), beside()
    assert await looks(studio, [wish] * 3) == 1
    studio.clock.at = NOON + timedelta(minutes=2)
    assert await looks(studio, [wish]) == 2
    assert await looks(studio, [beside(by=on_behalf_of())]) == 3, "another's key is another matter"


@pytest.mark.parametrize("failure", [NoUsableKey("No."), VoiceNotFound("nobody")])
async def test_what_its_user_can_mend_is_told_each_time(failure: Exception) -> None:
    studio, wish = Studio(provider=Looking(fails=failure)), beside()
    for _ in range(2):
        with pytest.raises(type(failure)):
            await studio.speak_live(wish)
    assert len(studio.provider.looked_up) == 2


async def test_a_vendor_that_does_not_answer_is_waited_for_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_check_voice, "_LOOK_SECONDS", 0.01)
    studio, wish = Studio(provider=Looking(hangs=True)), beside()
    async with asyncio.timeout(5):
        assert await looks(studio, [wish] * 3) == 1


async def test_where_a_voice_has_to_be_looked_up_trouble_is_told() -> None:
    studio = Studio(provider=Looking(fails=DependencyUnavailable("keyvault")))
    for _ in range(2):
        with pytest.raises(DependencyUnavailable):
            await studio.speak_live(beside("pro"))


def test_so_many_are_remembered() -> None:
    looks, voice, users = (
        Looks(StoppedClock(), most=2),
        VoiceId("v"),
        [UserId(uuid4()) for _ in range(3)],
    )
    for user in users:
        looks.told_nothing(user, voice)
    assert [looks.are_in_vain(user, voice) for user in users] == [False, True, True]
