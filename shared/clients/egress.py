"""Calls to vendors through the egress, which injects the user's key after keyvault has agreed.

Nothing here ever holds a key: it sends the service's grant and the user's own token, and the
egress swaps them for the key on its way out.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
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
from shared.clients.hang_up import hang_up
from shared.clients.http1 import (
    Answer,
    BodyTooLarge,
    ConnectionLost,
    Http1Pool,
    MayWait,
    NotFinished,
    NotReached,
)
from shared.clients.vendor_calls import CountedCall, VendorConnectionLost
from shared.clients.vendor_sockets import VendorSocketRefused, headers_of, key_of, open_socket
from shared.errors import (
    DependencyUnavailable,
)
from shared.identity import USER_HEADER, OnBehalfOf, ServiceIdentity
from shared.revocation import KEY_HEADER, KeyInUse
from shared.values import dataclass
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
    "VendorCall",
    "VendorConnectionLost",
    "VendorSocketRefused",
    "headers_of",
    "may_have_been_sent",
    "open_egress",
]

GRANT_HEADER = "x-companion-grant"

_WHOLE_BODY_WITHIN = timedelta(seconds=120)
_LARGEST_BODY = 64 << 20
# Of the minute that a grant is good for.
_FRESH_SECONDS = 10
_SWITCHED = 101
_ENCODED = "an encoding that was not asked for"
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

    @property
    def had_body(self) -> bool:
        """Whether the vendor was sent anything to work on before it answered."""
        return not self._answer.lacks_body

    async def read(self, *, within: timedelta = _WHOLE_BODY_WITHIN) -> bytes:
        """The whole body. Raises VendorConnectionLost when it was cut or did not come in time."""
        try:
            return await self._answer.read(within=within.total_seconds(), most=_LARGEST_BODY)
        except _LOSSES as error:
            raise _lost(error, sent=self.had_body) from error

    async def read_some(self, *, within: timedelta, gather: MayWait | None = None) -> bytes:
        """What has come, as soon as something has; empty at the end. `gather`: what comes soon
        after the last, and may, waits for company for as long as `open_egress` was told.

        Raises VendorConnectionLost when the body was cut or nothing came in time.
        """
        try:
            return await self._answer.read_some(within=within.total_seconds(), gather=gather)
        except _LOSSES as error:
            raise _lost(error, sent=self.had_body) from error


_LOSSES = (TimeoutError, ConnectionLost, BodyTooLarge)


def _lost(error: Exception, *, sent: bool = True) -> VendorConnectionLost:
    """What ended a call under way."""
    if isinstance(error, TimeoutError):
        return VendorConnectionLost("no answer in time", sent=sent)
    if isinstance(error, BodyTooLarge):
        return VendorConnectionLost("too large a body", sent=sent)
    return VendorConnectionLost(str(error), sent=sent)


class VendorCall:
    """A call through the lean pool, from its sending to its end: `async with` gives the vendor's
    answer. A class, since every turn makes one.

    Its head may go ahead of its body. The egress asks keyvault by the head alone, and meanwhile the
    caller may still write down what has to be written before a vendor can work: nobody works
    without a body. A call whose head went ahead is entered, or left.
    """

    __slots__ = ("_ahead", "_answer", "_asking", "_counted", "_proofs", "_signed_at")

    def __init__(self, asking: _Asking, counted: CountedCall) -> None:
        self._asking = asking
        self._counted = counted
        self._proofs: Mapping[str, str] | None = None
        self._signed_at = 0.0
        self._ahead: Answer | None = None
        self._answer: Answer | None = None

    def prepare(self) -> None:
        """Sign what the head will prove: most of what it takes to go ahead. Should that take long,
        it is signed anew."""
        self._signed_at = time.time()
        self._proofs = self._asking.proofs()

    def go_ahead(self) -> bool:
        """Send the head, if a connection is free; answers whether it was sent. Once, and before
        the call is entered."""
        if not self._asking.may_go_ahead:
            return False
        counted = self._counted.__enter__()
        try:
            self._ahead = self._asking.ahead(counted.traceparent, self._fresh_proofs())
        finally:
            if self._ahead is None:
                self._counted.__exit__(None, None, None)
        return self._ahead is not None

    def _fresh_proofs(self) -> Mapping[str, str] | None:
        # By the clock that a grant expires by: this process may have stood still since.
        is_fresh = 0 <= time.time() - self._signed_at < _FRESH_SECONDS
        return self._proofs if is_fresh else None

    def leave(self) -> None:
        """The call is not made after all. What was entered is left by itself."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.leave(in_peace=False)
            self._counted.__exit__(None, None, None)

    async def __aenter__(self) -> VendorAnswer:
        ahead, self._ahead = self._ahead, None
        counted, asking = self._counted, self._asking
        if ahead is None:
            counted.__enter__()
        try:
            self._answer = await asking.answer(counted.traceparent, ahead)
            answer = VendorAnswer(self._answer)
            if answer.headers.get(DETAIL_HEADER) != FROM_VENDOR:
                await _refuse(answer)
            counted.has_head(answer.status)
            asking.key.answered(asking.provider, answer.headers.get(KEY_HEADER, ""))
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise VendorConnectionLost(_ENCODED, sent=answer.had_body)
        except BaseException as error:
            if self._answer is None:
                asking.key.untold()
            self._end(error)
            raise
        return answer

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


async def _refuse(answer: VendorAnswer) -> None:
    try:
        await refuse(answer.status, answer.headers, answer)
    except VendorConnectionLost as lost:
        # Whatever became of the connection: without a body there was nothing to work on.
        lost.sent = lost.sent and answer.had_body
        raise


@dataclass(frozen=True, slots=True)
class _Asking:
    """What is asked, and by whom."""

    pool: Http1Pool
    me: ServiceIdentity
    method: str
    provider: str
    target: str
    by: OnBehalfOf
    headers: Mapping[str, str]
    body: bytes
    head_within: float

    @property
    def key(self) -> KeyInUse:
        return self.by.key

    @property
    def may_go_ahead(self) -> bool:
        return bool(self.body) and self.pool.has_free()

    def ahead(self, traceparent: str, proofs: Mapping[str, str] | None) -> Answer | None:
        headers = self._headers(traceparent, proofs)
        return self.pool.ahead(self.method, self.target, headers, len(self.body))

    async def answer(self, traceparent: str, ahead: Answer | None) -> Answer:
        try:
            if ahead is not None:
                with suppress(NotFinished):
                    return await self.pool.finish(ahead, self.body, head_within=self.head_within)
            return await self.pool.request(
                self.method,
                self.target,
                self._headers(traceparent),
                self.body,
                head_within=self.head_within,
            )
        except NotReached as error:
            raise DependencyUnavailable("egress") from error
        except _LOSSES as error:
            raise _lost(error) from error

    def proofs(self) -> Mapping[str, str]:
        """Anew for each request: a grant is honoured once."""
        return _proofs(self.me, self.provider, self.by)

    def _headers(
        self, traceparent: str, proofs: Mapping[str, str] | None = None
    ) -> Mapping[str, str]:
        sent = {**self.headers, **(self.proofs() if proofs is None else proofs)}
        if self.body:
            sent["content-type"] = "application/json"
        sent["traceparent"] = traceparent
        return sent


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
        sent = {**(headers or {}), **_proofs(self._me, provider, by)}
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
    ) -> VendorCall:
        """As `request`, for a JSON body that is encoded already."""
        asking = _Asking(
            self._pool,
            self._me,
            method,
            provider,
            _as_sent(f"{self._base_path}/{provider}{path}"),
            by,
            headers or {},
            body or b"",
            first_byte_within.total_seconds(),
        )
        return VendorCall(asking, CountedCall(self._me.name, provider))

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
        sent = _proofs(self._me, provider, by)
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
                await hang_up(connection)

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

    def has_free(self) -> bool:
        """Whether the head of a call could go ahead: a connection is free."""
        return self._pool.has_free()

    async def check(self) -> None:
        """Raises DependencyUnavailable unless the egress accepts connections."""
        try:
            await self._pool.reach()
        except NotReached as error:
            raise DependencyUnavailable("egress") from error


def _proofs(me: ServiceIdentity, provider: str, by: OnBehalfOf) -> dict[str, str]:
    return {
        GRANT_HEADER: me.grant(user_id=by.user_id, provider=provider, request_id=by.request_id),
        USER_HEADER: by.access_token,
        "x-request-id": by.request_id,
    }


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
async def open_egress(
    base_url: str, me: ServiceIdentity, *, gather: timedelta = timedelta(0)
) -> AsyncIterator[Egress]:
    """The pool, without a limit of its own: admission is what limits. `gather`: how long pieces of
    an answer may wait for each other, where their reader lets them."""
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
        pool = Http1Pool(*_origin_of(base_url), gather=gather.total_seconds())
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
