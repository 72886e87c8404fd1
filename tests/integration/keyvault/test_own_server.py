"""Calls to an operator's own server, for which nobody stores a key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.keyvault.domain.own_server import NO_KEY
from shared.db.database import Database
from tests.integration.keyvault.harness import Keyvault, Surroundings, a_user, running
from tests.integration.keyvault.test_egress import refusal

PROVIDER = "compatible"
CALL = "compatible/v1/chat/completions"
URL = "http://127.0.0.1:11434/v1"
KEY = "key-of-the-operator"


@pytest.fixture(scope="module")
async def with_server(around: Surroundings, keyvault: Keyvault) -> AsyncIterator[Keyvault]:
    """A keyvault that knows of an operator's own server."""
    async with running(around, compatible_url=URL, compatible_api_key=KEY) as started:
        yield started


async def test_a_call_goes_out_with_the_operators_key_and_a_line_in_the_trail(
    with_server: Keyvault, database: Database
) -> None:
    user = a_user()

    answer = await with_server.egress(user, CALL, provider=PROVIDER)

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["authorization"] == f"Bearer {KEY}"
    assert answer.headers["cache-control"] == "no-store"
    (row,) = await database.fetch("select * from audit_entry where owner_id = $1", user)
    assert (row["kind"], row["provider"], row["service"]) == ("used", PROVIDER, "chat")
    assert (row["key_id"], row["key_version"], row["user_id"]) == (NO_KEY, 0, user)
    (line,) = (await with_server.get(user, "/keys/audit")).json()["data"]
    assert (line["provider"], line["kind"], line["request_id"]) == (PROVIDER, "used", "request-1")


async def test_a_server_without_a_key_gets_no_header(around: Surroundings) -> None:
    async with running(around, compatible_url=URL) as started:
        answer = await started.egress(a_user(), CALL, provider=PROVIDER)
    assert answer.status_code == 200
    assert "authorization" not in answer.headers


async def test_both_proofs_are_checked_as_always(with_server: Keyvault) -> None:
    user, other = a_user(), a_user()

    async def refused(**proofs: Any) -> tuple[int, str]:
        return refusal(await with_server.egress(user, CALL, **{"provider": PROVIDER, **proofs}))

    assert await refused(token_of=other) == (403, "not_your_key")
    assert await refused(service="voice") == (403, "provider_not_allowed")
    assert await refused(provider="openai") == (403, "provider_not_allowed")
    without_user = with_server.proofs(user, provider=PROVIDER) | {"x-companion-user": ""}
    answer = await with_server.egress(user, CALL, headers=without_user)
    assert refusal(answer) == (401, "unauthenticated")


async def test_a_grant_shown_many_times_at_once_is_honoured_once(with_server: Keyvault) -> None:
    user = a_user()
    proofs = with_server.proofs(user, provider=PROVIDER)
    answers = await asyncio.gather(
        *(with_server.egress(user, CALL, headers=proofs) for _ in range(10))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [403] * 9


async def test_a_token_outlives_its_account_and_opens_nothing(
    with_server: Keyvault, database: Database
) -> None:
    user = a_user()
    await database.execute(
        "insert into forgotten_user (user_id, erasure_id, asked_at) values ($1, $2, now())",
        user,
        a_user(),
    )
    assert (await with_server.egress(user, CALL, provider=PROVIDER)).status_code == 403


async def test_uses_of_a_minute_are_counted_with_all_others(around: Surroundings) -> None:
    parts = {"compatible_url": URL, "uses_per_user_minute": 2}
    async with running(around, **parts) as started:
        user = a_user()
        await started.put(user)
        assert (await started.egress(user)).status_code == 200
        assert (await started.egress(user, CALL, provider=PROVIDER)).status_code == 200
        answer = await started.egress(user, CALL, provider=PROVIDER)
        assert refusal(answer) == (429, "user_rate_reached")


async def test_nobody_can_store_a_key_for_it(with_server: Keyvault) -> None:
    answer = await with_server.put(a_user(), provider=PROVIDER)
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_provider")


async def test_without_such_a_server_nothing_goes_out(keyvault: Keyvault) -> None:
    answer = await keyvault.egress(a_user(), CALL, provider=PROVIDER)
    assert refusal(answer) == (403, "provider_not_allowed")


async def test_its_uses_are_counted_under_its_name(with_server: Keyvault) -> None:
    await with_server.egress(a_user(), CALL, provider=PROVIDER)
    metrics = (await with_server.internal.get("/metrics")).text
    assert 'outcome="given",peer="chat",provider="compatible"' in metrics
