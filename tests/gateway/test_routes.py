"""Which call goes to whom: by path, by the tier of the token, and nowhere else."""

import asyncio
from pathlib import Path

import pytest

from deploy.envoy.gateway import PUBLIC_CALLS, PUBLIC_ELSEWHERE, TURN_PREFIXES, PublicCall
from tests.gateway.conftest import Gateway
from tests.gateway.tokens import a_token, bearer
from tests.gateway.wire import read_head, send

# The list that was agreed on, written a second time on purpose: whoever opens a path to everybody
# says so here as well.
AGREED_PUBLIC = {
    ("POST", "/auth/register"),
    ("POST", "/auth/login"),
    ("POST", "/auth/refresh"),
    ("POST", "/auth/verify-email"),
    ("POST", "/auth/password/forgot"),
    ("POST", "/auth/password/reset"),
    ("POST", "/auth/erasures/lookup"),
    ("GET", "/oauth/authorize"),
    ("POST", "/oauth/authorize"),
    ("POST", "/oauth/token"),
    ("POST", "/oauth/revoke"),
    ("GET", "/oauth/verify-email"),
    ("POST", "/oauth/verify-email"),
    ("GET", "/oauth/forgot-password"),
    ("POST", "/oauth/forgot-password"),
    ("GET", "/oauth/reset-password"),
    ("POST", "/oauth/reset-password"),
    ("GET", "/oauth/accept-invitation"),
    ("POST", "/oauth/accept-invitation"),
    ("GET", "/oauth/register"),
    ("POST", "/oauth/register"),
    ("POST", "/billing/stripe/webhook"),
    ("GET", "/billing/admin/dashboard"),
    ("GET", "/billing/admin/dashboard/open"),
    ("POST", "/billing/admin/dashboard/open"),
    ("GET", "/.well-known/jwks.json"),
    ("GET", "/.well-known/oauth-authorization-server"),
    ("GET", "/.well-known/oauth-authorization-server/auth"),
    ("GET", "/health"),
    ("GET", "/docs"),
    ("GET", "/auth/openapi.json"),
    ("GET", "/keyvault/openapi.json"),
    ("GET", "/chat/openapi.json"),
    ("GET", "/voice/openapi.json"),
    ("GET", "/billing/openapi.json"),
}

WITH_TOKEN = [
    ("GET", "/auth/me", "auth"),
    ("GET", "/auth", "auth"),
    ("GET", "/oauth/consent", "auth"),
    ("GET", "/keys", "keyvault"),
    ("PUT", "/keys/openai", "keyvault"),
    ("GET", "/billing/limits", "billing"),
    ("POST", "/billing/admin/dashboard/link", "billing"),
    ("POST", "/chat/sessions", "chat-free"),
    ("POST", "/v1/chat/completions", "chat-free"),
    ("GET", "/v1/models", "chat-free"),
    ("POST", "/openai/v1/responses", "chat-free"),
    ("POST", "/anthropic/v1/messages", "chat-free"),
    ("POST", "/gemini/v1beta/models/gemini-pro:generateContent", "chat-free"),
    ("POST", "/voice/speech", "voice-free"),
    ("POST", "/v1/audio/speech", "voice-free"),
    ("POST", "/openai/v1/audio/speech", "voice-free"),
    ("GET", "/elevenlabs/v1/voices", "voice-free"),
]
HEADS = [(path, server) for method, path, server in WITH_TOKEN if method == "GET"]


def test_the_public_list_is_the_agreed_one() -> None:
    assert {(call.method, call.path) for call in PUBLIC_CALLS} == AGREED_PUBLIC


@pytest.mark.parametrize("call", PUBLIC_CALLS, ids=str)
async def test_a_public_call_needs_no_token(gateway: Gateway, call: PublicCall) -> None:
    body = b"{}" if call.method == "POST" else b""
    answer = await gateway.send(call.path, method=call.method, body=body)
    assert answer.status == 200


@pytest.mark.parametrize("call", PUBLIC_CALLS, ids=str)
async def test_a_public_path_is_public_with_its_method_alone(
    gateway: Gateway, call: PublicCall
) -> None:
    before = sum(len(server.received) for server in gateway.servers.values())
    public = {other.method for other in PUBLIC_CALLS if other.path == call.path}
    if "GET" in public:
        public.add("HEAD")
    for method in {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"} - public:
        # Nobody else lives under these, so with another method there is nothing at all.
        expected = 404 if call.path in ("/docs", "/keyvault/openapi.json") else 401
        assert (await gateway.send(call.path, method=method)).status == expected
    assert sum(len(server.received) for server in gateway.servers.values()) == before


@pytest.mark.parametrize("call", [c for c in PUBLIC_CALLS if c.method == "GET"], ids=str)
async def test_a_public_page_shows_its_head_to_whoever_asks(
    gateway: Gateway, call: PublicCall
) -> None:
    got = await gateway.send(call.path)
    head = await gateway.send(call.path, method="HEAD")
    assert head.status == got.status == 200
    assert head.headers["content-type"] == got.headers["content-type"]
    assert head.headers["content-length"].isdigit()


def test_no_rule_of_turns_hides_a_public_call() -> None:
    """Their prefixes are tried before the public calls of all others."""
    hidden = [
        call.path
        for call in PUBLIC_ELSEWHERE
        if any(
            call.path == prefix or call.path.startswith(f"{prefix}/") for prefix in TURN_PREFIXES
        )
    ]
    assert hidden == []


@pytest.mark.parametrize("prefix", TURN_PREFIXES)
@pytest.mark.parametrize(
    ("suffix", "status"), [("", 401), ("/", 401), ("/openapi.jsonx", 401), ("-x", 404), ("x", 404)]
)
async def test_where_turns_are_made_a_token_is_needed(
    gateway: Gateway, prefix: str, suffix: str, status: int
) -> None:
    below_another = any(prefix.startswith(f"{other}/") for other in TURN_PREFIXES)
    before = sum(len(server.received) for server in gateway.servers.values())
    answer = await gateway.send(prefix + suffix, method="POST", body=b"{}")
    assert answer.status == (401 if below_another else status)
    assert sum(len(server.received) for server in gateway.servers.values()) == before


@pytest.mark.parametrize("call", PUBLIC_CALLS, ids=str)
@pytest.mark.parametrize("suffix", ["/", "/more", "x", "//", "/.", ";x", "%2f", "%20"])
async def test_no_neighbour_of_a_public_path_is_public(
    gateway: Gateway, call: PublicCall, suffix: str
) -> None:
    before = sum(len(server.received) for server in gateway.servers.values())
    answer = await gateway.send(call.path + suffix, method=call.method)
    assert answer.status in (400, 401, 404)
    assert sum(len(server.received) for server in gateway.servers.values()) == before


async def test_a_signed_webhook_arrives_whole_with_its_signature(gateway: Gateway) -> None:
    body = b'{ "id": "evt_1",\n  "object": "event", "spaces":  "count" }'
    headers = {"stripe-signature": "t=1,v1=ab", "content-type": "application/json"}
    path = "/billing/stripe/webhook"
    answer = await gateway.send(path, method="POST", headers=headers, body=body)
    assert (answer.status, answer.json["server"]) == (200, "billing")
    received = gateway.servers["billing"].last
    assert (received.body_bytes, received.header("stripe-signature")) == (len(body), "t=1,v1=ab")


@pytest.mark.parametrize(("method", "path", "server"), WITH_TOKEN)
async def test_a_call_with_a_token_reaches_its_service(
    gateway: Gateway, method: str, path: str, server: str
) -> None:
    assert (await gateway.send(path, method=method)).status == 401
    answer = await gateway.send(
        path + "?a=b", method=method, headers=bearer(a_token(gateway.key)), body=b"{}"
    )
    assert (answer.status, answer.json["server"]) == (200, server)
    assert (answer.json["method"], answer.json["path"]) == (method, path + "?a=b")


@pytest.mark.parametrize(("path", "server"), HEADS)
async def test_a_head_with_a_token_is_asked_for_there(
    gateway: Gateway, path: str, server: str
) -> None:
    refused = await gateway.send(path, method="HEAD")
    assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
    answer = await gateway.send(path, method="HEAD", headers=bearer(a_token(gateway.key)))
    assert answer.status == 200
    assert (gateway.servers[server].last.method, gateway.servers[server].last.path) == (
        "HEAD",
        path,
    )


async def test_nothing_follows_a_head_on_its_connection(gateway: Gateway) -> None:
    """Be it a service's or the gateway's own. A client would take it for the next answer."""
    token = bearer(a_token(gateway.key))["Authorization"]
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.proxy.port)
    async with asyncio.timeout(10):
        for path, status in (("/health", 200), ("/docs", 200), ("/keys/answers/404", 404)):
            writer.write(
                f"HEAD {path} HTTP/1.1\r\nhost: a\r\nauthorization: {token}\r\n\r\n".encode()
            )
            seen, headers = await read_head(reader)
            assert (seen, int(headers["content-length"]) > 0) == (status, True)
        writer.write(b"HEAD /unknown HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert (await read_head(reader))[0] == 404
        assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize(
    ("tier", "pool"),
    [
        ("free", "free"),
        ("pro", "pro"),
        ("enterprise", "enterprise"),
        ("unheard-of", "free"),
        ("", "free"),
        ("Pro", "free"),
        (None, "free"),
        (["enterprise"], "free"),
        (7, "free"),
    ],
)
@pytest.mark.parametrize(
    ("path", "service"),
    [("/chat/sessions", "chat"), ("/v1/models", "chat"), ("/voice/voices", "voice")],
)
async def test_the_tier_of_the_token_picks_the_pool(
    gateway: Gateway, tier: object, pool: str, path: str, service: str
) -> None:
    answer = await gateway.send(path, headers=bearer(a_token(gateway.key, tier=tier)))
    assert answer.json["server"] == f"{service}-{pool}"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/unknown",
        "/authx",
        "/keysx",
        "/chats",
        "/v2",
        "/internal",
        "/internal/",
        "/internal/egress/openai/v1/models",
        "/healthz",
        "/readyz",
        "/metrics",
        "/health/more",
        "/docs/more",
        "/legacy/screenshot",
        "/AUTH/login",
    ],
)
async def test_everything_else_is_nowhere(gateway: Gateway, path: str) -> None:
    for headers in ({}, bearer(a_token(gateway.key))):
        answer = await gateway.send(path, headers=headers)
        assert (answer.status, answer.json["code"]) == (404, "route_not_found")


async def test_a_description_is_asked_from_its_own_service(gateway: Gateway) -> None:
    for service in ("auth", "keyvault", "billing"):
        answer = await gateway.send(f"/{service}/openapi.json")
        assert (answer.json["server"], answer.json["path"]) == (service, "/openapi.json")
    for service in ("chat", "voice"):
        answer = await gateway.send(f"/{service}/openapi.json")
        assert (answer.json["server"], answer.json["path"]) == (f"{service}-free", "/openapi.json")


async def test_legacy_gets_the_caller_but_not_the_token(impatient: Gateway) -> None:
    assert (await impatient.send("/legacy/screenshot")).status == 401
    headers = bearer(a_token(impatient.key)) | {"Cookie": "a=b"}
    answer = await impatient.send("/legacy/screenshot?x=1", headers=headers)
    assert (answer.json["server"], answer.json["path"]) == ("legacy", "/old/screenshot?x=1")
    arrived = dict(answer.json["headers"])
    assert {"authorization", "cookie"}.isdisjoint(arrived)
    assert arrived["x-tier"] == "free"


async def test_sandbox_is_said_in_every_answer(impatient: Gateway, gateway: Gateway) -> None:
    token = bearer(a_token(impatient.key))
    answers = [
        await impatient.send("/health"),
        await impatient.send("/docs"),
        await impatient.send("/unknown"),
        await impatient.send("/keys"),
        await impatient.send("/keys", headers=token),
        await impatient.send("/a%2fb"),
        await impatient.send("/billing/limits", headers=token),
    ]
    assert [answer.status for answer in answers] == [200, 200, 404, 401, 200, 400, 503]
    assert [answer.headers["x-sandbox"] for answer in answers] == ["true"] * len(answers)
    assert "x-sandbox" not in (await gateway.send("/health")).headers


async def test_only_the_metrics_and_the_readiness_of_admin_are_shown(gateway: Gateway) -> None:
    assert gateway.proxy.settings.metrics is not None
    port = gateway.proxy.settings.metrics.port
    assert b"envoy_http_downstream_rq_total" in (await send(port, "/metrics")).body
    assert (await send(port, "/ready")).body == b"LIVE\n"
    for path in ("/", "/config_dump", "/logging", "/quitquitquit", "/metrics/../config_dump"):
        assert (await send(port, path)).status == 404
    for path in ("/metrics", "/ready", "/quitquitquit"):
        assert (await send(port, path, method="POST")).status == 404


async def test_the_admin_socket_is_for_its_owner_alone(gateway: Gateway) -> None:
    admin = gateway.proxy.settings.admin
    assert isinstance(admin, Path)
    assert admin.stat().st_mode & 0o777 == 0o600
