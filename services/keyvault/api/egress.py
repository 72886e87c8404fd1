"""The egress proxy asks here before each call to a vendor, and gets the header with the key.

Every call of chat and voice waits for this route, so it is a hot one: no models, no dependency
injection. It is for the proxy alone and stands in no OpenAPI document. The proxy sends the call's
own method and path under our prefix, without its body.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import structlog

from services.keyvault.actions import Actions
from services.keyvault.api.uses import count_use
from services.keyvault.domain.errors import (
    GrantExpired,
    GrantInvalid,
    GrantReplayed,
    KeyInUrl,
    NotYourKey,
    ProviderNotAllowed,
)
from services.keyvault.domain.organisation import ClaimedSeat
from shared.errors import ExpectedFailure, Unauthenticated
from shared.events.base import current_request_id
from shared.http.door import Receive, Scope, Send
from shared.http.errors import respond
from shared.http.hot import HotRoute
from shared.identity import Grant, ServiceTokenExpired
from shared.tokens import Identity

_PREFIX = b"/internal/egress/"
_GRANT, _USER = b"x-companion-grant", b"x-companion-user"
_YES = ((b"cache-control", b"no-store"), (b"content-length", b"0"))
_CREDENTIALS = frozenset(
    {"key", "api_key", "apikey", "access_token", "oauth_token", "authorization", "token"}
    | {"x-api-key", "xi-api-key", "x-goog-api-key", "single_use_token"}
)
# By which Google takes another method than that of the request, which is the one that was judged:
# https://cloud.google.com/apis/docs/system-parameters
_OTHER_METHOD = "httpmethod"
# What could lead to another place than it seems to: dot segments, encoded or not, empty segments,
# other separators. The proxy refuses these too; a vendor's path has none of them.
_CROOKED = re.compile(rb"\.\.|//|[\\;]|%2e|%2f|%5c", re.IGNORECASE)

# What stood still for longer has rung other alarms; an older grant may have been kept by somebody.
_MOST_LATE_SECONDS = 600

log = structlog.get_logger(__name__)


async def check_call(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 200 with the vendor's key header, or say no. An operator's own server may want no
    header."""
    try:
        carried = await _key_headers(scope)
    except ExpectedFailure as failure:
        refusal = respond(failure)
        refusal.headers["cache-control"] = "no-store"
        await refusal(scope, receive, send)
        return
    headers = [*carried, *_YES]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _key_headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    state: Any = scope["app"].state
    headers = dict(scope["headers"])
    grant = _grant(state.peers, headers)
    outcome = "failed"
    try:
        carried = await _allowed(state, grant, scope, headers)
        outcome = "given"
    except ExpectedFailure as failure:
        outcome = failure.code
        if isinstance(failure, GrantReplayed | NotYourKey):
            log.warning(
                "grant_refused",
                peer=grant.service,
                code=outcome,
                grant_id=str(grant.grant_id),
                user_id=str(grant.user_id),
                request_id=grant.request_id,
            )
        raise
    finally:
        count_use(grant.service, grant.provider, outcome)
    return carried


async def _allowed(
    state: Any, grant: Grant, scope: Scope, headers: dict[bytes, bytes]
) -> list[tuple[bytes, bytes]]:
    caller = await state.verifier.verify(_text(headers.get(_USER)))
    _refuse_misleading(scope["query_string"])
    actions: Actions = state.actions
    carried = await actions.use_key(
        grant,
        caller=caller.user_id,
        provider=_provider(scope["raw_path"]),
        seat=_seat(caller),
    )
    return [(name.encode(), value.encode()) for name, value in carried.items()]


def _grant(peers: Any, headers: dict[bytes, bytes]) -> Grant:
    try:
        grant: Grant = peers.grant_of(_text(headers.get(_GRANT)))
    except ServiceTokenExpired as error:
        if error.seconds > _MOST_LATE_SECONDS:
            raise _refused(GrantInvalid(), "none", error) from error
        raise _refused(GrantExpired(), error.service, error) from error
    except Unauthenticated as error:
        # Whose it is was not proven: nothing of what it says is told.
        raise _refused(GrantInvalid(), "none", error) from error
    return grant


def _refused(
    failure: GrantInvalid | GrantExpired, peer: str, why: Unauthenticated
) -> GrantInvalid | GrantExpired:
    count_use(peer, "none", failure.code)
    log.warning(
        "grant_refused",
        peer=peer,
        code=failure.code,
        reason=why.message,
        request_id=current_request_id.get(),
    )
    return failure


def _seat(caller: Identity) -> ClaimedSeat | None:
    if caller.organisation_id is None:
        return None
    as_of = datetime.fromtimestamp(caller.issued_at, UTC)
    return ClaimedSeat(caller.organisation_id, caller.has_seat, as_of)


def _text(header: bytes | None) -> str:
    return (header or b"").decode("latin-1")


def _provider(raw_path: bytes) -> str:
    """The first segment of the call's path as it was sent: decoded, it could become another one."""
    call = raw_path.removeprefix(_PREFIX)
    if call == raw_path or _CROOKED.search(call):
        raise ProviderNotAllowed
    return call.partition(b"/")[0].decode("latin-1")


def _refuse_misleading(query: bytes) -> None:
    if not query:
        return
    parameters = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    # Google knows each of its own with a dollar before its name, too.
    names = {name.lower().removeprefix("$") for name, _ in parameters}
    if not names.isdisjoint(_CREDENTIALS):
        raise KeyInUrl
    if _OTHER_METHOD in names:
        raise ProviderNotAllowed


CHECK = HotRoute("/internal/egress/{call:path}", check_call)
