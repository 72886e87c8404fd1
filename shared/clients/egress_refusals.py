"""Answers that are not the vendor's: what the egress or keyvault says of a call, and whether the
vendor may have heard of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NoReturn, Protocol

import aiohttp
import orjson

from shared.clients.vendor_calls import VendorConnectionLost
from shared.errors import (
    DependencyUnavailable,
    ExpectedFailure,
    Forbidden,
    LimitReached,
    Unavailable,
)
from shared.vendors.failures import NoUsableKey

DETAIL_HEADER = "x-egress-detail"
"""Whose answer it is."""
FROM_VENDOR = "via_upstream"
# Envoy's words for it; those that can be brought about are pinned by tests with a real one.
_NEVER_SENT = re.compile(
    r"upstream_reset_before_response_started"
    r"\{(remote_connection_failure|local_connection_failure|connection_timeout|overflow)\b"
    r"|(no_healthy_upstream|cluster_not_found)\b"
)

_WITHHELD = {
    "service_stopped": timedelta(minutes=1),
    "service_rate_reached": timedelta(seconds=1),
}
_TOO_OFTEN = timedelta(seconds=10)
# Each call has a grant of its own: if that one has been used, keyvault died between noting it and
# answering, and the egress asked again; if it has expired, something stood still on the way; if it
# is not valid, our clock is ahead or our key is not known (yet). No user can do anything about it,
# and another replica may have none of it.
_IN_TROUBLE = frozenset(
    {"vault_sealed", "dependency_unavailable", "unavailable"}
    | {"grant_replayed", "grant_expired", "grant_invalid"}
)


class KeyRefused(Forbidden):
    """Keyvault did not let this call use the user's key; `code` facts say why."""

    code = "key_refused"


class KeysWithheld(Unavailable):
    """Keyvault gives this service no key for the moment, whoever its user is."""

    code = "keys_withheld"


class KeyUsedTooOften(LimitReached):
    """Keys were used for this user more often than anybody needs."""

    code = "key_used_too_often"


class _Body(Protocol):
    async def read(self) -> bytes: ...


async def refuse(status: int, headers: Mapping[str, str], body: _Body) -> NoReturn:
    """An answer that is not the vendor's: the egress marks whose it is."""
    detail = headers.get(DETAIL_HEADER, "")
    if detail == "ext_authz_denied":
        raise _refusal(await _document(body))
    if detail.startswith("ext_authz_error"):
        raise DependencyUnavailable("keyvault")
    if status == 404:
        raise Unavailable("The egress does not know this call.")
    raise VendorConnectionLost(f"egress answered {status}", sent=may_have_been_sent(status, detail))


def may_have_been_sent(status: int, detail: str) -> bool:
    """Whether the vendor may have heard of a call that the egress answered itself: not when it
    declined the call, and not when its detail says that there was no connection to send it on. A
    connection that ended says nothing of when it did."""
    return status >= 500 and _NEVER_SENT.match(detail) is None


def _refusal(document: Mapping[str, Any]) -> ExpectedFailure:
    code = str(document.get("code", "refused"))
    detail = str(document.get("detail", "The key may not be used."))
    if code in {"key_not_found", "key_not_usable"}:
        return NoUsableKey(detail, reason=code)
    if code in _IN_TROUBLE:
        return DependencyUnavailable("keyvault")
    if code in _WITHHELD:
        # Why is for operators: a user can do nothing about it.
        return KeysWithheld(
            "Calls with users' keys are held back for the moment. Your keys are safe.",
            retry_after=_WITHHELD[code],
        )
    if code == "user_rate_reached":
        return KeyUsedTooOften(detail, retry_after=_TOO_OFTEN)
    return KeyRefused(detail, reason=code)


async def _document(body: _Body) -> Mapping[str, Any]:
    try:
        parsed = orjson.loads(await body.read())
    except (orjson.JSONDecodeError, aiohttp.ClientError, VendorConnectionLost):
        return {}
    return parsed if isinstance(parsed, dict) else {}
