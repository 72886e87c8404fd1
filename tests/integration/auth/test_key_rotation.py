"""Signing keys change while auth signs and services verify: nobody is turned away by mistake."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from joserfc.jws import extract_compact

from services.auth.actions.remove_signing_key import RemoveSigningKey
from services.auth.actions.rotate_signing_key import RotateSigningKey
from services.auth.domain.key_rotation import RotationPace, StandbyTooYoung
from services.auth.providers.signing_key_file import SigningKeyBook
from shared import watched_file
from shared.clock import SystemClock
from shared.errors import Unauthenticated
from shared.http import caller
from shared.http.caller import RemoteKeys
from shared.tokens import TokenVerifier
from tests.support.auth import RunningAuth, running_auth
from tests.support.tokens import AUDIENCE, ISSUER

PACE = RotationPace(published_first=timedelta(0), kept=timedelta(minutes=20))
# A tenth and less of what a deployment has, so that minutes become tenths of seconds.
LOOK, FRESH, STALE = 0.05, 0.3, 0.4


@pytest.fixture
async def auth(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RunningAuth]:
    monkeypatch.setattr(watched_file, "_LOOK_AGAIN_SECONDS", LOOK)
    monkeypatch.setattr(caller, "_FRESH_SECONDS", FRESH)
    monkeypatch.setattr(caller, "_STALE_SECONDS", STALE)
    async with running_auth(database_url, tmp_path) as running:
        yield running


@pytest.fixture
async def verifier(auth: RunningAuth) -> AsyncIterator[TokenVerifier]:
    """As any other service has it."""
    async with httpx.AsyncClient() as client:
        keys = RemoteKeys(auth.settings.jwks_url, client)
        yield TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE)


def book(auth: RunningAuth) -> SigningKeyBook:
    assert auth.settings.signing_keys_file is not None
    return SigningKeyBook(auth.settings.signing_keys_file)


async def rotated(auth: RunningAuth) -> str:
    """Rotate as soon as it may be; answers the id of the key that signs then."""
    async with asyncio.timeout(5):
        while True:
            try:
                return RotateSigningKey(book(auth), PACE, SystemClock())().active.kid
            except StandbyTooYoung:
                await asyncio.sleep(0.05)


async def what_was_known_grows_old() -> None:
    """Until nobody uses keys of before any more, nor a look at their file; twice that, since a busy
    machine's timers and fetches are late."""
    await asyncio.sleep(2 * (STALE + LOOK))


def kid(token: str) -> str:
    return str(extract_compact(token.encode()).headers()["kid"])


async def signed_in(auth: RunningAuth) -> str:
    user = (await auth.register()).json()["user"]
    answer = await auth.login(user["username"])
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


async def test_rotations_under_load_turn_nobody_away(
    auth: RunningAuth, verifier: TokenVerifier
) -> None:
    user = (await auth.register()).json()["user"]
    over = asyncio.Event()
    tokens: list[str] = []
    statuses: list[int] = []

    async def use() -> None:
        while not over.is_set():
            for token in (tokens[0], tokens[-1]):
                await verifier.verify(token)
                statuses.append((await auth.me(token)).status_code)

    async def sign_in() -> None:
        while not over.is_set():
            tokens.append((await auth.login(user["username"])).json()["access_token"])
            # What was signed a moment ago is good at once, everywhere.
            await verifier.verify(tokens[-1])

    tokens.append((await auth.login(user["username"])).json()["access_token"])
    async with asyncio.TaskGroup() as load:
        for _ in range(3):
            load.create_task(use())
        load.create_task(sign_in())
        for _ in range(3):
            # Each key is shown for longer than anybody keeps the keys of before.
            await what_was_known_grows_old()
            signing = await rotated(auth)
            async with asyncio.timeout(5):
                while kid(tokens[-1]) != signing:
                    await asyncio.sleep(0.01)
        over.set()
    assert set(statuses) == {200}
    assert len({kid(token) for token in tokens}) == 4


async def test_a_removed_keys_tokens_are_refused_by_all_within_the_time_that_keys_are_kept(
    auth: RunningAuth, verifier: TokenVerifier
) -> None:
    user = (await auth.register()).json()["user"]
    stolen = (await auth.login(user["username"])).json()["access_token"]
    await verifier.verify(stolen)
    assert (await auth.me(stolen)).status_code == 200

    began = time.monotonic()
    RemoveSigningKey(book(auth), PACE, SystemClock())(kid(stolen))
    refused_after: dict[str, float] = {}
    async with asyncio.timeout(5):
        while len(refused_after) < 2:
            try:
                await verifier.verify(stolen)
            except Unauthenticated:
                refused_after.setdefault("another service", time.monotonic() - began)
            if (await auth.me(stolen)).status_code == 401:
                refused_after.setdefault("auth itself", time.monotonic() - began)
            await asyncio.sleep(0.01)
    # The keys' age, auth's next look at its file, and the longest fetch.
    assert max(refused_after.values()) < STALE + LOOK + 2

    fresh = (await auth.login(user["username"])).json()["access_token"]
    assert kid(fresh) != kid(stolen)
    await verifier.verify(fresh)
    assert (await auth.me(fresh)).status_code == 200


async def test_an_idle_service_does_not_take_a_removed_keys_first_token(
    auth: RunningAuth, verifier: TokenVerifier
) -> None:
    stolen = await signed_in(auth)
    await verifier.verify(stolen)
    RemoveSigningKey(book(auth), PACE, SystemClock())(kid(stolen))
    await what_was_known_grows_old()
    with pytest.raises(Unauthenticated):
        await verifier.verify(stolen)


async def test_a_refresh_token_outlives_the_key_that_signed_beside_it(auth: RunningAuth) -> None:
    user = (await auth.register()).json()["user"]
    pair = (await auth.login(user["username"])).json()
    RemoveSigningKey(book(auth), PACE, SystemClock())(kid(pair["access_token"]))
    await what_was_known_grows_old()
    answer = await auth.refresh(pair["refresh_token"])
    assert answer.status_code == 200
    assert (await auth.me(answer.json()["access_token"])).status_code == 200


async def test_a_spoiled_file_changes_nothing_for_a_running_auth(auth: RunningAuth) -> None:
    token = await signed_in(auth)
    path = auth.settings.signing_keys_file
    assert path is not None
    path.write_text("{")
    await what_was_known_grows_old()
    assert (await auth.me(token)).status_code == 200
    assert (await auth.client.get("/.well-known/jwks.json")).status_code == 200
    assert (await auth.internal.get("/readyz")).json()["dependencies"]["signing_keys"] == "ok"
