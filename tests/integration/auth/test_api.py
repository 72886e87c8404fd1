"""The doors of auth, as clients meet them."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from joserfc.jwk import KeySet

from shared.tokens import TokenVerifier
from tests.support.auth import PASSWORD, RunningAuth
from tests.support.tokens import AUDIENCE, ISSUER, identity_of
from tests.support.waiting import eventually

NEW_PASSWORD = "eleven geese cross a bridge"
USER_FIELDS = {
    *("id", "email", "username", "tier", "is_active", "email_verified", "organisation"),
    *("organisation_role", "role", "created_at", "updated_at"),
}


async def test_a_registration_answers_with_the_public_user(auth: RunningAuth) -> None:
    name = f"Ada{uuid4().hex[:8]}"
    answer = await auth.register(email=f"{name}@Example.com", username=name)
    assert answer.status_code == 201
    assert set(answer.json()) == {"user"}
    user = answer.json()["user"]
    assert set(user) == USER_FIELDS
    assert user["email"] == f"{name.lower()}@example.com"
    assert user["username"] == name
    assert (user["tier"], user["role"], user["organisation"]) == ("free", "member", None)
    assert (user["is_active"], user["email_verified"]) == (True, False)
    assert UUID(user["id"]).version == 7


async def test_a_taken_username_is_told(auth: RunningAuth) -> None:
    user = (await auth.register()).json()["user"]
    answer = await auth.register(username=user["username"].upper())
    assert (answer.status_code, answer.json()["code"]) == (409, "username_taken")
    assert set(answer.json()) == {"type", "title", "status", "detail", "code", "request_id"}


async def test_of_two_registrations_at_once_one_wins(auth: RunningAuth) -> None:
    username = f"user{uuid4().hex[:12]}"
    answers = await asyncio.gather(*(auth.register(username=username) for _ in range(2)))
    assert sorted(answer.status_code for answer in answers) == [201, 409]


async def test_a_sign_in_answers_with_tokens_for_either_name(auth: RunningAuth) -> None:
    user = (await auth.register()).json()["user"]
    for login in (user["email"].upper(), user["username"]):
        answer = await auth.login(login)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        tokens = answer.json()
        assert set(tokens) == {
            *("access_token", "refresh_token", "token_type", "expires_in", "user")
        }
        assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 900)
        assert tokens["user"] == user
        assert (await auth.me(tokens["access_token"])).json() == user


async def test_unknown_user_and_wrong_password_get_the_same_answer(auth: RunningAuth) -> None:
    user = (await auth.register()).json()["user"]
    answers = [
        await auth.login(login, "a wrong password")
        for login in (user["email"], user["username"], "nobody", "nobody@example.com", "")
    ]
    documents = [{**answer.json(), "request_id": None} for answer in answers]
    assert documents == [documents[0]] * len(documents)
    assert documents[0]["code"] == "wrong_credentials"
    assert {answer.status_code for answer in answers} == {401}
    kinds = {tuple(sorted(answer.headers.keys())) for answer in answers}
    assert len(kinds) == 1


async def test_the_sixth_wrong_password_has_to_wait(auth: RunningAuth) -> None:
    user = (await auth.register()).json()["user"]
    for login in (user["email"], user["username"]):
        for _ in range(2):
            assert (await auth.login(login, "a wrong password")).status_code == 401
    assert (await auth.login(user["email"], "a wrong password")).status_code == 401
    answer = await auth.login(user["email"])
    assert answer.status_code == 429
    assert answer.json()["code"] == "too_many_attempts"
    assert 25 <= int(answer.headers["retry-after"]) <= 30


async def test_many_right_sign_ins_at_once_all_succeed(auth: RunningAuth) -> None:
    user = (await auth.register()).json()["user"]
    answers = await asyncio.gather(*(auth.login(user["email"]) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refresh_token"] for answer in answers}) == 20


async def test_a_refresh_answers_with_the_next_pair(auth: RunningAuth) -> None:
    account = await auth.account()
    answer = await auth.refresh(account.refresh_token)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    tokens = answer.json()
    assert tokens["refresh_token"] != account.refresh_token
    assert tokens["access_token"] != account.access_token
    assert (await auth.me(tokens["access_token"])).status_code == 200
    assert (await auth.refresh(tokens["refresh_token"])).status_code == 200


async def test_fifty_uses_of_one_token_lead_to_one_successor(auth: RunningAuth) -> None:
    account = await auth.account()
    answers = await asyncio.gather(*(auth.refresh(account.refresh_token) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    [successor] = {answer.json()["refresh_token"] for answer in answers}
    assert successor != account.refresh_token
    assert (await auth.refresh(successor)).status_code == 200


async def test_a_grandparent_ends_the_family_for_good(auth: RunningAuth) -> None:
    account = await auth.account()
    parent = (await auth.refresh(account.refresh_token)).json()["refresh_token"]
    current = (await auth.refresh(parent)).json()["refresh_token"]
    answer = await auth.refresh(account.refresh_token)
    assert (answer.status_code, answer.json()["code"]) == (401, "refresh_reused")
    for token in (current, parent, account.refresh_token):
        answer = await auth.refresh(token)
        assert (answer.status_code, answer.json()["code"]) == (401, "refresh_refused")
    assert (await auth.login(account.email)).status_code == 200


async def test_signing_out_kills_the_refresh_token_at_once(auth: RunningAuth) -> None:
    account = await auth.account()
    other = (await auth.login(account.email)).json()
    for _ in range(2):
        answer = await auth.client.post("/auth/logout", headers=account.headers)
        assert (answer.status_code, answer.content) == (204, b"")
    assert (await auth.refresh(account.refresh_token)).json()["code"] == "refresh_refused"
    assert (await auth.refresh(other["refresh_token"])).status_code == 200


async def test_signing_out_everywhere_kills_them_all(auth: RunningAuth) -> None:
    account, stranger = await auth.account(), await auth.account()
    other = (await auth.login(account.email)).json()
    answer = await auth.client.post(
        "/auth/logout", params={"everywhere": "true"}, headers=account.headers
    )
    assert answer.status_code == 204
    for token in (account.refresh_token, other["refresh_token"]):
        assert (await auth.refresh(token)).status_code == 401
    assert (await auth.refresh(stranger.refresh_token)).status_code == 200


async def test_a_device_that_was_signed_out_signs_no_other_out(auth: RunningAuth) -> None:
    account = await auth.account()
    other = (await auth.login(account.email)).json()
    assert (await auth.client.post("/auth/logout", headers=account.headers)).status_code == 204
    answer = await auth.client.post(
        "/auth/logout", params={"everywhere": "true"}, headers=account.headers
    )
    assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")
    assert (await auth.refresh(other["refresh_token"])).status_code == 200


async def test_a_user_may_be_renamed(auth: RunningAuth) -> None:
    account, other = await auth.account(), await auth.account()
    name = f"New Name {uuid4().hex[:8]}"
    answer = await auth.client.patch("/auth/me", json={"username": name}, headers=account.headers)
    assert (answer.status_code, answer.json()["username"]) == (200, name)
    assert (await auth.login(name)).status_code == 200
    assert (await auth.login(account.username)).status_code == 401
    taken = await auth.client.patch(
        "/auth/me", json={"username": other.username.upper()}, headers=account.headers
    )
    assert (taken.status_code, taken.json()["code"]) == (409, "username_taken")
    unchanged = await auth.client.patch("/auth/me", json={}, headers=account.headers)
    assert (unchanged.status_code, unchanged.json()["username"]) == (200, name)


@pytest.mark.parametrize("field", ["email", "tier", "role", "is_active", "id", "password"])
async def test_nothing_else_on_an_account_can_be_changed(auth: RunningAuth, field: str) -> None:
    account = await auth.account()
    answer = await auth.client.patch(
        "/auth/me", json={field: "enterprise"}, headers=account.headers
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_devices_are_listed_with_the_asking_one_marked(auth: RunningAuth) -> None:
    account = await auth.account()
    await auth.login(account.email, device="Firefox/140.0 (x) " + "y" * 300)
    answer = await auth.client.get("/auth/sessions", headers=account.headers)
    assert answer.status_code == 200
    assert answer.json()["next_cursor"] is None
    newer, older = answer.json()["data"]
    assert set(older) == {*("id", "device", "current", "created_at", "last_used_at", "expires_at")}
    assert (older["current"], newer["current"]) == (True, False)
    assert older["device"] == "tests"
    assert newer["device"] == ("Firefox/140.0 (x) " + "y" * 300)[:200]


async def test_the_list_of_devices_comes_in_pages(auth: RunningAuth) -> None:
    account = await auth.account()
    for _ in range(4):
        await auth.login(account.email)
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        answer = await auth.client.get("/auth/sessions", params=params, headers=account.headers)
        seen += [device["id"] for device in answer.json()["data"]]
        cursor = answer.json()["next_cursor"]
    assert cursor is None
    assert len(set(seen)) == len(seen) == 5


async def test_another_device_can_be_ended_but_not_another_users(auth: RunningAuth) -> None:
    account, stranger = await auth.account(), await auth.account()
    other = (await auth.login(account.email)).json()
    listed = (await auth.client.get("/auth/sessions", headers=account.headers)).json()["data"]
    [there] = [device["id"] for device in listed if not device["current"]]
    address = f"/auth/sessions/{there}"
    for headers in (stranger.headers, {}):
        refused = await auth.client.delete(address, headers=headers)
        assert refused.status_code == (404 if headers else 401)
    assert (await auth.client.delete(address, headers=account.headers)).status_code == 204
    assert (await auth.refresh(other["refresh_token"])).status_code == 401
    again = await auth.client.delete(address, headers=account.headers)
    assert (again.status_code, again.json()["code"]) == (404, "sign_in_not_found")


async def test_a_changed_password_ends_the_other_devices(auth: RunningAuth) -> None:
    account = await auth.account()
    other = (await auth.login(account.email)).json()
    answer = await auth.client.post(
        "/auth/password",
        json={"current_password": account.password, "new_password": NEW_PASSWORD},
        headers=account.headers,
    )
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await auth.refresh(other["refresh_token"])).status_code == 401
    assert (await auth.refresh(account.refresh_token)).status_code == 200
    assert (await auth.login(account.email, account.password)).status_code == 401
    assert (await auth.login(account.email, NEW_PASSWORD)).status_code == 200


async def test_a_wrong_current_password_is_no_reason_to_sign_out(auth: RunningAuth) -> None:
    account = await auth.account()
    answer = await auth.client.post(
        "/auth/password",
        json={"current_password": "a wrong password", "new_password": NEW_PASSWORD},
        headers=account.headers,
    )
    assert (answer.status_code, answer.json()["code"]) == (403, "wrong_password")
    assert (await auth.login(account.email, account.password)).status_code == 200


@pytest.mark.parametrize(
    ("password", "status", "reason"),
    [
        ("eleven char", 422, "too_short"),
        ("password1234", 422, "common"),
        ("x1" * 128, 422, "guessable"),
        ("a lamp and nine rooms " * 11, 201, None),
        ("Ame\u0301lie goes 🦊", 201, None),
        ("nul\0 lamps light\0 rooms\0", 201, None),
    ],
)
async def test_passwords_are_judged_by_length_and_by_how_they_are_guessed(
    auth: RunningAuth, password: str, status: int, reason: str | None
) -> None:
    answer = await auth.register(password=password)
    assert answer.status_code == status
    if reason is not None:
        assert (answer.json()["code"], answer.json()["reason"]) == ("password_refused", reason)
        return
    email = answer.json()["user"]["email"]
    assert (await auth.login(email, password)).status_code == 200
    assert (await auth.login(email, password[:-1])).status_code == 401


SECRET = "canary-of-a-password-0451"


@pytest.mark.parametrize(
    "body",
    [
        {"password": SECRET},
        {"email": "ada@example.com", "password": SECRET},
        {"email": 7, "username": "ada", "password": SECRET},
        {"email": "ada@example.com", "username": "ada", "password": [SECRET]},
        {"email": "ada@example.com", "username": "ada", "password": {SECRET: SECRET}},
        {"email": "ada@example.com", "username": "ada", "password": SECRET * 50},
        {"email": "ada@example.com", "username": "ada", "password": SECRET, "more": SECRET},
        {"email": "ada@example.com", "username": "ada", SECRET: SECRET},
        {"email": SECRET, "username": "ada", "password": SECRET},
        {"email": "canary@example.com", "username": "of-a-password", "password": SECRET},
        [SECRET],
        SECRET,
    ],
)
@pytest.mark.parametrize("path", ["/auth/register", "/auth/login", "/auth/refresh"])
async def test_no_refusal_echoes_the_password(
    auth: RunningAuth,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    path: str,
    body: Any,
) -> None:
    caplog.set_level("DEBUG")
    answer = await auth.client.post(path, json=body)
    assert 400 <= answer.status_code < 500
    assert answer.headers["content-type"] == "application/problem+json"
    # A field's name is the sender's own invention; its value stays unsaid.
    without_names = answer.text.replace(f"body.{SECRET}", "").replace(f"body.password.{SECRET}", "")
    assert SECRET not in without_names
    logged = caplog.text + capsys.readouterr().out
    assert "door" in logged
    assert SECRET not in logged


async def test_no_log_line_holds_a_password_or_a_token(
    auth: RunningAuth, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    account = await auth.account(password=SECRET)
    renewed = (await auth.refresh(account.refresh_token)).json()
    await auth.login(account.email, f"wrong {SECRET}")
    await auth.client.post(
        "/auth/password",
        json={"current_password": SECRET, "new_password": NEW_PASSWORD},
        headers=account.headers,
    )
    logged = caplog.text + capsys.readouterr().out
    assert logged.count("door") >= 5
    tokens = (account.access_token, account.refresh_token, renewed["refresh_token"])
    for secret in (SECRET, NEW_PASSWORD, *tokens):
        assert secret not in logged


HOSTILE: list[Any] = [
    "a\0b",
    "\ud800",
    "x" * 60_000,
    "",
    " ",
    None,
    7,
    10**400,
    1e999,
    True,
    [],
    {},
    ["x"],
    {"$ne": ""},
    "' or 1=1 --",
    "\u202eada",
    "🦊" * 300,
]


@pytest.mark.parametrize("field", ["email", "username", "password", "login", "refresh_token"])
@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:20])
async def test_no_value_makes_us_fail(auth: RunningAuth, field: str, value: Any) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "/auth/register": {"email": "", "username": "", "password": PASSWORD},
        "/auth/login": {"login": "somebody", "password": PASSWORD},
        "/auth/refresh": {"refresh_token": ""},
    }
    for path, body in bodies.items():
        if field in body:
            raw = json.dumps({**body, field: value})
            answer = await auth.client.post(
                path, content=raw, headers={"content-type": "application/json"}
            )
            assert 400 <= answer.status_code < 500, (path, answer.text)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 20_000, 400),
        (b'{"a":' * 10_000, 400),
        (b"1" * 5_000, 400),
        (b"null", 422),
        (b'{"login": "a", "login": "b", "password": "c"}', 401),
        (b"x" * 70_000, 413),
    ],
)
async def test_no_body_makes_us_fail(auth: RunningAuth, content: bytes, status: int) -> None:
    answer = await auth.client.post(
        "/auth/login", content=content, headers={"content-type": "application/json"}
    )
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", "/auth/sessions/not-an-id", 422),
        ("DELETE", "/auth/sessions/%00", 422),
        ("GET", "/auth/sessions?limit=0", 422),
        ("GET", "/auth/sessions?limit=99999999999999999999999999", 422),
        ("GET", "/auth/sessions?cursor=x", 422),
        ("POST", "/auth/logout?everywhere=perhaps", 422),
        ("GET", "/auth/sessions?cursor=ffffffff-ffff-ffff-ffff-ffffffffffff", 200),
        ("GET", "/auth/nothing", 404),
        ("PUT", "/auth/me", 405),
    ],
)
async def test_no_address_makes_us_fail(
    auth: RunningAuth, method: str, path: str, status: int
) -> None:
    account = await auth.account()
    answer = await auth.client.request(method, path, headers=account.headers)
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/auth/me"),
        ("PATCH", "/auth/me"),
        ("POST", "/auth/logout"),
        ("GET", "/auth/sessions"),
        ("DELETE", "/auth/sessions/00000000-0000-7000-8000-000000000000"),
        ("POST", "/auth/password"),
    ],
)
async def test_nothing_of_a_user_is_shown_without_a_token(
    auth: RunningAuth, method: str, path: str
) -> None:
    for headers in ({}, {"authorization": "Bearer"}, {"authorization": "Basic YTpi"}):
        answer = await auth.client.request(method, path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_refresh_token_is_no_access_token_nor_the_reverse(auth: RunningAuth) -> None:
    account = await auth.account()
    assert (await auth.me(account.refresh_token)).status_code == 401
    assert (await auth.refresh(account.access_token)).status_code in {401, 422}


async def test_the_jwks_is_public_cacheable_and_enough_to_verify_with(auth: RunningAuth) -> None:
    account = await auth.account()
    answer = await auth.client.get("/.well-known/jwks.json")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "public, max-age=60"
    keys = answer.json()["keys"]
    assert len(keys) == 2  # the one that signs, and the one that will
    for key in keys:
        assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
        assert (key["kty"], key["crv"], key["use"], key["alg"]) == ("EC", "P-256", "sig", "ES256")

    class Fetched:
        version = 1

        async def current(self) -> KeySet:
            return KeySet.import_key_set(answer.json())

        async def refreshed_for(self, _key_id: str) -> KeySet:
            return await self.current()

    verifier = TokenVerifier(Fetched(), issuer=ISSUER, audience=AUDIENCE)
    identity = await verifier.verify(account.access_token)
    assert identity.user_id == account.id


async def test_neither_a_user_nor_a_token_for_another_service_opens_the_internal_door(
    auth: RunningAuth,
) -> None:
    account = await auth.account()
    identities = auth.settings.identity_trust_file.parent
    elsewhere = identity_of(identities, "chat").token_for("keyvault")
    for headers in ({}, account.headers, {"authorization": f"Bearer {elsewhere}"}):
        path = f"/internal/organisations/{uuid4()}/members/{account.id}"
        answer = await auth.internal.get(path, headers=headers)
        assert answer.status_code == 401


async def test_it_tells_how_full_valkey_is(auth: RunningAuth) -> None:
    async def told() -> str:
        return (await auth.internal.get("/metrics")).text

    text = await eventually(told, lambda text: "companion_valkey_memory_bytes{" in text)
    assert 'companion_valkey_memory_bytes{state="most"} 1.073741824e+09' in text


async def test_the_internal_door_is_not_on_the_public_port(auth: RunningAuth) -> None:
    member = f"/internal/organisations/{uuid4()}/members/{uuid4()}"
    for path in (member, "/readyz", "/metrics"):
        assert (await auth.client.get(path)).status_code == 404


async def test_every_route_says_what_it_does_and_answers(auth: RunningAuth) -> None:
    document = (await auth.client.get("/openapi.json")).json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description"), (method, path)
            answers = [code for code in operation["responses"] if code.startswith("2")]
            assert answers, (method, path)
