"""What was said before, in the real service and its database."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from services.voice.domain.kept_speech import Address, Bounds
from services.voice.storage.kept_speeches import SqlKeptSpeeches
from services.voice.storage.unit_of_work import SqlWork
from shared.db.database import Database
from shared.ids import UserId
from shared.limits.windows import month_window
from shared.valkey import open_cache
from tests.support.kept_speech import write_kept_speech_keys
from tests.support.voice_service import Person, Surroundings, Voice, problem, running_voice

RACHEL = "21m00Tcm4TlvDq8ikWAM"
NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
BOUNDS = Bounds()


@pytest_asyncio.fixture(scope="module")
async def keeping(
    surroundings: Surroundings, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Voice]:
    """A voice process that keeps what is said."""
    keys: Path = write_kept_speech_keys(tmp_path_factory.mktemp("keys") / "keys.json")
    async with running_voice(
        surroundings, cache_keys_file=keys, offline_engine="espeak-ng"
    ) as voice:
        yield voice


async def kept(voice: Voice, person: Person) -> int:
    row = await voice.database.fetchrow(
        "select count(*) as kept from cached_utterance where user_id = $1", person.id
    )
    assert row is not None
    return int(row["kept"])


async def until_kept(voice: Voice, person: Person, count: int = 1) -> None:
    async with asyncio.timeout(10):
        while await kept(voice, person) != count:
            await asyncio.sleep(0.01)


async def test_a_repeated_text_comes_from_what_is_kept(keeping: Voice) -> None:
    ada = keeping.person("free")
    first = await keeping.say(ada, "A tooltip.")
    assert "x-voice-cached" not in first.headers
    await until_kept(keeping, ada)

    again = await keeping.say(ada, "  A tooltip.\n")
    assert (again.status_code, again.headers["x-voice-cached"]) == (200, "true")
    assert (again.content, again.headers["content-type"]) == (first.content, "audio/mpeg")
    assert again.headers["x-voice-provider"] == "elevenlabs"
    assert len(ada.served()) == 1

    body = (await keeping.say(ada, "A tooltip.", headers={"accept": "application/json"})).json()
    assert b64decode(body["audio_base64"]) == first.content
    assert (body["cached"], body["usage"]["characters"]) == (True, 0)

    usage = await keeping.usage(ada)
    assert [(one["cached"], one["characters"]) for one in usage] == [
        (False, 5),
        (True, 0),
        (True, 0),
    ]
    # Each was a request of the minute's; only the first took of the month's characters.
    minute, month = again.headers["ratelimit"].split(", ")
    assert ";r=3;" in minute
    assert ";r=9995;" in month


async def test_a_month_that_is_used_up_leaves_what_was_said_before(keeping: Voice) -> None:
    ada = keeping.person("free")
    await keeping.say(ada, "A tooltip.")
    await until_kept(keeping, ada)
    # Spoken in a larger tier, of which they have come back.
    await keeping.until_settled(ada)
    month = month_window("elevenlabs.characters_per_month", 10_000, datetime.now(UTC))
    async with open_cache(keeping.surroundings.cache_url) as cache:
        await cache.incrby(month.key(str(ada.id)), 20_000)
    again = await keeping.say(ada, "A tooltip.")
    assert (again.status_code, again.headers["x-voice-cached"]) == (200, "true")
    other = await keeping.say(ada, "Another one.")
    assert (other.status_code, problem(other)["code"]) == (429, "limit_reached")


@pytest.mark.parametrize("accept", ["audio/mpeg", "application/json"])
async def test_a_repetition_with_its_key_says_that_it_is_one(keeping: Voice, accept: str) -> None:
    ada = keeping.person()
    asked = {"idempotency-key": "k-1", "accept": accept}
    first = await keeping.say(ada, "Once and again.", headers=asked)
    assert "idempotency-replayed" not in first.headers
    await until_kept(keeping, ada)
    again = await keeping.say(ada, "Once and again.", headers=asked)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
    unkeyed = await keeping.say(ada, "Once and again.", headers={"accept": accept})
    assert unkeyed.headers["x-voice-cached"] == "true"
    assert "idempotency-replayed" not in unkeyed.headers
    door = "/elevenlabs/v1/text-to-speech/21m00Tcm4TlvDq8ikWAM"
    body = {"text": "By the SDK.", "model_id": "eleven_flash_v2_5"}
    headers = ada.headers | {"idempotency-key": "k-2"}
    await keeping.client.post(door, json=body, headers=headers)
    await until_kept(keeping, ada, 2)
    again = await keeping.client.post(door, json=body, headers=headers)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")


BY_THEMSELVES = ("/voice/speech", {"voice_id": RACHEL})
DOORS = [
    (*BY_THEMSELVES, "audio/mpeg"),
    (*BY_THEMSELVES, "application/x-ndjson"),
    (f"/elevenlabs/v1/text-to-speech/{RACHEL}/stream", {}, "*/*"),
    ("/v1/audio/speech", {"model": "tts-1", "voice": "alloy", "stream_format": "sse"}, "*/*"),
]


@pytest.mark.parametrize(("path", "body", "accept"), DOORS, ids=["audio", "lines", "sdk", "sse"])
async def test_who_was_cut_off_hears_it_with_the_same_key(
    keeping: Voice, path: str, body: dict[str, Any], accept: str
) -> None:
    ada, text = keeping.person(), "Cut off. [[sim:chunks=20,delay_ms=20]]"
    asked = ada.headers | {"idempotency-key": "k-1", "accept": accept}
    body = body | {"input" if "openai" in path or "/v1/audio" in path else "text": text}

    async def ask() -> httpx.Response:
        return await keeping.client.post(path, json=body, headers=asked)

    async with keeping.client.stream("POST", path, json=body, headers=asked) as first:
        await anext(first.aiter_raw())
    while (again := await ask()).status_code == 409:
        assert "in_progress" in again.text, "it is kept before it is over"
        await asyncio.sleep(0.05)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
    assert len(again.content) > 20_000, "all of it"
    usage = await keeping.usage(ada)
    assert [(one["outcome"], one["cached"]) for one in usage] == [
        ("client_gone", False),
        ("done", True),
    ]
    assert usage[0]["characters"] > 0
    assert [served["outcome"] for served in ada.served()] == ["completed"]


@pytest.mark.parametrize(
    ("key", "bounds"), [({}, {}), ({"idempotency-key": "k-1"}, {"cache_utterance_bytes": 9_000})]
)
async def test_what_nobody_could_ask_for_again_ends_when_its_hearer_leaves(
    surroundings: Surroundings, tmp_path: Path, key: dict[str, str], bounds: dict[str, int]
) -> None:
    keys = write_kept_speech_keys(tmp_path / "keys.json")
    async with running_voice(surroundings, cache_keys_file=keys, **bounds) as voice:
        ada = voice.person()
        body = {"text": "Cut off. [[sim:chunks=200,delay_ms=20]]", "voice_id": RACHEL}
        asked = ada.headers | key
        async with voice.client.stream("POST", "/voice/speech", json=body, headers=asked) as first:
            await anext(first.aiter_raw())
        (usage,) = await voice.usage(ada)
        assert usage["outcome"] == "client_gone"
        async with asyncio.timeout(5):
            while ada.served()[0]["outcome"] == "running":
                await asyncio.sleep(0.01)
        assert ada.served()[0]["outcome"] == "client_gone"


async def test_a_repetition_takes_no_place_and_no_full_minute_refuses_it(keeping: Voice) -> None:
    ada = keeping.person(tier="free")
    asked = {"idempotency-key": "k-1"}
    await keeping.say(ada, "Once and again.", headers=asked)
    await until_kept(keeping, ada)
    seen = set()
    for _ in range(6):
        again = await keeping.say(ada, "Once and again.", headers=asked)
        assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
        seen.add(again.headers["ratelimit"].partition(";t=")[0])
    # None left less than the first one did; a minute that began meanwhile is whole.
    assert seen <= {f'"elevenlabs.requests_per_minute";r={left}' for left in (4, 5)}
    while (other := await keeping.say(ada, "Once and again.")).status_code == 200:
        pass
    assert problem(other)["scope"] == "elevenlabs.requests_per_minute"
    again = await keeping.say(ada, "Once and again.", headers=asked)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")


async def test_another_user_with_the_same_words_is_asked_for(keeping: Voice) -> None:
    ada, grace = keeping.person(), keeping.person()
    await keeping.say(ada, "The same words.")
    await until_kept(keeping, ada)
    assert "x-voice-cached" not in (await keeping.say(grace, "The same words.")).headers
    assert len(grace.served()) == 1


@pytest.mark.parametrize(
    "wish", [{"cache": False}, {"headers": {"cache-control": "No-Store, max-age=0"}}], ids=str
)
async def test_a_request_can_do_without(keeping: Voice, wish: dict[str, Any]) -> None:
    ada = keeping.person()
    await keeping.say(ada, "Not to be kept.", **wish)
    await keeping.say(ada, "To be kept.")
    await until_kept(keeping, ada)
    assert "x-voice-cached" not in (await keeping.say(ada, "To be kept.", **wish)).headers


async def test_nobody_reads_in_the_database_what_was_said(keeping: Voice) -> None:
    ada = keeping.person()
    audio = (await keeping.say(ada, "Between you and me.", format="pcm_8000")).content
    await until_kept(keeping, ada)
    row = await keeping.database.fetchrow(
        "select * from cached_utterance where user_id = $1", ada.id
    )
    assert row is not None
    everything = b"".join(value for value in row.values() if isinstance(value, bytes))
    assert b"Between" not in everything
    assert audio[:64] not in everything


async def test_who_lost_their_key_still_has_what_they_had(keeping: Voice) -> None:
    ada = keeping.person()
    await keeping.say(ada, "Mine.")
    await until_kept(keeping, ada)
    del keeping.surroundings.egress.keys[ada.id, "elevenlabs"]
    assert (await keeping.say(ada, "Mine.")).headers["x-voice-cached"] == "true"
    answer = await keeping.say(ada, "Something else.")
    assert (answer.status_code, problem(answer)["code"]) == (409, "no_usable_key")


async def test_a_cut_speech_is_not_kept(keeping: Voice) -> None:
    ada = keeping.person()
    with pytest.raises(httpx.RemoteProtocolError):
        await keeping.say(ada, "Cut. [[sim:chunks=4,at=2,fault=cut]]")
    await keeping.usage(ada)
    await keeping.say(ada, "Whole.")
    await until_kept(keeping, ada)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"/elevenlabs/v1/text-to-speech/{RACHEL}", {"text": "By a drop-in."}),
        ("/openai/v1/audio/speech", {"input": "By OpenAI's.", "model": "tts-1", "voice": RACHEL}),
    ],
    ids=["elevenlabs", "openai"],
)
async def test_the_drop_ins_share_it(keeping: Voice, path: str, body: dict[str, str]) -> None:
    ada = keeping.person("enterprise")

    async def said(**headers: str) -> Any:
        answer = await keeping.client.post(path, json=body, headers={**ada.headers, **headers})
        assert answer.status_code == 200, answer.text
        return answer

    first = await said()
    await until_kept(keeping, ada)
    again = await said()
    assert (again.headers["x-voice-cached"], again.content) == ("true", first.content)
    assert "x-voice-cached" not in (await said(**{"cache-control": "no-store"})).headers


async def test_the_engine_speaks_where_it_is_asked_for(keeping: Voice) -> None:
    ada = keeping.person("free")
    answer = await keeping.say(ada, "Hallo.", voice_id="espeak-de")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/wav")
    assert (answer.headers["x-voice-provider"], answer.content[:4]) == ("espeak-ng", b"RIFF")
    refused = await keeping.say(ada, "Hallo.", voice_id="espeak-de", format="mp3_44100_64")
    assert (refused.status_code, problem(refused)["code"]) == (422, "engine_cannot")
    assert problem(refused)["formats"] == ["wav_22050", "pcm_22050"]
    (usage,) = await keeping.usage(ada)
    assert (usage["provider"], usage["characters"], usage["cached"]) == ("espeak-ng", 6, False)
    assert ada.served() == []


@pytest.mark.parametrize("model", ["tts-1", "gpt-4o-mini-tts", "default", "espeak-ng"])
async def test_openais_door_leads_to_the_engine_too(keeping: Voice, model: str) -> None:
    ada = keeping.person("free")

    async def said(format_: str) -> httpx.Response:
        body = {"model": model, "voice": "espeak-de", "input": "Hallo.", "response_format": format_}
        return await keeping.client.post("/v1/audio/speech", json=body, headers=ada.headers)

    answer = await said("wav")
    assert (answer.status_code, answer.content[:4]) == (200, b"RIFF"), answer.text
    assert answer.headers["x-companion-provider"] == "espeak-ng"
    # Whoever reads OpenAI's `pcm` takes it for 24,000 samples a second.
    for format_ in ("pcm", "mp3"):
        refused = await said(format_)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "engine_cannot")


async def test_without_a_key_any_engine_will_do_where_it_is_said(keeping: Voice) -> None:
    ada = keeping.person("free")
    del keeping.surroundings.egress.keys[ada.id, "elevenlabs"]
    assert (await keeping.say(ada, "Hello.")).status_code == 409
    answer = await keeping.say(ada, "Hello.", engine="any")
    assert (answer.status_code, answer.headers["x-voice-provider"]) == (200, "espeak-ng")


async def test_engines_are_told(keeping: Voice, voice: Voice) -> None:
    (engine,) = (
        await keeping.client.get("/voice/engines", headers=keeping.person().headers)
    ).json()["data"]
    assert (engine["provider"], engine["formats"][0]) == ("espeak-ng", "wav_22050")
    assert {"espeak-de", engine["default_voice_id"]} <= {v["voice_id"] for v in engine["voices"]}
    assert {v["category"] for v in engine["voices"]} == {"basic"}
    none = await voice.client.get("/voice/engines", headers=voice.person().headers)
    assert none.json() == {"data": [], "falls_back": False}


# --- storage


def an_address(number: int) -> Address:
    return Address(number.to_bytes(32, "big"))


async def test_a_users_oldest_make_room(database: Database) -> None:
    kept, ada, grace = SqlKeptSpeeches(database), UserId(uuid4()), UserId(uuid4())
    bounds = Bounds(entries_of_user=3, bytes_of_user=100)

    async def keep(user: UserId, number: int, size: int) -> None:
        at = NOW + timedelta(seconds=number)
        await kept.keep(user, an_address(number), b"x" * size, began=at, at=at, bounds=bounds)

    async def numbers(user: UserId) -> list[int]:
        since = NOW - timedelta(days=1)
        found = [await kept.find(user, an_address(n), since=since) for n in range(7)]
        return [n for n, sealed in enumerate(found) if sealed is not None]

    await keep(grace, 0, 90)
    for number in range(5):
        await keep(ada, number, 10)
    assert await numbers(ada) == [2, 3, 4]
    await keep(ada, 5, 85)
    assert await numbers(ada) == [4, 5]
    await keep(ada, 6, 101)  # larger than all there may be
    assert await numbers(ada) == []
    assert await numbers(grace) == [0]


async def test_age_lets_go_and_the_same_place_is_taken_anew(database: Database) -> None:
    kept, ada = SqlKeptSpeeches(database), UserId(uuid4())
    then = NOW - timedelta(days=40)
    await kept.keep(ada, an_address(1), b"old", began=then, at=then, bounds=BOUNDS)
    month_ago = NOW - timedelta(days=30)
    assert await kept.find(ada, an_address(1), since=month_ago) is None
    await kept.keep(ada, an_address(1), b"new", began=NOW, at=NOW, bounds=BOUNDS)
    assert await kept.find(ada, an_address(1), since=month_ago) == b"new"
    assert await kept.drop_before(month_ago, most=10) == 0
    assert await kept.drop_before(NOW + timedelta(seconds=1), most=10) == 1


async def test_it_goes_with_its_user_and_is_told_in_numbers(database: Database) -> None:
    kept, ada, grace = SqlKeptSpeeches(database), UserId(uuid4()), UserId(uuid4())
    for user in (ada, grace):
        for number in range(3):
            await kept.keep(user, an_address(number), b"four", began=NOW, at=NOW, bounds=BOUNDS)
    async with SqlWork(database) as work:
        told = await work.kept_speeches.sum_of(ada)
        assert (told.utterances, told.bytes, told.oldest_at) == (3, 12, NOW)
        assert await work.kept_speeches.erase(ada, most=2) == 2
        assert await work.kept_speeches.erase(ada, most=2) == 1
        assert (await work.kept_speeches.sum_of(ada)).utterances == 0
        assert (await work.kept_speeches.sum_of(grace)).utterances == 3


async def test_what_was_being_said_when_a_voice_went_is_not_kept(database: Database) -> None:
    kept, ada, grace = SqlKeptSpeeches(database), UserId(uuid4()), UserId(uuid4())
    bounds = Bounds(entries_of_user=2)

    async def keep(user: UserId, number: int, began: timedelta) -> None:
        address, at = an_address(number), NOW + timedelta(minutes=number)
        await kept.keep(user, address, b"four", began=NOW + began, at=at, bounds=bounds)

    await keep(ada, 1, timedelta(minutes=-1))
    for before in (NOW, NOW - timedelta(hours=1)):  # an older word takes nothing back
        async with SqlWork(database) as work:
            await work.kept_speeches.erase_spoken(ada, before=before, most=50)
    for user in (ada, grace):
        await keep(user, 2, timedelta(seconds=-1))
    async with SqlWork(database) as work:
        sums = [await work.kept_speeches.sum_of(user) for user in (ada, grace)]
    assert [(each.utterances, each.bytes) for each in sums] == [(0, 0), (1, 4)]
    for number in (3, 4, 5):
        await keep(ada, number, timedelta(seconds=1))
    await keep(ada, 6, timedelta(seconds=-1))  # still known, however much came since
    async with SqlWork(database) as work:
        assert (await work.kept_speeches.sum_of(ada)).utterances == 2
        # With the user it goes, too.
        assert await work.kept_speeches.erase(ada, most=50) == 3
