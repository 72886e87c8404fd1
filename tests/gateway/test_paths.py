"""Tricks with paths: whatever is sent, `/internal` is unreachable and a path has one reading."""

import pytest

from tests.gateway.conftest import Gateway
from tests.gateway.tokens import a_token, bearer
from tests.gateway.wire import send_bytes

TRICKS = [
    "/internal/keys",
    "//internal/keys",
    "///internal//keys",
    "/./internal/keys",
    "/auth/../internal/keys",
    "/auth/login/../../internal/keys",
    "/auth/..;/internal/keys",
    "/auth/..;a=b/internal/keys",
    "/auth;/../internal/keys",
    "/auth/%2e%2e/internal/keys",
    "/auth/%2E%2E/internal/keys",
    "/auth/.%2e/internal/keys",
    "/auth/%252e%252e/internal/keys",
    "/auth/..%2finternal/keys",
    "/auth/..%2Finternal/keys",
    "/auth%2f..%2finternal/keys",
    "/%2finternal/keys",
    "/auth/..%5cinternal/keys",
    "/auth/..%5Cinternal/keys",
    "/auth/..%255cinternal/keys",
    "/auth\\..\\internal\\keys",
    "/auth/..\\internal/keys",
    "\\internal\\keys",
    "/auth/../../../../internal/keys",
    "/auth/....//internal/keys",
    "/%69nternal/keys",
    "/auth/..%00/internal/keys",
    "/auth/%00/../internal/keys",
    "/INTERNAL/keys",
    "/internal%20/keys",
    "/internal.json/keys",
    "/auth/%ef%bc%8e%ef%bc%8e/internal/keys",
    "/health?/../internal/keys",
    "/health#/../internal/keys",
    "http://127.0.0.1/internal/keys",
    "http://keyvault/internal/keys",
    "internal/keys",
    "*",
]


@pytest.mark.parametrize("target", TRICKS)
async def test_internal_is_unreachable(gateway: Gateway, target: str) -> None:
    for headers in ({}, bearer(a_token(gateway.key))):
        counts = {name: len(server.received) for name, server in gateway.servers.items()}
        answer = await gateway.send(target, headers=headers)
        for name, server in gateway.servers.items():
            for got in server.received[counts[name] :]:
                path = got.path.partition("?")[0]
                assert path == "/health" or "keys" in path
                assert "internal" not in path or path.startswith("/auth/")
                assert ".." not in path
        assert answer.status in (200, 400, 401, 404)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("//auth///me", "/auth/me"),
        ("/auth/./me", "/auth/me"),
        ("/keys/../auth/me", "/auth/me"),
        ("/keys/%2e%2e/auth/me", "/auth/me"),
        ("/auth\\me", "/auth/me"),
    ],
)
async def test_a_path_is_normalised_before_anybody_reads_it(
    gateway: Gateway, target: str, path: str
) -> None:
    """The token rule, the route and the service all see the same path."""
    assert (await gateway.send(target)).status == 401
    answer = await gateway.send(target, headers=bearer(a_token(gateway.key)))
    assert (answer.json["server"], answer.json["path"]) == ("auth", path)


@pytest.mark.parametrize("target", ["/auth/%2e%2e/health", "/keys/..%2f..%2fhealth", "//health"])
async def test_a_detour_to_a_public_path_is_that_path_or_nothing(
    gateway: Gateway, target: str
) -> None:
    answer = await gateway.send(target)
    assert answer.status == 400 or answer.json["path"] == "/health"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.0\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /auth/login HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a@b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a/b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost : a\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
    ids=[
        "two hosts",
        "no host",
        "HTTP/1.0",
        "length and chunks",
        "two lengths",
        "odd coding",
        "user in host",
        "path in host",
        "space before colon",
        "nonsense",
    ],
)
async def test_a_request_with_two_readings_is_refused(
    gateway: Gateway, request_bytes: bytes
) -> None:
    """What Envoy merely tidies up (a folded field, a second space) arrives tidied up."""
    counts = sum(len(server.received) for server in gateway.servers.values())
    answer = await send_bytes(gateway.proxy.port, request_bytes)
    assert answer.status in (400, 426, 501)
    assert sum(len(server.received) for server in gateway.servers.values()) == counts
