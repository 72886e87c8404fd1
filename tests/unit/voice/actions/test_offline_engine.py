"""Speech without a vendor: for who asks for it by name, or would rather have it than none."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.voice.actions.speak import Wish
from services.voice.domain.errors import EngineBusy, EngineCannot, TextNotSpeakable, VoiceNotFound
from services.voice.domain.offline_engine import offline_order
from services.voice.domain.script import SettingsWish, SpeechOrder
from services.voice.domain.speech import Outcome
from shared.vendors.failures import NoUsableKey, VendorFailed
from tests.support.kept_speech import FakeEngine, spoken_before
from tests.support.voice import FakeProvider, Studio, a_wish, an_order

GERMAN = "espeak-de"


def a_studio(engine: FakeEngine | None = None) -> Studio:
    return Studio(offline=engine or FakeEngine())


def without_key() -> Studio:
    studio = Studio(
        provider=FakeProvider(failure=NoUsableKey("No key is stored.")), offline=FakeEngine()
    )
    studio.before = spoken_before(studio.clock)
    return studio


def for_the_engine(**changes: Any) -> SpeechOrder:
    return an_order(**{"voice_id": GERMAN, **changes})


def any_engine(order: SpeechOrder | None = None, **changes: Any) -> Wish:
    return replace(a_wish(order, **changes), any_engine=True)


@pytest.mark.parametrize("tier", ["free", "pro", "enterprise"])
async def test_it_speaks_for_who_asks_for_its_voice(tier: str) -> None:
    studio = a_studio()
    speech = await studio.speak(a_wish(for_the_engine(), tier=tier))
    assert await studio.hear(speech) == (b"Hello there.", "done")
    assert speech.script.format.name == "wav_22050"
    (usage,) = (fact.event for fact in studio.speeches.outbox)
    assert (usage.provider, usage.model, usage.characters) == ("espeak-ng", "espeak-ng", 12)
    assert (usage.source, usage.cached) == ("counted", False)
    # No vendor is asked, not even for the voice.
    assert studio.provider.scripts == []
    assert studio.provider.looked_up == []
    assert studio.admission.characters == [12]


@pytest.mark.parametrize(
    "order",
    [
        for_the_engine(format="mp3_44100_128"),
        for_the_engine(format="pcm_44100"),
        for_the_engine(model="eleven_multilingual_v2"),
        for_the_engine(with_timestamps=True),
    ],
    ids=["mp3", "another rate", "model", "timestamps"],
)
async def test_what_it_has_not_is_refused_with_what_it_has(order: SpeechOrder) -> None:
    studio = a_studio()
    with pytest.raises(EngineCannot) as refused:
        await studio.speak(a_wish(order))
    assert refused.value.facts["formats"] == ["wav_22050", "pcm_22050"]
    assert studio.admission.characters == []


async def test_it_may_be_told_how_fast_and_in_which_of_its_formats() -> None:
    engine = FakeEngine()
    order = for_the_engine(format="pcm_22050", model="espeak-ng", settings=SettingsWish(speed=1.2))
    await a_studio(engine).speak(a_wish(order))
    (script,) = engine.scripts
    assert (script.format.name, script.settings.speed) == ("pcm_22050", 1.2)


@pytest.mark.parametrize(
    "voice_id", ["espeak-xx", "espeak-", "espeak-../de", "espeak-" + "a" * 300]
)
async def test_an_unknown_voice_of_it_is_not_there(voice_id: str) -> None:
    with pytest.raises(VoiceNotFound):
        await a_studio().speak(a_wish(for_the_engine(voice_id=voice_id)))


async def test_where_it_is_off_its_voices_are_not_there() -> None:
    with pytest.raises(VoiceNotFound):
        await Studio().speak(a_wish(for_the_engine()))


async def test_long_texts_are_not_for_it() -> None:
    with pytest.raises(TextNotSpeakable):
        await a_studio().speak(a_wish(for_the_engine(text="a" * 5_001)))


async def test_without_a_key_it_speaks_for_who_takes_any_engine() -> None:
    studio = without_key()
    speech = await studio.speak(any_engine(key="k1"))
    assert (await studio.hear(speech))[1] == "done"
    assert (speech.hold.provider, speech.hold.voice_id) == ("espeak-ng", "espeak-en-us")
    refused, spoken = studio.speeches.settlements
    assert refused is not None and spoken is not None
    assert (refused.outcome, refused.used) == (Outcome.REFUSED, None)
    assert [fact.event.provider for fact in studio.speeches.outbox] == ["espeak-ng"]
    # The refusal's place in the limits was given back.
    assert [given.refunds for given in studio.admission.given] == [1, 0]


async def test_it_speaks_the_language_that_was_told() -> None:
    studio = without_key()
    speech = await studio.speak(any_engine(an_order(language_code="de")))
    assert speech.hold.voice_id == GERMAN


async def test_nobody_hears_it_without_having_said_so() -> None:
    with pytest.raises(NoUsableKey):
        await without_key().speak(a_wish())


async def test_it_does_not_stand_in_with_something_else_than_was_asked_for() -> None:
    with pytest.raises(NoUsableKey):
        await without_key().speak(any_engine(an_order(format="mp3_44100_128")))
    assert offline_order(an_order(with_timestamps=True), FakeEngine()) is None


async def test_a_text_that_is_too_long_for_it_is_no_fault_of_who_has_no_key() -> None:
    with pytest.raises(NoUsableKey):
        await without_key().speak(any_engine(an_order("a" * 5_001)))
    speech = await without_key().speak(any_engine(an_order(" " * 5_001 + "a" * 5_000)))
    assert speech.hold.characters == 5_000


async def test_its_failures_are_told_and_cost_nothing() -> None:
    for failure in (EngineBusy("espeak-ng", timedelta(seconds=2)), VendorFailed("espeak-ng")):
        studio = a_studio(FakeEngine(failure=failure))
        with pytest.raises(type(failure)):
            await studio.speak(a_wish(for_the_engine()))
        assert studio.speeches.outbox == []
        assert studio.admission.given[0].refunds == 1
