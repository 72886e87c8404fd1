"""Beginning a speech: admitted, held, then asked for; and charged for audio alone."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from services.voice.actions import speak as speak_module
from services.voice.domain.errors import (
    AlreadySpoken,
    FormatNotInTier,
    VoiceNotFound,
    VoiceNotInTier,
)
from services.voice.domain.speech import Outcome, Used
from shared.clients.egress import NoUsableKey
from shared.errors import ExpectedFailure, LimitReached, SessionEnded
from shared.idempotency import IdempotencyKeyReused, RequestInProgress
from shared.revocation import Revocation, UsedKey
from shared.tiers import NO_TIER
from shared.vendors.failures import VendorFailed, VendorQuotaExhausted
from tests.support.voice import (
    NOON,
    PROFESSIONAL,
    FakeAudio,
    FakeReservation,
    FakeSpeeches,
    Studio,
    a_wish,
    an_order,
    cut,
    on_behalf_of,
)


async def test_a_speech_is_held_before_the_vendor_is_asked() -> None:
    studio = Studio()
    held: list[int] = []
    studio.provider.before = lambda: held.append(len(studio.speeches.kept))
    await studio.speak(a_wish())
    assert held == [1]


async def test_the_hold_says_what_the_vendor_is_asked() -> None:
    studio, by = Studio(), on_behalf_of()
    speech = await studio.speak(a_wish(an_order("Hello there."), tier="pro", by=by))
    hold = speech.hold
    assert (hold.user_id, hold.request_id, hold.tier) == (by.user_id, by.request_id, "pro")
    assert (hold.characters, hold.format) == (12, "mp3_44100_128")
    assert hold.lease_expires_at == NOON + timedelta(seconds=30)
    assert studio.admission.characters == [12]


async def test_who_is_over_the_limit_reaches_neither_storage_nor_vendor() -> None:
    studio = Studio()
    studio.admission.refuses = True
    with pytest.raises(LimitReached):
        await studio.speak(a_wish())
    assert not studio.speeches.kept
    assert not studio.provider.scripts


async def test_what_is_not_in_the_tier_uses_up_nothing() -> None:
    studio = Studio()
    with pytest.raises(FormatNotInTier):
        await studio.speak(a_wish(an_order(format="wav_44100"), tier="free"))
    assert not studio.admission.given


async def test_a_voice_beyond_the_tier_is_refused_and_refunded() -> None:
    studio = Studio()
    with pytest.raises(VoiceNotInTier):
        await studio.speak(a_wish(an_order(voice_id=PROFESSIONAL), tier="free"))
    assert [reservation.refunds for reservation in studio.admission.given] == [1]
    assert not studio.speeches.kept


async def test_a_tier_with_every_voice_does_not_look_voices_up() -> None:
    studio = Studio()
    await studio.speak(a_wish(an_order(voice_id=PROFESSIONAL), tier="enterprise"))
    assert studio.provider.looked_up == []


@pytest.mark.parametrize(
    "failure",
    [
        VendorQuotaExhausted("Used up.", provider="elevenlabs"),
        NoUsableKey("None is stored."),
        VoiceNotFound("gone"),
    ],
)
async def test_a_refusal_is_refunded_and_leaves_no_usage(failure: ExpectedFailure) -> None:
    studio = Studio()
    studio.provider.failure = failure
    with pytest.raises(type(failure)):
        await studio.speak(a_wish())
    (settlement,) = studio.speeches.settlements
    assert settlement is not None
    assert (settlement.outcome, settlement.used) == (Outcome.REFUSED, None)
    assert studio.admission.given[0].refunds == 1
    assert studio.speeches.outbox == []
    assert len(studio.running) == 0


@pytest.mark.parametrize("audio", [FakeAudio(), FakeAudio(cut())])
async def test_a_vendor_that_brings_no_audio_is_refunded_and_leaves_no_usage(
    audio: FakeAudio,
) -> None:
    studio = Studio()
    studio.provider.audio = audio
    with pytest.raises(VendorFailed):
        await studio.speak(a_wish())
    (settlement,) = studio.speeches.settlements
    assert settlement is not None
    assert (settlement.outcome, settlement.used) == (Outcome.PROVIDER_FAILED, None)
    assert studio.admission.given[0].refunds == 1
    assert studio.speeches.outbox == []
    assert not audio.is_open


async def test_a_request_that_is_cancelled_while_the_vendor_thinks_is_refunded_and_closed() -> None:
    studio = Studio()
    studio.provider.audio = FakeAudio(asyncio.Event())
    task = asyncio.create_task(studio.speak(a_wish()))
    while not studio.provider.audio.is_open:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await studio.settled()
    assert studio.admission.given[0].refunds == 1
    assert [s.outcome for s in studio.speeches.settlements if s] == [Outcome.REFUSED]


async def test_a_key_is_refused_while_its_first_request_runs() -> None:
    studio, by = Studio(), on_behalf_of()
    await studio.speak(a_wish(by=by, key="k-1"))
    with pytest.raises(RequestInProgress):
        await studio.speak(a_wish(by=by, key="k-1"))
    assert len(studio.admission.given) == 1


async def test_a_key_that_was_charged_is_not_charged_again() -> None:
    studio, by = Studio(), on_behalf_of()
    speech = await studio.speak(a_wish(by=by, key="k-1"))
    await studio.hear(speech)
    with pytest.raises(AlreadySpoken) as refused:
        await studio.speak(a_wish(by=by, key="k-1"))
    assert refused.value.facts == {"speech_id": str(speech.hold.id), "outcome": "done"}
    assert len(studio.speeches.outbox) == 1


async def test_a_key_of_another_request_is_an_error_of_its_user() -> None:
    studio, by = Studio(), on_behalf_of()
    await studio.speak(a_wish(by=by, key="k-1"))
    with pytest.raises(IdempotencyKeyReused):
        await studio.speak(a_wish(an_order("Something else."), by=by, key="k-1"))


async def test_another_users_same_key_is_another_key() -> None:
    studio = Studio()
    await studio.speak(a_wish(key="k-1"))
    await studio.speak(a_wish(key="k-1"))
    assert len(studio.speeches.kept) == 2


async def test_a_key_whose_request_cost_nothing_may_be_used_again() -> None:
    studio, by = Studio(), on_behalf_of()
    studio.provider.failure = cut()
    with pytest.raises(VendorFailed):
        await studio.speak(a_wish(by=by, key="k-1"))
    studio.provider.failure = None
    speech = await studio.speak(a_wish(by=by, key="k-1"))
    assert await studio.hear(speech) == (b"onetwo", "done")


async def test_of_two_requests_with_one_key_at_the_same_moment_one_is_refunded() -> None:
    studio, by = Studio(), on_behalf_of()
    studio.speeches.hidden = 2
    await studio.speak(a_wish(by=by, key="k-1"))
    with pytest.raises(RequestInProgress):
        await studio.speak(a_wish(by=by, key="k-1"))
    assert [reservation.refunds for reservation in studio.admission.given] == [0, 1]
    assert len(studio.speeches.kept) == 1


async def test_the_vendors_count_is_what_is_charged() -> None:
    studio = Studio()
    studio.provider.audio = FakeAudio(b"audio", characters=6)
    await studio.hear(await studio.speak(a_wish()))
    (settlement,) = studio.speeches.settlements
    assert settlement is not None
    assert settlement.used == Used(6, "provider")
    assert [fact.event.characters for fact in studio.speeches.outbox] == [6]


async def test_a_tier_that_changed_a_moment_ago_counts_and_not_the_claim() -> None:
    studio = Studio()
    studio.admission.told = "pro"
    speech = await studio.speak(a_wish(tier="free"))
    assert speech.hold.tier == "pro"


async def test_what_the_claim_refuses_the_new_tier_may_allow() -> None:
    studio = Studio()
    fine = an_order(format="pcm_44100")
    with pytest.raises(FormatNotInTier):
        await studio.speak(a_wish(fine, tier="free"))
    studio.admission.told = "enterprise"
    speech = await studio.speak(a_wish(fine, tier="free"))
    assert speech.hold.tier == "enterprise"


async def test_a_told_tier_that_is_not_known_here_has_what_the_default_has() -> None:
    studio = Studio()
    studio.admission.told = "team"
    speech = await studio.speak(a_wish(tier="free"))
    assert speech.hold.tier == "free"


async def test_an_account_that_is_gone_says_nothing() -> None:
    studio = Studio()
    studio.admission.told = NO_TIER
    with pytest.raises(SessionEnded):
        await studio.speak(a_wish())
    assert not studio.speeches.kept


async def test_whoever_goes_while_it_is_held_has_their_place_back() -> None:
    studio, holding = Studio(), asyncio.Event()

    async def for_ever() -> None:
        holding.set()
        await asyncio.Event().wait()

    studio.speeches.before_hold = for_ever
    task = asyncio.create_task(studio.speak(a_wish()))
    await holding.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert studio.admission.given[0].refunds == 1


async def test_whoever_is_cancelled_twice_has_their_place_back_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    studio, refund = Studio(), FakeReservation.refund

    async def slowly(reservation: FakeReservation) -> None:
        await asyncio.sleep(0.01)
        await refund(reservation)

    monkeypatch.setattr(FakeReservation, "refund", slowly)
    studio.provider.audio = FakeAudio(asyncio.Event())
    task = asyncio.create_task(studio.speak(a_wish()))
    while not studio.provider.audio.is_open:
        await asyncio.sleep(0)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0.001)
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.02)
    assert studio.admission.given[0].refunds == 1


async def test_nobody_is_asked_for_what_another_request_holds_though_that_is_not_seen() -> None:
    studio, by = Studio(), on_behalf_of()
    studio.speeches.hidden = 3
    await studio.speak(a_wish(by=by, key="k-1"))
    with pytest.raises(RequestInProgress):
        await studio.speak(a_wish(by=by, key="k-1"))
    assert len(studio.provider.scripts) == 1


async def test_of_two_other_requests_with_one_key_at_once_one_is_an_error_of_its_user() -> None:
    studio, by = Studio(), on_behalf_of()
    studio.speeches.hidden = 2
    await studio.speak(a_wish(by=by, key="k-1"))
    with pytest.raises(IdempotencyKeyReused):
        await studio.speak(a_wish(an_order("Something else."), by=by, key="k-1"))


async def test_it_ends_with_the_key_that_it_runs_on_and_no_other() -> None:
    studio, by = Studio(), on_behalf_of()
    by.key.answered("elevenlabs", UsedKey(by.user_id, "elevenlabs", 2).told)
    await studio.speak(a_wish(by=by))
    old, new = (Revocation(by.user_id, "elevenlabs", NOON, version) for version in (1, 2))
    assert studio.running.end_on_key(old, Outcome.STOPPED) == 0
    assert studio.running.end_on_key(new, Outcome.STOPPED) == 1


async def test_a_refusal_does_not_wait_for_a_database_that_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(speak_module, "_SETTLE_PATIENCE_SECONDS", 0.01)
    studio = Studio()
    studio.provider.failure, studio.speeches.outages = cut(), 100
    with pytest.raises(VendorFailed):
        await asyncio.wait_for(studio.speak(a_wish()), 2)
    assert len(studio.running) == 1, "until it is settled, its lease is renewed"
    studio.speeches.outages = 0
    await studio.settled()


async def test_a_request_without_a_key_leaves_nothing_to_know_it_by() -> None:
    assert (await Studio().speak(a_wish())).hold.request_hash is None


async def test_a_key_is_free_once_its_refusal_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    studio, by, settle = Studio(), on_behalf_of(), FakeSpeeches.settle

    async def slowly(speeches: FakeSpeeches, *parts: Any) -> bool:
        await asyncio.sleep(0.01)
        return await settle(speeches, *parts)

    monkeypatch.setattr(FakeSpeeches, "settle", slowly)
    studio.provider.failure = cut()
    with pytest.raises(VendorFailed):
        await studio.speak(a_wish(by=by, key="k-1"))
    studio.provider.failure = None
    await studio.hear(await studio.speak(a_wish(by=by, key="k-1")))
