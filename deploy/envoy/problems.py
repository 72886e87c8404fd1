"""What a proxy answers on its own behalf: one table, so that no Envoy page ever reaches a client.

Each row says which local replies it takes (by status, response flag or a word of Envoy's own
explanation) and which problem document they become. The first row that fits wins.
"""

from collections.abc import Callable, Mapping
from typing import Any

from shared.values import dataclass

# Types, codes and titles are those of the services wherever the same thing happened.
TYPE_PREFIX = "urn:companion:problem:"


@dataclass(frozen=True, slots=True)
class LocalReply:
    """A kind of answer that Envoy makes itself, and the problem document it is turned into."""

    answer: int
    code: str
    title: str
    detail: str
    status: int | None = None  # Envoy's status; None matches any
    flag: str | None = None  # Envoy's response flag
    because: str | None = None  # a word of Envoy's response code details
    retry_after_seconds: int | None = None
    challenge: str | None = None  # the WWW-Authenticate header
    unread: bool = False  # said before the Origin was read, so any page may see it
    unnamed: bool = False  # said before the request had its id, when it may have brought another


# Without its keys the gateway can't tell a good token from a bad one. A 401 would make every
# client sign its user out, so this row stands before the one for bad tokens.
_KEYS_MISSING = LocalReply(
    answer=503,
    code="unavailable",
    title="The service is in trouble",
    detail="Access tokens can't be checked at the moment.",
    because="Jwks_remote_fetch_is_failed",
    retry_after_seconds=2,
)

# Envoy answers a wrong audience with 403. To a client it is one more token that does not work here.
_BAD_TOKEN = LocalReply(
    answer=401,
    code="unauthenticated",
    title="Sign in first",
    detail="A valid access token is needed.",
    because="jwt_authn_access_denied",
    challenge="Bearer",
)

# What Envoy explains so, it says before it gives the request an id and takes away the one that a
# client has sent.
_UNNAMED = (
    *(
        LocalReply(
            answer=400,
            code="malformed_request",
            title="The request can't be read",
            detail="The request is malformed.",
            because=because,
            unnamed=True,
        )
        for because in ("path_normalization_failed", "missing_host_header", "missing_path_rejected")
    ),
    LocalReply(
        answer=503,
        code="unavailable",
        title="The service is in trouble",
        detail="The gateway takes no more requests at the moment.",
        because="overload",
        retry_after_seconds=2,
        unnamed=True,
    ),
)

_COMMON = (
    LocalReply(
        answer=400,
        code="websocket_not_offered",
        title="No WebSocket here",
        detail="This path takes no WebSocket.",
        because="upgrade_failed",
    ),
    LocalReply(
        answer=400,
        code="malformed_request",
        title="The request can't be read",
        detail="The request is malformed.",
        status=400,
    ),
    LocalReply(
        answer=404, code="route_not_found", title="Not found", detail="No such path.", status=404
    ),
    LocalReply(
        answer=408,
        code="request_timeout",
        title="The request took too long",
        detail="The request did not arrive in time.",
        status=408,
    ),
    LocalReply(
        answer=413,
        code="too_large",
        title="The request is too large",
        detail="The request body is larger than this path accepts.",
        status=413,
    ),
    LocalReply(
        answer=431,
        code="header_too_large",
        title="The header is too large",
        detail="The request's header fields are too large.",
        status=431,
        unread=True,
    ),
)

# Auth's refusals of a personal token are not in the table: they pass with auth's own body. This is
# the same for where a vendor's SDK reads it.
TOKEN_REFUSED = LocalReply(
    answer=401,
    code="personal_token_refused",
    title="Sign in first",
    detail="The personal access token is not valid.",
    status=401,
    flag="UAEX",
    challenge="Bearer",
)

# This is for when it gave no answer, or one that proves nothing.
_EXCHANGE_FAILED = LocalReply(
    answer=503,
    code="unavailable",
    title="The service is in trouble",
    detail="Personal access tokens can't be checked at the moment.",
    status=503,
    flag="UAEX",
    retry_after_seconds=2,
)

GATEWAY_REPLIES = (
    _EXCHANGE_FAILED,
    _KEYS_MISSING,
    _BAD_TOKEN,
    *_UNNAMED,
    *_COMMON,
    LocalReply(
        answer=429,
        code="too_many_requests",
        title="Too many requests",
        detail="This address sends requests faster than the gateway accepts.",
        status=429,
        retry_after_seconds=1,
    ),
    LocalReply(
        answer=502,
        code="service_failed",
        title="The service failed",
        detail="The service gave no usable answer.",
        status=502,
    ),
    LocalReply(
        answer=503,
        code="unavailable",
        title="The service is in trouble",
        detail="The service can't be reached at the moment.",
        status=503,
        retry_after_seconds=2,
    ),
    LocalReply(
        answer=504,
        code="service_timeout",
        title="The service took too long",
        detail="The service did not answer in time.",
        status=504,
    ),
)

_ANTHROPIC_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
}
_GEMINI_STATUSES = {
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_OPENAI_TYPES = {401: "authentication_error", 429: "rate_limit_error"}


def _as_openai(reply: LocalReply) -> Mapping[str, Any]:
    usual = "invalid_request_error" if reply.answer < 500 else "server_error"
    kind = _OPENAI_TYPES.get(reply.answer, usual)
    return {"error": {"message": reply.detail, "type": kind, "code": reply.code}}


def _as_anthropic(reply: LocalReply) -> Mapping[str, Any]:
    usual = "invalid_request_error" if reply.answer < 500 else "api_error"
    kind = _ANTHROPIC_TYPES.get(reply.answer, usual)
    details = {"error_code": reply.code}
    return {"type": "error", "error": {"type": kind, "message": reply.detail, "details": details}}


def _as_gemini(reply: LocalReply) -> Mapping[str, Any]:
    usual = "INVALID_ARGUMENT" if reply.answer < 500 else "INTERNAL"
    status = _GEMINI_STATUSES.get(reply.answer, usual)
    return {"error": {"code": reply.answer, "message": reply.detail, "status": status}}


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where a vendor's SDKs come in, and what they read of an error: members beside those of the
    problem document, or in the place of one. (ElevenLabs' show whatever they get.)"""

    paths: str
    members: Callable[[LocalReply], Mapping[str, Any]]


DIALECTS = (
    Dialect("/(openai|v1)/.*", _as_openai),
    Dialect("/anthropic/.*", _as_anthropic),
    Dialect("/gemini/.*", _as_gemini),
)

# Keyvault's refusals are not in this table: they pass with keyvault's own status and body.
EGRESS_REPLIES = (
    LocalReply(
        answer=503,
        code="keyvault_unavailable",
        title="The service is in trouble",
        detail="The use of the key can't be authorised at the moment.",
        status=503,
        flag="UAEX",
        retry_after_seconds=2,
    ),
    *_COMMON,
    LocalReply(
        answer=503,
        code="vendor_unreachable",
        title="The vendor can't be reached",
        detail="The vendor can't be reached or ended the connection.",
        status=503,
        retry_after_seconds=2,
    ),
    LocalReply(
        answer=504,
        code="vendor_timeout",
        title="The vendor took too long",
        detail="The vendor did not answer in time.",
        status=504,
    ),
)
