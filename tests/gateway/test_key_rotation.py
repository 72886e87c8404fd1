"""Signing keys come and go: what the gateway believes while it can and can't ask for them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from services.auth.domain.key_rotation import KeyLine, RotationPace
from tests.gateway.conftest import Gateway, a_workplace, room
from tests.gateway.servers import free_endpoint, serving
from tests.gateway.tokens import a_key, a_token, bearer, key_set


async def status_of(gateway: Gateway, token: str) -> int:
    return (await gateway.send("/keys", headers=bearer(token))).status


async def until(gateway: Gateway, token: str, status: int) -> None:
    async with asyncio.timeout(6):
        while await status_of(gateway, token) != status:
            await asyncio.sleep(0.05)


@pytest.fixture
async def curious(short_directory: Path) -> AsyncIterator[Gateway]:
    """A gateway that asks for the keys again every second."""
    async with a_workplace() as workplace:
        yield await workplace.gateway(
            room(short_directory, f"curious-{uuid4().hex[:4]}"), jwks_cache_seconds=1
        )


async def test_keys_rotate_and_outlive_a_silent_auth(curious: Gateway) -> None:
    auth = curious.servers["auth"]
    old, new = a_token(curious.key), a_token(second := a_key("second"))
    assert (await status_of(curious, old), await status_of(curious, new)) == (200, 401)

    auth.keys = key_set(curious.key, second)
    await until(curious, new, 200)
    assert await status_of(curious, old) == 200

    auth.keys = key_set(second)
    await until(curious, old, 401)
    assert await status_of(curious, new) == 200

    auth.up, shown = False, auth.keys_shown
    await asyncio.sleep(2.5)
    assert auth.keys_shown > shown
    assert (await status_of(curious, new), await status_of(curious, old)) == (200, 401)

    auth.up, auth.keys = True, key_set(curious.key)
    await until(curious, new, 401)
    assert await status_of(curious, old) == 200


async def test_without_keys_a_token_is_neither_good_nor_bad(short_directory: Path) -> None:
    """Auth is down when the gateway starts: clients must not take that for being signed out."""
    key = a_key()
    async with a_workplace() as workplace:
        auth = await workplace.stack.enter_async_context(serving("auth", keys=key_set(key)))
        auth.up = False
        gateway = await workplace.gateway(
            room(short_directory, "keyless"), auth=auth.endpoint, access_log=None
        )
        answer = await gateway.send("/keys", headers=bearer(a_token(key)))
        assert (answer.status, answer.json["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"] == "2"
        assert "www-authenticate" not in answer.headers
        assert (await gateway.send("/keys")).status == 401
        assert (await gateway.send("/health")).status == 200
        assert not gateway.servers["keyvault"].received

        auth.up = True
        await until(gateway, a_token(key), 200)

        # Without a file for it, the access log goes to standard output.
        logged = await gateway.proxy.logged("Jwks_remote_fetch_is_failed")
        assert json.dumps(logged[0]) != ""


async def test_a_gateway_that_finds_no_auth_starts_closed(short_directory: Path) -> None:
    async with a_workplace() as workplace:
        gateway = await workplace.gateway(room(short_directory, "alone"), auth=free_endpoint())
        assert await status_of(gateway, a_token(gateway.key)) == 503
        answer = await gateway.send("/health")
        assert (answer.status, answer.json["code"]) == (503, "unavailable")


async def test_a_rotation_as_auth_does_it_turns_nobody_away_and_an_emergency_does(
    curious: Gateway,
) -> None:
    """The gateway never asks for an unknown key: hence a key is shown before it signs."""
    auth, now, cache_seconds = curious.servers["auth"], datetime.now(UTC), 1
    pace = RotationPace(published_first=timedelta(0), kept=timedelta(minutes=20))
    statuses: list[int] = []
    tokens: list[str] = []

    def show(line: KeyLine) -> None:
        shown = [key.pair for key in line.keys if key.is_published(now, kept=pace.kept)]
        auth.keys = key_set(*shown)
        tokens.append(a_token(line.active.pair))

    line = KeyLine.new(now)
    show(line)
    await until(curious, tokens[0], 200)
    over = asyncio.Event()

    async def load() -> None:
        while not over.is_set():
            statuses.extend([await status_of(curious, token) for token in (tokens[0], tokens[-1])])

    async with asyncio.TaskGroup() as group:
        group.create_task(load())
        line = line.rotated(now, pace)
        show(line)
        # Longer than the gateway keeps keys: by then it knows the one that signs next.
        await asyncio.sleep(cache_seconds + 0.5)
        over.set()
    assert len(statuses) > 20
    assert set(statuses) == {200}

    stolen = tokens[-1]
    began = time.monotonic()
    show(line.without(line.active.kid, now, pace))
    # Its successor was shown for a while, so nobody else has to wait.
    assert await status_of(curious, tokens[-1]) == 200
    await until(curious, stolen, 401)
    assert time.monotonic() - began < cache_seconds + 1
    assert await status_of(curious, tokens[-1]) == 200
    assert await status_of(curious, tokens[0]) == 200
