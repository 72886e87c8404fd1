"""What was said before is said again at no cost, to its own user alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.voice.actions import _spoken_before, relay_speech
from services.voice.actions.drop_old_speech import DropOldSpeech
from services.voice.actions.forget_idempotency_keys import ForgetIdempotencyKeys
from services.voice.actions.settle_orphans import SettleOrphans
from services.voice.actions.settle_speech import SettleSpeech
from services.voice.actions.speak import Wish
from services.voice.domain.errors import AlreadySpoken, VoiceNotInTier
from services.voice.domain.formats_in_plan import FormatsInPlan
from services.voice.domain.kept_speech import Bounds, KeptSpeechSeal, Recollection
from services.voice.domain.running_speech import RunningSpeech
from services.voice.domain.script import Extras, SettingsWish
from services.voice.domain.speech import Outcome, Used, settlement_of_lost
from services.voice.domain.voice import VoiceId
from shared.errors import DependencyUnavailable, LimitReached
from shared.idempotency import IdempotencyKeyReused, RequestInProgress
from shared.vendors.failures import NoUsableKey, VendorPlanRequired
from tests.support.kept_speech import (
    KEYS,
    MemoryKeptSpeeches,
    MemoryKeys,
    MemoryRecollections,
    spoken_before,
)
from tests.support.voice import (
    PROFESSIONAL,
    FakeAudio,
    Studio,
    a_script,
    a_user,
    a_wish,
    an_order,
    cut,
    on_behalf_of,
)
from tests.support.voice_studio import VoiceRoom
from tests.support.waiting import until

ADA = on_behalf_of()


def a_studio(bounds: Bounds | None = None) -> Studio:
    studio = Studio()
    studio.before = spoken_before(studio.clock, bounds)
    return studio


def kept(studio: Studio) -> MemoryKeptSpeeches:
    assert studio.before is not None
    assert isinstance(studio.before.kept_speeches, MemoryKeptSpeeches)
    return studio.before.kept_speeches


def recollections(studio: Studio) -> MemoryRecollections:
    assert studio.before is not None
    assert isinstance(studio.before.recollections, MemoryRecollections)
    return studio.before.recollections


class Noting(dict[int, bytes]):
    """Keys that tell when one is used."""

    def __init__(self, noted: list[str]) -> None:
        super().__init__(KEYS)
        self.noted = noted

    def __getitem__(self, version: int) -> bytes:
        self.noted.append("a key")
        return super().__getitem__(version)


async def said(studio: Studio, wish: Wish | None = None) -> tuple[bytes, bool]:
    """What was heard, and whether it was kept before."""
    studio.provider.audio = FakeAudio(b"one", b"two")
    speech = await studio.speak(wish or a_wish(by=ADA))
    heard, outcome = await studio.hear(speech)
    assert outcome == "done"
    return heard, speech.hold.cached


async def test_the_same_words_are_said_again_without_asking_and_cost_nothing() -> None:
    studio = a_studio()
    assert await said(studio) == (b"onetwo", False)
    assert await said(studio) == (b"onetwo", True)
    assert len(studio.provider.scripts) == 1
    first, again = (fact.event for fact in studio.speeches.outbox)
    assert (first.characters, first.cached) == (12, False)
    assert (again.characters, again.cached, again.source) == (0, True, "counted")
    assert (again.provider, again.outcome) == ("elevenlabs", "done")
    # A request of the minute's, and none of the month's characters.
    assert studio.admission.characters == [12, 0]


async def test_with_the_audio_goes_when_it_began_to_be_said() -> None:
    studio = a_studio()
    await said(studio)
    # A little before: a replica whose clock is behind may have heard of a voice that goes.
    assert kept(studio).began == [studio.clock.now() - timedelta(seconds=5)]


async def test_and_not_when_it_was_heard() -> None:
    studio = a_studio()
    speech = await studio.speak(a_wish(by=ADA))
    began = studio.clock.at
    studio.clock.at += timedelta(minutes=1)
    await studio.hear(speech)
    assert kept(studio).began == [began - timedelta(seconds=5)]


async def test_nothing_is_shared_between_users() -> None:
    studio = a_studio()
    await said(studio, a_wish(by=ADA))
    assert await said(studio, a_wish(by=on_behalf_of())) == (b"onetwo", False)


@pytest.mark.parametrize(
    "change",
    [
        {"text": "Hello there!"},
        {"format": "mp3_44100_64"},
        {"model": "eleven_flash_v2_5"},
        {"voice_id": PROFESSIONAL},
        {"settings": SettingsWish(stability=0.1)},
        {"language_code": "de"},
        {"seed": 7},
        {"extras": Extras('{"apply_text_normalization":"off"}')},
    ],
    ids=str,
)
async def test_whatever_is_said_otherwise_is_another_speech(change: dict[str, Any]) -> None:
    studio = a_studio()
    await said(studio)
    assert (await said(studio, a_wish(an_order(**change), by=ADA)))[1] is False
    assert (await said(studio))[1] is True


async def test_who_wants_nothing_kept_is_neither_kept_nor_recalled() -> None:
    studio = a_studio()
    shy = replace(a_wish(by=ADA), may_be_cached=False)
    await said(studio, shy)
    assert kept(studio).kept == {}
    await said(studio)
    assert (await said(studio, shy))[1] is False


@pytest.mark.parametrize(
    "order",
    [
        an_order("a" * 1_001),
        an_order(extras=Extras(query="&enable_logging=false")),
        an_order(
            extras=Extras(
                '{"pronunciation_dictionary_locators":[{"pronunciation_dictionary_id":"d"}]}'
            )
        ),
    ],
    ids=["too long", "the vendor keeps nothing either", "a dictionary that may change"],
)
async def test_some_are_not_kept(order: Any) -> None:
    studio = a_studio()
    await said(studio, a_wish(order, by=ADA))
    assert kept(studio).kept == {}


async def test_audio_beyond_the_bound_is_not_kept() -> None:
    studio = a_studio(Bounds(bytes=5))
    await said(studio)
    assert kept(studio).kept == {}


async def test_what_did_not_come_whole_is_not_kept() -> None:
    studio = a_studio()
    studio.provider.audio = FakeAudio(b"one", cut())
    assert await studio.hear(await studio.speak(a_wish(by=ADA))) == (b"one", "provider_failed")
    assert kept(studio).kept == {}


async def test_an_old_one_is_asked_for_again_and_dropped() -> None:
    studio = a_studio()
    await said(studio)
    studio.clock.at += timedelta(days=31)
    await DropOldSpeech(kept(studio), studio.clock, Bounds().age)()
    assert kept(studio).kept == {}
    assert (await said(studio))[1] is False


async def test_what_can_not_be_kept_is_heard_all_the_same() -> None:
    studio = a_studio()
    speech = await studio.speak(a_wish(by=ADA))
    kept(studio).is_away = True
    assert (await studio.hear(speech))[1] == "done"
    await studio.settled()
    kept(studio).is_away = False
    assert kept(studio).kept == {}
    assert (await said(studio))[1] is False


async def test_a_database_that_is_away_refuses_before_anything_is_taken() -> None:
    studio = a_studio()
    kept(studio).is_away = True
    with pytest.raises(DependencyUnavailable):
        await studio.speak(a_wish(by=ADA))
    assert (studio.admission.characters, studio.provider.scripts) == ([], [])


async def test_one_look_is_enough_for_who_has_no_settings_of_their_own() -> None:
    studio = a_studio()
    await said(studio)
    await said(studio)
    await said(studio, replace(a_wish(by=ADA), may_be_cached=False))
    assert recollections(studio).looks == 3


async def test_own_settings_are_spoken_by_and_found_again_by() -> None:
    studio = a_studio()
    order = an_order()
    assert await said(studio) == (b"onetwo", False)
    recollections(studio).own[ADA.user_id, VoiceId(order.voice_id)] = SettingsWish(stability=0.2)
    # What was kept without them is not what they want to hear now.
    assert await said(studio) == (b"onetwo", False)
    assert [script.settings.stability for script in studio.provider.scripts] == [0.75, 0.2]
    assert await said(studio) == (b"onetwo", True)
    # What a request says itself wins, also where it says the default.
    plain = replace(order, settings=SettingsWish(stability=0.75))
    assert await said(studio, a_wish(plain, by=ADA)) == (b"onetwo", True)
    assert (await said(studio, replace(a_wish(by=ADA), may_be_cached=False)))[1] is False
    assert studio.provider.scripts[-1].settings.stability == 0.2


async def test_without_its_key_nothing_is_found_and_nothing_kept() -> None:
    studio = a_studio()
    assert studio.before is not None
    assert isinstance(studio.before.keys, MemoryKeys)
    await said(studio)
    studio.before.keys.keys = None
    assert (await said(studio))[1] is False
    studio.before.keys.keys = {2: bytes(32)}
    assert (await said(studio))[1] is False
    assert (await said(studio))[1] is True


async def test_the_minutes_limit_holds_for_what_is_kept_too() -> None:
    studio = a_studio()
    await said(studio)
    studio.admission.refuses = True
    with pytest.raises(LimitReached):
        await studio.speak(a_wish(by=ADA))


async def test_a_voice_that_the_tier_lost_stays_silent() -> None:
    studio = a_studio()
    order = an_order(voice_id=PROFESSIONAL, format="mp3_44100_64", model="eleven_flash_v2_5")
    order = replace(order, settings=SettingsWish(use_speaker_boost=False))
    await said(studio, a_wish(order, by=ADA))
    with pytest.raises(VoiceNotInTier):
        await studio.speak(a_wish(order, by=ADA, tier="free"))


async def test_it_is_the_users_own_audio_and_needs_no_key_any_more() -> None:
    studio = a_studio()
    await said(studio)
    studio.provider.failure = NoUsableKey("No key is stored.")
    assert (await said(studio))[1] is True


async def test_a_retry_of_what_was_spoken_hears_it_again() -> None:
    studio = a_studio()
    keyed = a_wish(by=ADA, key="k1")
    assert await said(studio, keyed) == (b"onetwo", False)
    assert await said(studio, keyed) == (b"onetwo", True)
    assert (len(studio.admission.given), studio.admission.again) == (2, 1)
    with pytest.raises(IdempotencyKeyReused):
        await studio.speak(a_wish(an_order("Other."), by=ADA, key="k1"))
    with pytest.raises(AlreadySpoken):
        await studio.speak(replace(keyed, may_be_cached=False))


async def test_what_a_request_is_known_by_is_keyed_and_outlives_its_key() -> None:
    studio = a_studio()
    assert studio.before is not None
    keys = studio.before.keys
    assert isinstance(keys, MemoryKeys)
    wish = a_wish(by=ADA, key="k1")
    await said(studio, wish)
    (kept,) = studio.speeches.kept.values()
    assert kept.hold.request_hash != wish.order.request_hash, "nobody can try likely texts"
    assert kept.hold.request_hash not in studio.before.marks_of(a_user(), wish.order.request_hash)
    assert keys.keys is not None
    keys.keys = {**keys.keys, 9: bytes(32)}  # rotated: the audio is not found any more
    with pytest.raises(AlreadySpoken):
        await studio.speak(wish)
    kept.hold = replace(kept.hold, request_hash=wish.order.request_hash)  # an older release's
    with pytest.raises(AlreadySpoken):
        await studio.speak(wish)


async def test_a_day_later_a_key_is_free_again() -> None:
    studio = a_studio()
    forget = ForgetIdempotencyKeys(studio.speeches, VoiceRoom().work, studio.clock)  # type: ignore[arg-type]
    studio.provider.audios = [FakeAudio(b"one"), FakeAudio(b"two"), FakeAudio(b"three")]
    await said(studio, a_wish(by=ADA, key="k1"))
    await studio.speak(a_wish(an_order("It is running."), by=ADA, key="k2"))
    studio.clock.at += timedelta(hours=23)
    assert await forget() == 0
    studio.clock.at += timedelta(hours=2)
    assert await forget(most=1) == 1
    await said(studio, a_wish(an_order("Other."), by=ADA, key="k1"))
    with pytest.raises(RequestInProgress):
        await studio.speak(a_wish(an_order("It is running."), by=ADA, key="k2"))


async def test_a_replica_that_dies_while_it_says_it_again_costs_nothing() -> None:
    studio = a_studio()
    await said(studio)
    await studio.speak(a_wish(by=ADA))
    sweeper = SettleOrphans(
        studio.speeches, SettleSpeech(studio.speeches), studio.clock, studio.admission
    )
    for _look in range(2):
        studio.clock.at += timedelta(minutes=1)
        await sweeper()
    lost = studio.speeches.outbox[-1].event
    assert (lost.outcome, lost.characters, lost.cached) == ("replica_lost", 0, True)


def in_a_high_format(key: str | None = None) -> Wish:
    """For a user whose plan at the vendor makes none of that."""
    return a_wish(an_order(format="mp3_44100_192"), by=ADA, key=key)


async def said_in_another_format(studio: Studio, wish: Wish) -> bytes:
    """What is heard by who asks a replica that knows nothing of the user's plan yet."""
    studio.formats = FormatsInPlan(studio.clock)
    studio.provider.audios = [
        VendorPlanRequired("Not in your plan.", provider="elevenlabs"),
        FakeAudio(b"one", b"two"),
    ]
    speech = await studio.speak(wish)
    assert speech.script.format.name == "mp3_44100_128"
    assert speech.wished_format is not None
    heard, outcome = await studio.hear(speech)
    assert outcome == "done"
    return heard


async def test_what_was_said_in_another_format_is_found_once_that_is_known() -> None:
    studio = a_studio()
    wish = in_a_high_format()
    assert await said_in_another_format(studio, wish) == b"onetwo"
    assert await said_in_another_format(studio, wish) == b"onetwo"
    asked = [script.format.name for script in studio.provider.scripts]
    assert asked == ["mp3_44100_192", "mp3_44100_128", "mp3_44100_192"]
    first, again = (fact.event for fact in studio.speeches.outbox)
    assert (first.characters, first.cached) == (12, False)
    assert (again.characters, again.cached) == (0, True)
    assert [place.settled for place in studio.admission.given] == [[12], [0]]
    # Who wants nothing of what is kept has it made anew.
    await said_in_another_format(studio, replace(wish, may_be_cached=False))
    assert studio.speeches.outbox[-1].event.characters == 12


async def test_what_was_kept_in_another_format_costs_nothing_either_when_a_replica_dies() -> None:
    studio = a_studio()
    await said_in_another_format(studio, in_a_high_format())
    studio.formats = FormatsInPlan(studio.clock)
    studio.provider.audios = [VendorPlanRequired("Not in your plan.", provider="elevenlabs")]
    speech = await studio.speak(in_a_high_format())
    assert settlement_of_lost(studio.speeches.kept[speech.hold.id].hold).used == Used(0, "counted")


async def test_a_key_is_free_again_where_what_was_kept_turned_up_late() -> None:
    """A request that cost nothing gives its key free, whenever that was known."""
    studio = a_studio()
    await said_in_another_format(studio, in_a_high_format())
    keyed = in_a_high_format("k1")
    assert await said_in_another_format(studio, keyed) == b"onetwo"
    assert studio.speeches.outbox[-1].event.characters == 0
    anew = replace(keyed, may_be_cached=False)
    assert await said_in_another_format(studio, anew) == b"onetwo"
    assert studio.speeches.outbox[-1].event.characters == 12
    with pytest.raises(AlreadySpoken):
        await studio.speak(anew)


async def test_a_retry_of_what_was_spoken_in_another_format_hears_it_again() -> None:
    studio = a_studio()
    keyed = in_a_high_format("k1")
    await said_in_another_format(studio, keyed)
    studio.formats = FormatsInPlan(studio.clock)
    studio.provider.audios = []
    speech = await studio.speak(keyed)
    assert (speech.is_replayed, speech.hold.cached) == (True, True)
    assert speech.wished_format is not None
    assert await studio.hear(speech) == (b"onetwo", "done")
    assert len(studio.provider.scripts) == 2
    with pytest.raises(AlreadySpoken):
        await studio.speak(replace(keyed, may_be_cached=False))


def test_the_address_says_nothing_without_the_key_and_the_audio_opens_nowhere_else() -> None:
    seal, script, ada = KeptSpeechSeal(KEYS), a_script(), a_user()
    address = seal.address(ada, script)
    assert address != KeptSpeechSeal({1: bytes(32)}).address(ada, script)
    assert address != seal.address(a_user(), script)
    sealed = seal.close(ada, address, b"audio")
    assert b"audio" not in sealed
    assert seal.open(ada, address, sealed) == b"audio"
    assert seal.open(a_user(), address, sealed) is None
    assert seal.open(ada, seal.address(ada, a_script("Other.")), sealed) is None


async def test_what_is_said_again_is_not_kept_for_longer_by_it() -> None:
    studio = a_studio()
    await said(studio)
    assert (await said(studio))[1] is True
    assert len(kept(studio).began) == 1


@pytest.mark.parametrize("own", [SettingsWish(), SettingsWish(stability=0.2)])
async def test_it_is_found_again_for_as_long_as_it_is_kept(own: SettingsWish) -> None:
    studio = a_studio()
    recollections(studio).own[ADA.user_id, VoiceId(an_order().voice_id)] = own
    await said(studio)
    studio.clock.at += timedelta(days=29)
    assert (await said(studio))[1] is True
    studio.clock.at += timedelta(days=2)
    assert (await said(studio))[1] is False


async def test_what_can_not_be_looked_for_is_asked_for() -> None:
    studio = a_studio()
    await said(studio)
    assert studio.before is not None
    assert await studio.before.recall(ADA.user_id, a_script()) == b"onetwo"
    kept(studio).is_away = True
    assert await studio.before.recall(ADA.user_id, a_script()) is None


async def test_what_is_just_short_enough_is_kept_and_times_are_not() -> None:
    studio = a_studio()
    await said(studio, a_wish(an_order("a" * 1_000), by=ADA))
    assert len(kept(studio).kept) == 1
    await said(studio, a_wish(an_order(with_timestamps=True), by=ADA))
    assert len(kept(studio).kept) == 1


async def test_audio_at_the_bound_is_kept() -> None:
    studio = a_studio(Bounds(bytes=len(b"onetwo")))
    await said(studio)
    assert len(kept(studio).kept) == 1


async def test_no_more_is_being_kept_at_once_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_spoken_before, "_KEPT_AT_ONCE", 0)
    studio = a_studio()
    await said(studio)
    assert kept(studio).kept == {}


async def test_where_a_speech_is_kept_is_not_worked_out_while_its_hearer_waits() -> None:
    studio, noted = a_studio(), list[str]()
    assert studio.before is not None
    studio.before = replace(studio.before, keys=MemoryKeys(Noting(noted)))
    studio.provider.audio = FakeAudio(b"one", b"two")
    speech = await studio.speak(a_wish(by=ADA))
    noted.clear()

    async def write(piece: bytes) -> None:
        noted.append(piece.decode())

    await studio.relay(speech, write)
    await studio.settled()
    assert noted[:2] == ["one", "two"]
    assert "a key" in noted, "it was kept afterwards"
    assert (await said(studio))[1]


async def test_keys_that_go_while_it_is_heard_leave_it_unkept() -> None:
    studio = a_studio()
    keys = MemoryKeys()
    assert studio.before is not None
    studio.before = replace(studio.before, keys=keys)
    studio.provider.audio = FakeAudio(b"one")
    speech = await studio.speak(a_wish(by=ADA))

    async def write(_piece: bytes) -> None:
        keys.keys = None

    assert await studio.relay(speech, write) == "done"
    await studio.settled()
    assert kept(studio).kept == {}


async def left_in_its_midst(studio: Studio, order: Any = None) -> tuple[RunningSpeech, list[bytes]]:
    """Of one under a key the hearer goes after the first piece, while the vendor still speaks."""
    heard, goes_on = list[bytes](), asyncio.Event()
    studio.provider.audio = FakeAudio(b"one", goes_on, b"two")
    speech = await studio.speak(a_wish(order, by=ADA, key="k-1"))

    async def write(piece: bytes) -> None:
        heard.append(piece)

    relay = asyncio.create_task(studio.relay(speech, write))
    await until(lambda: heard)
    speech.left()
    goes_on.set()
    assert await relay is Outcome.CLIENT_GONE
    await studio.settled()
    return speech, heard


async def test_under_a_key_it_is_spoken_to_its_end_without_its_hearer_and_kept() -> None:
    studio = a_studio()
    _, heard = await left_in_its_midst(studio)
    assert heard == [b"one"]
    (fact,) = studio.speeches.outbox
    assert (fact.event.outcome, fact.event.characters) == ("client_gone", 12)
    again = await studio.speak(a_wish(by=ADA, key="k-1"))
    assert again.is_replayed
    assert await studio.hear(again) == (b"onetwo", "done")
    assert len(studio.provider.scripts) == 1


async def test_it_is_over_once_it_is_kept() -> None:
    studio = a_studio()
    assert studio.before is not None
    settled_first = list[bool]()

    class Slow(MemoryKeptSpeeches):
        async def keep(self, *given: Any, **bounds: Any) -> None:
            await asyncio.sleep(0.01)
            settled_first.extend(one is not None for one in studio.speeches.settlements)
            await super().keep(*given, **bounds)

    studio.before = replace(studio.before, kept_speeches=Slow())
    await left_in_its_midst(studio)
    assert settled_first == [False]


async def test_what_was_used_is_told_though_the_audio_is_never_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay_speech, "_KEPT_WITHIN_SECONDS", 0.01)
    studio, never = a_studio(), asyncio.Event()
    assert studio.before is not None

    class Stuck(MemoryKeptSpeeches):
        async def keep(self, *_given: Any, **_bounds: Any) -> None:
            await never.wait()

    studio.before = replace(studio.before, kept_speeches=Stuck())
    speech = await studio.speak(a_wish(by=ADA, key="k-1"))
    await studio.hear(speech)
    await until(lambda: studio.speeches.outbox, seconds=5)
    assert studio.speeches.outbox[0].event.outcome == "done"
    await studio.before.drained(0)


async def test_what_can_not_be_kept_ends_without_its_hearer() -> None:
    studio = a_studio(Bounds(bytes=4))
    speech, heard = await left_in_its_midst(studio)
    assert (heard, speech.is_whole) == ([b"one"], False)
    with pytest.raises(AlreadySpoken):
        await studio.speak(a_wish(by=ADA, key="k-1"))


async def test_a_text_of_parts_is_not_asked_for_on_without_its_hearer() -> None:
    studio = a_studio(Bounds(characters=20_000))
    text = "A sentence of some words. " * 300
    speech, _ = await left_in_its_midst(studio, an_order(text, format="pcm_24000"))
    assert (speech.ended_as, speech.outlives_hearer) == (Outcome.CLIENT_GONE, False)
    assert len(studio.provider.scripts) == 1


async def test_a_key_that_is_withdrawn_ends_what_nobody_hears() -> None:
    studio, goes_on = a_studio(), asyncio.Event()
    studio.provider.audio = FakeAudio(b"one", goes_on, b"two")
    speech = await studio.speak(a_wish(by=ADA, key="k-1"))

    async def write(piece: bytes) -> None:
        speech.left()
        asyncio.get_running_loop().call_soon(speech.end, Outcome.STOPPED)

    assert await studio.relay(speech, write) is Outcome.STOPPED
    await studio.settled()
    assert not kept(studio).kept


async def test_what_was_kept_while_somebody_looked_is_found_by_a_second_look() -> None:
    studio = a_studio()
    first = await studio.speak(a_wish(by=ADA, key="k-1"))

    class Late(MemoryRecollections):
        async def of(self, *given: Any, **since: Any) -> Recollection:
            found = await super().of(*given, **since)
            if not kept(studio).kept:
                await studio.hear(first)
            return found

    assert studio.before is not None
    studio.before = replace(studio.before, recollections=Late(kept(studio)))
    again = await studio.speak(a_wish(by=ADA, key="k-1"))
    assert again.is_replayed
    assert await studio.hear(again) == (b"onetwo", "done")
    assert len(studio.provider.scripts) == 1


async def test_who_comes_second_while_the_first_is_spoken_and_over_may_ask_again() -> None:
    studio = a_studio()
    first = await studio.speak(a_wish(by=ADA, key="k-1"))
    studio.speeches.hidden = 1
    studio.speeches.before_hold = lambda: studio.hear(first)
    with pytest.raises(RequestInProgress):
        await studio.speak(a_wish(by=ADA, key="k-1"))
    studio.speeches.before_hold = None
    assert (await studio.speak(a_wish(by=ADA, key="k-1"))).is_replayed
