"""The token endpoint: codes, refresh tokens, and what refuses both."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import timedelta

import pytest

from services.auth.actions.register_client import RegisterClient
from services.auth.domain.authorization import hash_of_code
from services.auth.storage.unit_of_work import SqlWork
from shared.clock import SystemClock
from tests.integration.auth.oauth.conftest import (
    LOOPBACK,
    Visitor,
)
from tests.support.auth import RunningAuth
from tests.support.auth_oauth import CALLBACK, challenge_of


async def test_tokens_need_a_form_in_the_body(visitor: Visitor) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": "x", "client_id": "y"}
    for answer in (
        await visitor.auth.client.post("/oauth/token", json=form),
        await visitor.auth.client.post("/oauth/token", params=form),
    ):
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert (await visitor.auth.client.get("/oauth/token", params=form)).status_code == 405


@pytest.mark.parametrize(
    ("parts", "status", "error"),
    [
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, 400, "unsupported_grant_type"),
        ({"grant_type": None}, 400, "invalid_request"),
        ({"client_id": None}, 400, "invalid_request"),
        ({"code": None}, 400, "invalid_request"),
        ({"code_verifier": None}, 400, "invalid_request"),
        ({"redirect_uri": None}, 400, "invalid_request"),
        ({"client_id": "0" * 24}, 401, "invalid_client"),
        ({"code": "A" * 43}, 400, "invalid_grant"),
        ({"code": "\x00"}, 400, "invalid_grant"),
        ({"code_verifier": "w" * 43}, 400, "invalid_grant"),
        ({"code_verifier": "short"}, 400, "invalid_grant"),
        ({"code_verifier": challenge_of()}, 400, "invalid_grant"),
        ({"redirect_uri": LOOPBACK}, 400, "invalid_grant"),
    ],
)
async def test_a_refusal_is_a_problem_and_an_oauth_error(
    auth: RunningAuth, visitor: Visitor, parts: dict[str, str | None], status: int, error: str
) -> None:
    answer = await visitor.token(await visitor.code(await auth.account()), **parts)
    body = answer.json()
    assert (answer.status_code, body["status"], body["error"]) == (status, status, error)
    assert body["error_description"] == body["detail"]
    assert re.fullmatch("[a-z_]+", body["code"])
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert not {"access_token", "refresh_token"} & set(body)


async def test_a_client_that_wants_json_gets_it(visitor: Visitor) -> None:
    for accept, kind in (
        ("application/json", "application/json"),
        ("application/json, application/problem+json", "application/problem+json"),
        ("*/*", "application/problem+json"),
    ):
        answer = await visitor.auth.client.post("/oauth/token", headers={"accept": accept})
        assert answer.headers["content-type"] == kind


async def test_a_code_that_comes_twice_ends_what_it_began(
    auth: RunningAuth, visitor: Visitor
) -> None:
    code = await visitor.code(await auth.account())
    tokens = (await visitor.token(code)).json()
    assert (await visitor.token(code)).json()["error"] == "invalid_grant"
    again = await visitor.refresh(tokens["refresh_token"])
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    bearer = {"authorization": f"Bearer {tokens['access_token']}"}
    ended = await auth.client.post("/auth/verify-email/resend", headers=bearer)
    assert (ended.status_code, ended.json()["code"]) == (401, "session_ended")


async def test_of_many_uses_at_once_one_wins(auth: RunningAuth, visitor: Visitor) -> None:
    code = await visitor.code(await auth.account())
    answers = await asyncio.gather(*(visitor.token(code) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200, *[400] * 7]
    (won,) = [answer.json() for answer in answers if answer.status_code == 200]
    # Two parties held it, so what it began is over.
    assert (await visitor.refresh(won["refresh_token"])).status_code == 400


async def test_a_client_stays_signed_in_by_itself_alone(
    auth: RunningAuth, visitor: Visitor, new_work: Callable[[], SqlWork]
) -> None:
    account = await auth.account()
    tokens = (await visitor.token(await visitor.code(account, scope="chat account"))).json()
    assert tokens["scope"] == "account chat"
    other = await RegisterClient(new_work, SystemClock())("Another", [CALLBACK])
    stolen = await visitor.refresh(tokens["refresh_token"], client_id=other.client_id)
    assert stolen.json()["error"] == "invalid_grant"
    assert (await auth.refresh(tokens["refresh_token"])).status_code == 401
    taken = await visitor.refresh(account.refresh_token)
    assert taken.json()["error"] == "invalid_grant"
    newer = await visitor.refresh(tokens["refresh_token"])
    assert (newer.status_code, newer.json()["scope"]) == (200, "account chat")


async def test_a_client_sees_only_what_it_asked_for(auth: RunningAuth, visitor: Visitor) -> None:
    tokens = (await visitor.token(await visitor.code(await auth.account(), scope="chat"))).json()
    answer = await auth.me(tokens["access_token"])
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")


async def test_revoking_signs_out_and_tells_nothing(auth: RunningAuth, visitor: Visitor) -> None:
    first, second = [
        (await visitor.token(await visitor.code(await auth.account()))).json() for _ in range(2)
    ]
    for token in (first["refresh_token"], second["access_token"], "unknown", "a.b.c", "\x00"):
        answer = await visitor.revoke(token, token_type_hint="anything")
        assert (answer.status_code, answer.json()) == (200, {})
    for tokens in (first, second):
        assert (await visitor.refresh(tokens["refresh_token"])).status_code == 400
    assert (await visitor.revoke("x", client_id="0" * 24)).status_code == 401
    assert (await visitor.auth.client.post("/oauth/revoke", data={})).status_code == 400


async def test_a_client_makes_no_token_that_may_more_than_itself(
    auth: RunningAuth, visitor: Visitor
) -> None:
    tokens = (await visitor.token(await visitor.code(await auth.account(), scope="account"))).json()
    bearer = {"authorization": f"Bearer {tokens['access_token']}"}
    wish = {"name": "x", "scopes": ["chat", "voice", "billing:read"], "expires_in_days": 365}
    answer = await auth.client.post("/auth/tokens", json=wish, headers=bearer)
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_not_held")
    assert answer.json()["lacking"] == ["billing:read", "chat", "voice"]


async def test_a_code_is_remembered_for_as_long_as_it_is_asked(
    auth: RunningAuth, visitor: Visitor, new_work: Callable[[], SqlWork]
) -> None:
    code = await visitor.code(await auth.account())
    code_hash = hash_of_code(code)
    assert code_hash is not None
    async with new_work() as work:
        kept = await work.authorization_codes.hold(code_hash)
        assert kept is not None
        assert (kept.client_id, kept.used_at) == (visitor.client.client_id, None)
        assert await work.oauth_clients.get(kept.client_id) == visitor.client
        assert visitor.client in await work.oauth_clients.all()
    for before, left in ((kept.expires_at, True), (kept.expires_at + timedelta(seconds=1), False)):
        async with new_work() as work:
            await work.authorization_codes.forget_before(before, most=1000)
            assert (await work.authorization_codes.hold(code_hash) is not None) == left
