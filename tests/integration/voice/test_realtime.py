"""`WS /voice/realtime` through the real service: audio, money, and every way to end."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from websockets.exceptions import InvalidStatus

from services.voice import wiring
from services.voice.actions._live_line import LiveLine
from services.voice.api import realtime_socket
from services.voice.domain import open_sockets
from services.voice.providers import elevenlabs_live
from services.voice.storage.admission import ValkeyAdmission
from services.voice.storage.speeches import SqlSpeeches
from shared.ids import UserId
from shared.limits.admission import Admissions
from shared.news.ended_sessions import EndedSessions
from shared.news.revocations import ValkeyRevocations
from shared.revocation import Revocation
from shared.tiers import tier_named
from shared.valkey import open_cache, open_listener
from tests.support.voice_service import Person, Surroundings, Voice, running_voice
from tests.support.voice_sockets import RACHEL, VoiceSocket, at_realtime
from tests.support.waiting import eventually

SLOWLY = "[[sim:chunks=50,delay_ms=50]] " + "and on " * 30 + "it goes."
DIALOGUE = "eleven_v3"


def quick(text: str) -> int:
    """What the quick model, which costs half, takes for a text and the space after it."""
    return (len(text) + 2) // 2


def token_of(person: Person) -> str:
    return person.headers["authorization"].removeprefix("Bearer ")


def end_of_token(device: VoiceSocket) -> float:
    """When the token ends that it showed first, in seconds since the epoch."""
    return datetime.fromisoformat(device.heard[0]["data"]["expires_at"]).timestamp()


async def outcomes(voice: Voice, person: Person) -> list[tuple[str, int]]:
    return [(usage["outcome"], usage["characters"]) for usage in await voice.usage(person)]


async def rows(voice: Voice, person: Person) -> list[tuple[str, int | None]]:
    await voice.until_settled(person)
    return [(row["outcome"], row["charged_characters"]) for row in await voice.speeches(person)]


async def test_an_utterance_is_spoken_and_charged_once(voice: Voice) -> None:
    ada = voice.person()
    async with at_realtime(voice.url, token_of(ada)) as device:
        assert device.connection.subprotocol == "companion.v1"
        await device.say("start", voice_id=RACHEL, ref="a")
        for text in ("Hello ", "there. How "):
            await device.say("say", text=text)
        await device.until("audio")
        await device.say("say", text="are you?")
        await device.say("end")
        done = await device.until("done", ref="a")
    assert device.audio().startswith(b"\xff\xfb")
    assert done["data"]["usage"] == {"characters": 13, "source": "counted"}
    names = device.names()
    assert names[:2] == ["authenticated", "started"]
    assert (names.count("started"), names.count("done"), names.count("limits")) == (1, 1, 2)
    started = next(event for event in device.heard if event["event"] == "started")
    assert started["data"]["model"] == "eleven_flash_v2_5"
    (served,) = ada.served()
    assert (served["outcome"], served["model"]) == ("completed", "eleven_flash_v2_5")
    (usage,) = await voice.usage(ada)
    assert (usage["outcome"], usage["characters"], usage["source"]) == ("done", 13, "counted")
    assert usage["characters"] == served["usage"]["credits"]
    (row,) = await voice.speeches(ada)
    assert str(row["id"]) == started["utterance_id"] == done["utterance_id"]
    assert row["characters"] == served["usage"]["characters"] == 26, "the hold has grown"


async def test_the_newest_models_speak_by_their_own_socket(voice: Voice) -> None:
    enterprise = voice.person("enterprise")
    async with at_realtime(voice.url, token_of(enterprise)) as device:
        await device.utter("Hello. Bye.", model=DIALOGUE, format="pcm_16000", alignment=True)
        await device.until("done")
    first = next(event for event in device.heard if event["event"] == "audio")
    assert "".join(first["data"]["alignment"]["characters"]).startswith("Hello.")
    assert first["data"]["alignment"]["starts"][0] == 0
    (served,) = enterprise.served()
    assert (served["model"], served["outcome"]) == (DIALOGUE, "completed")
    assert await outcomes(voice, enterprise) == [("done", 12)]


async def test_audio_may_come_as_bytes(voice: Voice) -> None:
    ada = voice.person()
    async with at_realtime(voice.url, token_of(ada)) as device:
        await device.utter("Hello there.", audio="binary", format="pcm_16000", alignment=True)
        await device.until("done")
        await device.utter("Bye.", audio="binary", format="pcm_16000")
        await device.until("done")
    numbers = {event[0] for event in device.heard if isinstance(event, tuple)}
    assert numbers == {1, 2}
    # The simulator takes 40 ms for a character; what is said ends with a space.
    assert len(device.audio()) == (13 + 5) * 640 * 2
    assert "alignment" in device.names()


async def test_utterances_wait_for_their_turn(voice: Voice) -> None:
    ada = voice.person()
    async with at_realtime(voice.url, token_of(ada)) as device:
        for number in range(3):
            await device.utter(f"[[sim:chunks=3,delay_ms=10]] Sentence {number}.", ref=number)
        for number in range(3):
            await device.until("done", ref=number)
    order = [event.get("ref") for event in device.heard if event["event"] in ("limits", "done")]
    assert order == [0, 0, 1, 1, 2, 2]
    assert [outcome for outcome, _ in await outcomes(voice, ada)] == ["done"] * 3


async def test_an_interruption_silences_all_and_charges_what_was_said(voice: Voice) -> None:
    ada = voice.person()
    async with at_realtime(voice.url, token_of(ada)) as device:
        await device.utter(SLOWLY, ref="first")
        await device.utter("Never heard.", ref="second")
        await device.until("audio")
        began = asyncio.get_running_loop().time()
        await device.say("stop")
        interrupted = await device.until("interrupted", ref="first")
        # A fraction of what its vendor would take to the end; on a quiet machine far less.
        assert asyncio.get_running_loop().time() - began < 2
        assert interrupted["data"]["reason"] == "stopped"
        assert interrupted["data"]["usage"]["characters"] == quick(SLOWLY)
        assert (await device.until("interrupted", ref="second"))["data"]["usage"] is None
        await device.utter("Still here.")
        await device.until("done")
    assert await outcomes(voice, ada) == [("stopped", quick(SLOWLY)), ("done", 6)]
    # The vendor was told to stop.
    async with asyncio.timeout(4):
        while [served["outcome"] for served in ada.served()] != ["client_gone", "completed"]:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("directive", "code", "charged"),
    [
        ("cut", "vendor_failed", True),
        ("truncate", "vendor_failed", True),
        ("stream_error", "vendor_failed", True),
        ("stall", "vendor_failed", True),
        ("cut,at=0", "vendor_failed", False),
        ("stall,at=0", "vendor_failed", False),
        ("fault=quota", "vendor_quota_exhausted", False),
        ("fault=overloaded", "vendor_overloaded", False),
        ("fault=rate_limit", "vendor_rate_limited", False),
        ("fault=invalid_key", "no_usable_key", False),
        ("fault=server_error", "vendor_failed", False),
    ],
)
async def test_what_the_vendor_does_ends_an_utterance_and_not_the_socket(
    patient: Voice, directive: str, code: str, charged: bool
) -> None:
    ada = patient.person()
    text = f"[[sim:{directive},chunks=4]] One two three four five six seven eight."
    async with at_realtime(patient.url, token_of(ada)) as device:
        await device.utter(text)
        error = await device.until("error", final=True)
        assert error["data"]["code"] == code
        assert (error["data"]["usage"] is not None) == charged
        await device.utter("Still here.")
        await device.until("done")
    assert "simulator" not in str(error["data"]).lower(), "the vendor's words stay with us"
    first, second = await rows(patient, ada)
    assert second == ("done", 6)
    assert first[1] == (quick(text) if charged else None)
    assert first[0] in ("provider_failed", "refused")
    assert len(await patient.usage(ada)) == (2 if charged else 1)


@pytest.fixture(scope="module")
async def patient(surroundings: Surroundings) -> Any:
    """With little patience for a silent vendor."""
    async with running_voice(surroundings, silence_seconds=1) as voice:
        yield voice


async def test_a_writer_may_think_longer_than_the_vendor_may_be_silent(patient: Voice) -> None:
    ada = patient.person()
    async with at_realtime(patient.url, token_of(ada)) as device:
        await device.say("start", voice_id=RACHEL)
        await device.say("say", text="Well. ")
        await device.until("audio")
        await asyncio.sleep(1.2)
        await device.say("say", text="So it is.")
        await device.say("end")
        await device.until("done")
    assert await outcomes(patient, ada) == [("done", 8)]


async def test_a_writer_may_think_longer_than_the_newest_models_wait(
    patient: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elevenlabs_live, "_KEEP_ALIVE_SECONDS", 0.1)
    ada = patient.person("enterprise")
    async with at_realtime(patient.url, token_of(ada)) as device:
        await device.say("start", voice_id=RACHEL, model=DIALOGUE, settings={"speed": 1.1})
        await device.say("say", text="[[sim:patience_ms=400]] Well. ")
        await device.until("audio")
        await asyncio.sleep(0.8)
        await device.say("say", text="So it is.")
        await device.say("end")
        await device.until("done")
    assert [outcome for outcome, _ in await outcomes(patient, ada)] == ["done"]


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("sim-invalid", "no_usable_key"),
        ("sim-limited", "no_usable_key"),
        ("sim-noquota", "vendor_quota_exhausted"),
        ("sim-unreachable", "vendor_overloaded"),
    ],
)
async def test_a_refusal_at_the_upgrade(voice: Voice, key: str, code: str) -> None:
    ada = voice.person("enterprise")  # whose voices need not be looked up
    ada.has_key(f"{key}-{ada.id.hex}")
    async with at_realtime(voice.url, token_of(ada)) as device:
        await device.utter("Hello.")
        assert (await device.until("error", final=True))["data"]["code"] == code
    assert await voice.usage(ada) == []


async def test_keys_that_are_not_given_and_an_egress_in_trouble(voice: Voice) -> None:
    ada = voice.person("enterprise")
    egress = voice.surroundings.egress
    async with at_realtime(voice.url, token_of(ada)) as device:

        async def code_of_one() -> str:
            await device.utter("Hello.")
            return str((await device.until("error", final=True))["data"]["code"])

        del egress.keys[ada.id, "elevenlabs"]
        assert await code_of_one() == "no_usable_key"
        ada.has_key(f"sk_{ada.id.hex}")
        egress.refusal = (403, "grant_refused")
        try:
            assert await code_of_one() == "key_refused"
        finally:
            egress.refusal = None
        egress.keyvault_is_down = True
        try:
            assert await code_of_one() == "dependency_unavailable"
        finally:
            egress.keyvault_is_down = False
        egress.out_of_reach[ada.id] = 1
        assert await code_of_one() == "vendor_failed"
        await device.utter("Now.")
        await device.until("done")
    assert await outcomes(voice, ada) == [("done", 3)]


async def test_without_an_egress_nothing_is_charged(surroundings: Surroundings) -> None:
    async with running_voice(surroundings, egress_url="http://127.0.0.1:9") as voice:
        ada = voice.person("enterprise")
        async with at_realtime(voice.url, token_of(ada)) as device:
            await device.utter("Hello.")
            error = await device.until("error", final=True)
            assert error["data"]["code"] == "dependency_unavailable"
        assert await rows(voice, ada) in ([], [("refused", None)])


async def test_the_budget_is_checked_for_each_text(voice: Voice) -> None:
    ada = voice.person("pro")
    await used_up(voice, ada, 99_990)
    async with at_realtime(voice.url, token_of(ada)) as device:
        await device.say("start", voice_id=RACHEL, ref="it")
        await device.say("say", text="One. ")
        await device.until("limits")
        await device.say("say", text="Two, which is too long. ")
        refused = await device.until("error", ref="it")
        assert (refused["final"], refused["data"]["code"]) == (False, "limit_reached")
        done = await device.until("done", ref="it")
        assert done["data"]["usage"]["characters"] == 3
        await device.utter("Again: much too long.", ref="again")
        again = await device.until("error", final=True)
        assert again["data"]["code"] == "limit_reached"
        await device.utter("Six")
        await device.until("done")
    assert await outcomes(voice, ada) == [("done", 3), ("done", 2)]
    # An error is found by the request of its own utterance, and no other's.
    first, _ = await voice.speeches(ada)
    assert refused["data"]["request_id"] == first["request_id"]
    assert again["data"]["request_id"] not in {first["request_id"], None}


async def test_who_has_heard_the_end_of_one_may_start_the_next(
    voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its text was not ended by `end`, and its line has yet to be closed."""
    close = LiveLine.close

    async def slowly(line: LiveLine, speech_id: UUID) -> None:
        await asyncio.sleep(0.3)
        await close(line, speech_id)

    monkeypatch.setattr(LiveLine, "close", slowly)
    ada = voice.person("pro")
    await used_up(voice, ada, 99_990)
    async with at_realtime(voice.url, token_of(ada)) as device:
        await device.say("start", voice_id=RACHEL)
        await device.say("say", text="One. ")
        await device.until("limits")
        await device.say("say", text="Two, which is too long. ")
        await device.until("done")
        await device.utter("Six", ref="next")
        while (event := await device.next())["event"] not in {"done", "error"}:
            pass
        assert (event["event"], event["ref"]) == ("done", "next")


async def used_up(voice: Voice, person: Person, characters: int) -> None:
    """Of the month."""
    async with open_cache(voice.surroundings.cache_url) as cache:
        charged_since = SqlSpeeches(voice.database).charged_since
        await ValkeyAdmission(Admissions(cache), charged_since).admit(
            UserId(person.id),
            tier_named(person.tier),
            characters,
            now=datetime.now(UTC),
            reservation=uuid4(),
        )


async def test_bad_words_are_told_and_ten_in_a_row_close_it(voice: Voice) -> None:
    ada = voice.person()
    async with at_realtime(voice.url, token_of(ada)) as device:

        async def code_of(op: str, **fields: Any) -> str:
            await device.say(op, ref="r", **fields)
            return str((await device.until("error", ref="r"))["data"]["code"])

        assert await code_of("say", text="Hello.") == "no_utterance"
        assert await code_of("end") == "no_utterance"
        assert await code_of("sing") == "unreadable_message"
        assert await code_of("start") == "unreadable_message"
        assert await code_of("start", voice_id="no/such") == "voice_not_found"
        assert await code_of("start", voice_id=RACHEL, format="mp3_1") == "unknown_format"
        assert await code_of("start", voice_id=RACHEL, model="a b") == "unreadable_message"
        assert await code_of("start", voice_id=RACHEL, model="no-such") == "voice_model_not_in_tier"
        assert await code_of("auth", token="x") == "unauthenticated"
        await device.say("start", voice_id=RACHEL)
        await device.until("started")
        assert await code_of("start", voice_id=RACHEL) == "utterance_open"
        assert await code_of("say", text="\x07") == "text_not_speakable"
        assert await code_of("say", text="x" * 5_001) == "text_not_speakable"
        await device.say("stop")
        await device.until("interrupted")
        for _ in range(5):
            await device.utter()
        await device.say("ping", ref=7)
        await device.until("pong", ref=7)
        for message in ("", "{", "[]", "1", '"x"', "null", "{}", '{"op":1}', "x", "\x00"):
            await device.connection.send(message)
        assert await device.closed() == (1008, "not_understood")
    assert await voice.usage(ada) == []


async def test_so_many_utterances_may_wait(voice: Voice) -> None:
    ada = voice.person()
    async with at_realtime(voice.url, token_of(ada)) as device:
        for _ in range(5):
            await device.utter(SLOWLY)
        await device.say("start", voice_id=RACHEL, ref="one more")
        error = await device.until("error", ref="one more")
        assert error["data"]["code"] == "too_many_utterances"


async def test_too_large_a_message_closes_it(voice: Voice) -> None:
    async with at_realtime(voice.url, token_of(voice.person())) as device:
        await device.say("ping", ref="x" * (64 << 10))
        assert await device.closed() == (1009, "too_large")


async def test_who_leaves_is_charged_for_what_was_said(voice: Voice) -> None:
    ada = voice.person()
    async with at_realtime(voice.url, token_of(ada)) as device:
        await device.utter(SLOWLY)
        await device.until("audio")
    assert await outcomes(voice, ada) == [("client_gone", quick(SLOWLY))]


async def test_a_revoked_key_ends_what_is_spoken(voice: Voice) -> None:
    ada = voice.person()
    async with at_realtime(voice.url, token_of(ada)) as device:
        await device.utter(SLOWLY)
        await device.until("audio")
        await revoked(voice, ada)
        assert (await device.until("interrupted"))["data"]["reason"] == "stopped"
        await device.say("ping")
        await device.until("pong")
    assert await outcomes(voice, ada) == [("stopped", quick(SLOWLY))]


async def revoked(voice: Voice, person: Person) -> None:
    cache_url = voice.surroundings.cache_url
    async with open_cache(cache_url) as cache, open_listener(cache_url) as listener:
        news = Revocation(UserId(person.id), "elevenlabs", datetime.now(UTC))
        await ValkeyRevocations("voice", cache, listener).announce([news])


async def test_signing_out_stops_what_is_spoken_and_closes(voice: Voice) -> None:
    ada, sign_in = voice.person(), uuid4()
    token = voice.surroundings.mint.token(ada.id, tier="pro", sid=str(sign_in))
    cache_url = voice.surroundings.cache_url
    async with at_realtime(voice.url, token) as device, open_cache(cache_url) as cache:
        await device.utter(SLOWLY)
        await device.until("audio")
        await EndedSessions(cache).tell([sign_in])
        await device.until("interrupted")
        assert await device.closed() == (4401, "session_ended")
    assert await outcomes(voice, ada) == [("stopped", quick(SLOWLY))]


async def test_a_replica_that_goes_away_says_so(surroundings: Surroundings) -> None:
    async with running_voice(surroundings) as voice:
        ada = voice.person()
        async with at_realtime(voice.url, token_of(ada)) as device:
            await device.utter(SLOWLY)
            await device.until("audio")
            voice.process.stopping()
            await device.until("interrupted")
            assert await device.closed() == (1012, "reconnect")
        assert await outcomes(voice, ada) == [("stopped", quick(SLOWLY))]


async def test_a_token_is_shown_first_and_can_be_renewed(voice: Voice) -> None:
    ada, grace = voice.person(), voice.person()
    async with at_realtime(voice.url) as device:
        await device.say("ping")
        assert await device.closed() == (4401, "unauthenticated")
    async with at_realtime(voice.url) as device:
        await device.say("auth", token=token_of(ada))
        await device.until("authenticated")
        await device.say("auth", token=token_of(grace), ref=1)
        assert (await device.until("error", ref=1))["data"]["code"] == "other_user"
        await device.say("auth", token=token_of(ada), ref=2)
        await device.until("authenticated", ref=2)
    with pytest.raises(InvalidStatus) as refused:
        async with at_realtime(voice.url, token_of(ada)[:-4] + "AAAA"):
            pass
    assert refused.value.response.status_code == 401
    short = voice.surroundings.mint.token(ada.id, tier="pro", lifetime_seconds=3)
    async with at_realtime(voice.url, short) as device:
        await device.until("token_expiring")
        assert await device.closed() == (4401, "token_expired")


async def test_what_was_said_while_the_token_was_good_is_spoken_to_its_end(voice: Voice) -> None:
    ada = voice.person()
    short = voice.surroundings.mint.token(ada.id, tier="pro", lifetime_seconds=2)
    async with at_realtime(voice.url, short) as device:
        text = SLOWLY.replace("delay_ms=50", "delay_ms=90")
        await device.say("start", voice_id=RACHEL, ref="speaks")
        await device.say("say", text=text)
        while time.time() < end_of_token(device):
            await device.next()  # the end of its text never comes
        await device.say("start", voice_id=RACHEL, ref="late")
        late = await device.until("error", ref="late")
        assert late["data"]["code"] == "unauthenticated"
        await device.until("done", ref="speaks")
        assert await device.closed() == (4401, "token_expired")
    assert await outcomes(voice, ada) == [("done", quick(text))]


async def test_a_new_token_that_comes_late_is_not_too_late_while_something_speaks(
    voice: Voice,
) -> None:
    ada = voice.person()
    short = voice.surroundings.mint.token(ada.id, tier="pro", lifetime_seconds=2)
    async with at_realtime(voice.url, short) as device:
        await device.utter(SLOWLY.replace("delay_ms=50", "delay_ms=90"), ref="speaks")
        await device.utter("Not heard.", ref="waits")
        interrupted = await device.until("interrupted", ref="waits")
        assert interrupted["data"]["usage"] is None
        await device.say("auth", token=token_of(ada))
        await device.until("authenticated")
        await device.utter("Still here.", ref="next")
        await device.until("done", ref="next")
    assert [outcome for outcome, _ in await outcomes(voice, ada)] == ["done", "done"]


async def test_what_waits_for_its_turn_goes_by_the_newest_token(voice: Voice) -> None:
    ada = voice.person()
    short = voice.surroundings.mint.token(ada.id, tier="pro", lifetime_seconds=2)
    async with at_realtime(voice.url, short) as device:
        await device.utter(SLOWLY.replace("delay_ms=50", "delay_ms=90"), ref="speaks")
        await device.utter("Heard.", ref="waits")
        await device.say("auth", token=token_of(ada))
        await device.until("done", ref="speaks")
        assert time.time() > end_of_token(device)
        await device.until("done", ref="waits")
    assert [outcome for outcome, _ in await outcomes(voice, ada)] == ["done", "done"]


async def test_a_format_beyond_the_plan_is_told_before_its_audio(voice: Voice) -> None:
    ada = voice.person("enterprise").has_key(f"sk_free{uuid4().hex}")
    wish = {"model": "eleven_flash_v2_5", "audio": "binary"}
    async with at_realtime(voice.url, token_of(ada)) as device:
        # One that waits for its turn finds it out then.
        await device.utter(SLOWLY, ref="before", **wish)
        await device.utter("Hello.", ref="waits", format="mp3_44100_192", **wish)
        first = await device.until("started", ref="waits")
        assert (first["data"]["format"], first["data"]["format_fallback"]) == (
            "mp3_44100_192",
            None,
        )
        second = await device.until("started", ref="waits")
        assert second["data"]["format"] == "mp3_44100_128"
        assert second["data"]["number"] == first["data"]["number"] == 2
        await device.until("done", ref="waits")
        # One whose turn it is knows it before it has started, and so does whoever comes later.
        for format_, given in (("pcm_48000", "pcm_32000"), ("mp3_44100_192", "mp3_44100_128")):
            await device.utter("Hello.", ref=format_, format=format_, **wish)
            started = await device.until("started", ref=format_)
            assert started["data"]["format"] == given
            assert started["data"]["format_fallback"] == {"wished": format_, "given": given}
            await device.until("done", ref=format_)
    assert {row["format"] for row in await voice.speeches(ada)} == {
        "mp3_44100_128",
        "pcm_32000",
    }


async def test_a_user_has_so_many_sockets(voice: Voice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_sockets, "MOST_FOR_A_USER", 1)
    ada = voice.person()
    async with at_realtime(voice.url, token_of(ada)):
        with pytest.raises(InvalidStatus) as refused:
            async with at_realtime(voice.url, token_of(ada)):
                pass
        assert refused.value.response.status_code == 429


async def test_what_runs_for_long_is_settled_in_the_month_all_the_same(
    surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "_KEPT_AGAIN_SECONDS", 0.05)
    texts = ("Hello there.", "How are you?")
    async with running_voice(surroundings) as voice, open_cache(surroundings.cache_url) as cache:
        ada = voice.person()
        async with at_realtime(voice.url, token_of(ada)) as device:
            await device.say("start", voice_id=RACHEL)
            for text in texts:
                await device.say("say", text=text)
                await device.say("flush")
                await device.until("limits")
            places = await cache.keys(f"reservation:{{{ada.id}}}:*")
            assert len(places) == len(texts)
            for place in places:
                await cache.expire(place, 60)  # of an hour most has gone

            async def left() -> list[int]:
                return [await cache.ttl(place) for place in places]

            await eventually(left, lambda seconds: min(seconds) > 3_500)
            await device.say("end")
            await device.until("done")
        await voice.until_settled(ada)

        async def used() -> int:
            admission = ValkeyAdmission(
                Admissions(cache), SqlSpeeches(voice.database).charged_since
            )
            states = await admission.states(
                UserId(ada.id), tier_named("pro"), now=datetime.now(UTC)
            )
            return states[-1].used

        await eventually(used, (sum(map(len, texts)) // 2 + 1).__eq__)


async def test_silence_ends_an_utterance_and_then_the_socket(
    voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(realtime_socket, "_TEXT_WITHIN_SECONDS", 0.0)
    monkeypatch.setattr(realtime_socket, "_SENTENCE_WITHIN_SECONDS", 0.0)
    ada = voice.person()
    async with at_realtime(voice.url, token_of(ada)) as device:
        await device.say("start", voice_id=RACHEL)
        await device.say("say", text="No end")
        await device.until("done")
        monkeypatch.setattr(realtime_socket, "_IDLE_SECONDS", 0.0)
        assert await device.closed() == (4408, "idle")
    assert await outcomes(voice, ada) == [("done", 4)]


async def test_what_may_be_whole_is_said_after_a_pause_and_not_in_the_middle(
    voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(realtime_socket, "_PAUSE_SECONDS", 60.0)
    ada = voice.person()
    async with at_realtime(voice.url, token_of(ada)) as device:
        await device.say("start", voice_id=RACHEL)
        await device.say("say", text="Hello there.")
        await device.until("audio")  # from here on each text is said as soon as it may be
        for token in (" I met Dr", ".", " Smith today", "."):
            await device.say("say", text=token)
            await asyncio.sleep(0.2)
        await device.until("limits")
        monkeypatch.setattr(realtime_socket, "_PAUSE_SECONDS", 0.0)
        await device.say("say", text=" OK.")  # nobody can tell yet whether that is a sentence
        await device.until("limits")
        await device.say("end")
        await device.until("done")
    said = [event for event in device.heard if event["event"] == "limits"]
    assert len(said) == 3, "one for each text that the vendor was told"


async def test_a_file_whose_head_tells_its_length_is_not_made_live(voice: Voice) -> None:
    """The vendor's sockets make no WAV: that is told at once, with what there is."""
    ada = voice.person("enterprise")
    async with at_realtime(voice.url, token_of(ada)) as device:
        await device.say("start", voice_id=RACHEL, format="wav_24000")
        refused = (await device.until("error"))["data"]
        assert (refused["status"], refused["code"]) == (422, "format_not_live")
        assert {"pcm_24000", "pcm_48000", "mp3_44100_192"} <= set(refused["formats"])
        assert not [name for name in refused["formats"] if name.startswith("wav")]
        await device.utter("Hello there.", format="pcm_24000")
        await device.until("done")
    pro = voice.person("pro")
    async with at_realtime(voice.url, token_of(pro)) as device:
        await device.say("start", voice_id=RACHEL, format="wav_24000")
        # No larger tier has it live either, so that nobody is pointed to one.
        assert (await device.until("error"))["data"]["code"] == "format_not_live"


async def test_the_free_tier_has_no_realtime(voice: Voice) -> None:
    free = voice.person("free")
    async with at_realtime(voice.url, token_of(free)) as device:
        await device.say("start", voice_id=RACHEL)
        assert (await device.until("error"))["data"]["code"] == "realtime_not_in_tier"
