"""auth's keys: fetched once, kept while auth is gone, never asked for in a flood."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from joserfc.jwk import ECKey
from starlette.datastructures import Headers

from shared.errors import DependencyUnavailable, Unauthenticated
from shared.http import caller
from shared.http.caller import RemoteKeys, bearer_token, sdk_token
from tests.support.clocks import StoppedTime
from tests.support.tokens import TokenMint

URL = "http://auth.invalid/.well-known/jwks.json"


class Auth:
    """What auth answers, and how often it was asked."""

    def __init__(self) -> None:
        self.mint = TokenMint()
        self.answer: Any = self.mint.jwks()
        self.status = 200
        self.down = False
        self.asked = 0
        self.slow = asyncio.Event()
        self.slow.set()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        await self.slow.wait()
        if self.down:
            raise httpx.ConnectError("refused", request=request)
        body = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
        return httpx.Response(self.status, content=body)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> StoppedTime:
    clock = StoppedTime()
    monkeypatch.setattr(caller, "time", clock)
    return clock


@pytest.fixture
def auth() -> Auth:
    return Auth()


@pytest.fixture
async def keys(auth: Auth, clock: StoppedTime) -> AsyncIterator[RemoteKeys]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(auth)) as client:
        yield RemoteKeys(URL, client)


async def settled(keys: RemoteKeys) -> None:
    """Until the fetch beside the request is done."""
    if keys._fetching is not None:
        await keys._fetching


async def test_the_first_requests_share_one_fetch(auth: Auth, keys: RemoteKeys) -> None:
    auth.slow.clear()
    waiting = [asyncio.create_task(keys.current()) for _ in range(50)]
    await asyncio.sleep(0)
    auth.slow.set()
    known = await asyncio.gather(*waiting)
    assert auth.asked == 1
    assert {key.kid for key in known[0].keys} == {auth.mint.key.kid}


async def test_fresh_keys_are_not_fetched_again(
    auth: Auth, keys: RemoteKeys, clock: StoppedTime
) -> None:
    await keys.current()
    clock.now += 44
    await keys.current()
    assert auth.asked == 1


async def test_stale_keys_serve_while_they_are_refreshed_beside(
    auth: Auth, keys: RemoteKeys, clock: StoppedTime
) -> None:
    first = await keys.current()
    clock.now += 46
    auth.answer = {"keys": [ECKey.generate_key("P-256", auto_kid=True).as_dict(private=False)]}
    assert await keys.current() is first
    await settled(keys)
    assert await keys.current() is not first
    assert (auth.asked, keys.version) == (2, 2)


@pytest.mark.parametrize("idle_seconds", [61, 86_400])
async def test_after_a_minute_no_request_passes_with_keys_of_before(
    auth: Auth, keys: RemoteKeys, clock: StoppedTime, idle_seconds: int
) -> None:
    """A service that nobody has called for a day must not take a stolen key's first token."""
    await keys.current()
    successor = ECKey.generate_key("P-256", auto_kid=True)
    auth.answer = {"keys": [successor.as_dict(private=False)]}
    clock.now += idle_seconds
    found = await asyncio.gather(*(keys.current() for _ in range(20)))
    assert {key.kid for known in found for key in known.keys} == {successor.kid}
    assert auth.asked == 2


async def test_the_same_answer_is_no_new_version(
    auth: Auth, keys: RemoteKeys, clock: StoppedTime
) -> None:
    await keys.current()
    clock.now += 61
    await keys.current()
    await settled(keys)
    assert (auth.asked, keys.version) == (2, 1)


async def test_known_keys_go_on_while_auth_is_gone(
    auth: Auth, keys: RemoteKeys, clock: StoppedTime
) -> None:
    known = await keys.current()
    auth.down = True
    for _ in range(10):
        clock.now += 30
        assert await keys.current() is known
        await settled(keys)
    assert keys.version == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"null",
        b"[]",
        b"{}",
        b'{"keys": 5}',
        b'{"keys": [5]}',
        b'{"keys": [{}]}',
        b'{"keys": [{"kty": "EC"}]}',
        b"\xff\xff",
        b"[" * 5000,
        b'{"keys": []}',
    ],
)
async def test_a_broken_answer_is_like_none(
    auth: Auth, keys: RemoteKeys, clock: StoppedTime, answer: bytes
) -> None:
    known = await keys.current()
    auth.answer = answer
    clock.now += 61
    await keys.current()
    await settled(keys)
    assert await keys.current() is known


@pytest.mark.parametrize("status", [404, 500, 503, 302])
async def test_an_answer_of_failure_is_like_none(
    auth: Auth, keys: RemoteKeys, clock: StoppedTime, status: int
) -> None:
    known = await keys.current()
    auth.answer, auth.status = {"keys": []}, status
    clock.now += 61
    await keys.current()
    await settled(keys)
    assert await keys.current() is known


async def test_without_any_key_we_say_that_we_are_in_trouble_until_auth_is_there(
    auth: Auth, keys: RemoteKeys
) -> None:
    auth.down = True
    for _ in range(2):
        with pytest.raises(DependencyUnavailable):
            await keys.current()
    auth.down = False
    assert await keys.current()


async def test_a_flood_of_unknown_key_ids_asks_auth_once_in_five_seconds(
    auth: Auth, keys: RemoteKeys, clock: StoppedTime
) -> None:
    await keys.current()
    for number in range(500):
        await keys.refreshed_for(f"forged-{number}")
    assert auth.asked == 1
    clock.now += 5.1
    await asyncio.gather(*(keys.refreshed_for(f"forged-{n}") for n in range(500)))
    assert auth.asked == 2
    auth.down = True
    clock.now += 5.1
    for number in range(500):
        await keys.refreshed_for(f"forged-{number}")
    assert auth.asked == 3


async def test_a_new_key_is_there_after_looking_again(
    auth: Auth, keys: RemoteKeys, clock: StoppedTime
) -> None:
    await keys.current()
    auth.mint = TokenMint()
    auth.answer = auth.mint.jwks()
    clock.now += 5.1
    refreshed = await keys.refreshed_for(str(auth.mint.key.kid))
    assert [key.kid for key in refreshed.keys] == [auth.mint.key.kid]


@pytest.mark.parametrize(
    ("header", "token"),
    [("Bearer abc", "abc"), ("bearer abc", "abc"), ("BEARER  abc ", "abc")],
)
def test_a_bearer_token_is_read(header: str, token: str) -> None:
    assert bearer_token(header) == token


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", "abc", "Bearerabc"])
def test_anything_else_is_no_bearer_token(header: str | None) -> None:
    with pytest.raises(Unauthenticated):
        bearer_token(header)


@pytest.mark.parametrize(
    ("key_header", "shown"),
    [
        ("x-api-key", [("x-api-key", "abc")]),
        ("x-api-key", [("authorization", "Bearer abc")]),
        ("x-api-key", [("authorization", "Bearer abc"), ("x-api-key", "abc")]),
        ("x-api-key", [("authorization", "Bearer abc"), ("x-api-key", "")]),
        ("x-api-key", [("authorization", ""), ("x-api-key", " abc ")]),
        ("authorization", [("authorization", "Bearer abc")]),
        ("authorization", [("authorization", "Bearer abc"), ("x-api-key", "of somebody else")]),
    ],
)
def test_an_sdk_shows_one_token(key_header: str, shown: list[tuple[str, str]]) -> None:
    assert sdk_token(headers_of(shown), key_header) == "abc"


@pytest.mark.parametrize(
    "shown",
    [
        [],
        [("x-api-key", " "), ("authorization", "")],
        [("x-api-key", "abc"), ("authorization", "Basic abc")],
        [("x-api-key", "abc"), ("authorization", "Bearer another")],
        [("x-api-key", "abc"), ("x-api-key", "another")],
    ],
)
def test_two_tokens_or_none_are_refused(shown: list[tuple[str, str]]) -> None:
    with pytest.raises(Unauthenticated):
        sdk_token(headers_of(shown), "x-api-key")


def headers_of(shown: list[tuple[str, str]]) -> Headers:
    return Headers(raw=[(name.encode(), value.encode()) for name, value in shown])
