"""Voices that were looked up stay known, to the user who looked."""

from __future__ import annotations

from services.voice.domain.voice import VoiceId
from services.voice.providers.remembered_voices import RememberedVoices
from tests.support.voice import RACHEL, FakeProvider, on_behalf_of

ID = VoiceId(RACHEL)


async def test_a_voice_is_asked_for_once_per_user() -> None:
    vendor = FakeProvider()
    voices = RememberedVoices(vendor)
    ada, grace = on_behalf_of(), on_behalf_of()
    for by in (ada, ada, grace, grace):
        assert (await voices.voice(ID, by=by)).name == "Rachel"
    assert len(vendor.looked_up) == 2


async def test_a_voice_is_forgotten_after_a_while() -> None:
    vendor, now = FakeProvider(), [0.0]
    voices = RememberedVoices(vendor, now=lambda: now[0])
    ada = on_behalf_of()
    await voices.voice(ID, by=ada)
    now[0] = 601.0
    await voices.voice(ID, by=ada)
    assert len(vendor.looked_up) == 2
