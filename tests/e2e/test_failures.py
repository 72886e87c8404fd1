"""Processes die under load; no usage is lost and none is counted twice.

What the simulated vendor served is held against the ledger, answer by answer.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from tests.support.suite import Person, Suite, a_person, eventually

pytestmark = pytest.mark.e2e

PEOPLE = 3
QUESTIONS = 10


@pytest.fixture(scope="module")
async def crowd(suite: Suite) -> AsyncIterator[list[Person]]:
    """People of the largest tier, whose limits do not stand in the way."""
    people = [a_person(suite) for _ in range(PEOPLE)]
    for person in people:
        await person.register()
        await person.become("enterprise")
        await person.store_key()
        await person.start_session()
    yield people
    for person in people:
        await person.client.aclose()


async def ask_many(person: Person) -> Counter[int]:
    """Ask one question after the other, whatever comes of it."""
    statuses: Counter[int] = Counter()
    for number in range(QUESTIONS):
        try:
            answer = await person.ask(
                f"[[sim:chunks=8,delay_ms=20]] question {number}", stream=number % 2 == 0
            )
            statuses[answer.status_code] += 1
        except httpx.HTTPError:
            statuses[0] += 1
    return statuses


async def ask_while(people: list[Person], happens: Callable[[], Any]) -> Counter[int]:
    """Let everybody ask, and let something happen when they are at it."""
    asking = [asyncio.create_task(ask_many(person)) for person in people]
    await asyncio.sleep(0.6)
    await asyncio.to_thread(happens)
    total: Counter[int] = Counter()
    for statuses in await asyncio.gather(*asking):
        total += statuses
    return total


async def the_ledger_is_exact(suite: Suite, people: list[Person], seconds: float = 60) -> None:
    """Every answer that the vendor gave these people stands in the ledger once, and no other."""

    def difference() -> tuple[Counter[str], Counter[str]]:
        served = Counter(
            row["response_id"]
            for person in people
            for row in suite.simulator.served(key=person.api_key)
            if row["status"] == 200
        )
        rows = suite.rows(
            "billing",
            "select provider_request_id from ledger_entry where user_id = any(%s::uuid[])",
            [person.id for person in people],
        )
        billed = Counter(str(row[0]) for row in rows)
        return served - billed, billed - served

    lost, doubled = await eventually(
        lambda: asyncio.to_thread(difference),
        lambda seen: not seen[0] and not seen[1],
        seconds=seconds,
    )
    assert (lost, doubled) == (Counter(), Counter())


async def everything_works_again(suite: Suite, person: Person) -> None:
    async def status() -> int:
        try:
            return (await person.ask("are you there?")).status_code
        except httpx.HTTPError:
            return 0

    # The lease of a turn whose replica was killed, and two looks of the sweeper.
    await eventually(status, lambda seen: seen == 200, seconds=60)


@pytest.mark.parametrize("victim", ["billing-worker", "relay"])
async def test_a_killed_consumer_or_relay_costs_time_only(
    suite: Suite, crowd: list[Person], victim: str
) -> None:
    statuses = await ask_while(crowd, lambda: suite.kill(victim))

    assert set(statuses) == {200}
    await the_ledger_is_exact(suite, crowd)


async def test_a_killed_database_costs_errors_but_no_usage(
    suite: Suite, crowd: list[Person]
) -> None:
    statuses = await ask_while(crowd, lambda: suite.kill("postgres"))

    assert statuses[200] > 0
    # A session takes its next question once the last answer is settled, which tries again until
    # the database is back.
    assert set(statuses) <= {200, 409, 503}
    await everything_works_again(suite, crowd[0])
    await the_ledger_is_exact(suite, crowd)


async def test_a_killed_cache_and_broker_costs_no_usage(suite: Suite, crowd: list[Person]) -> None:
    statuses = await ask_while(crowd, lambda: suite.kill("valkey"))

    # The largest tier goes on by a local limit while Valkey is away.
    assert statuses[200] > PEOPLE * QUESTIONS / 2
    assert set(statuses) <= {200, 503}
    await everything_works_again(suite, crowd[0])
    await the_ledger_is_exact(suite, crowd, seconds=60)


async def test_a_killed_chat_is_settled_by_the_sweeper(suite: Suite, crowd: list[Person]) -> None:
    person = crowd[0]

    async def listen() -> int:
        received = 0
        body = {"content": "[[sim:chunks=400,delay_ms=50]] on and on", "stream": True}
        path = f"/chat/sessions/{person.session_id}/messages"
        try:
            async with person.client.stream("POST", path, json=body) as answer:
                async for line in answer.aiter_lines():
                    received += line == "event: delta"
        except httpx.HTTPError:
            pass
        return received

    listening = asyncio.create_task(listen())
    # The lease has been renewed once by then, with what the vendor calls this answer.
    await eventually(
        lambda: asyncio.to_thread(
            suite.rows,
            "chat",
            "select provider_request_id from generation where user_id = %s and state = 'running'",
            person.id,
        ),
        lambda rows: bool(rows) and rows[0][0] is not None,
    )
    await asyncio.to_thread(suite.kill, "chat")

    assert await listening > 0
    await everything_works_again(suite, person)
    await the_ledger_is_exact(suite, crowd)
    ((outcome, source, output),) = suite.rows(
        "billing",
        "select outcome, source, output_tokens from ledger_entry"
        " where user_id = %s and outcome = 'replica_lost'",
        person.id,
    )
    assert (outcome, source) == ("replica_lost", "estimated")
    assert output > 0


async def test_while_keyvault_is_away_new_turns_wait_and_running_ones_finish(
    suite: Suite, crowd: list[Person]
) -> None:
    running = asyncio.create_task(
        crowd[0].ask("[[sim:chunks=40,delay_ms=100]] slowly", stream=True)
    )
    await asyncio.sleep(0.5)
    await asyncio.to_thread(suite.running.stop, "keyvault")
    try:
        refused = await crowd[1].ask("hello")
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
        assert "event: done" in (await running).text
    finally:
        await asyncio.to_thread(suite.running.start, "keyvault")
        await asyncio.to_thread(suite.running.wait_for, "keyvault")
    await everything_works_again(suite, crowd[1])
    await the_ledger_is_exact(suite, crowd)


async def test_with_auth_away_tokens_still_verify(suite: Suite, crowd: list[Person]) -> None:
    await asyncio.to_thread(suite.running.stop, "auth")
    try:
        assert (await crowd[0].ask("hello")).status_code == 200
        answer = await crowd[0].client.post(
            "/auth/login", json={"login": crowd[0].name, "password": crowd[0].password}
        )
        assert answer.status_code == 503
    finally:
        await asyncio.to_thread(suite.running.start, "auth")
        await asyncio.to_thread(suite.running.wait_for, "auth")
