"""Which voices a user sees, and how those speak for them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.voice.actions._check_voice import check_voice
from services.voice.actions.change_voice_settings import ChangeVoiceSettings
from services.voice.actions.read_voice import ReadVoice
from services.voice.actions.read_voice_settings import ReadVoiceSettings
from services.voice.actions.recall_settings import RecallSettings
from services.voice.domain.errors import SpeakerBoostNotInTier, VoiceNotFound, VoiceNotInTier
from services.voice.domain.script import SettingsWish
from services.voice.domain.voice import Voice, VoiceCategory, VoiceId
from services.voice.domain.voice_search import VoicePage, VoiceQuery
from shared.identity import OnBehalfOf
from shared.tiers import TIERS
from shared.vendors.failures import NoUsableKey
from tests.support.kept_speech import MemoryRecollections, spoken_before
from tests.support.voice import (
    PROFESSIONAL,
    RACHEL,
    VOICES,
    FakeProvider,
    a_wish,
    an_order,
    on_behalf_of,
)
from tests.support.voice import Studio as SpeechStudio
from tests.support.voice_studio import VoiceRoom

BRAND = Voice(VoiceId("thebrandsvoice"), "Brand", VoiceCategory.ENTERPRISE)


def reading(room: VoiceRoom) -> ReadVoice:
    return ReadVoice(room.provider, room.work)  # type: ignore[arg-type]


def settings_of(room: VoiceRoom) -> tuple[ReadVoiceSettings, ChangeVoiceSettings]:
    read = ReadVoiceSettings(room.provider, room.work)  # type: ignore[arg-type]
    return read, ChangeVoiceSettings(room.provider, room.work, room.clock)  # type: ignore[arg-type]


async def test_the_list_holds_what_the_tier_includes() -> None:
    room = VoiceRoom()
    room.studio.page = VoicePage([*VOICES, BRAND], "further")
    seen = {}
    for name, tier in TIERS.items():
        page = await room.list_voices(VoiceQuery(), tier, by=on_behalf_of())
        assert page.next_token == "further"
        seen[name] = [found.voice.id for found in page.found]
    everything = [voice.id for voice in VOICES]
    assert seen == {"free": [RACHEL], "pro": everything, "enterprise": [*everything, BRAND.id]}


async def test_what_the_tier_leaves_out_is_shown_on_request_with_the_tier_that_has_it() -> None:
    room = VoiceRoom()
    room.studio.page = VoicePage([*VOICES, BRAND])
    page = await room.list_voices(
        VoiceQuery(search="x"), TIERS["free"], by=on_behalf_of(), unavailable_too=True
    )
    shown = [(found.voice.id, found.included, found.upgrade_tier) for found in page.found]
    assert shown == [
        (RACHEL, True, None),
        (PROFESSIONAL, False, "pro"),
        ("myownclone01", False, "pro"),
        (BRAND.id, False, "enterprise"),
    ]
    assert room.studio.queries == [VoiceQuery(search="x")]


async def test_a_voice_outside_the_tier_is_refused_one_by_one_too() -> None:
    room = VoiceRoom()
    read, (settings, change) = reading(room), settings_of(room)
    for refused in (
        read(PROFESSIONAL, TIERS["free"], by=on_behalf_of()),
        settings(PROFESSIONAL, TIERS["free"], by=on_behalf_of()),
        change(PROFESSIONAL, {"style": 0.5}, TIERS["free"], by=on_behalf_of()),
    ):
        with pytest.raises(VoiceNotInTier):
            await refused
    assert room.own_settings.kept == {}
    assert (await read(PROFESSIONAL, TIERS["pro"], by=on_behalf_of())).name == "Library Voice"


async def test_an_unknown_voice_is_absent_whatever_the_tier() -> None:
    for tier in ("free", "pro"):
        with pytest.raises(VoiceNotFound):
            await reading(VoiceRoom())("nobody", TIERS[tier], by=on_behalf_of())


async def test_what_is_no_id_never_reaches_the_vendor() -> None:
    room = VoiceRoom()
    with pytest.raises(VoiceNotFound):
        await reading(room)("../user", TIERS["free"], by=on_behalf_of())
    assert room.provider.looked_up == []


async def test_own_settings_stand_over_the_defaults_and_go_back_to_them() -> None:
    room, by = VoiceRoom(), on_behalf_of()
    read, change = settings_of(room)
    before = await read(RACHEL, TIERS["pro"], by=by)
    assert before.effective == before.defaults
    assert (before.defaults.stability, before.defaults.use_speaker_boost) == (0.75, True)
    assert before.recommended.stability == 0.5

    await change(RACHEL, {"stability": 0.2, "speed": 1.1}, TIERS["pro"], by=by)
    changed = await read(RACHEL, TIERS["pro"], by=by)
    assert (changed.effective.stability, changed.effective.speed) == (0.2, 1.1)
    assert changed.own == SettingsWish(stability=0.2, speed=1.1)
    assert (await read(RACHEL, TIERS["pro"], by=on_behalf_of())).own == SettingsWish()

    await change(RACHEL, {"stability": None}, TIERS["pro"], by=by)
    reset = await read(RACHEL, TIERS["pro"], by=by)
    assert (reset.effective.stability, reset.effective.speed) == (0.75, 1.1)


async def test_speaker_boost_is_not_kept_for_a_tier_without_it() -> None:
    room, by = VoiceRoom(), on_behalf_of()
    read, change = settings_of(room)
    with pytest.raises(SpeakerBoostNotInTier) as refused:
        await change(RACHEL, {"use_speaker_boost": True}, TIERS["free"], by=by)
    assert refused.value.facts["upgrade_tier"] == "pro"
    # What was said under a larger tier stays, and rests.
    await change(RACHEL, {"use_speaker_boost": True, "style": 0.4}, TIERS["pro"], by=by)
    free = await read(RACHEL, TIERS["free"], by=by)
    assert (free.effective.use_speaker_boost, free.effective.style) == (False, 0.4)


async def test_a_speech_is_spoken_with_the_own_settings_where_it_names_none() -> None:
    studio, by = SpeechStudio(), on_behalf_of()
    studio.before = spoken_before(studio.clock)
    assert isinstance(studio.before.recollections, MemoryRecollections)
    own = SettingsWish(stability=0.1, style=0.3, use_speaker_boost=True)
    studio.before.recollections.own[by.user_id, VoiceId(RACHEL)] = own
    order = an_order(settings=SettingsWish(style=0.9))
    for tier in ("pro", "free"):
        await studio.speak(a_wish(order, tier=tier, by=by))
    spoken = [script.settings for script in studio.provider.scripts]
    assert [(s.stability, s.style, s.use_speaker_boost) for s in spoken] == [
        (0.1, 0.9, True),
        (0.1, 0.9, False),
    ]


class NoLooking(FakeProvider):
    async def voice(self, voice_id: VoiceId, *, by: OnBehalfOf) -> Voice:
        raise NoUsableKey("no permission", provider="elevenlabs", reason="key_restricted")


async def test_a_key_that_may_not_look_may_still_speak_where_next_to_nothing_is_left_out() -> None:
    voices = NoLooking()
    await check_voice(voices, VoiceId(RACHEL), TIERS["pro"], by=on_behalf_of())
    with pytest.raises(NoUsableKey):
        await check_voice(voices, VoiceId(RACHEL), TIERS["free"], by=on_behalf_of())
    with pytest.raises(VoiceNotInTier):
        await check_voice(FakeProvider(known=[BRAND]), BRAND.id, TIERS["pro"], by=on_behalf_of())


async def test_nobody_is_spoken_to_in_a_voice_that_is_anothers() -> None:
    studio, by = SpeechStudio(), on_behalf_of()
    studio.before = spoken_before(studio.clock)
    assert isinstance(studio.before.recollections, MemoryRecollections)
    studio.before.recollections.hidden.add((by.user_id, VoiceId(RACHEL)))
    for cached in (True, False):
        with pytest.raises(VoiceNotFound):
            await studio.speak(replace(a_wish(by=by), may_be_cached=cached))
    with pytest.raises(VoiceNotFound):
        await RecallSettings(studio.before.recollections)(RACHEL, by.user_id)
    # One look tells it, and nobody is asked.
    assert studio.before.recollections.looks == 3
    assert (studio.provider.scripts, studio.speeches.kept) == ([], {})
