"""Which voices a user sees."""

from __future__ import annotations

import pytest

from services.voice.actions.list_voices import ListVoices
from services.voice.actions.read_voice import ReadVoice
from services.voice.actions.read_voice_settings import ReadVoiceSettings
from services.voice.domain.errors import VoiceNotFound, VoiceNotInTier
from shared.tiers import TIERS
from tests.support.voice import PROFESSIONAL, RACHEL, FakeProvider, on_behalf_of


async def test_the_list_holds_what_the_tier_includes() -> None:
    list_voices = ListVoices(FakeProvider())
    free = await list_voices(TIERS["free"], by=on_behalf_of())
    pro = await list_voices(TIERS["pro"], by=on_behalf_of())
    assert [voice.id for voice in free] == [RACHEL]
    assert len(pro) == 3


async def test_a_voice_outside_the_tier_is_refused_one_by_one_too() -> None:
    read, settings = ReadVoice(FakeProvider()), ReadVoiceSettings(FakeProvider())
    with pytest.raises(VoiceNotInTier):
        await read(PROFESSIONAL, TIERS["free"], by=on_behalf_of())
    with pytest.raises(VoiceNotInTier):
        await settings(PROFESSIONAL, TIERS["free"], by=on_behalf_of())
    assert (await read(PROFESSIONAL, TIERS["pro"], by=on_behalf_of())).name == "Library Voice"


async def test_an_unknown_voice_is_absent_whatever_the_tier() -> None:
    for tier in ("free", "pro"):
        with pytest.raises(VoiceNotFound):
            await ReadVoice(FakeProvider())("nobody", TIERS[tier], by=on_behalf_of())


async def test_what_is_no_id_never_reaches_the_vendor() -> None:
    provider = FakeProvider()
    with pytest.raises(VoiceNotFound):
        await ReadVoice(provider)("../user", TIERS["free"], by=on_behalf_of())
    assert provider.looked_up == []
