"""Calls to vendors through the egress, which injects the user's key after keyvault has agreed.

Nothing here ever holds a key: it sends the service's grant and the user's own token, and the
egress swaps them for the key on its way out.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import orjson
from websockets.asyncio.client import ClientConnection

from shared.clients.egress_refusals import (
    DETAIL_HEADER,
    FROM_VENDOR,
    KeyRefused,
    KeysWithheld,
    KeyUsedTooOften,
    may_have_been_sent,
    refuse,
)
from shared.clients.http1 import Answer, BodyTooLarge, ConnectionLost, Http1Pool, NotReached
from shared.clients.vendor_calls import CountedCall, VendorConnectionLost
from shared.clients.vendor_sockets import VendorSocketRefused, headers_of, key_of, open_socket
from shared.errors import (
    DependencyUnavailable,
)
from shared.identity import USER_HEADER, OnBehalfOf, ServiceIdentity
from shared.revocation import KEY_HEADER, KeyInUse
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

_WHOLE_BODY_WITHIN = timedelta(seconds=120)
_LARGEST_BODY = 64 << 20
_SWITCHED = 101
_PLAIN = re.compile(r"[!-~]+\Z")


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


_LOSSES = (TimeoutError, ConnectionLost, BodyTooLarge)


def _lost(error: Exception) -> VendorConnectionLost:
    """What ended a call under way."""
    if isinstance(error, TimeoutError):
        return VendorConnectionLost("no answer in time", sent=True)
    if isinstance(error, BodyTooLarge):
        return VendorConnectionLost("too large a body", sent=True)
    return VendorConnectionLost(str(error), sent=True)


class _Call:
    """A call through the lean pool, from its sending to its end. A class, since every turn makes
    one."""

    __slots__ = ("_answer", "_counted", "_key", "_provider", "_send")

    def __init__(
        self,
        counted: CountedCall,
        send: Callable[[str], Coroutine[Any, Any, Answer]],
        provider: str,
        key: KeyInUse,
    ) -> None:
        self._counted = counted
        self._send = send
        self._provider = provider
        self._key = key
        self._answer: Answer | None = None

    async def __aenter__(self) -> VendorAnswer:
        counted = self._counted.__enter__()
        try:
            answer = self._answer = await self._send(counted.traceparent)
            if answer.headers.get(DETAIL_HEADER) != FROM_VENDOR:
                await refuse(answer.status, answer.headers, VendorAnswer(answer))
            counted.has_head(answer.status)
            self._key.answered(self._provider, answer.headers.get(KEY_HEADER, ""))
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise VendorConnectionLost("an encoding that was not asked for", sent=True)
        except BaseException as error:
            if self._answer is None:
                self._key.untold()
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
            with _told_or_not(by.key):
                response = await self._send(method, url, data, sent, first_byte_within)
            try:
                if response.headers.get(DETAIL_HEADER) != FROM_VENDOR:
                    await refuse(response.status, response.headers, response)
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
        return _Call(counted, send, provider, by.key)

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
            try:
                with _told_or_not(by.key):
                    connection = await open_socket(url, sent, within=open_within)
            except VendorSocketRefused as refused:
                counted.has_head(refused.status)
                raise
            counted.has_head(_SWITCHED)
            by.key.answered(provider, key_of(connection))
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


@contextmanager
def _told_or_not(key: KeyInUse) -> Iterator[None]:
    """Around the wait for an answer: one that does not come tells of no key."""
    try:
        yield
    except BaseException:
        key.untold()
        raise


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
