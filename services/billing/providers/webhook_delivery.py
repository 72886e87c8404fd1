"""Deliveries to the outside: one POST to an address that was checked, and what came of it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache, partial

import httpcore
import httpx

from services.billing.domain.errors import WebhookUrlNotAllowed
from services.billing.domain.webhook import Outcome
from services.billing.domain.webhook_url import may_be_told, read_url
from shared.telemetry.tracing import calling

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
SocketOptions = Iterable[
    tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
]

_CONNECT_SECONDS = 5.0
_TOTAL_SECONDS = 15.0
# Nothing of an answer's body means anything to us; a little is read so that a receiver that writes
# some is not cut off in the middle of it.
_MOST_BODY_BYTES = 4096
_BODY_SECONDS = 0.5
_AT_ONCE = 64
# httpcore's word for it: found, connected, and its certificate checked.
_IS_ASKED = "http11.send_request_headers.started"


class _NotAllowed(Exception):
    """An address of the host must not be told."""


class _Unresolvable(Exception):
    """The host has no address."""


class HttpWebhookSender:
    """Resolves the host, checks every address and connects to one of those that were checked: a
    name that answers otherwise a moment later gains nothing. Follows no redirect, uses no proxy,
    keeps no connection."""

    def __init__(
        self,
        *,
        allow_local: bool = False,
        resolve: Resolve | None = None,
        total_seconds: float = _TOTAL_SECONDS,
        connect_seconds: float = _CONNECT_SECONDS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._allow_local = allow_local
        self._network = _CheckedNetwork(resolve or _resolved, allow_local, connect_seconds)
        self._total_seconds = total_seconds
        self._tls = tls

    def check(self, url: str) -> None:
        """Raises WebhookUrlNotAllowed."""
        read_url(url, allow_local=self._allow_local)

    async def send(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        reached: Callable[[], None] = lambda: None,
    ) -> Outcome:
        try:
            self.check(url)  # the rules may be others than when it was given
            async with asyncio.timeout(self._total_seconds):
                with calling("deliver a webhook") as trace:
                    return await self._post(url, body, {**headers, **trace}, reached)
        except (WebhookUrlNotAllowed, _NotAllowed):
            return Outcome(problem="address_not_allowed")
        except _Unresolvable:
            return Outcome(problem="unresolvable")
        except (TimeoutError, httpcore.TimeoutException):
            return Outcome(problem="timeout")
        except httpcore.ConnectError as error:
            return Outcome(problem="tls_failed" if _is_of_tls(error) else "unreachable")
        except (OSError, httpcore.NetworkError, httpcore.ProtocolError):
            return Outcome(problem="connection_lost")

    async def _post(
        self, url: str, body: bytes, headers: Mapping[str, str], reached: Callable[[], None]
    ) -> Outcome:
        async def step(name: str, _facts: Mapping[str, object]) -> None:
            if name == _IS_ASKED:
                reached()

        async with (
            httpcore.AsyncConnectionPool(
                ssl_context=self._tls or _trusted(),
                network_backend=self._network,
                max_keepalive_connections=0,
            ) as pool,
            pool.stream(
                "POST",
                url,
                headers=list(headers.items()),
                content=body,
                extensions={"trace": step},
            ) as answer,
        ):
            outcome = Outcome(status=answer.status, retry_after=_retry_after(answer))
            await _read_a_little(answer)
            return outcome


class _CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to addresses that may be told, and to no others."""

    def __init__(self, resolve: Resolve, allow_local: bool, connect_seconds: float) -> None:
        self._resolve = resolve
        self._allow_local = allow_local
        self._connect_seconds = connect_seconds
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: SocketOptions | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._resolve(host, port)
        if not addresses:
            raise _Unresolvable
        # One bad address among good ones is no mistake that anybody makes by chance.
        if not all(may_be_told(one, allow_local=self._allow_local) for one in addresses):
            raise _NotAllowed
        seconds = self._connect_seconds if timeout is None else timeout
        failure: Exception | None = None
        for address in addresses[:3]:
            try:
                return await self._inner.connect_tcp(
                    address, port, seconds, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        assert failure is not None
        raise failure


async def _resolved(host: str, port: int) -> Sequence[str]:
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        found = await asyncio.get_running_loop().run_in_executor(_resolvers(), look_up)
    except (OSError, UnicodeError) as error:
        raise _Unresolvable from error
    return list(dict.fromkeys(str(one[4][0]) for one in found))


@cache
def _resolvers() -> ThreadPoolExecutor:
    # Threads of their own: a name server that takes its time must not hold up anything else.
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="webhook-dns")


@cache
def _trusted() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _is_of_tls(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None


async def _read_a_little(answer: httpcore.Response) -> None:
    read = 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for piece in answer.aiter_stream():
                read += len(piece)
                if read >= _MOST_BODY_BYTES:
                    return
    except (TimeoutError, httpcore.NetworkError, httpcore.ProtocolError):
        return  # the status has said it all


def _retry_after(answer: httpcore.Response) -> timedelta | None:
    if answer.status not in (429, 503):
        return None
    said = [value for name, value in answer.headers if name.lower() == b"retry-after"]
    return read_retry_after(said[0].decode("latin-1"), datetime.now(UTC)) if said else None


def read_retry_after(text: str, now: datetime) -> timedelta | None:
    """Seconds or a date; nothing that can't be read, or that is over."""
    text = text.strip()
    if text.isascii() and text.isdecimal():
        return timedelta(seconds=min(int(text[:9]), 10**9))
    try:
        at = parsedate_to_datetime(text)
        wait = (at if at.tzinfo else at.replace(tzinfo=UTC)) - now
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return wait if wait > timedelta(0) else None
