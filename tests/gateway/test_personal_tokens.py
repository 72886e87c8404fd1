"""A personal token never gets past the gateway: auth exchanges it, or the request ends there."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web

from deploy.envoy.gateway import CREDENTIAL_HEADERS, PUBLIC_CALLS, SDK_KEY_HEADERS
from tests.gateway.conftest import ORIGIN, Gateway, a_workplace, room
from tests.gateway.servers import free_endpoint
from tests.gateway.tokens import ADA, a_token, bearer
from tests.gateway.wire import UPGRADE, open_upgrade, send_bytes

DOOR = "/internal/personal-tokens/exchange"
REFUSAL = b'{"code":"personal_token_refused","status":401}'

Exchange = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Auth:
    """Stands in for auth's internal port: remembers what it was asked, answers as it is told."""

    answer: Exchange
    paths: list[str] = field(default_factory=list)
    asked: list[list[tuple[str, str]]] = field(default_factory=list)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.paths.append(f"{request.method} {request.raw_path}")
        self.asked.append([(name.lower(), value) for name, value in request.headers.items()])
        return await self.answer(request)


def granting(token: str) -> Exchange:
    async def answer(_request: web.BaseRequest) -> web.Response:
        headers = {
            "authorization": f"Bearer {token}",
            "x-envoy-auth-headers-to-remove": ", ".join(SDK_KEY_HEADERS.values()),
            "x-user-id": "from auth",
            "x-tier": "enterprise",
            "set-cookie": "a=b",
        }
        return web.Response(headers=headers)

    return answer


async def refusing(_request: web.BaseRequest) -> web.Response:
    headers = {
        "content-type": "application/problem+json",
        "www-authenticate": "Bearer",
        "cache-control": "no-store",
        "set-cookie": "a=b",
        "x-inside": "auth-1",
    }
    return web.Response(status=401, body=REFUSAL, headers=headers)


def a_personal_token() -> str:
    return f"ttc_{uuid4().hex}{uuid4().hex[:17]}"


@pytest.fixture
def auth(gateway: Gateway) -> Iterator[Auth]:
    """Grants a token of tier pro unless the test says otherwise."""
    stand_in = Auth(granting(a_token(gateway.key, tier="pro", amr=["pat"])))
    gateway.servers["auth-internal"].override = stand_in.handle
    yield stand_in
    gateway.servers["auth-internal"].override = None


def seen_by_services(gateway: Gateway) -> str:
    return repr([server.received for server in gateway.servers.values()])


def received(gateway: Gateway) -> int:
    return sum(len(server.received) for server in gateway.servers.values())


@pytest.mark.parametrize(
    "place",
    [
        ("authorization", "Bearer {}"),
        ("Authorization", "bearer {}"),
        ("authorization", "BEARER  {}"),
        *((name, "{}") for name in SDK_KEY_HEADERS.values()),
    ],
)
@pytest.mark.parametrize(
    ("path", "server"),
    [
        ("/v1/models", "chat-pro"),
        ("/v1/audio/speech", "voice-pro"),
        ("/anthropic/v1/messages", "chat-pro"),
        ("/gemini/v1beta/models", "chat-pro"),
        ("/elevenlabs/v1/voices", "voice-pro"),
        ("/keys", "keyvault"),
    ],
)
async def test_a_service_gets_an_access_token_in_its_place(
    gateway: Gateway, auth: Auth, place: tuple[str, str], path: str, server: str
) -> None:
    token, (name, form) = a_personal_token(), place
    answer = await gateway.send(path, headers={name: form.format(token)})
    assert answer.json["server"] == server, "the route is that of the exchanged token's tier"
    headers = answer.json["headers"]
    (credential,) = [(n, v) for n, v in headers if n in CREDENTIAL_HEADERS]
    assert credential[0] == "authorization"
    assert credential[1].startswith("Bearer ey")
    assert [value for n, value in headers if n in ("x-user-id", "x-tier")] == [ADA, "pro"]
    assert token not in seen_by_services(gateway)
    assert "set-cookie" not in answer.headers


async def test_auth_is_told_the_credential_and_no_more(gateway: Gateway, auth: Auth) -> None:
    token = a_personal_token()
    headers = {"cookie": "c", "x-user-id": "root", "idempotency-key": "i", "content-type": "a/b"}
    answer = await gateway.send(
        "/v1/models?limit=1", method="POST", headers=bearer(token) | headers, body=b"a body"
    )
    assert answer.json["body_bytes"] == 6
    assert auth.paths == [f"POST {DOOR}"]
    (asked,) = auth.asked
    assert ("authorization", f"Bearer {token}") in asked
    assert ("x-request-id", answer.headers["x-request-id"]) in asked
    assert {name for name, _ in asked} <= {
        *("authorization", "x-request-id", "host", "content-length"),
        *("x-envoy-internal", "x-forwarded-for", "x-envoy-expected-rq-timeout-ms"),
    }
    assert ("content-length", "0") in asked


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Basic dHRjXw=="},
        {"Authorization": "Bearer not_ttc_here"},
        {"x-api-key": "sk-ttc_1"},
        {"cookie": "ttc_1"},
    ],
)
async def test_nobody_else_is_asked_about(
    gateway: Gateway, auth: Auth, headers: dict[str, str]
) -> None:
    assert (await gateway.send("/v1/models", headers=headers)).status == 401
    assert (await gateway.send("/health", headers=headers)).status == 200
    token = bearer(a_token(gateway.key, note="ttc_"))
    assert (await gateway.send("/v1/models", headers=headers | token)).status == 200
    assert auth.asked == []


async def test_an_access_token_that_holds_the_prefix_by_chance_is_one(
    gateway: Gateway, auth: Auth
) -> None:
    """Base64 has all its letters; no letter of it can stand before a personal token."""
    head, _, signature = a_token(gateway.key).split(".")
    for body in ("ttc_a", "attc_a", "a-ttc_a", "_ttc_ttc_"):
        answer = await gateway.send("/v1/models", headers=bearer(f"{head}.{body}.{signature}"))
        assert (answer.status, answer.json["code"]) == (401, "unauthenticated")
    assert auth.asked == []


@pytest.mark.parametrize("path", ["/v1/models", "/keys", "/health", "/unknown"])
async def test_auths_refusal_is_the_answer(gateway: Gateway, auth: Auth, path: str) -> None:
    auth.answer = refusing
    before = received(gateway)
    answer = await gateway.send(path, headers=bearer(a_personal_token()) | {"Origin": ORIGIN})
    assert (answer.status, answer.json["code"]) == (401, "personal_token_refused")
    # A vendor's SDK gets it in its vendor's form.
    assert (answer.body == REFUSAL) == (path != "/v1/models")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["cache-control"] == "no-store"
    # Envoy's CORS filter leaves alone what would end at a route without a service.
    assert ("access-control-allow-origin" in answer.headers) == (path != "/unknown")
    assert answer.headers["x-request-id"]
    assert not {"set-cookie", "x-inside"} & answer.headers.keys()
    assert received(gateway) == before


async def test_a_strange_page_may_not_read_the_refusal(gateway: Gateway, auth: Auth) -> None:
    auth.answer = refusing
    headers = bearer(a_personal_token()) | {"Origin": "https://evil.example"}
    answer = await gateway.send("/v1/models", headers=headers)
    assert "access-control-allow-origin" not in answer.headers


async def _fails(_request: web.BaseRequest) -> web.Response:
    return web.Response(status=503, text="inner details", headers={"retry-after": "99"})


async def _breaks(_request: web.BaseRequest) -> web.Response:
    return web.Response(status=500, text="inner details")


async def _hangs(_request: web.BaseRequest) -> web.Response:
    await asyncio.sleep(5)
    return web.Response()


@pytest.mark.parametrize("trouble", [_fails, _breaks, _hangs])
async def test_auth_in_trouble_is_no_refusal(
    gateway: Gateway, auth: Auth, trouble: Exchange
) -> None:
    auth.answer = trouble
    before = received(gateway)
    answer = await gateway.send("/v1/models", headers=bearer(a_personal_token()))
    assert (answer.status, answer.json["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "2"
    assert "www-authenticate" not in answer.headers
    assert "inner" not in answer.body.decode()
    assert received(gateway) == before
    assert len(auth.asked) == 1


@pytest.fixture(scope="module")
async def without_auth(short_directory: Path) -> AsyncIterator[Gateway]:
    """Nobody listens on auth's internal port; its public port works."""
    async with a_workplace() as workplace:
        yield await workplace.gateway(
            room(short_directory, "patless"), auth_internal=free_endpoint(), sandbox=True
        )


async def test_without_auth_only_personal_tokens_fail(without_auth: Gateway) -> None:
    refused = await without_auth.send("/v1/models", headers=bearer(a_personal_token()))
    assert (refused.status, refused.json["code"]) == (503, "unavailable")
    assert refused.headers["x-sandbox"] == "true"
    passed = await without_auth.send("/v1/models", headers=bearer(a_token(without_auth.key)))
    assert passed.status == 200


async def test_what_auth_grants_is_checked_like_any_token(gateway: Gateway, auth: Auth) -> None:
    for token in ("nonsense", a_token(gateway.key, aud="other"), a_token(gateway.key, exp=1)):
        auth.answer = granting(token)
        answer = await gateway.send("/v1/models", headers=bearer(a_personal_token()))
        assert (answer.status, answer.json["code"]) == (401, "unauthenticated")


AMBIGUOUS: dict[str, Callable[[str, str], list[tuple[str, str]]]] = {
    "token, then personal token": lambda t, p: [
        ("Authorization", f"Bearer {t}"),
        ("Authorization", f"Bearer {p}"),
    ],
    "personal token, then token": lambda t, p: [
        ("Authorization", f"Bearer {p}"),
        ("Authorization", f"Bearer {t}"),
    ],
    "in one field": lambda t, p: [("Authorization", f"Bearer {t}, Bearer {p}")],
    "in one field without a space": lambda t, p: [("Authorization", f"Bearer {t},{p}")],
    "behind a colon": lambda t, p: [("Authorization", f"Bearer:{p}")],
    "token beside a key header": lambda t, p: [
        ("Authorization", f"Bearer {t}"),
        ("x-api-key", p),
    ],
    "another SDK's header": lambda t, p: [("Authorization", f"Bearer {t}"), ("xi-api-key", p)],
    "two personal tokens": lambda t, p: [
        ("Authorization", f"Bearer {p}"),
        ("x-api-key", f"{p[::-1]}"),
    ],
    "without a scheme": lambda t, p: [("Authorization", p)],
    "longer than any": lambda t, p: [("Authorization", f"Bearer {p * 160}")],
}


@pytest.mark.parametrize("path", ["/v1/models", "/anthropic/v1/messages", "/auth/login"])
@pytest.mark.parametrize("kind", AMBIGUOUS)
async def test_whatever_shows_one_is_auths_to_judge(
    gateway: Gateway, auth: Auth, kind: str, path: str
) -> None:
    """Auth refuses more than one credential; it must see them all, and no service may see any."""
    auth.answer = refusing
    personal = a_personal_token()
    before = received(gateway)
    fields = AMBIGUOUS[kind](a_token(gateway.key), personal)
    lines = ["POST " + path + " HTTP/1.1", "Host: gateway.test", "Connection: close"]
    lines += ["Content-Length: 0", *(f"{name}: {value}" for name, value in fields)]
    answer = await send_bytes(gateway.proxy.port, "\r\n".join(lines).encode() + b"\r\n\r\n")
    assert (answer.status, answer.json["code"]) == (401, "personal_token_refused")
    (asked,) = auth.asked
    # Repeated fields arrive as one, joined by a comma.
    shown = ",".join(value for name, value in asked if name in CREDENTIAL_HEADERS)
    assert all(value in shown for _, value in fields)
    assert received(gateway) == before


@pytest.mark.parametrize("call", PUBLIC_CALLS)
async def test_a_public_call_with_one_is_exchanged_too(
    gateway: Gateway, auth: Auth, call: Any
) -> None:
    token = a_personal_token()
    answer = await gateway.send(call.path, method=call.method, headers=bearer(token))
    assert answer.status == 200
    assert len(auth.asked) == 1
    assert token not in seen_by_services(gateway)


async def test_a_socket_opens_with_one(gateway: Gateway, auth: Auth) -> None:
    token = a_personal_token()
    assert await open_upgrade(gateway.proxy.port, "/chat/ws", bearer(token) | UPGRADE) == 101
    assert gateway.servers["chat-pro"].last.header("x-user-id") == ADA
    path = "/elevenlabs/v1/text-to-speech/v/stream-input"
    assert await open_upgrade(gateway.proxy.port, path, {"xi-api-key": token} | UPGRADE) == 101
    assert gateway.servers["voice-pro"].last.header("xi-api-key") is None


async def test_none_is_taken_from_a_subprotocol_or_the_url(gateway: Gateway, auth: Auth) -> None:
    """A browser's page is no place for a token of months, and a URL is none for any token."""
    token = a_personal_token()
    offered = {"Sec-WebSocket-Protocol": f"bearer.{token}"} | UPGRADE
    assert await open_upgrade(gateway.proxy.port, "/chat/ws", offered) == 401
    assert (await gateway.send(f"/gemini/v1beta/models?key={token}")).status == 401
    assert auth.asked == []


async def test_a_client_cannot_say_which_headers_to_drop(gateway: Gateway, auth: Auth) -> None:
    headers = {"x-envoy-auth-headers-to-remove": "content-type", "Content-Type": "a/b"}
    answer = await gateway.send("/v1/models", headers=bearer(a_personal_token()) | headers)
    seen = dict(answer.json["headers"])
    assert seen["content-type"] == "a/b"
    assert "x-envoy-auth-headers-to-remove" not in seen


async def test_no_line_of_a_log_holds_one(gateway: Gateway, auth: Auth) -> None:
    token = a_personal_token()
    for answer_of_auth in (auth.answer, refusing, _fails):
        auth.answer = answer_of_auth
        for headers in (bearer(token), {"x-api-key": token}):
            answer = await gateway.send("/anthropic/v1/messages", headers=headers)
            assert token not in answer.body.decode()
            (line,) = await gateway.proxy.logged(answer.headers["x-request-id"])
            assert line["status"] == answer.status
    assert token not in gateway.proxy.access_log.read_text() + gateway.proxy.output.read_text()
