"""Keys change under load, by the operator's commands, and nobody is turned away."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from joserfc.jws import extract_compact

from tests.support.suite import Person, Suite, eventually

pytestmark = pytest.mark.e2e

# One route of each service, and one that goes all the way: chat, egress, keyvault, vendor.
ROUTES = ("/auth/me", "/keys/openai", "/chat/sessions", "/voice/voices", "/billing/usage")


def kid(person: Person) -> str:
    token = person.client.headers["authorization"].removeprefix("Bearer ")
    return str(extract_compact(token.encode()).headers()["kid"])


@pytest.fixture
async def ada(ada: Person) -> Person:
    """Somebody whom no limit stops within these tests, with a key for each service's vendor."""
    await ada.become("enterprise")
    await ada.store_key("elevenlabs")
    return ada


async def command(suite: Suite, *words: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(suite.command, *words)


@asynccontextmanager
async def load(person: Person) -> AsyncIterator[None]:
    """Requests through the gateway all the while, and none is turned away."""
    answers: Counter[int] = Counter()
    over = asyncio.Event()

    async def read() -> None:
        while not over.is_set():
            for route in ROUTES:
                answers[(await person.client.get(route)).status_code] += 1

    async def talk() -> None:
        while not over.is_set():
            answers[(await person.ask("hello")).status_code] += 1
            await asyncio.sleep(0.2)

    async with asyncio.TaskGroup() as group:
        for job in (read, read, talk):
            group.create_task(job())
        yield
        over.set()
    assert answers.total() > 20
    assert set(answers) == {200}, answers


async def test_a_signing_key_is_rotated_under_load(suite: Suite, ada: Person) -> None:
    before = kid(ada)
    keys = json.loads(suite.installation.data.signing_keys.read_text())["keys"]
    [standby] = [key["kid"] for key in keys if key["state"] == "standby"]
    async with load(ada):
        began = time.monotonic()
        done = await command(suite, "auth", "rotate-signing-key")
        assert done.returncode == 0, done.stderr
        assert f"{standby} signs from now on." in done.stdout

        async def key_of_a_new_sign_in() -> str:
            await ada.refresh()
            # Accepted at once, by the gateway and by each service.
            for route in ROUTES:
                assert (await ada.client.get(route)).status_code == 200
            return kid(ada)

        assert await eventually(key_of_a_new_sign_in, lambda seen: seen != before) == standby
        assert time.monotonic() - began < 10
        await asyncio.sleep(1)

    again = await command(suite, "auth", "rotate-signing-key")
    assert (again.returncode, again.stdout) == (1, "")
    assert "may sign from" in again.stderr
    listed = (await command(suite, "auth", "signing-keys")).stdout
    assert [line.split()[1] for line in listed.splitlines()] == ["retiring", "active", "standby"]


async def test_services_get_new_identities_under_load(suite: Suite, ada: Person) -> None:
    async with load(ada):
        done = await command(suite, "identities", "rotate", "--pause-seconds", "2")
        assert done.returncode == 0, done.stderr
        # Until every process has looked at its files again, and used what it found.
        await asyncio.sleep(1.5)
    # Not meanwhile: of one session one turn runs at a time, and the load asks in hers.
    assert (await ada.ask("hello again")).status_code == 200
    listed = (await command(suite, "identities", "list")).stdout
    assert listed.count("in use") == listed.count("retired  trusted until") == 5
