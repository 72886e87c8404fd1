"""Calls to vendors through the egress, which injects the user's key after keyvault has agreed.

Nothing here ever holds a key: it sends the service's grant and the user's own token, and the
egress swaps them for the key on its way out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import aiohttp
import orjson

from shared.errors import (
    Conflict,
    DependencyUnavailable,
    ExpectedFailure,
    Forbidden,
    LimitReached,
    Unavailable,
)
from shared.events.base import current_traceparent
from shared.identity import OnBehalfOf, ServiceIdentity

__all__ = [
    "Egress",
    "KeyRefused",
    "KeyUsedTooOften",
    "KeysWithheld",
    "NoUsableKey",
    "OnBehalfOf",
    "VendorConnectionLost",
    "open_egress",
]

GRANT_HEADER = "x-companion-grant"
USER_HEADER = "x-companion-user"
DETAIL_HEADER = "x-egress-detail"

_WITHHELD = {
    "service_stopped": timedelta(minutes=1),
    "service_rate_reached": timedelta(seconds=1),
}
_TOO_OFTEN = timedelta(seconds=10)


class KeyRefused(Forbidden):
    """Keyvault did not let this call use the user's key; `code` facts say why."""

    code = "key_refused"


class NoUsableKey(Conflict):
    """The user has stored no key for this vendor, or the vendor refuses the one they stored.

    A conflict with what is stored, which its user can mend: never a 401, since that would be about
    our own token, and no failure of the vendor.
    """

    code = "no_usable_key"


class KeysWithheld(Unavailable):
    """Keyvault gives this service no key for the moment, whoever its user is."""

    code = "keys_withheld"


class KeyUsedTooOften(LimitReached):
    """Keys were used for this user more often than anybody needs."""

    code = "key_used_too_often"


class VendorConnectionLost(Exception):
    """The connection to the vendor failed or was cut; `sent` tells whether it may have heard us."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


class Egress:
    """A pool of connections to the egress."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, me: ServiceIdentity) -> None:
        self._session = session
        self._base_url = base_url.rstrip("/")
        self._me = me

    @asynccontextmanager
    async def request(
        self,
        method: str,
        provider: str,
        path: str,
        *,
        by: OnBehalfOf,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        first_byte_within: timedelta = timedelta(seconds=60),
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The vendor's answer, whatever its status, once its head is here.

        Raises NoUsableKey, KeyUsedTooOften and KeyRefused when keyvault said no, KeysWithheld when
        it says no to all of us, Unavailable when keyvault or the egress is in trouble,
        VendorConnectionLost when the vendor is.
        """
        sent = {
            **(headers or {}),
            GRANT_HEADER: self._me.grant(
                user_id=by.user_id, provider=provider, request_id=by.request_id
            ),
            USER_HEADER: by.access_token,
            "x-request-id": by.request_id,
            "traceparent": current_traceparent.get() or "",
        }
        data = None
        if body is not None:
            data, sent["content-type"] = orjson.dumps(body), "application/json"
        url = f"{self._base_url}/{provider}{path}"
        response = await self._send(method, url, data, sent, first_byte_within)
        try:
            await _refuse_ours(response)
            yield response
        finally:
            # Closing a response that was not read to its end also tells the vendor to stop.
            response.close() if not response.content.at_eof() else response.release()

    async def _send(
        self,
        method: str,
        url: str,
        data: bytes | None,
        headers: Mapping[str, str],
        within: timedelta,
    ) -> aiohttp.ClientResponse:
        try:
            async with asyncio.timeout(within.total_seconds()):
                return await self._session.request(
                    method, url, data=data, headers=headers, allow_redirects=False
                )
        except TimeoutError as error:
            raise VendorConnectionLost("no answer in time", sent=True) from error
        except aiohttp.ClientConnectorError as error:
            raise DependencyUnavailable("egress") from error
        except aiohttp.ClientError as error:
            raise VendorConnectionLost(type(error).__name__, sent=True) from error

    async def check(self) -> None:
        """Raises DependencyUnavailable unless the egress accepts connections."""
        try:
            async with asyncio.timeout(1):
                async with self._session.get(f"{self._base_url}/", allow_redirects=False):
                    return
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise DependencyUnavailable("egress") from error


async def _refuse_ours(response: aiohttp.ClientResponse) -> None:
    """Tell our own refusals from the vendor's: the egress marks whose answer it is."""
    detail = response.headers.get(DETAIL_HEADER, "")
    if detail == "via_upstream":
        return
    if detail == "ext_authz_denied":
        raise _refusal(await _document(response))
    if detail.startswith("ext_authz_error"):
        raise DependencyUnavailable("keyvault")
    if response.status == 404:
        raise Unavailable("The egress does not know this call.")
    raise VendorConnectionLost(f"egress answered {response.status}", sent=response.status == 504)


def _refusal(document: Mapping[str, Any]) -> ExpectedFailure:
    code = str(document.get("code", "refused"))
    detail = str(document.get("detail", "The key may not be used."))
    if code in {"key_not_found", "key_not_usable"}:
        return NoUsableKey(detail, reason=code)
    if code in {"vault_sealed", "dependency_unavailable", "unavailable"}:
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


async def _document(response: aiohttp.ClientResponse) -> Mapping[str, Any]:
    try:
        parsed = orjson.loads(await response.read())
    except (orjson.JSONDecodeError, aiohttp.ClientError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


@asynccontextmanager
async def open_egress(base_url: str, me: ServiceIdentity) -> AsyncIterator[Egress]:
    """The pool, without a limit of its own: admission is what limits."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=50)
    timeout = aiohttp.ClientTimeout(total=None, connect=2, sock_connect=2, sock_read=None)
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=True,
        skip_auto_headers=("user-agent",),
        # Server-sent events come in small reads; a large default buffer only costs memory.
        read_bufsize=1 << 16,
        trust_env=False,
    ) as session:
        yield Egress(session, base_url, me)
