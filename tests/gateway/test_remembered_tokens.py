"""Good tokens are remembered where turns are made: what is looked at all the same, and who else
looks.

The gateway remembers a signature, nothing else. That its key was removed since is noticed by the
service behind, which here is our own check with keys of its own.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from aiohttp import web

from shared.errors import Unauthenticated
from shared.http import caller
from shared.http.caller import RemoteKeys, bearer_token
from shared.tokens import TokenVerifier
from tests.gateway.conftest import Gateway, a_workplace, room
from tests.gateway.servers import free_endpoint
from tests.gateway.test_key_rotation import until
from tests.gateway.test_personal_tokens import a_personal_token, granting, refusing
from tests.gateway.test_tokens import BAD_TOKENS
from tests.gateway.tokens import ADA, AUDIENCE, ISSUER, a_key, a_token, bearer, key_set
from tests.gateway.wire import send

TURN = "/chat/sessions"
KEYS_KEPT_SECONDS = 1


@pytest.fixture(scope="module")
async def mindful(short_directory: Path) -> AsyncIterator[Gateway]:
    """A gateway that remembers three tokens and asks for the keys every second. The older service
    behind it sees no token."""
    async with a_workplace() as workplace:
        yield await workplace.gateway(
            room(short_directory, f"mindful-{uuid4().hex[:4]}"),
            jwks_cache_seconds=KEYS_KEPT_SECONDS,
            remembered_tokens=3,
            metrics=free_endpoint(),
            with_legacy=True,
        )


async def remembered(gateway: Gateway) -> int:
    """How often a token was known already."""
    metrics = gateway.proxy.settings.metrics
    assert metrics is not None
    text = (await send(metrics.port, "/metrics")).body.decode()
    found = re.search(r"^envoy_http_jwt_authn_jwt_cache_hit\{.*\} (\d+)$", text, re.MULTILINE)
    assert found is not None, "Envoy counts it under another name"
    return int(found[1])


async def status_of(gateway: Gateway, token: str, path: str = TURN) -> int:
    return (await gateway.send(path, headers=bearer(token))).status


async def test_a_token_that_is_known_says_the_same_again(mindful: Gateway) -> None:
    token = a_token(mindful.key, tier="pro")
    before = await remembered(mindful)
    first, again = [await mindful.send(TURN, headers=bearer(token)) for _ in range(2)]
    assert await remembered(mindful) == before + 1
    for answer in (first, again):
        assert (answer.status, answer.json["server"]) == (200, "chat-pro")
        headers = dict(answer.json["headers"])
        assert (headers["x-user-id"], headers["x-tier"]) == (ADA, "pro")
        assert headers["authorization"] == f"Bearer {token}"


@pytest.mark.parametrize("path", ["/keys", "/auth/me", "/billing/usage", "/legacy/screenshot"])
async def test_elsewhere_each_request_is_checked_anew(mindful: Gateway, path: str) -> None:
    token = a_token(mindful.key)
    assert await status_of(mindful, token) == 200
    before = await remembered(mindful)
    assert [await status_of(mindful, token, path) for _ in range(2)] == [200, 200]
    assert await remembered(mindful) == before


async def test_a_known_token_ends_when_it_says_so(mindful: Gateway) -> None:
    # Good for a second or two more: ten are granted to clocks.
    token = a_token(mindful.key, exp=int(time.time()) - 9)
    before = await remembered(mindful)
    assert [await status_of(mindful, token) for _ in range(2)] == [200, 200]
    assert await remembered(mindful) == before + 1
    async with asyncio.timeout(5):
        while await status_of(mindful, token) == 200:
            await asyncio.sleep(0.05)
    arrived = len(mindful.servers["chat-free"].received)
    assert [await status_of(mindful, token) for _ in range(2)] == [401, 401]
    assert len(mindful.servers["chat-free"].received) == arrived


@pytest.mark.parametrize("kind", BAD_TOKENS)
async def test_a_bad_token_is_never_remembered(mindful: Gateway, kind: str) -> None:
    good, bad = a_token(mindful.key), BAD_TOKENS[kind](mindful.key)
    assert await status_of(mindful, good) == 200
    before = await remembered(mindful)
    arrived = len(mindful.servers["chat-free"].received)
    assert [await status_of(mindful, bad) for _ in range(2)] == [401, 401]
    assert await remembered(mindful) == before
    assert len(mindful.servers["chat-free"].received) == arrived


async def test_nothing_of_a_known_token_helps_another(mindful: Gateway) -> None:
    """It is known by all of its letters."""
    token = a_token(mindful.key)
    assert await status_of(mindful, token) == 200
    head, body, signature = token.split(".")
    other_body = a_token(mindful.key, tier="enterprise").split(".")[1]
    swapped = signature[:-8] + signature[-8:][::-1]
    for changed in (
        f"{head}.{other_body}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}",
        f"{head}.{body}.{signature[:-1]}",
        f"{head}.{body}.{swapped}x",
    ):
        assert await status_of(mindful, changed) == 401
    both = {"Authorization": f"Bearer {token}, Bearer {head}.{other_body}.{signature}"}
    assert (await mindful.send(TURN, headers=both)).status == 401


async def test_a_known_token_in_an_sdks_header_brings_no_bad_one_along(mindful: Gateway) -> None:
    path, token = "/anthropic/v1/messages", a_token(mindful.key)
    before = await remembered(mindful)
    shown = {"x-api-key": token}
    for _ in range(2):
        assert (await mindful.send(path, method="POST", headers=shown, body=b"{}")).status == 200
    assert await remembered(mindful) == before + 1
    stranger = bearer(a_token(a_key("stranger")))
    for both in (shown | stranger, bearer(token) | {"x-api-key": a_token(a_key("stranger"))}):
        assert (await mindful.send(path, method="POST", headers=both, body=b"{}")).status == 401


async def test_a_personal_token_is_asked_about_whatever_stands_for_it_is_known(
    mindful: Gateway,
) -> None:
    auth, exchanged = mindful.servers["auth-internal"], a_token(mindful.key, amr=["pat"])
    before = await remembered(mindful)
    auth.override = granting(exchanged)
    try:
        assert [await status_of(mindful, a_personal_token()) for _ in range(2)] == [200, 200]
        assert await remembered(mindful) == before + 1
        auth.override = refusing
        assert await status_of(mindful, a_personal_token()) == 401
    finally:
        auth.override = None


async def test_only_so_many_are_remembered(mindful: Gateway) -> None:
    tokens = [a_token(mindful.key) for _ in range(4)]
    before = await remembered(mindful)
    for token in tokens * 2:  # each is forgotten just before it comes again
        assert await status_of(mindful, token) == 200
    assert await remembered(mindful) == before
    assert await status_of(mindful, tokens[-1]) == 200
    assert await remembered(mindful) == before + 1


async def test_it_can_be_told_to_remember_none(short_directory: Path) -> None:
    """Then a removed key ends at the gateway, too, wherever its tokens are shown."""
    async with a_workplace() as workplace:
        gateway = await workplace.gateway(
            room(short_directory, "forgetful"), remembered_tokens=0, jwks_cache_seconds=1
        )
        token = a_token(gateway.key)
        assert [await status_of(gateway, token) for _ in range(2)] == [200, 200]
        gateway.servers["auth"].keys = key_set(a_key("second"))
        await refused(gateway, token, TURN)


async def test_a_removed_key_ends_at_the_service_when_its_token_is_known_here(
    mindful: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller, "_FRESH_SECONDS", KEYS_KEPT_SECONDS * 0.75)
    monkeypatch.setattr(caller, "_STALE_SECONDS", KEYS_KEPT_SECONDS)
    auth, chat = mindful.servers["auth"], mindful.servers["chat-free"]
    ours, token, successor = key_set(mindful.key), a_token(mindful.key), a_key("second")
    async with httpx.AsyncClient(trust_env=False) as client:
        keys = RemoteKeys(f"http://{auth.endpoint}/.well-known/jwks.json", client)
        verifier = TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE)
        asked = 0

        async def checking(request: web.BaseRequest) -> web.StreamResponse:
            nonlocal asked
            asked += 1
            try:
                await verifier.verify(bearer_token(request.headers.get("authorization")))
            except Unauthenticated as refusal:
                return web.Response(status=401, text=refusal.code)
            return web.Response(text="a turn")

        chat.override = checking
        try:
            assert [await status_of(mindful, token) for _ in range(2)] == [200, 200]
            auth.keys, began = key_set(successor), time.monotonic()
            answer = await refused(mindful, token, TURN)
            assert time.monotonic() - began < KEYS_KEPT_SECONDS + 1
            # In the service's words: the gateway knows the token and lets it pass.
            assert answer == b"unauthenticated"
            seen, known = asked, await remembered(mindful)
            assert await status_of(mindful, token) == 401
            assert (asked, await remembered(mindful)) == (seen + 1, known + 1)

            # Where nothing is remembered, and behind which nobody else may look, it ends here.
            for path in ("/keys", "/legacy/screenshot"):
                assert b'"code":"unauthenticated"' in await refused(mindful, token, path)
            arrived = len(mindful.servers["legacy"].received)
            assert await status_of(mindful, token, "/legacy/screenshot") == 401
            assert len(mindful.servers["legacy"].received) == arrived
            # What its thief makes of it from now on is refused here.
            assert await status_of(mindful, a_token(mindful.key)) == 401
            assert asked == seen + 1
            assert await status_of(mindful, a_token(successor)) == 200
        finally:
            chat.override, auth.keys = None, ours
            await until(mindful, a_token(mindful.key), 200)


async def refused(gateway: Gateway, token: str, path: str) -> bytes:
    """What the first refusal says; it comes soon."""
    async with asyncio.timeout(6):
        while True:
            answer = await gateway.send(path, headers=bearer(token))
            if answer.status == 401:
                return answer.body
            assert answer.status == 200
            await asyncio.sleep(0.05)
