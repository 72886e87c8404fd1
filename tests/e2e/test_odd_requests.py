"""Whatever strangers send, at every operation that the documents name: a refusal that its sender
can read, with an id to ask about, and never a failure of ours.

What each field may be is tested beside what it does. A new operation is tried here by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import zip_longest

import httpx
import pytest

from tests.support.odd_requests import (
    ODDITIES,
    OddRequest,
    complaint_about,
    odd_requests,
)
from tests.support.openapi import Operation
from tests.support.suite import Person, Suite, a_person
from tests.support.tenants import OWNED, all_operations, together

pytestmark = pytest.mark.e2e

OF_EACH = 9
"""Requests to each operation. Which of its oddities they are goes from one to the next, so that
each oddity is tried at many."""
# Taken, they end what the others need; their own tests send them odd things.
ENDS_IT = {"POST /auth/logout", "DELETE /auth/me", "PATCH /auth/me"}
NOBODYS = dict.fromkeys(OWNED, "0198c0de-0000-7000-8000-0000000000ff")


@pytest.fixture
async def anybody(suite: Suite) -> AsyncIterator[Person]:
    """Of the largest tier, with keys and a session: whoever lacks one is refused for that alone."""
    person = a_person(suite)
    await person.register()
    await person.become("enterprise")
    for vendor in ("elevenlabs", "openai"):
        await person.store_key(vendor)
    await person.start_session()
    yield person
    await person.client.aclose()


@pytest.fixture
async def bookkeeper(suite: Suite) -> AsyncIterator[Person]:
    """One of the billing team, without whom half of billing refuses everybody."""
    person = a_person(suite)
    made = await asyncio.to_thread(
        suite.command,
        *("admin", "create", "--email", f"{person.name}@example.com", "--role", "billing"),
        COMPANION_ADMIN_PASSWORD=person.password,
    )
    assert made.returncode == 0, made.stderr
    await person.sign_in()
    yield person
    await person.client.aclose()


async def test_what_is_odd_is_refused_in_words_and_never_breaks_anything(
    suite: Suite, anybody: Person, bookkeeper: Person
) -> None:
    found = await all_operations(anybody.client)
    ids = {**NOBODYS, "session_id": anybody.session_id}
    chosen = [
        some_of(list(odd_requests(operation, ids)), place)
        for place, operation in enumerate(found)
        if str(operation) not in ENDS_IT
    ]
    # Not all of one operation at once: it would be busy.
    sent = [one for round_ in zip_longest(*chosen) for one in round_ if one is not None]

    async def complaint(one: OddRequest) -> tuple[int, str | None]:
        asking = bookkeeper if is_the_teams(one.operation) else anybody
        answer = await one.told(asking.client)
        wrong = complaint_about(answer, asking.password, asking.api_key)
        told = f"{one}: {answer.status_code} {answer.text[:300]}: {wrong}"
        return answer.status_code, told if wrong else None

    answers = await together(map(complaint, sent), at_once=6)

    assert [told for _, told in answers if told] == []
    statuses = [status for status, _ in answers]
    assert len(found) > 200 and len(sent) > 7 * len(found)
    assert {(one.part, one.oddity) for one in sent} == ODDITIES
    assert len([status for status in statuses if status >= 400]) > len(sent) / 2
    # Refused for what is odd, and not at the door.
    assert len([status for status in statuses if status in (400, 422)]) > len(sent) / 3


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (httpx.Response(500), "a failure of ours"),
        (httpx.Response(422, text='Traceback: File "/app/x.py"'), "shows"),
        (httpx.Response(200, json={"echo": "a phrase"}), "a secret"),
        (httpx.Response(404, text="not here"), "no JSON"),
        (httpx.Response(422, json=[]), "says nothing"),
        (
            httpx.Response(
                404,
                json={"status": 404, "code": "x", "detail": "y", "request_id": "1"},
                headers={"content-type": "application/problem+json"},
            ),
            "by its id",
        ),
        (
            httpx.Response(
                404,
                json={"status": 404, "code": "x", "request_id": "1"},
                headers={"content-type": "application/problem+json", "x-request-id": "1"},
            ),
            "lacks something",
        ),
    ],
)
def test_a_bad_answer_would_be_noticed(answer: httpx.Response, wrong: str) -> None:
    assert wrong in (complaint_about(answer, "a phrase") or "")


def is_the_teams(operation: Operation) -> bool:
    return operation.path.startswith("/billing/admin")


def some_of(odd: list[OddRequest], place: int) -> list[OddRequest]:
    """`OF_EACH`, spread over all there are, and others than at the operation before."""
    step = max(1, len(odd) // OF_EACH)
    return [odd[(number * step + place) % len(odd)] for number in range(min(OF_EACH, len(odd)))]
