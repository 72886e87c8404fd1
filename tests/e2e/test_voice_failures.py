"""Speech while processes die, and what is said again: nothing of it lost, nothing counted twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.suite import Person, Suite, a_person, eventually

pytestmark = pytest.mark.e2e

PEOPLE = 2
SPEECHES = 10
VOICE = "21m00Tcm4TlvDq8ikWAM"


@pytest.fixture(scope="module")
async def speakers(suite: Suite) -> AsyncIterator[list[Person]]:
    """People of the largest tier, whose limits do not stand in the way."""
    people = [a_person(suite) for _ in range(PEOPLE)]
    for person in people:
        await person.register()
        await person.become("enterprise")
        await person.store_key("elevenlabs")
    yield people
    for person in people:
        await person.client.aclose()


async def say(person: Person, text: str, **wishes: Any) -> httpx.Response:
    body = {"text": text, "voice_id": VOICE, **wishes}
    return await person.client.post("/voice/speech", json=body)


async def say_many(person: Person) -> Counter[int]:
    statuses: Counter[int] = Counter()
    for number in range(SPEECHES):
        try:
            answer = await say(person, f"[[sim:chunks=8,delay_ms=20]] number {number}", cache=False)
            statuses[answer.status_code] += 1
        except httpx.HTTPError:
            statuses[0] += 1
    return statuses


async def the_ledger_is_exact(suite: Suite, people: list[Person]) -> None:
    """Every speech that the vendor gave these people stands in the ledger once, and no other."""

    def difference() -> tuple[Counter[str], Counter[str]]:
        served = Counter(
            row["response_id"]
            for person in people
            for row in suite.simulator.served(key=person.api_key)
            if row["status"] == 200 and row["response_id"]
        )
        rows = suite.rows(
            "billing",
            "select provider_request_id from ledger_entry"
            " where operation = 'voice' and not cached and user_id = any(%s::uuid[])",
            [person.id for person in people],
        )
        billed = Counter(str(row[0]) for row in rows)
        return served - billed, billed - served

    lost, doubled = await eventually(
        lambda: asyncio.to_thread(difference), lambda seen: not any(seen), seconds=60
    )
    assert (lost, doubled) == (Counter(), Counter())


@pytest.mark.parametrize(
    ("victim", "statuses"),
    [("billing-worker", {200}), ("postgres", {200, 503}), ("valkey", {200, 503})],
)
async def test_who_dies_costs_no_speech_in_the_ledger(
    suite: Suite, speakers: list[Person], victim: str, statuses: set[int]
) -> None:
    saying = [asyncio.create_task(say_many(person)) for person in speakers]
    await asyncio.sleep(0.6)
    await asyncio.to_thread(suite.kill, victim)
    seen = sum(await asyncio.gather(*saying), Counter[int]())
    assert seen[200] > 0
    assert set(seen) <= statuses

    async def status() -> int:
        try:
            return (await say(speakers[0], "Are you there?", cache=False)).status_code
        except httpx.HTTPError:
            return 0

    await eventually(status, lambda now: now == 200, seconds=30)
    await the_ledger_is_exact(suite, speakers)


async def test_what_is_said_again_stands_in_the_ledger_as_that(
    suite: Suite, speakers: list[Person]
) -> None:
    person = speakers[0]
    first = await say(person, "The same tooltip.")
    assert first.status_code == 200

    async def again() -> httpx.Response:
        return await say(person, "The same tooltip.")

    heard = await eventually(again, lambda answer: "x-voice-cached" in answer.headers)
    assert heard.content == first.content

    async def newest() -> dict[str, Any]:
        answer = await person.client.get("/billing/usage/records", params={"limit": 1})
        return dict(answer.json()["data"][0])

    record = await eventually(newest, lambda row: row["cached"])
    assert (record["operation"], record["characters"], record["cost_microusd"]) == ("voice", 0, 0)
