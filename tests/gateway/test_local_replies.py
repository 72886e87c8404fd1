"""Every answer that Envoy makes itself is a problem document, and tells nothing of the inside."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiohttp import web

from deploy.envoy.problems import DIALECTS, GATEWAY_REPLIES, TOKEN_REFUSED
from services.auth.domain.errors import PersonalTokenRefused
from services.chat.api import dropin_anthropic_errors, dropin_gemini_errors
from services.chat.api.dropin_errors import Told
from shared.http.errors import problem_of
from shared.http.openai_errors import type_of
from tests.gateway.conftest import Gateway
from tests.gateway.tokens import a_token, bearer, unsigned_token
from tests.gateway.wire import Answer, send_bytes
from tests.support.waiting import until

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


UNREAD = {"underscore", "headers too large", "not HTTP"}


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
    assert problem["request_id"] == answer.headers.get("x-request-id")
    # Envoy knows of no request when it can't even read its head, and logs none.
    assert (problem["request_id"] is None) == (kind in UNREAD)
    assert ("www-authenticate" in answer.headers) == (status == 401)
    assert ("retry-after" in answer.headers) == (status == 503)
    for secret in ("envoy", "upstream", "jwt", "127.0.0.1", "reset", "connect"):
        assert secret not in problem["detail"].lower()
    assert answer.headers["server"] == "companion"
    assert not [name for name in answer.headers if name.startswith("x-envoy")]


@pytest.mark.parametrize(
    ("target", "host"),
    [("/auth%2fme", "Host: a\r\n"), ("/keys/%5c%2f", "Host: a\r\n"), ("/health", "")],
)
async def test_an_answer_before_the_request_has_its_id_has_one_of_its_own(
    gateway: Gateway, target: str, host: str
) -> None:
    """Whatever of ours a client claims to bring along is said and written nowhere."""
    marks = [f"forged-{name}-{uuid4().hex}" for name in ("id", "user", "tier")]
    ids = set()
    for _ in range(2):
        answer = await send_bytes(
            gateway.proxy.port,
            f"GET {target} HTTP/1.1\r\n{host}x-request-id: {marks[0]}\r\nx-user-id: {marks[1]}\r\n"
            f"x-tier: {marks[2]}\r\n\r\n".encode(),
        )
        request_id = answer.json["request_id"]
        assert (answer.status, answer.headers["x-request-id"]) == (400, request_id)
        (line,) = await gateway.proxy.logged(request_id)
        assert (line["request_id"], line["path"], line["status"]) == (request_id, "…", 400)
        ids.add(str(UUID(request_id)))
    assert len(ids) == 2
    text = gateway.proxy.access_log.read_text()
    assert not [mark for mark in marks if mark in text]


async def test_who_leaves_before_the_answer_is_logged_by_its_requests_id(gateway: Gateway) -> None:
    before = len(gateway.servers["keyvault"].received)
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.proxy.port)
    token = bearer(a_token(gateway.key))["Authorization"]
    writer.write(f"GET /keys/slow HTTP/1.1\r\nHost: a\r\nAuthorization: {token}\r\n\r\n".encode())
    await until(lambda: len(gateway.servers["keyvault"].received) > before)
    writer.close()
    request_id = gateway.servers["keyvault"].last.header("x-request-id")
    assert request_id is not None
    (line,) = await gateway.proxy.logged(request_id)
    assert (line["status"], line["path"]) == (0, "/keys/slow")


FORMS: dict[str, Callable[[int, str], dict[str, Any]]] = {
    "/openai/v1/models": lambda _, code: {"type": "authentication_error", "code": code},
    "/v1/chat/completions": lambda _, code: {"type": "authentication_error", "code": code},
    "/anthropic/v1/messages": lambda _, code: {
        "type": "authentication_error",
        "details": {"error_code": code},
    },
    "/gemini/v1beta/models": lambda status, _: {"code": status, "status": "UNAUTHENTICATED"},
}


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize("token", ["ttc_no-such-token", unsigned_token()])
async def test_a_vendors_sdk_reads_that_a_token_is_no_good(
    gateway: Gateway, path: str, token: str
) -> None:
    """As it would read it at the vendor's; whoever reads the problem document finds that, too."""
    code = "personal_token_refused" if token.startswith("ttc_") else "unauthenticated"
    gateway.servers["auth-internal"].override = refusing
    answer = await gateway.send(path, headers=bearer(token))
    gateway.servers["auth-internal"].override = None
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    said = answer.json
    assert said.keys() == FIELDS | {"error"}
    assert said["error"] == {"message": said["detail"], **FORMS[path](401, code)}
    assert (said["code"], said["request_id"]) == (code, answer.headers["x-request-id"])
    assert said["type"] == ("error" if "anthropic" in path else f"urn:companion:problem:{code}")


async def test_a_vendors_sdk_reads_that_its_path_is_not_taken(gateway: Gateway) -> None:
    answer = await gateway.send("/v1/models/openai%2Fgpt-6-luna")
    kind, code = "invalid_request_error", "malformed_request"
    assert answer.json["error"] == {"message": answer.json["detail"], "type": kind, "code": code}


async def refusing(_request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(status=401, body=b"{}", content_type="application/problem+json")


def test_a_refused_token_is_told_as_auth_tells_it() -> None:
    _, document, _ = problem_of(PersonalTokenRefused())
    ours = (TOKEN_REFUSED.code, TOKEN_REFUSED.title, TOKEN_REFUSED.detail)
    assert (document["code"], document["title"], document["detail"]) == ours


def test_a_vendors_words_for_a_status_are_those_of_the_services() -> None:
    for reply in (*GATEWAY_REPLIES, TOKEN_REFUSED):
        said = [dialect.members(reply)["error"] for dialect in DIALECTS]
        told = Told(reply.answer, reply.code, reply.detail, {}, {}, None)
        assert said[0]["type"] == type_of(reply.answer)
        assert said[1] == dropin_anthropic_errors.document(told)["error"]
        theirs = dropin_gemini_errors.document(told)["error"]
        assert said[2] == {name: theirs[name] for name in said[2]}


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
