"""What clients see while something is missing, and how it is summed up."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from joserfc.jwk import ECKey

from services.auth.domain.signing_keys import new_signing_keys, parse_signing_keys
from shared.errors import DependencyUnavailable
from shared.news.ended_sessions import EndedSessions
from shared.tokens import sign_access_token
from shared.valkey import open_cache
from tests.support.auth import PASSWORD, RunningAuth, running_auth
from tests.support.engines import ValkeyServer
from tests.support.suite import eventually
from tests.support.tokens import AUDIENCE, ISSUER, serving

NOWHERE = "postgresql://companion:pw@127.0.0.1:1"


def a_token(key: ECKey) -> str:
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(uuid4()),
        "sid": str(uuid4()),
        "jti": str(uuid4()),
        "tier": "free",
        "role": "member",
        "org": None,
        "scope": "account",
    }
    return sign_access_token(key, claims, issued_at=int(time.time()), lifetime_seconds=900)


def key_of(auth: RunningAuth) -> ECKey:
    path = auth.settings.signing_keys_file
    assert path is not None
    return parse_signing_keys(path.read_text()).active


async def test_without_a_database_we_start_and_say_so(tmp_path: Path) -> None:
    async with running_auth(NOWHERE, tmp_path) as auth:
        headers = {"authorization": f"Bearer {a_token(key_of(auth))}"}
        answers = [
            await auth.register(),
            await auth.login("somebody"),
            await auth.refresh("A" * 75),
            await auth.client.get("/auth/me", headers=headers),
            await auth.client.get("/auth/sessions", headers=headers),
            await auth.client.post("/auth/logout", headers=headers),
        ]
        for answer in answers:
            assert answer.status_code == 503
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["code"] == "dependency_unavailable"
            assert answer.json()["dependency"] == "database"
            assert int(answer.headers["retry-after"]) >= 1
        ready = await auth.internal.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["dependencies"] == {
            "database": "dependency_unavailable",
            "signing_keys": "ok",
        }
        assert (await auth.internal.get("/healthz")).status_code == 200
        assert (await auth.client.get("/.well-known/jwks.json")).status_code == 200
        health = await auth.client.get("/health")
        assert (health.status_code, health.json()["services"]) == (503, {"auth": "not_ready"})


@pytest.mark.parametrize("content", [None, "", '{"keys": []}'])
async def test_without_signing_keys_nobody_signs_in_and_no_key_is_made(
    database_url: str, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "lost.json"
    if content is not None:
        path.write_text(content)
    async with running_auth(database_url, tmp_path, signing_keys_file=path) as auth:
        for answer in (
            # Its mail could not be sealed.
            await auth.register(),
            await auth.login("nobody"),
            await auth.refresh("A" * 75),
            await auth.client.get("/.well-known/jwks.json"),
        ):
            assert answer.status_code == 503
            assert answer.json()["code"] == "signing_keys_unavailable"
            assert answer.headers["retry-after"]
        # Nobody can check a token either, which is not the token's fault.
        stranger = ECKey.generate_key("P-256", auto_kid=True)
        assert (await auth.me(a_token(stranger))).status_code == 503
        ready = await auth.internal.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["dependencies"] == {
            "database": "ok",
            "signing_keys": "signing_keys_unavailable",
        }
    assert (path.read_text() if path.exists() else None) == content


async def test_a_retiring_key_is_still_good_and_a_removed_one_is_not(
    database_url: str, tmp_path: Path
) -> None:
    document: dict[str, Any] = new_signing_keys()
    keys = {}
    for state in ("standby", "retiring", "removed"):
        key = keys[state] = ECKey.generate_key(
            "P-256", {"use": "sig", "alg": "ES256", "kid": state}
        )
        document["keys"].append({**key.as_dict(private=True), "state": state})
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(document))
    async with running_auth(database_url, tmp_path, signing_keys_file=path) as auth:
        jwks = (await auth.client.get("/.well-known/jwks.json")).json()
        assert [key["kid"] for key in jwks["keys"]][2:] == ["standby", "retiring"]
        answers = {name: await auth.me(a_token(key)) for name, key in keys.items()}
        # The users of these tokens don't exist, which only a good token gets to hear.
        assert {name: answer.json()["code"] for name, answer in answers.items()} == {
            "standby": "account_gone",
            "retiring": "account_gone",
            "removed": "unauthenticated",
        }


async def test_health_sums_up_all_services_at_once(database_url: str, tmp_path: Path) -> None:
    together = asyncio.Barrier(2)

    def answering(status: int) -> Any:
        async def app(scope: Any, _receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                await together.wait()
                await send({"type": "http.response.start", "status": status, "headers": []})
                await send({"type": "http.response.body", "body": b"{}"})

        return app

    async with serving(answering(200)) as chat, serving(answering(503)) as voice:
        peers = {
            "chat": f"{chat}/readyz",
            "voice": f"{voice}/readyz",
            "billing": "http://127.0.0.1:1/readyz",
        }
        async with running_auth(database_url, tmp_path, peers_health=peers) as auth:
            answer = await auth.client.get("/health")
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "not_ready",
        "services": {
            "auth": "ok",
            "chat": "ok",
            "voice": "not_ready",
            "billing": "unreachable",
        },
    }


async def test_health_is_good_when_everyone_is(auth: RunningAuth) -> None:
    answer = await auth.client.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "services": {"auth": "ok"}}


async def test_a_silent_peer_costs_a_second_and_no_more(database_url: str, tmp_path: Path) -> None:
    async def silent(scope: Any, receive: Any, _send: Any) -> None:
        if scope["type"] == "http":
            while (await receive())["type"] != "http.disconnect":
                pass

    async with serving(silent) as url:
        peers = dict.fromkeys(("chat", "voice", "billing", "keyvault"), f"{url}/readyz")
        async with running_auth(database_url, tmp_path, peers_health=peers) as auth:
            began = time.monotonic()
            answer = await auth.client.get("/health")
            took = time.monotonic() - began
    assert set(answer.json()["services"].values()) == {"ok", "unreachable"}
    assert 0.9 < took < 3


async def test_a_hundred_sign_ins_at_once_are_bounded_and_block_nobody(
    database_url: str, tmp_path: Path
) -> None:
    settings = {"argon2_passes": 2, "argon2_memory_kib": 19_456, "passwords_waiting": 30}
    async with running_auth(database_url, tmp_path, **settings) as auth:
        user = (await auth.register()).json()["user"]
        flood = asyncio.gather(
            *(auth.login(user["email"], PASSWORD, address=f"192.0.2.{n % 50}") for n in range(100))
        )
        slowest, asked = 0.0, 0
        while not flood.done():
            began = time.monotonic()
            assert (await auth.internal.get("/healthz")).status_code == 200
            slowest, asked = max(slowest, time.monotonic() - began), asked + 1
            await asyncio.sleep(0.005)
        answers = await flood
    by_status = {status: [a for a in answers if a.status_code == status] for status in (200, 503)}
    assert len(by_status[200]) + len(by_status[503]) == 100
    assert len(by_status[200]) >= 32
    assert by_status[503]
    for refused in by_status[503]:
        assert refused.json()["code"] == "passwords_busy"
        assert int(refused.headers["retry-after"]) >= 1
    assert asked >= 5
    # A loop that hashed by itself would stand still for as long as the whole flood takes.
    assert slowest < 1


async def test_after_a_start_beside_a_slow_valkey_nobody_waits_for_long(
    database_url: str,
    valkey_server: ValkeyServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries: list[float] = []
    really = EndedSessions.repeat

    async def slow_at_first(sessions: EndedSessions, ended: Iterable[UUID]) -> None:
        tries.append(time.monotonic())
        if len(tries) == 1:
            raise DependencyUnavailable("session store")
        await really(sessions, ended)

    monkeypatch.setattr(EndedSessions, "repeat", slow_at_first)
    with valkey_server.fresh_database() as url:
        async with running_auth(database_url, tmp_path, cache_url=url), open_cache(url) as cache:

            async def known() -> bool:
                try:
                    await EndedSessions(cache).check(uuid4())
                except DependencyUnavailable:
                    return False
                return True

            await eventually(known, bool, seconds=20)
    # Not only at the next look of many seconds later.
    assert tries[1] - tries[0] < 3
