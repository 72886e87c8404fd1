"""Speech while its text is written: one hold that grows, one line in the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from services.voice.actions.speak_live import LiveSpeech
from services.voice.domain.audio_format import AudioFormat
from services.voice.domain.errors import (
    FormatNotInVendorPlan,
    RealtimeNotInTier,
    SpeechEnded,
    TextNotSpeakable,
    VoiceNotInTier,
)
from services.voice.domain.ports import LiveVoice
from services.voice.domain.script import Manner, SettingsWish
from services.voice.domain.speech import Outcome, Used
from services.voice.domain.voice import Voice, VoiceCategory, VoiceId
from shared.clients.egress import NoUsableKey
from shared.errors import DependencyUnavailable, LimitReached
from shared.identity import OnBehalfOf
from shared.ids import UserId
from shared.revocation import Revocation, UsedKey
from shared.vendors.failures import VendorFailed, VendorPlanRequired
from tests.support.voice import (
    NOON,
    VOICES,
    FakeLine,
    FakeLines,
    FakeSpeeches,
    Studio,
    a_live_wish,
    cut,
    on_behalf_of,
)


async def heard(speech: LiveSpeech) -> bytes:
    audio = bytearray()
    while (piece := await speech.read()).audio:
        audio += piece.audio
    return bytes(audio)


async def concluded(studio: Studio, speech: LiveSpeech, outcome: Outcome) -> None:
    await speech.conclude(outcome)
    await studio.settled()


async def test_what_is_said_is_heard_and_charged_as_one_speech() -> None:
    studio = Studio()
    speech = await studio.speak_live(a_live_wish())
    await speech.say("Hello there. ")
    await speech.say("How are you?")
    await speech.finish()
    assert await heard(speech) == b"Hello there. How are you? "
    await concluded(studio, speech, Outcome.DONE)
    (fact,) = studio.speeches.outbox
    assert (fact.event.characters, fact.event.outcome) == (13, "done")
    assert fact.id == speech.hold.usage_event_id
    assert studio.admission.characters == [13, 13], "the vendor counts the space after each"
    assert studio.admission.further == 1, "only the first text is a request"
    assert not studio.lines.line.is_open


async def test_nobody_is_asked_before_the_first_words() -> None:
    studio = Studio()
    speech = await studio.speak_live(a_live_wish())
    assert not studio.lines.manners
    assert not studio.admission.given
    await speech.finish()
    assert await heard(speech) == b""
    await concluded(studio, speech, Outcome.DONE)
    assert not studio.speeches.kept


async def test_words_are_held_before_the_vendor_hears_them() -> None:
    studio = Studio()
    speech = await studio.speak_live(a_live_wish())
    await speech.say("One.")
    await speech.say("Two.")
    kept = studio.speeches.kept[speech.hold.id]
    assert kept.hold.characters == 10
    assert studio.running.ids() == [speech.hold.id]


async def test_a_full_budget_refuses_the_next_words_and_leaves_the_former() -> None:
    studio = Studio()
    speech = await studio.speak_live(a_live_wish())
    await speech.say("One.")
    studio.admission.refuses = True
    with pytest.raises(LimitReached):
        await speech.say("Two.")
    await speech.finish()
    assert await heard(speech) == b"One. "
    await concluded(studio, speech, Outcome.DONE)
    assert studio.speeches.settlements[0] is not None
    assert studio.speeches.settlements[0].used == Used(3, "counted")


async def test_each_place_in_the_month_is_settled_by_what_its_text_costs() -> None:
    studio = Studio()
    speech = await studio.speak_live(a_live_wish(model="eleven_multilingual_v2"))
    for text in ("One.", "Three."):
        await speech.say(text)
    await speech.finish()
    await heard(speech)
    studio.speeches.outages = 1
    await concluded(studio, speech, Outcome.DONE)
    assert [given.settled for given in studio.admission.given] == [[5], [7]]
    assert speech.hold.id not in studio.admission.places, "a sweeper would settle one as all"
    assert [given.refunds for given in studio.admission.given] == [0, 0]


async def test_a_model_that_costs_half_is_charged_and_counted_as_half() -> None:
    studio = Studio()
    speech = await studio.speak_live(a_live_wish())  # the quick model
    for text in ("Four", "Five", "Nine"):
        await speech.say(text)
    await speech.finish()
    await heard(speech)
    assert (speech.characters, speech.used) == (15, Used(8, "counted"))
    await concluded(studio, speech, Outcome.DONE)
    assert [fact.event.characters for fact in studio.speeches.outbox] == [8]
    assert [given.settled for given in studio.admission.given] == [[3], [2], [3]]


async def test_nothing_heard_is_nothing_charged() -> None:
    studio = Studio()
    studio.lines.failure = NoUsableKey("No key.")
    speech = await studio.speak_live(a_live_wish())
    with pytest.raises(NoUsableKey):
        await speech.say("One.")
    await concluded(studio, speech, Outcome.STOPPED)
    (settlement,) = studio.speeches.settlements
    assert settlement is not None
    assert (settlement.outcome, settlement.used) == (Outcome.REFUSED, None)
    assert [given.refunds for given in studio.admission.given] == [1]


async def test_a_line_that_breaks_after_audio_is_charged() -> None:
    studio = Studio()
    speech = await studio.speak_live(a_live_wish())
    await speech.say("One.")
    assert (await speech.read()).audio == b"One. "
    studio.lines.line.unheard = cut()
    with pytest.raises(type(cut())):
        await speech.read()
    await concluded(studio, speech, Outcome.PROVIDER_FAILED)
    assert [fact.event.outcome for fact in studio.speeches.outbox] == ["provider_failed"]
    assert [given.refunds for given in studio.admission.given] == [0]


async def test_ending_wakes_the_reader_and_refuses_more_words() -> None:
    studio = Studio()
    speech = await studio.speak_live(a_live_wish())
    await speech.say("One.")
    assert (await speech.read()).audio == b"One. "
    reading = asyncio.create_task(heard(speech))
    await asyncio.sleep(0)
    speech.end(Outcome.STOPPED)
    assert await reading == b""
    with pytest.raises(SpeechEnded):
        await speech.say("Two.")
    await concluded(studio, speech, Outcome.DONE)
    assert [fact.event.outcome for fact in studio.speeches.outbox] == ["stopped"]


async def test_a_hold_that_nobody_can_tell_of_is_withdrawn() -> None:
    studio = Studio()
    studio.speeches.unwritten = DependencyUnavailable("database")
    speak = studio.speak_live
    speech = await speak(a_live_wish())
    with pytest.raises(DependencyUnavailable):
        await speech.say("One.")
    assert [given.refunds for given in studio.admission.given] == [1]
    assert speak.withdraw.work, "it looks again whether the hold was written all the same"
    speak.withdraw.work.cancel()
    assert not studio.lines.manners


async def test_once_the_sweeper_has_settled_it_nothing_more_is_said() -> None:
    studio = Studio()
    speech = await studio.speak_live(a_live_wish())
    await speech.say("One.")
    kept = studio.speeches.kept[speech.hold.id]
    kept.settlement = speech._settlement(Outcome.DONE)
    with pytest.raises(SpeechEnded):
        await speech.say("Two.")
    assert studio.lines.line.said == ["One. "]
    assert studio.admission.given[-1].refunds == 1


async def test_a_tier_that_changes_meanwhile_counts_from_the_next_words() -> None:
    studio = Studio()
    speech = await studio.speak_live(a_live_wish(tier="pro"))
    studio.admission.told = "enterprise"
    await speech.say("One.")
    assert speech.hold.tier == "enterprise"
    studio.admission.told = "free"
    with pytest.raises(RealtimeNotInTier):
        await speech.say("Two.")


async def test_a_told_tier_that_is_not_known_here_has_what_the_default_has() -> None:
    studio = Studio()
    speech = await studio.speak_live(a_live_wish(tier="pro"))
    studio.admission.told = "team"
    with pytest.raises(RealtimeNotInTier):
        await speech.say("One.")
    with pytest.raises(RealtimeNotInTier):
        await studio.speak_live(a_live_wish(tier="free"))


async def test_who_has_a_smaller_tier_by_now_is_refused_before_anything_is_said() -> None:
    studio = Studio()
    studio.admission.told = "free"
    with pytest.raises(RealtimeNotInTier) as refused:
        await studio.speak_live(a_live_wish(tier="pro"))
    assert refused.value.facts == {"tier": "free", "upgrade_tier": "pro"}
    assert studio.admission.given == []


async def test_tiers_and_texts_are_checked() -> None:
    studio = Studio()
    with pytest.raises(RealtimeNotInTier):
        await studio.speak_live(a_live_wish(tier="free"))
    speech = await studio.speak_live(a_live_wish())
    with pytest.raises(TextNotSpeakable):
        await speech.say("   ")
    assert not studio.admission.given


async def test_a_line_that_is_opened_early_asks_nothing_of_anybody() -> None:
    studio = Studio()
    speech = await studio.speak_live(a_live_wish())
    speech.prepare()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    was_open = studio.lines.line.is_open
    assert was_open
    assert not studio.admission.given
    await concluded(studio, speech, Outcome.CLIENT_GONE)
    assert not studio.lines.line.is_open
    assert not studio.speeches.kept


async def test_a_line_on_which_nothing_was_said_for_long_is_opened_anew() -> None:
    """The vendor hangs up on who is silent for three minutes; a model may think for longer in the
    middle of a first sentence."""
    studio = Studio()
    speech = await studio.speak_live(a_live_wish())
    speech.prepare()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    studio.clock.at = NOON + timedelta(minutes=5)
    old, studio.lines.line = studio.lines.line, FakeLine()
    old.unsaid = cut()
    await speech.say("One.")
    assert (old.is_open, studio.lines.line.said) == (False, ["One. "])
    assert studio.speeches.kept[speech.hold.id].hold.created_at == studio.clock.at
    studio.clock.at += timedelta(minutes=5)
    await speech.say("Two.")
    assert len(studio.lines.manners) == 2, "what has spoken is not opened anew"
    await concluded(studio, speech, Outcome.STOPPED)
    assert not studio.lines.line.is_open


async def test_a_line_that_failed_long_ago_is_tried_again() -> None:
    studio = Studio()
    studio.lines.failure = cut()
    speech = await studio.speak_live(a_live_wish())
    speech.prepare()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    studio.lines.failure = None
    studio.clock.at = NOON + timedelta(minutes=5)
    await speech.say("One.")
    assert studio.lines.line.said == ["One. "]
    await concluded(studio, speech, Outcome.STOPPED)


async def test_a_line_that_was_opened_early_falls_with_its_key() -> None:
    studio = Studio()
    speech = await studio.speak_live(a_live_wish())
    speech.prepare()
    revoked = Revocation(speech.hold.user_id, "elevenlabs", NOON)
    assert studio.running.end_on_key(revoked, Outcome.STOPPED) == 1
    with pytest.raises(SpeechEnded):
        await speech.say("One.")
    await concluded(studio, speech, Outcome.STOPPED)
    assert not studio.running.ids()
    assert not studio.speeches.kept


async def test_a_line_falls_with_the_key_of_an_organisation_that_may_serve_it() -> None:
    studio, firm = Studio(), UserId(uuid4())
    speech = await studio.speak_live(a_live_wish(by=replace(on_behalf_of(), organisation_id=firm)))
    speech.prepare()
    revoked = Revocation(firm, "elevenlabs", NOON)
    assert studio.running.end_on_key(revoked, Outcome.STOPPED) == 1
    await concluded(studio, speech, Outcome.STOPPED)


async def test_news_of_a_key_may_come_after_the_words_that_a_line_was_opened_for() -> None:
    studio = Studio()
    speech = await studio.speak_live(a_live_wish())
    speech.prepare()
    studio.clock.at = NOON + timedelta(minutes=1)
    await speech.say("One.")
    revoked = Revocation(speech.hold.user_id, "elevenlabs", NOON + timedelta(seconds=30))
    assert studio.running.end_on_key(revoked, Outcome.STOPPED) == 1
    await concluded(studio, speech, Outcome.STOPPED)


async def test_who_has_another_tier_now_has_its_voices() -> None:
    studio = Studio()
    brand = Voice(VoiceId("voiceofabrand"), "Brand", VoiceCategory.ENTERPRISE)
    studio.provider.known = (*VOICES, brand)
    speech = await studio.speak_live(a_live_wish(tier="enterprise", voice_id=brand.id))
    studio.admission.told = "pro"
    with pytest.raises(VoiceNotInTier):
        await speech.say("One.")
    await concluded(studio, speech, Outcome.REFUSED)
    assert not studio.admission.given
    assert not studio.lines.manners


async def test_what_is_known_not_to_work_takes_no_place_in_the_limits() -> None:
    studio = Studio()
    studio.lines.failure = NoUsableKey("No key.")
    speech = await studio.speak_live(a_live_wish())
    speech.prepare()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(NoUsableKey):
        await speech.say("One.")
    assert not studio.admission.given
    await concluded(studio, speech, Outcome.STOPPED)
    assert not studio.speeches.kept


async def test_silence_at_the_end_is_a_failure_and_costs_nothing() -> None:
    studio = Studio()
    speech = await studio.speak_live(a_live_wish())
    await speech.say("One.")
    studio.lines.line.forget()
    await speech.finish()
    with pytest.raises(VendorFailed):
        await speech.read()
    await concluded(studio, speech, Outcome.DONE)
    (settlement,) = studio.speeches.settlements
    assert settlement is not None
    assert (settlement.outcome, settlement.used) == (Outcome.PROVIDER_FAILED, None)
    assert [given.refunds for given in studio.admission.given] == [1]


async def test_ending_while_words_are_on_their_way_leaves_nothing_running() -> None:
    studio = Studio()
    never = asyncio.Event()
    studio.speeches.before_hold = never.wait
    speech = await studio.speak_live(a_live_wish())
    saying = asyncio.create_task(speech.say("One."))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    speech.end(Outcome.STOPPED)
    with pytest.raises(SpeechEnded):
        await saying
    await concluded(studio, speech, Outcome.STOPPED)
    assert studio.running.ids() == []
    assert [given.refunds for given in studio.admission.given] == [1]


async def test_who_is_cancelled_stays_cancelled() -> None:
    studio = Studio()
    speech = await studio.speak_live(a_live_wish())
    await speech.say("One.")
    await speech.read()
    reading = asyncio.create_task(speech.read())
    await asyncio.sleep(0)
    reading.cancel()
    speech.end(Outcome.STOPPED)
    with pytest.raises(asyncio.CancelledError):
        await reading
    await concluded(studio, speech, Outcome.STOPPED)


async def test_a_user_who_has_just_upgraded_is_let_in() -> None:
    studio = Studio()
    studio.admission.told = "pro"
    speech = await studio.speak_live(a_live_wish(tier="free"))
    await speech.say("One.")
    assert speech.hold.tier == speech.tier == "pro"
    await concluded(studio, speech, Outcome.STOPPED)


async def test_it_is_spoken_as_the_user_wants_the_voice_to_speak() -> None:
    studio = Studio()
    studio.own.settings = SettingsWish(stability=0.1, style=0.7)
    speech = await studio.speak_live(a_live_wish(settings=SettingsWish(stability=0.9)))
    assert (speech.manner.settings.stability, speech.manner.settings.style) == (0.9, 0.7)


async def test_another_token_is_for_what_is_not_begun() -> None:
    studio, ada = Studio(), on_behalf_of()
    waits, speaks = [await studio.speak_live(a_live_wish(by=ada)) for _ in range(2)]
    await speaks.say("One.")
    newer = replace(on_behalf_of(ada.user_id), organisation_id=uuid4())
    for speech in (waits, speaks):
        speech.renew(newer)
    assert (waits.sign_in_id, waits.served_by) == (newer.sign_in_id, newer.organisation_id)
    assert (speaks.sign_in_id, speaks.served_by) == (ada.sign_in_id, None)
    assert waits.hold.request_id == ada.request_id
    for speech in (waits, speaks):
        await concluded(studio, speech, Outcome.STOPPED)


class _PlanWithout(FakeLines):
    """The user's plan makes none of some formats."""

    def __init__(self, *formats: str) -> None:
        super().__init__()
        self._formats = formats

    @asynccontextmanager
    async def live(self, manner: Manner, *, by: OnBehalfOf) -> AsyncIterator[LiveVoice]:
        self.failure = None
        if manner.format.name in self._formats:
            self.failure = FormatNotInVendorPlan("elevenlabs")
        async with super().live(manner, by=by) as line:
            yield line

    @property
    def asked(self) -> list[str]:
        return [manner.format.name for manner in self.manners]


async def test_a_format_beyond_the_plan_becomes_another_before_anything_is_said() -> None:
    studio, ada = Studio(), on_behalf_of()
    studio.lines = lines = _PlanWithout("pcm_48000")
    wish = a_live_wish(tier="enterprise", format="pcm_48000", by=ada)
    speech = await studio.speak_live(wish)
    speech.prepare()
    await speech.format_settled()
    assert lines.asked == ["pcm_48000", "pcm_32000"]
    await speech.say("One.")
    assert studio.speeches.kept[speech.hold.id].hold.format == "pcm_32000"
    await concluded(studio, speech, Outcome.STOPPED)
    again = await studio.speak_live(wish)
    assert again.manner.format.name == "pcm_32000", "the first one has found it out for both"
    assert again.wished_format is not None
    assert again.wished_format.name == "pcm_48000"
    strict = await studio.speak_live(replace(wish, strict_format=True))
    with pytest.raises(FormatNotInVendorPlan):
        await strict.say("One.")
    await concluded(studio, strict, Outcome.REFUSED)
    assert strict.wished_format is None


async def test_a_hold_that_is_written_already_hears_of_another_format() -> None:
    studio = Studio()
    studio.lines = _PlanWithout("mp3_44100_192")
    speech = await studio.speak_live(a_live_wish(format="mp3_44100_192"))
    await speech.say("One.")
    kept = studio.speeches.kept[speech.hold.id].hold
    assert kept.format == speech.hold.format == speech.manner.format.name == "mp3_44100_128"
    await concluded(studio, speech, Outcome.STOPPED)


async def test_a_refusal_of_a_format_that_comes_late_helps_the_next_speech() -> None:
    studio, ada = Studio(), on_behalf_of()
    wish = a_live_wish(tier="enterprise", format="pcm_44100", by=ada)
    speech = await studio.speak_live(wish)
    await speech.say("One.")
    studio.lines.line.unheard = FormatNotInVendorPlan("elevenlabs")
    with pytest.raises(FormatNotInVendorPlan):
        await speech.read()
    await concluded(studio, speech, Outcome.REFUSED)
    assert (await studio.speak_live(wish)).manner.format.name == "pcm_32000"


async def test_a_line_that_opens_is_no_proof_of_its_format_and_audio_is() -> None:
    studio, ada = Studio(), on_behalf_of()
    wish = a_live_wish(tier="enterprise", format="pcm_44100", by=ada)
    studio.formats.remember(ada.user_id, AudioFormat("pcm_44100"), AudioFormat("pcm_32000"))
    strict = replace(wish, strict_format=True)
    refused = await studio.speak_live(strict)
    await refused.say("One.")
    studio.lines.line.unheard = FormatNotInVendorPlan("elevenlabs")
    with pytest.raises(FormatNotInVendorPlan):
        await refused.read()
    await concluded(studio, refused, Outcome.REFUSED)
    assert (await studio.speak_live(wish)).manner.format.name == "pcm_32000"
    studio.lines = FakeLines()
    given = await studio.speak_live(strict)
    await given.say("One.")
    assert (await given.read()).audio
    await concluded(studio, given, Outcome.STOPPED)
    assert (await studio.speak_live(wish)).manner.format.name == "pcm_44100"


async def test_a_plan_that_lacks_something_else_is_no_matter_of_formats() -> None:
    studio = Studio()
    studio.lines.failure = VendorPlanRequired("No.", provider="elevenlabs")
    speech = await studio.speak_live(a_live_wish())
    with pytest.raises(VendorPlanRequired):
        await speech.say("One.")
    assert len(studio.lines.manners) == 1
    await concluded(studio, speech, Outcome.REFUSED)


async def test_a_line_that_does_not_close_well_is_logged() -> None:
    for failure, lines in ((cut(), 0), (RuntimeError("a bug"), 1)):
        studio = Studio()
        speech = await studio.speak_live(a_live_wish())
        await speech.say("One.")
        speech._line._stack.push_async_exit(_fails_with(failure))
        with capture_logs() as logs:
            await concluded(studio, speech, Outcome.STOPPED)
        assert sum(log["event"] == "line_not_closed" for log in logs) == lines
        assert len(studio.speeches.settlements) == 1


def _fails_with(failure: Exception) -> Callable[..., Awaitable[bool]]:
    async def close(*_exception: object) -> bool:
        raise failure

    return close


async def test_a_voice_beyond_the_tier_is_refused_before_anything_is_said() -> None:
    studio = Studio()
    brand = Voice(VoiceId("voiceofabrand"), "Brand", VoiceCategory.ENTERPRISE)
    studio.provider.known = (*VOICES, brand)
    with pytest.raises(VoiceNotInTier):
        await studio.speak_live(a_live_wish(tier="pro", voice_id=brand.id))


async def test_another_token_leaves_it_the_key_that_it_falls_with() -> None:
    asked: list[OnBehalfOf] = []

    class Recording(FakeLines):
        @asynccontextmanager
        async def live(self, manner: Manner, *, by: OnBehalfOf) -> AsyncIterator[LiveVoice]:
            asked.append(by)
            async with super().live(manner, by=by) as line:
                yield line

    studio, ada = Studio(lines=Recording()), on_behalf_of()
    speech = await studio.speak_live(a_live_wish(by=ada))
    newer = on_behalf_of(ada.user_id)
    speech.renew(newer)
    await speech.say("One.")
    (by,) = asked
    assert by.sign_in_id == newer.sign_in_id
    by.key.answered("elevenlabs", UsedKey(ada.user_id, "elevenlabs", 1).told)
    assert speech.key.owners("elevenlabs") == {ada.user_id}
    await concluded(studio, speech, Outcome.STOPPED)


async def test_it_is_concluded_once() -> None:
    studio = Studio()
    speech = await studio.speak_live(a_live_wish())
    await speech.say("One.")
    await speech.read()
    for outcome in (Outcome.CLIENT_GONE, Outcome.STOPPED):
        await concluded(studio, speech, outcome)
    assert [given.settled for given in studio.admission.given] == [[3]]
    assert [fact.event.outcome for fact in studio.speeches.outbox] == ["client_gone"]


async def test_a_line_that_never_opens_keeps_nobody() -> None:
    class Stuck(FakeLines):
        @asynccontextmanager
        async def live(self, manner: Manner, *, by: OnBehalfOf) -> AsyncIterator[LiveVoice]:
            await asyncio.Event().wait()
            yield self.line

    studio = Studio(lines=Stuck())
    speech = await studio.speak_live(a_live_wish())
    speech.prepare()
    await asyncio.sleep(0)
    await asyncio.wait_for(concluded(studio, speech, Outcome.CLIENT_GONE), 2)
    assert not studio.running.ids()


async def test_words_that_are_held_in_spite_of_the_end_are_settled() -> None:
    studio, holding, go_on = Studio(), asyncio.Event(), asyncio.Event()

    async def stubbornly() -> None:
        holding.set()
        with suppress(asyncio.CancelledError):  # as one that was lost on its way
            await asyncio.Event().wait()
        await go_on.wait()

    studio.speeches.before_hold = stubbornly
    speech = await studio.speak_live(a_live_wish())
    saying = asyncio.create_task(speech.say("One."))
    await holding.wait()
    concluding = asyncio.create_task(concluded(studio, speech, Outcome.CLIENT_GONE))
    await asyncio.sleep(0)
    go_on.set()
    await concluding
    await asyncio.wait({saying})
    saying.exception()
    assert [s and s.used for s in studio.speeches.settlements] == [None]
    assert studio.speeches.settlements != [None]
    assert not studio.running.ids()


async def test_words_that_could_not_be_held_have_their_place_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away(*_parts: object) -> bool:
        raise DependencyUnavailable("database")

    studio = Studio()
    speech = await studio.speak_live(a_live_wish())
    await speech.say("One.")
    monkeypatch.setattr(FakeSpeeches, "grow", away)
    with pytest.raises(DependencyUnavailable):
        await speech.say("Two.")
    assert [given.refunds for given in studio.admission.given] == [0, 1]
    assert speech.characters == 5
    await concluded(studio, speech, Outcome.STOPPED)


async def test_a_database_that_can_not_be_told_the_format_keeps_nobody_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away(*_parts: object) -> bool:
        raise DependencyUnavailable("database")

    monkeypatch.setattr(FakeSpeeches, "ask", away)
    studio = Studio()
    studio.lines = _PlanWithout("mp3_44100_192")
    speech = await studio.speak_live(a_live_wish(format="mp3_44100_192"))
    await speech.say("One.")
    assert (await speech.read()).audio == b"One. "
    await concluded(studio, speech, Outcome.STOPPED)


async def test_what_the_sweeper_has_settled_is_at_its_end() -> None:
    studio = Studio()
    speech = await studio.speak_live(a_live_wish())
    await speech.say("One.")
    studio.speeches.kept[speech.hold.id].settlement = speech._settlement(Outcome.DONE)
    with pytest.raises(SpeechEnded):
        await speech.say("Two.")
    assert speech.ended_as is Outcome.STOPPED
    assert await heard(speech) == b""
    await concluded(studio, speech, Outcome.DONE)
