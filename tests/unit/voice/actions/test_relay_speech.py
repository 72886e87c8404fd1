"""A speech on its way to its hearer: whatever happens, it is settled once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from services.voice.actions.drop_key import DropKey
from services.voice.actions.keep_places import KeepPlaces
from services.voice.actions.renew_leases import RenewLeases
from services.voice.actions.settle_orphans import SettleOrphans
from services.voice.actions.settle_speech import SettleSpeech
from services.voice.domain.running_speech import RunningSpeech
from services.voice.domain.speech import Outcome, Settlement, SpeechId, Used
from shared.errors import DependencyUnavailable
from shared.ids import UserId
from shared.revocation import Revocation
from tests.support.voice import (
    NOON,
    FakeAudio,
    FakeSpeeches,
    Studio,
    a_live_wish,
    a_wish,
    cut,
    on_behalf_of,
)

# Between two looks of the sweeper.
TICK = timedelta(seconds=10)


async def nowhere(_piece: bytes) -> None:
    """A hearer who takes everything."""


async def begun(studio: Studio) -> RunningSpeech:
    return await studio.speak(a_wish())


def a_sweeper(studio: Studio) -> SettleOrphans:
    return SettleOrphans(
        studio.speeches, SettleSpeech(studio.speeches), studio.clock, studio.admission
    )


def outcomes(studio: Studio) -> list[Outcome | None]:
    return [each.outcome if each else None for each in studio.speeches.settlements]


async def test_audio_arrives_piece_by_piece_and_is_charged_once() -> None:
    studio = Studio()
    assert await studio.hear(await begun(studio)) == (b"onetwo", "done")
    assert outcomes(studio) == [Outcome.DONE]
    assert len(studio.speeches.outbox) == 1
    assert studio.admission.given[0].refunds == 0
    assert not studio.provider.audio.is_open


async def test_a_cut_after_audio_is_charged() -> None:
    studio = Studio()
    studio.provider.audio = FakeAudio(b"one", cut())
    assert await studio.hear(await begun(studio)) == (b"one", "provider_failed")
    (fact,) = studio.speeches.outbox
    assert (fact.event.outcome, fact.event.characters) == ("provider_failed", 12)


async def test_a_hearer_who_leaves_is_charged_for_the_whole_text_and_the_vendor_is_told() -> None:
    studio = Studio()
    studio.provider.audio = FakeAudio(b"one", asyncio.Event())
    speech = await begun(studio)
    relay = asyncio.create_task(studio.relay(speech, nowhere))
    await asyncio.sleep(0)
    speech.end(Outcome.CLIENT_GONE)
    assert await relay is Outcome.CLIENT_GONE
    await studio.settled()
    (fact,) = studio.speeches.outbox
    assert (fact.event.outcome, fact.event.characters) == ("client_gone", 12)
    assert not studio.provider.audio.is_open


async def test_a_write_that_fails_is_a_hearer_who_left() -> None:
    async def broken(_piece: bytes) -> None:
        raise ConnectionResetError

    studio = Studio()
    assert await studio.relay(await begun(studio), broken) is Outcome.CLIENT_GONE


async def test_a_hearer_who_reads_slowly_can_be_ended_too() -> None:
    async def stuck(_piece: bytes) -> None:
        await asyncio.Event().wait()

    studio = Studio()
    speech = await begun(studio)
    relay = asyncio.create_task(studio.relay(speech, stuck))
    await asyncio.sleep(0)
    speech.end(Outcome.STOPPED)
    assert await relay is Outcome.STOPPED


@pytest.mark.parametrize("reads", [True, False])
async def test_who_relays_an_ended_speech_goes_on_in_peace(reads: bool) -> None:
    async def written(_piece: bytes) -> None:
        if not reads:
            await asyncio.Event().wait()

    studio = Studio()
    studio.provider.audio = FakeAudio(b"one", asyncio.Event())
    speech = await begun(studio)

    async def answer() -> tuple[Outcome, int]:
        outcome = await studio.relay(speech, written)
        await asyncio.sleep(0)  # nothing of the end is left to come here
        task = asyncio.current_task()
        assert task is not None
        speech.end(Outcome.STOPPED)
        await asyncio.sleep(0)
        return outcome, task.cancelling()

    answering = asyncio.create_task(answer())
    await asyncio.sleep(0)
    speech.end(Outcome.CLIENT_GONE)
    assert await answering == (Outcome.CLIENT_GONE, 0)


async def test_a_relay_that_is_cancelled_as_its_speech_ends_is_cancelled() -> None:
    studio = Studio()
    studio.provider.audio = FakeAudio(b"one", asyncio.Event())
    speech = await begun(studio)
    relay = asyncio.create_task(studio.relay(speech, nowhere))
    await asyncio.sleep(0)
    speech.end(Outcome.CLIENT_GONE)
    relay.cancel()
    with pytest.raises(asyncio.CancelledError):
        await relay
    await studio.settled()
    assert len(studio.speeches.outbox) == 1


async def test_the_end_that_comes_with_the_last_piece_is_one_of_them() -> None:
    studio = Studio()
    speech = await begun(studio)

    async def last(piece: bytes) -> None:
        if piece == b"two":
            asyncio.get_running_loop().call_soon(speech.end, Outcome.CLIENT_GONE)

    outcome = await asyncio.create_task(studio.relay(speech, last))
    await studio.settled()
    assert outcome in (Outcome.DONE, Outcome.CLIENT_GONE)
    assert outcomes(studio) == [outcome]


async def test_a_speech_that_was_ended_before_it_is_relayed_says_nothing() -> None:
    studio = Studio()
    speech = await begun(studio)
    speech.end(Outcome.STOPPED)
    assert await studio.hear(speech) == (b"", "stopped")
    assert outcomes(studio) == [Outcome.STOPPED]


async def test_the_first_reason_to_end_counts() -> None:
    studio = Studio()
    speech = await begun(studio)
    speech.end(Outcome.CLIENT_GONE)
    speech.end(Outcome.STOPPED)
    assert (await studio.hear(speech))[1] == "client_gone"


async def test_a_cancelled_relay_is_settled_all_the_same() -> None:
    studio = Studio()
    studio.provider.audio = FakeAudio(b"one", asyncio.Event())
    relay = asyncio.create_task(studio.relay(await begun(studio), nowhere))
    await asyncio.sleep(0)
    relay.cancel()
    with pytest.raises(asyncio.CancelledError):
        await relay
    await studio.settled()
    assert outcomes(studio) == [Outcome.STOPPED]
    assert len(studio.speeches.outbox) == 1


async def test_settlement_waits_for_a_database_that_is_away() -> None:
    studio = Studio()
    studio.speeches.outages = 1
    assert await studio.hear(await begun(studio)) == (b"onetwo", "done")
    assert outcomes(studio) == [Outcome.DONE]
    assert len(studio.running) == 0


async def test_a_speech_is_running_until_it_is_settled() -> None:
    studio = Studio()
    speech = await begun(studio)
    assert studio.running.ids() == [speech.hold.id]
    await studio.hear(speech)
    assert studio.running.ids() == []


async def test_client_and_sweeper_at_once_settle_once() -> None:
    studio = Studio()
    speech = await begun(studio)
    studio.clock.at = NOON + timedelta(minutes=5)
    sweeper = a_sweeper(studio)
    assert await sweeper() == 0
    studio.clock.at += timedelta(minutes=1)
    results = await asyncio.gather(sweeper(), studio.hear(speech), sweeper())
    assert len(studio.speeches.outbox) == 1
    assert results[0] + results[2] in {0, 1}


async def test_a_renewed_lease_keeps_the_sweeper_away() -> None:
    studio = Studio()
    speech = await begun(studio)
    studio.clock.at = NOON + timedelta(seconds=29)
    lease = timedelta(seconds=30)
    await RenewLeases(studio.speeches, studio.running, studio.clock, lease)()
    sweeper = a_sweeper(studio)
    for seconds in (58, 60, 70):
        studio.clock.at = NOON + timedelta(seconds=seconds)
        assert await sweeper() == 0
    studio.clock.at = NOON + timedelta(seconds=80)
    assert await sweeper() == 1
    (settlement,) = studio.speeches.settlements
    assert settlement is not None
    assert (settlement.outcome, settlement.used) == (Outcome.REPLICA_LOST, Used(12, "counted"))
    assert studio.speeches.outbox[0].id == speech.hold.usage_event_id
    # The month's characters hear of it too, and after each look of what they could not be told.
    assert [place.settled for place in studio.admission.given] == [[12]]
    assert studio.admission.told_the_untold == 4


async def test_each_place_in_the_limits_is_kept_while_it_is_needed() -> None:
    studio = Studio()
    speech = await begun(studio)
    live = await studio.speak_live(a_live_wish())
    for text in ("Hello there. ", "How are you?"):
        await live.say(text)
    await KeepPlaces(studio.running)()
    assert [place.kept for place in studio.admission.given] == [1, 1, 1]
    await studio.hear(speech)
    await live.conclude(Outcome.DONE)
    await studio.settled()
    await KeepPlaces(studio.running)()
    assert [place.kept for place in studio.admission.given] == [1, 1, 1]


async def test_after_the_database_was_away_those_that_live_are_left_alone() -> None:
    studio = Studio()
    speech = await begun(studio)
    sweeper, lease = a_sweeper(studio), timedelta(seconds=30)
    studio.clock.at += timedelta(minutes=5)  # in which nobody could renew anything
    for _ in range(2):
        assert await sweeper() == 0
        # Not soon: a try that began too early had to fail first.
        studio.clock.at += TICK
    await RenewLeases(studio.speeches, studio.running, studio.clock, lease)()
    assert await sweeper() == 0
    # And when that happens once more, an old doubt is none.
    studio.clock.at += timedelta(minutes=5)
    for _ in range(2):
        assert await sweeper() == 0
        assert outcomes(studio) == [None]
        studio.clock.at += TICK
    assert await sweeper() == 1
    assert list(studio.speeches.kept) == [speech.hold.id]


async def test_a_sweeper_that_finds_the_database_away_looks_again_later() -> None:
    studio = Studio()
    await begun(studio)
    sweeper = a_sweeper(studio)
    for _ in range(2):
        studio.clock.at += timedelta(minutes=1)
        assert await sweeper.speeches.orphans(studio.clock.at, doubted_by=NOON, most=1) == []
    studio.speeches.outages = 1
    with pytest.raises(DependencyUnavailable):
        await sweeper()
    assert await sweeper() == 1


async def test_a_revoked_key_ends_its_speeches_and_no_others() -> None:
    studio = Studio()
    mine, others = await begun(studio), await begun(studio)
    drop_key = DropKey(studio.running)
    assert await drop_key(Revocation(mine.hold.user_id, "elevenlabs", NOON)) == 1
    assert (mine.ended_as, others.ended_as) == (Outcome.STOPPED, None)
    assert await drop_key(Revocation(mine.hold.user_id, "openai", NOON)) == 0


async def test_an_organisations_revoked_key_ends_the_speeches_that_it_may_serve() -> None:
    studio, firm = Studio(), UserId(uuid4())
    # By their token they have no seat; keyvault may have heard of one since.
    member = replace(on_behalf_of(), organisation_id=firm)
    served, others = await studio.speak(a_wish(by=member)), await begun(studio)
    drop_key = DropKey(studio.running)
    assert await drop_key(Revocation(firm, "openai", NOON)) == 0
    assert await drop_key(Revocation(firm, "elevenlabs", NOON)) == 1
    assert (served.ended_as, others.ended_as) == (Outcome.STOPPED, None)


async def test_what_was_settled_meanwhile_is_none_of_the_sweepers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    studio = Studio()
    await begun(studio)
    sweeper = a_sweeper(studio)

    async def too_late(_self: object, *_parts: object) -> bool:
        return False

    monkeypatch.setattr(FakeSpeeches, "settle", too_late)
    for _look in range(3):
        studio.clock.at += timedelta(minutes=1)
        assert await sweeper() == 0
    assert studio.admission.given[0].settled == []


async def test_one_orphan_that_can_not_be_closed_does_not_keep_the_others_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    studio = Studio()
    broken, other = await begun(studio), await begun(studio)
    settle = FakeSpeeches.settle

    async def settle_others(speeches: FakeSpeeches, id_: SpeechId, *parts: Any) -> bool:
        if id_ == broken.hold.id:
            raise ZeroDivisionError
        return await settle(speeches, id_, *parts)

    monkeypatch.setattr(FakeSpeeches, "settle", settle_others)
    sweeper = a_sweeper(studio)
    studio.clock.at += timedelta(minutes=1)
    assert await sweeper() == 0
    studio.clock.at += timedelta(minutes=1)
    with capture_logs() as logs:
        assert await sweeper() == 1
    assert [line["event"] for line in logs if line["log_level"] == "error"] == [
        "orphan_not_settled"
    ]
    assert [fact.id for fact in studio.speeches.outbox] == [other.hold.usage_event_id]


async def test_who_asks_hears_of_a_settlement_once() -> None:
    studio = Studio()
    speech = await begun(studio)
    heard: list[SpeechId] = []
    settle = SettleSpeech(studio.speeches, lambda hold, _settlement: heard.append(hold.id))
    done = Settlement(Outcome.DONE, Used(12, "counted"))
    assert [await settle(speech.hold, done) for _ in range(2)] == [True, False]
    assert heard == [speech.hold.id]
