"""Calls to vendors through the egress, which injects the user's key after keyvault has agreed.

Nothing here ever holds a key: it sends the service's grant and the user's own token, and the
egress swaps them for the key on its way out.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, NoReturn, Protocol
from urllib.parse import quote, urlsplit

import aiohttp
import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.http11 import Response

from shared.clients.http1 import Answer, ConnectionLost, Http1Pool, NotReached, TooLarge
from shared.clients.vendor_calls import CountedCall, VendorConnectionLost
from shared.errors import (
    DependencyUnavailable,
    ExpectedFailure,
    Forbidden,
    LimitReached,
    Unavailable,
)
from shared.identity import USER_HEADER, OnBehalfOf, ServiceIdentity
from shared.revocation import KEY_HEADER
from shared.vendors.failures import NoUsableKey

__all__ = [
    "Egress",
    "KeyRefused",
    "KeyUsedTooOften",
    "KeysWithheld",
    "NoUsableKey",
    "OnBehalfOf",
    "Payload",
    "VendorAnswer",
    "VendorConnectionLost",
    "VendorSocketRefused",
    "headers_of",
    "may_have_been_sent",
    "open_egress",
]

GRANT_HEADER = "x-companion-grant"
DETAIL_HEADER = "x-egress-detail"
_FROM_VENDOR = "via_upstream"
# Envoy's words for it; those that can be brought about are pinned by tests with a real one.
_NEVER_SENT = re.compile(
    r"upstream_reset_before_response_started"
    r"\{(remote_connection_failure|local_connection_failure|connection_timeout|overflow)\b"
    r"|(no_healthy_upstream|cluster_not_found)\b"
)

_WHOLE_BODY_WITHIN = timedelta(seconds=120)
_LARGEST_BODY = 64 << 20
_LARGEST_MESSAGE = 4 << 20
_MOST_MESSAGES_WAITING = 4  # a vendor that speaks faster than it is heard waits
_SWITCHED = 101
_CLOSE_SECONDS = 0.2  # who is interrupted need not agree
_PLAIN = re.compile(r"[!-~]+\Z")

_WITHHELD = {
    "service_stopped": timedelta(minutes=1),
    "service_rate_reached": timedelta(seconds=1),
}
_TOO_OFTEN = timedelta(seconds=10)


class KeyRefused(Forbidden):
    """Keyvault did not let this call use the user's key; `code` facts say why."""

    code = "key_refused"


class KeysWithheld(Unavailable):
    """Keyvault gives this service no key for the moment, whoever its user is."""

    code = "keys_withheld"


class KeyUsedTooOften(LimitReached):
    """Keys were used for this user more often than anybody needs."""

    code = "key_used_too_often"


class VendorSocketRefused(Exception):
    """The vendor did not open a socket, and says why as it does to any request."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.headers = headers
        self.body = body


@dataclass(frozen=True, slots=True)
class Payload:
    """A body that is no JSON, sent piece by piece: memory holds one of them. The length is told
    beforehand, so that a vendor need not take a body of any size."""

    content_type: str
    length: int
    pieces: AsyncIterable[bytes]


class VendorAnswer:
    """A vendor's answer, once its head is here."""

    __slots__ = ("_answer", "headers", "status")

    def __init__(self, answer: Answer) -> None:
        self.status = answer.status
        self.headers: Mapping[str, str] = answer.headers  # by name, whatever the case
        self._answer = answer

    async def read(self, *, within: timedelta = _WHOLE_BODY_WITHIN) -> bytes:
        """The whole body. Raises VendorConnectionLost when it was cut or did not come in time."""
        try:
            return await self._answer.read(within=within.total_seconds(), most=_LARGEST_BODY)
        except _LOSSES as error:
            raise _lost(error) from error

    async def read_some(self, *, within: timedelta) -> bytes:
        """What has come, as soon as something has; empty at the end.

        Raises VendorConnectionLost when the body was cut or nothing came in time.
        """
        try:
            return await self._answer.read_some(within=within.total_seconds())
        except _LOSSES as error:
            raise _lost(error) from error


_LOSSES = (TimeoutError, ConnectionLost, TooLarge)


def _lost(error: Exception) -> VendorConnectionLost:
    """What ended a call under way."""
    if isinstance(error, TimeoutError):
        return VendorConnectionLost("no answer in time", sent=True)
    if isinstance(error, TooLarge):
        return VendorConnectionLost("too large a body", sent=True)
    return VendorConnectionLost(str(error), sent=True)


class _Call:
    """A call through the lean pool, from its sending to its end. A class, since every turn makes
    one."""

    __slots__ = ("_answer", "_counted", "_send", "_told")

    def __init__(
        self,
        counted: CountedCall,
        send: Callable[[str], Coroutine[Any, Any, Answer]],
        told: Callable[[str], None],
    ) -> None:
        self._counted = counted
        self._send = send
        self._told = told
        self._answer: Answer | None = None

    async def __aenter__(self) -> VendorAnswer:
        counted = self._counted.__enter__()
        try:
            answer = self._answer = await self._send(counted.traceparent)
            if answer.headers.get(DETAIL_HEADER) != _FROM_VENDOR:
                await _refuse(answer.status, answer.headers, VendorAnswer(answer))
            counted.has_head(answer.status)
            self._told(answer.headers.get(KEY_HEADER, ""))
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise VendorConnectionLost("an encoding that was not asked for", sent=True)
        except BaseException as error:
            self._end(error)
            raise
        return VendorAnswer(answer)

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if self._answer is not None:
            self._answer.leave(in_peace=error is None)
        self._counted.__exit__(None, error, None)


class Egress:
    """Two pools of connections to the egress: the lean one of every turn, and one for the rest."""

    def __init__(
        self,
        pool: Http1Pool,
        session: aiohttp.ClientSession,
        base_url: str,
        me: ServiceIdentity,
    ) -> None:
        self._pool = pool
        self._session = session
        self._base_url = base_url.rstrip("/")
        self._base_path = urlsplit(self._base_url).path
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
        payload: Payload | None = None,
        headers: Mapping[str, str] | None = None,
        first_byte_within: timedelta = timedelta(seconds=60),
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The vendor's answer, whatever its status, once its head is here. A `payload` goes in the
        place of a `body`; sending it is part of the wait for the first byte.

        Raises NoUsableKey, KeyUsedTooOften and KeyRefused when keyvault said no, KeysWithheld when
        it says no to all of us, Unavailable when keyvault or the egress is in trouble,
        VendorConnectionLost when the vendor is.
        """
        sent = self._proofs(provider, by, headers)
        data: bytes | AsyncIterable[bytes] | None = None
        if payload is not None:
            data, sent["content-type"] = payload.pieces, payload.content_type
            sent["content-length"] = str(payload.length)
        elif body is not None:
            data, sent["content-type"] = orjson.dumps(body), "application/json"
        url = f"{self._base_url}/{provider}{path}"
        with CountedCall(self._me.name, provider) as counted:
            sent["traceparent"] = counted.traceparent
            response = await self._send(method, url, data, sent, first_byte_within)
            try:
                if response.headers.get(DETAIL_HEADER) != _FROM_VENDOR:
                    await _refuse(response.status, response.headers, response)
                counted.has_head(response.status)
                by.key.answered(provider, response.headers.get(KEY_HEADER, ""))
                yield response
            finally:
                # Closing a response that was not read to its end also tells the vendor to stop.
                response.close() if not response.content.at_eof() else response.release()

    def call(
        self,
        method: str,
        provider: str,
        path: str,
        *,
        by: OnBehalfOf,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        first_byte_within: timedelta = timedelta(seconds=60),
    ) -> AbstractAsyncContextManager[VendorAnswer]:
        """As `request`, for a JSON body that is encoded already."""

        async def send(traceparent: str) -> Answer:
            sent = self._proofs(provider, by, headers)
            if body is not None:
                sent["content-type"] = "application/json"
            sent["traceparent"] = traceparent
            target = _as_sent(f"{self._base_path}/{provider}{path}")
            return await self._asked(method, target, sent, body or b"", first_byte_within)

        counted = CountedCall(self._me.name, provider)
        return _Call(counted, send, partial(by.key.answered, provider))

    @asynccontextmanager
    async def socket(
        self,
        provider: str,
        path: str,
        *,
        by: OnBehalfOf,
        open_within: timedelta = timedelta(seconds=10),
    ) -> AsyncIterator[ClientConnection]:
        """An open socket to the vendor; its messages are at most 4 MiB.

        Raises what `request` raises, of which VendorConnectionLost was not sent: a socket that did
        not open costs nothing; and VendorSocketRefused.
        """
        url = f"ws{self._base_url.removeprefix('http')}/{provider}{path}"
        sent = self._proofs(provider, by, None)
        with CountedCall(self._me.name, provider) as counted:
            sent["traceparent"] = counted.traceparent
            opening = _Opening(
                url,
                additional_headers=sent,
                user_agent_header=None,
                proxy=None,
                compression=None,
                max_size=_LARGEST_MESSAGE,
                max_queue=_MOST_MESSAGES_WAITING,
                # An answer to a ping may wait behind audio that nobody reads yet.
                ping_interval=None,
                open_timeout=open_within.total_seconds(),
                close_timeout=_CLOSE_SECONDS,
            )
            try:
                connection = await _opened(opening)
            except VendorSocketRefused as refused:
                counted.has_head(refused.status)
                raise
            counted.has_head(_SWITCHED)
            by.key.answered(provider, _key_of(connection))
            try:
                yield connection
            finally:
                await connection.close()

    async def _asked(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, within: timedelta
    ) -> Answer:
        try:
            return await self._pool.request(
                method, target, headers, body, head_within=within.total_seconds()
            )
        except NotReached as error:
            raise DependencyUnavailable("egress") from error
        except _LOSSES as error:
            raise _lost(error) from error

    def _proofs(
        self, provider: str, by: OnBehalfOf, headers: Mapping[str, str] | None
    ) -> dict[str, str]:
        return {
            **(headers or {}),
            GRANT_HEADER: self._me.grant(
                user_id=by.user_id, provider=provider, request_id=by.request_id
            ),
            USER_HEADER: by.access_token,
            "x-request-id": by.request_id,
        }

    async def _send(
        self,
        method: str,
        url: str,
        data: bytes | AsyncIterable[bytes] | None,
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
            await self._pool.reach()
        except NotReached as error:
            raise DependencyUnavailable("egress") from error


class _Body(Protocol):
    async def read(self) -> bytes: ...


class _Opening(connect):
    """A vendor's redirect is a refusal: what we show the egress is for nobody else."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def _opened(opening: _Opening) -> ClientConnection:
    try:
        return await opening
    except InvalidStatus as refused:
        response = refused.response
        headers, body = headers_of(response), bytes(response.body)
        if headers.get(DETAIL_HEADER) != _FROM_VENDOR:
            await _refuse(response.status_code, headers, _Read(body))
        raise VendorSocketRefused(response.status_code, headers, body) from refused
    except TimeoutError as error:
        raise VendorConnectionLost("no socket in time", sent=False) from error
    except ConnectionRefusedError as error:
        raise DependencyUnavailable("egress") from error
    except (InvalidHandshake, OSError, EOFError) as error:
        raise VendorConnectionLost(type(error).__name__, sent=False) from error


def _key_of(connection: ClientConnection) -> str:
    return "" if connection.response is None else connection.response.headers.get(KEY_HEADER, "")


def headers_of(response: Response) -> Mapping[str, str]:
    """A socket's, by name in small letters; repeated ones are joined by commas."""
    joined: dict[str, str] = {}
    for name, value in response.headers.raw_items():
        before = joined.get(name.lower())
        joined[name.lower()] = value if before is None else f"{before}, {value}"
    return joined


class _Read:
    """A body that is here already."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        return self._body


async def _refuse(status: int, headers: Mapping[str, str], body: _Body) -> NoReturn:
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
    # Each call has a grant of its own: if that one has been used, keyvault died between noting it
    # and answering, and the egress asked again.
    if code in {"vault_sealed", "dependency_unavailable", "unavailable", "grant_replayed"}:
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


def _as_sent(target: str) -> str:
    return target if _PLAIN.match(target) else quote(target, safe="/?:@!$&'()*+,;=%[]")


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
        pool = Http1Pool(*_origin_of(base_url))
        try:
            yield Egress(pool, session, base_url, me)
        finally:
            await pool.close()


def _origin_of(base_url: str) -> tuple[str, int]:
    """The egress stands beside its service, so that nothing in between needs TLS."""
    parts = urlsplit(base_url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError("EGRESS_URL is not of the form http://host:port")
    return parts.hostname, parts.port or 80
