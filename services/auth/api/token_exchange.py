"""The gateway asks here about each personal token that it sees, and gets an access token instead.

Every request with a personal token waits for this route, so it is plain ASGI: no models, no
dependency injection. The token is the only proof needed: the port is one that nothing is routed to.
"""

from __future__ import annotations

from fastapi import APIRouter
from starlette.routing import Route

from services.auth.actions import Actions
from services.auth.domain.errors import PersonalTokenRefused
from shared.errors import ExpectedFailure
from shared.http.door import Receive, Scope, Send
from shared.http.errors import respond

_AUTHORIZATION = b"authorization"
# Where the vendors' official SDKs put what they take for the vendor's key.
_KEY_HEADERS = frozenset({b"x-api-key", b"x-goog-api-key", b"xi-api-key"})
# Envoy drops these from the request, so that no service ever sees a personal token.
_REMOVE = (b"x-envoy-auth-headers-to-remove", b", ".join(sorted(_KEY_HEADERS)))


class TokenExchange:
    """Answers 200 with the access token in Authorization, or says no."""

    path = "/internal/personal-tokens/exchange"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self  # what the door names this request in logs and metrics
        actions: Actions = scope["app"].state.actions
        try:
            access_token = await actions.exchange_personal_token(_shown(scope["headers"]))
        except ExpectedFailure as failure:
            refusal = respond(failure)
            refusal.headers["cache-control"] = "no-store"
            await refusal(scope, receive, send)
            return
        headers = [
            (_AUTHORIZATION, b"Bearer " + access_token.encode()),
            _REMOVE,
            (b"cache-control", b"no-store"),
            (b"content-length", b"0"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def _shown(headers: list[tuple[bytes, bytes]]) -> str:
    """The one token of the request, in whichever header.

    Some clients repeat it in a second one, or leave one blank. Two different credentials are
    refused: each server behind could believe another one of them.
    """
    shown = {
        _bearer(value) if name == _AUTHORIZATION else value.strip()
        for name, value in headers
        if (name == _AUTHORIZATION or name in _KEY_HEADERS) and value.strip()
    }
    if len(shown) != 1:
        raise PersonalTokenRefused
    return shown.pop().decode("latin-1")


def _bearer(value: bytes) -> bytes:
    scheme, _, token = value.partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


router = APIRouter()
router.routes.append(Route(TokenExchange.path, TokenExchange(), include_in_schema=False))
