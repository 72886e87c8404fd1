"""What changes while an access token lives: felt within a second where it matters."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.support.suite import Person, Suite, a_person, eventually

pytestmark = pytest.mark.e2e

_SOMETHING = {
    "/keys/openai": {"api_key": "sk-" + "x" * 40},
    "/billing/subscription": {"tier": "pro"},
    "/auth/me": {"username": "another name"},
    "/auth/tokens": {"name": "a tool", "scopes": ["chat"], "expires_in_days": 1},
}


async def test_a_tier_counts_before_the_token_says_so(ada: Person) -> None:
    """The old token asks; pro's limits answer, and the client is told to refresh."""
    first = await ada.ask("hello")
    assert "x-token-refresh" not in first.headers
    old = ada.client.headers["authorization"]
    changed = await ada.client.put("/billing/subscription", json={"tier": "pro"})
    assert changed.status_code == 200, changed.text
    began = time.monotonic()

    async def refused_limit() -> int:
        answer = await ada.client.get("/chat/models")
        assert answer.status_code == 200
        answer = await ada.ask("[[sim:chunks=1]] and now?")
        policy = answer.headers.get("ratelimit-policy", "")
        return 20 if "q=20" in policy else 5

    await eventually(refused_limit, lambda limit: limit == 20, seconds=5)
    assert time.monotonic() - began < 3  # about 0.2 s on a quiet machine
    assert ada.client.headers["authorization"] == old
    hinted = await ada.ask("[[sim:chunks=1]] once more")
    assert hinted.headers["x-token-refresh"] == "tier"
    assert (await ada.refresh())["tier"] == "pro"
    fresh = await ada.ask("[[sim:chunks=1]] with a new token")
    assert (fresh.status_code, "x-token-refresh" in fresh.headers) == (200, False)


async def test_a_session_that_ends_is_out_at_once_and_takes_its_answers_along(
    suite: Suite, ada: Person
) -> None:
    thief = a_person(suite)
    thief.name, thief.password, thief.session_id = ada.name, ada.password, ada.session_id
    await thief.sign_in()
    path = f"/chat/sessions/{ada.session_id}/messages"
    body = {"content": "[[sim:chunks=400,delay_ms=50]] on and on", "stream": True}
    async with thief.client.stream("POST", path, json=body) as answer:
        assert answer.status_code == 200
        lines = answer.aiter_lines()
        async for line in lines:
            if line.startswith("event: delta"):
                break
        sessions = (await ada.client.get("/auth/sessions")).json()["data"]
        [other] = [session for session in sessions if not session["current"]]
        began = time.monotonic()
        ended = await ada.client.delete(f"/auth/sessions/{other['id']}")
        assert ended.status_code == 204, ended.text

        async def key_change() -> str:
            # Until then there is no such key: a look that leaves nothing, however often.
            return str((await thief.client.delete("/keys/gemini")).json().get("code"))

        await eventually(key_change, lambda code: code == "session_ended", seconds=5)

        async def asks() -> set[str]:
            reads = [await thief.client.get(path) for path in ("/chat/limits", "/voice/voices")]
            question = await thief.client.post(path, json={"content": "hi"})
            return {str(answer.json().get("code")) for answer in (*reads, question)}

        await eventually(asks, lambda codes: codes == {"session_ended"}, seconds=5)
        out_after = time.monotonic() - began
        async with asyncio.timeout(10):
            rest = [line async for line in lines]
        assert any(line.startswith(("event: done", "event: interrupted")) for line in rest)
    assert out_after < 3
    assert (await ada.client.post("/keys/openai/validate")).status_code == 202
    await thief.client.aclose()


async def test_without_valkey_what_matters_waits_and_the_rest_goes_on(
    suite: Suite, ada: Person
) -> None:
    await asyncio.to_thread(suite.running.stop, "valkey")
    try:
        for path in ("/auth/me", "/keys", "/chat/sessions", "/billing/usage", "/voice/voices"):
            answer = await ada.client.get(path)
            # No key for the voices' vendor; but nobody says that the token is bad.
            assert answer.status_code in (200, 409), (path, answer.text)
        for method, path in (
            ("PUT", "/keys/openai"),
            ("DELETE", "/keys/openai"),
            ("PUT", "/billing/subscription"),
            ("PATCH", "/auth/me"),
            ("POST", "/auth/tokens"),
            ("GET", "/auth/me/export"),
        ):
            answer = await ada.client.request(method, path, json=_SOMETHING.get(path, {}))
            assert (answer.status_code, answer.json()["code"]) == (503, "dependency_unavailable")
    finally:
        await asyncio.to_thread(suite.running.start, "valkey")
        await asyncio.to_thread(suite.running.wait_for, "valkey")

    async def stored() -> int:
        return (await ada.client.put("/keys/openai", json=_SOMETHING["/keys/openai"])).status_code

    await eventually(stored, lambda status: status == 202)


async def test_without_postgresql_tokens_still_verify_everywhere(suite: Suite, ada: Person) -> None:
    paths = ("/auth/me", "/keys", "/chat/sessions", "/billing/usage", "/billing/plans")
    await asyncio.to_thread(suite.running.stop, "postgres")
    try:
        for path in paths:
            answer = await ada.client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (503, "dependency_unavailable")
        forged = {"authorization": ada.client.headers["authorization"][:-4] + "AAAA"}
        for path in paths:
            assert (await ada.client.get(path, headers=forged)).status_code == 401
    finally:
        await asyncio.to_thread(suite.running.start, "postgres")
        await asyncio.to_thread(suite.running.wait_for, "postgres")

    async def statuses() -> set[int]:
        return {(await ada.client.get(path)).status_code for path in paths}

    await eventually(statuses, lambda seen: seen == {200})
