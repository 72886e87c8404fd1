"""Every fault that the vendor can be made to have, in every way to ask: what the hearer gets, what
is kept, what is charged and what the limits say, compared with what the vendor itself did."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from services.voice.domain import recital, speech_model
from shared.limits.windows import month_window
from tests.support.simulator.elevenlabs.errors import REFUSALS
from tests.support.simulator.options import DISRUPTIONS, MANNERS, SILENCES
from tests.support.voice_service import Person, Surroundings, Voice, running_voice

SENTENCE = "Of all that is said here, nothing is new. "
PART = 420
BEFORE = SENTENCE * 10  # fills the first part
WAYS: dict[str, dict[str, Any]] = {
    "bytes": {},
    "json": {"headers": {"accept": "application/json"}},
    "timestamps": {"with_timestamps": True},
    "lines": {"with_timestamps": True, "headers": {"accept": "application/x-ndjson"}},
    "long": {"format": "mp3_22050_32"},
}
# What only delays an answer, or has no meaning for audio.
HARMLESS = frozenset(MANNERS)
# A clean end before the end: audio has no mark that could be missed.
UNNOTICED = {"truncate"}
FAULTS = sorted(
    {*REFUSALS, *DISRUPTIONS, *SILENCES, *HARMLESS, "status_418", "echo_401", "html_502"}
)


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of one speech."""

    fault: str
    person: Person
    status: int  # 0: the connection broke
    body: bytes


@pytest_asyncio.fixture(scope="module")
async def hasty(surroundings: Surroundings) -> AsyncIterator[Voice]:
    """A voice process that waits for nobody for long."""
    async with running_voice(surroundings, first_byte_seconds=4, silence_seconds=1) as voice:
        yield voice


async def met(voice: Voice, fault: str, way: str) -> Ending:
    person = voice.person("pro")
    mark = f"[[sim:chunks=6,fault={fault}]]"
    text = f"{BEFORE}{mark} {SENTENCE * 20}" if way == "long" else f"{mark} Hello there, you."
    wishes: dict[str, Any] = dict(WAYS[way])
    headers = {**person.headers, **wishes.pop("headers", {})}
    body = {"text": text, "voice_id": "21m00Tcm4TlvDq8ikWAM", **wishes}
    try:
        answer = await voice.client.post("/voice/speech", json=body, headers=headers)
    except httpx.RemoteProtocolError:
        return Ending(fault, person, 0, b"")
    return Ending(fault, person, answer.status_code, answer.content)


@pytest.mark.parametrize("way", WAYS)
async def test_every_fault_ends_as_the_vendor_saw_it(
    hasty: Voice, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recital, "_BUSY_WAITS_SECONDS", (0.01, 0.01))
    monkeypatch.setattr(speech_model, "_LONGEST_PART", PART)
    endings = await asyncio.gather(*(met(hasty, fault, way) for fault in FAULTS))
    assert len(endings) > 40
    async with Redis.from_url(hasty.surroundings.cache_url) as cache:
        for ending in endings:
            charged = await _check(hasty, ending, way)
            await _until_used_of_the_month_is(charged, ending, hasty, cache)


async def _until_used_of_the_month_is(
    charged: int, ending: Ending, voice: Voice, cache: Redis
) -> None:
    window = month_window("elevenlabs.characters_per_month", 100_000, datetime.now(UTC))
    for _ in range(50):
        used = int(await cache.get(window.key(str(ending.person.id))) or 0)
        if used == charged:
            return
        # What Valkey was too slow to hear, on a busy machine, it is told with the next request.
        await voice.say(voice.person("pro"))
        await asyncio.sleep(0.05)
    raise AssertionError(f"{ending.fault}: {used} are counted, and {charged} charged")


async def _check(voice: Voice, ending: Ending, way: str) -> int:
    """Answers what was charged."""
    person, told = ending.person, f"{ending.fault} {way}: {ending.status} {ending.body[:200]!r}"
    usage = await voice.usage(person)
    (row,) = await voice.speeches(person)
    served = person.served()
    made = [each for each in served if each["usage"]]
    cost = sum(each["usage"]["credits"] for each in made)
    charged = row["charged_characters"]
    is_whole = ending.fault in HARMLESS | UNNOTICED
    assert row["state"] == "settled", told
    assert [each["characters"] for each in usage] == ([] if charged is None else [charged]), told
    if ending.status == 200:
        assert is_whole, told
        assert (row["outcome"], charged) == ("done", cost), told
        _check_document(ending, way)
    elif ending.status == 0:
        # Only what streams can break, and only after it has begun: that is charged.
        assert way in ("bytes", "lines", "long"), told
        assert not is_whole, told
        assert (row["outcome"], charged) == ("provider_failed", cost), told
    else:
        _check_problem(ending, told)
        assert not is_whole, told
        begun = way in ("json", "timestamps") and ending.fault in DISRUPTIONS and made
        assert charged == (cost if begun else None), told
    assert row["asked_characters"] is None or way == "long", told
    return charged or 0


def _check_document(ending: Ending, way: str) -> None:
    if way in ("json", "timestamps"):
        document = orjson.loads(ending.body)
        assert b64decode(document["audio_base64"])
        assert (document["alignment"] is not None) == (way == "timestamps")
    elif way == "lines":
        *lines, last = (orjson.loads(line) for line in ending.body.splitlines())
        assert last["is_final"]
        assert all(b64decode(line["audio_base64"]) for line in lines)
    else:
        assert ending.body


def _check_problem(ending: Ending, told: str) -> None:
    problem = orjson.loads(ending.body)
    assert problem["status"] == ending.status, told
    # Never our own 401, and nothing that the vendor said.
    assert ending.status in {404, 409, 422, 502}, told
    assert problem["code"], told
    assert ending.person.key not in told
    assert "simulator" not in ending.body.decode().lower(), told


@pytest.mark.parametrize("form", ["string", "list", "old"])
async def test_every_refusal_is_read_in_all_its_forms(hasty: Voice, form: str) -> None:
    people = {fault: hasty.person("enterprise") for fault in sorted(REFUSALS)}
    answers = await asyncio.gather(
        *(
            hasty.say(person, f"Hi. [[sim:fault={fault},form={form}]]")
            for fault, person in people.items()
        )
    )
    for person, answer in zip(people.values(), answers, strict=True):
        assert answer.status_code in {404, 409, 422, 502}, answer.text
        assert answer.json()["code"]
        assert await hasty.usage(person) == []
