"""Nothing tells what was used, under load: whoever pays nothing waits, at every door in the words
of that door; whoever pays goes on; and all of it is over by itself once usage is told again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.e2e.test_failures import ask_many, everything_works_again
from tests.support.devices import a_device
from tests.support.suite import Person, Suite, a_person, eventually, running_suite
from tests.support.voice_sockets import RACHEL

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CODE = "usage_backlog"
SHED_AFTER_SECONDS = "3"
# Until something is that old, and two looks of a service at its outbox.
SHED_WITHIN_SECONDS = 60


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """One that bears little."""
    directory = tmp_path_factory.mktemp("suite")
    with running_suite(
        directory,
        CHAT_SHED_AFTER_SECONDS=SHED_AFTER_SECONDS,
        VOICE_SHED_AFTER_SECONDS=SHED_AFTER_SECONDS,
        CHAT_HOLD_LEASE_SECONDS="6",
    ) as running:
        yield running


@dataclass
class People:
    """Two who pay nothing, and one of each tier that somebody pays for."""

    guest: Person
    other: Person
    pro: Person
    enterprise: Person

    @property
    def all(self) -> list[Person]:
        return [self.guest, self.other, self.pro, self.enterprise]


@pytest.fixture
async def people(suite: Suite) -> AsyncIterator[People]:
    found = People(*(a_person(suite) for _ in range(4)))
    for person in found.all:
        await person.register()
    await found.pro.become("pro")
    await found.enterprise.become("enterprise")
    for person in found.all:
        await person.store_key()
        # One for both, by which the vendors' simulator tells who was served.
        await person.store_key("elevenlabs", person.api_key)
        await person.start_session()
    yield found
    for person in found.all:
        await person.client.aclose()


@asynccontextmanager
async def nothing_is_told(suite: Suite) -> AsyncIterator[None]:
    """The relay is away for the length of the block."""
    await asyncio.to_thread(suite.running.stop, "relay")
    try:
        yield
    finally:
        await asyncio.to_thread(suite.running.start, "relay")


async def speak(person: Person, text: str) -> httpx.Response:
    return await person.client.post("/voice/speech", json={"text": text, "voice_id": RACHEL})


async def until_shed(person: Person, text: str) -> None:
    """Nothing is asked for here that costs anything until then: what is refused was not begun."""

    async def codes() -> tuple[int, int]:
        asked, spoken = await asyncio.gather(person.ask(text), speak(person, text))
        return asked.status_code, spoken.status_code

    await eventually(codes, lambda seen: seen == (503, 503), seconds=SHED_WITHIN_SECONDS)


Door = tuple[str, Mapping[str, Any], Mapping[str, str]]
_ASKS = [{"role": "user", "content": "hello"}]
DOORS: Mapping[str, Door] = {
    "v1": ("/v1/chat/completions", {"model": "openai/gpt-6-luna", "messages": _ASKS}, {}),
    "v1 live": (
        "/v1/chat/completions",
        {"model": "openai/gpt-6-luna", "messages": _ASKS, "stream": True},
        {},
    ),
    "openai": ("/openai/v1/chat/completions", {"model": "gpt-6-luna", "messages": _ASKS}, {}),
    "responses": ("/openai/v1/responses", {"model": "gpt-6-luna", "input": "hello"}, {}),
    "speech": (
        "/v1/audio/speech",
        {"model": "tts-1", "input": "Once more.", "voice": "alloy"},
        {},
    ),
    "openai speech": (
        "/openai/v1/audio/speech",
        {"model": "tts-1", "input": "Once more.", "voice": "alloy"},
        {},
    ),
    "elevenlabs": (f"/elevenlabs/v1/text-to-speech/{RACHEL}", {"text": "And again."}, {}),
    "elevenlabs live": (
        f"/elevenlabs/v1/text-to-speech/{RACHEL}/stream",
        {"text": "And again."},
        {},
    ),
    "anthropic": (
        "/anthropic/v1/messages",
        {"model": "claude-sonnet-5-5", "max_tokens": 10, "messages": _ASKS},
        {"anthropic-version": "2023-06-01"},
    ),
    "gemini": (
        "/gemini/v1beta/models/gemini-3.8-flash:generateContent",
        {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]},
        {},
    ),
}
# Whom somebody pays for alone may come in there, and hears so first.
FOR_PAID_TIERS = {"anthropic", "gemini"}


def said(door: str, body: Any) -> str:
    """The code, where an SDK of that surface reads it."""
    if door == "anthropic":
        assert body["type"] == "error"
        return str(body["error"]["type"])
    if door == "gemini":
        return str(body["error"]["status"])
    if door.startswith("elevenlabs"):
        return str(body["detail"]["code"])
    return str(body["error"]["code"])


async def test_who_pays_nothing_waits_at_each_door_and_who_pays_goes_on(
    suite: Suite, people: People
) -> None:
    guest, other = people.guest, people.other
    async with nothing_is_told(suite):
        for person in (guest, other):
            assert (await person.ask("hello")).status_code == 200
            assert (await speak(person, "Hello there.")).status_code == 200
        paid = asyncio.gather(ask_many(people.pro), ask_many(people.enterprise))
        await until_shed(guest, "hello")

        for live in (False, True):
            answer = await guest.ask("hello", stream=live)
            assert (answer.status_code, answer.json()["code"]) == (503, CODE)
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["retry-after"] == "30"
        for door, (path, body, headers) in DOORS.items():
            answer = await guest.client.post(path, json=body, headers=headers)
            if door in FOR_PAID_TIERS:
                assert (answer.status_code, bool(said(door, answer.json()))) == (403, True), door
                continue
            assert answer.status_code == 503, (door, answer.text)
            assert said(door, answer.json()) == CODE, (door, answer.text)
            assert answer.headers["retry-after"] == "30", door
        token = guest.client.headers["authorization"].removeprefix("Bearer ")
        async with a_device(suite.url, token) as device:
            await device.say("send", session_id=guest.session_id, content="hello", ref="one")
            problem = (await device.until("error"))["data"]
            assert problem["code"] == CODE

        for statuses in await paid:
            assert set(statuses) == {200}, statuses
        assert (await speak(people.pro, "Hello.")).status_code == 200
        refused = Counter([(await other.ask("hello")).status_code for _ in range(10)])
        assert refused == {503: 10}

    for person in (guest, other):
        await everything_works_again(suite, person)
        await speaks_again(person)
    await each_call_is_billed_once(suite, people.all)


async def each_call_is_billed_once(suite: Suite, people: list[Person]) -> None:
    """What the vendors served stands in the ledger, and beside it only what was said again."""

    def difference() -> tuple[Counter[str], Counter[str]]:
        served = Counter(
            str(row["response_id"])
            for person in people
            for row in suite.simulator.served(key=person.api_key)
            if row["status"] == 200
        )
        rows = suite.rows(
            "billing",
            "select provider_request_id from ledger_entry where user_id = any(%s::uuid[])"
            " and provider_request_id is not null",
            [person.id for person in people],
        )
        billed = Counter(str(row[0]) for row in rows)
        return served - billed, billed - served

    await eventually(
        lambda: asyncio.to_thread(difference),
        lambda seen: seen == (Counter(), Counter()),
        seconds=60,
    )


async def speaks_again(person: Person) -> None:
    async def status() -> int:
        return (await speak(person, "Something else.")).status_code

    await eventually(status, lambda seen: seen == 200, seconds=60)
