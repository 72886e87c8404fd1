"""Every answer that Envoy makes itself is a problem document, and tells nothing of the inside."""

from collections.abc import Awaitable, Callable

import pytest

from tests.gateway.conftest import Gateway
from tests.gateway.tokens import a_token, bearer, unsigned_token
from tests.gateway.wire import Answer, send_bytes

FIELDS = {"type", "title", "status", "detail", "code", "request_id"}

Provocation = Callable[[Gateway], Awaitable[Answer]]

PROVOCATIONS: dict[str, tuple[int, str, Provocation]] = {
    "no token": (401, "unauthenticated", lambda g: g.send("/keys")),
    "bad token": (
        401,
        "unauthenticated",
        lambda g: g.send("/keys", headers=bearer(unsigned_token())),
    ),
    "wrong audience": (
        401,
        "unauthenticated",
        lambda g: g.send("/keys", headers=bearer(a_token(g.key, aud="other"))),
    ),
    "unknown path": (404, "route_not_found", lambda g: g.send("/unknown")),
    "ambiguous path": (404, "route_not_found", lambda g: g.send("/auth/..;/x")),
    "escaped slash": (400, "malformed_request", lambda g: g.send("/auth%2fme")),
    "underscore": (400, "malformed_request", lambda g: g.send("/health", headers={"a_b": "c"})),
    "no upgrade here": (
        400,
        "websocket_not_offered",
        lambda g: g.send(
            "/keys",
            headers=bearer(a_token(g.key)) | {"Connection": "Upgrade", "Upgrade": "websocket"},
        ),
    ),
    "strange host": (
        400,
        "malformed_request",
        lambda g: g.send("/health", headers={"Host": "a,b"}),
    ),
    "small body too large": (
        413,
        "too_large",
        lambda g: g.send(
            "/keys", method="POST", headers=bearer(a_token(g.key)), body=b"x" * 20_000
        ),
    ),
    "large body too large": (
        413,
        "too_large",
        lambda g: g.send(
            "/chat/x", method="POST", headers=bearer(a_token(g.key)), body=b"x" * 60_000
        ),
    ),
    "headers too large": (
        431,
        "header_too_large",
        lambda g: g.send("/health", headers={"x-a": "x" * 30_000}),
    ),
    "service down": (
        503,
        "unavailable",
        lambda g: g.send("/billing/limits", headers=bearer(a_token(g.key))),
    ),
    "service slow": (
        504,
        "service_timeout",
        lambda g: g.send("/keys/slow", headers=bearer(a_token(g.key))),
    ),
    "service hangs up": (
        503,
        "unavailable",
        lambda g: g.send("/auth/hangs-up", headers=bearer(a_token(g.key))),
    ),
    "service talks nonsense": (
        502,
        "service_failed",
        lambda g: g.send("/auth/nonsense", headers=bearer(a_token(g.key))),
    ),
    "not HTTP": (
        400,
        "malformed_request",
        lambda g: send_bytes(g.proxy.port, b"nonsense\r\n\r\n"),
    ),
}


@pytest.mark.parametrize("kind", PROVOCATIONS)
async def test_it_is_a_problem_document(impatient: Gateway, kind: str) -> None:
    status, code, provoke = PROVOCATIONS[kind]
    answer = await provoke(impatient)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json
    assert problem.keys() == FIELDS
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["type"].endswith(code)
    assert problem["title"]
    assert problem["detail"]
    # Envoy knows no request id yet when it can't even read the request.
    assert problem["request_id"] == answer.headers.get("x-request-id")
    assert ("www-authenticate" in answer.headers) == (status == 401)
    assert ("retry-after" in answer.headers) == (status == 503)
    for secret in ("envoy", "upstream", "jwt", "127.0.0.1", "reset", "connect"):
        assert secret not in problem["detail"].lower()
    assert answer.headers["server"] == "companion"
    assert not [name for name in answer.headers if name.startswith("x-envoy")]


async def test_a_services_own_error_passes_unchanged(gateway: Gateway) -> None:
    """Also those statuses that would be rewritten if Envoy had made them."""
    token = bearer(a_token(gateway.key))
    for status in (400, 401, 403, 404, 413, 429, 500, 503):
        answer = await gateway.send(f"/keys/answers/{status}", headers=token)
        assert (answer.status, answer.body) == (status, b"as the service says")
        assert answer.headers["retry-after"] == "7"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_call_that_a_service_has_seen_is_never_sent_again(
    gateway: Gateway, method: str
) -> None:
    service = gateway.servers["auth"]
    before = len(service.received)
    headers = bearer(a_token(gateway.key))
    answer = await gateway.send("/auth/hangs-up", method=method, headers=headers, body=b"{}")
    assert answer.status == 503
    assert len(service.received) == before + 1


async def test_who_claims_to_speak_grpc_is_refused_in_grpcs_way(gateway: Gateway) -> None:
    """Envoy can't be talked out of that: status 200, the refusal in a header. Nothing passes."""
    before = len(gateway.servers["keyvault"].received)
    answer = await gateway.send("/keys", headers={"Content-Type": "application/grpc"})
    assert (answer.status, answer.headers["grpc-status"], answer.body) == (200, "16", b"")
    assert len(gateway.servers["keyvault"].received) == before
