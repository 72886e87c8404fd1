"""From a wish to a script: the text, and what the tier grants."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace

import orjson
import pytest

from services.voice.domain.audio_format import QUALITIES, AudioFormat
from services.voice.domain.errors import (
    AudioTooLargeForJson,
    FormatNotInTier,
    FormatNotInVendorPlan,
    SpeakerBoostNotInTier,
    SpeechNotInTier,
    TextNotInTier,
    TextNotSpeakable,
    UnknownFormat,
    VoiceModelNotInTier,
    VoiceNotFound,
    VoiceNotInTier,
)
from services.voice.domain.own_settings import effective, filled
from services.voice.domain.script import (
    LONGEST_SPEECH,
    SettingsWish,
    has_every_voice,
    has_voices_of_others,
    includes_voice,
    others_for,
    refuse_outside,
    script_for,
)
from services.voice.domain.voice import VoiceCategory, VoiceSettings
from shared.model_catalogue import ModelCatalogue
from shared.tiers import TIERS, tier_named
from shared.vendors.failures import VendorPlanRequired
from tests.support.voice import VOICES, a_script, an_order

FREE, PRO, ENTERPRISE = TIERS["free"], TIERS["pro"], TIERS["enterprise"]
RACHEL, PROFESSIONAL, CLONE = VOICES
FIRST_WISHES = {"text", "voice_id", "model", "format", "settings"}


def test_white_space_around_the_text_is_neither_said_nor_counted() -> None:
    assert a_script(" \n Hello.\t ").characters == len("Hello.")


def test_a_text_may_have_lines_and_tabs_of_any_system() -> None:
    assert a_script("one\r\ntwo\n\tthree").text == "one\ntwo\n\tthree"


@pytest.mark.parametrize("text", ["", " \n\t ", "a" * (LONGEST_SPEECH + 1)])
def test_an_empty_or_too_long_text_is_refused(text: str) -> None:
    with pytest.raises(TextNotSpeakable) as refused:
        a_script(text)
    assert refused.value.facts["most_characters"] == 40_000


def test_the_longest_text_is_said() -> None:
    assert a_script(f" {'ä' * LONGEST_SPEECH} ").characters == LONGEST_SPEECH


def test_a_text_beyond_the_tier_names_the_tier_that_speaks_it() -> None:
    assert a_script("a" * 5_000, tier="free").characters == 5_000
    with pytest.raises(TextNotInTier) as refused:
        a_script("a" * 5_001, tier="free")
    assert refused.value.facts == {
        "characters": 5_001,
        "most_characters": 5_000,
        "tier": "free",
        "upgrade_tier": "pro",
    }
    with pytest.raises(TextNotInTier) as longest:
        a_script("a" * 40_000, tier="free")
    assert longest.value.facts["upgrade_tier"] == "pro"


def test_a_long_text_is_said_in_parts_that_know_their_neighbours() -> None:
    text = " ".join(f"Sentence number {number}." for number in range(600))
    parts = a_script(text).in_parts()
    assert " ".join(part.text for part in parts) == text
    assert all(4_900 < part.characters <= 5_000 for part in parts[:-1])
    assert [part.before for part in parts] == ["", *(part.text[-500:] for part in parts[:-1])]
    assert [part.after for part in parts] == [*(part.text[:500] for part in parts[1:]), ""]
    assert a_script("Short.").in_parts() == [a_script("Short.")]


def test_so_much_audio_as_no_document_should_hold_is_refused_before_it_is_made() -> None:
    long = "a" * 40_000
    assert a_script(long, at_once=True).characters == 40_000
    assert a_script(long, tier="enterprise", format="pcm_48000").characters == 40_000
    with pytest.raises(AudioTooLargeForJson):
        a_script(long, tier="enterprise", format="pcm_48000", at_once=True)


def test_an_order_is_still_the_same_request_with_what_orders_had_later() -> None:
    plain = an_order()
    said = {name: value for name, value in asdict(plain).items() if name in FIRST_WISHES}
    old = hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).digest()
    assert plain.request_hash == old
    assert an_order(at_once=True).request_hash != an_order(seed=0).request_hash
    assert an_order(at_once=True, with_timestamps=True).request_hash == old
    assert an_order(seed=0).request_hash != old


@pytest.mark.parametrize("character", ["\0", "\x1b", "\x7f", "\x85", "\r", "\ud800", "\udfff"])
def test_what_nobody_can_say_is_refused(character: str) -> None:
    with pytest.raises(TextNotSpeakable):
        a_script(f"one{character}two")


@pytest.mark.parametrize("text", ["👋🏽 hello", "naïve – “quoted”", "日本語", "שלום"])
def test_any_language_may_be_said(text: str) -> None:
    assert a_script(text).text == text


@pytest.mark.parametrize("voice_id", ["", "../user", "a/b", "a?x=1", "a%2e", "a" * 65, "ä"])
def test_what_is_no_voice_id_looks_like_an_absent_voice(voice_id: str) -> None:
    with pytest.raises(VoiceNotFound):
        a_script(voice_id=voice_id)


@pytest.mark.parametrize(
    ("tier", "default"),
    [("free", "mp3_44100_64"), ("pro", "mp3_44100_128"), ("enterprise", "mp3_44100_128")],
)
def test_each_quality_has_a_default_format(tier: str, default: str) -> None:
    assert a_script(tier=tier).format == AudioFormat(default)


def test_every_tier_has_a_quality_and_larger_ones_include_smaller_ones() -> None:
    by_rank = sorted(TIERS.values(), key=lambda tier: tier.rank)
    formats = [QUALITIES[tier.allowances["elevenlabs"].quality].formats for tier in by_rank]
    assert formats[0] < formats[1] < formats[2]
    assert all(quality.default in quality.formats for quality in QUALITIES.values())


@pytest.mark.parametrize(
    ("tier", "name", "upgrade"),
    [
        ("free", "mp3_44100_192", "pro"),
        ("free", "wav_44100", "enterprise"),
        ("pro", "pcm_44100", "enterprise"),
    ],
)
def test_a_format_beyond_the_tier_names_the_tier_that_has_it(
    tier: str, name: str, upgrade: str
) -> None:
    with pytest.raises(FormatNotInTier) as refused:
        a_script(tier=tier, format=name)
    facts = refused.value.facts
    assert (facts["format"], facts["tier"], facts["upgrade_tier"]) == (name, tier, upgrade)
    assert "mp3_44100_64" in facts["formats"]


def test_a_format_of_no_tier_is_invalid() -> None:
    with pytest.raises(UnknownFormat):
        a_script(format="mp3_1_1")


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("mp3_44100_64", "audio/mpeg"),
        ("pcm_44100", "audio/pcm"),
        ("wav_44100", "audio/wav"),
        ("ulaw_8000", "audio/basic"),
        ("alaw_8000", "audio/x-alaw-basic"),
        ("opus_48000_64", "audio/ogg"),
    ],
)
def test_formats_have_the_content_type_of_their_codec(name: str, content_type: str) -> None:
    assert a_script(tier="enterprise", format=name).format.content_type == content_type


@pytest.mark.parametrize(
    ("refused", "wished", "others"),
    [
        (FormatNotInVendorPlan("elevenlabs"), "pcm_48000", ["pcm_32000", "mp3_44100_128"]),
        # Whichever format it is that the vendor says it of.
        (FormatNotInVendorPlan("elevenlabs"), "pcm_24000", ["mp3_44100_128"]),
        (FormatNotInVendorPlan("elevenlabs"), "mp3_44100_128", []),
        # A refusal that does not say what it is about may be about one that needs a larger plan.
        (VendorPlanRequired("No.", provider="elevenlabs"), "mp3_44100_192", ["mp3_44100_128"]),
        (VendorPlanRequired("No.", provider="elevenlabs"), "opus_48000_64", ["mp3_44100_128"]),
        (VendorPlanRequired("No.", provider="elevenlabs"), "pcm_24000", []),
    ],
)
def test_another_format_is_asked_for_where_the_users_plan_makes_no_such_audio(
    refused: VendorPlanRequired, wished: str, others: list[str]
) -> None:
    asked = others_for(refused, AudioFormat(wished), ENTERPRISE)
    assert [format_.name for format_ in asked] == others


@pytest.mark.parametrize(
    ("name", "a_second"),
    [
        ("mp3_44100_128", 16_000),
        ("opus_48000_64", 8_000),
        ("pcm_48000", 96_000),
        ("wav_8000", 16_000),
        ("ulaw_8000", 8_000),
    ],
)
def test_a_second_of_audio_has_as_many_bytes_as_its_format_says(name: str, a_second: int) -> None:
    assert AudioFormat(name).bytes_per_second == a_second


def test_what_a_user_has_said_once_for_all_holds_where_the_tier_includes_it() -> None:
    own = SettingsWish(stability=0.9, use_speaker_boost=False)
    assert effective(own, PRO) == VoiceSettings(stability=0.9, use_speaker_boost=False)
    assert effective(SettingsWish(), PRO).use_speaker_boost
    # It was said under a larger tier: no reason to refuse, and nothing that is turned on.
    boosted = SettingsWish(stability=0.9, use_speaker_boost=True)
    assert effective(boosted, FREE) == VoiceSettings(stability=0.9, use_speaker_boost=False)
    order = filled(an_order(settings=SettingsWish(stability=0.1)), boosted, PRO)
    assert order.settings == SettingsWish(stability=0.1, use_speaker_boost=True)
    order = filled(an_order(), boosted, FREE)
    assert order.settings == SettingsWish(stability=0.9)


def test_the_model_is_the_tiers_first_unless_one_is_named() -> None:
    catalogue = ModelCatalogue()
    assert a_script(tier="free").model == catalogue.id_of("elevenlabs.standard")
    assert a_script(tier="pro").model == catalogue.id_of("elevenlabs.high")
    named = a_script(tier="pro", model="elevenlabs.standard")
    assert named.model == catalogue.id_of("elevenlabs.standard")


def test_a_model_beyond_the_tier_names_the_tier_that_has_it() -> None:
    with pytest.raises(VoiceModelNotInTier) as refused:
        a_script(tier="free", model="eleven_multilingual_v2")
    assert refused.value.facts["upgrade_tier"] == "pro"
    assert refused.value.facts["model"] == "eleven_multilingual_v2"
    with pytest.raises(VoiceModelNotInTier) as refused:
        a_script(tier="pro", model="my_own_model")
    assert refused.value.facts["upgrade_tier"] == "enterprise"


def test_custom_models_belong_to_the_tier_that_has_that_feature() -> None:
    assert a_script(tier="enterprise", model="my_own_model").model == "my_own_model"


def test_settings_have_the_specified_defaults() -> None:
    settings = a_script(tier="free").settings
    assert (settings.stability, settings.similarity_boost, settings.style) == (0.75, 0.75, 0.0)
    assert settings.speed is None


def test_speaker_boost_is_on_from_pro_on() -> None:
    boosts = {name: a_script(tier=name).settings.use_speaker_boost for name in TIERS}
    assert boosts == {"free": False, "pro": True, "enterprise": True}


def test_what_the_user_sets_counts() -> None:
    wish = {"stability": 0.0, "use_speaker_boost": False, "speed": 1.1}
    settings = a_script(tier="pro", settings=wish).settings
    assert (settings.stability, settings.use_speaker_boost, settings.speed) == (0.0, False, 1.1)
    assert settings.similarity_boost == 0.75


def test_speaker_boost_can_not_be_switched_on_below_its_tier() -> None:
    with pytest.raises(SpeakerBoostNotInTier) as refused:
        a_script(tier="free", settings={"use_speaker_boost": True})
    assert refused.value.facts["upgrade_tier"] == "pro"


def test_free_has_basic_voices_only() -> None:
    assert [includes_voice(FREE, voice) for voice in VOICES] == [True, False, False]
    for voice in (PROFESSIONAL, CLONE):
        with pytest.raises(VoiceNotInTier) as refused:
            refuse_outside(FREE, voice)
        assert refused.value.facts["upgrade_tier"] == "pro"
        assert refused.value.facts["category"] == voice.category


def test_only_a_tier_that_leaves_voices_out_needs_a_look_at_them() -> None:
    assert [has_every_voice(tier) for tier in (FREE, PRO, ENTERPRISE)] == [False, False, True]
    included = {
        each for each in VoiceCategory if includes_voice(PRO, replace(RACHEL, category=each))
    }
    assert included == set(VoiceCategory) - {VoiceCategory.ENTERPRISE}
    assert [has_voices_of_others(tier) for tier in (FREE, PRO, ENTERPRISE)] == [False, True, True]


def test_a_tier_without_speech_says_which_one_has_it() -> None:
    silent = replace(FREE, allowances={})
    with pytest.raises(SpeechNotInTier) as refused:
        script_for(an_order(), silent, ModelCatalogue())
    assert refused.value.facts["upgrade_tier"] == "pro"


def test_the_same_wish_has_the_same_hash_and_any_other_another() -> None:
    order = an_order()
    assert order.request_hash == an_order().request_hash
    others = [
        an_order("Hello there!"),
        an_order(format="mp3_44100_32"),
        an_order(model="eleven_flash_v2_5"),
        an_order(voice_id=PROFESSIONAL.id),
    ]
    assert len({order.request_hash, *(other.request_hash for other in others)}) == 5


def test_an_unknown_tier_falls_back_to_free() -> None:
    script = script_for(an_order(), tier_named("gold"), ModelCatalogue())
    assert script.format == QUALITIES["standard"].default
